"""The tracked pages of the book hold together: citations, terms, table of contents and recipes that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from kc_utils.publishing.answers import QUESTIONS

ROOT = Path(__file__).resolve().parents[2]
BOOK = ROOT / "book"
GENERATED = BOOK / "results"
PAGES = sorted(p for p in BOOK.rglob("*.md") if GENERATED not in p.parents)
INCLUDED = {
    "landing.md",
    "summary.md",
    "status.md",
    "models.md",
    "preset.md",
    "three_facts.md",
    "choose.md",
    "explore.md",
} | {f"lab_{part}.md" for part in ("world", "models", "published")}

INCLUDED |= {f"findings/{name}_{part}.md" for name in QUESTIONS for part in ("answer", "evidence")}
INCLUDED |= {f"teaching/{file.stem}_{part}.md" for file in (BOOK / "teaching").glob("*.yaml") for part in ("before", "after")}

CITATION = re.compile(r"\{cite(?::\w+)?\}`([^`]+)`")
TERM = re.compile(r"\{term\}`([^`]+)`", re.DOTALL)
INCLUDE = re.compile(r"```\{include\}\s+(\S+)")
CODE_SPAN = re.compile(r"`([^`\n]+)`")
RECIPE_OPTION = re.compile(r"--recipe\s+(\S+)")
STEP = r"[\w:-]+@[\w.]+(?:=[\w.]+)?(?:,\w+=[\w.]+)*"
RECIPE = re.compile(rf"none|{STEP}(?:\+{STEP})*")


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def page_id(page: Path) -> str:
    return str(page.relative_to(BOOK))


def bibliography_keys() -> list[str]:
    return re.findall(r"^@\w+\{([^,\s]+),", read(BOOK / "references.bib"), re.MULTILINE)


def glossary_terms() -> list[str]:
    block = re.search(r"`{3,}\{glossary\}\n(.*?)\n`{3,}", read(BOOK / "glossary.md"), re.DOTALL).group(1)
    return [line.strip() for line in block.splitlines() if line and not line.startswith(" ")]


def toc_files() -> list[str]:
    toc = yaml.safe_load(read(ROOT / "_toc.yml"))
    return [toc["root"]] + [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]


def written_recipes(page: Path) -> list[str]:
    """Recipes shown in table cells and after --recipe; prose that explains the notation is left alone."""
    rows = [line for line in read(page).splitlines() if line.startswith("|")]
    spans = [span for row in rows for span in CODE_SPAN.findall(row)]
    return [s for s in spans if RECIPE.fullmatch(s)] + RECIPE_OPTION.findall(read(page))


def test_there_are_pages():
    assert len(PAGES) >= 10


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_citations_are_in_the_bibliography(page):
    cited = {key.strip() for keys in CITATION.findall(read(page)) for key in keys.split(",")}
    assert cited <= set(bibliography_keys())


def test_bibliography_has_no_duplicates_and_no_idle_entries():
    keys = bibliography_keys()
    cited = {key.strip() for page in PAGES for keys_ in CITATION.findall(read(page)) for key in keys_.split(",")}
    assert len(keys) == len(set(keys))
    assert set(keys) <= cited


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_terms_are_in_the_glossary(page):
    known = {term.casefold() for term in glossary_terms()}
    used = set()
    for text in TERM.findall(read(page)):
        target = re.search(r"<([^>]+)>\s*$", text)
        used.add(" ".join((target.group(1) if target else text).split()).casefold())
    assert used <= known


def test_glossary_is_sorted_without_repetition():
    terms = [term.casefold() for term in glossary_terms()]
    assert terms == sorted(set(terms))


def test_contents_name_files_that_exist_or_are_generated():
    missing = [
        file
        for file in toc_files()
        if not file.startswith("results/") and not any((BOOK / f"{file}{end}").is_file() for end in (".md", ".ipynb"))
    ]
    assert not missing


def test_every_page_is_in_the_contents():
    assert {str(p.relative_to(BOOK).with_suffix("")) for p in PAGES} <= set(toc_files())


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_includes_are_generated_or_tracked(page):
    for target in INCLUDE.findall(read(page)):
        file = (page.parent / target).resolve()
        generated = file.is_relative_to(GENERATED) and str(file.relative_to(GENERATED)) in INCLUDED
        assert file.is_file() or generated, target


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_nothing_is_left_to_be_done(page):
    assert not re.search(r"\b(TODO|FIXME|XXX|TBD)\b", read(page))


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_recipes_parse(page):
    from kc_utils.compression.recipe import Recipe

    for text in written_recipes(page):
        Recipe.parse(text)


def test_technique_table_shows_each_kind_of_recipe():
    shown = written_recipes(BOOK / "background" / "techniques.md")
    for start in ("none", "magnitude@", "random@", "rows-l1@", "2:4@", "int8@", "rtn@"):
        assert any(text.startswith(start) for text in shown), start
    assert any("+" in text for text in shown)


def test_the_readme_counts_the_facts_as_they_are():
    from kc_utils.knowledge.sources.worldfacts import load

    facts = load()
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"in {len(facts.relations)} relations" in text
    assert 4000 < len(facts) < 5000
    assert "over four thousand facts" in text
