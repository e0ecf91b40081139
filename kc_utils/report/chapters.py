"""Chapters that are executed while the book is built: which ones, and when they have to be executed again.

An extension of Sphinx, named in `_config.yml`. MyST-NB executes a chapter whenever Sphinx reads it, and Sphinx reads a
page again only when its own text has changed. What a chapter shows depends on the code that it imports too, so here
each chapter is kept with a hash of that code and of the versions of the libraries below it; where the hash is another
one, the chapter counts as changed.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from pathlib import Path

from kc_utils.compression.methods import METHODS, method
from kc_utils.study.code import ROOT, code_hash
from kc_utils.study.provenance import versions

FOLDER = "techniques"
APPLY = "kc_utils.compression.apply"
LIBRARIES = ("torch", "transformers", "numpy", "matplotlib")
_CELL = re.compile(r"^```\{code-cell\}[^\n]*\n(.*?)^```$", re.M | re.S)
_SETTING = re.compile(r"^:[\w-]+:.*\n", re.M)


def code_cells(text: str) -> list[str]:
    """The source of each code cell of a MyST text notebook, settings such as `:tags:` left out."""
    return [_SETTING.sub("", cell) for cell in _CELL.findall(text)]


def modules_in(text: str) -> tuple[str, ...]:
    """The modules of kc_utils that the code cells of a chapter import."""
    names: set[str] = set()
    for cell in code_cells(text):
        for node in ast.walk(ast.parse(cell)):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return tuple(sorted(name for name in names if name.startswith("kc_utils.") and _is_module(name)))


def _is_module(name: str) -> bool:
    path = ROOT.parent.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def made_with(chapter: Path) -> str:
    """Hash of what the outputs of a chapter depend on besides its own text."""
    modules = modules_in(chapter.read_text(encoding="utf-8"))
    if APPLY in modules:  # it imports a method's module when a recipe names it
        modules += tuple(sorted({METHODS[name].module for name in METHODS} | {method("2:4").module}))
    depends = [code_hash(modules), versions(LIBRARIES)]
    return hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()


def outdated(app, env, added, changed, removed) -> list[str]:
    """Chapters whose code has changed since they were read last: Sphinx's event `env-get-outdated`."""
    before = getattr(env, "kc_made_with", {})
    chapters = sorted(name for name in env.found_docs if name.startswith(f"{FOLDER}/"))
    env.kc_made_with = {name: made_with(Path(env.doc2path(name))) for name in chapters}
    return [name for name, now in env.kc_made_with.items() if before.get(name) != now]


def setup(app) -> dict:
    app.connect("env-get-outdated", outdated)
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": True}
