"""`crossbar-cluster apply` as a process of its own, on a master that is made of tables (see `test_operator`)."""

import asyncio
import itertools
import json
import signal
import subprocess
from pathlib import Path

import pytest
import pytest_asyncio

from .test_operator import MREALM, STATUS, Failing, FakeMaster, ask, command, environment, run

EXAMPLE = Path(__file__).parents[2] / "examples" / "cluster.yaml"
READING = ("get_", "list_")
STEPS = 26  #: from an empty master to the example


class Records:
    """What a master keeps, and the management calls that read and change it; each returns a record."""

    def __init__(self, *nodes: str) -> None:
        self._numbers = itertools.count()
        self.tables: dict[str, dict[str, dict]] = {
            kind: {}
            for kind in ("node", "role", "permission", "arealm", "routercluster", "group", "webcluster", "service")
        }
        self.members: dict[tuple[str, str], dict] = {}  #: of clusters
        self.expected: dict[str, dict] = {}  #: nodes, by cluster
        self.roles_of: dict[tuple[str, str], dict] = {}  #: of realms
        for node in nodes:
            self.pair(node)

    def pair(self, node: str) -> None:
        self._new("node", authid=node)

    def _new(self, kind: str, **record) -> dict:
        oid = f"{kind}-{next(self._numbers)}"
        self.tables[kind][oid] = {"oid": oid, **record}
        return self.tables[kind][oid]

    def _mine(self, kind: str, **owner) -> list[dict]:
        ((field, oid),) = owner.items()
        return [record for record in self.tables[kind].values() if record[field] == oid]

    def _status(self, kind: str, oid: str, status: str, **changes) -> dict:
        self.tables[kind][oid].update(status=status, **changes)
        return {}

    def _cluster(self, kind: str) -> dict:
        def members(oid: str) -> list[str]:
            return [node for cluster, node in self.members if cluster == oid]

        def add(oid: str, node: str, config: dict) -> dict:
            return self.members.setdefault((oid, node), {}) | self.members[oid, node].__ior__(config)

        return {
            f"list_{kind}s": lambda: list(self.tables[kind]),
            f"get_{kind}": self.tables[kind].__getitem__,
            f"create_{kind}": lambda config: self._new(
                kind, **{"tcp_port": None, "tcp_shared": None, "status": "STOPPED"} | config
            ),
            f"delete_{kind}": self.tables[kind].pop,
            f"start_{kind}": lambda oid: self._status(kind, oid, "RUNNING"),
            f"stop_{kind}": lambda oid: self._status(kind, oid, "STOPPED"),
            f"list_{kind}_nodes": members,
            f"get_{kind}_node": lambda oid, node: self.members[oid, node],
            f"add_{kind}_node": add,
            "expect_nodes": lambda oid, nodes: self.expected.update({oid: nodes}) or {},
            "get_expected_nodes": lambda oid: self.expected.get(oid, {}),
            f"remove_{kind}_node": lambda oid, node: self.members.pop((oid, node)),
        }

    def procedures(self) -> dict:
        tables = self.tables
        routers = self._cluster("routercluster") | {
            "list_routercluster_workergroups": lambda oid: [g["oid"] for g in self._mine("group", cluster_oid=oid)],
            "get_routercluster_workergroup": lambda oid, group: tables["group"][group],
            "add_routercluster_workergroup": lambda oid, config: self._new("group", **config),
            "scale_workergroup": lambda oid, group, scale: tables["group"][group].__ior__({"scale": scale}),
            "remove_routercluster_workergroup": lambda oid, group: tables["group"].pop(group),
        }
        webs = self._cluster("webcluster") | {
            "list_webcluster_services": lambda oid: {
                s["path"]: s["oid"] for s in self._mine("service", cluster_oid=oid)
            },
            "get_webcluster_service": lambda oid, service: tables["service"][service],
            "add_webcluster_service": lambda oid, path, config: self._new(
                "service", cluster_oid=oid, path=path, **config
            ),
            "remove_webcluster_service": lambda oid, service: tables["service"].pop(service),
        }
        realms = {
            "list_roles": lambda: list(tables["role"]),
            "get_role": tables["role"].__getitem__,
            "create_role": lambda config: self._new("role", **config),
            "delete_role": tables["role"].pop,
            "get_role_permissions_by_uri": lambda role: self._mine("permission", role_oid=role),
            "add_role_permission": lambda role, uri, config: self._new("permission", role_oid=role, uri=uri, **config),
            "remove_role_permission": lambda role, permission: tables["permission"].pop(permission),
            "list_arealms": lambda: list(tables["arealm"]),
            "get_arealm": tables["arealm"].__getitem__,
            "create_arealm": lambda config: self._new(
                "arealm", **{"status": "STOPPED", "workergroup_oid": None, "webcluster_oid": None} | config
            ),
            "delete_arealm": tables["arealm"].pop,
            "start_arealm": lambda oid, group, web: self._status(
                "arealm", oid, "RUNNING", workergroup_oid=group, webcluster_oid=web
            ),
            "stop_arealm": lambda oid: self._status("arealm", oid, "STOPPED"),
            "list_arealm_roles": lambda oid: [role for realm, role in self.roles_of if realm == oid],
            "add_arealm_role": lambda oid, role, config: self.roles_of.setdefault((oid, role), config),
            "remove_arealm_role": lambda oid, role: self.roles_of.pop((oid, role)),
        }
        named = {"arealm": realms, "routercluster": routers, "webcluster": webs}
        found = {f"{MREALM}{where}.{name}": call for where, calls in named.items() for name, call in calls.items()}
        return found | {
            f"{MREALM}get_nodes": lambda: list(tables["node"]),
            f"{MREALM}get_node": tables["node"].__getitem__,
            STATUS: lambda: DOCUMENT,
        }


