"""Which code a result depends on, as a hash that neither comments and docstrings nor the version of Python change.

Tables of which a result uses single rows are left out of it (`TABLES`): a new method, source or architecture makes no other
result outdated. What uses a row adds it to what it depends on, as `cells.making` does.
"""

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from kc_utils.places import PACKAGE as ROOT

PACKAGES = ("kc_utils", "kc_lab")
TABLES = {
    "kc_utils.compression.methods": "METHODS",
    "kc_utils.probing.sources": "SOURCES",  # facts are hashed themselves
}
"""Module -> the name in it that holds the table."""
GATES = ("kc_utils.lab",)
"""Modules whose imports are not followed: facts and weights of the lab are hashed themselves, its instruments are named."""


def code_hash(modules: Iterable[str]) -> str:
    """Hash these modules and every module of this project that they import in turn."""
    return _hash_of(tuple(sorted({*modules})))


@cache
def _hash_of(modules: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for module in sorted(import_closure(modules)):
        digest.update(f"{module}:{_module_hash(module)}\n".encode())
    return digest.hexdigest()


def import_closure(modules: Iterable[str]) -> set[str]:
    """Return these modules and all that they import, directly or not, at the top or in a function."""
    waiting = list(modules)
    named, found = set(waiting), set()
    while waiting:
        module = waiting.pop()
        if module not in found and (module not in GATES or module in named):
            found.add(module)
            waiting.extend(_imports(module))
    return found


def file_of(module: str) -> Path | None:
    """Return the file of a module of this project, or None."""
    path = ROOT.parent.joinpath(*module.split("."))
    return next((f for f in (path.with_suffix(".py"), path / "__init__.py") if f.is_file()), None)


def imports_in(tree: ast.AST) -> set[str]:
    """Return every module that some code names in an import, and every name that it takes from one."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {node.module} | {f"{node.module}.{a.name}" for a in node.names}
    return names


@cache
def _tree(module: str) -> ast.Module:
    file = file_of(module)
    if file is None:
        raise ModuleNotFoundError(f"no module {module} in {ROOT}")
    return ast.parse(file.read_text(encoding="utf-8"))


@cache
def _imports(module: str) -> tuple[str, ...]:
    return tuple(sorted(n for n in imports_in(_tree(module)) if n.partition(".")[0] in PACKAGES and file_of(n)))


@cache
def _module_hash(module: str) -> str:
    tree = _tree(module)
    if module in TABLES:
        tree = ast.Module([node for node in tree.body if not _is_table(node, TABLES[module])])
    return hashlib.sha256(repr(_plain(tree)).encode()).hexdigest()


def _is_table(node: ast.stmt, name: str) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return any(isinstance(target, ast.Name) and target.id == name for target in targets)


def _plain(node):
    """Turn a tree into nested tuples without docstrings, positions and empty fields, of which newer Pythons have more."""
    if type(node) is list:
        return tuple([_plain(part) for part in node])
    if not isinstance(node, ast.AST):
        return node
    fields = {name: getattr(node, name, None) for name in node._fields if name != "type_comment"}
    fields = {name: value for name, value in fields.items() if value is not None and value != []}
    if isinstance(node, ast.Constant):
        fields["value"] = node.value  # None is one
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node):
        fields["body"] = node.body[1:]
    return type(node).__name__, tuple([(name, _plain(value)) for name, value in fields.items()])
