"""The meta API is about the realm, on however many routers it is, and not about the links between them."""

from autobahn import wamp

from crossbar_cluster.overlay import Record

RESTRICTED = Record(
    target="crossbar.router.service:is_restricted_session",
    kind="wrap",
    members=("is_restricted_session",),
    why="Links between routers are listed, counted and killed among the sessions of clients.",
    retire="When the released meta API leaves out links.",
    reason="A module function, which the procedures look up in their module.",
)

REALM_WIDE = Record(
    target="crossbar.router.service:RouterServiceAgent",
    kind="subclass",
    members=(
        "publish",
        "session_list",
        "session_count",
        "session_get",
        "session_kill",
        "session_kill_by_authid",
        "session_kill_by_authrole",
        "registration_list_callees",
        "registration_count_callees",
        "subscription_list_subscribers",
        "subscription_count_subscribers",
    ),
    why="On a realm of several routers a client sees the sessions of its own router only, and with them the links to "
    "the others; a session on another router cannot be found or killed.",
    retire="When the released meta API is about all routers of a realm.",
    relies_on=(
        "crossbar.router.session:RouterSession.onJoin",
        "crossbar.router.session:RouterSession.onLeave",
        "crossbar.worker.router:RouterController.kill_by_authid",
    ),
)


@RESTRICTED
def is_restricted_session(wrapped, instance, args, kwargs):
    from crossbar_cluster.links.realm import is_linked

    return is_linked(args[0]) or wrapped(*args, **kwargs)


@REALM_WIDE
class RealmWideService:
    """How answers are gathered is in `crossbar_cluster.links.meta`."""

    def publish(self, topic, *args, **kwargs):
        links = self._router.links
        if not links.is_about_links(topic, args) and not links.is_unheard(topic):
            return super().publish(topic, *args, **kwargs)

    def session_list(self, filter_authroles=None, details=None):
        from crossbar_cluster.links.meta import concatenated, gathered, realm_wide

        mine = super().session_list(filter_authroles, details)
        return gathered(realm_wide(self, details), mine, concatenated, "wamp.session.list", filter_authroles)

    def session_count(self, filter_authroles=None, details=None):
        from crossbar_cluster.links.meta import gathered, realm_wide

        mine = super().session_count(filter_authroles, details)
        return gathered(realm_wide(self, details), mine, sum, "wamp.session.count", filter_authroles)

    def session_get(self, session_id: int, details=None):
        from crossbar_cluster.links.meta import of_one, realm_wide

        local = super().session_get
        links = realm_wide(self, details)
        return of_one(links, lambda: local(session_id, details), "wamp.session.get", session_id)

    def session_kill(self, session_id, reason=None, message=None, details=None):
        from crossbar_cluster.links.meta import of_one, realm_wide

        local = super().session_kill
        asked = ("wamp.session.kill", session_id, reason, message)
        return of_one(realm_wide(self, details), lambda: local(session_id, reason, message, details), *asked)

    def session_kill_by_authid(self, authid, reason=None, message=None, details=None):
        from crossbar_cluster.links.meta import concatenated, gathered, realm_wide

        mine = super().session_kill_by_authid(authid, reason, message, details)
        asked = ("wamp.session.kill_by_authid", authid, reason, message)
        return gathered(realm_wide(self, details), mine, concatenated, *asked)

    def session_kill_by_authrole(self, authrole, reason=None, message=None, details=None):
        from crossbar_cluster.links.meta import concatenated, gathered, realm_wide

        mine = super().session_kill_by_authrole(authrole, reason, message, details)
        asked = ("wamp.session.kill_by_authrole", authrole, reason, message)
        return gathered(realm_wide(self, details), mine, concatenated, *asked)

    def registration_list_callees(self, registration_id, details=None):
        from crossbar_cluster.links.meta import observers, realm_wide

        found = super().registration_list_callees(registration_id, details)
        return observers(self, realm_wide(self, details), "registration", registration_id, found)

    def registration_count_callees(self, registration_id, details=None):
        from crossbar_cluster.links.meta import counted

        super().registration_count_callees(registration_id, details)
        return counted(self.registration_list_callees(registration_id, details))

    def subscription_list_subscribers(self, subscription_id, details=None):
        from crossbar_cluster.links.meta import observers, realm_wide

        found = super().subscription_list_subscribers(subscription_id, details)
        return observers(self, realm_wide(self, details), "subscription", subscription_id, found)

    def subscription_count_subscribers(self, subscription_id, details=None):
        from crossbar_cluster.links.meta import counted

        super().subscription_count_subscribers(subscription_id, details)
        return counted(self.subscription_list_subscribers(subscription_id, details))

    @wamp.register("wamp.cluster.list_observers")
    def list_observers(self, kind, uri, match, details=None):
        """Session ids of those on this router that have a registration or subscription. For other routers only."""
        from crossbar_cluster.links.meta import observers_here

        return observers_here(self, kind, uri, match, details)

    @wamp.register("wamp.cluster.link_picture")
    def link_picture(self, details=None):
        """How many subscriptions and registrations the link of the router that asks holds here, and a sum over them."""
        from crossbar_cluster.links.meta import picture_here

        return picture_here(self, details)
