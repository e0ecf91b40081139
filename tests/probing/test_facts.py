import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kc_utils.errors import BadRequest
from kc_utils.probing.facts import Fact, FactSet, Relation, fill


def relation(name="r", templates=("The [X] is [Y].",), space=("a", "b", "c"), kind="N-1"):
    return Relation(name, name, None, kind, tuple(templates), tuple(space))


def factset(sizes: dict[str, int], space=("a", "b", "c", "d")):
    facts = [Fact(f"{r}/{i}", r, f"s{i}", (space[i % len(space)],)) for r, n in sizes.items() for i in range(n)]
    return FactSet("test", {r: relation(r, space=space) for r in sizes}, tuple(facts))


@pytest.mark.parametrize("template", ["no slots", "[X] only", "[X] [Y] [Y]", "[X] [X] [Y]"])
def test_a_template_needs_each_slot_once(template):
    with pytest.raises(BadRequest, match="once each"):
        relation(templates=[template])


@pytest.mark.parametrize("statement", ["no slot", "[Y] and [Y]", "[X] is [Y]"])
def test_a_statement_holds_the_answer_once_and_its_subject_in_words(statement):
    assert Fact("f", "r", "s", ("a",), statement="S is [Y].").statement == "S is [Y]."
    with pytest.raises(BadRequest, match="must hold"):
        Fact("f", "r", "s", ("a",), statement=statement)


def test_fill_takes_a_capital_at_the_start_alone():
    assert fill("[X] borders [Y].", "the Hague") == "The Hague borders [Y]."
    assert fill("In [X] one finds [Y].", "the Hague") == "In the Hague one finds [Y]."
    assert fill("[X] is [Y].", "éire") == "Éire is [Y]."


def test_broken_sets_are_refused():
    with pytest.raises(BadRequest, match="unknown relations x"):
        FactSet("test", {}, (Fact("f", "x", "s", ("a",)),))
    with pytest.raises(BadRequest, match="repeat"):
        FactSet("test", {"r": relation()}, (Fact("f", "r", "s", ("a",)), Fact("f", "r", "t", ("a",))))


def test_only_keeps_order_and_refuses_unknown_relations():
    facts = factset({"p": 2, "q": 3, "r": 1})
    assert [f.id for f in facts.only(["r", "p"]).facts] == ["p/0", "p/1", "r/0"]
    with pytest.raises(BadRequest, match="no relation z; it has p, q, r"):
        facts.only(["p", "z"])


def test_the_hash_sees_every_field_of_a_fact_and_a_relation():
    base = factset({"p": 2})
    other = {
        "answer": FactSet("test", base.relations, (Fact("p/0", "p", "s0", ("z",)), base.facts[1])),
        "alias": FactSet("test", base.relations, (Fact("p/0", "p", "s0", ("a",), ("z",)), base.facts[1])),
        "popularity": FactSet("test", base.relations, (Fact("p/0", "p", "s0", ("a",), (), 1.0), base.facts[1])),
        "statement": FactSet("test", base.relations, (replace(base.facts[0], statement="[Y]"), base.facts[1])),
        "other answers": FactSet("test", base.relations, (replace(base.facts[0], other_answers=("b",)), base.facts[1])),
        "wikidata": FactSet("test", base.relations, (replace(base.facts[0], answer_id="Q1"), base.facts[1])),
        "order": FactSet("test", base.relations, base.facts[::-1]),
        "template": FactSet("test", {"p": relation("p", ["A [X]: [Y]"], ("a", "b", "c", "d"))}, base.facts),
        "answer space": FactSet("test", {"p": relation("p", space=("a", "b"))}, base.facts),
    }
    hashes = {name: facts.sha256 for name, facts in other.items()}
    assert base.sha256 not in hashes.values()
    assert len(set(hashes.values())) == len(hashes)
    assert base.sha256 == factset({"p": 2}).sha256
    assert base.sha256 == replace(base, files={"p": "0"}, filters={"x": 1}).sha256, "where it came from is not the list"


def test_the_hash_of_a_list_without_optional_fields_is_the_one_it_always_had():
    assert factset({"p": 2}).sha256[:16] == "121595cec2db850c"


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


def test_a_sample_of_none_is_refused_and_of_all_is_the_set():
    facts = factset({"p": 3})
    assert facts.sample(None) is facts
    assert facts.sample(3) is facts
    with pytest.raises(BadRequest, match="at least 1"):
        facts.sample(0)


def test_alternatives_are_wrong_distinct_frozen_and_from_the_answer_space():
    space = tuple("abcdefgh")
    facts = FactSet("test", {"r": relation(space=space)}, (Fact("r/0", "r", "s", ("A",), ("b",)),))
    fact = facts.facts[0]
    state = random.getstate()
    wrong = facts.alternatives(fact, 4)
    assert random.getstate() == state
    assert len(set(wrong)) == 4
    assert set(wrong) <= set("cdefgh"), "an accepted spelling in another case must not be an alternative"
    assert wrong == facts.alternatives(fact, 4)
    assert facts.alternatives(fact, 4, seed=1) != wrong or facts.alternatives(fact, 4, seed=2) != wrong
    assert set(facts.alternatives(fact, 99)) == set("cdefgh")
    assert set(facts.alternatives(replace(fact, other_answers=("C",)), 99)) == set("defgh")
