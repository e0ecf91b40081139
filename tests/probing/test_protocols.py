"""Cloze and ranking of all families against naive loops and lm-pub-quiz; ties and NaN never count as right."""

import logging
import math
import types

import pytest
import torch
from lm_pub_quiz.evaluators import CausalLMEvaluator, MaskedLMEvaluator
from transformers import PreTrainedTokenizerFast

from kc_utils.probing.facts import Fact, FactSet, Relation
from kc_utils.probing.logits import Logits
from kc_utils.probing.protocols import Cloze, Rank
from kc_utils.probing.queries import queries_of
from tests.probing.conftest import plain_logits, with_sentinel
from tests.trained import MIXED


def rows_of(evaluated, family, protocol):
    rows = evaluated(family).rows
    return rows[rows["protocol"] == protocol].set_index(["fact", "template"])


def test_a_model_knows_what_it_was_taught_and_not_the_rest(trained_as, evaluated, family):
    known, rows = {f.id for f in trained_as(family).facts.facts}, evaluated(family).rows
    rows = rows[rows["protocol"].isin(["cloze", "rank", "generate"])]
    taught = rows["fact"].isin(known)
    assert known < set(rows["fact"])
    assert (rows[taught].groupby("protocol")["correct"].mean() > 0.9).all()
    assert (rows[~taught].groupby("protocol")["correct"].mean() < 0.4).all()


def naive_cloze(family, loaded, query):
    """(log-probabilities at the gap, first tokens of the accepted answers, whether the main one is one token); of an
    encoder, answers of a single piece alone."""
    tokens, accepted = loaded.tokenizer, query.fact.accepted
    if family == "decoder":
        text = query.lead.rstrip()
        answers = [tokens(f"{text} {a}").input_ids[len(tokens(text).input_ids) :] for a in accepted]
    else:
        answers = [tokens(a, add_special_tokens=False).input_ids for a in accepted]
    scores = torch.log_softmax(plain_logits(loaded.model, tokens, family, query).double(), -1)
    return scores, {a[0] for a in answers if family != "encoder" or len(a) == 1}, len(answers[0]) == 1


def test_cloze_equals_a_naive_loop(tiny, evaluated, family):
    loaded, found = tiny(family), rows_of(evaluated, family, "cloze")
    count = 0
    for query in queries_of(MIXED.factset(), "all", left_to_right=family == "decoder"):
        scores, firsts, single = naive_cloze(family, loaded, query)
        if not firsts:
            assert (query.fact.id, query.template) not in found.index
            continue
        best, predicted = float(scores[list(firsts)].max()), int(scores.argmax())
        scores[list(firsts)] = -math.inf
        rank = 1 + int((scores >= best).sum())
        line = found.loc[(query.fact.id, query.template)]
        assert line["rank"] == rank, query
        assert (line["correct"], line["correct_at_5"], line["correct_at_10"]) == (rank == 1, rank <= 5, rank <= 10)
        assert line["score"] == pytest.approx(best, abs=1e-4)
        assert line["margin"] == pytest.approx(best - float(scores.max()), abs=1e-3)
        assert (line["predicted_token"], line["single_token"]) == (predicted, single)
        assert line["chance"] == pytest.approx(len(firsts) / len(scores))
        assert line["popularity"] == query.fact.popularity or query.fact.popularity is None
        count += 1
    assert count == len(found)
    assert {"decoder": count == 180, "encoder": 60 < count < 160, "encoder-decoder": count == 240}[family]


def spelled_out(loaded, query, candidates):
    """Scores of an encoder-decoder's candidates by teacher forcing, one at a time."""
    tokens, totals = loaded.tokenizer, []
    statement = torch.tensor([with_sentinel(tokens, query)])
    for answer in candidates:
        labels = tokens(f"<extra_id_0> {answer}<extra_id_1>", add_special_tokens=False).input_ids
        assert tokens.convert_ids_to_tokens(labels)[1] != "▁"
        with torch.no_grad():
            logits = loaded.model(input_ids=statement, labels=torch.tensor([labels])).logits[0]
        scores = torch.log_softmax(logits.double(), -1)
        totals.append(sum(float(scores[i, label]) for i, label in enumerate(labels) if i > 0))
    return totals


