"""What each kind of patch does to a released module, on small modules made for the purpose."""

import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

from crossbar_cluster.overlay.apply import apply_records
from crossbar_cluster.overlay.errors import PatchFailed
from crossbar_cluster.overlay.record import Record

Release = Callable[..., ModuleType]


@pytest.fixture
def release() -> Iterator[Release]:
    """release(name, code): a loaded module `crossbar.<name>`. The release itself is not imported."""
    made = []

    def make(name: str, code: str) -> ModuleType:
        module = ModuleType(f"crossbar.{name}")
        sys.modules[module.__name__] = module
        made.append(module.__name__)
        exec(textwrap.dedent(code), vars(module))
        return module

    yield make
    for name in made:
        sys.modules.pop(name, None)


def record(kind: str, name: str, members: tuple[str, ...]) -> Record:
    return Record(f"crossbar.trial:{name}", kind, members, why="why", retire="then", reason="reason")  # type: ignore[arg-type]


def wrapping(name: str) -> Record:
    made = record("wrap", name, (name.split(".")[-1],))

    @made
    def wrapper(wrapped, instance, args, kwargs):
        return ("wrapped", wrapped(*args, **kwargs))

    return made


BASE = """
class Base:
    '''The released one.'''
    def greet(self): return ["base"]
    def part(self): return "part"
class Sub(Base):
    def greet(self): return ["sub", *Base.greet(self)]
TABLE = {"types": {"one": Base}, "list": [Base]}
class Holder:
    CHOICE = Base
    TABLE = {"one": Base}
"""


def greeting(members: tuple[str, ...] = ("greet",)) -> Record:
    made = record("subclass", "Base", members)

    @made
    class Mixin:
        def greet(self):
            return ["mixin", *super().greet()]

    return made


def test_subclass_stands_wherever_the_released_class_stood(release):
    trial = release("trial", BASE)
    other = release("other", "from crossbar.trial import Base as Renamed, Sub\nclass Further(Renamed): pass")
    released = trial.Base
    apply_records([greeting()], trial)
    assert trial.Base is not released and issubclass(trial.Base, released)
    places = [other.Renamed, trial.TABLE["types"]["one"], trial.TABLE["list"][0]]
    assert all(place is trial.Base for place in [*places, trial.Holder.CHOICE, trial.Holder.TABLE["one"]])
    assert trial.Base().greet() == ["mixin", "base"]
    assert trial.Sub().greet() == ["sub", "mixin", "base"]
    assert other.Further().greet() == ["mixin", "base"]
    assert (trial.Base.__module__, trial.Base.__qualname__) == ("crossbar.trial", "Base")
    assert trial.Base.__doc__ == "The released one."


def test_subclass_of_a_class_that_calls_super_by_its_own_name(release):
    trial = release(
        "trial",
        """
        import functools
        def decorated(fn):
            @functools.wraps(fn)
            def outer(*args): return fn(*args)
            return outer
        class Root:
            def greet(self): return ["root"]
        class Base(Root):
            def greet(self): return ["base", *super(Base, self).greet()]
            @decorated
            def part(self): return (lambda: super(Base, self).greet())()
            def make(self): return Base()
        """,
    )
    apply_records([greeting()], trial)
    assert trial.Base().greet() == ["mixin", "base", "root"]
    assert trial.Base().part() == ["root"]
    assert type(trial.Base().make()) is trial.Base


def test_subclass_keeps_what_frameworks_put_on_a_method(release):
    trial = release("trial", BASE + "Base.greet._wampuris = ['uri']\n")
    apply_records([greeting()], trial)
    assert trial.Base.greet._wampuris == ["uri"]


def test_subclass_must_name_all_it_overrides(release):
    made = record("subclass", "Base", ("greet",))
    made(type("Mixin", (), {"greet": lambda self: [], "part": lambda self: ""}))
    with pytest.raises(PatchFailed, match="overrides part"):
        apply_records([made], release("trial", BASE))


def test_subclass_of_what_is_gone(release):
    with pytest.raises(PatchFailed, match="no greet to override"):
        apply_records([greeting()], release("trial", "class Base: pass"))
    with pytest.raises(PatchFailed, match=r"no crossbar\.trial\.Base"):
        apply_records([greeting()], release("trial", ""))


def test_nothing_is_applied_if_one_record_does_not_fit(release):
    trial = release("trial", BASE)
    released = trial.Base
    with pytest.raises(PatchFailed):
        apply_records([greeting(), wrapping("Base.gone")], trial)
    assert trial.Base is released


