"""YAML that knows where in its file everything stands, and the problems that are found in it.

Of YAML only what JSON can say is taken: the master is told nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import yaml

Json = Any

_TAG = "tag:yaml.org,2002:"
_PLAIN = frozenset(f"{_TAG}{name}" for name in ("str", "int", "float", "bool", "null"))
#: What YAML 1.1 takes for something else than people mean.
_NAMES = {
    "str": "text", "int": "a number", "float": "a number with a fraction", "bool": "true or false", "null": "nothing",
    "timestamp": "a date", "map": "a mapping", "seq": "a list",
}  # fmt: skip


@dataclass(frozen=True, order=True)
class Problem:
    """Something in the file that is not right; line and column count from 1."""

    line: int
    column: int
    message: str


@dataclass
class Problems:
    """What has been found so far."""

    found: list[Problem] = field(default_factory=list)

    def add(self, where: yaml.Node | Word, message: str) -> None:
        mark = where.mark if isinstance(where, Word) else where.start_mark
        self.found.append(Problem(mark.line + 1, mark.column + 1, message))


class Word(str):
    """Text that knows where it stands."""

    mark: yaml.Mark

    @classmethod
    def of(cls, node: yaml.ScalarNode) -> Word:
        word = cls(node.value)
        word.mark = node.start_mark
        return word


def compose(text: str, problems: Problems) -> yaml.Node | None:
    """The root of the document; None: there is none, and `problems` has why."""
    try:
        root: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        said = ", ".join(part for part in (e.context, e.problem) if part)
        problems.found.append(Problem(line, column, f"this is not YAML: {said}"))
        return None
    except yaml.YAMLError as e:  # a character that YAML does not allow
        problems.found.append(Problem(1, 1, f"this is not YAML: {' '.join(str(e).split())}"))
        return None
    if root is None or is_null(root):
        problems.found.append(Problem(1, 1, "the file describes nothing"))
        return None
    return root


def is_null(node: yaml.Node) -> bool:
    return bool(node.tag == f"{_TAG}null")


def kind_of(node: yaml.Node) -> str:
    """What stands there, in words."""
    name = _NAMES.get(str(node.tag).removeprefix(_TAG), f"something tagged {node.tag}")
    return f"{name} ({node.value})" if isinstance(node, yaml.ScalarNode) and node.value else name


def entries(node: yaml.MappingNode, problems: Problems) -> list[tuple[Word, yaml.Node]]:
    """Keys and values; a key that is no text, or there twice, is a problem."""
    found: dict[str, tuple[Word, yaml.Node]] = {}
    for key, value in node.value:
        # a name of digits only, or `on`, is a number or a truth to YAML and a name to whoever wrote it
        if not isinstance(key, yaml.ScalarNode) or key.tag not in _PLAIN or key.tag == f"{_TAG}null":
            problems.add(key, f"a key has to be text, but this is {kind_of(key)}: put it in quotes")
            continue
        word = Word.of(key)
        if word in found:
            problems.add(word, f"{word!s} is here a second time: the first is in line {found[word][0].mark.line + 1}")
            continue
        found[word] = (word, value)
    return list(found.values())


def plain(node: yaml.Node, problems: Problems, inside: tuple[yaml.Node, ...] = ()) -> Json:
    """What stands there as JSON."""
    if node in inside:
        problems.add(node, "this contains itself")
        return None
    inside = (*inside, node)
    if isinstance(node, yaml.MappingNode):
        return {str(key): plain(value, problems, inside) for key, value in entries(node, problems)}
    if isinstance(node, yaml.SequenceNode):
        return [plain(item, problems, inside) for item in node.value]
    if node.tag not in _PLAIN:
        problems.add(node, f"this is {kind_of(node)}: put it in quotes if it is meant as text")
        return None
    return yaml.constructor.SafeConstructor().construct_object(node)
