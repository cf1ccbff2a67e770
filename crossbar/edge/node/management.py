"""A node tells the master where it is, at every connect."""

from crossbar_cluster.overlay import Record

SESSION = Record(
    target="crossbar.edge.node.management:NodeManagementSession",
    kind="subclass",
    members=("join", "onJoin"),
    why="The release puts a node's address into its key file once and never tells the master of another one.",
    retire="When a released node sends its cluster address with every HELLO to the master.",
    relies_on=("crossbar.edge.node.management:NodeManagementSession.onConnect",),
)


@SESSION
class AddressTellingSession:
    """Adds the node's cluster address to the authextra of its HELLO."""

    def join(self, *args, authextra=None, **kwargs):
        from crossbar_cluster.node.address import claim_in_authextra

        return super().join(*args, authextra=claim_in_authextra(authextra), **kwargs)

    def onJoin(self, details):
        from crossbar_cluster.node.address import unheard_claim

        if unheard := unheard_claim(details.authextra):
            self.log.warn("Node {node}: {unheard}", node=details.authid, unheard=unheard)
        return super().onJoin(details)
