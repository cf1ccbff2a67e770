"""A master notices silent nodes within 10 s, restarts when a worker of it has died, and takes the key it is given."""

from crossbar_cluster.overlay import Record

MASTER = Record(
    target="crossbar.master.node.node:FabricCenterNode",
    kind="subclass",
    members=("load_config", "boot", "_add_worker_role", "_drop_worker_role"),
    why=(
        "The release's listener for nodes asks every 10 s and waits 5 s before it gives a silent node up. "
        "A worker of the master that has died is never started again, and the master goes on without it."
    ),
    retire="When the released master pings every 4 s and keeps its own workers running.",
    relies_on=(
        "crossbar._util:merge_config",
        "crossbar.node.controller:NodeController._start_native_worker",
        "crossbar.node.controller:NodeController.shutdown",
        "crossbar.master.node.node:FabricServiceNodeManager._initialize_mrealm",
    ),
)


@MASTER
class SelfRestartingMaster:
    """Sets the pings of its listener, and watches its workers."""

    def load_config(self, configfile=None):
        from pathlib import Path

        from crossbar_cluster.node.pings import quicken_master

        loaded = super().load_config(configfile)
        quicken_master(self._config, _builtin_config(self), Path(self._cbdir, configfile) if configfile else None)
        return loaded

    def boot(self):
        from crossbar_cluster.node.draining import end_at_second_signal
        from crossbar_cluster.node.restart import MasterWorkers

        end_at_second_signal(self)
        self._worker_watch = MasterWorkers(self, frozenset(w["id"] for w in _builtin_config(self)["workers"]))
        return super().boot()

    def _add_worker_role(self, worker_auth_role, options):
        super()._add_worker_role(worker_auth_role, options)
        self._worker_watch.begun(worker_auth_role.removeprefix("crossbar.worker."))

    def _drop_worker_role(self, worker_auth_role):
        super()._drop_worker_role(worker_auth_role)
        self._worker_watch.ended(worker_auth_role.removeprefix("crossbar.worker."))


KEY = Record(
    target="crossbar.master.node.node:FabricCenterNode",
    kind="subclass",
    members=("load_keys",),
    why="A master that has lost its disk makes itself another key, and no node of it knows that.",
    retire="When the released master can be given its key.",
    relies_on=("crossbar.node.node:Node.load_keys", "crossbar.common.key:_maybe_generate_node_key"),
)


@KEY
class GivenKeyMaster:
    """Takes the key that it is given, when it has none."""

    def load_keys(self, cbdir, *args, **kwargs):
        from crossbar_cluster.node.own_key import take_given_key

        take_given_key(cbdir, self.log)
        return super().load_keys(cbdir, *args, **kwargs)


def _builtin_config(node):
    import json
    from importlib.resources import files

    return json.loads((files("crossbar") / node.DEFAULT_CONFIG_PATH).read_text(encoding="utf-8"))
