"""Every notebook runs on a model of its family, and shows what its page promises.

Cells are run in this process, one after the other, as papermill runs them in a kernel; `test_smoke.py` goes the whole way.
"""

import re
from types import SimpleNamespace

import pytest

from kc_utils.report.pages import page_cell, without_empty_parts
from kc_utils.study.notebooks import plan
from tests.conftest import ROOT
from tests.probing.invented_tasks import write_data
from tests.report.cells import changed_prompts, figures_of, html_of, shell, words_of

FAMILIES = ("decoder", "encoder", "encoder_decoder")
SMALL = {
    "pruning": {"scopes": ["attention", "feed_forward"], "sparsities": [0.8]},
    "quantization": {"scopes": ["all"], "methods": ["rtn", "int8-weight"], "bits": [2], "group": 32},
    "pruning_then_quantization": {"scopes": ["all"], "sparsities": [0.5], "quantizations": ["rtn=3"]},
    "final_layer": {"methods": ["magnitude", "random-rows"], "sparsities": [0.5]},
    "gptq": {"scopes": ["all"], "bits": [2], "group": 32, "samples": 2},
}
FIGURES = {
    "pruning": {"matrix", "accuracy", "budget", "bytes", "popularity", "relations"},
    "quantization": {"matrix", "accuracy", "bits", "bytes", "popularity", "relations"},
    "pruning_then_quantization": {"matrix", "accuracy", "zeros", "bytes", "relations"},
    "final_layer": {"matrix", "accuracy", "relations"},
    "gptq": {"matrix", "accuracy", "bits", "bytes", "popularity", "relations"},
}
OPTIONAL = {"## Perplexity beside facts", "## Forgotten or broken?", "## One answer to every paraphrase?"}


@pytest.fixture(scope="module")
def execute(trained_as, tmp_path_factory):
    """Run a notebook's cells with these parameters over a probe of twelve capitals; gives the executed notebook."""
    with shell(tmp_path_factory.mktemp("notebooks") / "results") as run_cells:

        def run(template, **values):
            family, technique = template_parts(template)
            given = {
                "model": trained_as(family.replace("_", "-")).id, "relations": ["capital"], "limit": 12,
                "protocols": ["cloze", "rank"], **SMALL[technique], **values,
            }  # fmt: skip
            book = run_cells(template, given)
            book.metadata["given"] = given
            return book

        yield run


def template_parts(template):
    family = max((f for f in FAMILIES if template.startswith(f"{f}_")), key=len)
    return family, template.removeprefix(f"{family}_")


def headings_of(book, template):
    run = SimpleNamespace(id="a-run", template=template)
    page = [page_cell(cell, run, "A title") for cell in without_empty_parts(book.cells)]
    return {cell.source.splitlines()[0] for cell in page if cell.cell_type == "markdown"}


@pytest.mark.parametrize("template", [f"{family}_{technique}" for family in FAMILIES for technique in SMALL])
def test_a_page_shows_its_figures_its_sentences_and_every_recipe(execute, template):
    book = execute(template)
    family, technique = template_parts(template)
    shown = figures_of(book)
    assert set(shown) == FIGURES[technique]
    for figure in shown.values():
        assert "95 %" in figure["caption"] or figure["name"] in ("zeros", "matrix")
        assert re.search(r"\d", figure["alt"]) and len(figure["alt"]) > 60
        assert not re.search(r"\bnan\b|None|path:", figure["alt"] + figure["caption"])
    words = words_of(book)
    assert f"tiny-{family.replace('_', '-')}` ({family.replace('_', '-')};" in words and "nan" not in words
    assert words.count("gives the right answer") == 2, "once for each protocol"
    recipes = plan(template, book.metadata["given"]).recipes
    table = html_of(book, "kc-table")[0]
    assert all(table.count(f">{recipe}<") == 2 for recipe in recipes)
    assert changed_prompts(book)
    if technique == "gptq":
        assert "`gptq@all=2,group=32,samples=2` against `rtn@all=2,group=32,sym=true`" in words
    headings = headings_of(book, template)
    assert {"## Method", "## One fact, before and after", "## What we see", "## All numbers"} <= headings
    assert not OPTIONAL & headings


def test_all_that_a_decoder_can_be_evaluated_on(execute, tmp_path, monkeypatch):
    monkeypatch.setenv("KC_DATA", str(write_data(tmp_path)))
    text = tmp_path / "sometext.txt"
    text.write_text("The city lies on a river. Its bridge is old, and its market is held on Mondays. " * 40)
    book = execute(
        "decoder_pruning", protocols=["cloze", "rank", "openbook", "generate"], templates=2, text=str(text),
        tasks=["piqa"], task_limit=10, sparsities=[0.9],
    )  # fmt: skip
    shown = figures_of(book)
    assert set(shown) == FIGURES["pruning"] | {"perplexity", "fates", "consistency"}
    assert all(name in shown["accuracy"]["alt"] for name in ("Open book", "Generation", "Task piqa"))
    words = words_of(book)
    for part in ("perplexity of sometext is", "24 queries about 12 facts", "in free generation", "forgotten"):
        assert part in words, part
    assert headings_of(book, "decoder_pruning") >= OPTIONAL


def test_tasks_alone(execute, tmp_path, monkeypatch):
    monkeypatch.setenv("KC_DATA", str(write_data(tmp_path)))
    book = execute("decoder_final_layer", facts=None, relations=None, tasks=["piqa"], task_limit=10)
    assert set(figures_of(book)) == {"matrix", "accuracy"}
    assert "10 items of task `piqa`" in words_of(book)


def test_every_way_to_store_weights_is_an_axis_of_names(execute):
    methods = ["int8", "rtn", "int8-weight", "int4-weight", "nf4", "llm-int8"]
    book = execute("decoder_quantization", methods=methods, bits=[4, 2], protocols=["rank"], limit=6)
    alt = figures_of(book)["accuracy"]["alt"]
    names = ["not quantized", "int8 weights", "int8 dynamic", "RTN 4 bits", "int4 weights", "NF4", "RTN 2 bits"]
    places = [alt.index(f"at {name}") for name in names]
    assert places == sorted(places)


def test_a_notebook_runs_from_any_folder(execute, monkeypatch):
    monkeypatch.chdir(ROOT / "notebooks")
    assert "accuracy" in figures_of(execute("encoder_pruning", sparsities=[0.5], scopes=["all"]))
