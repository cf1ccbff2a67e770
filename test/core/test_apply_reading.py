"""What `crossbar-cluster apply` reads: the whole file or none of it, and every problem with its place."""

import json
from pathlib import Path

import pytest
import yaml

from crossbar_cluster.operator.apply.model import Endpoint, Limits, Permission, Place, Realm
from crossbar_cluster.operator.apply.reading import Description, Invalid, Pending, json_schema, read, resolve

EXAMPLE = Path(__file__).parents[2] / "examples" / "cluster.yaml"
ALL = frozenset({"call", "register", "publish", "subscribe"})

FRAME = """\
roles: {anonymous: [{uri: "", match: prefix, allow: all}]}
realms: {realm1: {roles: [anonymous], workergroup: group1, webcluster: web}}
routerclusters: {routers: {nodes: [router1], workergroups: {group1: {scale: 1}}}}
webclusters: {web: {port: 8080, nodes: [proxy1], services: {ws: {type: websocket}}}}
"""


def problems(text: str) -> list[tuple[int, int, str]]:
    with pytest.raises(Invalid) as raised:
        read(text)
    return [(p.line, p.column, p.message) for p in raised.value.problems]


def test_the_example():
    described = read(EXAMPLE.read_text())
    assert described.roles["anonymous"] == {"": Permission("prefix", ALL)}
    report = Permission("exact", frozenset({"call"}), frozenset({"caller"}), True)
    assert described.roles["reader"]["com.example.report"] == report
    assert described.realms["realm2"] == Realm(frozenset({"anonymous", "reader"}), Place("routers", "group2", "web"))
    assert described.routerclusters["routers"].nodes == {"router1": Limits(), "router2": Limits()}
    assert described.routerclusters["routers"].groups == {"group1": 2, "group2": 1}
    assert described.webclusters["web"].endpoint == Endpoint(8080, True)
    assert described.webclusters["web"].nodes == {"proxy*": 1}
    assert described.webclusters["web"].services["ws"] == '{"type": "websocket"}'
    assert len(EXAMPLE.read_text().splitlines()) <= 40
    assert f"```yaml\n{EXAMPLE.read_text()}```" in (EXAMPLE.parents[1] / "README.md").read_text()


def test_each_part_may_be_missing_or_empty():
    assert read("roles: {}") == Description()
    assert read("roles:\nrealms:\nrouterclusters: {abc: }\n").routerclusters["abc"].groups == {}
    assert read("roles: {guest: }").roles == {"guest": {}}


def test_limits_and_settings_of_nodes():
    text = FRAME.replace("[router1]", "{router1: {softlimit: 2, hardlimit: 4}, router*: }")
    assert read(text).routerclusters["routers"].nodes == {"router1": Limits(2, 4), "router*": Limits()}


@pytest.mark.parametrize(
    ("was", "now", "message"),
    [
        ("port: 8080", "@prt: 8080, port: 1", "has no key prt"),
        ("port: 8080", "@prt: 8080, port: 1", "did you mean port?"),
        ("{port: 8080, ", "@{", "a web cluster has no port"),
        ("port: 8080", "port: @'8080'", "a whole number from 1 to 65535, but this is text (8080)"),
        ("port: 8080", "port: @80800", "a whole number from 1 to 65535"),
        ("port: 8080", "port: @true", "but this is true or false (true)"),
        ("port: 8080", "port: 8080, shared: @1", "shared has to be true or false"),
        ("scale: 1", "scale: @0", "scale has to be a whole number from 1 to 128"),
        ("scale: 1", "scale: @[1]", "but this is a list"),
        ("match: prefix", "match: @prefx", "did you mean prefix?"),
        ("allow: all", "allow: [call, @cal]", "did you mean call?"),
        ("allow: all", "allow: [call, @call]", "call is here a second time"),
        ("allow: all", "allow: @everything", "or the word all"),
        ('{uri: "", ', "@{", "a permission has no uri"),
        ('uri: ""', "uri: @a b", "a URI has to be something without spaces"),
        ('uri: ""', "uri: @5", "has to be text, but this is a number (5): put it in quotes"),
        ("roles: [anonymous]", "roles: [@anonymus]", "no role anonymus in this file"),
        ("roles: [anonymous]", "roles: [@anonymus]", "did you mean anonymous?"),
        ("roles: [anonymous]", "roles: @{anonymous: {authmethod: anonymous}}", "`auth` of a web service"),
        ("group: group1", "group: @group2", "no worker group group2 in this file: described are group1"),
        ("webcluster: web", "webcluster: @wab", "no web cluster wab in this file"),
        ("{web: {", "{@Web: {", "3 to 64 small letters, digits and underscores"),
        ("{ws: {", "{@/ws: {", "without a slash"),
        ("type: websocket", "type: @websockt", "did you mean websocket?"),
        ("{type: websocket", "@{typ: websocket", "a web service has no type"),
        ("type: websocket", "type: websocket, auth: @2001-01-01", "this is a date (2001-01-01)"),
        ("type: websocket", "type: websocket, auth: @!env X", "something tagged !env"),
        ("type: websocket", "type: websocket, auth: @&a [*a]", "this contains itself"),
        ("[router1]", "[router1, @router1]", "router1 is here a second time"),
        ("[router1]", "@router1", "a list of names, or a mapping"),
        ("[proxy1]", "{proxy1: {@paralel: 2}}", "did you mean parallel?"),
        ("[proxy1]", "{@proxy1: {parallel: 2}}, shared: false", "shared: true"),
        ("{realm1: {", "{realm1: 5, @realm1: {", "a second time: the first is in line 2"),
        ("{realm1: {", "{@[1]: {", "a key has to be text"),
    ],
)
def test_a_problem_is_told_with_its_place(was, now, message):
    """:param now: what stands in the file instead, with an @ before the place."""
    assert was in FRAME
    text = FRAME.replace(was, now)
    lines = text[: text.index("@")].splitlines()
    found = problems(text.replace("@", ""))
    place = (len(lines), len(lines[-1]) + 1)
    assert [said for line, column, said in found if (line, column) == place and message in said], found


