"""The notebooks over several models, on tiny models that learned a few facts: figures, sentences, tables.

Cells are run in this process, one after the other, as papermill runs them in a kernel. A second seed of a family is the first
one with a little noise on its weights, so that training is done once.
"""

import re
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from kc_lab import cards
from kc_utils.errors import BadRequest
from kc_utils.study.notebooks import plan
from tests.report.cells import shell
from tests.taught import KNOWN, teach

FAMILIES = ("encoder", "encoder-decoder", "decoder")
GIVEN = {
    "retention": {
        "sparsities": [0.3, 0.9], "quantizations": ["rtn@all=3", "rtn@all=2"], "pruned_first": [0.3],
        "quantized_second": ["rtn@all=3"], "final_layer": [0.9], "controls": 12,
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
    "retention": {f"{part}-{kind}" for part in ("kept", "skills") for kind in KINDS},
    "bits": {"parameters", "bytes", "load", "load-recall"},
    "scopes": {"curves-sparsity", "curves-weights", "differences-sparsity", "differences-weights"},
    "first_to_go": {"exposures", "enters", "margin", "relation", "type"},
    "erased_or_hidden": {"recovered", "relearning"},
}
CARD = {
    "name": "decoder-small-s1", "family": "decoder", "size": "small", "seed": 1, "load": 1, "parameters": 220_000,
    "recall": {"trained": {"value": 0.99, "low": 0.98, "high": 1.0, "n": 900}},
}  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two seeds of each family, as folders."""
    found = []
    for family in FAMILIES:
        home = tmp_path_factory.mktemp("taught")
        first, second = home / f"{family}-one", home / f"{family}-two"
        first.mkdir()
        found.append(teach(family, 1, first))
        shutil.copytree(first, second)
        weights, draw = load_file(second / "model.safetensors"), torch.Generator().manual_seed(0)
        noisy = {k: t + 0.05 * t.std() * torch.randn(t.shape, generator=draw) for k, t in weights.items()}
        save_file(noisy, second / "model.safetensors", metadata={"format": "pt"})
        found.append(f"path:{second}")
    return found


@pytest.fixture(scope="module")
def execute(models, tmp_path_factory):
    """Run a notebook's cells over all models; gives the executed notebook."""
    with shell(tmp_path_factory.mktemp("notebooks") / "results") as run, pytest.MonkeyPatch.context() as patch:
        patch.setattr(cards, "read_cards", lambda: [CARD])
        yield lambda name, **values: run(
            f"lab_{name}", {"models": models, "limit": KNOWN.limit, "seed": 0, **GIVEN[name], **values}
        )


def outputs_of(book):
    return [o for c in book.cells for o in c.get("outputs", ())]


def figures_of(book):
    return {o.metadata["kc"]["name"]: o.metadata["kc"] for o in outputs_of(book) if "kc" in o.metadata}


def words_of(book):
    return "\n".join(o.data.get("text/markdown", "") for o in outputs_of(book)).replace("\u00a0", " ")


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
    tables = [o.data["text/html"] for o in outputs_of(book) if "kc-table" in o.data.get("text/html", "")]
    assert len(tables) == 1 and all(family in tables[0] for family in FAMILIES)
    completed = [o.data["text/html"] for o in outputs_of(book) if "probability" in o.data.get("text/html", "")]
    assert len(completed) == 2 and completed[0] != completed[1], "prompts before and after"


def test_bits_name_every_published_point_with_its_source(execute):
    book = execute("bits")
    words = words_of(book)
    for point in (
        "2 bits a parameter at 1000 exposures",
        "1 bits a parameter at 100",
        "int8 loses nothing",
        "int4 keeps 35 %",
    ):
        assert point in words, point
    assert words.count("Allen-Zhu and Li, 2024, quoted") >= 8
    assert "int4: 0.7 at 4 bits" in figures_of(book)["parameters"]["alt"]


def test_one_seed_has_no_interval_and_no_verdict(execute, models):
    words = words_of(execute("scopes", models=models[:1]))
    assert "one seed has no interval" in words and "hurts" not in words


@pytest.mark.parametrize("name", ["retention", "erased_or_hidden"])
def test_parts_without_recipes_are_left_out(execute, models, name):
    less = {"sparsities": [], "pruned_first": [], "final_layer": []} if name == "retention" else {"relearn_steps": None}
    gone = {"kept-pruning", "kept-final-layer"} if name == "retention" else {"relearning"}
    assert not gone & set(figures_of(execute(name, models=models[:2], **less)))


def test_what_is_no_parameter_or_recipe_is_refused(models):
    with pytest.raises(BadRequest, match="lab_bits has no parameter sparsities; it takes models, compressions, limit"):
        plan("lab_bits", {"models": models, "sparsities": [0.1]})
    with pytest.raises(BadRequest, match="rtn 4"):
        plan("lab_bits", {"models": models, "compressions": ["rtn 4"]})
