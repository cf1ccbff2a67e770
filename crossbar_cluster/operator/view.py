"""The state of a cluster as text: the verdict first, then what the cluster consists of, in tables.

Pure: a document in, something for rich to print out. Nothing is ever cut: what is too wide is folded. Colours only
repeat what the words say.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from crossbar_cluster.operator.document import Connection, Node, PlacementChange, Status, Worker
from crossbar_cluster.operator.document import Group as WorkerGroup

#: A row of a table: what stands in its columns.
Row = Sequence[str | Text]

_COLOURS = {
    **dict.fromkeys(("online", "converged", "RUNNING"), "green"),
    **dict.fromkeys(("changed", "waiting", "unknown", "STARTING", "STOPPING"), "yellow"),
    **dict.fromkeys(("offline", "failed"), "red"),
}
_NOTHING = "-"
_NOT_KNOWN = "not known"

#: Columns that keep to one line: names and addresses give way where the terminal is narrow.
_SHORT = frozenset({"status", "since", "changed", "wanted", "kind", "state"})


def ago(then_ns: int | None, now_ns: int) -> str:
    """How long ago that was: ``3 min ago``; ``-`` for None."""
    return _NOTHING if then_ns is None else f"{duration((now_ns - then_ns) / 1e9)} ago"


def duration(seconds: float) -> str:
    """``seconds`` in the largest unit that fits, rounded down: ``59 s``, ``3 min``, ``5 h``, ``2 days``."""
    whole = max(0, int(seconds))
    for unit, length_s in (("day", 86400), ("h", 3600), ("min", 60)):
        if whole >= length_s:
            count = whole // length_s
            return f"{count} {unit}{'s' if unit == 'day' and count > 1 else ''}"
    return f"{whole} s"


def is_converged(status: Status) -> bool:
    """Whether the cluster is as it is configured."""
    return not status["problems"]


def show_status(status: Status) -> RenderableType:
    """Everything, in one look."""
    sections = [
        _verdict(status),
        _master(status),
        _section("Nodes", ("name", "status", "since", "address", "changed"), _nodes(status)),
        _section("Realms", ("name", "status", "worker group", "web cluster"), _realms(status)),
        _section("Web clusters", ("name", "status", "nodes"), _webclusters(status)),
        show_placements(status["groups"]),
        _section("Workers", ("node", "worker", "kind", "state", "since", "serves"), _workers(status)),
        _routes(status),
    ]
    return Group(*(Padding(section, (0, 0, 1, 0), expand=False) for section in sections[:-1]), sections[-1])


def show_placements(groups: Iterable[WorkerGroup]) -> RenderableType:
    """Which node each router worker is placed on."""
    return _section("Placements", ("group", "of cluster", "wanted", "worker", "node"), _placements(groups))


def show_changes(changes: Iterable[PlacementChange]) -> Text:
    """What became of placements, one line each."""
    return Text("\n").join(Text(_change(change)) for change in changes)


def _change(change: PlacementChange) -> str:
    what = f"{change['worker']} of group {change['group']}: {change['what']}"
    source, target = change["from_node"], change["to_node"]
    if source and target:
        return f"{what} from {source} to {target}"
    return f"{what} on {target}" if target else f"{what} from {source}"


def _verdict(status: Status) -> RenderableType:
    if is_converged(status):
        counts = ", ".join(
            f"{len(things)} {name}{'' if len(things) == 1 else 's'}"
            for name, things in (("node", status["nodes"]), ("realm", status["realms"]), ("worker", status["workers"]))
        )
        return Text.assemble(("converged", "bold green"), f": {counts}, all as configured")
    problems = [_indented(f"{problem['object']}: {problem['reason']}") for problem in status["problems"]]
    return Group(Text("not converged", "bold red"), *problems)


def _master(status: Status) -> RenderableType:
    master = status["master"]
    key = master.get("key")
    return Group(
        Text("Master", "bold"),
        *([_indented(f"public key {key}"), _indented(_known_by(status["nodes"]))] if key else ()),
        _indented(f"management realm {master['realm']}, up for {duration((status['now'] - master['started']) / 1e9)}"),
        _indented(f"crossbar {master['crossbar']}, crossbar-cluster {master['crossbar_cluster']}"),
        _indented(f"{master['passes']} passes, {master['calls']} calls to nodes, {master['failures']} failed"),
    )


def _known_by(nodes: Iterable[Node]) -> str:
    """How many of the nodes that are there demand the master's proof, and where they have its key from."""
    known = Counter(node.get("knows_master_by") or "" for node in nodes if node["status"] == "online")
    without = known.pop("", 0)
    sources = ", ".join(f"{source} ({count})" for source, count in sorted(known.items()))
    return f"nodes know it by: {sources or _NOTHING}" + (f"; {without} demand no proof of it" if without else "")


def _indented(line: RenderableType, by: int = 2) -> RenderableType:
    return Padding(Text(line) if isinstance(line, str) else line, (0, 0, 0, by), expand=False)


