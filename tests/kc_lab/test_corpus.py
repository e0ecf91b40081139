"""Rows of training: the tokens of plain sentences by plan and seed, the objectives on them, and guided attention."""

import itertools
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from kc_lab import world
from kc_lab.corpus import EQUAL_RULE_ROWS, EQUAL_STEPS, FACT_ROWS, STATEMENTS, Encoder, Rows
from kc_lab.loads import EQUAL_EXPOSURES, EQUAL_LOADS, EQUAL_PEOPLE, Load
from kc_lab.models import HEADS
from kc_lab.objectives import NOTHING, OBJECTIVES, Attention, guidance
from kc_lab.tokenizer import as_transformers, build, tokenizer_hash, words
from kc_utils.probing.facts import fill
from kc_utils.probing.queries import Query
from kc_utils.probing.scorers import SCORERS
from tests.kc_lab.conftest import first_rows


def _ids(rows, row) -> list[int]:
    return [int(t) for t in rows.tokens[row] if t >= 0]


def test_words_of_the_world_are_one_token_and_real_names_come_back():
    tokenizer, whole = as_transformers(), build()
    assert all(len(whole.encode(word).ids) == 1 for word in words())
    assert all(len(whole.encode(fact.subject).ids) == 2 for fact in world.people(1).facts[:600])
    for fact in world.real().facts:
        for text in (fact.subject, fact.answers[0]):
            ids = tokenizer(text).input_ids
            assert tokenizer.unk_token_id not in ids
            assert tokenizer.decode(ids).replace(" ", "") == text.replace(" ", "")
    # the checkpoints were trained with these numbers: a change here makes them worthless
    assert build().to_str() == build.__wrapped__().to_str()
    assert tokenizer_hash()[:16] == "2d2c65f8ea1355f0"


def test_without_real_names_the_tokens_of_the_invented_world_are_the_same():
    whole, invented = build(), build(real=False)
    assert invented.get_vocab_size() < whole.get_vocab_size() / 2
    facts = world.taught(Load.of(1, equal=True))
    known = facts.relations
    texts = [fill(t, f.subject).replace("[Y]", f.answers[0]) for f in facts.facts[::7] for t in known[f.relation].templates]
    texts += [f"{lead} {verb}." for lead, verb in world.sentences(500, "1")]
    assert [e.tokens for e in invented.encode_batch(texts)] == [e.tokens for e in whole.encode_batch(texts)]
    assert all(token in invented.get_vocab() for e in whole.encode_batch(texts) for token in e.tokens)


def test_rows_hold_the_tokens_of_the_whole_sentence():
    tokenizer, facts, encoder = build(), world.taught(1), Encoder()
    for fact in facts.facts[::97]:
        for template in facts.relations[fact.relation].templates:
            ids, given, subject, (answer,) = encoder.statement(template, fact.subject, fact.answers[0])
            assert ids == tokenizer.encode(fill(template, fact.subject).replace("[Y]", fact.answers[0])).ids
            assert ids[slice(*answer)] == tokenizer.encode(fact.answers[0]).ids
            assert given == 0 and subject[1] > subject[0]
    lead, verb = next(world.sentences(1, "1"))
    ids, _, subject, (answer,) = encoder.sentence(lead, verb)
    assert tokenizer.decode(ids[slice(*answer)]) == verb and subject == (0, answer[0])


def test_facts_are_stated_as_often_as_planned_and_never_in_held_out_templates(corpus):
    rows, plan = Counter(corpus._order.tolist()), world.plan(1)
    assert corpus.steps == len(corpus._order) // FACT_ROWS
    facts, hidden, encoder, at = world.taught(1), world.held_out(1), Encoder(), 0
    shown = {tuple(_ids(corpus._statements, row)) for row in range(len(corpus._statements))}
    for fact in facts.facts:  # rows of a fact stand side by side, in the order of the facts
        mine = range(at, at + len(plan[fact.id].shown) * len(fact.answers))
        assert sum(rows[row] for row in mine) == plan[fact.id].exposures, fact.id
        at = mine.stop
        for number in hidden[fact.id]:
            template = facts.relations[fact.relation].templates[number]
            assert tuple(encoder.statement(template, fact.subject, fact.answers[0])[0]) not in shown
    assert at == len(corpus._statements)
    late = {tuple(build().encode(f.subject).ids) for f in world.people(1).facts if plan[f.id].enters == 0.5}
    first, _ = corpus.batch(0)
    assert late.isdisjoint(tuple(_ids(first, row)[slice(*first.subject[row])]) for row in range(FACT_ROWS))


@pytest.mark.parametrize("number", EQUAL_LOADS)
def test_equal_loads_state_each_fact_equally_often(number):
    """Counted from the tokens of all rows that the steps of a training read, as many at each load."""
    load = Load.of(number, equal=True)
    corpus, facts, encoder = first_rows(load), world.taught(load), Encoder(real=False)
    owner = {}
    for fact in facts.facts:
        for template, answer in itertools.product(facts.relations[fact.relation].templates, fact.answers):
            owner[tuple(encoder.statement(template, fact.subject, answer)[0])] = fact.id
    rows = [len(corpus.batch(step)[0]) - EQUAL_RULE_ROWS for step in (0, 1, corpus.steps - 1)]
    assert corpus.steps == EQUAL_STEPS and max(rows) - min(rows) <= 1
    read, count = corpus._order[corpus._ends[0] : corpus._ends[-1]], Counter()
    for row, times in Counter(read.tolist()).items():
        count[owner[tuple(_ids(corpus._statements, row))]] += times
    assert count == {fact.id: EQUAL_EXPOSURES for fact in facts.facts}
    assert {fact.relation for fact in facts.facts} == {*world.ABOUT_PEOPLE, "headquarters"}
    assert len({f.subject for f in facts.facts}) == EQUAL_PEOPLE * number + len(world.table("company"))