def test_ranking_equals_lm_pub_quiz_or_teacher_forcing(tiny, evaluated, family):
    """lm-pub-quiz's score of every candidate is the sum over the whole statement."""
    loaded, found = tiny(family), rows_of(evaluated, family, "rank")
    assert isinstance(loaded.tokenizer, PreTrainedTokenizerFast)
    logging.getLogger("lm_pub_quiz").setLevel(logging.ERROR)
    if family != "encoder-decoder":
        kind = MaskedLMEvaluator if family == "encoder" else CausalLMEvaluator
        quiz = kind.from_model(loaded.model, tokenizer=loaded.tokenizer, device="cpu")
    facts = MIXED.factset()
    queries = queries_of(facts, "all")
    assert len(found) == len(queries) == 240
    for query in queries[::9]:
        fact, template = query.fact, facts.relations[query.fact.relation].templates[query.template]
        candidates = [fact.answers[0], *facts.alternatives(fact, MIXED.alternatives, MIXED.seed)]
        if family == "encoder-decoder":
            totals = spelled_out(loaded, query, candidates)
        else:
            totals = quiz.evaluate_instance(
                template=template, subject=fact.subject, answers=candidates, reduction="sum", batch_size=64
            )
        line = found.loc[(fact.id, query.template)]
        # a decoder's begin where the answers do: what precedes is the same for all
        less, theirs = (line["scores"][0], totals[0]) if family == "decoder" else (0, 0)
        assert [s - less for s in line["scores"]] == pytest.approx([t - theirs for t in totals], abs=2e-3), query
        assert line["correct"] == (totals[0] > max(totals[1:]))
        assert line["chosen"] == max(range(len(totals)), key=totals.__getitem__)
        assert line["margin"] == pytest.approx(totals[0] - max(totals[1:]), abs=2e-3)
        assert line["chance"] == 1 / 5


class Letters:
    """A scorer of single letters: after "A is", each letter of an answer is a token; digits follow a space alone."""

    first_token_counts = True

    def gap(self, query):
        return query.lead

    def fillers(self, query, answers):
        return [tuple(map(ord, f" {a}" if a.isdigit() else a)) for a in answers]

    def terms(self, query, answers):
        return [[((query.lead, a[:n]), ord(a[n])) for n in range(len(a))] for a in answers]


ALPHABET = types.SimpleNamespace(unk_token_id=ord("u"), decode=lambda ids: "".join(map(chr, ids)))


class OnePiece(Letters):
    first_token_counts = False


def one_fact(answers=("b",), space=("b", "c", "d"), aliases=()):
    relation = Relation("r", "r", None, "N-1", ("[X] is [Y].",), tuple(space))
    return FactSet("test", {"r": relation}, (Fact("r/0", "r", "A", tuple(answers), tuple(aliases)),))


def logits(**scores):
    """Logits of 128 tokens: 0 but for those named."""
    values = torch.zeros(1, 128)
    for letter, score in scores.items():
        values[0, ord(letter)] = score
    return Logits.of([0], values)


def cloze_of(facts, scorer=None):
    return Cloze(queries_of(facts, 1, left_to_right=True), scorer or Letters(), ALPHABET)


def cloze_row(facts, found, scorer=None):
    cloze = cloze_of(facts, scorer)
    (query,) = cloze.inputs
    cloze.take([query], found)
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
        ({"b": 2.0, "c": float("-inf")}, 1),
    ],
)
def test_rank_of_a_first_token(scores, rank):
    row = cloze_row(one_fact(), logits(**scores))
    assert row["rank"] == rank
    assert (row["correct"], row["correct_at_5"], row["correct_at_10"]) == (rank == 1, rank <= 5, rank <= 10)


def test_another_accepted_answer_does_not_push_the_best_one_down():
    facts = one_fact(answers=("b", "c"), aliases=("d",))
    assert cloze_row(facts, logits(b=2.0, c=2.0, d=2.0))["rank"] == 1
    assert cloze_row(facts, logits(b=1.0, d=2.0, e=2.0))["rank"] == 2
    assert cloze_row(facts, logits(b=1.0))["chance"] == 3 / 128


@pytest.mark.parametrize(("main", "scorer"), [("8", Letters()), ("u", Letters()), ("bc", OnePiece())])
def test_an_answer_that_one_token_cannot_give_is_left_out(main, scorer):
    """White space alone or the unknown token; for a mask, several pieces."""
    assert cloze_of(one_fact(answers=(main,)), scorer).inputs == []
    row = cloze_row(one_fact(aliases=(main,)), logits(u=3.0, c=1.0, b=2.0), scorer)
    assert (row["rank"], row["single_token"], row["chance"]) == (2, True, 1 / 128)
    if isinstance(scorer, OnePiece):  # another answer counts
        row = cloze_row(one_fact(answers=(main,), aliases=("d", "cb")), logits(b=3.0, d=2.0), scorer)
        assert (row["rank"], row["single_token"], row["chance"]) == (2, False, 1 / 128)
    else:
        assert cloze_of(one_fact(answers=(main,), aliases=("b",)), scorer).inputs == []


def rank_row(facts=None, **scores):
    facts = facts or one_fact()
    rank = Rank(queries_of(facts, 1), Letters(), facts, 2, 0)
    for query in rank.inputs:
        rank.take([query], logits(**scores))
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
