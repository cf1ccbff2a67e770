"""`crossbar-cluster apply` on a real cluster: from an empty master to one that serves, and from there to another one.

Clients that are connected notice nothing of what is changed in place.
"""

import asyncio
import json
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
import yaml
from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.types import PublishOptions, SubscribeOptions

from crossbar_cluster.lab.client import JoinFailed, join
from crossbar_cluster.lab.cluster import PROXY_PORT, Cluster, Node, loopback_cluster

from .conftest import PATCHED, RECOVERY_S, command, converged, until

EXAMPLE = Path(__file__).parents[2] / "examples" / "cluster.yaml"


@dataclass
class Applying:
    """A master that has nodes and nothing else, and whoever describes its cluster in a file."""

    cluster: Cluster
    proxies: list[Node]
    described: dict = field(default_factory=lambda: yaml.safe_load(EXAMPLE.read_text()))
    changes: list[str] = field(default_factory=list)  #: events of the master about changes of its configuration

    async def listen(self) -> None:
        def heard(*args, details):
            self.changes.append(details.topic)

        options = SubscribeOptions(match="prefix", details=True)
        for manager in ("arealm", "routercluster", "webcluster"):
            await self.cluster.management.subscribe(heard, f"crossbarfabriccenter.mrealm.{manager}.on_", options)

    async def apply(self, *options: str, file: Path | None = None) -> tuple[int, str, str]:
        """As an operator types it. :returns: exit code, stdout, stderr."""
        if file is None:
            file = self.cluster.directory / "cluster.yaml"
            file.write_text(yaml.safe_dump(self.described))
        return await command(self.cluster, "apply", str(file), *options)

    async def applied(self, *options: str) -> list[str]:
        """Apply what is described. :returns: what has changed."""
        code, out, err = await self.apply("--json", *options)
        document = json.loads(out)
        assert (code, err, document["pending"]) == (0, "", []), (out, err)
        assert {change["outcome"] for change in document["changes"]} <= {"done"}
        return [f"{change['sign']} {change['change']}" for change in document["changes"]]

    async def get(self, path: str) -> object:
        """What the web service at a path of the first proxy answers; None: there is none."""

        def ask() -> object:
            try:
                url = f"http://{self.proxies[0].host.address}:{PROXY_PORT}/{path}"
                with urllib.request.urlopen(url, timeout=5) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError:
                return None

        return await asyncio.to_thread(ask)


@pytest_asyncio.fixture(scope="module")
async def applying(tmp_path_factory):
    async with loopback_cluster(tmp_path_factory.mktemp("apply"), patched=PATCHED) as (cluster, network):
        for name in ("router1", "router2"):
            cluster.add_node(name, network.host())
        proxies = [cluster.add_node(name, network.host()) for name in ("proxy1", "proxy2")]
        await cluster.boot()
        applying = Applying(cluster, proxies)
        await applying.listen()
        yield applying


@pytest.mark.slow
async def test_a_broken_file_changes_nothing(applying):
    broken = applying.cluster.directory / "broken.yaml"
    broken.write_text(EXAMPLE.read_text().replace("webcluster: web", "webcluster: wab", 1))
    code, out, err = await applying.apply(file=broken)
    assert (code, out) == (2, "")
    line = next(n for n, text in enumerate(broken.read_text().splitlines(), 1) if "wab" in text)
    assert f"broken.yaml:{line}:17: there is no web cluster wab in this file" in err
    assert applying.changes == []
    assert (await applying.cluster.status())["realms"] == []


@pytest.mark.slow
async def test_from_an_empty_master(applying):
    code, out, err = await applying.apply("--dry-run", file=EXAMPLE)
    assert (code, err) == (0, "")
    assert "+ realm realm1" in out.splitlines()
    assert applying.changes == []

    code, out, err = await applying.apply(file=EXAMPLE)
    assert (code, err) == (0, ""), out
    assert "done: realm realm1: started on worker group group1 of routers, web cluster web" in out
    assert len(applying.changes) >= out.count("done: "), "a change that is not heard would be missed below"
    for realm in ("realm1", "realm2"):
        for proxy in applying.proxies:
            await applying.cluster.served(realm, proxy, RECOVERY_S)
    await converged(applying.cluster)


@pytest.mark.slow
async def test_once_more(applying):
    before = list(applying.changes)
    code, out, err = await applying.apply(file=EXAMPLE)
    assert (code, out, err) == (0, "Nothing to do: all that is described is there.\n", "")
    assert await applying.applied("--prune") == []
    assert applying.changes == before


async def may_publish(client) -> bool:
    try:
        await client.publish("com.example.news", options=PublishOptions(acknowledge=True))
    except ApplicationError as e:
        assert e.error == ApplicationError.NOT_AUTHORIZED
        return False
    return True


