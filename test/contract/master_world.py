"""A management controller of the release, patched, and its control plane, on real databases and a clock of the test.

Nodes are what a test says they are: the management realm is played here.
"""

import uuid
from collections import Counter

import txaio
from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.request import Subscription
from autobahn.wamp.types import EventDetails
from cfxdb.globalschema import GlobalSchema
from cfxdb.mrealm import (
    ApplicationRealm,
    ManagementRealm,
    Node,
    RouterCluster,
    RouterClusterNodeMembership,
    RouterWorkerGroup,
    RouterWorkerGroupClusterPlacement,
    WebCluster,
    WebClusterNodeMembership,
)
from cfxdb.mrealmschema import MrealmSchema
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

MREALM = uuid.uuid4()
NODE = "crossbarfabriccenter.node."
SNAPSHOT = {"realms": {}, "transports": {}, "access": {}, "life": "1", "links": {}}


class Database:
    """A zlmdb database that counts its write transactions."""

    def __init__(self, db):
        self._db, self.writes = db, 0

    def begin(self, write=False):
        self.writes += write
        return self._db.begin(write=write)

    def __getattr__(self, name):
        return getattr(self._db, name)


class Master:
    """The controller, the control plane, and the nodes that the test has made.

    :ivar answers: what a call ends with: URI without the prefix of nodes -> a value, a function of the arguments, an
        ApplicationError, or a Deferred.
    """

    def __init__(self, gdb, db, monkeypatch):
        from crossbar.master.mrealm.controller import MrealmController
        from crossbar_cluster.control import plane

        self.clock = Clock()
        monkeypatch.setattr(plane.time, "time_ns", lambda: round((1e9 + self.clock.seconds()) * 1e9))
        self.lines = []
        self.sessions, self.answers, self.asked = {}, {}, Counter()
        self.gdb, self.db = Database(gdb), Database(db)
        self.gschema, self.schema = GlobalSchema.attach(gdb), MrealmSchema.attach(db)
        realm = ManagementRealm()
        realm.oid, realm.name, realm.owner = MREALM, "default", uuid.uuid4()
        with self.gdb.begin(write=True) as txn:
            self.gschema.mrealms[txn, MREALM] = realm
        self.controller = MrealmController.__new__(MrealmController)
        for name, value in {
            "gdb": self.gdb, "gschema": self.gschema, "db": self.db, "schema": self.schema, "_mrealm_oid": MREALM,
            "log": Log(self.lines), "_nodes": {}, "_nodes_shutdown": {}, "_realm": "default",
            "call": self._call, "publish": lambda *args, **kwargs: succeed(None),
            "_publish_on_node_ready": self._publish, "_publish_on_node_shutdown": self._publish,
        }.items():  # fmt: skip
            setattr(self.controller, name, value)
        self.controller.plane = self.plane = plane.ControlPlane(self.controller, self.clock, self.controller.log)
        self.plane.start()

    async def _publish(self, node):
        pass

    def _call(self, uri, *args):
        self.asked[uri.removeprefix(NODE)] += 1
        if uri == "wamp.session.list":
            return succeed(list(self.sessions))
        if uri == "wamp.session.get":
            return succeed({"authid": self.sessions[args[0]], "authrole": "node"})
        answer = self.answers.get(uri.removeprefix(NODE))
        if uri.endswith(".get_workers") and answer is None:
            answer = []
        if answer is None:
            answer = ApplicationError("wamp.error.no_such_procedure", uri)
        answer = answer(*args) if callable(answer) else answer
        if isinstance(answer, Deferred):
            return answer
        return fail(answer) if isinstance(answer, Exception) else succeed(answer)

    # -- what is configured

    def node(self, name, *, by_token=False):
        node = Node(oid=uuid.uuid4(), pubkey=uuid.uuid4().hex * 2, mrealm_oid=MREALM, authid=name)
        node.cluster_ip = "127.0.0.1"
        if by_token:
            node.authextra = {"paired_by": "token"}
        with self.gdb.begin(write=True) as txn:
            self.gschema.nodes[txn, node.oid] = node
        self.plane.configuration_changed()
        return node.oid

    def names(self):
        with self.gdb.begin() as txn:
            return {node.authid for node in self.gschema.nodes.select(txn, return_keys=False)}

    def put(self, table, key, record):
        with self.db.begin(write=True) as txn:
            getattr(self.schema, table)[txn, key] = record
        self.plane.configuration_changed()

    def realm_on(self, node_oid):
        """An application realm that runs on one router worker, ``group_1``, of a node."""
        cluster = RouterCluster(oid=uuid.uuid4(), name="routers", status=3)
        group = RouterWorkerGroup(oid=uuid.uuid4(), name="group", cluster_oid=cluster.oid, scale=1)
        placed = RouterWorkerGroupClusterPlacement(
            oid=uuid.uuid4(), worker_group_oid=group.oid, cluster_oid=cluster.oid, node_oid=node_oid,
            worker_name="group_1", tcp_listening_port=10000,
        )  # fmt: skip
        realm = ApplicationRealm(oid=uuid.uuid4(), name="realm1", status=3, workergroup_oid=group.oid)
        self.put("routerclusters", cluster.oid, cluster)
        member = RouterClusterNodeMembership(cluster_oid=cluster.oid, node_oid=node_oid)
        self.put("routercluster_node_memberships", (cluster.oid, node_oid), member)
        self.put("router_workergroups", group.oid, group)
        self.put("router_workergroup_placements", placed.oid, placed)
        self.put("arealms", realm.oid, realm)

    def web_cluster(self, *node_oids):
        cluster = WebCluster(oid=uuid.uuid4(), name="web", status=3, tcp_port=8080)
        self.put("webclusters", cluster.oid, cluster)
        for oid in node_oids:
            member = WebClusterNodeMembership(cluster_oid=cluster.oid, node_oid=oid, parallel=1)
            self.put("webcluster_node_memberships", (cluster.oid, oid), member)
        return cluster.oid

    # -- what happens

    def joins(self, name, session=None):
        session = session or len(self.sessions) + 1
        self.sessions[session] = name
        self._handled(self.controller._on_session_startup({"session": session, "authid": name, "authrole": "node"}))
        return session

    def leaves(self, session):
        del self.sessions[session]
        self._handled(self.controller._on_session_shutdown(session))

    def event(self, handler, *args, publisher):
        """An event of a node, as the release's session has its handlers called: guarded."""
        from crossbar_cluster.control.guard import guarded

        said = {"publisher": 1, "publisher_authid": publisher, "publisher_authrole": "node"}
        details = EventDetails(Subscription(1, handler, None, None), 1, **said)
        guarded(getattr(self.controller, handler), self.controller.log, handler)(*args, details=details)

    def _handled(self, coroutine):
        Deferred.fromCoroutine(coroutine).addErrback(lambda failure: self.lines.append(failure.getTraceback()))

    def runs(self, seconds, step=0.5):
        """Let time pass."""
        for _ in range(round(seconds / step)):
            self.clock.advance(step)

    def told(self, text):
        return [line for line in self.lines if text in line]


class Log:
    """Keeps the lines that an operator would see."""

    def __init__(self, lines):
        self._lines = lines

    def _line(self, text="", **fields):
        self._lines.append(text.format(**fields))

    info = warn = error = _line

    def debug(self, *args, **fields):
        pass

    def failure(self, text="", failure=None, **fields):
        self._lines.append(f"{text} {txaio.create_failure().getTraceback() if failure is None else failure}")
