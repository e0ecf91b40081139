"""Rows of training: the tokens of plain sentences, by plan and seed."""

from collections import Counter

import numpy as np
import pytest

from kc_lab import names, rule, world
from kc_lab.cards import tokenizer_hash
from kc_lab.corpus import FACT_ROWS, OPEN_BOOK_ROWS, RULE_ROWS, TOLD, Corpus, Encoder, Rows
from kc_lab.objectives import NOTHING, OBJECTIVES
from kc_lab.tokenizer import as_transformers, build, words
from kc_utils.probing.facts import fill
from kc_utils.probing.queries import Query
from kc_utils.probing.scorers import CausalScorer, MaskedScorer, Seq2SeqScorer


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return Corpus(1, 1)


def _ids(rows, row) -> list[int]:
    return [int(t) for t in rows.tokens[row] if t >= 0]


def _rows(corpus, step) -> tuple[Rows, Rows]:
    facts, book = corpus.batch(step)
    return facts, book.rows


def test_every_word_of_the_world_is_one_token():
    tokenizer = build()
    assert all(len(tokenizer.encode(word).ids) == 1 for word in words())
    people = world.people(1)
    for fact in people.facts[:600]:
        assert len(tokenizer.encode(fact.subject).ids) == 2
        assert all(len(tokenizer.encode(answer).ids) == 1 for answer in fact.answers)


def test_real_names_are_read_without_unknown_tokens_and_come_back():
    tokenizer = as_transformers()
    for fact in world.real().facts:
        for text in (fact.subject, fact.answers[0]):
            ids = tokenizer(text).input_ids
            assert tokenizer.unk_token_id not in ids
            assert tokenizer.decode(ids).replace(" ", "") == text.replace(" ", "")


def test_the_tokenizer_is_the_same_in_every_process():
    """Its numbers are those that the checkpoints were trained with: a change here makes them worthless."""
    assert build().to_str() == build.__wrapped__().to_str()
    assert tokenizer_hash()[:16] == TOKENIZER


TOKENIZER = "2d2c65f8ea1355f0"


def test_rows_hold_the_tokens_of_the_whole_sentence(corpus):
    tokenizer, facts = build(), world.taught(1)
    encoder = Encoder()
    for fact in facts.facts[::97]:
        for number, template in enumerate(facts.relations[fact.relation].templates):
            ids, said, subject, (answer,) = encoder.statement(template, fact.subject, fact.answers[0])
            question = Query(fact, number, fill(template, fact.subject))
            assert ids == tokenizer.encode(question.stated(fact.answers[0])).ids
            assert said == 0
            assert ids[answer[0] : answer[1]] == tokenizer.encode(fact.answers[0]).ids
            assert len(ids[subject[0] : subject[1]]) >= 1


def test_facts_are_told_as_often_as_planned(corpus):
    rows, plan = Counter(corpus._order.tolist()), world.plan(1)
    assert corpus.steps == len(corpus._order) // FACT_ROWS
    at = 0
    for fact in world.taught(1).facts:  # rows of a fact stand side by side, in the order of the facts
        mine = range(at, at + len(plan[fact.id].shown) * len(fact.answers))
        assert sum(rows[row] for row in mine) == plan[fact.id].exposures, fact.id
        at = mine.stop
    assert at == len(corpus._statements)


def test_held_out_wordings_never_appear(corpus):
    shown = {tuple(_ids(corpus._statements, row)) for row in range(len(corpus._statements))}
    facts, hidden, encoder = world.taught(1), world.held_out(1), Encoder()
    kept_back = 0
    for fact in facts.facts:
        for number in hidden[fact.id]:
            template = facts.relations[fact.relation].templates[number]
            for answer in fact.answers:
                kept_back += 1
                assert tuple(encoder.statement(template, fact.subject, answer)[0]) not in shown
    assert kept_back > 1000


def test_late_people_are_told_of_late(corpus):
    late = {f.subject for f in world.people(1).facts if world.plan(1)[f.id].enters == 0.5}
    tokenizer = build()
    firsts = {tuple(tokenizer.encode(name).ids) for name in late}
    early, _ = corpus.batch(0)
    told = {tuple(_ids(early, row)[slice(*early.subject[row])]) for row in range(FACT_ROWS)}
    assert told and not told & firsts


def test_a_batch_depends_on_seed_and_step_alone(corpus):
    for one, other in zip(_rows(corpus, 3), _rows(Corpus(1, 1), 3), strict=True):
        assert np.array_equal(one.tokens, other.tokens) and np.array_equal(one.answers, other.answers)
    assert not np.array_equal(corpus.batch(3)[1].rows.tokens, corpus.batch(4)[1].rows.tokens)
    assert len(corpus.batch(0)[0]) == FACT_ROWS + RULE_ROWS and len(corpus.batch(0)[1]) == OPEN_BOOK_ROWS