KEYS = ("now", "master", "nodes", "groups", "realms", "webclusters", "workers", "problems")
DOCUMENT: dict[str, list] = {key: [] for key in KEYS}


@pytest.fixture
def records():
    return Records("router1", "router2", "proxy1", "proxy2")


@pytest_asyncio.fixture
async def master(tmp_path, records):
    fake = FakeMaster(tmp_path, answers=records.procedures())
    await fake.start()
    yield fake
    await fake.stop()


def changes(master: FakeMaster) -> list[str]:
    """The names of the calls that change something, in their order."""
    names = [procedure.rpartition(".")[2] for procedure, *_ in master.calls]
    return [name for name in names if not name.startswith(READING)]


async def apply(master: FakeMaster, *options: str, file: Path = EXAMPLE) -> tuple[int, str, str]:
    return await ask(master, "apply", str(file), *options)


async def test_the_example_once_and_once_more(master, records):
    code, out, err = await apply(master)
    assert (code, err) == (0, "")
    diff, told = out.splitlines()[:STEPS], out.splitlines()[STEPS:]
    assert told[:-1] == [f"done: {line[2:]}" for line in diff]
    assert told[-1] == f"{STEPS} done"
    made = changes(master)
    assert len(made) == STEPS
    assert made.index("add_webcluster_service") < made.index("start_webcluster") < made.index("start_arealm")
    (realm1,) = (realm for realm in records.tables["arealm"].values() if realm["name"] == "realm1")
    assert realm1["status"] == "RUNNING"
    (everything, *_) = records.tables["permission"].values()
    assert everything["match"] == "prefix" and everything["allow_register"] is True and everything["cache"] is False

    assert await apply(master) == (0, "Nothing to do: all that is described is there.\n", "")
    assert await apply(master, "--prune") == (0, "Nothing to do: all that is described is there.\n", "")
    assert changes(master) == made


async def test_a_dry_run_shows_all_and_changes_nothing(master):
    code, out, err = await apply(master, "--dry-run")
    assert (code, err, changes(master)) == (0, "", [])
    assert "+ role anonymous" in out.splitlines() and "done" not in out
    code, out, _ = await apply(master, "--dry-run", "--json")
    document = json.loads(out)
    assert (code, document["dry_run"], len(document["changes"]), changes(master)) == (0, True, STEPS, [])
    assert document["changes"][0] == {
        "sign": "+", "change": "role anonymous", "outcome": "not done", "reason": "dry run",
    }  # fmt: skip


async def test_a_file_that_is_not_right(master, tmp_path):
    file = tmp_path / "broken.yaml"
    file.write_text(EXAMPLE.read_text().replace("port: 8080", "prt: 8080"))
    code, out, err = await apply(master, file=file)
    assert (code, out) == (2, "")
    line = next(n for n, text in enumerate(file.read_text().splitlines(), 1) if "prt" in text)
    assert f"{file}:{line}:5: a web cluster has no key prt" in err
    assert err.splitlines()[-1] == "Nothing has been changed."
    code, out, _ = await apply(master, "--json", file=file)
    assert (code, {(p["line"], p["column"]) for p in json.loads(out)["problems"]}) == (2, {(line, 5)})
    assert master.calls == [], "the master is not even asked"
    file.write_bytes(b"\xff")
    code, _, err = await apply(master, file=file)
    assert (code, "no text in UTF-8" in err) == (2, True)