def test_two_subclasses_of_one_class_and_a_wrapped_method_below(release):
    trial = release("trial", BASE)
    second = record("subclass", "Base", ("part",))
    second(type("Second", (), {"part": lambda self: "second"}))
    records = [greeting(), second, wrapping("Base.part"), wrapping("Base.greet")]
    for _ in range(2):  # the second time changes nothing
        apply_records(records, trial)
        assert trial.Base().greet() == ["mixin", "wrapped", ["base"]]
        assert trial.Base().part() == "second"
        assert len(trial.Base.__mro__) == 6


METHODS = """
class Base:
    def method(self, a, b=0): return (self.__class__.__name__, a, b)
    @classmethod
    def of_class(cls, a): return (cls.__name__, a)
    @staticmethod
    def static(a): return a
    value = 7
    method._wampuris = ["uri"]
class Sub(Base): pass
def function(a): return a
"""


def test_wrap_of_every_sort_of_function(release):
    trial = release("trial", METHODS)
    other = release("other", "from crossbar.trial import function as renamed")
    names = ("Base.method", "Base.of_class", "Base.static", "function")
    apply_records([wrapping(name) for name in names], trial)
    assert trial.Sub().method(1, b=2) == ("wrapped", ("Sub", 1, 2))
    assert trial.Sub.of_class(1) == trial.Sub().of_class(1) == ("wrapped", ("Sub", 1))
    assert trial.Base.static(1) == trial.Base().static(1) == ("wrapped", 1)
    assert trial.function(1) == other.renamed(1) == ("wrapped", 1)
    # As autobahn looks for procedures:
    found = dict(inspect.getmembers(trial.Base, inspect.isfunction))
    assert found["method"].__dict__["_wampuris"] == ["uri"]


def test_wrap_gets_the_instance_as_wrapt_gives_it(release):
    trial = release("trial", METHODS)
    seen = {}

    def noting(name):
        made = record("wrap", name, (name.split(".")[-1],))

        @made
        def wrapper(wrapped, instance, args, kwargs):
            seen[name] = instance
            return wrapped(*args, **kwargs)

        return made

    apply_records([noting(name) for name in ("Base.method", "Base.of_class", "Base.static", "function")], trial)
    base = trial.Base()
    base.method(1), base.of_class(1), base.static(1), trial.function(1)
    assert seen == {"Base.method": base, "Base.of_class": trial.Base, "Base.static": None, "function": None}


@pytest.mark.parametrize(
    ("name", "reason"),
    [("Sub.method", "inherited from crossbar.trial:Base"), ("Base.gone", "no such member"), ("Base.value", "only a")],
)
def test_wrap_of_what_is_not_there(release, name, reason):
    with pytest.raises(PatchFailed, match=reason):
        apply_records([wrapping(name)], release("trial", METHODS))


def test_replace(release):
    trial = release("trial", METHODS)
    other = release("other", "from crossbar.trial import function, Base\nclass Further(Base): pass")
    codes = {
        "Base.method": lambda self, a: ("ours", a),
        "Base.static": lambda a: ("ours", a),
        "function": lambda a: ("ours", a),
    }
    records = []
    for name, code in codes.items():
        records.append(record("replace", name, (name.split(".")[-1],)))
        records[-1](code)
    apply_records(records, trial)
    assert trial.Sub().method(1) == trial.Base.static(1) == trial.function(1) == other.function(1) == ("ours", 1)
    assert trial.Base.method._wampuris == ["uri"]
    whole = record("replace", "Base", ("Base",))
    ours = whole(type("Ours", (), {"method": lambda self: "all ours"}))
    apply_records([whole], trial)
    assert trial.Base is other.Base is ours and other.Further().method() == trial.Sub().method() == "all ours"


def test_add(release):
    trial = release("trial", METHODS)
    made = record("add", "Base", ("further",))

    @made
    def further(self):
        return "further"

    apply_records([made], trial)
    apply_records([made], trial)
    assert trial.Sub().further() == "further"
    taken = record("add", "Sub", ("method",))
    taken(further)
    with pytest.raises(PatchFailed, match="has method already"):
        apply_records([taken], trial)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"kind": "wrap", "reason": " "}, "needs a reason"),
        ({"kind": "change"}, "is none of"),
        ({"target": "crossbar.trial.Base"}, "is not of the form"),
        ({"target": "autobahn.wamp:Base"}, "is not of the form"),
        ({"relies_on": ("crossbar.trial",)}, "is not of the form"),
        ({"members": ()}, "members"),
        ({"members": "greet"}, "tuples"),
        ({"kind": "replace", "members": ("greet",)}, "own last name"),
        ({"kind": "add", "members": ("one", "two")}, "adds one member"),
        ({"retire": ""}, "when it can go"),
    ],
)
def test_a_record_that_says_too_little_or_nonsense(change, reason):
    given = {"target": "crossbar.trial:Base", "kind": "subclass", "members": ("greet",), "why": "w", "retire": "r"}
    with pytest.raises(ValueError, match=reason):
        Record(**{**given, "reason": "given", **change})
