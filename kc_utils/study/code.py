"""Which code a result depends on, as a hash that comments and docstrings do not change."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import kc_utils

ROOT = Path(kc_utils.__file__).parent


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
    return tuple(sorted(n for n in names if n.startswith("kc_utils.") and _file_of(n)))


@cache
def _module_hash(module: str) -> str:
    tree = ast.parse(ast.unparse(_tree(module)))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()
