"""Fingerprints are the same on every Python, and notice what changes; what is recorded is current."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from crossbar_cluster.overlay import check as checking
from crossbar_cluster.overlay import fingerprint as fingerprints
from crossbar_cluster.overlay.document import document


def interpreters() -> list[str]:
    found = {f"{sys.version_info.major}.{sys.version_info.minor}": sys.executable}
    for minor in (11, 12, 13):
        pyenv = sorted(Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python"))
        if program := shutil.which(f"python3.{minor}") or (str(pyenv[-1]) if pyenv else None):
            done = subprocess.run([program, "-c", ""], capture_output=True)  # pyenv's shims exist for absent versions
            found.setdefault(f"3.{minor}", program if not done.returncode else str(pyenv[-1]) if pyenv else program)
    return list(found.values())


@pytest.fixture(scope="module")
def records():
    found, broken = checking.load_all()
    assert not broken
    return found


def test_every_python_gets_the_same(tmp_path, records, release):
    # Besides what the patches concern: syntax that Python versions parse into different trees.
    odd = tmp_path / "crossbar"
    odd.mkdir()
    (odd / "__init__.py").touch()
    (odd / "odd.py").write_text(
        'def strings(x):\n    return f"a{{{x!r:>{10}}}}" "b" f"{x}" "" f"{x=}", u"c", "\\u2028\\U0001fae8"\n'
        "def arguments(a, /, b=1, *c, d, e: int = 2, **f) -> None:\n    '''Doc.'''\n"
        "async def matching(x):\n    match x:\n        case {'a': [1, *_], **rest} if rest: pass\n"
        "    async with a as b, c: pass\n    try: pass\n    except* ValueError: raise\n"
        "class Class(Base, metaclass=Meta):\n    field: int\n    other: 'str' = 1.5e300 + 2j\n"
    )
    targets = sorted({target for group in records.values() for record in group for target in record.fingerprinted})
    names = [f"crossbar.odd:{name}" for name in ("strings", "arguments", "matching", "Class")]
    results = set()
    programs = interpreters()
    for program in programs:
        for folder, wanted in ((release, targets), (odd, names)):
            command = [program, "-S", fingerprints.__file__, str(folder), *wanted]
            # The other packages that released classes inherit from stand beside the release.
            results.add((folder, subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    assert len(results) == 2, programs
    assert all(all(json.loads(result).values()) for _, result in results)


ONE = """
class Base:
    '''Doc.'''
    def method(self, a=1):
        '''Doc.'''
        return a  # comment
