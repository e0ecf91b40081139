"""The tracked pages of the book hold together: citations, terms, table of contents and recipes that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
BOOK = ROOT / "book"
GENERATED = BOOK / "results"
PAGES = sorted(p for p in BOOK.rglob("*.md") if GENERATED not in p.parents)
INCLUDED = {
    "summary.md",
    "status.md",
    "models.md",
    "choose.md",
    "explore.md",
} | {f"lab_{part}.md" for part in ("world", "models", "published")}

INCLUDED |= {
    f"teaching/{file.stem}_{part}.md" for file in (BOOK / "teaching").glob("*.yaml") for part in ("before", "after")
}

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
    **{
        f"findings/{file.name}": "opens with an answer that is computed, where the first use may stand"
        for file in (BOOK / "findings").glob("*.md")
    },
}
WITH_PROSE = {"admonition", "dropdown", "note", "tip", "warning", "grid", "grid-item-card", "card-footer"}
FENCE = re.compile(r"\s*(`{3,}|:{3,})(?:\{([\w-]+)\})?(.*)")
NO_PROSE = re.compile(
    r"\A---\n.*?\n---\n|\$\$.*?\$\$|\{[\w:]+\}`[^`]*`|`[^`]*`|\$[^$]*\$|<[^>]*>|\[[^\]]*\]\([^)]*\)|^\s*(?:#|\||:[\w-]+:).*?$",
    re.DOTALL | re.MULTILINE,
)
"""Front matter, formulas, roles, code, tags, links, headings, rows of tables, options of directives."""


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def page_id(page: Path) -> str:
    return str(page.relative_to(BOOK))


def bibliography_keys() -> list[str]:
    return re.findall(r"^@\w+\{([^,\s]+),", read(BOOK / "references.bib"), re.MULTILINE)


def glossary_terms() -> list[str]:
    block = re.search(r"`{3,}\{glossary\}\n(.*?)\n`{3,}", read(BOOK / "glossary.md"), re.DOTALL).group(1)
    return [line.strip() for line in block.splitlines() if line and not line.startswith(" ")]


def blank(match: re.Match) -> str:
    return re.sub(r"\S", " ", match[0])


def running_text(text: str) -> str:
    """Sentences and headings' neighbours alone: all else is replaced by blanks, so that places stay what they are."""
    lines, open_blocks = [], []  # of each block around a line: its fence, whether sentences stand in it
    for line in text.splitlines():
        fence = FENCE.fullmatch(line)
        if fence and open_blocks and fence[1] == open_blocks[-1][0] and not fence[2] and not fence[3]:
            open_blocks.pop()
        elif fence and all(prose for _, prose in open_blocks):
            open_blocks.append((fence[1], fence[2] in WITH_PROSE))
        elif all(prose for _, prose in open_blocks):
            lines.append(line)
            continue
        lines.append(" " * len(line))
    return NO_PROSE.sub(blank, "\n".join(lines))


def linked_terms(text: str) -> set[str]:
    """The terms that `{term}` leads to, in lower case."""
    shown = (re.search(r"<([^>]+)>\s*$", text) or (None, text) for text in TERM.findall(text))
    return {" ".join(target[1].split()).casefold() for target in shown}


def terms_used(text: str) -> dict[str, re.Match]:
    """Terms of the glossary in running text, in the singular or plural, with their first use. A term that is part of a longer
    one (pruning in magnitude pruning) is not used by itself there."""
    prose, found = running_text(text), {}
    for term in sorted(glossary_terms(), key=len, reverse=True):
        words = r"\s+".join(map(re.escape, term.split()))
        pattern = re.compile(rf"(?<![\w-]){words}(?:s|es)?(?![\w-])", re.IGNORECASE)
        if first := pattern.search(prose):
            found[term] = first
        prose = pattern.sub(blank, prose)
    return found


def toc_files() -> list[str]:
    toc = yaml.safe_load(read(ROOT / "_toc.yml"))
    return [toc["root"]] + [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]


def written_recipes(page: Path) -> list[str]:
    """Recipes shown in table cells and after --recipe; prose that explains the notation is left alone."""
    rows = [line for line in read(page).splitlines() if line.startswith("|")]
    spans = [span for row in rows for span in CODE_SPAN.findall(row)]
    return [s for s in spans if RECIPE.fullmatch(s)] + RECIPE_OPTION.findall(read(page))


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
    assert linked_terms(read(page)) <= {term.casefold() for term in glossary_terms()}


@pytest.mark.parametrize("page", [p for p in PAGES if page_id(p) not in WITHOUT_LINKS], ids=page_id)
def test_a_term_of_the_glossary_is_linked_where_a_page_uses_it(page):
    """At least once on each page that uses it in a sentence; not on the page that it is the subject of."""
    text = read(page)
    title = re.search(r"^# (.+)$", text, re.MULTILINE)[1].casefold()
    used = {term: first for term, first in terms_used(text).items() if term.casefold() not in title}
    missing = set(used) - set(EVERYDAY) - {term for term in used if term.casefold() in linked_terms(text)}
    assert not missing, {term: text[: used[term].start()].count("\n") + 1 for term in missing}


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

    added = re.findall(r"Method\(\"([^\"]+)\"", read(page))  # methods that the page itself adds to the table
    for text in (t for t in written_recipes(page) if t.partition("@")[0] not in added):
        Recipe.parse(text)


def test_the_readme_counts_the_facts_as_they_are():
    from kc_utils.probing.sources.worldfacts import load

    facts = load()
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"in {len(facts.relations)} relations" in text
    assert 4000 < len(facts) < 5000
    assert "over four thousand facts" in text


def test_the_chapters_on_techniques_take_the_time_that_their_overview_states():
    from kc_utils.report import teaching

    chapters = (BOOK / "techniques").glob("*.md")
    minutes = sum(teaching.read(BOOK / "teaching" / f"{page.stem}.yaml").minutes for page in chapters)
    assert round(minutes / 30) / 2 == 5.5
    assert "about five and a half hours" in read(BOOK / "background" / "techniques.md")
