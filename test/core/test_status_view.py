"""The state of a cluster as operators see it, rendered to text from documents made by hand."""

import copy
import re

import pytest
from rich.console import Console

from crossbar_cluster.operator.view import ago, duration, is_converged, show_changes, show_placements, show_status

S = 10**9
PAINT = re.compile(r"\x1b\[[0-9;]*m")
NOW = 1_795_000_000 * S

CONVERGED = {
    "now": NOW,
    "master": {
        "realm": "default",
        "started": NOW - 2 * 86400 * S,
        "crossbar": "26.10.1",
        "crossbar_cluster": "1.0.0",
        "passes": 1204,
        "calls": 3456,
        "failures": 7,
    },
    "nodes": [
        {
            "oid": "7c6b2f5e-5a7e-4a3e-9c07-0f1b6f9d2b11",
            "name": name,
            "pubkey": "ab" * 32,
            "status": "online",
            "since": NOW - age * S,
            "address": address,
            "address_source": source,
            "address_since": NOW - 3 * age * S,
        }
        for name, age, address, source in (
            ("crossbar-router-realm1-0", 185, "10.0.0.2", "environment"),
            ("crossbar-router-realm2-0", 7300, "fd00::1234:5678:9abc:def0", "environment"),
            ("crossbar-proxy-realm1-0", 2 * 86400, "127.0.0.1", "default"),
            ("crossbar-proxy-realm1-1", 86400, None, None),
        )
    ],
    "groups": [
        {
            "oid": "5f0c1f0e-54f3-4a51-8a46-0a3f8f0d7a01",
            "group": "group_realm1",
            "cluster_oid": "5f0c1f0e-54f3-4a51-8a46-0a3f8f0d7a09",
            "cluster": "routers",
            "scale": 1,
            "placements": [{"node": "crossbar-router-realm1-0", "worker": "group_realm1_1"}],
        },
        {
            "oid": "5f0c1f0e-54f3-4a51-8a46-0a3f8f0d7a02",
            "group": "group_realm2",
            "cluster_oid": "5f0c1f0e-54f3-4a51-8a46-0a3f8f0d7a09",
            "cluster": "routers",
            "scale": 1,
            "placements": [{"node": "crossbar-router-realm2-0", "worker": "group_realm2_1"}],
        },
    ],
    "realms": [
        {"name": "realm1", "status": "RUNNING", "group": "group_realm1", "webcluster": "web"},
        {"name": "realm2", "status": "RUNNING", "group": "group_realm2", "webcluster": "web"},
        {"name": "later", "status": "STOPPED", "group": None, "webcluster": None},
    ],
    "webclusters": [
        {"name": "web", "status": "RUNNING", "nodes": ["crossbar-proxy-realm1-0", "crossbar-proxy-realm1-1"]}
    ],
    "workers": [
        {
            "node": f"crossbar-router-realm{i}-0",
            "worker": f"group_realm{i}_1",
            "kind": "router",
            "state": "converged",
            "reason": "",
            "since": NOW - 180 * S,
            "port": 10000 + i,
            "realms": [f"realm{i}"],
        }
        for i in (1, 2)
    ]
    + [
        {
            "node": f"crossbar-proxy-realm1-{i}",
            "worker": "cpw-2f5e4a3e-0",
            "kind": "proxy",
            "state": "converged",
            "reason": "",
            "since": NOW - 30 * S,
            "services": ["ws", "/"],
            "connections": [
                {"id": "cnc_crossbar-router-realm1-0_group_realm1_1", "host": "10.0.0.2", "port": 10001},
                {"id": "cnc_crossbar-router-realm2-0_group_realm2_1", "host": "fd00::2", "port": 2},
            ],
            "routes": [
                {
                    "realm": f"realm{r}",
                    "roles": {
                        "anonymous": f"cnc_crossbar-router-realm{r}-0_group_realm{r}_1",
                        "backend": f"cnc_crossbar-router-realm{r}-0_group_realm{r}_1",
                    },
                }
                for r in (1, 2)
            ],
        }
        for i in (0, 1)
    ],
    "problems": [],
}
WHY = "router worker crossbar-router-realm1-0/group_realm1_1 is away: waiting for its node to join"


