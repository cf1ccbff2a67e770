"""How workers are asked, how numbers are written, and where a node listens for probes. Time is in the test's hands."""

from types import SimpleNamespace

import pytest
from autobahn.wamp.exception import ApplicationError
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as text_format
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.web.test.requesthelper import DummyRequest

from crossbar_cluster.core.metrics import BACKENDS, JOIN_DURATION, JOINS, UPLINK_UP, Metrics
from crossbar_cluster.health.exposition import exposition
from crossbar_cluster.health.server import RETRY_S, HealthServer, Response
from crossbar_cluster.health.workers import ANSWER_WITHIN_S, WorkerCalls


class Controller:
    """A node with workers that answer when the test says so."""

    def __init__(self, **workers: str) -> None:
        self._workers = {name: SimpleNamespace(TYPE="router", status=status) for name, status in workers.items()}
        self.called: list[tuple[str, Deferred]] = []

    def call(self, procedure):
        self.called.append((procedure, Deferred()))
        return self.called[-1][1]


def asked(calls, procedure="get_cluster_health"):
    """Ask, and collect what comes."""
    answers: list = []
    Deferred.fromCoroutine(calls.ask(procedure)).addCallbacks(answers.extend, answers.append)
    return answers


def test_all_are_asked_at_once_and_one_that_is_silent_is_told_as_such_in_time():
    controller, clock = Controller(a="started", b="started", c="starting"), Clock()
    answers = asked(WorkerCalls(controller, clock))
    assert [name for name, _ in controller.called] == [f"crossbar.worker.{w}.get_cluster_health" for w in "ab"]
    controller.called[0][1].callback({"x": 1})
    clock.advance(ANSWER_WITHIN_S - 0.1)
    assert not answers
    clock.advance(0.2)
    assert [(a.name, a.value, a.problem) for a in answers] == [
        ("a", {"x": 1}, ""),
        ("b", None, "does not answer within 2 s"),
        ("c", None, "is starting"),
    ]
    assert not clock.getDelayedCalls()


def test_a_silent_worker_has_one_call_waiting_for_it_however_often_it_is_asked():
    controller, clock = Controller(a="started"), Clock()
    calls = WorkerCalls(controller, clock)
    for _ in range(100):
        answers = asked(calls)
        clock.advance(ANSWER_WITHIN_S + 1)
        assert answers[0].value is None
    assert len(controller.called) == 1
    last = [asked(calls), asked(calls)]
    controller.called[0][1].callback({"x": 1})
    assert [answers[0].value for answers in last] == [{"x": 1}] * 2, "it goes on, and all who wait are told"
    assert asked(calls) == [] and len(controller.called) == 2, "who asks later asks anew"


def test_what_a_worker_refuses_is_told():
    controller = Controller(a="started")
    answers = asked(WorkerCalls(controller, Clock()))
    controller.called[0][1].errback(ApplicationError("wamp.error.no_such_procedure", "no such thing"))
    assert "wamp.error.no_such_procedure" in answers[0].problem and answers[0].value is None


def test_a_node_without_workers_has_asked_them_all():
    assert asked(WorkerCalls(Controller(), Clock())) == []


@pytest.mark.parametrize(
    ("accept", "parse"),
    [("", text_format), ("application/openmetrics-text; version=1.0.0", openmetrics)],
    ids=["text", "OpenMetrics"],
)
def test_numbers_of_several_workers_are_written_in_one_family(accept, parse):
    w1, w2 = Metrics(), Metrics()
    w1.count(JOINS, "joined")
    w2.count(JOINS, "joined")
    w2.observe(JOIN_DURATION, 0.3)
    workers = {"w1": w1.collect([(BACKENDS, {("up",): 2})]), "w2": {**w2.collect(), "unknown_total": [[[], 1]]}}
    body, content_type = exposition(accept, Metrics().collect([(UPLINK_UP, {(): True})]), workers)
    assert ("openmetrics" in content_type) == bool(accept)
    families = {family.name: family for family in parse(body.decode())}
    joins = families[JOINS.name.removesuffix("_total")]
    assert joins.type == "counter" and joins.documentation == JOINS.help
    assert {(s.labels["worker"], s.labels["outcome"]): s.value for s in joins.samples} == {
        ("w1", "joined"): 1,
        ("w2", "joined"): 1,
    }
    assert families[UPLINK_UP.name].samples[0].value == 1 and not families[UPLINK_UP.name].samples[0].labels
    buckets = {s.labels["le"]: s.value for s in families[JOIN_DURATION.name].samples if s.name.endswith("_bucket")}
    assert buckets["0.25"] == 0 and buckets["0.5"] == 1 and buckets["+Inf"] == 1
    assert not any("unknown" in name for name in families)


