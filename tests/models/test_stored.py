import sys
import warnings

import pytest
import torch
from torch import nn

from kc_utils.compression import bitsandbytes_weights, int8
from kc_utils.errors import BadModel
from kc_utils.models.stored import compute_in_full, quantized
from tests.models.architectures import tiny

OUTPUTS, INPUTS = 96, 128


def made_by(kind):
    """A quantized Linear (96, 128) with a bias, and the weight and bias that it was made of."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(INPUTS, OUTPUTS)).eval()
    weight, bias = model[0].weight.detach().clone(), model[0].bias.detach().clone()
    match kind:
        case "torch tensor" | "torch channel":
            int8.by_torch(model, ["0"], per_channel=kind.endswith("channel"))
        case "int8":
            int8.by_torchao(model, ["0"], int8.dynamic_int8("channel"))
        case "int8 group":
            int8.by_torchao(model, ["0"], int8.weight_int8(32))
        case "int4":
            int8.by_torchao(model, ["0"], int8.weight_intx(torch.int4, 64, sym=False))
        case "nf4" | "nf4 double":
            model[0] = bitsandbytes_weights.nf4(model[0], 64, double=kind.endswith("double")).eval()
        case "llm-int8":
            model[0] = bitsandbytes_weights.llm_int8(model[0]).eval()
    return model[0], weight, bias


BLOCKS = OUTPUTS * INPUTS // 64
KINDS = {  # library, bits of a value, scales, bits of scales and zero points; largest error of a weight
    "torch tensor": ("torch", 8, 1, 128, 0.0005),
    "torch channel": ("torch", 8, OUTPUTS, 128 * OUTPUTS, 0.0005),
    "int8": ("torchao", 8, OUTPUTS, 40 * OUTPUTS, 0.0005),
    "int8 group": ("torchao", 8, 2 * BLOCKS, 2 * 40 * BLOCKS, 0.0005),
    "int4": ("torchao", 4, BLOCKS, 40 * BLOCKS, 0.007),
    "nf4": ("bitsandbytes", 4, BLOCKS, 32 * BLOCKS, 0.015),
    "nf4 double": ("bitsandbytes", 4, BLOCKS, 8 * BLOCKS + 32 + 32, 0.015),
    "llm-int8": ("bitsandbytes", 8, OUTPUTS, 32 * OUTPUTS, 0.0005),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_view_says_what_the_module_holds(kind):
    module, weight, bias = made_by(kind)
    held = quantized(module)
    library, bits, groups, overhead, error = KINDS[kind]
    assert (held.library, held.value_bits, held.groups, held.overhead_bits) == (library, bits, groups, overhead)
    assert held.shape == (OUTPUTS, INPUTS) == tuple(held.integers().shape) == tuple(held.weight().shape)
    assert torch.equal(held.bias, bias)
    assert 0 < float((held.weight() - weight).abs().max()) < error
    codes = held.codes()
    assert codes.dtype == torch.uint8
    assert int(codes.max()) < 2**bits
    assert int(codes.max()) - int(codes.min()) > 0.9 * 2**bits - 1
    assert torch.equal(codes.unique(return_inverse=True)[1], held.integers().unique(return_inverse=True)[1])


@pytest.mark.parametrize("kind", ["int8 group", "int4", "nf4", "nf4 double"])
def test_a_weight_is_what_a_module_of_exact_products_multiplies_with(kind):
    module, _, bias = made_by(kind)
    with torch.no_grad():
        products = module(torch.eye(INPUTS)) - bias
    torch.testing.assert_close(products.t(), quantized(module).weight(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_view_reads_the_same_after_a_forward_pass(kind):
    module, _, _ = made_by(kind)
    before = quantized(module).integers().clone(), quantized(module).weight()
    with torch.no_grad():
        module(torch.randn(5, INPUTS))
    after = quantized(module).integers(), quantized(module).weight()
    assert torch.equal(before[0], after[0])
    assert torch.equal(before[1], after[1])


@pytest.mark.parametrize("kind", ["nf4", "nf4 double"])
def test_the_layout_of_fast_cpus_is_read_too(kind):
    from bitsandbytes.functional import _convert_weight_packed_for_cpu

    module, _, _ = made_by(kind)
    integers, weight = quantized(module).integers(), quantized(module).weight()
    module.weight.data, _ = _convert_weight_packed_for_cpu(module.weight.data, module.weight.quant_state)
    held = quantized(module)
    assert torch.equal(held.integers(), integers)
    torch.testing.assert_close(held.weight(), weight, rtol=2**-8, atol=0)  # scales are bfloat16 now
    assert not torch.equal(held.weight(), weight)
    assert torch.equal(held.integers(), integers)  # reading does not change it


def test_four_bit_layers_compute_in_full():
    module, _, bias = made_by("nf4")
    module.support_avx512bf16_for_cpu = True  # as transformers makes it on a CPU that has it
    compute_in_full(nn.Sequential(module))
    x = torch.randn(5, INPUTS)
    with torch.no_grad():
        torch.testing.assert_close(module(x), x @ quantized(module).weight().t() + bias, rtol=0, atol=1e-5)


def test_plain_modules_have_no_view():
    model = tiny("gpt2")
    assert not any(quantized(module) for module in model.modules())
    assert compute_in_full(model) is model


def test_weights_of_another_kind_are_not_taken_for_plain_ones():
    from torchao.quantization import Float8WeightOnlyConfig, quantize_

    model = nn.Sequential(nn.Linear(32, 32))
    quantize_(model, Float8WeightOnlyConfig())
    with pytest.raises(BadModel, match="Float8Tensor of torchao, which is not read here"):
        quantized(model[0])
    import bitsandbytes

    with pytest.raises(BadModel, match="EmbeddingNF4 of bitsandbytes"):
        quantized(bitsandbytes.nn.EmbeddingNF4(32, 32))


def test_no_library_is_imported_to_look(monkeypatch):
    for name in [n for n in sys.modules if n.split(".")[0] in ("torchao", "bitsandbytes")]:
        monkeypatch.delitem(sys.modules, name)
    for module in tiny("llama").modules():
        quantized(module)
    assert not {"torchao", "bitsandbytes"} & {name.split(".")[0] for name in sys.modules}


def test_torch_warns_of_nothing():
    module, _, _ = made_by("torch channel")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        held = quantized(module)
        held.integers(), held.weight(), held.groups
