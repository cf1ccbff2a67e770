"""Applies the records of one patch module to the released module they are written for.

All records are checked against the module before the first is applied. What has been applied is noted on the released
module itself, so applying twice changes nothing, and a module that is loaded afresh is patched afresh.
"""

import functools
import inspect
from collections.abc import Callable
from types import FunctionType, MethodType, ModuleType, new_class
from typing import Any

from crossbar_cluster.overlay.errors import PatchFailed
from crossbar_cluster.overlay.rebind import keep_own_super, rebase, rebind
from crossbar_cluster.overlay.record import Record

APPLIED = "__crossbar_cluster__"  # on a released module: keys of the records applied to it
BUILT = "__crossbar_cluster_built__"  # in a class: it was built here from a mixin and the released class

# What Python itself puts into every class body.
_CLASS_BODY = {
    "__module__", "__qualname__", "__doc__", "__dict__", "__weakref__", "__annotations__", "__annotate_func__",
    "__firstlineno__", "__static_attributes__", "__parameters__", "__orig_bases__", "__type_params__",
}  # fmt: skip


def apply_records(records: list[Record], module: ModuleType) -> None:
    """Apply the records to the released module; PatchFailed if one does not fit, before any is applied."""
    done: set[tuple[str, str, tuple[str, ...]]] = vars(module).setdefault(APPLIED, set())
    pending = [record for record in records if record.key not in done]
    for record in pending:
        _CHECKS[record.kind](record, module)
    for record in pending:
        _APPLIERS[record.kind](record, module)
        done.add(record.key)


def applied_count(module: ModuleType) -> int:
    return len(vars(module).get(APPLIED, ()))


# -- finding the target ---------------------------------------------------------------------------


def _fail(record: Record, reason: str) -> PatchFailed:
    file = inspect.getsourcefile(record.code) if isinstance(record.code, (type, FunctionType)) else None
    return PatchFailed(reason, target=record.target, file=file or "")


def _class(record: Record, module: ModuleType, qualname: str) -> Any:
    """The class as its users get it: the released one, or the one built from it."""
    value: Any = module
    for part in qualname.split("."):
        value = getattr(value, part, None)
        if value is None:
            raise _fail(record, f"the release has no {module.__name__}.{qualname}")
    if not isinstance(value, type):
        raise _fail(record, f"{module.__name__}.{qualname} is no class in the release")
    return value


def _released(cls: type) -> type:
    """The released class under the ones that were built from it."""
    while BUILT in vars(cls):
        cls = cls.__bases__[-1]
    return cls


def _place(record: Record, module: ModuleType) -> tuple[Any, str, Any]:
    """Owner (class or module), name and raw value of the target of a `wrap` or `replace`."""
    parent, _, name = record.qualname.rpartition(".")
    owner: Any = _released(_class(record, module, parent)) if parent else module
    if name in vars(owner):
        return owner, name, vars(owner)[name]
    if inherited := [base for base in inspect.getmro(owner)[1:] if name in vars(base)] if parent else []:
        home = f"{inherited[0].__module__}:{inherited[0].__qualname__}"
        raise _fail(record, f"it is inherited from {home}, and can only be changed there")
    raise _fail(record, "the release has no such member")


# -- subclass -------------------------------------------------------------------------------------


def _check_subclass(record: Record, module: ModuleType) -> None:
    mixin = record.code
    if not isinstance(mixin, type):
        raise _fail(record, "a `subclass` record decorates a class, the mixin")
    released = _released(_class(record, module, record.qualname))
    own = {name for base in mixin.__mro__[:-1] for name in vars(base)} - _CLASS_BODY
    if unwritten := set(record.members) - own:
        raise _fail(record, f"the mixin does not define {', '.join(sorted(unwritten))}")
    if gone := [name for name in record.members if not hasattr(released, name)]:
        raise _fail(record, f"the release has no {', '.join(gone)} to override")
    if silent := {name for name in own if hasattr(released, name)} - set(record.members):
        raise _fail(record, f"the mixin overrides {', '.join(sorted(silent))}, which is not among the record's members")


