import pytest
import torch
from torch import nn

from kc_utils.compression import torchao_weights as method
from kc_utils.compression.apply import apply
from kc_utils.compression.recipe import Recipe
from kc_utils.errors import BadRequest
from kc_utils.models.scopes import select
from kc_utils.models.stored import quantized
from tests.models.architectures import TINY, logits, tiny

ROWS, INPUTS, OUTPUTS = 9, 96, 40


def layer():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(INPUTS, OUTPUTS))


def groups_of(weight, group):
    width = {"channel": INPUTS, "tensor": weight.numel()}.get(group, group)
    return weight.detach().double().reshape(-1, width)


def symmetric(weight, group, bits):
    """The weights of symmetric whole numbers, in double precision, from the definition."""
    w = groups_of(weight, group)
    scale = w.abs().amax(1, keepdim=True) / (2**bits - 1) * 2
    q = (w / scale).round().clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return (q * scale).reshape(OUTPUTS, INPUTS), scale


def asymmetric(weight, group, bits):
    """The same with a whole zero point."""
    w = groups_of(weight, group)
    low, high = w.amin(1, keepdim=True).clamp(max=0), w.amax(1, keepdim=True).clamp(min=0)
    scale = (high - low) / (2**bits - 1)
    zero = (-low / scale).round()
    q = ((w / scale).round() + zero).clamp(0, 2**bits - 1)
    return ((q - zero) * scale).reshape(OUTPUTS, INPUTS), scale


CONFIGS = {
    "int8 channel": (lambda: method.weight_int8("channel"), symmetric, "channel", 8),
    "int8 tensor": (lambda: method.weight_int8("tensor"), symmetric, "tensor", 8),
    "int8 group": (lambda: method.weight_int8(32), symmetric, 32, 8),
    "int4": (lambda: method.weight_intx(torch.int4, 32, False), asymmetric, 32, 4),
    "int4 sym": (lambda: method.weight_intx(torch.int4, 32, True), symmetric, 32, 4),
    "int4 channel": (lambda: method.weight_intx(torch.int4, "channel", False), asymmetric, "channel", 4),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_against_the_definition(name):
    config, definition, group, bits = CONFIGS[name]
    model = layer()
    bias = model[0].bias.detach()
    wanted, scale = definition(model[0].weight, group, bits)
    method.quantize(model, ["0"], config())
    weight = quantized(model[0]).weight().double()
    steps = ((weight - wanted).reshape(len(scale), -1) / scale).abs()
    # a weight half-way between two whole numbers may go the other way, as the largest of a group always is
    assert float(steps.max()) < 1.01
    assert int((steps > 0.01).sum()) <= len(scale) + 10
    x = torch.randn(ROWS, INPUTS)
    torch.testing.assert_close(model(x).double(), x.double() @ weight.t() + bias, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", TINY)
def test_every_matrix_of_the_scope_is_quantized_and_nothing_else(name):
    for step, bits in (("int8-weight@all,group=tensor", 8), ("int4-weight@all,group=8", 4)):
        model = tiny(name)
        whole = logits(model)
        scoped = {m.name.removesuffix(".weight") for m in select(model, "all")}
        report = apply(model, Recipe.parse(step))
        assert {n for n, m in model.named_modules() if quantized(m)} == scoped
        assert (report.steps[0].bits, report.steps[0].matrices) == (bits, len(scoped))
        assert 0 < float((logits(model) - whole).norm() / whole.norm()) < {8: 0.1, 4: 0.6}[bits]


def test_bits_are_those_of_values_and_scales():
    report = apply(tiny("llama"), Recipe.parse("int4-weight@attention.query,group=8"))
    assert report.bits_per_weight == 4 + (32 + 8) / 8
    report = apply(tiny("llama").bfloat16(), Recipe.parse("int4-weight@attention.query,group=8"))
    assert report.bits_per_weight == 4 + (16 + 8) / 8
    report = apply(tiny("llama"), Recipe.parse("int8-weight@attention.query"))
    assert report.bits_per_weight == 8 + (32 + 8) / 16


@pytest.mark.parametrize("step", ["int4-weight@all,group=8", "int4-weight@all,group=8,sym=true", "int8-weight@all"])
def test_what_was_pruned_is_still_zero(step):
    pruned = apply(tiny("bart"), Recipe.parse("magnitude@all=0.4"))
    both = apply(tiny("bart"), Recipe.parse(f"magnitude@all=0.4+{step}"))
    assert both.zeros >= pruned.zeros
    assert both.steps[0].zeros == pruned.zeros


@pytest.mark.parametrize("step", ["int4-weight@all", "int4-weight@feed_forward,group=16", "int8-weight@all,group=7"])
def test_a_group_that_does_not_divide_the_inputs_is_refused(step):
    model = tiny("llama")
    with pytest.raises(BadRequest, match=r"has \d+ inputs, which \d+ does not divide"):
        apply(model, Recipe.parse(step))
    assert not any(quantized(m) for m in model.modules())


def test_int4_has_no_group_of_a_tensor():
    with pytest.raises(BadRequest, match="a group is channel, or a whole number"):
        Recipe.parse("int4-weight@all,group=tensor")
