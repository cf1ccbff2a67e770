"""Which nodes are meant by a description of them: names and patterns, each with what those nodes are to be given."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Mapping
from typing import TypeVar

_T = TypeVar("_T")
#: Names and patterns (`fnmatch`) of nodes -> what the nodes are to be given.
Rules = Mapping[str, _T]


def is_pattern(rule: str) -> bool:
    return any(sign in rule for sign in "*?[")


def meant_by(rule: str, names: Collection[str]) -> list[str]:
    """Those of ``names`` that a rule is about, sorted."""
    return fnmatch.filter(sorted(names), rule) if is_pattern(rule) else [rule] * (rule in names)


def in_order(rules: Rules[_T]) -> list[tuple[str, _T]]:
    """A name goes before a pattern, and a pattern before those that follow it."""
    return sorted(rules.items(), key=lambda item: is_pattern(item[0]))


def meant(rules: Rules[_T], names: Collection[str]) -> dict[str, _T]:
    """What each of the nodes is to be given, of those that are meant at all."""
    found: dict[str, _T] = {}
    for rule, given in in_order(rules):
        for name in meant_by(rule, names):
            found.setdefault(name, given)
    return found
