"""The notebooks over several models, on small models of the lab: figures, sentences, tables."""

import re

import pytest

from tests.report.cells import changed_prompts, figures_of, html_of, shell, words_of

FAMILIES = ("encoder", "encoder-decoder", "decoder")
GIVEN = {
    "retention": {
        "sparsities": [0.9], "quantizations": ["rtn@all=2"], "pruned_first": [0.9], "quantized_second": ["rtn@all=2"],
        "final_layer": [0.9], "controls": 12,
    },
    "bits": {"compressions": ["rtn@all=8", "rtn@all=4", "rtn@all=2"]},
    "scopes": {"sparsities": [0.5, 0.9], "weights": [20000]},
    "first_to_go": {"compressions": ["magnitude@all=0.9"], "bins": 2, "least_lost": 0.0},
    "erased_or_hidden": {
        "compressions": ["magnitude@all=0.9"], "shots": [1], "strangers": 18, "relearn_steps": 2, "limit": 24,
    },
}  # fmt: skip
KINDS = ("pruning", "quantization", "pruning-then-quantization", "final-layer")
FIGURES = {
    "retention": {f"{part}-{kind}" for part in ("kept", "skills") for kind in KINDS} | {"kept-pruning-within-matrices"},
    "bits": {"parameters", "bytes", "load", "load-recall"},
    "scopes": {"curves-sparsity", "curves-weights", "differences-sparsity", "differences-weights"},
    "first_to_go": {"exposures", "enters", "margin", "relation", "type"},
    "erased_or_hidden": {"recovered", "relearning"},
}
MODELS = [f"lab:{family}-small-s{seed}" for family in FAMILIES for seed in (1, 2)]


@pytest.fixture(scope="module")
def execute(tmp_path_factory):
    """Run a notebook's cells over two seeds of each family; gives the executed notebook."""
    shared = {"models": MODELS, "limit": 40, "seed": 0}
    with shell(tmp_path_factory.mktemp("notebooks") / "results") as run:
        yield lambda name, **values: run(f"lab_{name}", shared | GIVEN[name] | values)


@pytest.mark.parametrize("name", GIVEN)
def test_a_page_shows_its_figures_sentences_and_a_table(execute, name):
    book = execute(name)
    shown = figures_of(book)
    assert set(shown) == FIGURES[name] | {"matrix"}
    for label, figure in shown.items():
        assert label == "matrix" or "over seeds" in figure["caption"] or "t intervals" in figure["caption"], label
        assert not re.search(r"\bnan\b|None|path:", figure["alt"] + figure["caption"]), label
    words = words_of(book)
    assert all(f"**{family}**" in words for family in FAMILIES)
    assert "nan" not in words and "path:" not in words
    (table,) = html_of(book, "kc-table")
    assert all(family in table for family in FAMILIES)
    assert changed_prompts(book)
    if name == "bits":  # every published point with its source
        for point in ("2 bits a parameter at 1000 exposures", "1 bits a parameter at 100", "int8 loses nothing"):
            assert point in words, point
        assert words.count("Allen-Zhu and Li, 2024, quoted") >= 8
        assert "int4: 0.7 at 4 bits" in shown["parameters"]["alt"]


def test_one_seed_has_no_interval_and_no_verdict(execute):
    words = words_of(execute("scopes", models=MODELS[:1]))
    assert "one seed has no interval" in words and "hurts" not in words


@pytest.mark.parametrize("name", ["retention", "erased_or_hidden"])
def test_parts_without_recipes_are_left_out(execute, name):
    none = {part: [] for part in ("sparsities", "within", "pruned_first", "final_layer")}
    less = none if name == "retention" else {"relearn_steps": None}
    gone = {"kept-pruning", "kept-pruning-within-matrices", "kept-final-layer"} if name == "retention" else {"relearning"}
    assert not gone & set(figures_of(execute(name, models=MODELS[:2], **less)))
