"""Puts a patched object wherever the release holds the released one.

Imported before its patch (or by a module that was half-way through its import then), a released object stands under
other names too: in other modules, in class attributes, in tables such as a map of worker types, and as the base of
other classes. Everything that is reachable that way from the loaded `crossbar.*` modules is changed, so the order of
importing and patching makes no difference.
"""

import sys
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

_DEPTH = 4  # how deep tables may nest: the personalities' tables of worker types have two levels


def rebind(old: object, new: object) -> None:
    """Put `new` in the place of `old`, compared by identity, in all loaded modules of the release."""
    seen: set[int] = set()
    for module in _release():
        for name, value in list(vars(module).items()):
            if value is old:
                setattr(module, name, new)
            elif isinstance(value, (dict, list)):
                _swap(value, old, new, _DEPTH, seen)
            elif isinstance(value, type) and value.__module__ == module.__name__:
                _in_class(value, old, new, seen)


def _release() -> Iterator[ModuleType]:
    # A module may be half-way through its import, and importing in another thread may add more: hence the copies.
    for name, module in list(sys.modules.items()):
        if (name == "crossbar" or name.startswith("crossbar.")) and isinstance(module, ModuleType):
            yield module


def _in_class(cls: type, old: object, new: object, seen: set[int]) -> None:
    if id(cls) in seen:
        return
    seen.add(id(cls))
    for name, value in list(vars(cls).items()):
        if value is old:
            setattr(cls, name, new)
        elif isinstance(value, (dict, list)):
            _swap(value, old, new, _DEPTH, seen)
        elif isinstance(value, type) and value.__module__ == cls.__module__:
            _in_class(value, old, new, seen)


def _swap(table: dict[Any, Any] | list[Any], old: object, new: object, depth: int, seen: set[int]) -> None:
    if id(table) in seen:
        return
    seen.add(id(table))
    for key, value in list(table.items() if isinstance(table, dict) else enumerate(table)):
        if value is old:
            table[key] = new
        elif depth > 1 and isinstance(value, (dict, list)):
            _swap(value, old, new, depth - 1, seen)


def rebase(old: type, new: type) -> None:
    """Make the existing subclasses of `old` derive from `new`, as they would had they been defined after the patch.

    They must: their explicit calls, such as `Base.__init__(self)`, find the new class under the base's name.
    """
    subclasses: list[type] = old.__subclasses__()
    for sub in subclasses:
        if sub is not new:
            sub.__bases__ = tuple(new if base is old else base for base in sub.__bases__)


def keep_own_super(released: type, built: type, module: ModuleType) -> None:
    """Let `super(Name, self)` in the released class's own methods go on meaning the released class.

    `Name` is looked up in the module at each call, and finds the class built from the mixin: super() would then start
    over at the mixin, endlessly. So in functions that use both names, `Name` becomes one that is bound to the
    released class for good. Elsewhere, and in functions without `super`, the name keeps its new meaning.
    """
    name, fixed = released.__name__, f"_released_{released.__name__}"
    if getattr(module, name, None) is not built:
        return  # a nested class, which its methods do not reach by its bare name
    for value in list(vars(released).values()):
        for function in _functions(value, set()):
            code = _renamed(function.__code__, name, fixed)
            if code is not function.__code__:
                function.__code__ = code
                setattr(module, fixed, released)


def _functions(value: object, seen: set[int]) -> Iterator[FunctionType]:
    """The functions in an attribute of a class, through decorators that keep the original in a closure."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, property):
        for accessor in (value.fget, value.fset, value.fdel):
            yield from _functions(accessor, seen)
    elif isinstance(value, (staticmethod, classmethod)):
        yield from _functions(value.__func__, seen)
    elif isinstance(value, FunctionType):
        yield value
        for cell in value.__closure__ or ():
            try:
                yield from _functions(cell.cell_contents, seen)
            except ValueError:  # a cell that nothing has been put into yet
                continue


def _renamed(code: CodeType, name: str, fixed: str) -> CodeType:
    if "super" not in _names(code) or name not in _names(code):
        return code
    return code.replace(
        co_names=tuple(fixed if used == name else used for used in code.co_names),
        co_consts=tuple(_renamed(c, name, fixed) if isinstance(c, CodeType) else c for c in code.co_consts),
    )


def _names(code: CodeType) -> set[str]:
    names = set(code.co_names)
    for const in code.co_consts:
        if isinstance(const, CodeType):
            names |= _names(const)
    return names
