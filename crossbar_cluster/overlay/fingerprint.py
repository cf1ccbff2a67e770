"""Fingerprints of released members, taken from their source: nothing of the release is imported.

A fingerprint is a SHA-256 over the member's syntax tree without what does not change behaviour (docstrings, positions,
comments) and without what differs between Python versions, so it is the same under every supported Python. The
module needs nothing but the standard library and runs by itself:

    python fingerprint.py FOLDER_OF_THE_CROSSBAR_PACKAGE crossbar.module:Qual.name ...

prints the fingerprints as JSON, null for a member that does not exist.
"""

import ast
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

# Fields that say nothing about behaviour or that not every supported Python fills.
_IGNORED_FIELDS = {"type_comment", "kind", "ctx", "type_ignores"}

_Definition = ast.stmt
_SCOPES = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef, ast.Module)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class Missing(LookupError):
    """The release has no such member."""


def package_folder() -> Path:
    """Where the installed release's package `crossbar` is, without importing it. Raises PackageNotFoundError."""
    return Path(str(metadata.distribution("crossbar").locate_file("crossbar")))


def fingerprint(target: str, folder: Path) -> str:
    """The fingerprint of "import.path:Qual.name" in the package in `folder`; Missing if it has no such member."""
    module, _, qualname = target.partition(":")
    found, home = _find(module, qualname.split("."), folder)
    if home != "crossbar" and not home.startswith("crossbar."):
        # What a class inherits from another distribution is that distribution's; only that it does matters here.
        return _hash(f"inherited from {home.partition('.')[0]}")
    return _hash("\n".join(_text(node) for node in found))


# -- finding --------------------------------------------------------------------------------------


def _find(module: str, path: list[str], folder: Path, depth: int = 0) -> tuple[list[_Definition], str]:
    """The definitions of a member, its own or inherited, and the module they stand in."""
    if depth > 20:
        raise Missing(f"{module}:{'.'.join(path)}: too many steps")
    tree = _tree(module, folder)
    if tree is None:
        raise Missing(f"there is no source of a module {module}")
    scopes: list[_Definition] = []
    bodies: list[ast.AST] = [tree]
    for position, name in enumerate(path):
        found = [node for body in bodies for node in _defined(body, name)]
        if not found and position:
            return _inherited(module, bodies, path[position:], folder, depth)
        if not found:
            raise Missing(f"{module} has no {name}")
        imported = [node for node in found if isinstance(node, (ast.Import, ast.ImportFrom))]
        if imported and path[position + 1 :]:  # a class that the module has from elsewhere
            return _follow(module, imported[-1], name, path[position + 1 :], folder, depth)
        scopes, bodies = found, list(found)
    return scopes, module


def _inherited(
    module: str, classes: list[ast.AST], rest: list[str], folder: Path, depth: int
) -> tuple[list[_Definition], str]:
    for base in [base for cls in classes if isinstance(cls, ast.ClassDef) for base in cls.bases]:
        names = _dotted(base)
        if names:
            try:
                return _find(module, [*names, *rest], folder, depth + 1)
            except Missing:
                continue
    raise Missing(f"{module} has no {'.'.join(rest)} where it is looked for")


def _follow(
    module: str, node: _Definition, name: str, rest: list[str], folder: Path, depth: int
) -> tuple[list[_Definition], str]:
    """Look `rest` up in what an import statement binds `name` to."""
    for alias in getattr(node, "names", ()):
        if isinstance(node, ast.ImportFrom) and (alias.asname or alias.name) == name:
            origin = _absolute(module, node, folder)
            if _file(f"{origin}.{alias.name}", folder):  # `from package import module`
                return _find(f"{origin}.{alias.name}", rest, folder, depth + 1)
            return _find(origin, [alias.name, *rest], folder, depth + 1)
        if isinstance(node, ast.Import) and alias.asname == name:
            return _find(alias.name, rest, folder, depth + 1)
        if isinstance(node, ast.Import) and not alias.asname and alias.name.split(".")[0] == name:
            # `import a.b.c` binds a: go down as long as the path names modules
            target, rest = name, list(rest)
            while len(rest) > 1 and _file(f"{target}.{rest[0]}", folder):
                target = f"{target}.{rest.pop(0)}"
            return _find(target, rest, folder, depth + 1)
    raise Missing(f"{module}: cannot tell where {name} comes from")


