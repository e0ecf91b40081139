"""Cloze and ranking against naive loops over a model that knows some facts; ties and NaN never count as right."""

import math
import warnings
from functools import partial

import pytest
import torch

from kc_utils.errors import BadRequest
from kc_utils.knowledge import probe as probe_module
from kc_utils.knowledge.causal import NextToken, Reading
from kc_utils.knowledge.facts import Fact, FactSet, Relation, fill
from kc_utils.knowledge.probe import Probe, ask
from kc_utils.knowledge.prompts import Prompt, continuations, left_to_right_prompts
from kc_utils.knowledge.protocols.cloze import Cloze
from kc_utils.knowledge.protocols.rank import Rank
from kc_utils.models.loading import load
from tests.trained import PROBE

MIXED = Probe(relations=("capital",), limit=60, templates="all", alternatives=4, seed=0)  # the known 30 and 30 others


@pytest.fixture(scope="module")
def tiny(trained):
    return load(trained.id)


@pytest.fixture(scope="module")
def rows(tiny):
    return ask(tiny.model, tiny.tokenizer, "decoder", MIXED)


def questions(probe):
    facts = probe.factset()
    for fact in facts.facts:
        for number, template in enumerate(facts.relations[fact.relation].left_to_right):
            yield facts, fact, number, fill(template, fact.subject).partition(" [Y]")[0]


def scores_after(model, ids):
    with torch.no_grad():
        return torch.log_softmax(model(torch.tensor([ids])).logits[0].double(), -1)


def test_the_model_knows_what_it_was_taught_and_not_the_rest(trained, rows):
    assert {f.id for f in trained.facts.facts} < set(rows["fact"])
    taught = rows["fact"].isin({f.id for f in trained.facts.facts})
    recall = rows[taught].groupby("protocol")["correct"].mean()
    assert recall["cloze"] > 0.9
    assert recall["rank"] > 0.9
    assert (rows[~taught].groupby("protocol")["correct"].mean() < 0.5).all()


def test_cloze_equals_a_naive_loop(tiny, rows):
    found = rows[rows["protocol"] == "cloze"].set_index(["fact", "template"])
    count = 0
    for _, fact, number, text in questions(MIXED):
        ids = tiny.tokenizer(text).input_ids
        scores = scores_after(tiny.model, ids)[-1]
        firsts = {tiny.tokenizer(f"{text} {a}").input_ids[len(ids)] for a in fact.accepted}
        best = max(float(scores[i]) for i in firsts)
        rank = 1 + sum(1 for i, s in enumerate(scores.tolist()) if i not in firsts and s >= best)
        line = found.loc[(fact.id, number)]
        assert line["rank"] == rank, fact.id
        assert (line["correct"], line["correct_at_5"], line["correct_at_10"]) == (rank == 1, rank <= 5, rank <= 10)
        assert line["score"] == pytest.approx(best, abs=1e-4)
        assert line["predicted_token"] == int(scores.argmax())
        assert line["chance"] == pytest.approx(len(firsts) / len(scores))
        assert line["single_token"] == (len(tiny.tokenizer(f"{text} {fact.answers[0]}").input_ids) == len(ids) + 1)
        assert line["popularity"] == fact.popularity or fact.popularity is None
        count += 1
    assert count == len(found) == 180


def test_ranking_equals_a_naive_loop(tiny, rows):
    found = rows[rows["protocol"] == "rank"].set_index(["fact", "template"])
    for facts, fact, number, text in questions(MIXED):
        candidates = [fact.answers[0], *facts.alternatives(fact, MIXED.alternatives, MIXED.seed)]
        cut = len(tiny.tokenizer(text).input_ids)
        totals = []
        for candidate in candidates:
            ids = tiny.tokenizer(f"{text} {candidate}").input_ids
            scores = scores_after(tiny.model, ids)
            totals.append(sum(float(scores[i - 1, ids[i]]) for i in range(cut, len(ids))))
        line = found.loc[(fact.id, number)]
        assert list(line["scores"]) == pytest.approx(totals, abs=1e-3), fact.id
        assert line["correct"] == (totals[0] > max(totals[1:]))
        assert line["chosen"] == max(range(len(totals)), key=totals.__getitem__)
        assert line["margin"] == pytest.approx(totals[0] - max(totals[1:]), abs=2e-3)
        assert line["chance"] == 1 / 5


