"""The whole way on the real model: study, pages, strict build, browser; and what an uncompressed small model must know."""

import json
import re
import shutil
from urllib.parse import unquote

import nbformat
import pandas as pd
import pytest
import yaml

import kc_utils as kc
from kc_utils.report.build import build_html
from kc_utils.report.pages import Pages
from kc_utils.stats.intervals import wilson
from kc_utils.study import store
from kc_utils.study.engine import run_study
from tests.browsing import DESK, PHONE, browsing, chromium
from tests.conftest import ROOT

TINY = [
    ("decoder", "decoder_final_layer", {"methods": ["magnitude", "rows-l1"], "sparsities": [0.3]}),
    ("encoder", "encoder_quantization", {"scopes": ["all"], "methods": ["int8", "nf4"], "group": 32}),
    ("encoder-decoder", "encoder_decoder_gptq", {"scopes": ["attention"], "bits": [2], "group": 32, "samples": 2}),
]

FEW = re.compile(r"smollm2-135m/(worldfacts|lama\.google|piqa)|lab\.[a-z-]+-small(-x8)?-s[12]/lab\.parquet")
"""Files of the record that this module's pages are made of: all of them take four times as long and show nothing else."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The checkout as the current folder, and results of this module's own, those of record among them."""
    folder = tmp_path_factory.mktemp("smoke")
    shutil.copytree(ROOT / "results" / "reference", folder / "reference")
    for file in folder.glob("reference/*/record.json"):
        listing = json.loads(file.read_text())
        listing["files"] = [entry for entry in listing["files"] if FEW.match(entry["file"])]
        file.write_text(json.dumps(listing))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setenv("KC_RESULTS", str(folder / "results"))
        patch.setenv("KC_REFERENCE", str(folder / "reference"))
        yield folder


@pytest.fixture(scope="module")
def study(place, trained_as):
    """Two runs of the smoke study, and a run of each other technique and family on a tiny model, trained here."""
    written = yaml.safe_load((ROOT / "studies" / "smoke.yaml").read_text(encoding="utf-8"))
    for run in ("smoke-quantization", "smoke-final-layer"):
        del written["runs"][run]
    shared = {"relations": ["capital"], "limit": 20, "protocols": ["cloze", "rank", "openbook"], "templates": 2}
    for family, template, values in TINY:
        given = {**shared, **values, "model": trained_as(family).id}
        written["runs"][f"tiny-{family}"] = {"notebook": template, "parameters": given}
    file = place / "smoke.yaml"
    file.write_text(yaml.safe_dump(written, sort_keys=False))
    return run_study(str(file))


@pytest.fixture(scope="module")
def book(place, study):
    """Pages of the study in a copy of the book; returns the copy's root."""
    root = place / "checkout"
    shutil.copytree(ROOT / "book", root / "book", ignore=shutil.ignore_patterns("results", "_build"))
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(ROOT / name, root / name)
    Pages(study, root / "book").write()
    return root


@pytest.fixture(scope="module")
def html(book, place):
    return build_html(book, place / "site").parent


def test_every_evaluation_of_the_study_is_stored_and_whole(study):
    assert len(study.cells) >= 8
    for cell in study.cells:
        rows = store.read(cell.key).rows
        assert rows["valid"].all() and set(rows["protocol"]) == set(cell.probe.protocols)


def test_a_second_start_has_nothing_to_do(study, place):
    files = {run.output: run.output.stat().st_mtime_ns for run in study.runs}
    assert run_study(str(place / "smoke.yaml")) == study
    assert {file: file.stat().st_mtime_ns for file in files} == files


def test_pages_are_complete_and_not_rewritten(book, study):
    pages = book / "book" / "results"
    names = {p.name for p in pages.iterdir()}
    assert {f"{run.id}.ipynb" for run in study.runs} | {"_toc.yml"} <= names
    for run in study.runs:
        rows = pd.read_parquet(pages / "rows" / f"{run.id}.parquet")
        assert set(rows["recipe"]) == {c.recipe for c in run.cells}
        assert len(rows) == sum(len(store.read(c.key).rows) for c in run.cells)
    stamps = {p: p.stat().st_mtime_ns for p in pages.rglob("*") if p.is_file()}
    assert Pages(study, book / "book").write() == []
    (pages / "claims.png").unlink()
    assert Pages(study, book / "book").write() == ["claims"]
    again = {p: p.stat().st_mtime_ns for p in pages.rglob("*") if p.is_file()}
    assert {p.name for p in stamps if stamps[p] != again[p]} == {"claims.png"}, "its picture is drawn the same again"


