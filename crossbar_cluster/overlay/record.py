"""The record of a patch: what it changes in the release, how, why, and until when."""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Literal, TypeVar, get_args

Kind = Literal["subclass", "wrap", "replace", "add"]
Code = TypeVar("Code", bound=Callable[..., Any])


@dataclass(eq=False)
class Record:
    """One patch. Decorates the code it is about, and returns that code unchanged.

    target     "import.path:Qual.name" in the release. For `wrap` and `replace` the function, method or class itself;
               for `subclass` and `add` the class.
    kind       subclass: the code is a mixin; the release gets `class Name(Mixin, Name)`.
               wrap: the code is `fn(wrapped, instance, args, kwargs)`, as in wrapt.
               replace: the code stands in the target's place.
               add: the code becomes a new attribute of the target class.
    members    the attributes of the target that are touched; for `wrap` and `replace` the target's own last name.
    why        the symptom that this mends.
    retire     what must be true for the patch to go.
    relies_on  further released members, "import.path:Qual.name", whose behaviour the code counts on.
    reason     why no smaller seam will do: required for `wrap` and `replace`.
    """

    target: str
    kind: Kind
    members: tuple[str, ...]
    why: str
    retire: str
    relies_on: tuple[str, ...] = ()
    reason: str = ""
    code: Any = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        for value in (self.target, *self.relies_on):
            module, colon, name = value.partition(":")
            if not (colon and _dotted(module) and _dotted(name) and module.split(".")[0] == "crossbar"):
                raise ValueError(f"{value!r} is not of the form 'crossbar.module:Qual.name'")
        if self.kind not in get_args(Kind):
            raise ValueError(f"{self.target}: kind {self.kind!r} is none of {', '.join(get_args(Kind))}")
        if isinstance(self.members, str) or isinstance(self.relies_on, str):
            raise ValueError(f"{self.target}: members and relies_on are tuples of names")
        if not self.members or not all(name.isidentifier() for name in self.members):
            raise ValueError(f"{self.target}: members {self.members!r} is not a tuple of attribute names")
        if not (self.why.strip() and self.retire.strip()):
            raise ValueError(f"{self.target}: a record says why it is there and when it can go")
        if self.kind in ("wrap", "replace"):
            if not self.reason.strip():
                raise ValueError(f"{self.target}: kind {self.kind!r} needs a reason why no smaller seam will do")
            if self.members != (self.qualname.split(".")[-1],):
                raise ValueError(f"{self.target}: the member of a {self.kind} is the target's own last name")
        if self.kind == "add" and len(self.members) != 1:
            raise ValueError(f"{self.target}: an `add` adds one member; write one record for each")

    @property
    def module(self) -> str:
        """The released module."""
        return self.target.partition(":")[0]

    @property
    def qualname(self) -> str:
        """The target's name inside the module."""
        return self.target.partition(":")[2]

    @property
    def key(self) -> tuple[str, str, tuple[str, ...]]:
        """Tells the records of one patch module apart."""
        return self.kind, self.target, self.members

    @property
    def fingerprinted(self) -> tuple[str, ...]:
        """The released members whose change would put this patch in doubt."""
        if self.kind == "add":
            return self.relies_on
        touched = (self.target,) if self.kind != "subclass" else tuple(f"{self.target}.{m}" for m in self.members)
        return touched + self.relies_on

    def __call__(self, code: Code) -> Code:
        if self.code is not None:
            raise ValueError(f"{self.target}: the record decorates {self.code!r} already")
        self.code = code
        _decorators.setdefault(getattr(code, "__module__", ""), []).append(self)
        return code


# The records that decorate something, by the code's module: this finds one that is not bound to a name as well.
_decorators: dict[str, list[Record]] = {}


def records_of(patch: ModuleType, released: str) -> list[Record]:
    """The records of a patch module in the order of their definition; ValueError if they are not sound together.

    `released` is the name of the module that the patch module's path mirrors.
    """
    bound = [value for value in vars(patch).values() if isinstance(value, Record)]
    found = list({id(record): record for record in (*bound, *_decorators.get(patch.__name__, ()))}.values())
    if not found:
        raise ValueError("the patch module holds no Record")
    seen = set()
    for record in found:
        if record.code is None:
            raise ValueError(f"the record of {record.target} ({record.kind}) decorates no code")
        if record.module != released:
            raise ValueError(f"the record of {record.target} stands in the patch module of {released}")
        if record.key in seen:
            raise ValueError(f"two records for {record.target} ({record.kind}, {', '.join(record.members)})")
        seen.add(record.key)
    return found


def _dotted(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))
