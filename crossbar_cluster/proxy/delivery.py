"""Puts messages onto the connections of clients and routers; finds the answer to one that a connection cannot carry.

The two ends may speak different serializations, with different limits: what one can say the other may not. That must
cost nobody more than this one message. Whoever waits for it, or for what it asks for, is told by an ERROR.
"""

from __future__ import annotations

from typing import Any

from autobahn.exception import Disconnected
from autobahn.twisted.rawsocket import WampRawSocketProtocol
from autobahn.wamp.exception import ApplicationError, TransportLost
from autobahn.wamp.message import (
    Call,
    Error,
    Invocation,
    Publish,
    Register,
    Result,
    Subscribe,
    Unregister,
    Unsubscribe,
    Yield,
)
from autobahn.wamp.websocket import WampWebSocketProtocol

_REQUESTS = (Call, Invocation, Register, Subscribe, Unregister, Unsubscribe)
_ANSWERS = {Result: Call.MESSAGE_TYPE, Yield: Invocation.MESSAGE_TYPE}  #: and what they answer
_EXPLANATION_LETTERS = 200


class Undeliverable(Exception):
    """A connection cannot carry a message. Nothing of it has been sent.

    :ivar reason: URI for an ERROR.
    """

    def __init__(self, reason: str, why: str) -> None:
        super().__init__(why[:_EXPLANATION_LETTERS])
        self.reason = reason


def deliver(transport: Any, message: Any) -> None:
    """Send a message.

    As the transport does it by itself, but without making up the log line of each message, coloured, that is thrown
    away then: a quarter of a busy proxy's time (Autobahn 26); and without a warning for each that is too large.

    :raises TransportLost: the connection has ended.
    :raises Undeliverable:
    """
    if not transport.isOpen():
        raise TransportLost
    if isinstance(transport, WampWebSocketProtocol):
        payload, is_binary = _serialized(transport, message)
        # What is compressed has another size. If that is too large, the compressor has taken in what the other end
        # never gets, so that the connection is of no use any more: that error goes up.
        if transport._perMessageCompress is None:
            _check_size(payload, transport.maxMessagePayloadSize)
        try:
            transport.sendMessage(payload, is_binary)
        except Disconnected as e:  # it is being closed, and still has its session
            raise TransportLost from e
    elif isinstance(transport, WampRawSocketProtocol):
        payload, _ = _serialized(transport, message)
        _check_size(payload, transport._max_len_send)
        transport.sendString(payload)
    else:  # long-polling
        try:
            transport.send(message)
        except Exception as e:
            raise Undeliverable(ApplicationError.INVALID_ARGUMENT, str(e)) from e


def _serialized(transport: Any, message: Any) -> tuple[bytes, bool]:
    try:
        payload, is_binary = transport._serializer.serialize(message)
    except Exception as e:  # each serializer has its own
        raise Undeliverable(ApplicationError.INVALID_ARGUMENT, f"it cannot be serialized: {e}") from e
    return payload, is_binary


def _check_size(payload: bytes, most_bytes: int) -> None:
    if 0 < most_bytes < len(payload):
        why = f"it has {len(payload)} bytes, and no more than {most_bytes} are taken"
        raise Undeliverable(ApplicationError.PAYLOAD_SIZE_EXCEEDED, why)


def refusal(request: Any, why: Undeliverable) -> Error | None:
    """What whoever sent an undeliverable message is told; None: no answer is due."""
    if isinstance(request, _REQUESTS) or (isinstance(request, Publish) and request.acknowledge):
        return _error(request.MESSAGE_TYPE, request, why.reason, why)
    return None


def substitute(answer: Any, why: Undeliverable) -> Error | None:
    """What whoever waits for an undeliverable message is told in its place; None: nobody waits for it."""
    if type(answer) in _ANSWERS:
        return _error(_ANSWERS[type(answer)], answer, why.reason, why)
    if isinstance(answer, Error):  # what it is an error of may still be understood
        return _error(answer.request_type, answer, answer.error, why)
    return None


def _error(asked: int, message: Any, reason: str, why: Undeliverable) -> Error:
    explanation = f"this {type(message).__name__.upper()} cannot be passed on: {why}"
    return Error(asked, message.request, reason, args=[explanation])