@pytest.mark.slow
async def test_what_is_changed_in_place_is_noticed_by_no_client(applying):
    cluster, described = applying.cluster, applying.described
    clients = [await cluster.client(realm, proxy) for realm in ("realm1", "realm2") for proxy in applying.proxies]
    assert {await may_publish(client) for client in clients} == {True}

    described["roles"]["anonymous"][0]["allow"] = ["call", "register", "subscribe"]
    described["roles"]["writer"] = [{"uri": "com.", "match": "prefix", "allow": ["publish"]}]
    described["realms"]["realm2"]["roles"].append("writer")
    described["routerclusters"]["routers"]["workergroups"]["group2"]["scale"] = 2
    services = described["webclusters"]["web"]["services"]
    services["motd"] = {"type": "json", "value": {"text": "hello"}}
    assert await applying.applied() == [
        "~ permission '' of role anonymous: prefix, may call and register and subscribe "
        "(was: prefix, may call and publish and register and subscribe)",
        "+ role writer",
        "+ permission 'com.' of role writer: prefix, may publish",
        "~ worker group group2 of router cluster routers: scale 2 (was: 1)",
        "+ web service 'motd' of web cluster web: json",
        "+ role writer in realm realm2",
    ]

    async def none_may_publish() -> bool:
        return {await may_publish(client) for client in clients} == {False}

    async def says_hello() -> bool:
        return await applying.get("motd") == {"text": "hello"}

    await until(none_may_publish, RECOVERY_S)
    await until(says_hello, RECOVERY_S)
    await converged(applying.cluster)
    groups = {group["group"]: len(group["placements"]) for group in (await cluster.status())["groups"]}
    assert groups == {"group1": 2, "group2": 2}

    services["motd"]["value"] = {"text": "good bye"}
    services["ws"]["options"] = {"auto_ping_interval": 10000}
    changed = await applying.applied()
    assert [change.partition(" (")[0] for change in changed] == [
        "~ web service 'motd' of web cluster web: value changed",
        "~ web service 'ws' of web cluster web: options changed",
    ]

    async def says_good_bye() -> bool:
        return await applying.get("motd") == {"text": "good bye"}

    await until(says_good_bye, RECOVERY_S)
    await converged(applying.cluster)
    assert [client.gone.done() for client in clients] == [False] * 4
    for realm in ("realm1", "realm2"):
        await cluster.served(realm, applying.proxies[0], RECOVERY_S)
    assert await applying.applied("--prune") == []
    for client in clients:
        await client.close()


async def refused(call) -> str:
    """The error that a call ends with."""
    with pytest.raises(ApplicationError) as raised:
        await call
    return raised.value.error


@pytest.mark.slow
async def test_what_may_not_be_done_to_clusters_that_run(applying):
    manage = applying.cluster.manage
    before = list(applying.changes)
    web = (await manage("webcluster.get_webcluster_by_name", "web"))["oid"]
    for path, service, error in (
        ("x", {"type": "json"}, "wamp.error.invalid_argument"),
        ("x", {"type": "jsn", "value": 1}, "wamp.error.invalid_argument"),
        ("ws", {"type": "json", "value": 1}, "crossbar.error.already_exists"),
    ):
        assert await refused(manage("webcluster.add_webcluster_service", web, path, service)) == error
    cluster = (await manage("routercluster.get_routercluster_by_name", "routers"))["oid"]
    group = (await manage("routercluster.get_routercluster_workergroup_by_name", "routers", "group1"))["oid"]
    remove = manage("routercluster.remove_routercluster_workergroup", cluster, group)
    assert await refused(remove) == "crossbar.error.dependent_objects"
    assert applying.changes == before


@pytest.mark.slow
async def test_what_is_not_described_any_more_is_removed_when_asked_for(applying):
    cluster, described = applying.cluster, applying.described
    stayer = await cluster.client("realm1", applying.proxies[0])
    del described["realms"]["realm2"], described["roles"]["reader"], described["roles"]["writer"]
    del described["routerclusters"]["routers"]["workergroups"]["group2"]
    del described["webclusters"]["web"]["services"]["motd"]
    before = list(applying.changes)
    code, out, _ = await applying.apply()
    assert code == 0
    assert "left: realm realm2 is not described" in out
    assert applying.changes == before

    changes = await applying.applied("--prune")
    assert changes[0] == "~ realm realm2: stopped, to be deleted"
    assert changes[-1] == "- role writer"
    await converged(applying.cluster)
    status = await cluster.status()
    assert [realm["name"] for realm in status["realms"]] == ["realm1"]
    assert [group["group"] for group in status["groups"]] == ["group1"]
    assert await applying.get("motd") is None
    assert await cluster.manage("arealm.list_roles", True) == ["anonymous"]
    assert not stayer.gone.done()
    await stayer.close()
    assert await applying.applied("--prune") == []


@pytest.mark.slow
async def test_what_cannot_be_changed_in_place_is_made_anew(applying):
    cluster, described = applying.cluster, applying.described
    described["routerclusters"]["routers"]["workergroups"]["group3"] = {"scale": 1}
    described["realms"]["realm1"]["workergroup"] = "group3"
    described["webclusters"]["web"]["port"] = PROXY_PORT + 1
    changes = await applying.applied()
    assert changes[0].startswith("~ realm realm1: stopped, ")
    assert changes[-1] == "~ realm realm1: started on worker group group3 of routers, web cluster web"

    async def is_served() -> bool:
        try:
            client = await join(cluster.client_host, applying.proxies[0].host.address, PROXY_PORT + 1, "realm1")
        except JoinFailed:
            return False
        extra = client.joined.result().authextra
        await client.close()
        return extra["x_cb_worker"] == "group3_1"

    await until(is_served, RECOVERY_S)
    with pytest.raises(ConnectionError):
        await cluster.client("realm1", applying.proxies[0])
    await converged(applying.cluster)
    assert await applying.applied() == []
