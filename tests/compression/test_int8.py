"""Dynamic int8, and weights of 8 and 4 bits, against their definitions and the libraries."""

import warnings

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from kc_utils.compression import int8, linear
from kc_utils.compression.apply import apply
from kc_utils.compression.recipe import Recipe
from kc_utils.errors import BadRequest, BadResult
from kc_utils.models.scopes import matrices, select
from kc_utils.models.stored import quantized
from tests.models.architectures import TINY, logits, tiny

ENGINES = ("torchao", "torch")
SHAPES = [(3, 5, 4), (7, 64, 32), (33, 300, 48)]


def rounded_weights(weight, per_channel):
    """Whole numbers and scale of symmetric 8-bit weights, from the definition."""
    largest = weight.abs().amax(1, keepdim=True) if per_channel else weight.abs().max()
    scale = largest / 127.5
    return (weight / scale).round().clamp(-128, 127), scale


def tokens_rounded(x):
    """What 8-bit inputs with a scale for each row stand for, and the steps between two of them, in double precision."""
    steps = x.abs().amax(1, keepdim=True) / 127.5
    # the largest input of a token lies half-way between two whole numbers: round as torchao does, by 1/step in float32
    return (x * (1 / steps)).round().clamp(-128, 127).double() * steps.double(), steps


def calls_rounded(x):
    """What 7-bit inputs with one whole zero point stand for, and the step between two of them, in double precision."""
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    step = (high - low) / 127
    zero = round(-low / step)
    return (((x / step).round() + zero).clamp(0, 127) - zero).double() * step, torch.tensor(step)


def quantize(model, engine, per_channel=True):
    if engine == "torch":
        int8.by_torch(model, ["0"], per_channel)
    else:
        int8.by_torchao(model, ["0"], int8.dynamic_int8("channel" if per_channel else "tensor"))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_against_the_definition(shape, per_channel, engine):
    rows, inputs, outputs = shape
    torch.manual_seed(sum(shape))
    layer = nn.Linear(inputs, outputs)
    x = torch.randn(rows, inputs)
    q, scale = rounded_weights(layer.weight.detach(), per_channel)
    bias = layer.bias.detach().double()
    model = nn.Sequential(layer)
    quantize(model, engine, per_channel)
    stored = quantized(model[0]).integers().float()
    # both multiply by 1/scale: a weight half-way between two whole numbers may go the other way
    assert (stored - q).abs().max() <= 1
    assert (stored != q).float().mean() < 0.01
    weight = stored.double() * scale.double()
    assert torch.allclose(quantized(model[0]).weight().double(), weight)
    x_seen, steps = tokens_rounded(x) if engine == "torchao" else calls_rounded(x)
    error = (model(x).double() - x_seen @ weight.t() - bias).abs().detach()
    # the same holds for an input, which shifts its whole row of outputs by one step
    assert (error > 1e-5).any(1).sum() <= max(1, rows // 10)
    assert float(error.max()) <= 2 * float(steps.max()) * float(weight.abs().max())


@pytest.mark.parametrize("engine", ENGINES)
def test_sums_do_not_saturate(engine):
    """CPUs without VNNI add two products in 16 bits: 2 * 127 * 128 fits, 2 * 255 * 128 would not."""
    layer = nn.Linear(512, 4, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0], [-1.0], [1.0], [-1.0]]).expand(4, 512))
    model = nn.Sequential(layer)
    quantize(model, engine)
    torch.testing.assert_close(model(torch.ones(1, 512)), torch.tensor([[512.0, -512, 512, -512]]), rtol=0.01, atol=0)


@pytest.mark.parametrize("method", ["int8@attention", "llm-int8@attention"])
def test_a_torch_whose_sums_saturate_is_refused(method, monkeypatch):
    def saturated(a, b):
        return (a.int() @ b.int()).clamp(-32768, 32767)

    linear._products_are_exact.cache_clear()
    monkeypatch.setattr(torch, "_int_mm", saturated)
    with pytest.raises(BadRequest, match="overflow in this torch on this CPU"):
        apply(tiny("llama"), Recipe.parse(method))
    apply(tiny("llama"), Recipe.parse("int8@attention,engine=torch"))
    linear._products_are_exact.cache_clear()


@torch.no_grad()
def difference_beside(model, neighbour):
    """How far the scores of a prompt are from those it gets alone, when another prompt is in its batch."""
    prompt = torch.tensor([[3, 5, 7, 9, 11, 4]])
    both = model(input_ids=torch.cat([prompt, torch.tensor([neighbour])])).logits[:1]
    alone = model(input_ids=prompt).logits
    return float((both - alone).abs().max() / alone.abs().max())