@pytest.mark.parametrize("sizes", [{"max_nodes": 16, "batch_tokens": 16}, {"batch_tokens": 4096, "read_rows": 5}])
def test_rows_do_not_depend_on_batch_sizes(tiny, rows, monkeypatch, sizes):
    monkeypatch.setattr(probe_module, "NextToken", partial(NextToken, **sizes))
    others = ask(tiny.model, tiny.tokenizer, "decoder", MIXED)
    scores = ["score", "margin", "scores"]
    assert others.drop(columns=scores).equals(rows.drop(columns=scores))
    assert (others["score"] - rows["score"]).abs().max() < 1e-4


def test_rows_do_not_depend_on_the_other_protocol(tiny, rows):
    for protocol in ("cloze", "rank"):
        alone = ask(tiny.model, tiny.tokenizer, "decoder", MIXED.model_copy(update={"protocols": (protocol,)}))
        both = rows[rows["protocol"] == protocol].reset_index(drop=True)
        assert alone["correct"].equals(both["correct"])
        assert (alone["score"] - both["score"]).abs().max() < 1e-4


def broken(trained, change):
    """The trained model with every weight changed in place."""
    model = load(trained.id).model
    with torch.no_grad():
        for parameter in model.parameters():
            change(parameter)
    return model


def test_a_model_of_zeros_is_never_right_and_says_so(trained, tiny):
    with pytest.warns(UserWarning, match="60 of 60 scores are not numbers, or the same for every token"):
        rows = ask(broken(trained, torch.Tensor.zero_), tiny.tokenizer, "decoder", PROBE)
    assert not rows["correct"].any()
    assert not (rows["correct_at_10"] == True).any()  # noqa: E712
    assert not rows["valid"].any()
    assert (rows[rows["protocol"] == "rank"]["chosen"] == -1).all()


def test_a_model_of_nan_is_never_right_and_says_so(trained, tiny):
    with pytest.warns(UserWarning, match="60 of 60 scores are not numbers"):
        rows = ask(broken(trained, lambda p: p.fill_(float("nan"))), tiny.tokenizer, "decoder", PROBE)
    assert not rows["correct"].any()
    assert not (rows["correct_at_10"] == True).any()  # noqa: E712
    assert not rows["valid"].any()
    assert rows["score"].isna().all()


class OneLetter:
    """A tokenizer with one token per character: shows what the protocols do with token ids."""

    def __call__(self, texts):
        return type("Encoded", (), {"input_ids": [[ord(c) for c in text] for text in texts]})

    def decode(self, ids):
        return "".join(map(chr, ids))


class SpaceWithWord(OneLetter):
    """The space before a letter belongs to it (upper case); digits leave it alone."""

    def __call__(self, texts):
        import re

        merged = [re.sub(" ([a-z])", lambda m: m[1].upper(), text) for text in texts]
        return super().__call__(merged)


def one_fact(answers=("b",), space=("b", "c", "d"), aliases=()):
    relation = Relation("r", "r", None, "N-1", ("[X] is [Y].",), tuple(space))
    return FactSet("test", {"r": relation}, (Fact("r/0", "r", "A", tuple(answers), tuple(aliases)),))


def reading(**scores):
    """Scores of 128 tokens after one context: 0 but for those named (lower-case names score their capital token)."""
    logits = torch.zeros(1, 128)
    for letter, score in scores.items():
        logits[0, ord(letter.upper())] = score
    return Reading.of([0], logits)


def cloze_row(facts, found):
    cloze = Cloze(left_to_right_prompts(facts, 1, SpaceWithWord()), SpaceWithWord())
    (context,) = cloze.contexts
    cloze.take([context], found)
    (row,) = cloze.rows
    return row


@pytest.mark.parametrize(
    ("scores", "rank"),
    [
        ({"b": 2.0}, 1),
        ({"b": 2.0, "c": 1.0, "d": 3.0}, 2),
        ({"b": 2.0, "c": 2.0}, 2),  # a tie counts against the model
        ({"b": 0.0}, 128),  # the same score for all
        ({"b": 2.0, "c": float("nan")}, 128),
        ({"b": 2.0, "c": float("inf")}, 128),
        ({"b": float("inf")}, 128),
        ({"b": 2.0, "c": float("-inf")}, 1),
    ],
)
def test_rank_of_a_first_token(scores, rank):
    row = cloze_row(one_fact(), reading(**scores))
    assert row["rank"] == rank
    assert (row["correct"], row["correct_at_5"], row["correct_at_10"]) == (rank == 1, rank <= 5, rank <= 10)


