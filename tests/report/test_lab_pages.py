"""The pages over several models, on tiny models that were taught a few facts: figures, sentences, tables.

Cells are run in this process, one after the other, as papermill runs them in a kernel. A second seed of a family is the first
one with a little noise on its weights, so that training is done once.
"""

import re
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from kc_lab.pages import bits
from kc_lab.pages.notebook import open_run
from kc_utils.errors import BadRequest
from tests.report.cells import shell
from tests.taught import KNOWN, teach

FAMILIES = ("encoder", "encoder-decoder", "decoder")
GIVEN = {
    "retention": {
        "sparsities": [0.3, 0.9], "quantizations": ["rtn 2"], "pruned_first": [0.3], "quantized_second": ["rtn 3"],
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
    "retention": {f"{part}-{kind}" for part in ("kept", "skills") for kind in KINDS},
    "bits": {"parameters", "bytes", "load"},
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
        first = home / f"{family}-one"
        first.mkdir()
        found.append(teach(family, 1, first))
        second = home / f"{family}-two"
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
        patch.setattr(bits.lab_models, "read_cards", lambda: [CARD])
        yield lambda template, **values: run(
            template, {"models": models, "limit": KNOWN.limit, **GIVEN[template.removeprefix("lab_")], **values}
        )


def figures_of(book):
    outputs = [o for c in book.cells for o in c.get("outputs", ())]
    return {o.metadata["kc"]["name"]: o.metadata["kc"] for o in outputs if "kc" in o.metadata}


def words_of(book):
    outputs = [o for c in book.cells for o in c.get("outputs", ())]
    return "\n".join(o.data["text/markdown"] for o in outputs if "text/markdown" in o.data).replace("\u00a0", " ")


@pytest.mark.parametrize("technique", GIVEN)
def test_a_page_shows_its_figures_sentences_and_a_table(execute, technique):
    book = execute(f"lab_{technique}")
    shown = figures_of(book)
    assert set(shown) == FIGURES[technique]
    for name, figure in shown.items():
        assert "95 %" in figure["caption"], name
        if name != "load":
            assert "t intervals of the mean over 2 seeds" in figure["caption"], name
            assert re.search(r": -?[\d.]+ at ", figure["alt"]), name
        assert not re.search(r"\bnan\b|None|path:", figure["alt"] + figure["caption"]), name
    words = words_of(book)
    for family in FAMILIES:
        assert f"**{family}**" in words
        assert f"`{family}-one`, `{family}-two`" in words
    assert "nan" not in words
    assert "path:" not in words
    tables = [o.data["text/html"] for c in book.cells for o in c.get("outputs", ()) if "text/html" in o.data]
    assert len(tables) == 1
    assert all(tables[0].count(family) for family in FAMILIES)


def test_bits_name_every_published_point_with_its_source(execute):
    book = execute("lab_bits")
    words = words_of(book)
    for point in (
        "2 bits a parameter at 1000 exposures",
        "1 bit a parameter at 100",
        "int8 loses nothing",
        "int4 falls to 0.7",
    ):
        assert point in words, point
    assert words.count("Allen-Zhu and Li, 2024, quoted") >= 8
    assert "0.7 at 4 bits (int4)" in figures_of(book)["parameters"]["alt"]


def test_one_seed_has_no_interval_and_no_verdict(execute, models):
    words = words_of(execute("lab_scopes", models=models[:1]))
    assert "undecided" in words
    assert "no interval: one seed" in words
    assert "hurts" not in words


def test_a_variable_that_is_no_parameter_is_refused(models):
    with pytest.raises(BadRequest, match="lab_bits has no parameter sparsities; it takes models, limit"):
        open_run("lab_bits", {"models": models, "sparsities": [0.1], "compressions": ["rtn@all=4"]})
