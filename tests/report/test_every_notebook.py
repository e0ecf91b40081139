"""Every notebook runs on a model of its family, and shows what its page promises.

Cells are run in this process, one after the other, as papermill runs them in a kernel; `test_smoke.py` goes the whole way.
"""

import re
from types import SimpleNamespace

import pytest

from kc_utils.compression.calibration import TEXT
from kc_utils.report.pages import page_cell, without_empty_parts
from kc_utils.study.grids import FAMILY_PREFIXES, TECHNIQUES, parameters, split_template
from tests.report.cells import shell

SMALL = {
    "pruning": {"scopes": ["attention", "feed_forward"], "sparsities": [0.8]},
    "quantization": {"scopes": ["all"], "methods": ["rtn", "int8-weight"], "bits": [2], "group": 32},
    "pruning_then_quantization": {"scopes": ["all"], "sparsities": [0.5], "quantizations": ["rtn 3"]},
    "final_layer": {"methods": ["magnitude", "random-rows"], "sparsities": [0.5]},
    "gptq": {"scopes": ["all"], "bits": [2], "group": 32, "samples": 2},
}
FIGURES = {
    "pruning": {"accuracy", "budget", "bytes", "popularity", "relations"},
    "quantization": {"accuracy", "bits", "bytes", "popularity", "relations"},
    "pruning_then_quantization": {"accuracy", "zeros", "bytes", "relations"},
    "final_layer": {"accuracy", "relations"},
    "gptq": {"accuracy", "bits", "bytes", "popularity", "relations"},
}
TEMPLATES = [f"{family}_{technique}" for family in FAMILY_PREFIXES for technique in TECHNIQUES]


@pytest.fixture(scope="module")
def execute(trained_as, tmp_path_factory):
    """Run a notebook's cells with these parameters over a probe of twelve capitals; gives the executed notebook."""
    with shell(tmp_path_factory.mktemp("notebooks") / "results") as run_cells:

        def run(template, **values):
            family, technique = split_template(template)
            given = {
                "model": trained_as(family).id, "relations": ["capital"], "limit": 12, "protocols": ["cloze", "rank"],
                **SMALL[technique], **values,
            }  # fmt: skip
            book = run_cells(template, given)
            book.metadata["given"] = {"template": template, **given}
            return book

        yield run


def figures_of(book):
    return {
        o.metadata["kc"]["name"]: o.metadata["kc"]
        for c in book.cells
        for o in c.get("outputs", ())
        if "kc" in o.metadata
    }


def words_of(book):
    outputs = [o for c in book.cells for o in c.get("outputs", ())]
    return "\n".join(o.data["text/markdown"] for o in outputs if "text/markdown" in o.data).replace("\u00a0", " ")


def page_of(book):
    run = SimpleNamespace(id="a-run", template=book.metadata["given"]["template"])
    return [page_cell(cell, run, "A title") for cell in without_empty_parts(book.cells)]


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_page_shows_its_figures_its_sentences_and_every_recipe(execute, template):
    book = execute(template)
    family, technique = split_template(template)
    shown = figures_of(book)
    assert set(shown) == FIGURES[technique]
    for figure in shown.values():
        assert "95 %" in figure["caption"] or figure["name"] == "zeros"
        assert re.search(r": \d+ at ", figure["alt"]), figure["name"]
        assert not re.search(r"\bnan\b|None|path:", figure["alt"] + figure["caption"])
    words = words_of(book)
    assert f"`tiny-{family}` ({family};" in words
    assert words.count(f"Uncompressed, tiny-{family} gives the right answer") == 2, "once for each protocol"
    assert "nan" not in words
    given = book.metadata["given"]
    recipes = parameters(given["template"], **{k: v for k, v in given.items() if k != "template"}).recipes()
    (table,) = (o.data["text/html"] for c in book.cells for o in c.get("outputs", ()) if "text/html" in o.data)
    assert all(table.count(f">{recipe}<") == 2 for recipe in recipes)
    assert "compression ratio" in table
    if family == "encoder":
        assert "facts are not asked by cloze: a mask stands for one piece of a word" in words
    if technique == "gptq":
        assert "right by GPTQ" in words
    headings = [c.source.splitlines()[0] for c in page_of(book) if c.cell_type == "markdown"]
    assert not {"## Perplexity beside facts", "## Forgotten or broken?", "## One answer, however it is asked?"} & set(
        headings
    )
    assert {"## Method", "## What we see", "## All numbers"} <= set(headings)


def test_all_that_a_decoder_can_be_asked(execute, tmp_path):
    text = tmp_path / "sometext.txt"
    text.write_text(TEXT.read_text()[:3000])
    book = execute(
        "decoder_pruning", protocols=["cloze", "rank", "openbook", "generate"], templates=2, text=str(text), tasks=["worldfacts"],
        task_limit=10, sparsities=[0.9],
    )  # fmt: skip
    shown = figures_of(book)
    assert set(shown) == FIGURES["pruning"] | {"perplexity", "fates", "consistency"}
    for name in ("Open book", "Generation", "Task worldfacts"):
        assert name in shown["accuracy"]["alt"]
    assert "Forgotten" in shown["fates"]["alt"]
    words = words_of(book)
    said = (
        "the perplexity of sometext is",
        "in task worldfacts",
        "10 items",
        "24 questions about 12 facts",
        "answers freely",
    )
    for part in said:
        assert part in words, part
    headings = [c.source.splitlines()[0] for c in page_of(book) if c.cell_type == "markdown"]
    assert {"## Perplexity beside facts", "## Forgotten or broken?", "## One answer, however it is asked?"} <= set(
        headings
    )


def test_tasks_alone(execute):
    book = execute("decoder_final_layer", facts=None, relations=None, tasks=["worldfacts"], task_limit=10)
    assert set(figures_of(book)) == {"accuracy"}
    assert "**Facts**" not in words_of(book)
    assert "10 items of each of `worldfacts`" in words_of(book)


def test_every_way_to_store_weights_is_an_axis_of_names(execute):
    methods = ["int8", "rtn", "int8-weight", "int4-weight", "nf4", "llm-int8"]
    book = execute("decoder_quantization", methods=methods, bits=[4, 2], protocols=["rank"])
    alt = figures_of(book)["accuracy"]["alt"]
    names = [
        "not quantized",
        "int8 weights",
        "LLM.int8()",
        "int8 dynamic",
        "RTN 4 bits",
        "int4 weights",
        "NF4",
        "RTN 2 bits",
    ]
    places = [alt.index(f"at {name}") for name in names]
    assert places == sorted(places)
    assert "NF4: " in figures_of(book)["bytes"]["alt"]
