"""GPTQ against a plain double-precision account of the algorithm, on tiny models of every architecture."""

import logging
import os
import sys
import warnings

import pytest
import torch

from kc_utils.compression import gptq, gptq_library
from kc_utils.compression.apply import apply
from kc_utils.compression.recipe import Recipe, Step
from kc_utils.errors import BadModel, BadRequest, BadResult, MissingData
from kc_utils.models.scopes import matrices, select
from tests.compression.test_calibration import Words
from tests.models.architectures import tiny


def rounded(model, recipe):
    return apply(model, Recipe.parse(recipe), tokenizer=Words())


def weights(model):
    return {m.name: m.weight.clone() for m in matrices(model)}


def inputs_of(model, module, samples):
    """What the module reads while the model reads the calibration text: double (tokens, inputs)."""
    from kc_utils.compression.calibration import examples

    seen = []
    hook = module.register_forward_hook(lambda _, args, __: seen.append(args[0].flatten(0, -2).double()))
    with torch.no_grad():
        for example in examples(model, Words(), samples):
            model(**example)
    hook.remove()
    return torch.cat(seen)


def plain_grid(group, bits, sym):
    """Scale and zero point of each row, from the definition of `rtn`, in double precision."""
    top = 2**bits - 1
    low, high = group.amin(1).clamp(max=0), group.amax(1).clamp(min=0)
    if sym:
        high = torch.maximum(-low, high)
        low = -high
    scale = ((high - low) / top).half().double()
    zero = torch.full_like(scale, 2 ** (bits - 1)) if sym else (-low / scale).round().clamp(0, top)
    return scale, zero


def plain_gptq(weight, x, bits, group, sym, damp, desc_act, block=128):
    """Frantar et al. 2023, algorithm 1 with groups, column by column in double precision; gives the rounded weight."""
    w, hessian = weight.double().clone(), 2 * x.t() @ x / len(x)
    outputs, inputs = w.shape
    width, importance = inputs if group == "channel" else group, hessian.diagonal()
    if desc_act:
        order = importance.argsort(descending=True)
    elif group == "channel":
        order = torch.arange(inputs)
    else:  # whole groups by their most important input, then what is left over
        whole = inputs // width
        inner = importance[: whole * width].view(whole, width).sort(descending=True)
        outer = inner.values[:, 0].argsort(descending=True)
        order = torch.cat([g * width + inner.indices[g] for g in outer] + [torch.arange(whole * width, inputs)])
    w, hessian = w[:, order], hessian[order][:, order]
    hessian += damp * hessian.diagonal().mean() * torch.eye(inputs, dtype=torch.double)
    upper = torch.linalg.cholesky(torch.linalg.inv(hessian), upper=True)
    result = torch.zeros_like(w)
    for start in range(0, inputs, block):
        stop = min(start + block, inputs)
        now, errors = w[:, start:stop].clone(), torch.zeros(outputs, stop - start, dtype=torch.double)
        for j in range(start, stop):
            if j % width == 0 or j == 0:  # a group's grid spans the weights as they were when its block began
                scale, zero = plain_grid(w[:, j : j + width], bits, sym)
            column = now[:, j - start]
            q = ((column / scale).round() + zero).clamp(0, 2**bits - 1)
            result[:, j] = scale * (q - zero)
            errors[:, j - start] = (column - result[:, j]) / upper[j, j]
            now[:, j - start :] -= errors[:, j - start, None] * upper[j, j:stop]
        w[:, stop:] -= errors @ upper[start:stop, stop:]
    return result[:, order.argsort()]