def test_scores_do_not_depend_on_the_batch_in_torchao_and_do_in_torch():
    found = {}
    for engine in ENGINES:
        model = tiny("llama")
        model.model.embed_tokens.weight.data[30] *= 50  # a token with large activations, in the neighbour only
        apply(model, Recipe.parse(f"int8@all,engine={engine}"))
        found[engine] = difference_beside(model, [30, 31, 30, 32, 30, 33])
    assert found["torchao"] < 1e-6
    assert found["torch"] > 1e-3


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", TINY)
def test_every_matrix_of_the_scope_is_replaced_and_nothing_else(name, engine):
    model = tiny(name)
    whole = logits(model)
    scoped = {m.name.removesuffix(".weight") for m in select(model, "all")}
    report = apply(model, Recipe.parse(f"int8@all,engine={engine},per=tensor"))
    assert {n for n, m in model.named_modules() if quantized(m)} == scoped
    assert report.steps[0].matrices == len(scoped) == len(report.per_matrix)
    assert 8 <= report.bits_per_weight < 9
    error = float((logits(model) - whole).norm() / whole.norm())
    assert 0 < error < 0.5


def test_it_is_what_quantize_dynamic_does():
    ours, theirs = tiny("llama"), tiny("llama")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs.model = torch.ao.quantization.quantize_dynamic(theirs.model, {nn.Linear}, torch.qint8)
    apply(ours, Recipe.parse("int8@all,engine=torch,per=tensor"))
    assert torch.equal(logits(ours), logits(theirs))


def test_it_is_what_torchao_does():
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    ours, theirs = tiny("llama"), tiny("llama")
    quantize_(theirs.model, Int8DynamicActivationInt8WeightConfig())
    apply(ours, Recipe.parse("int8@all"))
    assert torch.equal(logits(ours), logits(theirs))


@pytest.mark.parametrize("engine", ENGINES)
def test_paper_takes_the_head_in_and_a_tied_embedding_stays(engine):
    model = tiny("llama, tied")
    embedding = model.model.embed_tokens.weight.clone()
    report = apply(model, Recipe.parse(f"int8@all,preset=paper,engine={engine}"))
    assert quantized(model.lm_head).library == engine
    assert torch.equal(model.model.embed_tokens.weight, embedding)
    assert report.steps[0].matrices == 15
    model.tie_weights()
    assert quantized(model.lm_head)
    assert bool(logits(model).isfinite().all())


def test_conv1d_is_replaced_by_an_equal_linear():
    conv = tiny("gpt2").transformer.h[0].attn.c_attn
    x = torch.randn(5, 16)
    torch.testing.assert_close(linear.as_linear(conv)(x), conv(x))


@pytest.mark.parametrize("engine", ENGINES)
def test_zeros_are_counted_from_what_the_model_computes_with(engine):
    model = tiny("gpt2")
    report = apply(model, Recipe.parse(f"magnitude@all=0.4+int8@all,engine={engine}"))
    zeros = sum(int((m.quantized.integers() == 0).sum()) for m in select(model, "all"))
    assert report.zeros == zeros >= round(0.4 * report.weights_touched)
    assert report.steps[0].zeros == round(0.4 * report.weights_touched)
    stored = [m for m in matrices(model) if m.quantized]
    assert sum(m.numel for m in stored) == report.weights_touched
    assert report.weights_model == sum(p.numel() for p in tiny("gpt2").parameters())


FIRST = ["int8@all", "int8@all,engine=torch", "int8-weight@all", "int4-weight@all,group=8", "llm-int8@all"]


@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("second", ["magnitude@attention=0.5", "rtn@all=4", "int8@attention", "2:4@attention.qkv"])
def test_nothing_comes_after_it_on_the_same_matrix(first, second):
    model = tiny("llama")
    with pytest.raises(BadRequest, match=f"after {first} the weights of .* are whole numbers"):
        apply(model, Recipe.parse(f"{first}+{second}"))
    assert not any(quantized(m) for m in model.modules())  # refused before the first step
    apply(model, Recipe.parse(first))
    with pytest.raises(BadRequest, match="of this model is quantized by"):
        apply(model, Recipe.parse(second))
    apply(model, Recipe.parse("magnitude@head=0.5"))  # what is left may still be changed


def test_scopes_apart_may_follow():
    report = apply(tiny("llama"), Recipe.parse("int8@attention+magnitude@feed_forward=0.5"))
    assert [s.sparsity for s in report.steps][1] == 0.5
    assert report.steps[0].matrices + report.steps[1].matrices == len(report.per_matrix)


