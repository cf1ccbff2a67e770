"""A router worker describes itself in one call; roles and who may connect can be changed; who is killed is gone."""

from autobahn import wamp

from crossbar_cluster.overlay import Record

CONTROLLER = "crossbar.worker.router:RouterController"

SNAPSHOT = Record(
    target=CONTROLLER,
    kind="add",
    members=("get_router_snapshot",),
    why="To see what a router worker runs, the master has to ask for each realm, role and transport by itself.",
    retire="When a released router worker describes itself in one call.",
    relies_on=(
        f"{CONTROLLER}.get_router_realm",
        f"{CONTROLLER}.get_router_realm_role",
        f"{CONTROLLER}.get_router_transport",
        "crossbar.worker.types:RouterRealmRole",
    ),
)

PRINCIPALS = Record(
    target=CONTROLLER,
    kind="add",
    members=("update_router_principals",),
    why="Who may connect to a listener is fixed when it is started: a proxy node that is added later is turned away "
    "until the router worker is restarted, and one that is taken away goes on connecting, with all its clients.",
    retire="When the principals of a released router worker's transport can be changed while it runs.",
    relies_on=(
        "crossbar.worker.transport:RouterTransport.__init__",
        "crossbar.router.session:RouterSession.onHello",
        "crossbar.router.session:RouterSession.leave",
        "crossbar.router.session:RouterSession.onMessage",
        "crossbar.router.router:Router.attach",
    ),
)

GUESTS = Record(
    target=CONTROLLER,
    kind="add",
    members=("get_router_guests",),
    why="Nobody can see which proxy nodes a router worker has clients of: one with none left is to connect no more.",
    retire="When a released router worker tells where its clients come from.",
    relies_on=("crossbar.router.router:Router.attach",),
)

ROLE = Record(
    target=CONTROLLER,
    kind="add",
    members=("update_router_realm_role",),
    why="To change a role's permissions it has to be stopped and started: meanwhile clients that have it are turned "
    "away, and what a client was allowed before stays allowed.",
    retire="When a released router worker has a call that changes a role.",
    relies_on=(
        f"{CONTROLLER}.start_router_realm_role",
        "crossbar.router.router:RouterFactory.add_role",
        "crossbar.router.router:Router.authorize",
    ),
)

STOP_ROLE = Record(
    target=f"{CONTROLLER}.stop_router_realm_role",
    kind="wrap",
    members=("stop_router_realm_role",),
    why="A role that has been stopped goes on being granted to the sessions that have it.",
    retire="When a released router worker drops a role that is stopped.",
    reason="Worker classes are named in maps that other modules have imported; the method is called as it is.",
    relies_on=("crossbar.router.router:RouterFactory.drop_role",),
)

KILL = Record(
    target=f"{CONTROLLER}.kill_by_authid",
    kind="wrap",
    members=("kill_by_authid",),
    why="A session that is killed is asked to leave: one that does not answer stays, with all its rights.",
    retire="When a released router ends the sessions that it kills.",
    reason="Worker classes are named in maps that other modules have imported; the method is called as it is.",
    relies_on=(
        "crossbar.router.service:RouterServiceAgent.session_kill_by_authid",
        "crossbar.router.session:RouterSession.leave",
        "crossbar.router.session:RouterSession.onMessage",
    ),
)


SET_LINK = Record(
    target=CONTROLLER,
    kind="add",
    members=("set_router_link",),
    why="In the release a link to another router is started with an address for good, does not answer until it is up, "
    "authenticates in a way that router workers of a cluster do not take, and forwards exact names only, without "
    "errors, progress, and who it is from.",
    retire="When a released router worker links itself by proof, and a link can be pointed elsewhere.",
    relies_on=(f"{CONTROLLER}.get_router_realm",),
)

DROP_LINK = Record(
    target=CONTROLLER,
    kind="add",
    members=("drop_router_link",),
    why="A link to another router cannot be stopped.",
    retire="When a released router worker can stop a link.",
    relies_on=(f"{CONTROLLER}.stop_router_realm_link",),
)


@SET_LINK
@wamp.register(None)
def set_router_link(self, link_id, config, details=None):
    """Link all realms of this worker with another router worker, or with where that is now. Does not wait for it.

    :param link_id: name of the link.
    :param config: ``host``, ``port``; ``router``: who is to be found there (node, worker, pubkey, life).
    :raises ApplicationError: ``crossbar.error.invalid_configuration``.
    """
    from crossbar_cluster.links.worker import links_of

    links_of(self).set(link_id, config)


@DROP_LINK
@wamp.register(None)
def drop_router_link(self, link_id, details=None):
    """End the link with another router worker, if there is one.

    :param link_id: name of the link.
    """
    from crossbar_cluster.links.worker import links_of

    links_of(self).drop(link_id)


@KILL
def kill_by_authid(wrapped, instance, args, kwargs):
    from crossbar_cluster.node.router_worker import end_sessions

    killed = wrapped(*args, **kwargs)
    end_sessions(instance, args[0] if args else kwargs["realm_id"], killed)
    return killed


@GUESTS
@wamp.register(None)
def get_router_guests(self, details=None):
    """The nodes of proxies that have clients here now.

    :returns: of each, authid and public key (hex).
    """
    from crossbar_cluster.node.backend_auth import guests_of

    return guests_of(self)


@ROLE
@wamp.register(None)
def update_router_realm_role(self, realm_id, role_id, config, details=None):
    """Give a running role another configuration; it holds for sessions that are there already as well.

    :param realm_id: run-time id of the realm.
    :param role_id: run-time id of the role.
    :param config: as for ``start_router_realm_role``, with the same name.
    :raises ApplicationError: ``crossbar.error.no_such_object``.
    """
    from crossbar_cluster.node.router_worker import update_role

    update_role(self, realm_id, role_id, config)


@STOP_ROLE
def stop_router_realm_role(wrapped, instance, args, kwargs):
    from crossbar_cluster.node.router_worker import drop_role

    stopped = wrapped(*args, **kwargs)
    drop_role(instance, args[0], stopped)
    return stopped


@PRINCIPALS
@wamp.register(None)
def update_router_principals(self, transport_id, principals, routers=(), realms=None, details=None):
    """Let these nodes connect to a listener from now on, and no others: sessions of others are ended.

    :param transport_id: run-time id of the listener.
    :param principals: authid -> role and authorized keys, as in the listener's configuration.
    :param routers: authids of those that may link their router workers with this one.
    :param realms: authid -> names of the realms whose clients may come through that node; None: of any realm.
    :raises ApplicationError: ``crossbar.error.no_such_object``.
    """
    from crossbar_cluster.node.router_worker import update_principals

    update_principals(self, transport_id, principals, routers, realms)


@SNAPSHOT
@wamp.register(None)
def get_router_snapshot(self, details=None):
    """What this worker runs: realms with their roles, and transports.

    :returns: see `crossbar_cluster.node.router_worker.snapshot_of`.
    """
    from crossbar_cluster.node.router_worker import snapshot_of

    return snapshot_of(self)
