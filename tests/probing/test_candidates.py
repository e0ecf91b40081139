"""Balanced sets of candidates, the wrong-subject control, and that neither touches what is recorded."""

import hashlib
import json
from itertools import combinations
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kc_utils.places import reference_dir
from kc_utils.probing import evaluate as evaluate_module
from kc_utils.probing.evaluate import evaluate
from kc_utils.probing.facts import Fact, FactSet, Relation
from kc_utils.probing.logits import Logits
from kc_utils.probing.probe import Probe
from kc_utils.probing.protocols import Rank
from kc_utils.probing.queries import DRAW, about_others, open_book, queries_of
from kc_utils.stats.items import aligned
from kc_utils.study import record
from kc_utils.study.rows import short_hash

ANSWERS = "abcdefgh"


def factset(answers, others=()):
    """Facts of two relations in turn; answers: of each fact; others: to another fact with its subject."""
    relations = {r: Relation(r, r, None, "N-M", ("[X] is [Y].", "[Y] is [X]"), tuple(ANSWERS)) for r in "pq"}
    pairs = enumerate(zip(answers, [*others, *[()] * len(answers)], strict=False))
    facts = (Fact(f"{i}", "pq"[i % 2], f"S{i}", tuple(a), other_answers=tuple(o)) for i, (a, o) in pairs)
    return FactSet("test", relations, tuple(facts))


several = st.lists(st.sampled_from(ANSWERS), min_size=1, max_size=3, unique=True)
lists = st.builds(factset, st.lists(several, min_size=1, max_size=40), st.lists(several, max_size=20))
BY_HAND = SimpleNamespace(terms=lambda query, answers: [[((query.text, answer), 1)] for answer in answers])


def ranked(queries, facts, score):
    """Rows of a model that gives a score to (statement, answer)."""
    rank = Rank(queries, BY_HAND, facts, 2, 0)
    if rank.inputs:
        values = torch.tensor([score(*one) / 100 for one in rank.inputs])
        rank.take(rank.inputs, Logits.of(list(range(len(values))), torch.stack([-values, values, 0 * values - 99], 1)))
    return rank.rows


def go_together(a: Fact, b: Fact) -> bool:
    return a.relation == b.relation and a.answers[0] not in b.not_wrong and b.answers[0] not in a.not_wrong


@given(lists, st.integers(2, 6), st.integers(0, 5), st.permutations(ANSWERS))
def test_a_model_that_ignores_the_subject_has_one_fact_of_each_set_right(facts, size, seed, preference):
    drawn = facts.in_sets(size, seed)
    assert drawn.sets == facts.in_sets(size, seed).sets
    sets = {frozenset((*others, fact)) for fact in facts.facts if (others := drawn.sets.get(fact.id))}
    assert sum(map(len, sets)) == len(set().union(*sets)) == len(drawn.sets), "every fact at most once"
    assert all(2 <= len(one) <= size and all(go_together(*p) for p in combinations(one, 2)) for one in sets)
    left_out = combinations([fact for fact in facts.facts if fact.id not in drawn.sets], 2)
    assert not any(go_together(*pair) for pair in left_out), "no more than has to be is left out"
    rows = ranked(queries_of(drawn, 1), drawn, lambda _, answer: preference.index(answer))
    right = {row["fact"]: row["correct"] for row in rows}
    assert set(right) == set(drawn.sets) and all(sum(right[fact.id] for fact in one) == 1 for one in sets)
    assert all(row["chance"] == 1 / (1 + len(drawn.sets[row["fact"]])) for row in rows)
    for twin in open_book(queries_of(drawn, 1), drawn, drawn, 2, 0):  # beside it stands another fact of its set
        stated = [f"{o.answers[0].upper()} is {o.subject}." in twin.before for o in drawn.sets.get(twin.fact.id, ())]
        assert sum(stated) == bool(stated)


@given(lists, st.booleans())
def test_the_control_states_other_subjects_for_which_no_candidate_is_right(facts, in_sets):
    facts = facts.in_sets(3) if in_sets else facts
    by_subject = {fact.subject: fact for fact in facts.facts}
    for query in about_others(queries_of(facts, "all"), facts, facts, 2, 0):
        other = by_subject[query.text.replace("[Y]", "").replace("is", "").strip(" .")]
        assert other != query.fact and other.relation == query.fact.relation
        assert other.not_wrong.isdisjoint({*query.fact.accepted, *facts.alternatives(query.fact, 2)})
        assert query.template in (0, 1, DRAW, DRAW + 1) and query.text.startswith("[Y]") == query.template % DRAW


def test_a_model_that_knows_all_is_right_about_others_where_it_prefers_the_answer():
    facts = factset([[answer] for answer in ANSWERS for _ in range(4)])
    right = {fact.subject: fact.answers[0] for fact in facts.facts}
    score = lambda text, answer: 9 * (right[text.split()[0]] == answer) + ANSWERS.index(answer) / 10  # noqa: E731
    assert all(row["correct"] for row in ranked(queries_of(facts, 1), facts, score))
    rows = ranked(about_others(queries_of(facts, 1), facts, facts, 2, 0), facts, score)
    best = {f.id: f.answers[0] > max(facts.alternatives(f, 2)) for f in facts.facts}
    assert [row["correct"] for row in rows] == [best[row["fact"]] for row in rows]
    assert len(rows) == 2 * len(facts) and {row["template"] for row in rows} == {0, DRAW}


def test_rows_of_sets_and_of_the_control(tiny, monkeypatch):
    def rows_with(candidates):
        fields = {"protocols": ("openbook-cloze", "rank", "rank-other"), "alternatives": 3, "candidates": candidates}
        model, tokenizer = tiny("decoder").model, tiny("decoder").tokenizer
        rows = evaluate(model, tokenizer, "decoder", Probe(relations=("capital",), limit=40, **fields)).rows
        return rows.set_index(["protocol", "fact", "template"])

    drawn, sets = rows_with("drawn"), rows_with("sets")
    pd.testing.assert_frame_equal(drawn.loc["openbook-cloze"], sets.loc["openbook-cloze"])
    assert drawn.index.equals(sets.index) and not drawn["score"].equals(sets["score"])
    assert aligned(sets.loc[["rank-other"]].reset_index().assign(recipe="none")).right.shape == (1, 80)
    assert sets.loc["rank", "correct"].mean() > 0.6 > 0.4 > sets.loc["rank-other", "correct"].mean()
    monkeypatch.setattr(evaluate_module, "FACTS_AT_A_TIME", 7)
    assert rows_with("sets")["margin"].to_list() == pytest.approx(sets["margin"].to_list(), abs=1e-3, nan_ok=True)


def test_what_is_recorded_keeps_its_probe_and_its_keys():
    for facts, limit, known in (("bear", 600, "ed54d262"), ("lama:google_re", 420, "d98d5e80")):
        assert short_hash(Probe(facts=facts, limit=limit, alternatives=4).model_dump(mode="json")) == known
    assert Probe(candidates="sets").model_dump()["candidates"] == "sets"
    for nothing_to_rank in ({"protocols": ("cloze",)}, {"alternatives": "all"}, {"facts": None, "text": "wikitext2"}):
        assert "candidates" not in Probe(candidates="sets", **nothing_to_rank).model_dump()
    index = reference_dir() / "benchmarks" / record.INDEX
    for entry in record.read_listing(index)[::9]:
        file = record.opened(index.parent / entry["file"], entry["sha256"])
        recipe, key = next(iter(entry["cells"].items()))
        depends = file.depends_on(recipe) | {"probe": file.probe.model_dump(mode="json")}
        assert hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()[:24] == key