class Log:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, text, **values):
        self.lines.append(text.format(**values))

    error = warn = info

    def failure(self, text, failure):
        self.lines.append(f"failure: {failure.value}")


class Reactor(Clock):
    """Ports are taken as long as the test says so."""

    def __init__(self, *taken: str) -> None:
        super().__init__()
        self.taken, self.tried, self.site = set(taken), [], None

    def listenTCP(self, port, factory, interface):
        self.tried.append(interface)
        if interface in self.taken:
            raise CannotListenError(interface, port, OSError(98, "Address already in use"))
        self.factory, self.site = factory, factory.wrappedFactory
        return interface


async def fine(accept):
    return Response.of(200, {"accept": accept})


def server(reactor, log, address=None, handler=fine):
    of = HealthServer({"healthz": handler}, 9090, address, reactor, log)
    of.start()
    return of


def test_a_port_in_use_is_told_once_and_taken_when_it_is_free():
    reactor, log = Reactor("::", "0.0.0.0"), Log()
    of = server(reactor, log)
    for _ in range(5):
        reactor.advance(RETRY_S)
    assert len(log.lines) == 1 and "Address already in use" in log.lines[0]
    assert "9090" in log.lines[0] and "CROSSBAR_HEALTH_PORT" in log.lines[0]
    reactor.taken.clear()
    reactor.advance(RETRY_S)
    assert of.listening == "::" and log.lines[1:] == ["Health and metrics at ::, port 9090"]
    assert not reactor.getDelayedCalls()


def test_without_ipv6_all_interfaces_are_those_of_ipv4():
    assert server(Reactor("::"), Log()).listening == "0.0.0.0"


def test_an_address_is_listened_at_and_no_other():
    reactor = Reactor()
    assert server(reactor, Log(), "127.0.0.1").listening == "127.0.0.1" and reactor.tried == ["127.0.0.1"]


def test_who_keeps_a_connection_open_gives_way_to_others_and_is_closed_after_10_s():
    reactor, probes = Reactor(), []
    server(reactor, Log())
    for _ in range(33):
        probes.append(StringTransport())
        reactor.factory.buildProtocol(None).makeConnection(probes[-1])
    assert [probe.disconnected for probe in probes] == [True] + [False] * 32
    reactor.advance(5)
    reactor.advance(5.1)
    assert all(probe.disconnecting or probe.disconnected for probe in probes)


def request(path, method=b"GET"):
    made = DummyRequest([path])
    made.method = method
    made.requestHeaders.addRawHeader("accept", "text/plain")
    return made


def test_an_error_in_a_probe_is_answered_and_logged():
    async def broken(accept):
        raise ValueError("oops")

    reactor, log = Reactor(), Log()
    server(reactor, log, handler=broken)
    asking = request(b"healthz")
    reactor.site.resource.getChildWithDefault(b"healthz", asking).render(asking)
    assert asking.responseCode == 500 and b"oops" in b"".join(asking.written)
    assert log.lines[-1] == "failure: oops"


def test_who_has_gone_meanwhile_is_not_answered():
    answer: Deferred = Deferred()

    async def late(accept):
        return await answer

    reactor, log = Reactor(), Log()
    server(reactor, log, handler=late)
    asking = request(b"healthz")
    reactor.site.resource.getChildWithDefault(b"healthz", asking).render(asking)
    asking.processingFailed(ConnectionResetError())
    answer.callback(Response.of(200, {}))
    assert not asking.written and len(log.lines) == 1
