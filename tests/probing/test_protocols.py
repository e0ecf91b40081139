"""Cloze and ranking of all families against naive loops and lm-pub-quiz; ties and NaN never count as right."""

import logging
import math
import types

import pytest
import torch
from lm_pub_quiz.evaluators import CausalLMEvaluator, MaskedLMEvaluator
from transformers import PreTrainedTokenizerFast

from kc_utils.probing.facts import Fact, FactSet, Relation
from kc_utils.probing.protocols.cloze import Cloze
from kc_utils.probing.protocols.rank import Rank
from kc_utils.probing.questions import ask_about
from kc_utils.probing.reading import Reading
from tests.trained import MIXED

FAMILIES = ("decoder", "encoder", "encoder-decoder")


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


def rows_of(asked, family, protocol):
    rows = asked(family).rows
    return rows[rows["protocol"] == protocol].set_index(["fact", "template"])


def log_probabilities(model, **inputs):
    """[T, vocabulary] of one plain forward pass."""
    with torch.no_grad():
        output = model(**{name: torch.tensor([ids]) for name, ids in inputs.items()})
    return torch.log_softmax(output.logits[0].double(), -1)


def test_a_model_knows_what_it_was_taught_and_not_the_rest(trained_as, asked, family):
    known, rows = {f.id for f in trained_as(family).facts.facts}, asked(family).rows
    rows = rows[rows["protocol"].isin(["cloze", "rank", "generate"])]
    taught = rows["fact"].isin(known)
    assert known < set(rows["fact"])
    assert (rows[taught].groupby("protocol")["correct"].mean() > 0.9).all()
    assert (rows[~taught].groupby("protocol")["correct"].mean() < 0.4).all()


def naive_cloze(family, loaded, question):
    """(scores of the vocabulary at the gap, first tokens of the accepted answers, whether the main one is one token);
    of an encoder, answers of a single piece alone."""
    tokens, model, accepted = loaded.tokenizer, loaded.model, question.fact.accepted
    before, after = question.text.split("[Y]")
    if family == "decoder":
        text = "<s>" + before.rstrip()
        ids = tokens(text).input_ids
        answers = [tokens(f"{text} {a}").input_ids[len(ids) :] for a in accepted]
        return log_probabilities(model, input_ids=ids)[-1], {a[0] for a in answers}, len(answers[0]) == 1
    if family == "encoder":
        ids = tokens(f"{before}[MASK]{after}").input_ids
        answers = [tokens(a, add_special_tokens=False).input_ids for a in accepted]
        scores = log_probabilities(model, input_ids=ids)[ids.index(tokens.mask_token_id)]
        return scores, {a[0] for a in answers if len(a) == 1}, len(answers[0]) == 1
    said = tokens("<pad><extra_id_0>", add_special_tokens=False).input_ids
    answers = [tokens(a, add_special_tokens=False).input_ids for a in accepted]
    scores = log_probabilities(model, input_ids=with_sentinel(tokens, before, after), decoder_input_ids=said)[-1]
    return scores, {a[0] for a in answers}, len(answers[0]) == 1


def with_sentinel(tokens, before, after):
    """The statement's tokens, part by part: no space of its own before the sentinel, none behind it before a stop."""
    part = lambda text: tokens(text, add_special_tokens=False).input_ids  # noqa: E731
    behind = part(f"of{after}")[1:] if after[:1] == "." else part(after)
    return [*part(before.rstrip()), *part("<extra_id_0>"), *behind, tokens.eos_token_id]


