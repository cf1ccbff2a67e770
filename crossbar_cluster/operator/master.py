"""Where the master is, who asks, and what is wrong when it cannot be asked: in words that say what to do.

Owns the connection options of the commands, and a management session while a command has one (`Master.session`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

import click

from crossbar_cluster.core.keyfile import parse_tags
from crossbar_cluster.operator.document import Node, Status

URL_VARIABLE = "CROSSBAR_FABRIC_URL"
DEFAULT_URL = "ws://localhost:9000/ws"
DEFAULT_KEY = Path("~/.crossbar/default.priv")
MREALM = "crossbarfabriccenter.mrealm."
ANSWER_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 0.5  #: somebody waits for the prompt, and the connection ends with the process in any case

_NO_SUCH_PROCEDURE = "wamp.error.no_such_procedure"
_CANCELED = "wamp.error.canceled"
_NO_SUCH_REALM = "wamp.error.no_such_realm"

_Command = TypeVar("_Command", bound=Callable[..., Any])


class CannotAsk(Exception):
    """The master cannot be asked. The message says why and what to do.

    :ivar lasting: trying again leads nowhere: something must be changed first.
    """

    def __init__(self, message: str, *, lasting: bool = False) -> None:
        super().__init__(message)
        self.lasting = lasting


class Refused(Exception):
    """The master understood the call and does not do it. The message is the master's."""


