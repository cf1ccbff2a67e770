"""What is measured, and the numbers of this process: plain counters, which the node's controller collects.

`CATALOG` is all that a node exposes; README.md has the same as a table. Workers count here and know nothing of
Prometheus: how it is written down is `crossbar_cluster.health.exposition`'s.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["counter", "gauge", "histogram"]
Place = Literal["master", "router", "proxy"]
Values = tuple[str, ...]  # of labels
#: What a process tells: name -> values of its labels, and a number; for a histogram a count for each bucket, and the
#: sum.
Collected = dict[str, list[list[Any]]]

PREFIX = "crossbar_cluster_"
ALL: tuple[Place, ...] = ("master", "router", "proxy")


@dataclass(frozen=True)
class Metric:
    """Something that is measured."""

    name: str
    kind: Kind
    help: str
    places: tuple[Place, ...]  #: kinds of nodes that expose it
    labels: tuple[str, ...] = ()  #: without `worker`
    of_worker: bool = True  #: measured in a worker, which the label `worker` names
    buckets: tuple[float, ...] = ()  #: upper bounds, without infinity
    begins: tuple[Values, ...] = ()  #: values of labels that are there, at zero, before anything has happened

    @property
    def all_labels(self) -> tuple[str, ...]:
        """Labels as they are exposed."""
        return (*self.labels, "worker") if self.of_worker else self.labels


def _each(*values: str) -> tuple[Values, ...]:
    return tuple((value,) for value in values)


_OUTCOMES = ("converged", "changed", "waiting", "failed")
_KINDS = ("router", "proxy", "plane")

# -- of every node's controller ---------------------------------------------------------------------------------------

BUILD_INFO = Metric(
    f"{PREFIX}build_info",
    "gauge",
    "Always 1: what the node runs, in its labels.",
    ALL,
    ("version", "crossbar", "python"),
    of_worker=False,
)
WORKER_UP = Metric(
    f"{PREFIX}worker_up",
    "gauge",
    "1: the worker has answered in time; 0: it has not, and nothing of it is in this scrape.",
    ALL,
    ("worker", "type"),
    of_worker=False,
)
UPLINK_UP = Metric(
    f"{PREFIX}uplink_up",
    "gauge",
    "1: the node has a session on its master.",
    ("router", "proxy"),
    of_worker=False,
)
UPLINK_CONNECTS = Metric(
    f"{PREFIX}uplink_connects_total",
    "counter",
    "Times that the node has joined its master.",
    ("router", "proxy"),
    of_worker=False,
    begins=((),),
)

UPLINK_IMPOSTORS = Metric(
    f"{PREFIX}uplink_impostors_total",
    "counter",
    "Times that whoever answered at its master's address did not prove to be its master.",
    ("router", "proxy"),
    of_worker=False,
    begins=((),),
)

# -- of every process -------------------------------------------------------------------------------------------------

LOOP_LATE = Metric(
    f"{PREFIX}event_loop_late_seconds",
    "histogram",
    "How late the process's event loop was, asked four times a second: nothing else is done meanwhile.",
    ALL,
    buckets=(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
    begins=((),),
)
DESCRIPTORS = Metric(f"{PREFIX}descriptors", "gauge", "File descriptors that the process has open.", ALL)
DESCRIPTORS_LIMIT = Metric(f"{PREFIX}descriptors_limit", "gauge", "File descriptors that it can have open.", ALL)
OWN_TROUBLES = Metric(
    f"{PREFIX}own_troubles_total",
    "counter",
    "Times that a connection did not come about for a reason of the process or its host, which nobody else is blamed "
    "for, by cause: descriptors, ports, memory, filter, names, loop (its own was late) or all_backends (all at once).",
    ALL,
    ("cause",),
    begins=_each("descriptors", "ports", "memory", "filter", "names", "loop", "all_backends"),
)
CONNECTIONS_REFUSED = Metric(
    f"{PREFIX}connections_refused_total",
    "counter",
    "Connections that were closed when they came because file descriptors ran short.",
    ALL,
    begins=((),),
)

# -- of the master's workers ------------------------------------------------------------------------------------------

NODES = Metric(
    f"{PREFIX}nodes",
    "gauge",
    "Nodes that are paired, by status: online, offline, or gone (paired by a token, away, and to be forgotten).",
    ("master",),
    ("mrealm", "status"),
)
PLACEMENTS = Metric(
    f"{PREFIX}placements", "gauge", "Router workers that have been given a node.", ("master",), ("mrealm",)
)
PLACEMENTS_MISSING = Metric(
    f"{PREFIX}placements_missing", "gauge", "Router workers for which there is no node.", ("master",), ("mrealm",)
)
PROBLEMS = Metric(
    f"{PREFIX}problems",
    "gauge",
    "What is not as configured: 0 means that the management realm is converged.",
    ("master",),
    ("mrealm",),
)
ADDRESS_CHANGES = Metric(
    f"{PREFIX}node_address_changes_total",
    "counter",
    "Times that the address on record of a node was replaced by another one.",
    ("master",),
    begins=((),),
)
CLAIMS_REJECTED = Metric(
    f"{PREFIX}node_claims_rejected_total",
    "counter",
    "Logins as a node that were not believed, by reason: invalid_address (let in, its record stays), unproven (wrong "
    "signature) or not_entitled (to be paired by its token).",
    ("master",),
    ("reason",),
    begins=_each("invalid_address", "unproven", "not_entitled"),
)
PASSES = Metric(
    f"{PREFIX}reconcile_passes_total",
    "counter",
    "Passes of reconcilers, by kind (router, proxy: of a worker; plane: the control plane's own) and outcome "
    "(converged, changed, waiting, failed).",
    ("master",),
    ("kind", "outcome"),
    begins=tuple((kind, outcome) for kind in _KINDS for outcome in _OUTCOMES),
)
PASS_DURATION = Metric(
    f"{PREFIX}reconcile_pass_duration_seconds",
    "histogram",
    "How long passes of reconcilers took.",
    ("master",),
    ("kind",),
    buckets=(0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0),
    begins=_each(*_KINDS),
)
CALLS = Metric(
    f"{PREFIX}management_calls_total", "counter", "Calls of the master to nodes and workers.", ("master",), begins=((),)
)
CALLS_FAILED = Metric(
    f"{PREFIX}management_calls_failed_total",
    "counter",
    "Those of them that were refused, or not answered in time.",
    ("master",),
    begins=((),),
)

DATABASE_USED = Metric(
    f"{PREFIX}database_used_ratio",
    "gauge",
    "How much of a database of the master is used, from 0 to 1: that of the management realm, or the global one. Logs "
    "of heartbeats leave half of it free.",
    ("master",),
    ("mrealm", "database"),
)
DROPPED_OF_NODES = Metric(
    f"{PREFIX}node_messages_dropped_total",
    "counter",
    "Messages of nodes that were too many and have been dropped, by what they were.",
    ("master",),
    ("kind",),
    begins=_each("heartbeats", "events", "log lines", "registrations", "calls", "bytes"),
)
NODES_LIMITED = Metric(
    f"{PREFIX}nodes_limited",
    "gauge",
    "Nodes that have sent more than their master takes, within the last minute.",
    ("master",),
    ("mrealm",),
)

# -- of proxy workers -------------------------------------------------------------------------------------------------

BACKENDS = Metric(
    f"{PREFIX}backends",
    "gauge",
    "Router workers that clients are sent to, by state: up, suspect, connecting or draining.",
    ("proxy",),
    ("state",),
)
BACKEND_CLIENTS = Metric(
    f"{PREFIX}backend_clients", "gauge", "Sessions of clients, by the backend they are on.", ("proxy",), ("backend",)
)
JOINS = Metric(
    f"{PREFIX}joins_total",
    "counter",
    "Clients that have asked for a session, by outcome: joined, refused (by the routers), unavailable (no router), "
    "left (before there was an answer) or failed (a bug).",
    ("proxy",),
    ("outcome",),
    begins=_each("joined", "refused", "unavailable", "left", "failed"),
)
JOIN_DURATION = Metric(
    f"{PREFIX}join_duration_seconds",
    "histogram",
    "How long clients that were let in waited for a router.",
    ("proxy",),
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
    begins=((),),
)
SESSIONS_LOST = Metric(
    f"{PREFIX}sessions_lost_total",
    "counter",
    "Sessions of clients that were lost with their backend, or closed by it: the clients were told to come back.",
    ("proxy",),
    begins=((),),
)

# -- of the ports of workers ------------------------------------------------------------------------------------------

NEWCOMERS_CLOSED = Metric(
    f"{PREFIX}newcomers_closed_total",
    "counter",
    "Connections that were closed because they had no session, by port (client, inner, master) and reason: too_late, "
    "or too_many (the oldest gives way).",
    ALL,
    ("port", "reason"),
    begins=tuple((port, reason) for port in ("client", "inner", "master") for reason in ("too_late", "too_many")),
)
LIMITS_MET = Metric(
    f"{PREFIX}limits_met_total",
    "counter",
    "Times that a client met a limit of its connection: unsent_bytes (closed: it does not read), messages_per_s (read "
    "later), leave_within_s (closed: it was told to go).",
    ("proxy",),
    ("limit",),
    begins=_each("unsent_bytes", "messages_per_s", "leave_within_s"),
)

# -- of router workers ------------------------------------------------------------------------------------------------

SESSIONS = Metric(
    f"{PREFIX}sessions",
    "gauge",
    "Sessions on a router worker, by realm: of clients; on the master of nodes and users.",
    ("router", "master"),
    ("realm",),
)
LINKS = Metric(
    f"{PREFIX}links",
    "gauge",
    "Links that lead to other routers of a realm, by state: up or down.",
    ("router",),
    ("realm", "state"),
)
LINK_LOSSES = Metric(
    f"{PREFIX}link_losses_total", "counter", "Links that were up and have been lost.", ("router",), begins=((),)
)
LINK_DISAGREEMENTS = Metric(
    f"{PREFIX}link_disagreements_total",
    "counter",
    "Times that two routers did not agree on what one holds for the other: their link was made anew.",
    ("router",),
    begins=((),),
)
LIMIT_REFUSALS = Metric(
    f"{PREFIX}limit_refusals_total",
    "counter",
    "Requests of clients that were refused because of a limit: subscriptions, registrations or calls (of the client), "
    "realm_subscriptions or realm_registrations (of its realm on this router).",
    ("router",),
    ("limit",),
    begins=_each("subscriptions", "registrations", "calls", "realm_subscriptions", "realm_registrations"),
)
PROTOCOL_VIOLATIONS = Metric(
    f"{PREFIX}protocol_violations_total",
    "counter",
    "Clients that were thrown out because they used a request id again that was in flight.",
    ("router",),
    begins=((),),
)
UNREAD_ENDED = Metric(
    f"{PREFIX}unread_sessions_ended_total",
    "counter",
    "Sessions that were ended because too much waited for them, by kind: client (its proxy does not read) or link.",
    ("router",),
    ("kind",),
    begins=_each("client", "link"),
)

CATALOG: Mapping[str, Metric] = {
    metric.name: metric for metric in list(globals().values()) if isinstance(metric, Metric)
}


class Metrics:
    """Counters and histograms of a process, and the gauges that it is told of when they are collected."""

    def __init__(self) -> None:
        self._counts: dict[Metric, dict[Values, float]] = {}
        self._measured: dict[Metric, dict[Values, list[float]]] = {}  #: a count for each bucket, infinity, the sum

    def begin(self, *metrics: Metric) -> None:
        """Have these at zero before anything has happened: a rate needs a number to begin from."""
        for metric in metrics:
            for values in metric.begins:
                if metric.kind == "histogram":
                    self._series(metric, values)
                else:
                    self._counts.setdefault(metric, {}).setdefault(values, 0)

    def count(self, metric: Metric, *values: str) -> None:
        """It has happened once more. :param values: of its labels."""
        series = self._counts.setdefault(metric, {})
        series[values] = series.get(values, 0) + 1

    def observe(self, metric: Metric, measured: float, *values: str) -> None:
        """Take a measurement. :param values: of its labels."""
        series = self._series(metric, values)
        series[bisect_left(metric.buckets, measured)] += 1
        series[-1] += measured

    def _series(self, metric: Metric, values: Values) -> list[float]:
        return self._measured.setdefault(metric, {}).setdefault(values, [0.0] * (len(metric.buckets) + 2))

    def counted(self, *metrics: Metric) -> dict[str, int]:
        """What has happened of these, since this process began: values of labels, with spaces between -> times."""
        series = (item for metric in metrics for item in self._counts.get(metric, {}).items())
        return {" ".join(values): int(number) for values, number in series if number}

    def collect(self, gauges: Iterable[tuple[Metric, Mapping[Values, float]]] = ()) -> Collected:
        """All numbers, as WAMP can carry them."""
        found: Collected = {}
        for metric, numbers in (*self._counts.items(), *gauges):
            found[metric.name] = [[list(values), number] for values, number in numbers.items()]
        for metric, measured in self._measured.items():
            found[metric.name] = [[list(values), list(series)] for values, series in measured.items()]
        return found


#: Of this process.
METRICS = Metrics()
