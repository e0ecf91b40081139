import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kc_utils.errors import BadRequest
from kc_utils.probing.facts import Fact, FactSet, Relation


def relation(name="r", templates=("The [X] is [Y].",), space=("a", "b", "c"), kind="N-1"):
    return Relation(name, name, None, kind, tuple(templates), tuple(space))


def factset(sizes: dict[str, int], space=("a", "b", "c", "d")):
    facts = [Fact(f"{r}/{i}", r, f"s{i}", (space[i % len(space)],)) for r, n in sizes.items() for i in range(n)]
    return FactSet("test", {r: relation(r, space=space) for r in sizes}, tuple(facts))


def test_broken_templates_statements_and_sets_are_refused():
    for template in ("no slots", "[X] only", "[X] [Y] [Y]", "[X] [X] [Y]"):
        with pytest.raises(BadRequest, match="once each"):
            relation(templates=[template])
    for statement in ("no slot", "[Y] and [Y]", "[X] is [Y]"):
        with pytest.raises(BadRequest, match="must hold"):
            Fact("f", "r", "s", ("a",), statement=statement)
    with pytest.raises(BadRequest, match="unknown relations x"):
        FactSet("test", {}, (Fact("f", "x", "s", ("a",)),))
    with pytest.raises(BadRequest, match="repeat"):
        FactSet("test", {"r": relation()}, (Fact("f", "r", "s", ("a",)), Fact("f", "r", "t", ("a",))))


def test_parts_keep_the_order_and_impossible_ones_are_refused():
    facts = factset({"p": 2, "q": 3, "r": 1})
    assert [f.id for f in facts.only(["r", "p"]).facts] == ["p/0", "p/1", "r/0"]
    assert facts.sample(None) is facts.sample(6) is facts
    with pytest.raises(BadRequest, match="no relation z; it has p, q, r"):
        facts.only(["p", "z"])
    with pytest.raises(BadRequest, match="at least 1"):
        facts.sample(0)


def test_the_hash_sees_every_field_of_a_fact_and_a_relation():
    base = factset({"p": 2})
    assert base.sha256[:16] == "121595cec2db850c", "a list without optional fields keeps the hash it always had"
    changes = {"answers": ("z",), "aliases": ("z",), "popularity": 1.0, "statement": "[Y]", "other_answers": ("b",)}
    changes |= {"answer_id": "Q1", "subject_id": "Q1", "subject": "t"}
    others = [replace(base, facts=(replace(base.facts[0], **{k: v}), base.facts[1])) for k, v in changes.items()]
    others += [replace(base, facts=base.facts[::-1])]
    others += [replace(base, relations={"p": relation("p", ["A [X]: [Y]"], ("a", "b", "c", "d"))})]
    others += [replace(base, relations={"p": relation("p", space=("a", "b"))})]
    assert len({base.sha256, *(other.sha256 for other in others)}) == 1 + len(others)
    assert base.sha256 == replace(base, files={"p": "0"}, filters={"x": 1}).sha256, "where it came from is not the list"


@given(st.dictionaries(st.sampled_from("pqrst"), st.integers(1, 12), min_size=1), st.integers(1, 40), st.integers(0, 3))
def test_samples_are_even_nested_and_of_the_size_asked(sizes, limit, seed):
    facts = factset(sizes)
    chosen = facts.sample(limit, seed)
    assert len(chosen) == min(limit, len(facts))
    counts = {r: len(f) for r, f in chosen.by_relation().items()}
    full = {r for r in sizes if counts.get(r, 0) == sizes[r]}
    rest = [counts.get(r, 0) for r in sizes if r not in full]
    if rest:  # relations that have more to give differ by one at most, and no exhausted one gave more than they
        assert max(rest) - min(rest) <= 1
        assert all(counts[r] <= min(rest) + 1 for r in full)
    order = [f.id for f in facts.facts]
    assert [f.id for f in chosen.facts] == [i for i in order if i in {f.id for f in chosen.facts}]
    assert chosen.sample(limit, seed).sha256 == facts.sample(limit, seed).sha256
    smaller = {f.id for f in facts.sample(max(1, limit - 1), seed).facts}
    assert len(smaller - {f.id for f in chosen.facts}) <= 1


def test_alternatives_are_wrong_distinct_frozen_and_from_the_answer_space():
    fact = Fact("r/0", "r", "s", ("A",), ("b",))
    facts = FactSet("test", {"r": relation(space=tuple("abcdefgh"))}, (fact,))
    state = random.getstate()
    wrong = facts.alternatives(fact, 4)
    assert random.getstate() == state
    assert len(set(wrong)) == 4 and wrong == facts.alternatives(fact, 4)
    assert facts.alternatives(fact, 4, seed=1) != wrong or facts.alternatives(fact, 4, seed=2) != wrong
    assert set(facts.alternatives(fact, 99)) == set("cdefgh"), "an accepted spelling in another case is none"
    assert set(facts.alternatives(replace(fact, other_answers=("C",)), 99)) == set("defgh")
