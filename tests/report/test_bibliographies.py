"""Works cited in a chapter are listed at its end, in one style, and nothing else is."""

from types import SimpleNamespace

import pytest

from kc_utils.report.bibliographies import HEADING, at_the_end, cited, listed
from tests.conftest import ROOT

BIB = ROOT / "book" / "references.bib"
TEXT = "As {cite:t}`namburi2023` say {cite}`wilson1927, jin2024`, and {cite}`namburi2023` again."


def test_keys_are_found_once_in_order():
    assert cited(TEXT) == ["namburi2023", "wilson1927", "jin2024"]
    assert cited("none at all") == []


def test_the_list_holds_what_is_cited_sorted_by_author():
    text = listed(TEXT, BIB)
    lines = [line for line in text.splitlines() if line.startswith("- ")]
    assert text.count(HEADING) == 1 and len(lines) == 3
    assert [name in line for name, line in zip(("Jin", "Namburi", "Wilson"), lines, strict=True)] == [True] * 3
    assert listed("nothing is cited", BIB) == listed("nothing is cited", BIB.with_name("absent.bib")) == ""
    assert listed("{cite}`nobody1900`", BIB) == ""


@pytest.mark.parametrize(("page", "expected"), [("chapter.md", 1), ("references.md", 0), ("notebook.ipynb", 0)])
def test_only_chapters_of_text_get_a_list(page, expected):
    app = SimpleNamespace(srcdir=BIB.parent, env=SimpleNamespace(doc2path=lambda name: page))
    source = [TEXT]
    at_the_end(app, page.partition(".")[0], source)
    assert source[0].count(HEADING) == expected
