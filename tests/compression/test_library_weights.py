"""Weights that torchao, torch and bitsandbytes keep in 8 and 4 bits, against round-to-nearest and what the libraries compute."""

import pytest
import torch
from torch import nn

from kc_utils.compression import int8, linear, rtn
from kc_utils.compression.apply import apply
from kc_utils.compression.recipe import Recipe
from kc_utils.errors import BadRequest, BadResult
from kc_utils.models.scopes import select
from kc_utils.models.stored import quantized
from tests.models.architectures import logits, tiny


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
    for engine in ("torchao", "torch"):
        model = tiny("llama")
        model.model.embed_tokens.weight.data[30] *= 50  # a token with large activations, in the neighbour only
        apply(model, Recipe.parse(f"int8@all,engine={engine}"))
        found[engine] = difference_beside(model, [30, 31, 30, 32, 30, 33])
    assert found["torchao"] < 1e-6
    assert found["torch"] > 1e-3


STEPS = ("int8@all,per=tensor", "int8@all,engine=torch", "int8-weight@all,group=tensor", "int4-weight@all,group=8")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("name", ["llama", "gpt2", "albert", "t5", "bart"])
def test_every_matrix_of_the_scope_is_replaced_and_nothing_else(name, step):
    model = tiny(name)
    whole = logits(model)
    scoped = {m.name.removesuffix(".weight") for m in select(model, "all")}
    report = apply(model, Recipe.parse(step))
    assert {n for n, m in model.named_modules() if quantized(m)} == scoped
    assert report.steps[0].matrices == len(scoped) == len(report.per_matrix)
    error = float((logits(model) - whole).norm() / whole.norm())
    assert 0 < error < 0.6


@pytest.mark.parametrize("first", ["int8@all", "int8@all,engine=torch", "int4-weight@all,group=8", "llm-int8@all"])
@pytest.mark.parametrize("second", ["magnitude@attention=0.5", "int8@attention"])
def test_nothing_comes_after_it_on_the_same_matrix(first, second):
    model = tiny("llama")
    with pytest.raises(BadRequest, match=f"after {first} the weights of .* are whole numbers"):
        apply(model, Recipe.parse(f"{first}+{second}"))
    assert not any(quantized(m) for m in model.modules())  # refused before the first step
    apply(model, Recipe.parse(first))
    with pytest.raises(BadRequest, match="of this model is quantized by"):
        apply(model, Recipe.parse(second))
    apply(model, Recipe.parse("magnitude@head=0.5"))  # what is left may still be changed


def test_other_dtypes():
    with pytest.raises(BadRequest, match="bfloat16 on cpu; load the model in float32 on the CPU"):
        apply(tiny("llama").bfloat16(), Recipe.parse("int8@all,engine=torch"))
    model = tiny("llama").bfloat16()
    apply(model, Recipe.parse("int8@all"))
    assert logits(model).dtype == torch.bfloat16
    report = apply(tiny("llama").bfloat16(), Recipe.parse("int4-weight@attention.query,group=8"))
    assert report.bits_per_weight == 4 + (16 + 8) / 8, "scales are bfloat16 too"
    with pytest.raises(BadRequest, match="float64 on cpu; load the model in float32, bfloat16, float16"):
        apply(tiny("llama").double(), Recipe.parse("int8@all"))


@pytest.mark.parametrize("method", ["int8", "int8-weight", "llm-int8"])
def test_a_module_that_is_no_linear_is_refused(method):
    class Mine(nn.Linear):
        pass

    model = tiny("llama")
    model.model.layers[0].mlp.up_proj = Mine(16, 24, bias=False)
    with pytest.raises(BadRequest, match="is in a Mine"):
        apply(model, Recipe.parse(f"{method}@all"))


def test_what_a_library_skips_is_an_error(monkeypatch):
    monkeypatch.setattr(int8, "by_torchao", lambda model, names, config: None)
    with pytest.raises(BadResult, match=r"layers\.0\.self_attn\.q_proj\.weight was not quantized"):
        apply(tiny("llama"), Recipe.parse("int8@attention"))
    monkeypatch.setattr("torch.ao.quantization.quantize_dynamic", lambda *_, **__: None)
    with pytest.raises(BadResult, match=r"layers\.0\.self_attn\.q_proj\.weight was not quantized"):
        apply(tiny("llama"), Recipe.parse("int8@attention,engine=torch"))


@pytest.mark.parametrize("inner", [64, 1025, 5000])
def test_products_by_float32_are_exact(inner):
    """Of numbers at random, of the largest, and of the smallest, whose sums are too large for float32."""
    random = torch.randint(-128, 128, (7, inner), dtype=torch.int8)
    for a in (random, torch.full_like(random, 127), torch.full_like(random, -128)):
        found = int8.exact_product(a, a.t())
        assert found.dtype == torch.int32 and torch.equal(found.long(), a.long() @ a.t().long())


@pytest.mark.parametrize(("name", "per"), [("llama", "channel"), ("gpt2", "tensor"), ("bert", "channel")])
def test_processors_without_int8_instructions_get_the_same_scores(name, per, monkeypatch):
    found = []
    for there in (True, False):
        monkeypatch.setattr(int8, "_has_int8_instructions", lambda there=there: there)
        model = tiny(name)
        apply(model, Recipe.parse(f"int8@all,per={per}"))
        assert any(isinstance(m, int8.ExactLinear) for m in model.modules()) != there
        found.append(logits(model))
    assert torch.equal(*found)


@pytest.mark.parametrize(
    ("bits", "group", "sym"),
    [(8, "channel", True), (8, "tensor", True), (8, 32, True), (4, 32, False), (4, 32, True), (4, "channel", False)],
)
def test_rounded_weights_are_those_of_round_to_nearest(bits, group, sym):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(96, 40))
    wanted = model[0].weight.detach().clone()
    scale = rtn.quantize_(wanted, bits, group, sym).scale.max()
    int8.by_torchao(model, ["0"], int8.weight_int8(group) if bits == 8 else int8.weight_int4(group, sym))
    steps = ((quantized(model[0]).weight() - wanted) / scale).abs()
    # a weight half-way between two whole numbers may go the other way, as the largest of a group always is
    assert float(steps.max()) < 1.1
    assert float((steps > 0.1).double().mean()) < 0.04


@pytest.mark.parametrize("step", ["int4-weight@all", "int4-weight@feed_forward,group=16", "int8-weight@all,group=7", "nf4@all"])
def test_a_group_that_does_not_divide_the_inputs_is_refused(step):
    model = tiny("llama")
    with pytest.raises(BadRequest, match=r"has \d+ inputs, which \d+ does not divide"):
        apply(model, Recipe.parse(step))
    assert not any(quantized(m) for m in model.modules())


def test_weights_beyond_half_precision_are_not_quantized_to_nonsense():
    model = tiny("llama")
    model.model.layers[0].mlp.up_proj.weight.data[0, 0] = 1e6
    with pytest.raises(BadResult, match=r"up_proj\.weight are not finite"):
        apply(model, Recipe.parse("llm-int8@feed_forward"))
