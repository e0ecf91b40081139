"""Whole recipes on models: untying, saving and loading, reports, errors."""

import json
import math

import pytest
import torch
import transformers

from kc_utils.compression import magnitude, rtn
from kc_utils.compression.apply import apply, compress
from kc_utils.compression.recipe import Recipe
from kc_utils.compression.report import Outcome
from kc_utils.errors import BadModel, BadRequest, BadResult
from kc_utils.models.loading import load
from kc_utils.models.scopes import select
from tests.models.architectures import TINY, logits, tiny

RECIPES = ("magnitude@head=0.5", "random@all=0.3+random-rows@head=0.2", "rows-l2@all=0.3+rows-l1@head=0.2",
           "rtn@feed_forward=3,group=8", "2:4@all+rtn@head=4,group=8")  # fmt: skip


@pytest.mark.parametrize("name", TINY)
def test_saved_and_loaded_models_give_the_same_logits(name, tmp_path):
    whole = logits(tiny(name))
    for number, recipe in enumerate(RECIPES):
        model = tiny(name)
        assert apply(model, Recipe.parse(recipe)).weights_touched > 0
        scores = logits(model)
        assert bool(scores.isfinite().all()) and not torch.equal(scores, whole), recipe
        model.save_pretrained(tmp_path / str(number))
        again = type(model).from_pretrained(tmp_path / str(number)).eval()
        torch.testing.assert_close(logits(again), scores, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", TINY)
def test_pruning_the_head_leaves_the_embedding_alone(name):
    model, before = tiny(name), tiny(name)
    report = apply(model, Recipe.parse("magnitude@head=0.5"))
    (head,) = select(model, "head")
    assert not head.tied
    assert int((head.weight == 0).sum()) == round(head.numel / 2) == report.zeros
    assert torch.equal(model.get_input_embeddings().weight, before.get_input_embeddings().weight)
    model.tie_weights()  # what loading and resizing call: it must not tie the head again
    assert int((select(model, "head")[0].weight == 0).sum()) == report.zeros


def test_untying_says_so_in_the_config_where_only_the_head_was_tied():
    for name, tied in (("llama, tied", False), ("gpt2", False), ("bert", False), ("t5", True), ("bart", True)):
        model = tiny(name)
        whole = logits(model)
        apply(model, Recipe.parse("magnitude@head=0"))
        assert model.config.tie_word_embeddings is tied, name
        assert torch.equal(logits(model), whole)
    encoder, decoder = model.model.encoder.embed_tokens, model.model.decoder.embed_tokens
    assert encoder.weight is decoder.weight is model.model.shared.weight  # BART's stacks still share


@pytest.mark.parametrize("name", ["llama", "gpt2", "bert", "t5"])
def test_report_counts(name):
    model = tiny(name)
    report = apply(model, Recipe.parse("magnitude@attention=0.5+rtn@feed_forward=4,group=8"))
    attention, feed_forward = select(model, "attention"), select(model, "feed_forward")
    assert report.weights_model == sum(p.numel() for p in model.parameters())
    assert report.weights_touched == sum(m.numel for m in [*attention, *feed_forward])
    assert report.touched_fraction == report.weights_touched / report.weights_model
    zeros = {m.name: int((m.weight == 0).sum()) for m in [*attention, *feed_forward]}
    assert {m.name: m.zeros for m in report.per_matrix} == zeros
    assert (report.zeros, report.sparsity) == (sum(zeros.values()), sum(zeros.values()) / report.weights_touched)
    assert report.sparsity_model == sum(int((p == 0).sum()) for p in model.parameters()) / report.weights_model
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["recipe"] == "magnitude@attention=0.5+rtn@feed_forward=4,group=8"
    assert plain["steps"][0]["sparsity"] == report.steps[0].sparsity
    assert plain["per_matrix"][0]["role"].startswith(("attention", "feed_forward"))


def test_bits_of_each_encoding_by_hand():
    dense = apply(tiny("llama"), Recipe.parse("magnitude@all=0.01"))
    assert (dense.encodings, dense.bits_per_weight) == ({"dense": 14}, 16)  # what is not quantized takes 16 bits
    half = apply(tiny("llama"), Recipe.parse("magnitude@all=0.5,per=layer"))
    assert half.encodings == {"bitmask": 14}
    assert half.bits_per_weight == 1 + 0.5 * 16
    rows = apply(tiny("llama"), Recipe.parse("rows-l1@feed_forward.up=0.5"))
    assert rows.encodings == {"rows": 2}
    assert rows.bits_per_weight == pytest.approx(1 / 16 + 0.5 * 16)
    pattern = apply(tiny("llama"), Recipe.parse("1:4@all+rtn@all=4,group=tensor"))
    assert pattern.encodings == {"1:4": 14}
    assert pattern.bits_per_weight == pytest.approx((4 + 2) / 4 + 14 * 24 / pattern.weights_touched)
    both = apply(tiny("llama"), Recipe.parse("magnitude@attention.query=0.75+rtn@attention.query=8,group=16"))
    stored = 1 + (1 - both.sparsity) * 8 + 24 / 16
    assert both.bits_per_weight == pytest.approx(stored, rel=0.01)  # whole bytes a matrix


@pytest.mark.parametrize("second", ["rtn@all=4,group=8", "rtn@all=3,group=tensor", "int8@all", "int4-weight@all,group=8"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "albert", "bart"])
def test_what_was_pruned_is_still_zero_after_quantization(name, second):
    alone = apply(tiny(name), Recipe.parse("magnitude@all=0.4"))
    both = apply(tiny(name), Recipe.parse(f"magnitude@all=0.4+{second}"))
    assert both.zeros >= alone.zeros == round(0.4 * alone.weights_touched)
    assert both.bits_per_weight < alone.bits_per_weight
    assert both.steps[0].zeros == alone.zeros  # measured right after the step
    assert both.steps[1].zeros == both.zeros  # and after the last one


def test_a_model_without_weights_or_with_some_that_are_not_finite_is_refused():
    for where, bad in (("model.layers.1.mlp.up_proj.weight", math.nan), ("model.norm.weight", math.inf)):
        model = tiny("llama")
        model.get_parameter(where).data.view(-1)[3] = bad
        with pytest.raises(BadModel, match=f"{where}: 1 of"):
            apply(model, Recipe.parse("none"))
    with pytest.raises(BadModel, match="float64"):
        apply(tiny("llama").double(), Recipe.parse("magnitude@all=0.5"))
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(num_hidden_layers=1))
    with pytest.raises(BadModel, match="meta device"):
        apply(model, Recipe.parse("magnitude@all=0.5"))


