"""A small book with the settings of this one, and a chapter of text with one cell, for tests that build."""

import yaml

from tests.conftest import ROOT

HEAD = """---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---
"""


def small_book(root, chapters, static=("logo.svg", "favicon.svg")):
    """Write all but the chapters, which `chapters` lists; returns the folder of the book."""
    folder = root / "book"
    for name in ("techniques", "results", "_static"):
        (folder / name).mkdir(parents=True)
    for name in static:
        (folder / "_static" / name).write_bytes((ROOT / "book" / "_static" / name).read_bytes())
    (folder / "references.bib").write_text("")
    contents = {"format": "jb-book", "root": "intro", "chapters": chapters}
    (folder / "results" / "_toc.yml").write_text(yaml.safe_dump(contents))
    (root / "_config.yml").write_bytes((ROOT / "_config.yml").read_bytes())
    return folder


def chapter(title: str, code: str) -> str:
    return f"{HEAD}\n# {title}\n\n```{{code-cell}}\n{code}\n```\n"