@pytest.mark.parametrize(
    ("scope", "options"),
    [
        ("attention.query[0]=4", "group=8,samples=12"),
        ("attention.query[0]=3", "group=channel,sym=false,samples=12"),
        ("feed_forward.down[1]=2", "group=16,sym=false,samples=12"),
        ("feed_forward.down[1]=4", "group=16,damp=0.01,desc_act=true,samples=12"),
        ("feed_forward.down[1]=8", "group=128,samples=12"),
        ("feed_forward.up[0]=3", "group=24,samples=20"),
    ],
)
def test_against_a_plain_account_in_double_precision(scope, options):
    step = Step.parse(f"gptq@{scope},{options}")
    model = wide()
    (m,) = select(model, step.scope)
    before, x = m.rows.clone(), inputs_of(model, m.module, step.options["samples"])
    settings = {k: step.options[k] for k in ("group", "sym", "damp", "desc_act")}
    expected = plain_gptq(before, x, step.amount, **settings)
    grid = gptq.run(model, [m], step, tokenizer=Words()).storage[m.name].grid
    found = m.rows.double()

    def error(weight):
        return float(((weight - before.double()) @ x.t()).norm())

    # one weight that single precision rounds the other way changes what the columns after it make up for
    same = ((found - expected).abs() < 1e-6).double().mean()
    assert same > 0.9
    assert error(found) == pytest.approx(error(expected), rel=0.03)
    if "desc_act" not in options:  # the same grid as rtn's, the same storage, less error
        nearest = wide()
        apply(nearest, Recipe.parse(f"rtn@{scope},group={settings['group']},sym={str(settings['sym']).lower()}"))
        (n,) = select(nearest, step.scope)
        assert error(found) < 0.9 * error(n.rows.double())
    assert torch.equal(grid.scale, grid.scale.half().float())


def wide():
    """Two blocks with 160 inputs of the last matrix: more than the 128 columns that gptqmodel takes at once."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=40, hidden_size=64, intermediate_size=160, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


@pytest.mark.parametrize(
    ("name", "scope"),
    [
        ("llama", "all"), ("llama", "feed_forward.down[1]"), ("llama, tied", "attention[0]"), ("gpt2", "all"),
        ("gpt2", "attention.qkv[1]"), ("opt", "feed_forward"), ("gpt_neox", "all[1]"), ("phi3", "attention"),
        ("gemma3_text", "attention.value"), ("bert", "all"), ("distilbert", "attention.output"),
        ("roberta", "feed_forward.up[0]"), ("t5", "decoder.cross_attention"), ("t5", "encoder[1]"),
        ("flan-t5, lamini", "feed_forward"), ("bart", "decoder.attention.key[2]"),
    ],
)  # fmt: skip
def test_only_the_scope_changes_and_the_model_is_left_as_found(name, scope):
    model = tiny(name)
    before, scoped = weights(model), {m.name for m in select(model, scope)}
    parameters, modules = dict(model.named_parameters()), dict(model.named_modules())
    config, noted = model.config.to_dict(), {k: set(vars(m)) for k, m in modules.items()}
    random, threads = torch.get_rng_state(), torch.get_num_threads()
    step = Step.parse(f"gptq@{scope}=3,group=8,samples=4")
    storage = gptq.run(model, select(model, scope), step, tokenizer=Words()).storage
    after = {m.name: m for m in matrices(model)}
    assert storage.keys() == scoped
    for key, old in before.items():
        assert torch.equal(after[key].weight, old) == (key not in scoped), key
    for key in scoped:  # the grid and whole numbers are all there is to it
        grid, rows = storage[key].grid, after[key].rows
        q = grid.integers(rows)
        assert q.dtype == torch.uint8 and int(q.max()) < 8
        assert torch.equal(grid.weight(q), rows)
        assert bool((grid.scale == grid.scale.half().float()).all())
        assert rows.is_contiguous() != after[key].transposed
    assert all(p is parameters[k] for k, p in model.named_parameters())
    assert list(modules) == [k for k, _ in model.named_modules()]
    assert all(m is modules[k] for k, m in model.named_modules())
    assert {k: set(vars(m)) for k, m in model.named_modules()} == noted
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert model.config.to_dict() == config
    assert not model.training
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("name", "whole", "pieces", "chained"),
    [
        ("llama", "all", ["all[0]", "all[1]"], True),
        ("bert", "all", ["attention.qkv[0]", "attention.output[0]", "feed_forward.up[0]",
                         "feed_forward.down[0]", "all[1]"], True),
        ("t5", "all", ["encoder[0]", "encoder[1]", "decoder[0]", "decoder[1]"], False),
        ("t5", "decoder[1]", ["decoder.self_attention.qkv[1]", "decoder.self_attention.output[1]",
                              "decoder.cross_attention[1]", "decoder.feed_forward[1]"], False),
        ("bart", "all", ["encoder", "decoder[0]", "decoder[1-2]"], True),
        ("llama", "attention.qkv[1]", ["attention.value[1]", "attention.query[1]", "attention.key[1]"], True),
        ("bart", "decoder.cross_attention.qkv[1]", [f"decoder.cross_attention.{q}[1]" for q in ("key", "query", "value")],
         True),
    ],
)  # fmt: skip
def test_each_matrix_reads_what_the_rounded_ones_before_it_give(name, whole, pieces, chained):
    """A step on all blocks is a step on each in turn: so inputs of later ones come from rounded earlier ones. And
    what matrices that read the same input share does not change their results."""
    at_once, in_turn = tiny(name), tiny(name)
    paths = {p.path for p in gptq.parts(select(at_once, whole))}
    example = {"input_ids": torch.tensor([[3, 5, 7, 9]]), "attention_mask": torch.ones(1, 4, dtype=torch.int64)}
    assert chained == all(gptq.chained(at_once, path, example) for path in paths)
    rounded(at_once, f"gptq@{whole}=3,group=8,samples=6")
    rounded(in_turn, "+".join(f"gptq@{piece}=3,group=8,samples=6" for piece in pieces))
    expected = weights(in_turn)
    for key, weight in weights(at_once).items():
        assert torch.equal(weight, expected[key]), key


def test_gemma3_has_blocks_of_two_kinds():
    """Local and global attention turn positions differently, so one block's arguments do not suit the next."""
    import transformers as t

    torch.manual_seed(0)
    model = t.Gemma3ForCausalLM(
        t.Gemma3TextConfig(
            vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1, head_dim=8, max_position_embeddings=24, layer_types=["sliding_attention", "full_attention"],
        )
    ).eval()  # fmt: skip
    example = {"input_ids": torch.tensor([[3, 5, 7, 9]]), "attention_mask": torch.ones(1, 4, dtype=torch.int64)}
    assert not gptq.chained(model, "model.layers", example)


