"""Which code a result depends on, as a hash that neither comments and docstrings nor the version of Python change.

Tables of which a result uses single rows are left out of it (`TABLES`): a new method, source or architecture makes no other
result outdated. What uses a row adds it to what it depends on, as `cells.making` does.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import kc_utils

ROOT = Path(kc_utils.__file__).parent
TABLES = {
    "kc_utils.compression.methods": "METHODS",
    "kc_utils.probing.sources": "SOURCES",  # facts are hashed themselves
    "kc_utils.models.roles_table": None,
}
"""Module -> the name in it that holds the table, or None where the whole module is one."""


def code_hash(modules: Iterable[str], data_files: Iterable[str] = ()) -> str:
    """Hash of these kc_utils modules, of every kc_utils module they import in turn, and of data files beside them."""
    digest = hashlib.sha256()
    for module in sorted(import_closure(modules)):
        digest.update(f"{module}:{_module_hash(module)}\n".encode())
    for name in sorted(data_files):
        digest.update(f"{name}:{hashlib.sha256((ROOT / name).read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def import_closure(modules: Iterable[str]) -> set[str]:
    """These modules and every module of kc_utils that they import, directly or not, at the top or in a function."""
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting.extend(_imports(module))
    return found


def _file_of(module: str) -> Path | None:
    path = ROOT.parent.joinpath(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@cache
def _tree(module: str) -> ast.Module:
    file = _file_of(module)
    if file is None:
        raise ModuleNotFoundError(f"no module {module} in {ROOT}")
    return ast.parse(file.read_text(encoding="utf-8"))


@cache
def _imports(module: str) -> tuple[str, ...]:
    names: set[str] = set()
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Import):
            names |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {node.module} | {f"{node.module}.{a.name}" for a in node.names}
    return tuple(sorted(n for n in names if n.partition(".")[0] in ("kc_utils", "kc_lab") and _file_of(n)))


@cache
def _module_hash(module: str) -> str:
    tree = _tree(module)
    if module in TABLES:
        tree = ast.Module([node for node in tree.body if not _is_table(node, TABLES[module])])
    return hashlib.sha256(repr(_plain(tree)).encode()).hexdigest()


def _is_table(node: ast.stmt, name: str | None) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return name is None or any(isinstance(target, ast.Name) and target.id == name for target in targets)


def _plain(node):
    """A tree as nested tuples, without docstrings, places and the fields that are empty: newer Pythons have more of these."""
    if type(node) is list:
        return tuple([_plain(part) for part in node])
    if not isinstance(node, ast.AST):
        return node
    fields = {}
    for name in node._fields:
        value = getattr(node, name, None)
        if value is not None and not (type(value) is list and not value) and name != "type_comment":
            fields[name] = value
    if isinstance(node, ast.Constant):
        fields["value"] = node.value  # None is one
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node):
        fields["body"] = node.body[1:]
    return type(node).__name__, tuple([(name, _plain(value)) for name, value in fields.items()])
