"""A worker that runs without the patches is not gone on with. On the released controller, without processes."""

from types import SimpleNamespace

import pytest
from autobahn.wamp.exception import ApplicationError
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from crossbar.edge.node.node import FabricNodeControllerSession

STARTED = {"id": "w1", "status": "started"}


class Controller(FabricNodeControllerSession):
    """Has a worker that answers as it is told to."""

    log = None

    def __init__(self, answer):
        self._answer, self.clock = answer, Clock()
        self._node = SimpleNamespace(_reactor=self.clock)
        self.errors, self.stopped = [], []
        self.log = SimpleNamespace(
            error=lambda text, **v: self.errors.append(text.format(**v)), debug=lambda *a, **k: 0
        )

    def call(self, procedure, *args):
        assert procedure == "crossbar.worker.w1.get_cluster_health"
        return self._answer()

    def stop_worker(self, worker_id, kill=False, details=None):
        self.stopped.append((worker_id, kill))
        return fail(RuntimeError("it has ended by itself"))


@pytest.fixture
def start(monkeypatch):
    """start(answer, options): whether the caller is told that the worker is started, and the controller."""
    from crossbar.node.controller import NodeController

    original = next(c for c in NodeController.__mro__ if "stop_worker" in vars(c) and "crossbar.node" in c.__module__)
    monkeypatch.setattr(original, "_start_native_worker", lambda self, *a, **k: succeed(STARTED))

    def started(answer, options=None, advance_s=0.0):
        controller, results = Controller(answer), []
        starting = controller._start_native_worker("router", "w1", options, details=SimpleNamespace(caller=1))
        starting.addBoth(results.append)
        controller.clock.advance(advance_s)
        [result] = results
        return result, controller

    return started


def no_such_procedure():
    return fail(ApplicationError(ApplicationError.NO_SUCH_PROCEDURE, "no callee registered"))


def test_one_without_the_patches_is_ended_and_said(start):
    result, controller = start(no_such_procedure)
    assert result.value.error == "crossbar.error.cannot_start"
    assert controller.stopped == [("w1", True)]
    [line] = controller.errors
    assert "w1" in line and "crossbar-cluster check" in line


@pytest.mark.parametrize(
    "answer", [lambda: succeed({}), lambda: fail(RuntimeError("busy")), lambda: fail(ApplicationError("x.y"))]
)
def test_one_with_the_patches_goes_on(start, answer):
    result, controller = start(answer)
    assert result == STARTED and not controller.stopped


def test_one_that_does_not_answer_is_for_others_to_see(start):
    result, controller = start(Deferred, advance_s=10.0)
    assert result == STARTED and not controller.stopped


def test_one_that_is_to_run_the_release_does(start):
    result, _ = start(no_such_procedure, {"env": {"vars": {"CROSSBAR_CLUSTER": "off"}}})
    assert result == STARTED