def test_report():
    report = rounded(tiny("llama"), "gptq@attention.qkv=3,group=8,samples=4")
    (step,) = report.steps
    assert step.bits == 3 and 4 < step.levels <= 8 and step.matrices == 6
    assert step.groups == 2 * (16 + 8 + 8) * 2
    assert report.bits_per_weight == pytest.approx(3 + 16 / 8)
    assert (
        report.to_dict()["steps"][0]["calibration"]
        == rounded(tiny("bert"), "gptq@all=8,samples=4").steps[0].calibration
    )
    assert step.calibration != rounded(tiny("llama"), "gptq@all=8,samples=5").steps[0].calibration
    sorted_groups = rounded(tiny("llama"), "gptq@attention.query=3,group=8,samples=4,sym=false,desc_act=true")
    assert sorted_groups.bits_per_weight == pytest.approx(
        3 + (16 + 3) / 8 + 32 / 16
    )  # and which group each input is in


def test_the_result_does_not_depend_on_the_number_of_threads():
    found = []
    for threads in (1, 2):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        model = wide()
        rounded(model, "gptq@all=4,group=32,samples=4")
        torch.set_num_threads(before)
        found.append(weights(model))
    assert all(torch.equal(found[0][k], found[1][k]) for k in found[0])


def test_groups_of_one_sign_keep_their_largest_weight():
    """After pruning, small groups often hold weights of one sign; gptqmodel's own grid would cut these at half."""
    model = tiny("llama")
    apply(model, Recipe.parse("magnitude@feed_forward.down[0]=0.8"))
    (m,) = select(model, "feed_forward.down[0]")
    before = m.rows.clone().view(-1, 8)
    rounded(model, "gptq@feed_forward.down[0]=8,group=8,samples=4")
    alone = (before != 0).sum(1) == 1
    assert alone.sum() > 5
    torch.testing.assert_close(m.rows.view(-1, 8)[alone].abs().amax(1), before[alone].abs().amax(1), rtol=0.05, atol=0)


def refused(model, recipe, error, match, tokenizer=Words()):  # noqa: B008
    before = weights(model)
    with pytest.raises(error, match=match) as caught:
        apply(model, Recipe.parse(recipe), tokenizer=tokenizer)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(w, before[k]) for k, w in weights(model).items()), "refused before a weight changes"