def test_a_scope_that_the_model_lacks_is_refused_before_anything_changes():
    model = tiny("llama")
    with pytest.raises(BadRequest, match=r"decoder\.cross_attention"):
        apply(model, Recipe.parse("magnitude@all=0.5+magnitude@decoder.cross_attention=0.5"))
    assert torch.equal(logits(model), logits(tiny("llama")))


@pytest.mark.parametrize(
    ("method", "done", "recipe", "message"),
    [
        (magnitude, Outcome(zeros_expected=100), "magnitude@all=0.5", "100 zeros were wanted, 0 were made"),
        (rtn, Outcome(), "rtn@all=4", "0 of 14 matrices were quantized"),
    ],
)
def test_a_step_that_does_less_than_it_says_is_an_error(method, done, recipe, message, monkeypatch):
    monkeypatch.setattr(method, "run", lambda model, matrices, step: done)
    with pytest.raises(BadResult, match=message):
        apply(tiny("llama"), Recipe.parse(recipe))


def test_bytes_of_the_whole_model_by_hand():
    model = tiny("llama, tied")
    elements = sum(p.numel() for p in model.parameters())
    report = apply(model, Recipe.parse("rtn@all=4,group=8"))
    touched = sum(m.numel for m in select(model, "all"))
    assert report.bytes_uncompressed == 2 * elements
    assert report.bytes_compressed == 2 * (elements - touched) + touched * (4 + 20 / 8) / 8
    assert report.compression_ratio == report.bytes_uncompressed / report.bytes_compressed
    head = apply(tiny("llama, tied"), Recipe.parse("rows-l1@head=0.5"))  # untied: the embedding stays as it was
    assert head.bytes_compressed == 2 * elements + 40 // 8 + 2 * 40 * 16 // 2
    assert head.compression_ratio < 1
    none = apply(tiny("llama"), Recipe.parse("none"))
    assert (none.compression_ratio, none.touched_fraction, none.bits_per_weight, none.steps) == (1, 0, None, ())


def test_compress_gives_a_compressed_copy_with_its_report(trained):
    lm = load(trained.id)
    before = {name: weight.clone() for name, weight in lm.model.state_dict().items()}
    half = compress(lm, "magnitude@all=0.5")
    assert all(torch.equal(weight, before[name]) for name, weight in lm.model.state_dict().items())
    assert lm.report is None
    assert (half.report.recipe, half.report.sparsity) == ("magnitude@all=0.5", 0.5)
    assert all(int((m.weight == 0).sum()) > 0 for m in select(half.model, "feed_forward"))
    assert (half.tokenizer, half.entry) == (lm.tokenizer, lm.entry)
    both = compress(half, Recipe.parse("rtn@all=4,group=32"))
    assert both.report.sparsity >= 0.5, "a compressed model can be compressed again"
    assert compress(lm, "none").report.recipe == "none"
    assert compress(lm, "gptq@all=4,group=32,samples=2").report.steps[0].calibration
    with pytest.raises(BadRequest, match="unknown method"):
        compress(lm, "magic@all=0.5")
