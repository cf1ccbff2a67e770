"""Master and node, router and proxy prove their keys to each other; the authenticator is told of a node's proof."""

from crossbar_cluster.overlay import Record

PROOF = Record(
    target="crossbar.router.auth.cryptosign:PendingAuthCryptosign.authenticate",
    kind="wrap",
    members=("authenticate",),
    why="The release asks a dynamic authenticator at HELLO only, before the challenge exists. What it wrote then, it "
    "would write on the word of anybody who knows a node's public key.",
    retire="When released dynamic authenticators are told that a signature has been verified.",
    reason="The class is instantiated through a map that other modules have imported by then; one method suffices.",
    relies_on=(
        "crossbar.router.auth.cryptosign:PendingAuthCryptosign.hello",
        "crossbar.router.auth.pending:PendingAuth._init_dynamic_authenticator",
        "crossbar.router.auth.pending:PendingAuth._accept",
    ),
)


@PROOF
def authenticate(wrapped, instance, args, kwargs):
    result = wrapped(*args, **kwargs)
    if instance._authenticator_session is None:
        return result
    from crossbar_cluster.control.authentication import confirm

    return confirm(instance, result)


MASTER = Record(
    target="crossbar.router.auth.cryptosign:PendingAuthCryptosign._compute_challenge",
    kind="wrap",
    members=("_compute_challenge",),
    why="A node proves its key to the master and the master nothing to the node: whoever is at a master's address "
    "manages the nodes, and has them sign what opens routers.",
    retire="When the released master proves its key to nodes, over what it has them sign.",
    reason="The class is instantiated through a map that other modules have imported by then; one method suffices.",
    relies_on=(
        "crossbar.router.auth.cryptosign:PendingAuthCryptosign.hello",
        "crossbar.router.auth.cryptosign:PendingAuthCryptosign.authenticate",
        "crossbar.router.auth.pending:PendingAuth._assign_principal",
    ),
)


@MASTER
def compute_challenge(wrapped, instance, args, kwargs):
    extra = wrapped(*args, **kwargs)
    if instance._authenticator_session is None:
        return extra
    from crossbar_cluster.control.master_proof import proof_in_challenge

    return proof_in_challenge(instance, extra)


PROXY = Record(
    target="crossbar.router.auth.cryptosign:PendingAuthCryptosignProxy",
    kind="subclass",
    members=("__init__", "hello", "authenticate"),
    why="The release lets a proxy in at HELLO, and never asks for the signature: whoever reaches a router worker's "
    "port and knows a proxy node's public key becomes any user of any realm.",
    retire="When the released router verifies a proxy's signature before it believes whom it connects for.",
    relies_on=(
        "crossbar.router.auth.pending:PendingAuth.__init__",
        "crossbar.router.session:RouterSession.onHello",
        "crossbar.router.session:RouterSession.onAuthenticate",
    ),
)


@PROXY
class ProvenProxy:
    """Challenges the proxy, and gives it this router's own proof."""

    def __init__(self, *args):
        from crossbar.router.auth.pending import PendingAuth

        from crossbar_cluster.node.backend_auth import BackendAuth

        # not that of the class in between: it makes an index of all principals, and a log line, for each connection
        PendingAuth.__init__(self, *args)
        self._backend_auth = BackendAuth(self._realm_container, self._config, self.log)

    def hello(self, realm, details):
        return self._backend_auth.hello(realm, details)

    def authenticate(self, signature):
        return self._backend_auth.authenticate(signature)