def connection_options(command: _Command) -> _Command:
    """The options that say which master, and as whom: they reach the command as ``url``, ``key`` and ``realm``."""
    options = (
        click.option(
            "--url", metavar="URL", help=f"The master, ws:// or wss://.  [default: ${URL_VARIABLE}, else {DEFAULT_URL}]"
        ),
        click.option(
            "--key",
            metavar="FILE",
            type=click.Path(path_type=Path),
            help=f"Private key file of the superuser.  [default: {DEFAULT_KEY}]",
        ),
        click.option("--realm", metavar="NAME", default="default", show_default=True, help="The management realm."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@dataclass(frozen=True)
class Master:
    """A master, as its superuser sees it."""

    url: str
    realm: str
    key_file: Path

    @classmethod
    def from_options(cls, url: str | None, key: Path | None, realm: str) -> Master:
        """The master that the options (see `connection_options`) and the environment name."""
        url = url or os.environ.get(URL_VARIABLE, "").strip() or DEFAULT_URL
        return cls(url, realm, (key or DEFAULT_KEY).expanduser())

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """A management session. :raises CannotAsk:"""
        session = Session(self, await self._join())
        try:
            yield session
        finally:
            await session.close()

    async def _join(self) -> Any:
        from autobahn.wamp import cryptosign

        from crossbar_cluster.operator.client import JoinFailed, open_session

        host, port, tls = self._endpoint()
        tags = self._key_tags()
        key = cryptosign.CryptosignKey.from_bytes(bytes.fromhex(tags["private-key-ed25519"]))

        async def connect(factory: Any) -> Any:
            return await asyncio.get_running_loop().create_connection(factory, host, port, ssl=tls)

        try:
            return await open_session(self.url, connect, self.realm, where=self.url, key=key, authid=tags["user-id"])
        except JoinFailed as e:
            raise self._explained(e) from e

    def _endpoint(self) -> tuple[str, int, ssl.SSLContext | None]:
        try:
            parts = urlsplit(self.url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in ("ws", "wss") or not parts.hostname or parts.fragment or port == 0:
            raise CannotAsk(
                f"{self.url!r} is no URL of a master. Give --url (or {URL_VARIABLE}) like {DEFAULT_URL}.", lasting=True
            )
        secure = parts.scheme == "wss"
        return parts.hostname, port or (443 if secure else 80), ssl.create_default_context() if secure else None

    def _key_tags(self) -> dict[str, str]:
        try:
            tags = parse_tags(self.key_file.read_text(encoding="utf-8"))
            if len(bytes.fromhex(tags["private-key-ed25519"])) != 32 or not tags["user-id"]:
                raise ValueError
        except FileNotFoundError:
            raise CannotAsk(
                f"There is no key file {self.key_file}. Give the superuser's private key by --key FILE; it was made by "
                "`crossbar shell init`, and the master knows it from CROSSBAR_FABRIC_SUPERUSER.",
                lasting=True,
            ) from None
        except OSError as e:
            raise CannotAsk(f"The key file cannot be read: {e}.", lasting=True) from None
        except (KeyError, ValueError):
            raise CannotAsk(
                f"{self.key_file} holds no private key of a user. Give the superuser's, default.priv, by --key FILE.",
                lasting=True,
            ) from None
        return tags

    def _explained(self, failed: Any) -> CannotAsk:
        if isinstance(failed.__cause__, ssl.SSLCertVerificationError):
            return CannotAsk(
                f"The certificate of {self.url} is not trusted: {failed.__cause__.verify_message}. If it is signed by "
                "an authority of your own, name its certificate in the environment variable SSL_CERT_FILE.",
                lasting=True,
            )
        if failed.refusal is None:
            return CannotAsk(
                f"The master is not reachable: {failed}. Is it running, and is --url (or {URL_VARIABLE}) right?"
            )
        if failed.refusal == _NO_SUCH_REALM:
            return CannotAsk(
                f"The master at {self.url} has no management realm {self.realm!r} (or not yet, if it has just been "
                "started). Give its name by --realm."
            )
        return CannotAsk(
            f"The master at {self.url} refuses the key {self.key_file} ({failed}). Give the key of the superuser by "
            "--key FILE: the one whose public half the master was started with (CROSSBAR_FABRIC_SUPERUSER).",
            lasting=True,
        )


def find_node(status: Status, node: str) -> Node | None:
    """The node of that name, or object id."""
    return next((found for found in status["nodes"] if node in (found["name"], found["oid"])), None)


def paired_node(status: Status, node: str) -> Node:
    """The node of that name, or object id. :raises click.ClickException: there is none."""
    found = find_node(status, node)
    if found is None:
        names = ", ".join(other["name"] for other in status["nodes"]) or "none"
        raise click.ClickException(f"There is no node {node}. Paired are: {names}.")
    return found


class Session:
    """A management session: calls below ``crossbarfabriccenter.mrealm.``, each with a time limit."""

    def __init__(self, master: Master, client: Any) -> None:
        self._master = master
        self._client = client

    async def close(self) -> None:
        await self._client.close(CLOSE_TIMEOUT_S)

    async def cluster_status(self) -> Status:
        """The state of the cluster. :raises CannotAsk: as `call`, or the answer is not the expected document."""
        try:
            answer = await self.call("get_cluster_status")
        except Refused as e:
            raise CannotAsk(f"The master at {self._master.url} cannot tell: {e}.") from None
        missing = Status.__required_keys__ - set(answer if isinstance(answer, dict) else ())
        if missing:
            raise CannotAsk(
                f"The master at {self._master.url} gives an answer of another version of crossbar-cluster: there is no "
                f"{', '.join(sorted(missing))} in it. Use the version that the master runs."
            )
        return cast(Status, answer)

    async def end_node(self, name: str) -> None:
        """Tell a node to end in order. It leaves before it could answer: a call that is broken off is none that failed.

        :raises Refused: it does not do it.
        """
        from autobahn.wamp.exception import ApplicationError, TransportLost

        try:
            await self._client.call(f"crossbarfabriccenter.node.{name}.shutdown")
        except (TransportLost, ApplicationError) as e:
            if getattr(e, "error", _CANCELED) not in (_CANCELED, _NO_SUCH_PROCEDURE):
                raise Refused(f"node {name} cannot be told to end: {e}") from None

    async def call(self, procedure: str, *args: Any) -> Any:
        """Call ``crossbarfabriccenter.mrealm.<procedure>``.

        :raises CannotAsk: no answer, or the master does not know the procedure.
        :raises Refused: an error of the master.
        """
        from autobahn.wamp.exception import ApplicationError, TransportLost

        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                answer = asyncio.ensure_future(self._client.call(MREALM + procedure, *args))
                await asyncio.wait({answer, self._client.gone}, return_when=asyncio.FIRST_COMPLETED)
                if not answer.done():
                    answer.cancel()
                    raise TransportLost
                return answer.result()
        except TimeoutError:
            raise CannotAsk(f"The master at {self._master.url} did not answer within {ANSWER_TIMEOUT_S:g} s.") from None
        except TransportLost:
            raise CannotAsk(f"The connection to the master at {self._master.url} was lost.") from None
        except ApplicationError as e:
            if e.error == _NO_SUCH_PROCEDURE:
                raise CannotAsk(
                    f"The master at {self._master.url} runs without crossbar-cluster (or an older one, or is just "
                    f"starting): it has no procedure {MREALM + procedure}. `crossbar version` on the master tells."
                ) from None
            said = " ".join(" ".join(str(arg) for arg in e.args).split())
            raise Refused(f"{said} ({e.error})" if said else e.error) from None