def test_figure_labels_are_unique_and_every_figure_has_words(book, study):
    labels = []
    for run in study.runs:
        page = nbformat.read(book / "book" / "results" / f"{run.id}.ipynb", as_version=4)
        figures = [c.metadata["mystnb"] for c in page.cells if "figure" in c.metadata.get("mystnb", {})]
        assert figures, run.id
        labels += [f["figure"]["name"] for f in figures]
        assert all(len(f["image"]["alt"]) > 40 and len(f["figure"]["caption"]) > 20 for f in figures)
        assert not [o for c in page.cells if c.cell_type == "code" for o in c.outputs if o.output_type == "error"]
    assert len(set(labels)) == len(labels) >= 8


def test_the_strict_build_has_every_page(html, book):
    def files(part):
        return [part["file"], *(f for section in part.get("sections", ()) for f in files(section))]

    contents = yaml.safe_load((book / "book" / "results" / "_toc.yml").read_text())
    found = [file for part in contents["parts"] for chapter in part["chapters"] for file in files(chapter)]
    assert len(found) > 30 and "results/of-smollm2-135m" in found
    assert all((html / f"{file}.html").is_file() for file in [contents["root"], *found])
    assert "<img" in (html / "intro.html").read_text(encoding="utf-8"), "the start page has a figure"
    assert not [file for file in html.rglob("*.html") if "Traceback (most" in file.read_text(encoding="utf-8")]
    assert not list(html.rglob("*ziamath*")) and (html / "_static" / "mathjax" / "tex-svg.js").is_file()


def test_a_second_build_of_the_book_writes_nothing(html, book, place):
    stamps = {page: page.stat().st_mtime_ns for page in html.rglob("*.html")}
    build_html(book, place / "site")
    assert {page: page.stat().st_mtime_ns for page in html.rglob("*.html")} == stamps


@pytest.fixture(scope="module")
def browser(html):
    if chromium() is None:
        pytest.skip("no Chromium here: install it, or name one in KC_CHROMIUM")
    with browsing(html) as found:
        yield found


def pages_of(site) -> list[str]:
    """Pages by path, without those that only lead on to another."""
    found = (file for file in site.rglob("*.html") if "_static" not in file.parts)
    return sorted(str(f.relative_to(site)) for f in found if 'http-equiv="Refresh"' not in f.read_text(encoding="utf-8"))


def test_every_page_opens_without_a_complaint_at_any_width(browser):
    """No errors of scripts, words for every image, nothing wider than a phone or a desk."""
    found, links, anchors = [], {}, {}
    for name in pages_of(browser.site):
        with browser.visit(name, size=PHONE) as visit:
            found += [f"{name}, {PHONE[0]} pixels: {element}" for element in visit.look("wide")]
            visit.page.set_viewport_size({"width": DESK[0], "height": DESK[1]})
            visit.page.wait_for_timeout(50)
            found += [f"{name}, {DESK[0]} pixels: {element}" for element in visit.look("wide")]
            found += [f"{name}: {error}" for error in visit.errors]
            found += [f"{name}: no words for {image}" for image in visit.look("withoutWords")]
            found += [f"{name}: a traceback"] if "Traceback (most recent" in visit.page.inner_text("body") else []
            links[name] = visit.look("links")
            anchors[name] = set(visit.look("anchors"))
    assert len(links) > 25
    found += broken(browser.site, links, anchors)
    assert not found, "\n".join(found[:40])


def broken(site, links, anchors) -> list[str]:
    """Links inside the site that lead nowhere."""
    found = []
    for name, targets in links.items():
        for target in set(targets):
            path, _, anchor = unquote(target).partition("#")
            path = path.partition("?")[0] or "index.html"
            if not (site / path).exists():
                found.append(f"{name}: a link to {target}, which is not there")
            elif anchor and path in anchors and anchor not in anchors[path]:
                found.append(f"{name}: a link to {target}, a place that is not there")
    return found


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(browser, study, dark):
    """Contrast of 4.5, of 3 for large text (WCAG 2.1, AA), on pages of every kind."""
    texts, faint = ["intro", "reading", "glossary", "findings/prune", "techniques/pruning"], []
    for name in [*texts, "choose", "explore", "results/claims", f"results/{study.runs[0].id}", "search"]:
        with browser.visit(f"{name}.html", dark=dark) as visit:
            assert visit.page.get_attribute("html", "data-theme") == ("dark" if dark else "light")
            visit.page.add_style_tag(content="*, ::before, ::after { transition: none !important }")
            visit.page.wait_for_timeout(50)
            faint += [f"{name}: {text}" for text in visit.look("contrast")]
    assert not faint, "\n".join(faint[:40])


