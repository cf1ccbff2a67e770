"""What a node demands of whoever answers as its master, before it signs anything, and before it can be managed.

One introduction for each connection of the uplink. Begins with the HELLO; ends when the session has joined, or when
whoever answers has been refused (`NotProven`). What is exchanged is `core.uplink_proof`'s, whom the node knows
`known_master`'s.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nacl.exceptions import CryptoError
from nacl.signing import VerifyKey

from crossbar_cluster.core.signed import NONCE_BYTES
from crossbar_cluster.core.uplink_proof import PART, hello_part, login_in, nonce_in
from crossbar_cluster.node.known_master import VARIABLE, KnownMaster, known_master, remember
from crossbar_cluster.node.settings import UNPROVEN_MASTERS, InvalidSetting

METHOD = "cryptosign"


#: What whoever is refused is told: not what this node knows, nor where from.
REFUSAL = "this node does not take you for its master"


class NotProven(Exception):
    """Whoever answers does not prove to be the node's master. Its text goes out, in the ABORT.

    :ivar why: for this node's operator, and what to do.
    :ivar own_trouble: it may be the master: this node cannot find out.
    """

    def __init__(self, why: str, own_trouble: bool = False) -> None:
        super().__init__(REFUSAL)
        self.why, self.own_trouble = why, own_trouble


@dataclass
class Introduction:
    """One connection to whoever answers at a master's address.

    :ivar cbdir: the node's directory.
    :ivar pubkey: the node's public key (hex).
    :ivar refused: nothing is done for whoever answers.
    """

    cbdir: str
    pubkey: str
    log: Any
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    refused: bool = False

    def __post_init__(self) -> None:
        self._nonce = os.urandom(NONCE_BYTES)
        self._known = KnownMaster()
        self._trouble = ""  # why it is not known whom this node knows
        self._proven: str | None = None  # the key that the master has proven
        self._challenged = False  # and what it has asked to be signed is in order

    def in_authextra(self, authextra: Mapping[str, Any] | None) -> dict[str, Any]:
        """The authextra of a HELLO, with what a master has to answer."""
        try:
            self._known = known_master(self.cbdir, self.environ)
        except InvalidSetting as e:
            self._trouble = str(e)
        return {**(authextra or {}), PART: hello_part(self._nonce, self._known.source)}

    def check(self, method: str, extra: Any) -> None:
        """Whoever answers asks for a signature. :raises NotProven: it does not get any."""
        self._challenged = False
        try:
            self._check(method, extra)
        except NotProven:
            self.refused = True
            raise
        self._challenged = True

    def _check(self, method: str, extra: Any) -> None:
        if self._trouble:
            why = f"this node cannot find out whom to take for its master: {self._trouble}"
            raise NotProven(why, own_trouble=True)
        if method != METHOD:
            raise NotProven(f"it asks for {method!r}, which is none of a master's questions")
        try:
            unproven = nonce_in(extra) is None
            proven = None if unproven else self._prove(extra)
        except (KeyError, TypeError, ValueError, CryptoError) as e:  # CryptoError: a wrong signature
            raise NotProven(f"its proof is none ({e})") from None
        if proven is None:
            self._accept_unproven()
        elif self._known.keys and proven not in self._known.keys:
            raise NotProven(self._another_key(proven))
        self._proven = proven

    def _prove(self, extra: Any) -> str:
        """The key that whoever answers has proven. :raises ValueError, CryptoError: it has not."""
        login, signature = login_in(extra, self.pubkey, self._nonce)
        VerifyKey(bytes.fromhex(login.master)).verify(login.proof, signature)
        if bytes.fromhex(extra["challenge"]) != login.challenge:
            raise ValueError("its challenge is for something else")
        return login.master

    def _accept_unproven(self) -> None:
        switch = UNPROVEN_MASTERS.read(self.environ)
        if switch == "accept" or (switch == "unknown" and not self._known.keys):
            return
        known = f"this node knows its master by key {self._known.shown} ({self._known.source})"
        raise NotProven(
            f"it proves no key, and {known if self._known.keys else UNPROVEN_MASTERS.variable + ' says to refuse that'}"
            f". If the master runs the plain release, which cannot prove any, set {UNPROVEN_MASTERS.variable}=accept "
            "here, and whoever is at its address manages this node"
        )

    def _another_key(self, proven: str) -> str:
        of = f"this node knows its master by key {self._known.shown} ({self._known.source}), and it has key {proven}"
        match self._known.source:
            case "variable":
                how = f"set {VARIABLE} to it"
            case "pairing token":
                how = "give this node a token that carries it"
            case _:
                how = f"run `crossbar-cluster trust-master {proven} --cbdir {self.cbdir}` on this node"
        return f"{of}. If the master has really got another key, {how}; else find out who is at that address"

    def welcomed(self) -> str | None:
        """It lets the node in. :returns: why the node does not come; None: it does."""
        if self._challenged and not self.refused:  # a refusal is for good: whoever asks again has another connection
            return None
        self.refused = True
        return "it lets this node in without having proven who it is"

    def joined(self) -> None:
        """The session has joined: know the master from now on, or say that it cannot be known."""
        if self._proven is None:
            self.log.warn(
                "This master cannot prove who it is: it runs without crossbar-cluster. Whoever is at its address "
                "manages this node. Install crossbar-cluster on the master."
            )
        elif not self._known.keys:
            self._remember(self._proven)

    def _remember(self, key: str) -> None:
        try:
            file = remember(self.cbdir, key)
        except OSError as e:
            self.log.error(
                "The master has proven key {key}, which this node cannot keep: {error}. The next one that proves any "
                "key is taken for it as well. Set {variable}={key}.",
                key=key,
                error=e,
                variable=VARIABLE,
            )
            return
        self.log.info(
            "From now on this node knows its master by key {key}, the first that it has met, and keeps it in {file}. "
            "Whoever proves another key gets nothing, until you say so: `crossbar-cluster trust-master`.",
            key=key,
            file=str(file),
        )
