"""Brief relearning: two equal sets, a copy that learns, zeros that are held, a model that stays as it was."""

import copy

import pandas as pd
import pytest
import torch

from kc_lab import relearning
from kc_lab.relearning import FEWEST, asked_after, hold, measure, trainable, zeros_of
from kc_lab.shapes import fresh
from kc_lab.tokenizer import as_transformers
from kc_utils.compression.apply import apply
from kc_utils.compression.recipe import Recipe
from kc_utils.models.stored import quantized
from kc_utils.probing.probe import Probe
from kc_utils.study.cells import Cell

FAMILIES = ("encoder", "encoder-decoder", "decoder")
PROBE = Probe(facts="lab:people", relations=("birth_month", "field"), limit=24, protocols=("cloze",), relearn_steps=6)


@pytest.fixture(scope="module")
def tokenizer():
    return as_transformers()


@pytest.fixture(scope="module")
def learned(tokenizer):
    """Rows of an untrained model of each family: it gets every fact wrong, and can learn."""
    found = {}
    for family in FAMILIES:
        model = fresh(family, "small", 1).eval()
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        found[family] = measure(model, tokenizer, family, PROBE)
        assert all(torch.equal(p, before[name]) for name, p in model.named_parameters()), "only a copy learns"
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_two_equal_sets_are_asked_at_every_power_of_two(learned, family):
    rows = learned[family]
    assert set(rows["protocol"]) == {"relearning"}
    assert sorted(set(rows["step"])) == [0, 1, 2, 4, 6]
    sets = rows[rows["step"] == 0].groupby("set")["fact"].apply(set)
    assert len(sets["lost"]) == len(sets["new"]) >= FEWEST
    assert {fact[0] for fact in sets["lost"]} == {"p"}
    assert {fact[0] for fact in sets["new"]} == {"s"}
    first = rows[rows["step"] == 0]
    assert not first["correct"].any(), "what is learned is wrong at first"
    counts = first.groupby(["set", "relation"]).size().unstack()
    assert (counts.loc["lost"] == counts.loc["new"]).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_training_teaches(learned, family):
    score = learned[family].groupby("step")["score"].mean()
    assert score[6] > score[0] + 0.5, "nats"


def test_the_same_call_gives_the_same_rows(tokenizer):
    model = fresh("decoder", "small", 1).eval()
    one, two = (measure(model, tokenizer, "decoder", PROBE) for _ in range(2))
    pd.testing.assert_frame_equal(one, two)


def test_too_few_lost_facts_are_not_trained_on(tokenizer, monkeypatch):
    monkeypatch.setattr(relearning, "FEWEST", 1000)
    rows = measure(fresh("decoder", "small", 1).eval(), tokenizer, "decoder", PROBE)
    assert rows.empty
    assert {"step", "set", "protocol", "fact"} <= set(rows)


def test_relations_that_no_stranger_has_are_left_out(tokenizer):
    probe = PROBE.model_copy(update={"facts": "lab", "relations": ("headquarters",)})
    assert measure(fresh("decoder", "small", 1).eval(), tokenizer, "decoder", probe).empty


@pytest.mark.parametrize("steps", [1, 2, 3, 8, 20])
def test_when_both_sets_are_asked(steps):
    found = asked_after(steps)
    assert found[0] == 0
    assert found[-1] == steps
    assert all(step == steps or step & (step - 1) == 0 for step in found)


def trained_with(recipe: str, pruned: bool, tokenizer, monkeypatch):
    """The copy after two steps, and the compressed model."""
    model = fresh("decoder", "small", 1).eval()
    apply(model, Recipe.parse(recipe))
    seen = []
    monkeypatch.setattr(relearning.Lesson, "__init__", _keeping(seen, relearning.Lesson.__init__))
    measure(model, tokenizer, "decoder", PROBE.model_copy(update={"relearn_steps": 2}), recipe=recipe)
    return seen[0].model, model


def _keeping(seen, original):
    def init(self, *arguments, **named):
        original(self, *arguments, **named)
        seen.append(self)

    return init


def test_pruned_weights_stay_zero(tokenizer, monkeypatch):
    copied, model = trained_with("magnitude@all=0.5", True, tokenizer, monkeypatch)
    mine, theirs = (m.model.layers[0].mlp.up_proj.weight for m in (copied, model))
    zeros = theirs == 0
    assert zeros.float().mean() > 0.2, "of one matrix; half of all weights together"
    assert bool((mine[zeros] == 0).all())
    assert bool((mine[~zeros] != theirs[~zeros]).any())


def test_rounded_weights_are_free(tokenizer, monkeypatch):
    copied, model = trained_with("rtn@all=2", False, tokenizer, monkeypatch)
    mine, theirs = (m.model.layers[0].mlp.up_proj.weight for m in (copied, model))
    zeros = theirs == 0
    assert zeros.any(), "some were rounded to zero"
    assert bool((mine[zeros] != 0).any())


@pytest.mark.parametrize("recipe", ["int8@all", "int8@all,engine=torch", "int8-weight@all"])
def test_quantized_matrices_become_ordinary_ones_of_the_same_values(tokenizer, recipe):
    model = fresh("decoder", "small", 1).eval()
    apply(model, Recipe.parse(recipe))
    plain = trainable(copy.deepcopy(model))
    now, before = (m.model.layers[0].mlp.up_proj for m in (plain, model))
    assert type(now) is torch.nn.Linear
    assert torch.equal(now.weight, quantized(before).weight().float())
    assert all(p.requires_grad for p in plain.parameters())
    tokens = tokenizer("Who works for whom", return_tensors="pt").input_ids
    assert torch.isfinite(plain(tokens).logits).all()


def test_zeros_are_put_back():
    layer = torch.nn.Linear(4, 4)
    with torch.no_grad():
        layer.weight[0] = 0
    held = zeros_of(layer)
    with torch.no_grad():
        layer.weight += 1
    hold(layer, held)
    assert bool((layer.weight[0] == 0).all())
    assert bool((layer.weight[1:] != 0).all())
    assert zeros_of(torch.nn.Linear(4, 4)) == {}


def test_a_cell_that_relearns_depends_on_its_code_and_on_the_strangers():
    plain = PROBE.model_copy(update={"relearn_steps": None})
    assert PROBE.instruments == ("kc_lab.relearning",)
    assert plain.instruments == ()
    one, other = (Cell("smollm2-135m", "none", probe).depends_on for probe in (PROBE, plain))
    assert one["code"] != other["code"]
    assert one["asked"] == [relearning.fingerprint(PROBE)]