def _apply_subclass(record: Record, module: ModuleType) -> None:
    mixin, current = record.code, _class(record, module, record.qualname)
    for name in record.members:
        _keep_attributes(vars(mixin).get(name), inspect.getattr_static(current, name))
    body = {
        "__module__": current.__module__,
        "__qualname__": current.__qualname__,
        "__doc__": current.__doc__,
        BUILT: record.key,
    }
    try:
        built = new_class(current.__name__, (mixin, current), exec_body=lambda namespace: namespace.update(body))
        rebase(current, built)
    except TypeError as error:
        raise _fail(record, f"the mixin cannot be combined with the released class: {error}") from error
    parent, _, name = record.qualname.rpartition(".")
    rebind(current, built)
    # The name itself, should the search not reach it: a class nested in a class that was imported from elsewhere.
    setattr(_released(_class(record, module, parent)) if parent else module, name, built)
    keep_own_super(current, built, module)  # after rebind(), which would take the name that this makes for another


# -- wrap -----------------------------------------------------------------------------------------


def _check_wrap(record: Record, module: ModuleType) -> None:
    _, _, raw = _place(record, module)
    if not inspect.isroutine(_function(raw)):
        raise _fail(record, "only a function or method can be wrapped")
    if not inspect.isroutine(record.code):
        raise _fail(record, "a `wrap` record decorates fn(wrapped, instance, args, kwargs)")


def _apply_wrap(record: Record, module: ModuleType) -> None:
    owner, name, raw = _place(record, module)
    wrapper = _wrapper(_function(raw), record.code, _binding(owner, raw))
    _put(owner, name, raw, wrapper)


def _binding(owner: Any, raw: Any) -> str:
    if isinstance(owner, ModuleType) or isinstance(raw, staticmethod):
        return "none"
    return "class" if isinstance(raw, classmethod) else "instance"


def _wrapper(original: Callable[..., Any], fn: Callable[..., Any], binding: str) -> FunctionType:
    """A plain function that calls fn(wrapped, instance, args, kwargs).

    Plain, not a wrapt proxy, because autobahn looks for `_wampuris` on what `inspect.isfunction` accepts.
    For a class method the instance is the class, and for a static method or a function it is None, as in wrapt.
    """
    if binding == "none":

        @functools.wraps(original)
        def patched(*args: Any, **kwargs: Any) -> Any:
            return fn(original, None, args, kwargs)
    else:

        @functools.wraps(original)
        def patched(self: Any, /, *args: Any, **kwargs: Any) -> Any:
            return fn(MethodType(original, self), self, args, kwargs)

    return patched  # type: ignore[return-value]


# -- replace and add ------------------------------------------------------------------------------


def _check_replace(record: Record, module: ModuleType) -> None:
    _, _, raw = _place(record, module)
    if isinstance(raw, type) != isinstance(record.code, type):
        raise _fail(record, "a class is replaced by a class and a function by a function")


def _apply_replace(record: Record, module: ModuleType) -> None:
    owner, name, raw = _place(record, module)
    if isinstance(raw, type):
        try:
            rebase(raw, record.code)
        except TypeError as error:
            raise _fail(record, f"a subclass of the released class cannot take the new base: {error}") from error
        rebind(raw, record.code)
        setattr(owner, name, record.code)
    else:
        _keep_attributes(_function(record.code), _function(raw))
        _put(owner, name, raw, record.code)


def _check_add(record: Record, module: ModuleType) -> None:
    released = _released(_class(record, module, record.qualname))
    if hasattr(released, record.members[0]):
        raise _fail(record, f"the release has {record.members[0]} already")


def _apply_add(record: Record, module: ModuleType) -> None:
    setattr(_released(_class(record, module, record.qualname)), record.members[0], record.code)


# -- shared ---------------------------------------------------------------------------------------


def _function(raw: Any) -> Any:
    return raw.__func__ if isinstance(raw, (staticmethod, classmethod)) else raw


def _put(owner: Any, name: str, raw: Any, function: Any) -> None:
    """Set a function where `raw` is: on its class, or under every name that a global function has been given."""
    if isinstance(raw, (staticmethod, classmethod)) and isinstance(function, FunctionType):
        function = type(raw)(function)
    if isinstance(owner, ModuleType):
        rebind(raw, function)
    setattr(owner, name, function)


def _keep_attributes(ours: Any, released: Any) -> None:
    """Give our function what frameworks have put on the released one, such as autobahn's `_wampuris`."""
    if isinstance(ours, FunctionType) and isinstance(released, FunctionType):
        for name, value in vars(released).items():
            if name != "__wrapped__":  # what the released function wraps is not what ours wraps
                vars(ours).setdefault(name, value)


_CHECKS = {"subclass": _check_subclass, "wrap": _check_wrap, "replace": _check_replace, "add": _check_add}
_APPLIERS = {"subclass": _apply_subclass, "wrap": _apply_wrap, "replace": _apply_replace, "add": _apply_add}