def _section(title: str, columns: Sequence[str], rows: Iterable[Row]) -> RenderableType:
    """A table with a title; a line that says ``none`` when it has no rows."""
    rows = list(rows)
    if not rows:
        return Text.assemble((title, "bold"), ": none")
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in _SHORT)
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(cell, _COLOURS.get(cell, "")) for cell in row))
    return Group(Text(title, "bold"), _indented(table))


def _nodes(status: Status) -> Iterator[Row]:
    now = status["now"]
    for node in status["nodes"]:
        yield (
            node["name"],
            node["status"],
            ago(node["since"], now),
            _address(node),
            ago(node["address_since"], now),
        )


def _address(node: Node) -> str:
    """The address on record; where it is from, unless the node's environment says it, as it should."""
    if not node["address"]:
        return _NOTHING
    source = node["address_source"]
    return node["address"] if source == "environment" else f"{node['address']} ({source or 'source unknown'})"


def _realms(status: Status) -> Iterator[Row]:
    for realm in status["realms"]:
        yield realm["name"], realm["status"], realm["group"] or _NOTHING, realm["webcluster"] or _NOTHING


def _webclusters(status: Status) -> Iterator[Row]:
    for cluster in status["webclusters"]:
        yield cluster["name"], cluster["status"], ", ".join(cluster["nodes"]) or _NOTHING


def _placements(groups: Iterable[WorkerGroup]) -> Iterator[Row]:
    for group in groups:
        head: Row = (group["group"], group["cluster"], str(group["scale"]))
        for placement in group["placements"]:
            yield *head, placement["worker"], placement["node"]
        if not group["scale"] and not group["placements"]:
            yield *head, _NOTHING, _NOTHING
        missing = group["scale"] - len(group["placements"])
        if missing > 0:
            yield *head, Text(f"{missing} not placed", "yellow"), _NOTHING


def _workers(status: Status) -> Iterator[Row]:
    told = {problem["reason"] for problem in status["problems"]}
    for worker in status["workers"]:
        serves = _serves(worker)
        if worker["reason"] and worker["reason"] not in told:
            serves = f"{serves}\n{worker['reason']}"
        if met := worker.get("limits_met"):
            serves = f"{serves}\nclients met limits: {', '.join(f'{limit} ({n})' for limit, n in sorted(met.items()))}"
        yield (
            worker["node"],
            worker["worker"],
            worker["kind"],
            worker["state"],
            ago(worker["since"], status["now"]),
            serves,
        )


def _serves(worker: Worker) -> str:
    if not _is_observed(worker):
        return _NOT_KNOWN
    if worker["kind"] == "router":
        port = worker.get("port")
        realms = ", ".join(worker.get("realms", ())) or "no realm"
        links = len(worker.get("links", ()))
        linked = f", linked with {links} router{'' if links == 1 else 's'}" if links else ""
        return f"{realms}, port {port}{linked}" if port else f"{realms}, not listening"
    services = worker.get("services", ())
    paths = ", ".join(service if service.startswith("/") else f"/{service}" for service in services) or "no service"
    room = worker.get("most_clients")
    return paths if room is None else f"{paths}, room for {room} clients"


def _is_observed(worker: Worker) -> bool:
    """Whether the master has seen what is in it, or only knows that it is to be there."""
    return "realms" in worker or "routes" in worker


def _routes(status: Status) -> RenderableType:
    """Where the proxies send clients. Proxies that do the same, as they mostly do, are shown once."""
    alike: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for worker in status["workers"]:
        if worker["kind"] == "proxy":
            alike[tuple(_route_lines(worker))].append(f"{worker['node']}/{worker['worker']}")
    if not alike:
        return Text.assemble(("Routes", "bold"), ": none")
    lines: list[RenderableType] = [Text("Routes", "bold")]
    for routes, proxies in alike.items():
        lines.append(_indented(", ".join(proxies)))
        lines += [_indented(line, 4) for line in routes or ("none",)]
    return Group(*lines)


def _route_lines(worker: Worker) -> Iterator[str]:
    """``realm (roles) -> host:port (connection)``, and connections that no route uses."""
    if not _is_observed(worker):
        yield _NOT_KNOWN
        return
    connections = {connection["id"]: connection for connection in worker.get("connections", ())}
    used = set()
    for route in sorted(worker.get("routes", ()), key=lambda route: route["realm"]):
        roles: dict[str, list[str]] = defaultdict(list)
        for role, connection_id in sorted(route["roles"].items()):
            roles[connection_id].append(role)
        for connection_id, served in roles.items():
            used.add(connection_id)
            yield f"{route['realm']} ({', '.join(served)}) -> {_where(connections, connection_id)}"
    for connection_id in connections:
        if connection_id not in used:
            yield f"no route -> {_where(connections, connection_id)}"


def _where(connections: dict[str, Connection], connection_id: str) -> str:
    connection = connections.get(connection_id)
    if connection is None:
        return f"nowhere ({connection_id}, which does not exist)"
    host = f"[{connection['host']}]" if ":" in connection["host"] else connection["host"]
    return f"{host}:{connection['port']} ({connection_id})"
