"""The controlled world: drawn once, evenly, and stated as its plan says."""

import pytest

from kc_lab import world
from kc_utils.errors import BadRequest
from kc_utils.probing.probe import Probe
from kc_utils.probing.sources import load_source, missing

# a change here makes every checkpoint a model of another world: train them again, then change these lines
WORLDS = {1: "d8e3fa49ef278dc6", 2: "2b152af41bac548a", 4: "01ce56c267980bbe", 8: "7312d1f521bb64df"}
RULE = "92d5f390b5af7f82"


def test_the_world_is_the_one_that_the_checkpoints_were_trained_on():
    assert {load: world.world_hash(load)[:16] for load in WORLDS} == WORLDS
    assert world.unseen().sha256[:16] == RULE


def test_strangers_are_in_no_training():
    known, queried = ({f.subject for f in part.facts} for part in (world.people(world.MOST_LOAD), world.strangers()))
    shown = set(world.strangers_for_training())
    assert not known & queried and not known & shown and not queried & shown
    assert len(queried) == world.STRANGERS and len(shown) > 1000


def test_exposures_follow_the_law_and_do_not_depend_on_age():
    plan = world.plan(1)
    people = {f.subject: plan[f.id] for f in world.people(1).facts}
    assert all((plan[f.id].exposures, plan[f.id].enters) == (people[f.subject].exposures, people[f.subject].enters)
               for f in world.people(1).facts)  # fmt: skip
    ranked = sorted(people.values(), key=lambda p: -p.exposures)
    counts = [p.exposures for p in ranked]
    assert sum(counts) / len(counts) == pytest.approx(world.EXPOSURES, rel=0.01)
    for rank in (0, 9, 99):
        assert counts[rank] / counts[-1] == pytest.approx(((rank + 1) / len(counts)) ** -world.EXPONENT, rel=0.05)
    assert all(plan[f.id].exposures == f.popularity for f in world.taught(1).facts)
    for third in range(3):  # each third of the ranks enters at each of the three times equally often
        part = ranked[third * len(ranked) // 3 : (third + 1) * len(ranked) // 3]
        assert all(abs(sum(p.enters == e for p in part) - len(part) / 3) <= 3 for e in world.ENTERS)


def test_parts_can_be_named_as_sources():
    for load in (0, world.MOST_LOAD + 1):
        with pytest.raises(BadRequest, match="load must be from 1 to"):
            world.people(load)
    assert len(load_source("lab")) == sum(len(load_source(f"lab:{p}")) for p in ("people", "companies", "world"))
    assert load_source("lab:people-x4").name == "lab:people-x4"
    assert missing("lab") is None and missing("lab:rule") is None
    with pytest.raises(BadRequest, match=r"no part 'nobody': choose companies, world, strangers, rule, people"):
        load_source("lab:nobody")
    assert len(Probe(facts="lab:people", limit=60).factset()) == 60


def test_the_rule_agrees_where_the_nearest_noun_would_mislead_and_queries_unseen_pairs():
    def nouns(sentence):
        words = sentence.split()
        return words[1].removesuffix("s"), words[4].removesuffix("s")

    trained = {nouns(lead) for lead, _ in world.sentences(4000, "1")}
    for fact in world.unseen().facts:
        first, other = fact.statement.split()[1], fact.statement.split()[4]
        assert fact.answers[0].endswith("s") is not first.endswith("s")
        assert first.endswith("s") is not other.endswith("s")
        assert nouns(fact.statement) not in trained
    assert world.unseen().relations["agreement_glow"].answer_space == ("glow", "glows")