@pytest.mark.parametrize(
    ("name", "recipe", "error", "match"),
    [
        ("llama", "magnitude@all=0.5+gptq@head=4", BadRequest, r"lm_head.weight is in no block.*rtn@head"),
        ("llama, tied", "gptq@head=4", BadRequest, "is in no block"),
        ("bert", "magnitude@all=0.5+gptq@all=4,preset=paper", BadRequest, "transform.dense.weight is in no block"),
        ("llama", "magnitude@all=0.5+gptq@all=4,damp=0", BadRequest, "damp=0 leaves the Hessian without an inverse"),
        ("llama", "magnitude@all=0.5+gptq@all=4,samples=99", BadRequest, "the calibration text has 40 paragraphs"),
        ("albert", "magnitude@all=0.5+gptq@all=4", BadModel, "are used 2 times .* as in ALBERT"),
        ("llama", "int8@attention+gptq@all=4", BadRequest, "put that step last"),
    ],
)  # fmt: skip
def test_refusals_come_before_a_weight_changes(name, recipe, error, match):
    refused(tiny(name), recipe, error, match)


def test_refusals_of_models_and_tokenizers():
    recipe = "magnitude@all=0.5+gptq@all=4"
    refused(tiny("llama"), recipe, BadRequest, r"give apply\(\) the model's tokenizer", tokenizer=None)
    refused(tiny("llama"), recipe, BadRequest, "does not fit the model", tokenizer=Words(1000))
    refused(tiny("llama").bfloat16(), recipe, BadRequest, "load the model as float32 on the CPU")
    overflowing = tiny("llama")
    with torch.no_grad():
        overflowing.model.layers[0].mlp.up_proj.weight.mul_(1e30)
        overflowing.model.layers[0].mlp.gate_proj.weight.mul_(1e30)
    refused(overflowing, recipe, BadModel, "with what is not a number")
    with pytest.raises(BadRequest, match="a group is channel, or a whole number"):
        Recipe.parse("gptq@all=4,group=tensor")
    with pytest.raises(BadRequest, match="one of 2, 3, 4, 8"):
        Recipe.parse("gptq@all=5")


def test_a_failure_half_way_leaves_the_weights_as_they_were(monkeypatch):
    model = tiny("t5")
    before, solver = weights(model), gptq_library.solver()
    calls, solve = [], solver.solve

    def fail(*args, **kwargs):
        if len(calls) == 2:
            raise ValueError("a Hessian that cannot be inverted")
        calls.append(solve(*args, **kwargs))
        return calls[-1]

    monkeypatch.setattr(solver, "solve", fail)
    with pytest.raises(BadResult, match="a Hessian that cannot be inverted"):
        rounded(model, "gptq@all=4,group=8,samples=2")
    assert len(calls) == 2
    assert all(torch.equal(w, before[k]) for k, w in weights(model).items())
    assert "_rounded_blocks" not in model._modules


def test_without_the_libraries_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(gptq_library, "find_spec", lambda name: None if name == "gptqmodel" else object())
    refused(tiny("llama"), "magnitude@all=0.5+gptq@all=4", MissingData, "needs gptqmodel.*no-build-isolation gptqmodel")


def test_an_import_that_prints_logs_and_sets_variables_leaves_no_trace(capfd, monkeypatch):
    root = logging.getLogger()
    monkeypatch.setenv("KC_KEPT", "1")
    before = (root.level, root.handlers[:], dict(os.environ))
    with gptq_library.quiet():
        print("banner")
        print("warning", file=sys.stderr)
        root.addHandler(logging.StreamHandler())
        root.setLevel("INFO")
        logging.getLogger("some.library").warning("a kernel is missing")
        os.environ |= {"HF_HOME": "/nowhere", "KC_KEPT": "2"}
    assert (root.level, root.handlers[:], dict(os.environ)) == before
    assert capfd.readouterr() == ("", "")


def test_a_run_is_quiet_but_for_its_progress(capfd):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rounded(tiny("llama"), "gptq@all=4,group=8,samples=2")
    out, err = capfd.readouterr()
    assert out == "" and not [w for w in caught if "gptq" in str(w.filename)]
    assert err.count("\n") <= 1, err
