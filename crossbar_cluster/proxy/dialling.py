"""Connections of this proxy worker to its backends: who is meant there, and whether there is room for another one."""

from __future__ import annotations

import os
from typing import Any, Protocol, TypeVar

from autobahn.wamp.component import _create_transport
from twisted.internet.defer import Deferred

from crossbar_cluster.core.backends import Backend
from crossbar_cluster.core.proof import RouterIdentity
from crossbar_cluster.node.attempt import OwnFault
from crossbar_cluster.node.descriptors import budget, lowest_free
from crossbar_cluster.node.handshake import Handshake, Principal, ProxyNode, WrongRouter
from crossbar_cluster.node.key import node_key
from crossbar_cluster.node.settings import UNPROVEN_ROUTERS
from crossbar_cluster.node.trouble import no_descriptors


class Session(Protocol):
    """A session that the pool gets onto a backend."""

    backend: Backend
    joined: Deferred[Any]  #: fails with `NotJoined`

    @property
    def transport(self) -> Any:
        """Its connection, once that can carry messages."""

    def connect(self, connection: Deferred[Any]) -> None:
        """Its connection: fires with the protocol."""

    def give_up(self) -> None:
        """Nobody waits for it to join any more."""

    def disconnect(self) -> None:
        """Close its connection."""

    def lose(self, why: str) -> None:
        """Its router is known to be gone. :param why: for people."""

    def dismiss(self, why: str) -> None:
        """It is to end, and what it has sent is to arrive. :param why: for people."""

    def leave(self) -> Any:
        """Take leave of the router."""


S = TypeVar("S", bound=Session)


class Dialling:
    """:param controller: the release's ``ProxyController``. :param reactor: of its process."""

    def __init__(self, controller: Any, reactor: Any) -> None:
        self._controller = controller
        self._reactor = reactor
        self._unproven_told: set[str] = set()  #: backends that the operator has been warned of

    @property
    def node(self) -> ProxyNode:
        """The node of this worker."""
        return ProxyNode(self._controller.node_id, node_key(self._controller._cbdir))

    def handshake(self, backend: Backend, principal: Principal) -> Handshake:
        """What is to be said and demanded there."""
        told = backend.config.get("router") or {}
        name = (told["node"], told["worker"]) if told else None
        router = RouterIdentity(told["node"], told["worker"], told["pubkey"]) if told.get("pubkey") else None
        return Handshake(self.node, principal, router, name)

    def check_unproven(self, backend: Backend) -> None:
        """A router worker that the master knows to run the plain release proves nothing: it is taken by its name.

        :raises WrongRouter: that is not good enough here.
        """
        told = backend.config.get("router")
        if not told or told.get("pubkey"):
            return
        if UNPROVEN_ROUTERS.read(os.environ) == "refuse":
            raise WrongRouter(f"it runs the plain release, and {UNPROVEN_ROUTERS.variable} says to refuse it here")
        if backend.id not in self._unproven_told:
            self._unproven_told.add(backend.id)
            self._controller.log.warn(
                "Backend {backend} runs without crossbar-cluster and cannot prove who it is: it is taken by its name. "
                "Install crossbar-cluster on node {node}, or set {variable}=refuse here",
                backend=backend.id,
                node=told["node"],
                variable=UNPROVEN_ROUTERS.variable,
            )

    def connect(self, backend: Backend, session: S) -> S:
        """Give a session its connection to a backend."""
        from crossbar.worker.proxy import _create_transport_endpoint, _create_transport_factory

        config = backend.config["transport"]
        factory = _create_transport_factory(self._reactor, _create_transport(0, config), lambda: session)
        factory.noisy = False
        session.connect(_create_transport_endpoint(self._reactor, config["endpoint"]).connect(factory))
        return session

    def check_room(self) -> None:
        """See that there is a descriptor for a client: the last ones are for looks, which keep everybody served.

        :raises OwnFault: there is none.
        """
        if lowest_free() >= budget().usable:
            raise OwnFault(no_descriptors())

    def forget(self, connection_id: str) -> None:
        """That backend is gone."""
        self._unproven_told.discard(connection_id)