async def test_what_needs_no_master(tmp_path):
    code, out, err = await run("apply", "--schema", HOME=str(tmp_path))
    assert (code, err) == (0, "")
    assert set(json.loads(out)["properties"]) == {"roles", "realms", "routerclusters", "webclusters"}
    code, _, err = await run("apply")
    assert (code, "FILE" in err) == (2, True)
    code, _, err = await run("apply", str(tmp_path / "missing"))
    assert (code, "missing" in err) == (2, True)


async def test_from_standard_input(master):
    arguments = command("apply", "-", "--dry-run", "--url", master.url, "--key", str(master.key_file))
    pipe = subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*arguments, stdin=pipe, stdout=pipe, env=environment())
    out, _ = await process.communicate(EXAMPLE.read_bytes())
    assert (process.returncode, b"+ realm realm2" in out) == (0, True)


async def test_nodes_that_are_not_paired_yet(master, records):
    records.tables["node"].clear()
    records.pair("router1")
    code, out, err = await apply(master)
    assert (code, err) == (3, "")
    assert "pending: node router2 of router cluster routers: is not paired yet" in out
    assert "pending: node proxy* of web cluster web: matches no node that is paired" in out
    assert "pending: start of realm realm1: no node yet in web cluster web" in out
    assert out.splitlines()[-1] == "21 done, 4 pending"
    assert "start_arealm" not in changes(master)
    assert "create_arealm" in changes(master)

    records.pair("proxy1")
    code, out, _ = await apply(master, "--json")
    document = json.loads(out)
    assert code == 3
    assert [change["change"].partition(" on ")[0] for change in document["changes"]] == [
        "node proxy1 in web cluster web: 1 proxy worker", "realm realm1: started", "realm realm2: started",
    ]  # fmt: skip
    assert document["pending"] == [{"part": "node router2 of router cluster routers", "reason": "is not paired yet"}]


async def test_waiting_for_nodes(master, records):
    records.tables["node"].clear()
    applying = asyncio.create_task(apply(master, "--wait", "50"))
    async with asyncio.timeout(30):
        while changes(master).count("create_arealm") < 2:
            await asyncio.sleep(0.02)
    for node in ("proxy1", "router1", "router2"):
        records.pair(node)
    code, out, err = await applying
    assert (code, err) == (0, "")
    assert changes(master).count("start_arealm") == 2
    assert out.splitlines()[-1] == "25 done"


async def test_waiting_ends(master, records):
    records.tables["node"].clear()
    code, out, _ = await apply(master, "--wait", "0.5")
    assert (code, out.splitlines()[-1]) == (3, "20 done, 5 pending")


async def test_waiting_for_the_master(master, tmp_path):
    await master.stop()
    arguments = command("apply", str(EXAMPLE), "--wait", "50", "--url", master.url, "--key", str(master.key_file))
    process = await asyncio.create_subprocess_exec(*arguments, "--dry-run", stderr=subprocess.PIPE, env=environment())
    async with asyncio.timeout(30):
        said = (await process.stderr.readline()).decode()
        assert "not reachable" in said and said.endswith("Waiting.\n")
        await master.start(port=master.port)
        assert await process.stderr.read() == b"", "told once"
    assert await process.wait() == 0


async def test_waiting_does_not_help_everybody(master, tmp_path):
    code, _, err = await run("apply", str(EXAMPLE), "--wait", "50", "--key", str(tmp_path / "missing"))
    assert (code, "no key file" in err) == (2, True)
    await master.stop()
    code, _, err = await apply(master, "--wait", "0.2")
    assert (code, "not reachable" in err) == (2, True)


async def test_a_step_that_fails(master):
    master.answers[f"{MREALM}routercluster.create_routercluster"] = Failing("crossbar.error.no_luck", "not\ntoday")
    code, out, err = await apply(master)
    assert (code, err) == (1, "")
    lines = out.splitlines()
    assert "failed: router cluster routers: not today (crossbar.error.no_luck)" in lines
    assert "not done: node router1 in router cluster routers: it needs: router cluster routers" in lines
    assert "done: web cluster web: started" in lines
    assert "done: role reader in realm realm2" in lines
    assert lines[-1] == "17 done, 1 failed, 8 not done"
    del master.answers[f"{MREALM}routercluster.create_routercluster"]
    code, out, _ = await apply(master)
    assert (code, "it has no procedure" in out) == (1, True)


async def test_a_master_that_is_lost_on_the_way(master):
    """Exit code 1, not 2: something has been changed."""
    master.answers[f"{MREALM}routercluster.create_routercluster"] = None
    applying = asyncio.create_task(apply(master))
    async with asyncio.timeout(30):
        while "create_routercluster" not in changes(master):
            await asyncio.sleep(0.02)
    await master.stop()
    code, out, _ = await applying
    assert code == 1
    assert "failed: router cluster routers: The connection to the master" in out
    assert "not done: web cluster web: port 8080, shared: the master cannot be asked any more" in out