def test_formulas_are_typeset_by_the_books_own_mathjax(browser):
    with browser.visit("techniques/pruning.html", size=PHONE) as visit:
        visit.page.wait_for_selector("mjx-container svg", timeout=20_000)
        box = "(e) => { const b = e.getBoundingClientRect(); return [b.width, b.height]; }"
        (wide, high), (_, letter) = (visit.page.locator(name).first.evaluate(box) for name in ("div.math svg", "span.math svg"))
        assert 6 < letter < 30 and 1.5 * letter < high < 140 and wide > 100
        assert "\\operatorname" not in visit.page.inner_text("article") and not visit.errors


def test_code_of_a_run_unfolds_on_its_page(browser, study):
    with browser.visit(f"results/{study.runs[0].id}.html") as visit:
        assert "kc.compare(rows)" in visit.page.inner_text("article")
        visit.page.locator("details.hide summary").first.click()
        assert "sparsities: list" in visit.page.inner_text("article")
        links = visit.page.locator(".bd-sidebar-primary li.current a").all_inner_texts()
        assert {"Pruning"} & set(map(str.strip, links))


def test_from_the_landing_page_to_a_budget_it_is_two_steps(browser):
    with browser.visit("intro.html") as visit:
        visit.page.click(".kc-door:has(a[href='choose.html'])")
        visit.page.wait_for_url("**/choose.html")
        visit.page.fill("[name=budget]", "100000")
        answer = visit.page.inner_text(".kc-answer")
        assert answer.startswith("Within 100000 MB, most is kept by ")
        visit.page.fill("[name=budget]", "0.001")
        assert "No compressed model that was measured fits" in visit.page.inner_text(".kc-answer")
        assert visit.page.locator("#kc-choose .points path").count() >= 3
        assert not visit.errors


def test_interactive_pages_work_from_a_file_and_on_a_phone(browser):
    with browser.visit("choose.html", size=PHONE, from_file=True) as visit:
        models = visit.page.locator("[name=model] option").all_inner_texts()
        before = visit.page.inner_text(".kc-answer")
        visit.page.select_option("[name=model]", models[-1])
        assert len(models) > 1 and visit.page.inner_text(".kc-answer") != before
        assert not visit.errors
    with browser.visit("explore.html", size=PHONE, from_file=True) as visit:
        counts = {}
        for fate in visit.page.locator("[name=fate] option").all_inner_texts():
            visit.page.select_option("[name=fate]", label=fate)
            counts[fate] = visit.page.locator("#kc-explore tbody tr").count()
        everything = counts.pop("all")
        listed = 200  # rows of a table at most; the sentence above it counts all facts
        assert everything == min(listed, sum(counts.values())) > 10 and len(set(counts.values())) > 1
        visit.page.select_option("[name=fate]", label="all")
        relation = visit.page.locator("[name=relation] option").nth(1).inner_text()
        visit.page.select_option("[name=relation]", label=relation)
        assert 0 < visit.page.locator("#kc-explore tbody tr").count() < everything
        assert not visit.errors


def test_search_finds_a_chapter(browser):
    with browser.visit("search.html?q=sparsity") as visit:
        visit.page.wait_for_selector("#search-results li a", timeout=20_000)
        visit.page.wait_for_function("document.querySelectorAll('#search-results li').length > 5", timeout=20_000)
        found = visit.page.locator("#search-results li > a").all_inner_texts()
        assert any("pruning" in text.lower() for text in found), found
        assert not visit.errors


def test_a_small_model_knows_capitals_of_large_countries_and_loses_them(place):
    """The 100 most populous countries against the others, first token of the whole vocabulary."""
    rows = kc.evaluate("smollm2-135m", "magnitude@all=0.5", relations=["capital"], protocols=["cloze"])
    rows = rows.assign(large=rows.groupby("recipe")["popularity"].rank(method="first", ascending=False) <= 100)
    right = rows.groupby(["recipe", "large"])["correct"].agg(["sum", "size"])
    assert (right.xs(True, level="large")["size"] == 100).all()
    (known, _), (_, tail_high), (_, pruned_high) = (
        wilson(*map(int, right.loc[key])) for key in (("none", True), ("none", False), ("magnitude@all=0.5", True))
    )
    assert right.loc[("none", True), "sum"] >= 50
    assert known > tail_high, "head and tail differ"
    assert known > pruned_high, "pruning half of all weights costs clearly"