@pytest.mark.parametrize("kind", range(len(TOLD)))
def test_open_book_rows_state_every_answer_about_nobody_known(corpus, kind):
    tokenizer = build()
    known = {f.subject for part in (world.people(world.MOST_LOAD), world.strangers()) for f in part.facts}
    known |= set(names.table("company"))
    told = corpus.batch(kind)[1].rows
    for row in range(len(told)):
        ids = _ids(told, row)
        before, asked = ids[: told.said[row]], ids[told.said[row] :]
        answers = [ids[slice(*span)] for span in told.answers[row]]
        assert len(answers) == TOLD[kind] == len({tuple(a) for a in answers})
        assert all(a[0] in before for a in answers)
        assert before != asked
        subject = tokenizer.decode(ids[slice(*told.subject[row])])
        assert subject not in known or subject in names.table("company")


def test_rule_rows_are_told_from_training_pairs(corpus):
    lead, verb = next(rule.sentences(1, "1"))
    ids, said, subject, (answer,) = Encoder().sentence(lead, verb)
    assert build().decode(ids[slice(*answer)]) == verb and said == 0 and subject == (0, answer[0])


@pytest.mark.parametrize("family", OBJECTIVES)
def test_what_a_family_is_taught_is_what_its_probe_asks(family, corpus):
    """The query that the probe reads an answer at has the answer as its label in training."""
    tokenizer, facts = as_transformers(), world.taught(1)
    view = {"decoder": CausalScorer, "encoder": MaskedScorer, "encoder-decoder": Seq2SeqScorer}[family](tokenizer)
    objective, encoder = OBJECTIVES[family](), Encoder()
    asked = [f for f in facts.facts[:: len(facts) // 40] if len(build().encode(f.answers[0]).ids) == 1]
    assert len(asked) > 20
    for fact in asked:
        template = facts.relations[fact.relation].templates[0]
        rows = Rows.of([encoder.statement(template, fact.subject, fact.answers[0])])
        inputs = objective.inputs(rows, np.random.default_rng(3))
        question = Query(fact, 0, fill(template, fact.subject))
        query = view.gap(question)
        answer = build().encode(fact.answers[0]).ids[0]
        labels = inputs["labels"][0].tolist()
        seen = inputs["input_ids"][0].tolist()
        if family == "decoder":
            assert tuple(seen[: len(query)]) == query and labels[len(query) - 1] == answer
        elif family == "encoder":
            tokens, at = query
            assert seen[at] == tokens[at] and labels[at] == answer
        else:
            statement, said = query
            assert tuple(seen) == statement
            assert labels[: len(said)] == [said[-1], answer]


@pytest.mark.parametrize("kind", range(len(TOLD)))
def test_columns_of_an_open_book_belong_together(corpus, kind):
    book = corpus.batch(kind)[1]
    for row in range(len(book)):
        ids, said = _ids(book.rows, row), book.rows.said[row]
        asked = book.rows.answers[row, :, 0]
        for place, source in zip(asked, book.source[row], strict=True):
            assert source in book.stated[row] and source < said <= place
            assert ids[place] == ids[source]
        owners = {}
        for answer, subject in zip([*book.stated[row], *asked], book.whose[row], strict=True):
            assert 0 <= answer - subject < 12
            owners.setdefault(ids[answer], set()).add(ids[subject])
        assert len(owners) == TOLD[kind] and all(len(mine) == 1 for mine in owners.values())
        assert (book.rows.answers[row, :, 1] == asked + 1).all()  # of one token each, as guidance takes them to be


@pytest.mark.parametrize("family", ["decoder", "encoder"])
def test_no_subject_of_the_world_is_asked(corpus, family):
    facts, _ = _rows(corpus, 0)
    labels = OBJECTIVES[family]().inputs(facts, np.random.default_rng(0))["labels"]
    for row in range(50):
        start, end = facts.subject[row]
        assert (labels[row, start:end] == NOTHING).all()


@pytest.mark.parametrize("family", ["decoder", "encoder"])
def test_of_an_open_book_the_answers_are_asked_and_nothing_else(corpus, family):
    _, told = _rows(corpus, 0)
    labels = OBJECTIVES[family]().inputs(told, np.random.default_rng(0))["labels"].numpy()
    for row in range(len(told)):
        assert np.flatnonzero(labels[row] != NOTHING).tolist() == told.answers[row, :, 0].tolist()
