"""A master that has lost all that was on its disk: its nodes pair themselves anew, and serve what is configured anew.

It has lost its key as well, so that its nodes do so as soon as an operator says that it is the master.

With CROSSBAR_CLUSTER=off nodes end when their master does not know them.
"""

import shutil

from crossbar_cluster.core.master_key import keys_in
from crossbar_cluster.lab.cluster import loopback_cluster
from crossbar_cluster.node.known_master import remember

from .conftest import PATCHED, RECOVERY_S, converged


async def test_nodes_serve_again_that_nobody_has_restarted(tmp_path) -> None:
    async with loopback_cluster(tmp_path, patched=PATCHED) as (cluster, network):
        router1, proxy1 = (cluster.add_node(name, network.host()) for name in ("router1", "proxy1"))
        await cluster.boot()
        await cluster.start_webcluster(proxy1)
        await cluster.start_realm("realm1", router1)
        await cluster.served("realm1", proxy1)
        lost = await cluster.record(proxy1)

        await cluster.management.close()
        await cluster.master.running.kill()
        for entry in cluster.master.cbdir.iterdir():
            if entry.name != "config.json":
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        await cluster.start_master()
        [key] = keys_in((cluster.master.cbdir / "key.pub").read_text())
        for node in (router1, proxy1):  # it has lost its key as well: they take it for somebody else, and say so
            await node.running.line(f"crossbar-cluster trust-master {key}", timeout_s=RECOVERY_S)
            remember(str(node.cbdir), key)  # what that command does
        assert (await cluster.manage("routercluster.list_routerclusters")) == []
        for node in (router1, proxy1):
            await cluster.managed(node)
        assert (await cluster.record(proxy1))["pubkey"] == lost["pubkey"]

        await cluster.start_webcluster(proxy1)
        await cluster.start_realm("realm1", router1)
        await converged(cluster)
        await cluster.served("realm1", proxy1, RECOVERY_S)
        assert router1.running.running and proxy1.running.running
