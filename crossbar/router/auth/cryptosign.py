"""Between a node's verified signature and its WELCOME, the authenticator is told of the proof."""

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