@pytest.fixture
def document():
    return copy.deepcopy(CONVERGED)


def rendered(what, width, terminal=False):
    colours = "truecolor" if terminal else None
    console = Console(width=width, force_terminal=terminal, highlight=False, color_system=colours)
    with console.capture() as captured:
        console.print(what)
    text = captured.get()
    assert max(map(len, PAINT.sub("", text).splitlines())) <= width
    return "\n".join(line.rstrip() for line in text.splitlines())


def words(text):
    return text.split()


def squeezed(text):
    """What is left of a text that was folded: nothing but its characters."""
    return re.sub(r"\s+", "", text)


def section(text, title):
    """The lines of a section, its title left out."""
    lines = text.splitlines()
    start = lines.index(title)
    end = lines.index("", start) if "" in lines[start:] else len(lines)
    return lines[start + 1 : end]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0 s"),
        (0, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (185, "3 min"),
        (3599, "59 min"),
        (3600, "1 h"),
        (86399, "23 h"),
        (86400, "1 day"),
        (3 * 86400 + 5, "3 days"),
        (400 * 86400, "400 days"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text
    assert ago(NOW - round(seconds * S), NOW) == f"{text} ago"


def test_a_time_that_is_not_known():
    assert ago(None, NOW) == "-"


@pytest.mark.parametrize("width", [80, 160])
def test_the_verdict_comes_first(document, width):
    assert rendered(show_status(document), width).splitlines()[0] == (
        "converged: 4 nodes, 3 realms, 4 workers, all as configured"
    )
    assert is_converged(document)
    document["problems"] = [{"object": "realm realm1", "reason": WHY}, {"object": "proxy2", "reason": "it is offline"}]
    lines = rendered(show_status(document), 160).splitlines()
    assert lines[:4] == [
        "not converged",
        f"  realm realm1: {WHY}",
        "  proxy2: it is offline",
        "",
    ]
    assert not is_converged(document)


def test_a_wide_terminal_shows_each_thing_on_one_line(document):
    text = rendered(show_status(document), 160)
    assert section(text, "Master") == [
        "  management realm default, up for 2 days",
        "  crossbar 26.10.1, crossbar-cluster 1.0.0",
        "  1204 passes, 3456 calls to nodes, 7 failed",
    ]
    nodes = [line.split() for line in section(text, "Nodes")]
    assert nodes[0] == ["name", "status", "since", "address", "changed"]
    assert nodes[1] == words("crossbar-router-realm1-0 online 3 min ago 10.0.0.2 9 min ago")
    assert nodes[2] == words("crossbar-router-realm2-0 online 2 h ago fd00::1234:5678:9abc:def0 6 h ago")
    assert nodes[3] == words("crossbar-proxy-realm1-0 online 2 days ago 127.0.0.1 (default) 6 days ago")
    assert nodes[4] == words("crossbar-proxy-realm1-1 online 1 day ago - 3 days ago")
    assert section(text, "Realms")[3].split() == ["later", "STOPPED", "-", "-"]
    assert section(text, "Web clusters")[1].split(maxsplit=2) == [
        "web",
        "RUNNING",
        "crossbar-proxy-realm1-0, crossbar-proxy-realm1-1",
    ]
    assert section(text, "Placements")[2].split() == words(
        "group_realm2 routers 1 group_realm2_1 crossbar-router-realm2-0"
    )
    workers = [line.split() for line in section(text, "Workers")]
    assert workers[1] == words("crossbar-router-realm1-0 group_realm1_1 router converged 3 min ago realm1, port 10001")
    assert workers[3] == words("crossbar-proxy-realm1-0 cpw-2f5e4a3e-0 proxy converged 30 s ago /ws, /")


def test_proxies_that_do_the_same_are_shown_once(document):
    assert section(rendered(show_status(document), 160), "Routes") == [
        "  crossbar-proxy-realm1-0/cpw-2f5e4a3e-0, crossbar-proxy-realm1-1/cpw-2f5e4a3e-0",
        "    realm1 (anonymous, backend) -> 10.0.0.2:10001 (cnc_crossbar-router-realm1-0_group_realm1_1)",
        "    realm2 (anonymous, backend) -> [fd00::2]:2 (cnc_crossbar-router-realm2-0_group_realm2_1)",
    ]


def test_a_proxy_that_differs_stands_apart(document):
    odd = document["workers"][3]
    odd["connections"][0] |= {"host": "10.0.0.1"}
    odd["routes"][1]["roles"] = {"anonymous": "gone", "backend": "gone"}
    assert section(rendered(show_status(document), 160), "Routes")[3:] == [
        "  crossbar-proxy-realm1-1/cpw-2f5e4a3e-0",
        "    realm1 (anonymous, backend) -> 10.0.0.1:10001 (cnc_crossbar-router-realm1-0_group_realm1_1)",
        "    realm2 (anonymous, backend) -> nowhere (gone, which does not exist)",
        "    no route -> [fd00::2]:2 (cnc_crossbar-router-realm2-0_group_realm2_1)",
    ]
    odd["connections"], odd["routes"] = [], []
    assert section(rendered(show_status(document), 160), "Routes")[4:] == ["    none"]


def test_of_a_worker_that_has_not_been_seen_nothing_is_claimed(document):
    for i, left_out in ((0, ("port", "realms")), (3, ("services", "connections", "routes"))):
        document["workers"][i] |= {"state": "unknown", "reason": "its node is away"}
        for name in left_out:
            del document["workers"][i][name]
    text = rendered(show_status(document), 160)
    workers = section(text, "Workers")
    assert workers[1].split()[3:] == words("unknown 3 min ago not known")
    assert workers[2].split() == words("its node is away")
    assert section(text, "Routes")[3:] == ["  crossbar-proxy-realm1-1/cpw-2f5e4a3e-0", "    not known"]


def test_limits_that_clients_have_met_stand_with_the_worker(document):
    document["workers"][0]["limits_met"] = {"subscriptions": 12, "calls": 1}
    document["workers"][1]["limits_met"] = {}
    workers = section(rendered(show_status(document), 200), "Workers")
    assert workers[2].strip() == "clients met limits: calls (1), subscriptions (12)"
    assert "met limits" not in "\n".join(workers[3:])


def test_a_proxy_says_how_many_clients_it_has_room_for(document):
    document["workers"][2]["most_clients"] = 470
    workers = section(rendered(show_status(document), 200), "Workers")
    assert "/ws, /, room for 470 clients" in workers[3]
    assert "room" not in workers[4]


def test_an_address_whose_source_is_not_known(document):
    document["nodes"][0]["address_source"] = None
    assert " 10.0.0.2 (source unknown) " in rendered(show_status(document), 160)


def test_a_proxy_between_two_backends_shows_both(document):
    """One route each: a proxy takes its clients to them in turn."""
    first = document["workers"][2]
    first["routes"] = [{"realm": "realm1", "roles": {"anonymous": c["id"]}} for c in first["connections"]]
    lines = section(rendered(show_status(document), 160), "Routes")
    assert [line.split()[3] for line in lines[1:3]] == ["10.0.0.2:10001", "[fd00::2]:2"]


@pytest.mark.parametrize("state", ["changed", "waiting", "failed", "unknown"])
def test_the_reason_of_a_worker_stands_with_it_unless_it_was_told_before(document, state):
    document["workers"][0] |= {"state": state, "reason": WHY, "port": None, "realms": []}
    text = rendered(show_status(document), 200)
    assert text.count(WHY) == 1
    assert section(text, "Workers")[1].split()[3:] == words(f"{state} 3 min ago no realm, not listening")
    document["problems"] = [{"object": "crossbar-router-realm1-0/group_realm1_1", "reason": WHY}]
    text = rendered(show_status(document), 200)
    assert text.count(WHY) == 1
    assert WHY in text.splitlines()[1]


def test_at_80_columns_nothing_is_wider_and_nothing_is_lost(document):
    document["problems"] = [{"object": "realm realm1", "reason": WHY * 3}]
    text = rendered(show_status(document), 80)
    for whole in ("3 min ago", "converged", "online", "10.0.0.2", "RUNNING", "group_realm2_1"):
        assert whole in text
    assert squeezed(WHY * 3) in squeezed(text)
    for name in ("crossbar-router-realm1-0/group_realm1_1", "crossbar-proxy-realm1-1/cpw-2f5e4a3e-0"):
        assert name in text
    assert "crossbar-router-realm1-0" in "".join(
        line.split()[0] for line in section(text, "Nodes")[1:] if line[2] > " "
    )


@pytest.mark.parametrize("width", [50, 80])
def test_long_names_are_folded_and_never_cut(document, width):
    name = "node-" + "-".join(f"{i:04}" for i in range(14))
    document["nodes"][0]["name"] = name
    text = rendered(show_status(document), width)
    lines = section(text, "Nodes")
    column = lines[0].index("status")
    assert name in "".join(line[:column].strip() for line in lines[1:])


def test_without_colours_it_says_the_same(document):
    document["problems"] = [{"object": "x", "reason": "y"}]
    document["nodes"][1]["status"] = "offline"
    plain, coloured = (rendered(show_status(document), 120, terminal) for terminal in (False, True))
    assert "\x1b" not in plain
    assert "\x1b" in coloured
    assert [line.rstrip() for line in PAINT.sub("", coloured).splitlines()] == plain.splitlines()


def test_names_are_text_and_no_markup(document):
    document["realms"][0]["name"] = "[bold]x[/bold]"
    document["problems"] = [{"object": "[red]", "reason": ":warning: [/]"}]
    text = rendered(show_status(document), 160)
    assert "[bold]x[/bold]" in text
    assert "[red]: :warning: [/]" in text


def test_a_master_that_has_nothing_yet(document):
    for key in ("nodes", "groups", "realms", "webclusters", "workers"):
        document[key] = []
    lines = rendered(show_status(document), 80).splitlines()
    assert lines[0] == "converged: 0 nodes, 0 realms, 0 workers, all as configured"
    sections = ("Nodes", "Realms", "Web clusters", "Placements", "Workers", "Routes")
    assert [line for line in lines if line.endswith("none")] == [f"{title}: none" for title in sections]


def test_placements_that_are_missing_are_shown(document):
    document["groups"][0]["scale"] = 3
    document["groups"][1] |= {"scale": 0, "placements": []}
    lines = [line.split() for line in section(rendered(show_placements(document["groups"]), 160), "Placements")]
    assert lines[1:] == [
        words("group_realm1 routers 3 group_realm1_1 crossbar-router-realm1-0"),
        words("group_realm1 routers 3 2 not placed -"),
        words("group_realm2 routers 0 - -"),
    ]


def test_changes_of_placements_are_a_line_each():
    changes = [
        {"group": "g", "worker": "g_1", "what": "moved", "from_node": "router1", "to_node": "router2"},
        {"group": "g", "worker": "g_2", "what": "placed", "from_node": None, "to_node": "router3"},
        {"group": "g", "worker": "g_3", "what": "removed", "from_node": "router1", "to_node": None},
    ]
    assert rendered(show_changes(changes), 80).splitlines() == [
        "g_1 of group g: moved from router1 to router2",
        "g_2 of group g: placed on router3",
        "g_3 of group g: removed from router1",
    ]


def test_it_shows_the_master_s_key_and_how_nodes_know_it():
    nodes = [dict(node) for node in CONVERGED["nodes"]]
    for node, known_by in zip(nodes, ("file", "pairing token", "file", None), strict=True):
        node["knows_master_by"] = known_by
    shown = rendered(show_status(CONVERGED | {"master": CONVERGED["master"] | {"key": "ef" * 32}, "nodes": nodes}), 200)
    assert f"public key {'ef' * 32}" in shown
    assert "nodes know it by: file (2), pairing token (1); 1 demand no proof of it" in shown
    assert "know it by" not in rendered(show_status(CONVERGED), 200), "a master of a version before does not tell"