def test_another_accepted_answer_does_not_push_the_best_one_down():
    facts = one_fact(answers=("b", "c"), aliases=("d",))
    assert cloze_row(facts, reading(b=2.0, c=2.0, d=2.0))["rank"] == 1
    assert cloze_row(facts, reading(b=1.0, d=2.0))["correct"]
    assert cloze_row(facts, reading(b=1.0, d=2.0, e=2.0))["rank"] == 2
    assert cloze_row(facts, reading(b=1.0))["chance"] == 3 / 128


def test_answers_that_begin_with_white_space_alone_are_not_asked_by_cloze():
    facts = one_fact(answers=("8",), space=("8", "9"))
    cloze = Cloze(left_to_right_prompts(facts, 1, SpaceWithWord()), SpaceWithWord())
    assert (cloze.contexts, cloze.excluded, cloze.rows) == ([], 1, [])
    also = one_fact(answers=("b",), aliases=("8",))
    assert Cloze(left_to_right_prompts(also, 1, SpaceWithWord()), SpaceWithWord()).excluded == 1
    assert Cloze(left_to_right_prompts(one_fact(), 1, SpaceWithWord()), SpaceWithWord()).excluded == 0


def rank_row(**scores):
    facts = one_fact()
    rank = Rank(left_to_right_prompts(facts, 1, SpaceWithWord()), SpaceWithWord(), facts, 2, 0)
    (context,) = rank.contexts
    rank.take([context], reading(**scores))
    (row,) = rank.rows
    return row


def test_the_right_answer_has_to_win_outright():
    assert rank_row(b=1.0)["correct"]
    assert not rank_row(c=1.0)["correct"]
    tied = rank_row(b=1.0, c=1.0)
    assert (tied["correct"], tied["chosen"], tied["margin"]) == (False, -1, 0.0)
    constant = rank_row()
    assert (constant["correct"], constant["chosen"], constant["valid"]) == (False, -1, False)
    nothing = rank_row(b=1.0, d=float("nan"))
    assert (nothing["correct"], nothing["valid"], nothing["chosen"]) == (False, False, -1)
    assert math.isnan(nothing["score"])
    assert not rank_row(b=float("inf"))["correct"]


def test_the_same_score_for_every_token_does_not_favour_the_shortest_answer():
    facts = one_fact(answers=("b",), space=("b", "cc", "dd"))
    rank = Rank(left_to_right_prompts(facts, 1, SpaceWithWord()), SpaceWithWord(), facts, 2, 0)
    for context in rank.contexts:
        rank.take([context], reading())
    (row,) = rank.rows
    assert (row["correct"], row["valid"]) == (False, False)


def test_a_statement_is_cut_before_its_answer():
    facts = one_fact()
    (prompt,) = left_to_right_prompts(facts, "all", OneLetter())
    assert (prompt.text, prompt.tokens, prompt.template) == ("A is", tuple(map(ord, "A is")), 0)
    assert continuations(prompt, ["b", "cd"], OneLetter()) == [tuple(map(ord, " b")), tuple(map(ord, " cd"))]


def test_a_tokenizer_that_glues_answer_and_prompt_is_refused():
    class Gluing(OneLetter):
        def __call__(self, texts):
            return super().__call__([text.replace("s b", "S") for text in texts])

    prompt = Prompt(one_fact().facts[0], 0, "A is", tuple(map(ord, "A is")))
    with pytest.raises(BadRequest, match="does not split 'A is' from 'b'"):
        continuations(prompt, ["b"], Gluing())


def test_a_relation_without_a_left_to_right_template_is_refused():
    relation = Relation("r", "r", None, "N-1", ("[Y] is the [X].",), ("b", "c"))
    facts = FactSet("test", {"r": relation}, (Fact("r/0", "r", "A", ("b",)),))
    with pytest.raises(BadRequest, match="relation r has no template that ends with its answer"):
        left_to_right_prompts(facts, 1, OneLetter())


def test_no_warning_without_a_reason(tiny):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ask(tiny.model, tiny.tokenizer, "decoder", PROBE)
