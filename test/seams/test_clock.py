"""The reactor of a patched process lives by a clock that never jumps, whatever was imported first."""

import pytest

STEPPED = """
        import time
        wall, offset = time.time, [0.0]
        time.time = lambda: wall() + offset[0]
        import os, threading
        hung = threading.Timer(15, os._exit, [1])  # the reactor would stand still for an hour
        hung.daemon = True
        hung.start()
"""
IMPORT = {
    "crossbar first": """
        import crossbar
        from twisted.internet import reactor
        """,
    "the reactor first": """
        from twisted.internet import reactor
        import crossbar
        """,
}


@pytest.mark.parametrize("order", IMPORT)
@pytest.mark.parametrize("step_s", [-3600, 3600])
def test_a_step_of_the_clock_moves_no_timer(run, order, step_s):
    code = f"""
        {STEPPED}
        {IMPORT[order]}
        due, began = [], time.monotonic()
        reactor.callLater(0.3, lambda: due.append("soon"))
        reactor.callLater(60, lambda: due.append("late"))
        late = reactor.callLater(70, print)
        offset[0] = {step_s}
        late.delay(1)
        late.reset(50)
        assert 49 < late.getTime() - reactor.seconds() < 51
        def look():
            assert due == ["soon"], due
            reactor.stop()
        reactor.callLater(0.6, look)
        reactor.run()
        assert 0.5 < time.monotonic() - began < 10
        """
    run(code=code)


def test_what_the_reactor_has_already_been_given_keeps_its_time(run):
    """Crossbar.io is imported by a program whose reactor is running."""
    code = f"""
        {STEPPED}
        from twisted.internet import reactor
        began, due = time.monotonic(), []
        late = reactor.callLater(60, lambda: due.append("late"))
        def embed():
            import crossbar
            reactor.callLater(0, step)
        def step():
            offset[0] = -3600
            reactor.callLater(0.5, look)
        def look():
            left_s = late.getTime() - reactor.seconds()
            assert not due and abs(left_s + time.monotonic() - began - 60) < 0.1, left_s
            reactor.stop()
        reactor.callLater(0.1, embed)
        reactor.run()
        """
    run(code=code)


def test_lines_of_an_access_log_have_a_date(run):
    code = """
        import crossbar, datetime
        from twisted.web.http import HTTPFactory
        factory = HTTPFactory()
        factory._updateLogDateTime()
        assert str(datetime.datetime.utcnow().year) in factory._logDateTime, factory._logDateTime
        factory._logDateTimeCall.cancel()
        """
    run(code=code)


def test_without_the_patches_nothing_is_changed(run):
    code = """
        import crossbar, time
        from twisted.internet import reactor
        assert reactor.seconds() > 1e9
        """
    run(code=code, CROSSBAR_CLUSTER="off")
