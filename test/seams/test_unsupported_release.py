"""With a release that the patches are not written for, or that one of them does not fit, nothing runs half patched."""

import json

import pytest


@pytest.mark.parametrize("command", [("crossbar", "version"), ("-m", "crossbar.worker.main", "--help")])
def test_a_process_of_crossbar_does_not_start(run, pretend_release, command):
    done = run(*command, check=False, PYTHONPATH=str(pretend_release("99.0")))
    assert done.returncode == 1
    assert "99.0" in done.stderr and "26.10.1" in done.stderr
    assert "pip install crossbar==26.10.1" in done.stderr and "CROSSBAR_CLUSTER=off" in done.stderr
    assert "Traceback" not in done.stderr and not done.stdout


def test_any_other_process_gets_an_exception_every_time(run, pretend_release):
    code = """
        for _ in range(2):
            try:
                import crossbar
            except ImportError as error:
                print(type(error).__name__, error)
    """
    output = run(code=code, PYTHONPATH=str(pretend_release("99.0"))).stdout
    assert output.count("UnsupportedRelease") == 2 and output.count("99.0") == 2


def test_off_runs_any_release(run, pretend_release):
    run("crossbar", "version", PYTHONPATH=str(pretend_release("99.0")), CROSSBAR_CLUSTER="off")


def test_check_reports_on_an_unsupported_release(run, pretend_release):
    done = run("crossbar-cluster", "check", "--json", check=False, PYTHONPATH=str(pretend_release("99.0")))
    assert done.returncode == 1
    findings = json.loads(done.stdout)
    assert findings[0]["state"] == "unsupported" and findings[0]["target"] == "crossbar 99.0"
    # The linked package is the release that the patches fit; whether it is recorded is another test's business.
    assert len(findings) > 1 and {finding["state"] for finding in findings[1:]} <= {"ok", "unrecorded"}


WRONG = """
    from crossbar_cluster.overlay import Record

    GONE = Record(target="crossbar.node.main:was_here_once", kind="wrap", members=("was_here_once",), why="w",
                  retire="r", reason="r")

    @GONE
    def wrapper(wrapped, instance, args, kwargs): ...
"""
INSTALL = """
    import sys
    from crossbar_cluster.overlay import install
    install("trial")
"""


def test_a_patch_that_does_not_fit_ends_a_process_of_crossbar(run, patch_package):
    code = INSTALL + "    sys.argv[0] = '/usr/bin/crossbar'\n    import crossbar.node.main"
    done = run(code=code, check=False, PYTHONPATH=str(patch_package({"node/main.py": WRONG})), CROSSBAR_CLUSTER="off")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "crossbar.node.main:was_here_once" in done.stderr and "trial/node/main.py" in done.stderr
    assert "crossbar-cluster check" in done.stderr


def test_a_patch_that_does_not_fit_fails_every_import(run, patch_package):
    code = (
        INSTALL
        + """
    for _ in range(2):
        try:
            import crossbar.node.main
        except Exception as error:
            print(type(error).__name__)
"""
    )
    env = {"PYTHONPATH": str(patch_package({"node/main.py": WRONG})), "CROSSBAR_CLUSTER": "off"}
    assert run(code=code, **env).stdout.splitlines() == ["PatchFailed", "PatchFailed"]


ELSEWHERE = WRONG.replace("crossbar.node.main:was_here_once", "crossbar.node.node:was_here_once")
NO_CODE = WRONG.partition("@GONE")[0]
TWICE = WRONG.replace("@GONE", "@GONE\n    @GONE")
SAME = WRONG + WRONG.replace("GONE", "AGAIN")
NONE = "nothing = 0"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (ELSEWHERE, "stands in the patch module of crossbar.node.main"),
        (NO_CODE, "decorates no code"),
        (TWICE, "decorates"),
        (SAME, "two records"),
        (NONE, "holds no Record"),
        ("import nonsense_module", "ModuleNotFoundError"),
    ],
)
def test_a_patch_module_that_is_not_sound_is_refused(run, patch_package, code, reason):
    env = {"PYTHONPATH": str(patch_package({"node/main.py": code})), "CROSSBAR_CLUSTER": "off"}
    done = run(code=INSTALL + "    import crossbar.node.main", check=False, **env)
    assert done.returncode == 1 and "PatchFailed" in done.stderr
    assert reason in done.stderr and "trial/node/main.py" in done.stderr
