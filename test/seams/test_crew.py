"""Work on many nodes at once: one that hangs holds up no other, is not begun twice, and is heard of when it is done."""

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from crossbar_cluster.control.crew import PATIENCE_S, Crew


class Site:
    """A crew, and parts that end when the test says so."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.late: list = []
        self.begun: list[str] = []
        self.pending: dict[str, Deferred[int]] = {}
        self.crew: Crew[int] = Crew(self.clock, self._late)

    def _late(self, key, result) -> None:
        self.late.append((key, result))

    def run(self, *names: str) -> Deferred:
        return Deferred.fromCoroutine(self.crew.all_at_once({name: self.part(name) for name in names}))

    def part(self, name: str):
        async def work() -> int:
            self.begun.append(name)
            self.pending[name] = Deferred()
            return await self.pending[name]

        return work


@pytest.fixture
def site() -> Site:
    return Site()


def result_of(d: Deferred):
    return d.result if d.called else "not yet"


def test_parts_run_together_and_the_last_ends_the_wait(site):
    passed = site.run("a", "b")
    assert site.begun == ["a", "b"]
    site.pending["b"].callback(2)
    assert result_of(passed) == "not yet"
    site.pending["a"].callback(1)
    assert result_of(passed) == {"a": 1, "b": 2}
    assert site.late == [] and not site.clock.getDelayedCalls()


def test_a_failure_is_a_result(site):
    passed = site.run("a", "b")
    error = KeyError("a")
    site.pending["a"].errback(error)
    site.pending["b"].callback(2)
    assert result_of(passed) == {"a": error, "b": 2}


def test_one_that_hangs_is_not_waited_for_nor_begun_again_and_tells_when_it_is_done(site):
    passed = site.run("hangs", "fine")
    site.pending["fine"].callback(1)
    site.clock.advance(PATIENCE_S)
    assert result_of(passed) == {"hangs": None, "fine": 1}
    passed = site.run("hangs", "fine")
    assert site.begun == ["hangs", "fine", "fine"]
    site.pending["fine"].callback(2)
    assert result_of(passed) == {"hangs": None, "fine": 2}, "a pass waits only for what it has begun"
    assert site.late == []
    site.pending["hangs"].callback(3)
    assert site.late == [("hangs", 3)]
    site.run("hangs")
    assert site.begun[-1] == "hangs", "done, so it can be begun again"


@pytest.mark.parametrize("end", ["callback", "errback"])
def test_a_late_end_of_any_kind_is_told(site, end):
    site.run("a")
    site.clock.advance(PATIENCE_S)
    result = ValueError("a")
    getattr(site.pending["a"], end)(result)
    assert site.late == [("a", result)]


def test_nothing_to_do_ends_at_once(site):
    passed = site.run()
    site.clock.advance(0)
    assert result_of(passed) == {}
