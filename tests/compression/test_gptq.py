"""GPTQ against gptqmodel's solver on the same Hessian, and the walk through a model against steps on its parts."""

import pytest
import torch

from kc_utils.compression import calibration, gptq
from kc_utils.compression.apply import apply
from kc_utils.compression.gptq_format import import_readers
from kc_utils.compression.recipe import Recipe, Step
from kc_utils.compression.rtn import grid_of, quantize_
from kc_utils.errors import BadModel, BadRequest, BadResult
from kc_utils.models.scopes import matrices, select
from tests.compression.test_calibration import Words
from tests.models.architectures import tiny
from tests.models.wide import wide


def rounded(model, recipe):
    return apply(model, Recipe.parse(recipe), tokenizer=Words())


def weights(model):
    return {m.name: m.weight.clone() for m in matrices(model)}


def problem(outputs=24, inputs=160, tokens=400, seed=0):
    """A weight and correlated inputs whose sizes differ by two orders of magnitude; the second one is always zero."""
    random = torch.Generator().manual_seed(seed)
    weight = torch.randn(outputs, inputs, generator=random)
    x = torch.randn(tokens, inputs, generator=random) @ torch.randn(inputs, inputs, generator=random)
    x *= torch.logspace(-1, 1, inputs)[torch.randperm(inputs, generator=random)]
    x[:, 1] = 0
    return weight, x


SETTINGS = [  # bits, group, sym, damp, desc_act
    (4, 32, True, 0.1, False),
    (3, "channel", False, 0.1, False),
    (2, 16, False, 0.1, False),
    (4, 16, True, 0.01, True),
    (8, 128, True, 0.1, False),  # a group of 128 and one of 32
    (3, 24, False, 0.1, False),
]


def error(weight, before, x):
    return float(((weight.double() - before.double()) @ x.double().t()).norm())


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_against_gptqmodel_on_the_same_hessian(settings):
    import_readers()
    from gptqmodel.quantization.config import QuantizeConfig
    from gptqmodel.quantization.gptq import GPTQ
    from gptqmodel.quantization.quantizer import Quantizer

    bits, group, sym, damp, desc_act = settings

    class Grid(Quantizer):  # scales that float16 holds, which gptqmodel rounds only when it packs
        def find_params(self, x, weight=False):
            self.scale, self.zero = grid_of(x, bits, sym)

    class Theirs(GPTQ):
        def create_quantizer(self, name):
            return Grid(qcfg=self.qcfg, name=name)

    weight, x = problem()
    layer = torch.nn.Linear(*reversed(weight.shape), bias=False)
    layer.weight.data = weight.clone()
    size = -1 if group == "channel" else group
    config = QuantizeConfig(bits=bits, group_size=size, sym=sym, desc_act=desc_act, act_group_aware=size > 0 and not desc_act)
    config.fallback = None
    solver = Theirs(layer, config)
    solver.quantizer.configure(bits=bits, sym=sym, perchannel=True)
    solver.add_batch(x.unsqueeze(0), layer(x).unsqueeze(0))
    scale, zero, group_of, *_ = solver.fasterquant(percdamp=damp, group_size=size, actorder=desc_act)
    before = weight.clone()
    found, grid = gptq.solve(weight, gptq.columns_of(x.t() @ x / len(x), group, damp, desc_act), bits, sym)
    assert torch.equal(weight, before)
    assert torch.equal(grid.weight(grid.integers(found)), found), "whole numbers and the grid are all there is to it"
    assert torch.equal(grid.scale, grid.scale.half().float())
    assert (found[:, 1] == 0).all(), "an input that is always zero needs no weight"
    if not desc_act:
        nearest = before.clone()
        quantize_(nearest, bits, group, sym)
        assert error(found, before, x) < 0.95 * error(nearest, before, x)
    # one weight that is rounded the other way changes what the columns after it make up for
    assert ((found - layer.weight).abs() < 1e-6).double().mean() > 0.9
    assert error(found, weight, x) == pytest.approx(error(layer.weight.detach(), weight, x), rel=0.03)
    assert torch.equal(grid.group_of, group_of)
    assert (grid.zero == zero).double().mean() > 0.9
    assert ((grid.scale - scale).abs() < 1e-6).double().mean() > 0.9