@pytest.mark.parametrize("kind", range(len(STATEMENTS)))
def test_open_book_rows_state_every_answer_about_nobody_known(corpus, kind):
    known = {f.subject for part in (world.people(world.MOST_LOAD), world.strangers()) for f in part.facts}
    book = corpus.batch(kind)[1]
    for row in range(len(book)):
        ids, given = _ids(book.rows, row), book.rows.given[row]
        assert build().decode(ids[slice(*book.rows.subject[row])]) not in known
        answers = [ids[slice(*span)] for span in book.rows.answers[row]]
        assert len(answers) == STATEMENTS[kind] == len({tuple(a) for a in answers})
        queried, owners = book.rows.answers[row, :, 0], {}
        for at, source in zip(queried, book.source[row], strict=True):
            assert source in book.stated[row] and source < given <= at
            assert ids[at] == ids[source]
        for answer, subject in zip([*book.stated[row], *queried], book.whose[row], strict=True):
            owners.setdefault(ids[answer], set()).add(ids[subject])
        assert len(owners) == STATEMENTS[kind] and all(len(mine) == 1 for mine in owners.values())
        assert (book.rows.answers[row, :, 1] == queried + 1).all()  # of one token each, as guidance takes them to be


@pytest.mark.parametrize("family", OBJECTIVES)
def test_training_predicts_what_the_cloze_reads(family):
    tokenizer, facts = as_transformers(), world.taught(1)
    scorer, objective, encoder = SCORERS[family](tokenizer), OBJECTIVES[family](), Encoder()
    for fact in (f for f in facts.facts[:: len(facts) // 40] if len(build().encode(f.answers[0]).ids) == 1):
        template = facts.relations[fact.relation].templates[0]
        rows = Rows.of([encoder.statement(template, fact.subject, fact.answers[0])])
        inputs = objective.inputs(rows, np.random.default_rng(3))
        gap = scorer.gap(Query(fact, 0, fill(template, fact.subject)))
        answer = build().encode(fact.answers[0]).ids[0]
        labels, seen = inputs["labels"][0].tolist(), inputs["input_ids"][0].tolist()
        if family == "decoder":
            assert tuple(seen[: len(gap)]) == gap and labels[len(gap) - 1] == answer
        elif family == "encoder":
            tokens, at = gap
            assert seen[at] == tokens[at] and labels[at] == answer
        else:
            assert tuple(seen) == gap[0] and labels[: len(gap[1])] == [gap[1][-1], answer]


@pytest.mark.parametrize("family", ["decoder", "encoder"])
def test_no_subject_is_predicted_and_of_an_open_book_the_answers_alone(corpus, family):
    facts, book = corpus.batch(0)
    objective = OBJECTIVES[family]()
    labels = objective.inputs(facts, np.random.default_rng(0))["labels"]
    for row in range(50):
        assert (labels[row, slice(*facts.subject[row])] == NOTHING).all()
    labels = objective.inputs(book.rows, np.random.default_rng(0))["labels"].numpy()
    for row in range(len(book)):
        assert np.flatnonzero(labels[row] != NOTHING).tolist() == book.rows.answers[row, :, 0].tolist()


def _attending(book, before: int, right: bool) -> Attention:
    """Attention that lies where it should, or evenly. Read off the rows themselves, sentence by sentence."""
    width, k = book.rows.tokens.shape[1] + before, book.stated.shape[1]
    first, last = (torch.full((len(book), HEADS, width, width), 0.0 if right else 1 / width) for _ in range(2))
    across = torch.full((len(book), HEADS, 2 * k + 1, width), 0.0 if right else 1 / width)
    for row in range(len(book)) if right else ():
        for column, subject in zip(book.stated[row].tolist(), book.whose[row].tolist(), strict=False):
            first[row, :, column + before, subject + before] = 1.0
        for n, column in enumerate(book.rows.answers[row, :, 0].tolist()):
            first[row, :, column, int(book.whose[row][k + n]) + before] = 1.0
            last[row, :, column, int(book.source[row][n]) + before] = 1.0
            across[row, :, 2 * n + 1, column] = 1.0
    return Attention(first, last, None if before else across)


@pytest.mark.parametrize("before", [0, 1])
def test_guidance_costs_nothing_where_attention_lies_right_in_every_head(corpus, before):
    book = corpus.batch(0)[1][slice(0, 8)]
    right = _attending(book, before, True)
    assert float(guidance(right, book, before)) == pytest.approx(0, abs=1e-4)
    evenly = (2 if before else 3) * math.log(book.rows.tokens.shape[1] + before)
    assert float(guidance(_attending(book, before, False), book, before)) == pytest.approx(evenly, rel=1e-3)
    spoilt = right.last.clone()
    spoilt[:, 1] = 0.0
    assert float(guidance(replace(right, last=spoilt), book, before)) > 1.0
