"""What may stand at a place of the file: each kind reads it, says what is wrong with it, and describes itself as JSON
schema, for editors.

A kind that finds a problem notes it and reads on, so that all problems of a file are told at once; what it returns then
is of no use to anybody, and nobody uses it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import yaml

from crossbar_cluster.operator.apply.source import Json, Problems, Word, entries, is_null, kind_of, plain


class Kind(Protocol):
    def read(self, node: yaml.Node, problems: Problems) -> Any: ...

    def schema(self) -> Json: ...


@dataclass(frozen=True)
class Text:
    """Text; returned as a `Word`.

    :ivar what: as a message calls it.
    :ivar pattern: what all of it has to match.
    :ivar rule: the same in words.
    """

    what: str
    pattern: str = r"[\s\S]*"
    rule: str = ""

    def read(self, node: yaml.Node, problems: Problems) -> Word:
        if not isinstance(node, yaml.ScalarNode) or kind_of(node).partition(" (")[0] != "text":
            hint = ": put it in quotes" if isinstance(node, yaml.ScalarNode) and node.value else ""
            problems.add(node, f"{self.what} has to be text, but this is {kind_of(node)}{hint}")
            return Word()
        word = Word.of(node)
        self.check(word, problems)
        return word

    def check(self, word: Word, problems: Problems) -> None:
        if not re.fullmatch(self.pattern, word):
            problems.add(word, f"{self.what} has to be {self.rule}, but this is {str(word)!r}")

    def schema(self) -> Json:
        return {"type": "string"} | ({"pattern": f"^({self.pattern})$", "description": self.rule} if self.rule else {})


@dataclass(frozen=True)
class Whole:
    """A whole number within bounds."""

    what: str
    least: int
    most: int

    def read(self, node: yaml.Node, problems: Problems) -> int:
        value = plain(node, Problems())
        if type(value) is not int or not self.least <= value <= self.most:
            rule = f"a whole number from {self.least} to {self.most}"
            problems.add(node, f"{self.what} has to be {rule}, but this is {kind_of(node)}")
            return self.least
        return value

    def schema(self) -> Json:
        return {"type": "integer", "minimum": self.least, "maximum": self.most}


@dataclass(frozen=True)
class Truth:
    """``true`` or ``false``."""

    what: str

    def read(self, node: yaml.Node, problems: Problems) -> bool:
        value = plain(node, Problems())
        if type(value) is not bool:
            problems.add(node, f"{self.what} has to be true or false, but this is {kind_of(node)}")
        return value is True

    def schema(self) -> Json:
        return {"type": "boolean"}


@dataclass(frozen=True)
class OneOf:
    """One of a few words."""

    what: str
    words: tuple[str, ...]

    def read(self, node: yaml.Node, problems: Problems) -> str:
        if not isinstance(node, yaml.ScalarNode) or node.value not in self.words:
            closest = guess(node.value, self.words) if isinstance(node, yaml.ScalarNode) else ""
            problems.add(
                node, f"{self.what} has to be one of {', '.join(self.words)}, but this is {kind_of(node)}{closest}"
            )
            return self.words[0]
        return str(node.value)

    def schema(self) -> Json:
        return {"enum": list(self.words)}


@dataclass(frozen=True)
class Items:
    """A list without repetitions; nothing at all is an empty one.

    :ivar note: what to do instead, for those who have written something else.
    """

    what: str
    item: Kind
    note: str = ""

    def read(self, node: yaml.Node, problems: Problems) -> list[Any]:
        if is_null(node):
            return []
        if not isinstance(node, yaml.SequenceNode):
            rule = f"a list, like [first, second]{self.note}"
            problems.add(node, f"{self.what} has to be {rule}, but this is {kind_of(node)}")
            return []
        found: list[Any] = []
        for child in node.value:
            value = self.item.read(child, problems)
            if isinstance(value, str) and value in found:
                problems.add(child, f"{value!s} is here a second time")
            else:
                found.append(value)
        return found

    def schema(self) -> Json:
        return {"type": ["array", "null"], "items": self.item.schema()}


@dataclass(frozen=True)
class Several:
    """Several of a few words, or ``all`` of them."""

    what: str
    words: tuple[str, ...]

    def read(self, node: yaml.Node, problems: Problems) -> frozenset[str]:
        if isinstance(node, yaml.ScalarNode) and node.value == "all":
            return frozenset(self.words)
        if not isinstance(node, yaml.SequenceNode):
            rule = f"a list of {', '.join(self.words)}, or the word all"
            problems.add(node, f"{self.what} has to be {rule}, but this is {kind_of(node)}")
            return frozenset()
        return frozenset(Items(self.what, OneOf(self.what, self.words)).read(node, problems))

    def schema(self) -> Json:
        return {"anyOf": [{"const": "all"}, Items(self.what, OneOf(self.what, self.words)).schema()]}


@dataclass(frozen=True)
class Named:
    """A mapping from names to things of one kind; nothing at all is an empty one."""

    what: str
    name: Text
    value: Kind

    def read(self, node: yaml.Node, problems: Problems) -> dict[Word, Any]:
        if is_null(node):
            return {}
        if not isinstance(node, yaml.MappingNode):
            problems.add(node, f"{self.what} have to be a mapping, name: ..., but this is {kind_of(node)}")
            return {}
        found = {}
        for key, child in entries(node, problems):
            self.name.check(key, problems)
            found[key] = self.value.read(child, problems)
        return found

    def schema(self) -> Json:
        return {
            "type": ["object", "null"],
            "additionalProperties": self.value.schema(),
            "propertyNames": {"pattern": f"^({self.name.pattern})$"},
        }


@dataclass(frozen=True)
class Fields:
    """A mapping with known keys.

    :ivar required: keys that have to be there. Without any, nothing at all is as good as ``{}``.
    """

    what: str
    fields: Mapping[str, Kind]
    required: frozenset[str] = field(default_factory=frozenset)
    open: bool = False  #: other keys are taken as they are, and are for the master to judge

    def read(self, node: yaml.Node, problems: Problems) -> dict[str, Any]:
        if is_null(node) and not self.required:
            return {}
        if not isinstance(node, yaml.MappingNode):
            known = ", ".join(f"{name}: ..." for name in self.fields)
            problems.add(node, f"{self.what} has to be a mapping, {{{known}}}, but this is {kind_of(node)}")
            return {}
        found: dict[str, Any] = {}
        for key, child in entries(node, problems):
            if key in self.fields:
                found[str(key)] = self.fields[key].read(child, problems)
            elif self.open:
                found[str(key)] = plain(child, problems)
            else:
                problems.add(key, self._unknown(key))
        for name in sorted(self.required - {str(key) for key, _ in entries(node, Problems())}):
            problems.add(node, f"{self.what} has no {name}")
        return found

    def _unknown(self, key: str) -> str:
        return f"{self.what} has no key {key!s}: known are {', '.join(self.fields)}{guess(key, self.fields)}"

    def schema(self) -> Json:
        described: Json = {"type": "object" if self.required else ["object", "null"]}
        described["properties"] = {name: kind.schema() for name, kind in self.fields.items()}
        described["additionalProperties"] = self.open
        return described | ({"required": sorted(self.required)} if self.required else {})


@dataclass(frozen=True)
class NamedOrListed:
    """A list of names, or a mapping from names to settings; returned as the mapping."""

    what: str
    name: Text
    settings: Fields

    def read(self, node: yaml.Node, problems: Problems) -> dict[Word, dict[str, Any]]:
        if isinstance(node, yaml.SequenceNode) or is_null(node):
            return {name: {} for name in Items(self.what, self.name).read(node, problems)}
        if isinstance(node, yaml.MappingNode):
            return Named(self.what, self.name, self.settings).read(node, problems)
        problems.add(node, f"{self.what} have to be a list of names, or a mapping, but this is {kind_of(node)}")
        return {}

    def schema(self) -> Json:
        listed = Items(self.what, self.name).schema()
        return {"anyOf": [listed, Named(self.what, self.name, self.settings).schema()]}


def guess(word: str, known: Iterable[str]) -> str:
    """`` - did you mean ...?``; empty: nothing known is like it."""
    close = difflib.get_close_matches(word, list(known), 1)
    return f" - did you mean {close[0]}?" if close else ""
