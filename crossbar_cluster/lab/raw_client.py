"""WAMP clients without session machinery: they say what no library would, and cost next to nothing.

WebSocket (RFC 6455) and RawSocket framing by hand, CBOR or JSON by Autobahn's serializer. For tests of what a router or
proxy makes of odd messages, and for benchmarks, so that what is measured is the proxy and not who asks it.
"""

from __future__ import annotations

import asyncio
import base64
import os
import struct
from typing import Any

from autobahn.wamp import cryptosign, message
from autobahn.wamp.role import DEFAULT_CLIENT_ROLES

# imports Autobahn for asyncio, without what that prints
from crossbar_cluster.operator.client import CBORSerializer, JsonSerializer

_CBOR, _JSON = CBORSerializer(), JsonSerializer()
ANSWER_WITHIN_S = 10.0
_MASK = bytes(4)  # a mask of zeros leaves the payload as it is


class Rejected(ConnectionError):
    """No WELCOME. The message says what came instead.

    :ivar answer: the WAMP message that came; None: the connection was closed.
    """

    def __init__(self, said: str, answer: Any = None) -> None:
        super().__init__(said)
        self.answer = answer


class RawClient:
    """One session over one connection."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, websocket: bool, json: bool = False
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._websocket = websocket
        self._serializer = _JSON if json else _CBOR
        self._opcode = 1 if json else 2

    @classmethod
    async def connect(cls, address: str, port: int, *, websocket: bool, json: bool = False) -> RawClient:
        """Connect, over WebSocket at path ``/ws`` or over RawSocket (CBOR only)."""
        reader, writer = await asyncio.open_connection(address, port)
        if websocket:
            key = base64.b64encode(os.urandom(16)).decode()
            writer.write(
                f"GET /ws HTTP/1.1\r\nHost: {address}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
                f"Sec-WebSocket-Protocol: wamp.2.{'json' if json else 'cbor'}\r\n\r\n".encode()
            )
            answer = await reader.readuntil(b"\r\n\r\n")
            if b" 101 " not in answer.partition(b"\r\n")[0]:
                raise Rejected(answer.decode(errors="replace"))
        else:
            writer.write(bytes([0x7F, 0xF0 | _CBOR.RAWSOCKET_SERIALIZER_ID, 0, 0]))
            await reader.readexactly(4)
        return cls(reader, writer, websocket=websocket, json=json)

    def send(self, said: message.Message) -> None:
        payload, _ = self._serializer.serialize(said)
        self.send_payload(payload)

    def send_payload(self, payload: bytes) -> None:
        """Send a message that has been serialized, if it is one."""
        if not self._websocket:
            self._writer.write(len(payload).to_bytes(4, "big") + payload)
        elif len(payload) < 126:
            self._writer.write(bytes([0x80 | self._opcode, 0x80 | len(payload)]) + _MASK + payload)
        else:
            self._writer.write(struct.pack("!BBH", 0x80 | self._opcode, 0x80 | 126, len(payload)) + _MASK + payload)

    async def receive(self) -> Any:
        """The next message. A ping before it is answered: who never receives is gone for the other end."""
        while True:
            opcode, payload = await self._frame()
            if opcode == 9:
                self._writer.write(bytes([0x8A, 0x80 | len(payload)]) + _MASK + payload)
            if opcode == self._opcode:
                return self._serializer.unserialize(payload)[0]
            if opcode == 8:
                raise Rejected(f"closed: {payload[2:].decode(errors='replace')}")

    async def _frame(self) -> tuple[int, bytes]:
        if not self._websocket:
            length = int.from_bytes(await self._reader.readexactly(4), "big")
            return self._opcode, await self._reader.readexactly(length)
        first, length = await self._reader.readexactly(2)
        if length >= 126:
            size = 2 if length == 126 else 8
            length = int.from_bytes(await self._reader.readexactly(size), "big")
        return first & 0x0F, await self._reader.readexactly(length)

    async def join(self, hello: message.Hello, sign: Any = None) -> message.Welcome:
        """:param sign: answers a CHALLENGE's extra with a signature (hex). :raises Rejected:"""
        self.send(hello)
        answer = await self.receive()
        if isinstance(answer, message.Challenge) and sign is not None:
            self.send(message.Authenticate(sign(answer.extra)))
            answer = await self.receive()
        if not isinstance(answer, message.Welcome):
            raise Rejected(str(answer), answer)
        return answer

    async def ask(self, said: message.Message) -> Any:
        """Send, and wait for the next message. :raises TimeoutError: none has come within `ANSWER_WITHIN_S`."""
        self.send(said)
        async with asyncio.timeout(ANSWER_WITHIN_S):
            return await self.receive()

    def close(self) -> None:
        self._writer.close()


def signed(key: cryptosign.CryptosignKey, extra: Any) -> str:
    """The signature that answers a CHALLENGE, as the wire has it (WAMP-cryptosign without channel binding)."""
    challenge = bytes.fromhex(extra["challenge"])
    return str((key._key.sign(challenge).signature + challenge).hex())


def anonymous(realm: str) -> message.Hello:
    return message.Hello(realm, DEFAULT_CLIENT_ROLES, authmethods=["anonymous"])
