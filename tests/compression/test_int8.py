import warnings

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from kc_utils.compression import int8
from kc_utils.compression.apply import apply
from kc_utils.compression.recipe import Recipe
from kc_utils.errors import BadRequest, BadResult
from kc_utils.models.scopes import integers, is_int8, matrices, select
from tests.models.architectures import TINY, logits, tiny


def rounded_weights(weight, per_channel):
    """Whole numbers and scale of symmetric 8-bit weights, from the definition."""
    largest = weight.abs().amax(1, keepdim=True) if per_channel else weight.abs().max()
    scale = largest / 127.5
    return (weight / scale).round().clamp(-128, 127), scale


def rounded_inputs(x):
    """What 7-bit inputs with a whole zero point stand for, and the step between two of them, in double precision."""
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    step = (high - low) / 127
    zero = round(-low / step)
    return (((x / step).round() + zero).clamp(0, 127) - zero).double() * step, step


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("shape", [(3, 5, 4), (7, 64, 32), (33, 300, 48)])
def test_against_the_definition(shape, per_channel):
    rows, inputs, outputs = shape
    torch.manual_seed(sum(shape))
    linear = nn.Linear(inputs, outputs)
    x = torch.randn(rows, inputs)
    q, scale = rounded_weights(linear.weight.detach(), per_channel)
    model = nn.Sequential(linear)
    int8.replace(model, ["0"], per_channel)
    stored = integers(model[0]).float()
    # torch multiplies by 1/scale: a weight half-way between two whole numbers may go the other way
    assert (stored - q).abs().max() <= 1
    assert (stored != q).float().mean() < 0.01
    weight = stored.double() * scale.double()
    x_seen, step = rounded_inputs(x)
    error = (model(x).double() - x_seen @ weight.t() - linear.bias.double()).abs().detach()
    # the same holds for an input, which shifts its whole row of outputs by one step
    assert (error > 1e-5).any(1).sum() <= max(1, rows // 10)
    assert float(error.max()) <= 2 * step * float(weight.abs().max())


def test_sums_do_not_saturate():
    """CPUs without VNNI add two products in 16 bits: 2 * 127 * 128 fits, 2 * 255 * 128 would not."""
    linear = nn.Linear(512, 4, bias=False)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[1.0], [-1.0], [1.0], [-1.0]]).expand(4, 512))
    model = nn.Sequential(linear)
    int8.replace(model, ["0"])
    torch.testing.assert_close(model(torch.ones(1, 512)), torch.tensor([[512.0, -512, 512, -512]]), rtol=0.01, atol=0)


@pytest.mark.parametrize("name", TINY)
def test_every_matrix_of_the_scope_is_replaced_and_nothing_else(name):
    model = tiny(name)
    whole = logits(model)
    scoped = {m.name.removesuffix(".weight") for m in select(model, "all")}
    report = apply(model, Recipe.parse("int8@all"))
    assert {n for n, m in model.named_modules() if is_int8(m)} == scoped
    assert report.steps[0].matrices == len(scoped) == len(report.per_matrix)
    assert 8 <= report.bits_per_weight < 9
    error = float((logits(model) - whole).norm() / whole.norm())
    assert 0 < error < 0.5


def test_it_is_what_quantize_dynamic_does():
    ours, theirs = tiny("llama"), tiny("llama")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs.model = torch.ao.quantization.quantize_dynamic(theirs.model, {nn.Linear}, torch.qint8)
    apply(ours, Recipe.parse("int8@all"))
    assert torch.equal(logits(ours), logits(theirs))


def test_paper_takes_the_head_in_and_a_tied_embedding_stays():
    model = tiny("llama, tied")
    embedding = model.model.embed_tokens.weight.clone()
    report = apply(model, Recipe.parse("int8@all,preset=paper"))
    assert is_int8(model.lm_head)
    assert torch.equal(model.model.embed_tokens.weight, embedding)
    assert report.steps[0].matrices == 15
    model.tie_weights()
    assert bool(logits(model).isfinite().all())


def test_conv1d_is_replaced_by_an_equal_linear():
    conv = tiny("gpt2").transformer.h[0].attn.c_attn
    x = torch.randn(5, 16)
    torch.testing.assert_close(int8.as_linear(conv)(x), conv(x))


def test_zeros_are_counted_from_the_stored_numbers():
    model = tiny("gpt2")
    report = apply(model, Recipe.parse("magnitude@all=0.4+int8@all"))
    zeros = sum(int((integers(m.module) == 0).sum()) for m in select(model, "all"))
    assert report.zeros == zeros >= round(0.4 * report.weights_touched)
    assert report.steps[0].zeros == round(0.4 * report.weights_touched)
    stored = [m for m in matrices(model) if m.is_int8]
    assert sum(m.numel for m in stored) == report.weights_touched
    assert report.weights_model == sum(p.numel() for p in tiny("gpt2").parameters())


@pytest.mark.parametrize("second", ["magnitude@attention=0.5", "rtn@all=4", "int8@attention", "2:4@attention.qkv"])
def test_nothing_comes_after_int8_on_the_same_matrix(second):
    model = tiny("llama")
    with pytest.raises(BadRequest, match="int8 after int8@all; int8 goes last"):
        apply(model, Recipe.parse(f"int8@all+{second}"))
    assert not any(is_int8(m) for m in model.modules())  # refused before the first step
    apply(model, Recipe.parse("int8@all"))
    with pytest.raises(BadRequest, match="int8 of this model"):
        apply(model, Recipe.parse(second))


def test_scopes_apart_may_follow_int8():
    report = apply(tiny("llama"), Recipe.parse("int8@attention+magnitude@feed_forward=0.5"))
    assert [s.sparsity for s in report.steps][1] == 0.5
    assert report.steps[0].matrices + report.steps[1].matrices == len(report.per_matrix)


def test_other_dtypes_are_refused():
    with pytest.raises(BadRequest, match="bfloat16 on cpu; dynamic int8 needs float32"):
        apply(tiny("llama").bfloat16(), Recipe.parse("int8@all"))


def test_a_module_that_is_no_linear_is_refused():
    class Mine(nn.Linear):
        pass

    model = tiny("llama")
    model.model.layers[0].mlp.up_proj = Mine(16, 24, bias=False)
    with pytest.raises(BadRequest, match="is in a Mine"):
        apply(model, Recipe.parse("int8@all"))


def test_what_torch_skips_is_an_error():
    with pytest.raises(BadResult, match="replaced 0 of 1 modules"):
        int8.replace(nn.Sequential(Conv1D(3, 4)), ["0"])