def _absolute(module: str, node: ast.ImportFrom, folder: Path) -> str:
    if not node.level:
        return node.module or ""
    file = _file(module, folder)
    is_package = file is not None and file.name == "__init__.py"
    package = module.split(".")[: len(module.split(".")) - node.level + is_package]
    return ".".join([*package, *([node.module] if node.module else [])])


def _defined(scope: ast.AST, name: str) -> Iterator[_Definition]:
    """What defines `name` in the body of a module, class or function: every definition, for there may be several
    (overloads, the accessors of a property, alternatives under an `if` or `try`)."""
    for child in ast.iter_child_nodes(scope):
        if isinstance(child, (ast.ClassDef, *_FUNCTIONS)):
            if child.name == name:
                yield child
        elif isinstance(child, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
            targets = child.targets if isinstance(child, ast.Assign) else [child.target]
            if any(isinstance(n, ast.Name) and n.id == name for target in targets for n in ast.walk(target)):
                yield child
        elif isinstance(child, (ast.Import, ast.ImportFrom)):
            if any((alias.asname or alias.name.split(".")[0]) == name for alias in child.names):
                yield child
        elif isinstance(child, (ast.stmt, ast.ExceptHandler, ast.match_case)):
            yield from _defined(child, name)


def _dotted(node: ast.expr) -> list[str]:
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute) and (front := _dotted(node.value)):
        return [*front, node.attr]
    if isinstance(node, ast.Subscript):  # Generic[T]
        return _dotted(node.value)
    return []


def _file(module: str, folder: Path) -> Path | None:
    """The source file of a module: of the release in its folder, of others beside it or on sys.path."""
    top, *rest = module.split(".")
    roots = [folder] if top == "crossbar" else [root / top for root in (folder.parent, *map(Path, sys.path))]
    for root in roots:
        path = root.joinpath(*rest)
        for file in (path / "__init__.py", path.parent / f"{path.name}.py"):
            if file.is_file():
                return file
    return None


@cache
def _tree(module: str, folder: Path) -> ast.Module | None:
    file = _file(module, folder)
    return ast.parse(file.read_bytes()) if file else None


# -- normalising ----------------------------------------------------------------------------------


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _text(value: object) -> str:
    """One text for all trees that mean the same: no docstrings, no positions, no empty fields."""
    if isinstance(value, ast.AST):
        fields = [
            f"{name}={_text(field)}"
            for name, field in _fields(value)
            if name not in _IGNORED_FIELDS and field is not None and field != []
        ]
        return f"{type(value).__name__}({', '.join(fields)})"
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    return ascii(value)  # not repr(): which characters that shows as they are depends on Python's Unicode tables


def _fields(node: ast.AST) -> Iterable[tuple[str, object]]:
    for name, field in ast.iter_fields(node):
        if name == "body" and isinstance(node, _SCOPES) and ast.get_docstring(node, clean=False) is not None:
            yield name, field[1:]
        elif name == "values" and isinstance(node, ast.JoinedStr):
            yield name, _joined(field)
        else:
            yield name, field


def _joined(values: list[ast.expr]) -> list[ast.expr]:
    """The parts of an f-string with adjacent texts made one: Python versions cut them differently."""
    parts: list[ast.expr] = []
    for part in values:
        if isinstance(part, ast.Constant) and part.value == "":
            continue
        last = parts[-1] if parts else None
        if isinstance(part, ast.Constant) and isinstance(last, ast.Constant):
            parts[-1] = ast.Constant(str(last.value) + str(part.value))
        else:
            parts.append(part)
    return parts


def main(arguments: list[str]) -> int:
    folder, *targets = arguments
    found: dict[str, str | None] = {}
    for target in targets:
        try:
            found[target] = fingerprint(target, Path(folder))
        except Missing:
            found[target] = None
    json.dump(found, sys.stdout, indent=1, sort_keys=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
