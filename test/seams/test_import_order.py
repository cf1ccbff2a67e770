"""A module that is patched after its import ends up as one that is imported after the patches were registered."""

import itertools
import json

import pytest

# Describes every global, class attribute and table of the loaded release, so that two processes can be compared.
SNAPSHOT = """
import importlib, json, sys, types

def shape(value, depth=0):
    if isinstance(value, type):
        return "class " + " < ".join(f"{c.__module__}:{c.__qualname__}" for c in value.__mro__)
    if isinstance(value, types.FunctionType):
        inner = getattr(value, "__wrapped__", None)
        return f"{value.__module__}:{value.__qualname__} in {value.__code__.co_filename}" + (
            f" around {shape(inner)}" if inner else "")
    if isinstance(value, (staticmethod, classmethod)):
        return f"{type(value).__name__} {shape(value.__func__)}"
    if isinstance(value, dict) and depth < 5:
        return {str(k): shape(v, depth + 1) for k, v in value.items()}
    if isinstance(value, list) and depth < 5:
        return [shape(v, depth + 1) for v in value]
    return type(value).__name__

def snapshot():
    found = {}
    for name, module in sorted(sys.modules.items()):
        if name.split(".")[0] == "crossbar" and name != "crossbar":
            for attribute, value in vars(module).items():
                if attribute.startswith("__"):
                    continue
                found[f"{name}:{attribute}"] = shape(value)
                if isinstance(value, type) and value.__module__ == name:
                    for member, raw in vars(value).items():
                        if not member.startswith("__"):
                            found[f"{name}:{attribute}.{member}"] = shape(raw)
    return found

from crossbar_cluster.overlay.apply import apply_records
from crossbar_cluster.overlay.discover import patch_modules
TARGETS = list(patch_modules())
# These hold worker classes in tables and derive from what is patched.
USERS = ["crossbar.personality", "crossbar.edge.personality", "crossbar.master.personality"]

def unpatched():
    from crossbar_cluster.overlay.installer import load_records
    left = []
    for released, patch in patch_modules().items():
        module = sys.modules[released]
        for record in load_records(released, patch):
            value = module
            for part in record.qualname.split("."):
                value = getattr(value, part)
            value = getattr(value, "__func__", value)
            if record.kind == "subclass":
                done = value.__mro__.count(record.code) == 1
            elif record.kind == "wrap":
                done = bool(value.__wrapped__) and value.__code__.co_filename.endswith("overlay/apply.py")
            elif record.kind == "replace":
                done = value is record.code
            else:
                done = getattr(value, record.members[0]) is record.code
            if not done:
                left.append(str(record.key))
    return left

def load(order):
    for name in order:
        importlib.import_module(name)

def report():
    print("REPORT" + json.dumps({"snapshot": snapshot(), "unpatched": unpatched()}))
"""

ORDERS = {
    "patched, then imported": ("on", "load(TARGETS + USERS)"),
    "patched, then imported backwards": ("on", "load((TARGETS + USERS)[::-1])"),
    "patched twice, then imported": ("on", "import crossbar; install(); load(TARGETS + USERS); install()"),
    "imported, then patched": ("off", "load(TARGETS + USERS); install()"),
    "imported backwards, then patched": ("off", "load((TARGETS + USERS)[::-1]); install()"),
    "imported, then patched twice": (
        "off",
        "load(TARGETS + USERS); install(); install(); "
        "[apply_records(load_records(r, p), sys.modules[r]) for r, p in patch_modules().items()]",
    ),
}
IMPORTS = "from crossbar_cluster.overlay.installer import install, load_records\n"


@pytest.mark.slow
def test_order_makes_no_difference(run):
    reports = {}
    for name, (switch, steps) in ORDERS.items():
        output = run(code=SNAPSHOT + IMPORTS + steps + "\nreport()", CROSSBAR_CLUSTER=switch).stdout
        reports[name] = json.loads(output.rpartition("REPORT")[2])
    for name, report in reports.items():
        assert not report["unpatched"], name
    for (one, first), (other, second) in itertools.pairwise(reports.items()):
        assert first["snapshot"].keys() == second["snapshot"].keys(), (one, other)
        differing = {k: (v, second["snapshot"][k]) for k, v in first["snapshot"].items() if v != second["snapshot"][k]}
        assert not differing, (one, other)


def test_install_in_the_middle_of_an_import_is_refused(run, pretend_release, patch_package):
    """Half a module can neither be patched now nor, with its import under way, be hooked for later."""
    path = pretend_release("26.10.1", copy=True)
    main = path / "crossbar" / "_util.py"
    main.write_text("from crossbar_cluster.overlay import install\ninstall('trial')\n" + main.read_text())
    patches = patch_package({"_util.py": ""})
    env = {"PYTHONPATH": f"{path}:{patches}", "CROSSBAR_CLUSTER": "off"}
    done = run(code="import crossbar", check=False, **env)
    assert "PatchFailed" in done.stderr and "while the module was being imported" in done.stderr