async def test_interrupted(master):
    master.answers[f"{MREALM}arealm.create_role"] = None
    arguments = command("apply", str(EXAMPLE), "--url", master.url, "--key", str(master.key_file))
    process = await asyncio.create_subprocess_exec(*arguments, stderr=subprocess.PIPE, env=environment())
    async with asyncio.timeout(30):
        while not changes(master):
            await asyncio.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert (await process.communicate())[1] == b""
    assert process.returncode == 130


async def test_what_is_not_described_is_left_or_pruned(master, records, tmp_path):
    await apply(master)
    file = tmp_path / "less.yaml"
    file.write_text("roles:\n  anonymous:\n  - {uri: '', match: prefix, allow: all}\n")
    before = changes(master)
    code, out, _ = await apply(master, file=file)
    assert (code, changes(master)) == (0, before)
    assert out.splitlines() == [
        "Nothing to do: all that is described is there.",
        *(f"left: {what} is not described" for what in
          ("realm realm1", "realm realm2", "web cluster web", "router cluster routers", "role reader")),
    ]  # fmt: skip
    code, out, _ = await apply(master, "--prune", file=file)
    assert code == 0
    assert [role["name"] for role in records.tables["role"].values()] == ["anonymous"]
    for gone in ("arealm", "routercluster", "group", "webcluster", "service"):
        assert not records.tables[gone]


async def test_two_realms_of_one_name(master, records):
    for _ in range(2):
        records.procedures()[f"{MREALM}arealm.create_arealm"]({"name": "realm1"})
    code, out, err = await apply(master)
    assert (code, out, changes(master)) == (1, "", [])
    assert "there are two realms named realm1" in err


async def test_settings_that_no_file_describes_outlive_a_new_port(master, records, tmp_path):
    await apply(master)
    (web,) = records.tables["webcluster"].values()
    web["tcp_backlog"] = 7
    file = tmp_path / "port.yaml"
    file.write_text(EXAMPLE.read_text().replace("port: 8080", "port: 8081"))
    code, _, err = await apply(master, file=file)
    assert (code, err) == (0, "")
    (web,) = records.tables["webcluster"].values()
    assert (web["tcp_port"], web["tcp_backlog"], web["status"]) == (8081, 7, "RUNNING")
    assert {realm["webcluster_oid"] for realm in records.tables["arealm"].values()} == {web["oid"]}
    assert changes(master)[STEPS : STEPS + 2] == ["stop_arealm", "stop_arealm"]


async def test_a_web_service_changes_when_the_proxies_have_dropped_the_old_one(master, records, tmp_path):
    await apply(master)
    master.calls.clear()
    (web,) = records.tables["webcluster"]
    nodes = [{"name": "proxy1", "status": "online"}, {"name": "proxy2", "status": "offline"}]
    services = ["ws", "info"]
    workers = [{"node": node["name"], "worker": f"cpw-{web[:8]}-0", "services": services} for node in nodes]
    master.answers[STATUS] = lambda: DOCUMENT | {"nodes": nodes, "workers": workers}
    file = tmp_path / "service.yaml"
    file.write_text(EXAMPLE.read_text().replace("{type: nodeinfo}", "{type: json, value: 1}"))
    applying = asyncio.create_task(apply(master, file=file))
    async with asyncio.timeout(30):
        while [call[0] for call in master.calls].count("get_cluster_status") < 2:
            await asyncio.sleep(0.02)
    assert changes(master) == ["remove_webcluster_service"]
    workers[0]["services"] = ["ws"]
    code, _, err = await applying
    assert (code, err) == (0, "")
    assert changes(master) == ["remove_webcluster_service", "add_webcluster_service"]


async def test_a_change_of_a_web_service_that_was_broken_off(master, records):
    """The record is gone, a proxy still has the service: one of the same path would be taken for the old one."""
    await apply(master)
    (web,) = records.tables["webcluster"]
    (info,) = (oid for oid, service in records.tables["service"].items() if service["path"] == "info")
    del records.tables["service"][info]
    worker = {"node": "proxy1", "worker": f"cpw-{web[:8]}-0", "services": ["ws", "info"]}
    master.answers[STATUS] = lambda: DOCUMENT | {
        "nodes": [{"name": "proxy1", "status": "online"}], "workers": [worker],
    }  # fmt: skip
    master.calls.clear()
    applying = asyncio.create_task(apply(master))
    async with asyncio.timeout(30):
        while [call[0] for call in master.calls].count("get_cluster_status") < 2:
            await asyncio.sleep(0.02)
    assert changes(master) == []
    worker["services"] = ["ws"]
    assert (await applying)[0] == 0
    assert changes(master) == ["add_webcluster_service"]
