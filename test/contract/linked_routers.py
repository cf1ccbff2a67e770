"""Two released routers, linked with each other, and clients, without the workers and the connections around them."""

from types import SimpleNamespace

import txaio

txaio.use_twisted()

from autobahn.exception import PayloadExceededError  # noqa: E402
from autobahn.wamp import role  # noqa: E402
from autobahn.wamp.serializer import CBORSerializer  # noqa: E402
from twisted.internet.task import Clock  # noqa: E402

from crossbar.router.router import RouterFactory  # noqa: E402
from crossbar.router.session import MagicMock, RouterSession  # noqa: E402
from crossbar_cluster.links.link import LinkEnd  # noqa: E402
from crossbar_cluster.node.backend_auth import BackendAuth, Claim  # noqa: E402

MOST = 2000  #: bytes that a message over a link or to a client can have
EVERYTHING = {
    "uri": "",
    "match": "prefix",
    "allow": dict.fromkeys(("call", "register", "publish", "subscribe"), True),
    "disclose": {"caller": False, "publisher": False},
    "cache": True,
}
DISCLOSED = EVERYTHING | {"uri": "open.", "disclose": {"caller": True, "publisher": True}}
ALL = role.DEFAULT_CLIENT_ROLES
CALLEE_THAT_CANNOT_CANCEL = ALL | {"callee": role.RoleCalleeFeatures()}


class Realm:
    """As the released worker has it."""

    id = "realm1"
    config = {"name": "realm1"}  # noqa: RUF012
    session = None


class Wire:
    """A connection: what is sent on it has been written and read as on a real one."""

    transport_details = None
    peer = "wire"

    def __init__(self, deliver):
        self._serializer = CBORSerializer()
        self._deliver = deliver
        self.is_open = True

    def send(self, msg):
        payload, _ = self._serializer.serialize(msg)
        if len(payload) > MOST:
            raise PayloadExceededError(f"{len(payload)} bytes")
        if self.is_open:
            self._deliver(self._serializer.unserialize(payload)[0])

    def isOpen(self):
        return self.is_open

    def close(self):
        self.is_open = False

    abort = close


class Session(RouterSession):
    """Of a client, or of a link, with all that has been sent to it."""

    def __init__(self, router, session_id, authrole="anonymous", roles=ALL, deliver=None, flow=None):
        super().__init__(router._factory)
        self.sent = []
        self.onOpen(MagicMock())
        self._transport = Wire(deliver or self.sent.append)
        self._realm, self._router = router.realm, router
        self._session_id, self._authid, self._authrole = session_id, f"authid{session_id}", authrole
        self._session_roles = roles
        self._requests, self._flow = 0, flow

    def join(self):
        self._session_details = SimpleNamespace(session=self._session_id, authid=self._authid, authrole=self._authrole)
        self._router.attach(self)
        self._router._session_joined(self, self._session_details)
        return self

    def say(self, kind, *args, **kwargs):
        """Send a request, and let everything arrive. :returns: its id."""
        self._requests += 1
        self.tell(kind(self._requests, *args, **kwargs))
        return self._requests

    def tell(self, msg):
        self._router.process(self, msg)
        self._flow()

    def answers(self, kind):
        return [msg for msg in self.sent if isinstance(msg, kind)]


class Routers:
    """Two routers of a realm. ``end`` is the end, at the first one, of its link with the second one."""

    def __init__(self):
        self.clock = Clock()
        self.one, self.two = (self._router(name) for name in ("one", "two"))
        self.ids = iter(range(1000, 10_000))
        self.failed, self.came_up = [], 0
        self.hangs = False  #: the second router

    def _router(self, name):
        factory = RouterFactory("node", name, None)
        factory._reactor = self.clock
        router = factory.start_realm(Realm())
        for authrole in ("anonymous", "rlink"):
            factory.add_role("realm1", {"name": authrole, "permissions": [EVERYTHING, DISCLOSED]})
        return router

    def link(self):
        peer = self.peer = Session(self.two, next(self.ids), "rlink", deliver=self._later(self._receive))
        auth = BackendAuth(None, {}, None)
        auth.claim = Claim("node1", "key", "realm1", "node1.w1", "rlink", None, b"", "w1")
        peer._pending_auth = SimpleNamespace(_backend_auth=auth)
        peer.join()
        self.end = LinkEnd(self.one.links, self.clock, self._came_up)
        wire = Wire(self._later(lambda msg: peer._session_id and not self.hangs and peer.onMessage(msg)))
        backend = SimpleNamespace(heard_s=self.clock.seconds())
        self.session = SimpleNamespace(transport=wire, backend=backend, lose=lambda why: self.cut(why))
        self.one.links.links["one to two"] = SimpleNamespace(
            changed=lambda key, invoke: self.end.mirror.want(key, invoke), end=self.end, is_up=True, problem=""
        )
        self.end.begin(self.session)
        self.flow()
        return self

    def _later(self, deliver):
        return lambda msg: self.clock.callLater(0, deliver, msg)

    def _came_up(self):
        self.came_up += 1

    def _receive(self, msg):
        if self.session.transport is None:
            return
        self.session.backend.heard_s = self.clock.seconds()
        try:
            self.end.forward(msg)
        except Exception as e:  # ends the connection
            self.failed.append(e)

    def flow(self, for_s=0.0):
        """Let everything arrive."""
        for passing_s in (0.0, *[0.5] * int(for_s * 2)):
            self.clock.advance(passing_s)
            while any(call.getTime() <= self.clock.seconds() for call in self.clock.getDelayedCalls()):
                self.clock.advance(0)

    def cut(self, why="it was cut"):
        """The link's connection ends: each end hears of it."""
        self.session.transport.is_open, self.session.transport = False, None
        self.peer._transport._transport.is_open = False
        self.end.ended(self.session, why)
        self.peer.onClose(False)
        self.flow()

    def client(self, router, **kwargs):
        return Session(router, next(self.ids), flow=self.flow, **kwargs).join()

    def dealers_are_empty(self):
        for router in (self.one, self.two):
            dealer = router._dealer
            maps = (dealer._invocations, dealer._invocations_by_call, dealer._callee_to_invocations)
            assert not any((*maps, dealer._caller_to_invocations)), (router._factory._worker_id, maps)
        assert not self.end._remote._callers
