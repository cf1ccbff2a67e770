"""The master hears a node's address when it authenticates, and refreshes its record once it has proven its key."""

from contextvars import ContextVar

from crossbar_cluster.overlay import Record

AUTHENTICATOR = Record(
    target="crossbar.master.node.authenticator:Authenticator",
    kind="subclass",
    members=("_authenticate", "_auth_node"),
    why="The release looks a node up by its key and nothing else: the address on record stays what it was when the "
    "node was paired.",
    retire="When the released master refreshes node records by what a node says after its proof.",
    relies_on=("crossbar.master.node.authenticator:Authenticator.onJoin",),
)

PAIRING = Record(
    target="crossbar.master.node.authenticator:Authenticator",
    kind="subclass",
    members=("_auth_node",),
    why="Nodes that are scaled up by themselves cannot be paired: somebody has to do it, or has to put their keys into "
    "a directory that the master sees.",
    retire="When a released master pairs nodes that have a secret from it.",
    relies_on=("crossbar.master.node.controller:DomainController.onJoin",),
)

# The release passes only the public key on to _auth_node. A context variable is right here and an attribute is not:
# each authentication is a coroutine with a context of its own, and several can be under way.
_hello: ContextVar[dict] = ContextVar("details of the HELLO being authenticated")


@AUTHENTICATOR
class AddressKeepingAuthenticator:
    """Knows the HELLO behind a node's authentication, and takes the word of a node that has proven its key."""

    async def _authenticate(self, realm, authid, details):
        before = _hello.set(details)
        try:
            return await super()._authenticate(realm, authid, details)
        finally:
            _hello.reset(before)

    def _auth_node(self, pubkey, details=None):
        from crossbar_cluster.control.authentication import heard

        auth = super()._auth_node(pubkey)
        heard(self.log, auth["authid"], details or _hello.get({}))
        return auth

    def refusal(self, pubkey, realm, authid):
        """Why a node that has proven its key is not let in after all (a Deny); None: it is."""
        from crossbar_cluster.control.pairing import refusal_of_unpaired
        from crossbar_cluster.control.records import NodeRecords

        return refusal_of_unpaired(NodeRecords(self._db, self._schema), pubkey, realm, authid)

    def node_proven(self, pubkey, authid, authextra):
        """The node with this key has proven it. :returns: its authextra on record, for its WELCOME."""
        from crossbar_cluster.control.authentication import proven
        from crossbar_cluster.control.records import NodeRecords

        return proven(self.log, NodeRecords(self._db, self._schema), pubkey, authid, authextra)


@PAIRING
class TokenPairingAuthenticator:
    """Gives a node that nobody has paired a challenge if it has a token, and pairs it once it has proven its key."""

    def _auth_node(self, pubkey, details=None):
        from autobahn.wamp.exception import ApplicationError

        from crossbar_cluster.control.token_pairing import TokenPairing, login_of_new_node
        from crossbar_cluster.core.pairing_token import NotEntitled
        from crossbar_cluster.core.rights import UNPAIRED

        hello = details or _hello.get({})
        try:
            login = login_of_new_node(self.log, TokenPairing(self._db, self._schema), pubkey, hello)
        except NotEntitled as e:
            raise ApplicationError(UNPAIRED, str(e)) from None
        return login or super()._auth_node(pubkey, details)

    def pair_proven(self, pubkey, authextra):
        """A node has proven its key: pair it, if it has a token and has never been paired."""
        from crossbar_cluster.control.token_pairing import pair_new_node

        pair_new_node(self, self._db, self._schema, pubkey, authextra)
