"""The tracked pages of the book hold together: citations, terms, table of contents and recipes that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from kc_utils.compression.recipe import Recipe
from kc_utils.probing.sources.worldfacts import load

ROOT = Path(__file__).resolve().parents[2]
BOOK = ROOT / "book"
GENERATED = BOOK / "results"
PAGES = sorted(p for p in BOOK.rglob("*.md") if GENERATED not in p.parents)
LESSONS = [file.stem for file in (BOOK / "teaching").glob("*.yaml")]
INCLUDED = {"summary.md", "status.md", "models.md", "choose.md", "explore.md"}
INCLUDED |= {f"lab_{part}.md" for part in ("world", "models", "published")}
INCLUDED |= {f"teaching/{name}_{part}.md" for name in LESSONS for part in ("before", "after")}
CITATION = re.compile(r"\{cite(?::\w+)?\}`([^`]+)`")
TERM = re.compile(r"\{term\}`([^`]+)`", re.DOTALL)
INCLUDE = re.compile(r"```\{include\}\s+(\S+)")
CODE_SPAN = re.compile(r"`([^`\n]+)`")
RECIPE_OPTION = re.compile(r"--recipe\s+(\S+)")
STEP = r"[\w:-]+@[\w.]+(?:=[\w.]+)?(?:,\w+=[\w.]+)*"
RECIPE = re.compile(rf"none|{STEP}(?:\+{STEP})*")

EVERYDAY = {
    "evaluation": "also the activity, and the field's",
    "load": "most often the verb: a model is loaded",
    "run": "most often the verb: code is run",
    "step": "also the distance between two levels of a grid",
    "study": "also this book as a whole, and the work of others",
}
"""Terms that are ordinary words as well, so that their first use cannot be found in the text."""
WITHOUT_LINKS = {
    "glossary.md": "explains the terms",
    "references.md": "is a list",
    "changelog.md": "names what was new; explains nothing",
} | {
    f"findings/{file.name}": "opens with an answer that is computed, where the first use may stand"
    for file in (BOOK / "findings").glob("*.md")
}
NO_PROSE = re.compile(
    r"\A---\n.*?\n---\n|^ *(`{3,}).*?^ *\1$|\$\$.*?\$\$|\{[\w:]+\}`[^`]*`|`[^`]*`|\$[^$]*\$|<[^>]*>|\[[^\]]*\]\([^)]*\)"
    r"|^\s*(?:#|\||:+[\w{-]).*?$",
    re.DOTALL | re.MULTILINE,
)
"""Front matter, blocks, formulas, roles, code, tags, links, headings, rows of tables, options of directives."""


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def page_id(page: Path) -> str:
    return str(page.relative_to(BOOK))


def bibliography_keys() -> list[str]:
    return re.findall(r"^@\w+\{([^,\s]+),", read(BOOK / "references.bib"), re.MULTILINE)


def glossary_terms() -> list[str]:
    block = re.search(r"`{3,}\{glossary\}\n(.*?)\n`{3,}", read(BOOK / "glossary.md"), re.DOTALL).group(1)
    return [line.strip() for line in block.splitlines() if line and not line.startswith(" ")]


def linked_terms(text: str) -> set[str]:
    """The terms that `{term}` leads to, in lower case."""
    shown = (re.search(r"<([^>]+)>\s*$", text) or (None, text) for text in TERM.findall(text))
    return {" ".join(target[1].split()).casefold() for target in shown}


def terms_used(text: str) -> set[str]:
    """Terms of the glossary in sentences, in the singular or plural. A term that is part of a longer one (pruning in
    magnitude pruning) is not used by itself there."""
    prose, found = NO_PROSE.sub(" ", text), set()
    for term in sorted(glossary_terms(), key=len, reverse=True):
        words = r"\s+".join(map(re.escape, term.split()))
        prose, times = re.subn(rf"(?<![\w-]){words}(?:s|es)?(?![\w-])", "…", prose, flags=re.IGNORECASE)
        found |= {term.casefold()} if times else set()
    return found


def toc_files() -> list[str]:
    toc = yaml.safe_load(read(ROOT / "_toc.yml"))
    return [toc["root"]] + [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]


def written_recipes(page: Path) -> list[str]:
    """Recipes shown in table cells and after --recipe; prose that explains the notation is left alone."""
    rows = [line for line in read(page).splitlines() if line.startswith("|")]
    spans = [span for row in rows for span in CODE_SPAN.findall(row)]
    return [s for s in spans if RECIPE.fullmatch(s)] + RECIPE_OPTION.findall(read(page))


def cited(text: str) -> set[str]:
    return {key.strip() for keys in CITATION.findall(text) for key in keys.split(",")}


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_a_page_shows_its_code_and_what_it_cites_links_and_includes_is_there(page):
    assert not re.search(r"^:tags:.*remove-", read(page), re.M)
    assert cited(read(page)) <= set(bibliography_keys())
    assert linked_terms(read(page)) <= {term.casefold() for term in glossary_terms()}
    assert not re.search(r"\b(TODO|FIXME|XXX|TBD)\b", read(page))
    for target in INCLUDE.findall(read(page)):
        file = (page.parent / target).resolve()
        generated = file.is_relative_to(GENERATED) and str(file.relative_to(GENERATED)) in INCLUDED
        assert file.is_file() or generated, target


def test_bibliography_has_no_duplicates_and_no_idle_entries():
    keys = bibliography_keys()
    assert len(keys) == len(set(keys)) and set(keys) <= cited("\n".join(map(read, PAGES)))


@pytest.mark.parametrize("page", [p for p in PAGES if page_id(p) not in WITHOUT_LINKS], ids=page_id)
def test_a_term_of_the_glossary_is_linked_where_a_page_uses_it(page):
    """At least once on each page that uses it in a sentence; not on the page that it is the subject of."""
    text = read(page)
    title = re.search(r"^# (.+)$", text, re.MULTILINE)[1].casefold()
    assert not {t for t in terms_used(text) if t not in title} - {*EVERYDAY, *linked_terms(text)}


def test_glossary_is_sorted_without_repetition():
    terms = [term.casefold() for term in glossary_terms()]
    assert terms == sorted(set(terms))


def test_contents_are_all_pages_and_what_is_generated():
    written = {file for file in toc_files() if not file.startswith("results/")}
    assert written == {str(p.relative_to(BOOK).with_suffix("")) for p in PAGES}


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_recipes_parse(page):
    added = re.findall(r"Method\(\"([^\"]+)\"", read(page))  # methods that the page itself adds to the table
    for text in (t for t in written_recipes(page) if t.partition("@")[0] not in added):
        Recipe.parse(text)


def test_the_readme_counts_the_facts_as_they_are():
    facts = load()
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"over four thousand facts in {len(facts.relations)} relations" in text and 4000 < len(facts) < 5000
