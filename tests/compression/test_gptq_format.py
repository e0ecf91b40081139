"""Packed folders, read by plain transformers and by gptqmodel's own unpacking."""

import logging
import os
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch
import transformers as t
from safetensors.torch import save_file

from kc_utils.compression import gptq_format
from kc_utils.compression.gptq_format import packed
from kc_utils.compression.methods import method
from kc_utils.compression.recipe import Step
from kc_utils.compression.report import Grid
from kc_utils.errors import BadRequest, MissingData
from kc_utils.models.scopes import select
from tests.compression.test_calibration import Words
from tests.models.architectures import logits
from tests.models.wide import wide


@pytest.fixture(autouse=True)
def _plain_torch():
    """gptqmodel's plain kernel compiles C++ for minutes at its first call, unless this is turned off."""
    gptq_format.import_readers()
    with torch._dynamo.config.patch(disable=True):
        yield


def rounded(model, recipe):
    """Grids of the step's matrices, by name, which are rounded in place."""
    step = Step.parse(recipe)
    extra = {"tokenizer": Words(96)} if method(step.method).calibrates else {}
    with torch.no_grad():
        outcome = import_module(method(step.method).module).run(model, select(model, step.scope), step, **extra)
    return outcome.storage


def saved(model, grids, folder):
    """A folder as transformers writes it, with the packed tensors; gives the quantization config."""
    state, config = packed(model.state_dict(), grids)
    model.config.quantization_config, model.config.architectures = config, [type(model).__name__]
    model.config.save_pretrained(folder)
    shared = getattr(model, "all_tied_weights_keys", {})
    state = {k: v.contiguous() for k, v in state.items() if k not in shared}
    save_file(state, Path(folder) / "model.safetensors", metadata={"format": "pt"})
    return config


@pytest.mark.parametrize(
    ("name", "recipe", "version", "group"),
    [
        ("llama", "gptq@all=4,group=16,samples=4", "gptq", 16),
        ("llama", "gptq@all=4,group=64,samples=4", "gptq", 64),  # 96 inputs: a group of 64 and one of 32
        ("llama", "gptq@all=3,group=channel,sym=false,samples=4", "gptq", -1),
        ("llama", "gptq@feed_forward[1]=2,group=16,sym=false,samples=4", "gptq_v2", 16),  # zero points of 0 occur
        ("llama", "gptq@attention=8,desc_act=true,group=16,samples=4", "gptq", 16),
        ("llama", "rtn@all=8,group=32", "gptq", 32),
        ("llama", "rtn@all=3,group=16,sym=true", "gptq", 16),
        ("llama", "rtn@all=3,group=tensor", "gptq", -1),
        ("bert", "gptq@feed_forward=8,group=32,samples=4", "gptq", 32),  # its attention has an output.dense too
    ],
)
def test_plain_transformers_reads_the_folder(name, recipe, version, group, tmp_path):
    made = wide(name)
    if group == 64:
        torch.manual_seed(0)
        made = t.LlamaForCausalLM(t.LlamaConfig(**{**made.config.to_dict(), "intermediate_size": 96})).eval()
    grids = rounded(made, recipe)
    config = saved(made, grids, tmp_path)
    assert (config["format"], config["group_size"]) == (version, group)
    auto = t.AutoModelForMaskedLM if name == "bert" else t.AutoModelForCausalLM
    loaded, info = auto.from_pretrained(tmp_path, dtype=torch.float32, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    held = {path: module for path, module in loaded.named_modules() if hasattr(module, "qweight")}
    assert held.keys() == {n.removesuffix(".weight") for n in grids}
    assert {type(m).__name__ for m in held.values()} == {"TorchLinear"}
    for path, module in held.items():  # gptqmodel's own unpacking gives the same weights to the last bit
        grid, weight = grids[path + ".weight"], made.get_submodule(path).weight
        module.scales = module.scales.float()
        assert torch.equal(module.dequantize_weight().t(), weight), path
        assert torch.equal(module.g_idx, grid.group_of)
        module.scales = module.scales.half()
    expected = logits(made)
    difference = (logits(loaded).float() - expected).abs().max()
    assert difference < 2e-3 * expected.abs().max(), "it multiplies in float16"


@pytest.mark.parametrize("name", gptq_format.UNREADABLE)
def test_models_that_transformers_cannot_load_packed(name, tmp_path):
    """Remove a name from the list when this fails."""
    made = wide(name)
    grids = rounded(made, "rtn@all=8,group=32")
    with pytest.raises(BadRequest, match=f"cannot load packed weights of {name}"):
        packed(made.state_dict(), grids, name)
    saved(made, grids, tmp_path)
    with pytest.raises(AttributeError, match="normal_"):
        (t.AutoModelForSeq2SeqLM if name == "t5" else t.AutoModelForCausalLM).from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("recipes", "match"),
    [
        ((), "no matrix has a grid"),
        (("rtn@attention=4,group=32", "other"), "other.weight has a grid but is not in the model's state"),
        (("rtn@attention=4,group=32", "rtn@feed_forward=8,group=32"), "numbers of bits 4, 8"),
        (("rtn@attention=4,group=32", "rtn@feed_forward=4,group=16"), "group sizes 16, 32"),
        (("rtn@attention=4,group=32", "rtn@feed_forward=4,group=channel"), "groups of 32 inputs, and all inputs of"),
        (("rtn@attention=4,group=24",), "groups of 24 inputs; kernels read 16, 32"),
        (("rtn@attention.key=4,group=channel", "changed"), "is not on the grid that it was rounded to"),
    ],
)
def test_what_the_format_cannot_hold(recipes, match):
    made, grids = wide("llama"), {}
    for recipe in recipes:
        if "@" in recipe:
            grids |= rounded(made, recipe)
    state = made.state_dict()
    if "changed" in recipes:
        state |= {k: v * 1.001 for k, v in state.items() if k in grids}
    if "other" in recipes:
        grids = {"other.weight": next(iter(grids.values()))}
    with pytest.raises(BadRequest, match=match):
        packed(state, grids)


def test_sizes_that_are_no_multiples_of_32():
    grid = Grid(4, torch.ones(40, 1), torch.full((40, 1), 8), torch.zeros(64, dtype=torch.int32), True)
    with pytest.raises(BadRequest, match="m.0.w.weight is 40 x 64; both must be multiples of 32"):
        packed({"m.0.w.weight": torch.zeros(40, 64)}, {"m.0.w.weight": grid})


def test_without_the_libraries_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(gptq_format, "find_spec", lambda name: None if name == "gptqmodel" else object())
    with pytest.raises(MissingData, match="read by gptqmodel.*no-build-isolation gptqmodel"):
        gptq_format.import_readers.__wrapped__()


def test_an_import_that_prints_logs_and_sets_variables_leaves_no_trace(capfd, monkeypatch):
    root = logging.getLogger()
    monkeypatch.setenv("KC_KEPT", "1")
    before = (root.level, root.handlers[:], dict(os.environ))
    with gptq_format.quiet():
        print("banner")
        print("warning", file=sys.stderr)
        root.addHandler(logging.StreamHandler())
        root.setLevel("INFO")
        logging.getLogger("some.library").warning("a kernel is missing")
        os.environ |= {"HF_HOME": "/nowhere", "KC_KEPT": "2"}
    assert (root.level, root.handlers[:], dict(os.environ)) == before
    assert capfd.readouterr() == ("", "")
