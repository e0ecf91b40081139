"""Weights that a library holds in a format of its own, read through one view; each is made by a recipe."""

import sys

import pytest
import torch
from torch import nn

from kc_utils.compression.apply import apply
from kc_utils.compression.recipe import Recipe
from kc_utils.errors import BadModel
from kc_utils.models.stored import compute_in_full, quantized
from tests.models.architectures import tiny
from tests.models.wide import wide

OUTPUTS, INPUTS = 128, 64  # of the feed-forward's first matrix
ROWS, BLOCKS = OUTPUTS, OUTPUTS * INPUTS // 64
KINDS = {  # recipe: library, bits of a value, scales, bits of scales and zero points; largest error of a weight
    "int8@all,engine=torch,per=tensor": ("torch", 8, 1, 128, 0.02),
    "int8@all,engine=torch": ("torch", 8, ROWS, 128 * ROWS, 0.01),
    "int8@all": ("torchao", 8, ROWS, 40 * ROWS, 0.01),
    "int8-weight@all,group=32": ("torchao", 8, 2 * BLOCKS, 2 * 40 * BLOCKS, 0.01),
    "int4-weight@all": ("torchao", 4, BLOCKS, 40 * BLOCKS, 0.07),
    "nf4@all": ("bitsandbytes", 4, BLOCKS, 32 * BLOCKS, 0.15),
    "nf4@all,double=true": ("bitsandbytes", 4, BLOCKS, 8 * BLOCKS + 32 + 32, 0.15),
    "llm-int8@all": ("bitsandbytes", 8, ROWS, 32 * ROWS, 0.01),
}


def made_by(recipe: str) -> tuple[nn.Module, torch.Tensor, int]:
    """A quantized Linear (128, 64), the weight that it was made of, and the bytes that are reported of it."""
    model = wide("bert")
    name = "bert.encoder.layer.0.intermediate.dense"
    weight = model.get_submodule(name).weight.detach().clone()
    (nbytes,) = (m.nbytes for m in apply(model, Recipe.parse(recipe)).per_matrix if m.name == f"{name}.weight")
    return compute_in_full(model).get_submodule(name), weight, nbytes


@pytest.mark.parametrize("recipe", KINDS)
def test_the_view_describes_the_module_before_and_after_a_forward_pass(recipe):
    module, weight, nbytes = made_by(recipe)
    library, bits, groups, overhead, error = KINDS[recipe]
    assert nbytes == (OUTPUTS * INPUTS * bits + overhead) / 8
    held = quantized(module)
    assert (held.library, held.value_bits, held.groups, held.overhead_bits) == (library, bits, groups, overhead)
    assert held.shape == (OUTPUTS, INPUTS) == tuple(held.integers().shape) == tuple(held.weight().shape)
    assert 0 < float((held.weight() - weight).abs().max()) < error
    codes = held.codes()
    assert codes.dtype == torch.uint8
    assert 0.9 * 2**bits - 1 < int(codes.max()) - int(codes.min()) < 2**bits
    assert torch.equal(codes.unique(return_inverse=True)[1], held.integers().unique(return_inverse=True)[1])
    before = held.integers().clone(), held.weight()
    with torch.no_grad():
        module(torch.randn(5, INPUTS))
    assert all(torch.equal(a, b) for a, b in zip(before, (held.integers(), held.weight()), strict=True))


@pytest.mark.parametrize("recipe", ["int8-weight@all,group=32", "int4-weight@all", "nf4@all", "nf4@all,double=true"])
def test_the_weight_is_what_the_module_multiplies_with(recipe):
    module, *_ = made_by(recipe)
    assert "nf4" not in recipe or module.weight.quant_state.quant_type == "nf4"
    with torch.no_grad():
        products = module(torch.eye(INPUTS)) - module(torch.zeros(1, INPUTS))
    torch.testing.assert_close(products.t(), quantized(module).weight(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("recipe", ["nf4@all", "nf4@all,double=true"])
def test_the_layout_of_fast_cpus_is_read_too(recipe):
    from bitsandbytes.functional import _convert_weight_packed_for_cpu

    module, *_ = made_by(recipe)
    integers, weight = quantized(module).integers(), quantized(module).weight()
    module.weight.data, _ = _convert_weight_packed_for_cpu(module.weight.data, module.weight.quant_state)
    for _ in range(2):  # reading does not change it
        assert torch.equal(quantized(module).integers(), integers)
    torch.testing.assert_close(quantized(module).weight(), weight, rtol=2**-8, atol=0)  # scales are bfloat16 now


def test_four_bit_layers_compute_in_full():
    module, *_ = made_by("nf4@all")
    module.support_avx512bf16_for_cpu = True  # as transformers makes it on a CPU that has it
    compute_in_full(nn.Sequential(module))
    x = torch.randn(5, INPUTS)
    with torch.no_grad():
        expected = x @ quantized(module).weight().t() + module(torch.zeros(1, INPUTS))
        torch.testing.assert_close(module(x), expected, rtol=0, atol=1e-5)


def test_plain_modules_have_no_view_and_no_library_is_imported_to_look(monkeypatch):
    for name in [n for n in sys.modules if n.split(".")[0] in ("torchao", "bitsandbytes")]:
        monkeypatch.delitem(sys.modules, name)
    model = tiny("gpt2")
    assert not any(quantized(module) for module in model.modules())
    assert compute_in_full(model) is model
    assert not {"torchao", "bitsandbytes"} & {name.split(".")[0] for name in sys.modules}


def test_weights_of_another_kind_are_not_taken_for_plain_ones():
    import bitsandbytes
    from torchao.quantization import Float8WeightOnlyConfig, quantize_

    model = nn.Sequential(nn.Linear(32, 32))
    quantize_(model, Float8WeightOnlyConfig())
    with pytest.raises(BadModel, match="Float8Tensor of torchao, which is not read here"):
        quantized(model[0])
    with pytest.raises(BadModel, match="EmbeddingNF4 of bitsandbytes"):
        quantized(bitsandbytes.nn.EmbeddingNF4(32, 32))