def test_a_matrix_is_solved_for_its_inputs_of_all_tokens():
    model, seen = wide("llama"), []
    module, text = model.model.layers[0].self_attn.q_proj, calibration.batch(model, Words(), 4)
    hook = module.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        model(**text)
    hook.remove()
    x = seen[0][text["attention_mask"].bool()]
    expected, _ = gptq.solve(module.weight.detach(), gptq.columns_of(x.t() @ x / len(x), 32, 0.1), 4, True)
    rounded(model, "gptq@attention.query[0]=4,group=32,samples=4,damp=0.1,sym=true")
    assert ((module.weight - expected).abs() < 1e-6).double().mean() > 0.99


@pytest.mark.parametrize(
    ("name", "scope"),
    [
        ("llama", "all"), ("llama, tied", "attention[0]"), ("gpt2", "attention.qkv[1]"), ("opt", "feed_forward"),
        ("gpt_neox", "all[1]"), ("phi3", "attention"), ("gemma3_text", "attention.value"), ("bert", "all"),
        ("distilbert", "attention.output"), ("roberta", "feed_forward.up[0]"), ("t5", "decoder.cross_attention"),
        ("t5", "encoder[1]"), ("flan-t5, lamini", "feed_forward"), ("bart", "decoder.attention.key[2]"),
    ],
)  # fmt: skip
def test_only_the_scope_changes_and_the_model_is_left_as_found(name, scope):
    model = tiny(name)
    before, scoped = weights(model), {m.name for m in select(model, scope)}
    parameters, config = dict(model.named_parameters()), model.config.to_dict()
    step = Step.parse(f"gptq@{scope}=3,group=8,samples=4")
    storage = gptq.run(model, select(model, scope), step, tokenizer=Words()).storage
    after = {m.name: m for m in matrices(model)}
    assert storage.keys() == scoped
    for key, old in before.items():
        assert torch.equal(after[key].weight, old) == (key not in scoped), key
    for key in scoped:
        grid, rows = storage[key], after[key].rows
        assert int(grid.integers(rows).max()) < 8
        assert torch.equal(grid.weight(grid.integers(rows)), rows)
    assert all(p is parameters[k] for k, p in model.named_parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks or m.training for m in model.modules())
    assert model.config.to_dict() == config


@pytest.mark.parametrize(
    ("name", "whole", "pieces"),
    [
        ("llama", "all", ["all[0]", "all[1]"]),
        ("bert", "all", ["attention.qkv[0]", "attention.output[0]", "feed_forward.up[0]", "feed_forward.down[0]", "all[1]"]),
        ("t5", "all", ["encoder[0]", "encoder[1]", "decoder[0]", "decoder[1]"]),
        ("t5", "decoder[1]", ["decoder.self_attention.qkv[1]", "decoder.self_attention.output[1]",
                              "decoder.cross_attention[1]", "decoder.feed_forward[1]"]),
        ("bart", "all", ["encoder", "decoder[0]", "decoder[1-2]"]),
        ("llama", "attention.qkv[1]", ["attention.value[1]", "attention.query[1]", "attention.key[1]"]),
    ],
)  # fmt: skip
def test_each_matrix_reads_what_the_rounded_ones_before_it_give(name, whole, pieces):
    """A step on all blocks is a step on each in turn: so inputs of later ones come from rounded earlier ones. And
    what matrices that read the same input share does not change their results."""
    at_once, in_turn = tiny(name), tiny(name)
    rounded(at_once, f"gptq@{whole}=3,group=8,samples=6")
    rounded(in_turn, "+".join(f"gptq@{piece}=3,group=8,samples=6" for piece in pieces))
    expected = weights(in_turn)
    for key, weight in weights(at_once).items():
        assert torch.equal(weight, expected[key]), key


