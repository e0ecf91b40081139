"""Pages on paper: nothing hidden, nothing to click, black on white; and the whole book as one PDF."""

import re
from pathlib import Path

import pytest

from kc_utils.errors import MissingData
from kc_utils.report import printing
from kc_utils.report.printing import book_pdf, chromium
from tests.browsing import browsing
from tests.conftest import ROOT
from tests.report.chapter import small_book

needs_chromium = pytest.mark.skipif(chromium() is None, reason="no Chromium here; KC_CHROMIUM may name one")
STATIC = ROOT / "book" / "_static"
PAGE = Path(__file__).with_name("paper.html").read_text(encoding="utf-8")


@pytest.fixture
def page(tmp_path):
    """A page with the styles of this book."""
    links = "".join(f'<link rel="stylesheet" href="{(STATIC / name).as_uri()}">' for name in ("book.css", "print.css"))
    file = tmp_path / "chapter.html"
    file.write_text(PAGE.format(styles=links), encoding="utf-8")
    return file


def sheets(pdf):
    return len(re.findall(rb"/Type\s*/Page\b", pdf.read_bytes()))


SHOWN = ["h1", ".solution", ".plain-solution", ".kc-scroll", ".kc-quiz", "figure"]
LEFT_OUT = [
    ".bd-header", ".bd-sidebar-primary", ".bd-sidebar-secondary", ".bd-header-article", "#jb-print-docs-body", ".headerlink",
    ".kc-choose", ".kc-quiz-said", "details.hide",
]  # fmt: skip


@needs_chromium
@pytest.mark.parametrize("dark", [False, True])
def test_paper_shows_what_is_folded_and_leaves_out_what_takes_a_click(page, dark):
    if dark:
        page.write_text(page.read_text().replace('data-theme="light"', 'data-theme="dark"'))
    with browsing(page.parent) as browser, browser.visit(page.name, dark=dark, from_file=True) as visit:
        visit.page.add_style_tag(content='html[data-theme="dark"] { --pst-color-text-base: #eee; background: #111; }')
        visit.page.emulate_media(media="print")
        found, faint = visit.look("paper", [*SHOWN, *LEFT_OUT]), visit.look("contrast")
    assert set(found["seen"]) == set(SHOWN)
    assert found["address"].replace('"', "").replace(" ", "") == "(https://example.org/paper)"
    assert found["inside"] in ("none", "normal") and found["repeated"] in ("none", "normal")
    assert set(found["whole"]) == {"avoid"}
    assert faint == []


@pytest.fixture
def book(tmp_path, in_project):
    """A book of two pages that look like this one's."""
    folder = small_book(tmp_path, [{"file": "second"}], [file.name for file in STATIC.glob("*.*")])
    (folder / "intro.md").write_text("# Start\n\n[Go on](second.md).\n")
    (folder / "second.md").write_text("# The second chapter\n\nText.\n")
    return tmp_path


@needs_chromium
def test_the_whole_book_is_one_pdf_each_chapter_on_a_new_sheet(book):
    pdf = book_pdf(book)
    assert pdf == book / "_build" / printing.NAME
    assert sheets(pdf) == 2
    assert b"/Outlines" in pdf.read_bytes()


def test_without_a_browser_it_says_which_to_install(book, monkeypatch, kc):
    monkeypatch.setattr(printing, "chromium", lambda: None)
    with pytest.raises(MissingData, match="install one of chromium, chromium-browser, google-chrome, or name one"):
        book_pdf(book)
    code, out, err = kc("pdf")
    assert code and not out and err.startswith("kc: a PDF takes Chromium")