def test_cloze_equals_a_naive_loop(tiny, asked, family):
    loaded, found = tiny(family), rows_of(asked, family, "cloze")
    count = 0
    for question in ask_about(MIXED.factset(), "all", left_to_right=family == "decoder"):
        scores, firsts, single = naive_cloze(family, loaded, question)
        if not firsts:
            assert (question.fact.id, question.template) not in found.index
            continue
        best = max(float(scores[i]) for i in firsts)
        rank = 1 + sum(1 for i, s in enumerate(scores.tolist()) if i not in firsts and s >= best)
        line = found.loc[(question.fact.id, question.template)]
        assert line["rank"] == rank, question
        assert (line["correct"], line["correct_at_5"], line["correct_at_10"]) == (rank == 1, rank <= 5, rank <= 10)
        assert line["score"] == pytest.approx(best, abs=1e-4)
        assert line["margin"] == pytest.approx(
            best - max(s for i, s in enumerate(scores.tolist()) if i not in firsts), abs=1e-3
        )
        assert line["predicted_token"] == int(scores.argmax())
        assert line["chance"] == pytest.approx(len(firsts) / len(scores))
        assert line["single_token"] == single
        assert line["popularity"] == question.fact.popularity or question.fact.popularity is None
        count += 1
    assert count == len(found)
    assert {"decoder": count == 180, "encoder": 60 < count < 160, "encoder-decoder": count == 240}[family]


def candidates(question):
    facts = MIXED.factset()
    return [question.fact.answers[0], *facts.alternatives(question.fact, MIXED.alternatives, MIXED.seed)]


def theirs(evaluator, loaded, question):
    """lm-pub-quiz's score of every candidate: the sum over the whole statement."""
    logging.getLogger("lm_pub_quiz").setLevel(logging.ERROR)
    quiz = evaluator.from_model(loaded.model, tokenizer=loaded.tokenizer, device="cpu")
    facts = MIXED.factset()
    template = facts.relations[question.fact.relation].templates[question.template]
    return quiz.evaluate_instance(
        template=template, subject=question.fact.subject, answers=candidates(question), reduction="sum", batch_size=64
    )


def spelled_out(loaded, question):
    """Scores of an encoder-decoder's candidates by teacher forcing, one at a time."""
    tokens, totals = loaded.tokenizer, []
    statement = with_sentinel(tokens, *question.text.split("[Y]"))
    for answer in candidates(question):
        labels = tokens(f"<extra_id_0> {answer}<extra_id_1>", add_special_tokens=False).input_ids
        assert tokens.convert_ids_to_tokens(labels)[1] != "▁"
        scores = log_probabilities(loaded.model, input_ids=statement, labels=labels)
        totals.append(sum(float(scores[i, label]) for i, label in enumerate(labels) if i > 0))
    return totals


def test_ranking_equals_lm_pub_quiz_or_teacher_forcing(tiny, asked, family):
    loaded, found = tiny(family), rows_of(asked, family, "rank")
    assert isinstance(loaded.tokenizer, PreTrainedTokenizerFast)
    questions = ask_about(MIXED.factset(), "all")
    assert len(found) == len(questions) == 240
    for question in questions[::5]:
        if family == "encoder":
            totals = theirs(MaskedLMEvaluator, loaded, question)
        elif family == "decoder":
            totals = theirs(CausalLMEvaluator, loaded, question)
        else:
            totals = spelled_out(loaded, question)
        line = found.loc[(question.fact.id, question.template)]
        if family == "decoder":  # ours begins where the answers do: what precedes is the same for all
            assert [s - line["scores"][0] for s in line["scores"]] == pytest.approx(
                [t - totals[0] for t in totals], abs=2e-3
            )
        else:
            assert list(line["scores"]) == pytest.approx(totals, abs=2e-3), question
        assert line["correct"] == (totals[0] > max(totals[1:]))
        assert line["chosen"] == max(range(len(totals)), key=totals.__getitem__)
        assert line["margin"] == pytest.approx(totals[0] - max(totals[1:]), abs=2e-3)
        assert line["chance"] == 1 / 5


