"""What the `.pth` file costs and does in a Python process that has nothing to do with crossbar."""


def test_an_unrelated_process_loads_nothing_more(run, root):
    code = f"""
        import os, sys
        sys.path.insert(0, {str(root)!r})
        before = set(sys.modules)
        import crossbar_cluster.overlay.startup
        print(sorted(set(sys.modules) - before))
    """
    loaded = run("-S", code=code).stdout.strip()
    assert loaded == str(["crossbar_cluster", "crossbar_cluster.overlay", "crossbar_cluster.overlay.startup"])


def test_every_process_is_armed_once(run):
    code = "import sys; print([type(finder).__name__ for finder in sys.meta_path].count('CrossbarFinder'))"
    assert run(code=code).stdout.strip() == "1"


def test_looking_for_crossbar_does_not_import_or_arm_anything(run):
    run(
        code="""
        import importlib.util, sys
        specs = [importlib.util.find_spec("crossbar") for _ in range(2)]
        assert all(spec.origin.endswith("crossbar/__init__.py") for spec in specs)
        assert "wrapt" not in sys.modules and "crossbar" not in sys.modules
        import crossbar
        from crossbar.node import main
        assert main._run_command_version.__wrapped__
        assert type(crossbar.__spec__.loader).__name__ == "SourceFileLoader"
        assert "exec_module" not in vars(crossbar.__spec__.loader)
        assert "CrossbarFinder" not in [type(finder).__name__ for finder in sys.meta_path]
        """
    )


def test_looking_for_a_crossbar_that_is_not_there(run):
    code = "import importlib.util, sys; sys.path[:] = []; print(importlib.util.find_spec('crossbar'))"
    # An empty path leaves the importer of an editable install, which knows crossbar_cluster only.
    assert run(code=code).stdout.strip() == "None"


def test_the_version_command_names_us_in_line_with_the_release(run):
    lines = run("crossbar", "version").stdout.splitlines()
    ours = next(line for line in lines if "crossbar-cluster" in line)
    theirs = next(line for line in lines if "Twisted" in line)
    assert ours.index(":") == theirs.index(":")
    from crossbar_cluster import __version__

    assert f": {__version__} (" in ours and "patches applied" in ours
