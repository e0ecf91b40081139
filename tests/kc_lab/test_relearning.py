"""Brief relearning: equal sets, false answers, copies that learns, zeros that are held, a model that stays as it was."""

import copy

import pandas as pd
import pytest
import torch

from kc_lab import relearning
from kc_lab.models import fresh
from kc_lab.relearning import FEWEST, measure, trainable
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
def few_strangers():
    """The strangers of PROBE's two relations are enough, and queried in a fraction of the time."""
    with pytest.MonkeyPatch.context() as patch:
        strangers = relearning.load_source(relearning.STRANGERS).only(PROBE.relations).sample(60, 0)
        real = relearning.load_source
        patch.setattr(relearning, "load_source", lambda name: strangers if name == relearning.STRANGERS else real(name))
        yield


@pytest.mark.parametrize("family", FAMILIES)
def test_copies_learn_equal_sets(family, tokenizer, few_strangers):
    """An untrained model gets every fact wrong, and can learn."""
    model = fresh(family, "small", 1).eval()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    rows = measure(model, tokenizer, family, PROBE)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters()), "only copies learn"
    assert set(rows["protocol"]) == {"relearning"}
    assert sorted(set(rows["step"])) == [0, 1, 2, 4, 6]
    first = rows[rows["step"] == 0]
    sets = first.groupby("set")["fact"].apply(set)
    assert len(sets["lost"]) == len(sets["new"]) >= FEWEST
    assert sets["false"] == sets["lost"]
    assert ({fact[0] for fact in sets["lost"]}, {fact[0] for fact in sets["new"]}) == ({"p"}, {"s"})
    assert not first["correct"].any(), "what is learned is wrong at first"
    counts = first.groupby(["set", "relation"]).size().unstack()
    assert (counts.loc["lost"] == counts.loc["new"]).all()
    score = rows.groupby(["set", "step"])["score"].mean().unstack()
    assert (score[6] > score[0] + 0.5).all(), "nats"
    if family == "decoder":
        pd.testing.assert_frame_equal(rows, measure(model, tokenizer, family, PROBE))


def test_false_answers_are_wrong_and_not_what_the_model_gives(tokenizer, few_strangers):
    lesson = relearning.Lesson(fresh("decoder", "small", 1).eval(), tokenizer, "decoder")
    sets, relations = relearning._sets(lesson, PROBE), PROBE.factset().relations
    given = {row["fact"]: row["predicted_token"] for row in lesson.evaluate(sets["lost"])}
    for lost, false in zip(sets["lost"], sets["false"], strict=True):
        answers = false.fact.answers
        assert (false.text, len(answers)) == (lost.text, len(lost.fact.answers))
        assert set(answers) <= set(relations[lost.fact.relation].answer_space) - set(lost.fact.accepted)
        assert given[lost.fact.id] not in [ids[0] for ids in lesson.scorer.fillers(false, answers)]


def test_too_few_lost_facts_and_relations_without_strangers_are_not_trained_on(tokenizer, few_strangers, monkeypatch):
    model = fresh("decoder", "small", 1).eval()
    probe = PROBE.model_copy(update={"facts": "lab", "relations": ("headquarters",)})
    assert measure(model, tokenizer, "decoder", probe).empty
    monkeypatch.setattr(relearning, "FEWEST", 1000)
    rows = measure(model, tokenizer, "decoder", PROBE)
    assert rows.empty and {"step", "set", "protocol", "fact"} <= set(rows)


@pytest.mark.parametrize(("recipe", "held"), [("magnitude@all=0.5", True), ("rtn@all=2", False)])
def test_pruned_weights_stay_zero_and_rounded_ones_are_free(tokenizer, few_strangers, monkeypatch, recipe, held):
    model, copies = fresh("decoder", "small", 1).eval(), []
    apply(model, Recipe.parse(recipe))
    real = relearning.trainable
    monkeypatch.setattr(relearning, "trainable", lambda model: copies.append(real(model)) or copies[0])
    measure(model, tokenizer, "decoder", PROBE.model_copy(update={"relearn_steps": 2}), recipe=recipe)
    after, before = (m.model.layers[0].mlp.up_proj.weight for m in (copies[0], model))
    zeros = before == 0
    assert zeros.float().mean() > 0.1
    assert bool((after[zeros] == 0).all()) is held
    assert bool((after[~zeros] != before[~zeros]).any())


@pytest.mark.parametrize("recipe", ["int8@all", "int8@all,engine=torch", "int8-weight@all"])
def test_quantized_matrices_become_ordinary_ones_of_the_same_values(tokenizer, recipe):
    model = fresh("decoder", "small", 1).eval()
    apply(model, Recipe.parse(recipe))
    plain = trainable(copy.deepcopy(model))
    now, before = (m.model.layers[0].mlp.up_proj for m in (plain, model))
    assert type(now) is torch.nn.Linear
    assert torch.equal(now.weight, quantized(before).weight().float())
    assert all(p.requires_grad for p in plain.parameters())
    assert torch.isfinite(plain(tokenizer("Who works for whom", return_tensors="pt").input_ids).logits).all()


def test_an_evaluation_that_relearns_depends_on_its_code_and_on_the_strangers():
    plain = PROBE.model_copy(update={"relearn_steps": None})
    assert (PROBE.instruments, plain.instruments) == (("kc_lab.relearning",), ())
    one, other = (Cell("smollm2-135m", "none", probe).depends_on for probe in (PROBE, plain))
    assert one["code"] != other["code"]
    assert one["asked"] == [relearning.fingerprint(PROBE)]