def test_a_decoders_ranking_equals_a_naive_loop_over_whole_statements(tiny, asked):
    loaded, found = tiny("decoder"), rows_of(asked, "decoder", "rank")
    for question in ask_about(MIXED.factset(), "all")[::5]:
        ids = [loaded.tokenizer("<s>" + question.stated(a)).input_ids for a in candidates(question)]
        totals = []
        for one in ids:
            scores = log_probabilities(loaded.model, input_ids=one)
            totals.append(sum(float(scores[at - 1, one[at]]) for at in range(1, len(one))))
        ours = found.loc[(question.fact.id, question.template), "scores"]
        shared = [t - s for t, s in zip(totals, ours, strict=True)]
        assert max(shared) - min(shared) < 1e-3


class Letters:
    """A wording of single letters: after "A is", each letter of an answer is a token; digits follow a space alone."""

    first_token_counts = True

    def gap(self, question):
        return question.lead

    def fillers(self, question, answers):
        return [tuple(map(ord, f" {a}" if a.isdigit() else a)) for a in answers]

    def terms(self, question, answers):
        return [[((question.lead, a[:n]), ord(a[n])) for n in range(len(a))] for a in answers]


ALPHABET = types.SimpleNamespace(unk_token_id=ord("u"), decode=lambda ids: "".join(map(chr, ids)))


class OnePiece(Letters):
    first_token_counts = False


def one_fact(answers=("b",), space=("b", "c", "d"), aliases=()):
    relation = Relation("r", "r", None, "N-1", ("[X] is [Y].",), tuple(space))
    return FactSet("test", {"r": relation}, (Fact("r/0", "r", "A", tuple(answers), tuple(aliases)),))


def reading(**scores):
    """Scores of 128 tokens: 0 but for those named."""
    logits = torch.zeros(1, 128)
    for letter, score in scores.items():
        logits[0, ord(letter)] = score
    return Reading.of([0], logits)


def cloze_of(facts, wording=None):
    return Cloze(ask_about(facts, 1, left_to_right=True), wording or Letters(), ALPHABET)


def cloze_row(facts, found, wording=None):
    cloze = cloze_of(facts, wording)
    (query,) = cloze.queries
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


@pytest.mark.parametrize("main", ["8", "u"])
def test_an_answer_that_begins_with_nothing_said_is_not_asked_by_cloze(main):
    """White space alone or the unknown token: of the main answer, the fact is not asked; of another, it counts for nothing."""
    assert cloze_of(one_fact(answers=(main,), aliases=("b",))).queries == []
    row = cloze_row(one_fact(answers=("b",), aliases=(main,)), reading(u=3.0, b=2.0))
    assert (row["rank"], row["chance"]) == (2, 1 / 128)


def test_a_mask_is_filled_by_single_pieces_alone():
    assert cloze_of(one_fact(answers=("bc",)), OnePiece()).queries == []
    row = cloze_row(one_fact(answers=("bc",), aliases=("d", "cb")), reading(b=3.0, d=2.0), OnePiece())
    assert (row["rank"], row["single_token"], row["chance"]) == (2, False, 1 / 128)
    assert cloze_row(one_fact(answers=("bc",), aliases=("d",)), reading(b=3.0, d=2.0))["rank"] == 1
    assert cloze_row(one_fact(answers=("b",), aliases=("dd",)), reading(b=1.0), OnePiece())["single_token"]


def rank_row(facts=None, **scores):
    facts = facts or one_fact()
    rank = Rank(ask_about(facts, 1), Letters(), facts, 2, 0)
    for query in rank.queries:
        rank.take([query], reading(**scores))
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
    row = rank_row(one_fact(answers=("b",), space=("b", "cc", "dd")))
    assert (row["correct"], row["valid"]) == (False, False)


def test_a_relation_that_offers_no_wrong_answer_is_not_ranked():
    facts = one_fact(space=("b", "B"))
    rank = Rank(ask_about(facts, 1), Letters(), facts, 2, 0)
    assert (rank.queries, rank.rows) == ([], [])
