"""What a client of another router does here: its publications and calls, in its own name.

The router that the client is on has authorized it already; here it is authorized once more, by the same role, which
also says whether it is disclosed. So for subscribers and callees it makes no difference where a client is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from autobahn.wamp.exception import ApplicationError, ProtocolError
from autobahn.wamp.message import Call, Cancel, Error, Invocation, Publish, Result, Yield
from autobahn.wamp.role import DEFAULT_CLIENT_ROLES

from crossbar_cluster.core.mirror import Key

Identity = dict[str, Any]  # a WAMP principal: session, authid, authrole


def can_cancel(callee: Any) -> bool:
    """Whether a callee has announced that it can be told that a call is given up."""
    features = (callee._session_roles or {}).get("callee")
    return bool(features and features.call_canceling)


class ForwardedPublish(Publish):  # type: ignore[misc]
    """A publication that has come over a link: it goes to the clients of this router, and over no other link."""

    __slots__ = ()


class ForwardedCall(Call):  # type: ignore[misc]
    """A call that has come over a link: it goes to a client of this router, and over no other link.

    :ivar registered: the registration that the other router has chosen for it.
    """

    __slots__ = ("registered",)

    registered: Key


class RemoteSession:
    """Stands for a session on another router, with all that the released broker and dealer read of a session.

    :param transport: where answers for it go.
    """

    _session_roles = DEFAULT_CLIENT_ROLES
    _session_details = _authmethod = _authprovider = _authextra = None

    def __init__(self, who: Identity, realm: str, transport: Any) -> None:
        self._session_id = who["session"] or None
        self._authid, self._authrole = who["authid"], who["authrole"]
        self._realm = realm
        self._transport = transport


class Nowhere:
    """The transport of a session that nobody answers."""

    transport_details = None

    def send(self, message: Any) -> None:
        """Drop it: a publication that came over a link is not acknowledged."""


class Reply:
    """The transport of the stand-in of a caller: carries the answers of one call over the link.

    :param send: sends a message over the link.
    :param over: told when the last answer has been sent.
    """

    transport_details = None

    def __init__(self, request: int, send: Callable[[Any], None], over: Callable[[int], None]) -> None:
        self._request = request
        self._send = send
        self._over = over

    def send(self, message: Any) -> None:
        """A RESULT or ERROR of the dealer."""
        if isinstance(message, Result):
            self._send(_yield(self._request, message))
            if message.progress:
                return
        else:
            self._send(_error(self._request, message))
        self._over(self._request)


def _yield(request: int, result: Result) -> Yield:
    callee = None
    if result.callee:
        callee = [{"session": result.callee, "authid": result.callee_authid, "authrole": result.callee_authrole}]
    return Yield(request, progress=result.progress, forward_for=callee, **_payload(result))


def _error(request: int, error: Error) -> Error:
    return Error(Invocation.MESSAGE_TYPE, request, error.error, **_payload(error))


def _payload(message: Any) -> dict[str, Any]:
    """What a message carries for the application, to be passed on as it is."""
    if message.payload is not None:
        encoding = {name: getattr(message, name) for name in ("enc_algo", "enc_key", "enc_serializer")}
        return {"payload": message.payload, **encoding}
    return {"args": message.args, "kwargs": message.kwargs}


def publish_for_link(publish: Publish, who: Identity) -> Publish:
    """A client's publication as it goes over links: with whom it is from, and whom it is for."""
    return _publication(Publish, publish, [who])


def _publication(kind: type[Publish], publish: Publish, forward_for: list[Identity] | None = None) -> Publish:
    """A publication anew, without what is between a client and its router (acknowledge, exclude_me, retain)."""
    return kind(
        publish.request,
        publish.topic,
        exclude=publish.exclude,
        exclude_authid=publish.exclude_authid,
        exclude_authrole=publish.exclude_authrole,
        eligible=publish.eligible,
        eligible_authid=publish.eligible_authid,
        eligible_authrole=publish.eligible_authrole,
        transaction_hash=publish.transaction_hash,
        forward_for=forward_for,
        **_payload(publish),
    )


class RemoteClients:
    """All that the clients of one other router do here, over one link.

    :param router: the release's ``Router``.
    :param send: sends a message over the link.
    """

    def __init__(self, router: Any, send: Callable[[Any], None]) -> None:
        self._router = router
        self._send = send
        self._callers: dict[int, RemoteSession] = {}  #: request of the other router -> the caller's stand-in

    def publish(self, message: Publish) -> None:
        """A publication of one of them."""
        who = _identity_in(message)
        if who is not None:
            forwarded = _publication(ForwardedPublish, message)
            publisher = RemoteSession(who, self._router.realm, Nowhere())
            self._router._broker.processPublish(publisher, forwarded)

    def call(self, invocation: Invocation, registered: Key | None) -> None:
        """A call of one of them.

        :param registered: the registration that it is for; None: there is none any more.
        :raises ProtocolError: its request id is in flight: the link is to be made anew.
        """
        if invocation.request in self._callers:
            raise ProtocolError(f"INVOCATION with the request id {invocation.request}, which is in flight")
        who = _identity_in(invocation)
        if who is None or registered is None:
            reason, why = ApplicationError.NO_SUCH_REGISTRATION, "this router has no such registration any more"
            self._send(Error(Invocation.MESSAGE_TYPE, invocation.request, reason, [why]))
            return
        call = ForwardedCall(
            invocation.request,
            invocation.procedure or registered.uri,
            timeout=invocation.timeout,
            receive_progress=invocation.receive_progress,
            transaction_hash=invocation.transaction_hash,
            **_payload(invocation),
        )
        call.registered = registered
        reply = Reply(invocation.request, self._send, self._answered)
        caller = self._callers[invocation.request] = RemoteSession(who, self._router.realm, reply)
        self._router._dealer.processCall(caller, call)

    def interrupt(self, request: int, mode: str | None) -> None:
        """A call of one of them has been given up."""
        caller = self._callers.get(request)
        if caller is None:
            return
        dealer = self._router._dealer
        invocation = dealer._invocations_by_call.get((caller._session_id, request))
        if mode == Cancel.KILL and invocation is not None and can_cancel(invocation.callee):
            dealer.processCancel(caller, Cancel(request, mode))  # its caller waits for what the callee says to it
            return
        # for the other router it is over: nothing is to be left of it here
        caller._transport.send(Error(Call.MESSAGE_TYPE, request, ApplicationError.CANCELED))
        self._router.leaving.slices.run(self._router.leaving.end_calls(caller))

    def end(self) -> None:
        """The link is down: give up all their calls."""
        callers, self._callers = self._callers, {}
        for caller in callers.values():
            caller._transport = Nowhere()
        self._router.leaving.slices.run(self._end(list(callers.values())))

    def _end(self, callers: list[RemoteSession]) -> Iterator[None]:
        while callers:
            yield from self._router.leaving.end_calls(callers.pop())
            yield

    def _answered(self, request: int) -> None:
        self._callers.pop(request, None)


def _identity_in(message: Any) -> Identity | None:
    """Whom a message that came over a link is forwarded for; None: it does not say."""
    forwarded: list[Identity] | None = message.forward_for
    return forwarded[0] if forwarded else None
