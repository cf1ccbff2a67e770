"""CROSSBAR_CLUSTER switches the patches off, in workers too, which inherit PYTHONPATH and nothing else."""

import pytest

STATE = """
import sys
from crossbar.node import main
patched = hasattr(main._run_command_version, "__wrapped__")
prefixes = ("crossbar_cluster.overlay.", "crossbar_cluster.patches")
ours = sorted(name for name in sys.modules if name.startswith(prefixes))
finders = [type(finder).__name__ for finder in sys.meta_path]
"""


@pytest.mark.parametrize("value", ["", "on", "On", "1", "yes", "true"])
def test_on(run, value):
    assert "patched: True" in run(code=STATE + "print('patched:', patched)", CROSSBAR_CLUSTER=value).stdout


@pytest.mark.parametrize("value", ["off", "OFF", "0", "no", "false"])
def test_off_leaves_the_release_alone(run, value):
    code = STATE + (
        "assert not patched\n"
        "assert ours == ['crossbar_cluster.overlay.startup'], ours\n"
        "assert 'CrossbarFinder' not in finders and 'ImportHookFinder' not in finders, finders\n"
        "assert main._run_command_version.__code__.co_filename == main.__file__\n"
    )
    run(code=code, CROSSBAR_CLUSTER=value)


CHILD = """
import os, subprocess, sys
import crossbar
child = "from crossbar.node import main; print('patched:', hasattr(main._run_command_version, '__wrapped__'))"
env = {"PYTHONPATH": os.pathsep.join(sys.path), **%r}
print(subprocess.run([sys.executable, "-c", child], env=env, capture_output=True, text=True).stdout)
"""


@pytest.mark.parametrize(
    ("parent", "child", "patched"),
    [("off", {}, False), ("on", {}, True), ("off", {"CROSSBAR_CLUSTER": "on"}, True)],
)
def test_a_child_that_inherits_only_pythonpath(run, parent, child, patched):
    assert f"patched: {patched}" in run(code=CHILD % child, CROSSBAR_CLUSTER=parent).stdout


def test_on_takes_the_marker_away_for_the_children(run):
    output = run(code=CHILD % {}, CROSSBAR_CLUSTER="on", PYTHONPATH="/CROSSBAR_CLUSTER=off").stdout
    assert "patched: True" in output


def test_any_other_value_is_refused(run):
    done = run("crossbar", "version", check=False, CROSSBAR_CLUSTER="maybe")
    assert done.returncode == 1
    assert "CROSSBAR_CLUSTER" in done.stderr and "'maybe'" in done.stderr and "off, 0, no, false" in done.stderr
    assert "Traceback" not in done.stderr
    done = run(code="import crossbar", check=False, CROSSBAR_CLUSTER="maybe")
    assert done.returncode == 1 and "SwitchError" in done.stderr
    run(code="import sys", CROSSBAR_CLUSTER="maybe")  # a process that does not import crossbar is left alone
