"""A name belongs to one key; a node that is unpaired loses its management sessions at once."""

from autobahn import wamp

from crossbar_cluster.overlay import Record

UNPAIRING = Record(
    target="crossbar.master.mrealm.mrealm:MrealmManager",
    kind="subclass",
    members=("unpair_node",),
    why="The release closes the sessions that have the node's object id as their authid, and there are none: a node "
    "that is unpaired goes on as if nothing had happened until it connects anew.",
    retire="When the released master closes the sessions of a node that is unpaired.",
    relies_on=(
        "crossbar.master.mrealm.mrealm:MrealmManager.__init__",
        "crossbar.master.mrealm.mrealm:MrealmManager.unpair_node",
        "crossbar.master.mrealm.mrealm:MrealmManager.unpair_node_by_pubkey",
        "crossbar.worker.router:RouterController.kill_by_authid",
        "crossbar.master.node.authenticator:Authenticator._auth_node",
    ),
)


@UNPAIRING
class ClosingManager:
    """Closes the sessions of the authid that the node had."""

    @wamp.register(None)
    async def unpair_node(self, node_oid, details=None):
        from twisted.internet import reactor

        from crossbar_cluster.control.pairing import Pairings, close_if_unpaired

        pairings = Pairings(self._session, self.db, self.schema)
        paired, closed = pairings.of(node_oid), []
        try:
            unpaired = await super().unpair_node(node_oid, details=details)
        finally:  # it may have been unpaired, and something else gone wrong after that
            closed = await close_if_unpaired(self._session, pairings, paired, reactor)
        return {**unpaired, "killed": closed}


NAMES = Record(
    target="crossbar.master.mrealm.mrealm:MrealmManager",
    kind="subclass",
    members=("pair_node",),
    why="A node that is paired under the name of another one takes its place, without a word.",
    retire="When the released master refuses names that are taken.",
    relies_on=("crossbar.master.mrealm.mrealm:MrealmManager.pair_node",),
)


@NAMES
class NameKeepingManager:
    """Refuses a name that another key has."""

    @wamp.register(None)
    async def pair_node(self, pubkey, realm_name, authid, authextra=None, details=None):
        from crossbar_cluster.control.node_names import refuse_pairing

        refuse_pairing(self.db, self.schema, pubkey, realm_name, authid)
        return await super().pair_node(pubkey, realm_name, authid, authextra, details=details)