def test_report():
    report = rounded(tiny("llama"), "gptq@attention.qkv=3,group=8,samples=4")
    (step,) = report.steps
    assert step.bits == 3 and step.matrices == 6
    assert step.groups == 2 * (16 + 8 + 8) * 2
    assert report.bits_per_weight == pytest.approx(3 + 16 / 8)
    assert step.calibration == rounded(tiny("bert"), "gptq@all=8,samples=4").steps[0].calibration
    assert step.calibration != rounded(tiny("llama"), "gptq@all=8,samples=4,seed=1").steps[0].calibration
    sorted_groups = rounded(tiny("llama"), "gptq@attention.query=3,group=8,samples=4,sym=false,desc_act=true")
    assert sorted_groups.bits_per_weight == pytest.approx(3 + (16 + 3) / 8 + 32 / 16)  # and the group of each input


def refused(model, recipe, error, match, tokenizer=Words()):  # noqa: B008
    before = weights(model)
    with pytest.raises(error, match=match) as caught:
        apply(model, Recipe.parse(recipe), tokenizer=tokenizer)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(w, before[k]) for k, w in weights(model).items()), "refused before a weight changes"
    assert not any(m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize(
    ("name", "recipe", "error", "match"),
    [
        ("llama", "magnitude@all=0.5+gptq@head=4", BadRequest, r"lm_head.weight is in no block.*rtn@head"),
        ("llama, tied", "gptq@head=4", BadRequest, "is in no block"),
        ("bert", "magnitude@all=0.5+gptq@all=4,preset=paper", BadRequest, "transform.dense.weight is in no block"),
        ("llama", "magnitude@all=0.5+gptq@all=4,damp=0", BadRequest, "damp=0 leaves the Hessian without an inverse"),
        ("llama", "magnitude@all=0.5+gptq@all=4,samples=121", BadRequest, "the calibration text has 120 paragraphs"),
        ("albert", "magnitude@all=0.5+gptq@all=4", BadModel, r"is used 2 times in a pass.*ALBERT.* use rtn"),
        ("llama", "int8@attention+gptq@all=4", BadRequest, "put that step last"),
    ],
)  # fmt: skip
def test_refusals_come_before_a_weight_changes(name, recipe, error, match):
    refused(tiny(name), recipe, error, match)


def test_refusals_of_models_and_tokenizers():
    recipe = "magnitude@all=0.5+gptq@all=4"
    refused(tiny("llama"), recipe, BadRequest, r"give apply\(\) the model's tokenizer", tokenizer=None)
    refused(tiny("llama"), recipe, BadRequest, "does not fit the model", tokenizer=Words(1000))
    refused(tiny("llama").bfloat16(), recipe, BadRequest, "load the model in float32 on the CPU")
    overflowing = tiny("llama")
    with torch.no_grad():
        overflowing.model.layers[0].mlp.up_proj.weight.mul_(1e30)
        overflowing.model.layers[0].mlp.gate_proj.weight.mul_(1e30)
    refused(overflowing, recipe, BadModel, "an input from the calibration text that is not finite")


def test_a_hessian_without_an_inverse_leaves_the_weights_as_they_were(monkeypatch):
    model = tiny("t5")
    before, factor, calls = weights(model), gptq.columns_of, []

    def fail(hessian, *args):
        calls.append(hessian)
        return factor(hessian - 1e9 * (len(calls) > 5), *args)

    monkeypatch.setattr(gptq, "columns_of", fail)
    with pytest.raises(BadResult, match="has no inverse; write a larger damp="):
        rounded(model, "gptq@all=4,group=8,samples=2")
    assert len(calls) == 6
    assert all(torch.equal(w, before[k]) for k, w in weights(model).items())
