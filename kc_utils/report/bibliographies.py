"""The works that a chapter cites, listed at its end: an extension of Sphinx, named in `_config.yml`.

The citations themselves lead to the page of references, where every work stands once; a second bibliography of Sphinx in each
chapter would give every work several labels. So the list is written as text, in the same style, from the same file.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from pybtex.database import BibliographyData, parse_file
from pybtex.plugin import find_plugin

HEADING = "## Works cited in this chapter"
ALL = "references"
"""The page of all works."""
_CITED = re.compile(r"\{cite(?::\w+)?\}`([^`]+)`")


def cited(text: str) -> list[str]:
    """Keys in the order in which they are cited first."""
    keys = (key.strip() for group in _CITED.findall(text) for key in group.split(","))
    return list(dict.fromkeys(keys))


def listed(text: str, file: Path) -> str:
    """The list for a chapter, as Markdown; nothing where it cites nothing. A key that the file lacks is left to Sphinx, which
    warns of it."""
    keys = cited(text)
    if not keys:  # the file need not be there either
        return ""
    works = _works(file, file.stat().st_mtime_ns)
    chosen = BibliographyData({key: works.entries[key] for key in keys if key in works.entries})
    if not chosen.entries:
        return ""
    style = find_plugin("pybtex.style.formatting", "plain")()  # by author
    backend = find_plugin("pybtex.backends", "markdown")()
    entries = style.format_entries(chosen.entries.values())
    lines = [" ".join(entry.text.render(backend).split()) for entry in entries]
    return f"\n\n{HEADING}\n\n" + "\n".join(f"- {line}" for line in lines) + "\n"


@lru_cache(maxsize=4)
def _works(file: Path, stamp: int) -> BibliographyData:
    return parse_file(file)


def at_the_end(app, docname: str, source: list[str]) -> None:
    """Sphinx's event `source-read`: the text of a page before it is parsed. Notebooks, which are JSON, stay as they are."""
    page = Path(app.env.doc2path(docname))
    if page.suffix == ".md" and docname != ALL:
        source[0] += listed(source[0], Path(app.srcdir) / "references.bib")


def setup(app) -> dict:
    app.connect("source-read", at_the_end)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
