"""Workers learn from their node what they need to know, and run patched; its key signs for them only; it may end."""

from autobahn import wamp

from crossbar_cluster.overlay import Record

WORKER_ENVIRONMENT = Record(
    target="crossbar.node.controller:create_process_env",
    kind="wrap",
    members=("create_process_env",),
    why="A router worker that the master starts inherits PYTHONPATH and nothing more of its node's environment.",
    retire="When released masters let router workers inherit the node's environment.",
    reason="A module function; the configuration that restricts the environment comes from the master.",
)

SIGNING = Record(
    target="crossbar.node.controller:NodeController",
    kind="subclass",
    members=("sign", "sign_challenge"),
    why="Whoever holds the key of one node of a management realm can have every other node sign a challenge, through "
    "the node's bridge to the master, and so speak for it. A client can have a worker ask for one.",
    retire="When the released node controller signs for its own workers only, and nothing that a client chooses.",
    relies_on=(
        "crossbar.node.controller:NodeController._start_native_worker",
        "crossbar.node.node:Node._add_worker_role",
        "crossbar.common.process:NativeProcess.onJoin",
        "crossbar.router.auth.cryptosign:PendingAuthCryptosign.hello",
        "crossbar.worker.controller:WorkerController.sign_challenge",
        "crossbar.worker.rlink:RLinkRemoteSession.onChallenge",
    ),
)

ENDING = Record(
    target="crossbar.node.controller:NodeController",
    kind="subclass",
    members=("shutdown",),
    why="A node that its master, or an operator, tells to end does so with exit code 1, as if it had failed.",
    retire="When a released node that was told to end ends with exit code 0.",
    relies_on=("crossbar.node.main:_run_command_start",),
)


ARMED = Record(
    target="crossbar.node.controller:NodeController",
    kind="subclass",
    members=("_start_native_worker",),
    why="A worker whose Python does not read the .pth file runs the plain release, and nobody notices.",
    retire="When nothing has to be patched any more.",
    relies_on=(
        "crossbar.node.controller:NodeController._start_native_worker",
        "crossbar.node.controller:NodeController.stop_worker",
        "crossbar.common.process:NativeProcess.onJoin",
    ),
)


@WORKER_ENVIRONMENT
def create_process_env(wrapped, instance, args, kwargs):
    from crossbar_cluster.node.address import pass_to_worker

    environment = wrapped(*args, **kwargs)
    pass_to_worker(environment)
    return environment


@ENDING
class SuccessfullyEndingNode:
    """Has done what it was to do when it ends because somebody said so."""

    @wamp.register(None)
    def shutdown(self, restart=False, mode=None, details=None):
        from crossbar_cluster.node.signing import is_own_worker

        # not called at all: by this process, when something has failed; by a worker: by a master whose database is full
        if details is not None and not is_own_worker(self, details):
            self._shutdown_was_clean = True
        return super().shutdown(restart, mode, details)


@SIGNING
class OwnWorkersSigner:
    """Signs for this node's workers only, and nothing for them that could prove its key elsewhere."""

    @wamp.register(None)
    def sign(self, data, details):
        from crossbar_cluster.node.signing import refuse_proofs, refuse_strangers

        refuse_strangers(self, "sign data", details)
        refuse_proofs(self, data, details)
        return super().sign(data, details)

    @wamp.register(None)
    def sign_challenge(self, challenge_method, challenge_extra, channel_id_raw, channel_id_type, details):
        from crossbar_cluster.node.signing import refuse_other_challenges, refuse_strangers

        refuse_strangers(self, "sign a challenge", details)
        refuse_other_challenges(self, challenge_method, details)
        return super().sign_challenge(challenge_method, challenge_extra, channel_id_raw, channel_id_type, details)


@ARMED
class ArmedWorkers:
    """Goes on with no worker that runs without the patches."""

    def _start_native_worker(self, worker_type, worker_id, worker_options=None, details=None):
        from twisted.internet.defer import ensureDeferred

        from crossbar_cluster.node.armed import started_armed

        starting = super()._start_native_worker(worker_type, worker_id, worker_options, details=details)
        return starting.addCallback(
            lambda started: ensureDeferred(started_armed(self, worker_id, worker_options, started, details))
        )