def test_all_problems_are_told_at_once_in_the_order_of_the_file():
    text = FRAME.replace("scale: 1", "scale: x").replace("match: prefix", "match: x").replace("8080", "x")
    assert [line for line, _, _ in problems(text)] == [1, 3, 4]
    dangling = FRAME.replace("roles: [anonymous]", "roles: [x, y]").replace("webcluster: web", "webcluster: z")
    assert [message.split(" in this")[0] for _, _, message in problems(dangling)] == [
        "there is no role x", "there is no role y", "there is no web cluster z",
    ]  # fmt: skip


def test_one_permission_a_uri():
    text = "roles:\n  guest:\n  - {uri: a}\n  - {uri: a, match: prefix}\n"
    assert problems(text) == [(4, 11, "the role has a permission for 'a' already: one a URI is kept")]


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
def test_a_file_without_anything(text):
    assert problems(text) == [(1, 1, "the file describes nothing")]


@pytest.mark.parametrize(
    ("text", "place"),
    [("roles: [", (1, 9)), ("a: b: c", (1, 5)), ("roles: {}\n\tx: 1", (2, 1)), ("a: 1\n---\nb: 2", (2, 1))],
)
def test_what_is_no_yaml(text, place):
    ((line, column, message),) = problems(text)
    assert (line, column) == place
    assert "not YAML" in message


def test_what_is_no_text():
    ((_, _, message),) = problems("a: \x07")
    assert "not YAML" in message


def test_a_worker_group_of_a_name_that_several_clusters_have():
    text = FRAME.replace("{routers: {", "{others: {workergroups: {group1: }}, routers: {")
    assert problems(text) == [
        (2, 52, "several router clusters have a worker group group1: write others/group1 or routers/group1")
    ]
    place = read(text.replace("workergroup: group1", "workergroup: others/group1")).realms["realm1"].place
    assert place == Place("others", "group1", "web")


def test_what_names_mean_depends_on_the_nodes_that_are_paired():
    described = read(
        FRAME.replace("[router1]", "{router*: {hardlimit: 1}, router1: {hardlimit: 2}, 'r?': }").replace(
            "[proxy1]", "{proxy1: , proxy-*: {parallel: 2}}"
        )
    )
    desired, pending = resolve(described, {"router1", "router2", "r1", "proxy1", "other"})
    assert desired.routerclusters["routers"].nodes == {
        "router1": Limits(None, 2),
        "router2": Limits(None, 1),
        "r1": Limits(),
    }
    assert desired.webclusters["web"].nodes == {"proxy1": 1}
    assert pending == (Pending("node proxy-* of web cluster web", "matches no node that is paired"),)
    assert desired.realms["realm1"].place == Place("routers", "group1", "web")


def test_a_realm_waits_for_a_router_and_a_proxy():
    described = read(FRAME)
    desired, pending = resolve(described, {"router1"})
    assert desired.realms["realm1"].place is None
    assert pending == (
        Pending("node proxy1 of web cluster web", "is not paired yet"),
        Pending("start of realm realm1", "no node yet in web cluster web"),
    )
    desired, pending = resolve(described, {"router1", "proxy1"})
    assert desired.realms["realm1"].place == Place("routers", "group1", "web")
    assert pending == ()
    unsaid = read(FRAME.replace("nodes: [router1], ", "").replace("nodes: [proxy1], ", ""))
    assert resolve(unsaid, ())[0].realms["realm1"].place, "nodes are somebody else's business"


def test_the_schema_agrees_with_the_example_and_refuses_what_reading_refuses():
    jsonschema = pytest.importorskip("jsonschema")
    schema = json_schema()
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    validator.validate(yaml.safe_load(EXAMPLE.read_text()))
    for was, now in (("port: 8080", "prt: 1, port: 1"), ("scale: 1", "scale: 0"), ("{web: {", "{Web: {"), ("all", "x")):
        assert not validator.is_valid(yaml.safe_load(FRAME.replace(was, now))), now
    assert json.loads(json.dumps(schema)) == schema


def test_limits_of_a_web_services_clients():
    services = "{ws: {type: websocket, limits: {unsent_bytes: 20000000, calls: 5}}}"
    described = read(f"webclusters: {{web: {{port: 8080, nodes: [proxy1], services: {services}}}}}")
    assert '"limits": {"calls": 5, "unsent_bytes": 20000000}' in described.webclusters["web"].services["ws"]


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        ("{call: 5}", "limits has no key call: known are unsent_bytes"),
        ("{calls: 0}", "calls has to be a whole number from 1"),
        ("{calls: many}", "calls has to be a whole number from 1"),
        ("5", "limits has to be a mapping"),
    ],
)
def test_limits_that_make_no_sense(limits, why):
    services = f"{{ws: {{type: websocket, limits: {limits}}}}}"
    with pytest.raises(Invalid) as raised:
        read(f"webclusters: {{web: {{port: 8080, nodes: [proxy1], services: {services}}}}}")
    assert why in raised.value.problems[0].message
