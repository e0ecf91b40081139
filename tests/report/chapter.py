"""A chapter of text with one cell, as the books that tests make have them."""

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


def chapter(title: str, code: str) -> str:
    return f"{HEAD}\n# {title}\n\n```{{code-cell}}\n{code}\n```\n"