def test_other_dtypes():
    with pytest.raises(BadRequest, match="bfloat16; load the model in float32"):
        apply(tiny("llama").bfloat16(), Recipe.parse("int8@all,engine=torch"))
    model = tiny("llama").bfloat16()
    apply(model, Recipe.parse("int8@all"))
    assert logits(model).dtype == torch.bfloat16
    with pytest.raises(BadRequest, match="float64; load the model in float32, bfloat16, float16"):
        apply(tiny("llama").double(), Recipe.parse("int8@all"))


@pytest.mark.parametrize("method", ["int8", "int8-weight", "llm-int8"])
def test_a_module_that_is_no_linear_is_refused(method):
    class Mine(nn.Linear):
        pass

    model = tiny("llama")
    model.model.layers[0].mlp.up_proj = Mine(16, 24, bias=False)
    with pytest.raises(BadRequest, match="is in a Mine"):
        apply(model, Recipe.parse(f"{method}@all"))


def test_what_torch_skips_is_an_error():
    with pytest.raises(BadResult, match="replaced 0 of 1 modules"):
        int8.by_torch(nn.Sequential(Conv1D(3, 4)), ["0"])


def test_what_torchao_skips_is_an_error(monkeypatch):
    monkeypatch.setattr(int8, "by_torchao", lambda model, names, config: None)
    with pytest.raises(BadResult, match=r"layers\.0\.self_attn\.q_proj\.weight was not quantized"):
        apply(tiny("llama"), Recipe.parse("int8@attention"))


@pytest.mark.parametrize("inner", [1, 64, 1024, 1025, 5000])
@pytest.mark.parametrize("values", ["random", "largest", "smallest", "alternating"])
def test_products_by_float32_are_exact(inner, values):
    torch.manual_seed(0)
    shapes = (7, inner), (inner, 9)
    a, b = {
        "random": lambda: [torch.randint(-128, 128, s, dtype=torch.int8) for s in shapes],
        "largest": lambda: [torch.full(s, 127, dtype=torch.int8) for s in shapes],
        "smallest": lambda: [torch.full(s, -128, dtype=torch.int8) for s in shapes],
        "alternating": lambda: [(torch.arange(s[0] * s[1]) % 2 * 255 - 128).to(torch.int8).reshape(s) for s in shapes],
    }[values]()
    found = int8.exact_product(a, b)
    assert found.dtype == torch.int32
    assert (found.long() == a.long() @ b.long()).all()


@pytest.mark.parametrize("name", ["llama", "gpt2", "bert"])
@pytest.mark.parametrize("per", ["channel", "tensor"])
def test_processors_without_int8_instructions_get_the_same_scores(name, per, monkeypatch):
    found = []
    for there in (True, False):
        monkeypatch.setattr(int8, "_has_int8_instructions", lambda there=there: there)
        model = tiny(name)
        apply(model, Recipe.parse(f"int8@all,per={per}"))
        assert any(isinstance(m, int8.ExactLinear) for m in model.modules()) != there
        found.append(logits(model))
    assert torch.equal(*found)


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
    "int8 channel": (lambda: int8.weight_int8("channel"), symmetric, "channel", 8),
    "int8 tensor": (lambda: int8.weight_int8("tensor"), symmetric, "tensor", 8),
    "int8 group": (lambda: int8.weight_int8(32), symmetric, 32, 8),
    "int4": (lambda: int8.weight_intx(torch.int4, 32, False), asymmetric, 32, 4),
    "int4 sym": (lambda: int8.weight_intx(torch.int4, 32, True), symmetric, 32, 4),
    "int4 channel": (lambda: int8.weight_intx(torch.int4, "channel", False), asymmetric, "channel", 4),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_rounded_weights_against_the_definition(name):
    config, definition, group, bits = CONFIGS[name]
    model = layer()
    bias = model[0].bias.detach()
    wanted, scale = definition(model[0].weight, group, bits)
    int8.by_torchao(model, ["0"], config())
    weight = quantized(model[0]).weight().double()
    steps = ((weight - wanted).reshape(len(scale), -1) / scale).abs()
    # a weight half-way between two whole numbers may go the other way, as the largest of a group always is
    assert float(steps.max()) < 1.01
    assert int((steps > 0.01).sum()) <= len(scale) + 10
    x = torch.randn(ROWS, INPUTS)
    torch.testing.assert_close(model(x).double(), x.double() @ weight.t() + bias, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", TINY)
def test_every_matrix_of_the_scope_is_rounded_and_nothing_else(name):
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