"""


@pytest.mark.parametrize(
    ("edit", "same"),
    [
        (("'''Doc.'''", "'''Other.'''"), True),
        (("# comment", "# another"), True),
        (("return a", "return (\n            a)"), True),
        (("a=1", "a=2"), False),
        (("return a", "return a + 1"), False),
        (("    def method", "    @decorated\n    def method"), False),
        (("def method", "async def method"), False),
        (("return a", "pass; return a"), False),
    ],
)
def test_what_counts_as_a_change(tmp_path, edit, same):
    prints = set()
    for name, text in (("before", ONE), ("after", ONE.replace(*edit))):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "one.py").write_text(text)
        prints.add(tuple(fingerprints.fingerprint(f"crossbar.one:{n}", folder) for n in ("Base", "Base.method")))
    assert (len(prints) == 1) is same


def test_where_members_are_found(tmp_path):
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text("from .inner import Root\nfrom . import inner\n")
    (tmp_path / "pack" / "inner.py").write_text("class Root:\n    def method(self): pass\n")
    (tmp_path / "one.py").write_text(
        "import ast\nfrom argparse import ArgumentParser\nfrom crossbar import pack\n"
        "from crossbar.pack import Root as R\n"
        "LIST: list = []\n"
        "class Own:\n    class Nested:\n        def deep(self): pass\n"
        "class A(R): pass\nclass B(pack.inner.Root): pass\nclass C(A, B): pass\n"
        "class Foreign(ArgumentParser): pass\nclass Dotted(ast.NodeVisitor): pass\n"
        "try:\n    import fast as which\nexcept ImportError:\n    def which(): pass\n"
    )

    def found(name: str) -> str:
        return fingerprints.fingerprint(f"crossbar.one:{name}", tmp_path)

    direct = fingerprints.fingerprint("crossbar.pack.inner:Root.method", tmp_path)
    assert found("A.method") == found("B.method") == found("C.method") == direct
    assert found("Foreign.parse_args") == fingerprints._hash("inherited from argparse")
    assert found("Dotted.visit") == fingerprints._hash("inherited from ast")
    assert len({found("LIST"), found("Own.Nested.deep"), found("Own"), found("which"), direct}) == 5
    for gone in ("Gone", "A.gone", "Own.method", "Own.Nested.gone", "LIST.gone", "Foreign.gone"):
        with pytest.raises(fingerprints.Missing):
            found(gone)
    with pytest.raises(fingerprints.Missing):
        fingerprints.fingerprint("crossbar.gone:Gone", tmp_path)


def test_what_is_recorded_is_current():
    """Run `crossbar-cluster check --write` if this fails, and look at what it changes."""
    assert [finding for finding in checking.check() if finding.state != "ok"] == []


def test_patches_md_is_current(root, records):
    assert (root / "PATCHES.md").read_text() == document(records), "run crossbar-cluster check --write"


PATCH = """
    from crossbar_cluster.overlay import Record

    MORE = Record(target="crossbar._util:hl", kind="wrap", members=("hl",), why="w", retire="r", reason="r",
                  relies_on=("crossbar._util:hlid",))
    ADD = Record(target="crossbar._util:Trial", kind="add", members=("more",), why="w", retire="r")

    @MORE
    def wrapper(wrapped, instance, args, kwargs): ...

    @ADD
    def more(self): ...
"""
STATES = """
    import json
    from crossbar_cluster.overlay import check
    findings = check.check("trial", json.loads({recorded!r}))
    print("STATES" + json.dumps({{finding.target: finding.state for finding in findings}}))
"""


def test_check_tells_every_state(run, pretend_release, patch_package):
    path = pretend_release("26.10.1", copy=True)
    util = path / "crossbar" / "_util.py"
    released = util.read_text() + "\nclass Trial: pass\n"
    util.write_text(released)
    patches = patch_package({"_util.py": PATCH, "node/node.py": "broken"})
    recorded = {f"crossbar._util:{name}": fingerprints.fingerprint(f"crossbar._util:{name}", path / "crossbar")
                for name in ("hl", "hlid")}  # fmt: skip

    def states(known=recorded):
        code = STATES.format(recorded=json.dumps({"26.10.1": known}))
        output = run(code=code, PYTHONPATH=f"{path}:{patches}").stdout
        return json.loads(output.rpartition("STATES")[2])

    expected = {
        "crossbar 26.10.1": "ok",
        "crossbar._util:hl": "ok",
        "crossbar._util:hlid": "ok",
        "crossbar._util:Trial.more": "ok",
        "crossbar.node.node": "broken",
    }
    assert states() == expected
    assert states({**recorded, "crossbar._util:hltype": "0"}) == {**expected, "crossbar._util:hltype": "stale"}
    assert states({}) == {**expected, "crossbar._util:hl": "unrecorded", "crossbar._util:hlid": "unrecorded"}
    util.write_text(released.replace("def hl(", "def hl_renamed(").replace("def hlid(oid)", "def hlid(oid, more=None)"))
    assert states() == {**expected, "crossbar._util:hl": "missing", "crossbar._util:hlid": "changed"}
    util.write_text(released.replace("class Trial: pass", "class Trial:\n    def more(self): pass"))
    assert states() == {**expected, "crossbar._util:Trial.more": "collides"}
    util.write_text(released.replace("class Trial: pass", ""))
    del expected["crossbar._util:Trial.more"]
    assert states() == {**expected, "crossbar._util:Trial": "missing"}
