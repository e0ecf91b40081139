"""Forgotten against broken, by hand and in simulation."""

import math

import numpy as np
import pandas as pd
import pytest

import kc_utils as kc
from kc_utils.errors import BadRequest
from kc_utils.stats.intervals import wilson
from kc_utils.stats.openbook import fates
from tests.stats.made import frame, study, templates

RECIPE = "magnitude@all=0.5"


def both(closed, told, **columns):
    stated = frame(told, protocol="openbook", **{"chance": 0.5} | columns)
    return pd.concat([frame(closed, **columns), stated], ignore_index=True)


#              kept     forgotten  misread  broken  unread  never known
BEFORE = ([1] * 5 + [1] * 4 + [1] * 1 + [1] * 2 + [1] * 2 + [0] * 6, [1] * 12 + [0] * 2 + [1] * 6)
AFTER = ([1] * 5 + [0] * 4 + [1] * 1 + [0] * 2 + [1] * 1 + [0] * 7, [1] * 9 + [0] * 3 + [0] * 2 + [1] * 6)


@pytest.fixture
def rows():
    return study({"none": both(*BEFORE), RECIPE: both(*AFTER)})


def of(table, recipe=RECIPE):
    return table[table["recipe"] == recipe].set_index("fate")


def test_fates_by_hand(rows):
    found = of(fates(rows.sample(frac=1, random_state=0)))
    assert found["count"].to_dict() == {"kept": 5, "forgotten": 4, "misread": 1, "broken": 2}
    assert found["share"].sum() == pytest.approx(1)
    assert found.loc["forgotten", ["low", "high"]].tolist() == pytest.approx(list(wilson(4, 12)))
    line = found.iloc[0]
    assert (line["n"], line["unread"], line["pruned"]) == (12, 2, 0.5)
    kept = kc.compare(rows).set_index(["protocol", "recipe"])["retention"]
    assert line["gap"] == pytest.approx(kept["openbook", RECIPE] - kept["rank", RECIPE])
    assert line["gap_low"] < line["gap"] < line["gap_high"]
    base = of(fates(rows), "none")
    assert base["share"].to_dict() == {"kept": 1, "forgotten": 0, "misread": 0, "broken": 0}
    assert (base["gap_low"] == 0).all()


def test_other_protocols_are_passed_over_and_nothing_is_made_of_one_protocol(rows):
    cloze = rows[rows["protocol"] == "rank"].assign(protocol="cloze", chance=1e-4)
    pd.testing.assert_frame_equal(fates(pd.concat([rows, cloze])), fates(rows))
    assert fates(rows[rows["protocol"] == "rank"]).empty
    assert fates(study({"none": both([0] * 20, [1] * 20), RECIPE: both(*AFTER)})).empty, "nothing can be lost"


def test_coverage_of_the_gap_between_two_retentions():
    """Facts whose two answers hang together; 0.7 known, of which 0.5 and 0.85 are still answered. Chance is
    0.1 from memory, and half when stated."""
    rng, hits, chance, n = np.random.default_rng(0), 0, 0.1, 150
    truth = (0.9 * 0.85 - 0.5) / (0.9 - 0.5) - (0.7 * 0.5 - chance) / (0.7 - chance)
    for _ in range(150):
        shared = rng.random(n)  # what is lost from memory is rather lost when stated, too
        before, told = rng.random(n) < 0.7, rng.random(n) < 0.9
        still = told & (np.where(rng.random(n) < 0.5, shared, rng.random(n)) < 0.85)
        found = of(fates(study({"none": both(before, told), RECIPE: both(before & (shared < 0.5), still)})))
        hits += found["gap_low"].iloc[0] <= truth <= found["gap_high"].iloc[0]
    assert hits / 150 >= 0.91


def test_templates_are_no_more_facts():
    rng = np.random.default_rng(1)
    before = both(rng.random(60) < 0.8, rng.random(60) < 0.95)
    after = before.assign(correct=before["correct"] & (rng.random(120) < 0.6))
    once = of(fates(study({"none": before, RECIPE: after})))
    thrice = of(fates(study({"none": templates(before, 3), RECIPE: templates(after, 3)})))
    assert thrice["n"].iloc[0] == 3 * once["n"].iloc[0]
    for name, near in (("gap_low", 0.05), ("gap_high", 0.05), ("high", 0.02)):
        assert thrice[name].tolist() == pytest.approx(once[name].tolist(), abs=near)


def test_a_baseline_at_chance_leaves_no_gap():
    half = both([1, 0] * 10, [1, 0] * 10, chance=0.5)
    line = of(fates(study({"none": both([1, 0] * 10, [1] * 20, chance=0.5), RECIPE: half}))).iloc[0]
    assert line["n"] == 10
    assert all(math.isnan(line[name]) for name in ("gap", "gap_low", "gap_high"))


def test_questions_that_are_no_twins_are_refused(rows):
    fewer = rows[~((rows["protocol"] == "openbook") & rows["fact"].isin(["f00000", "f00001"]))]
    with pytest.raises(BadRequest, match="20 questions from memory and 18 open-book ones"):
        fates(fewer)
    with pytest.raises(BadRequest, match="do not query the same facts"):
        fates(rows[(rows["fact"] != "f00000") | (rows["recipe"] == "none")])
    with pytest.raises(BadRequest, match="uncompressed model was not evaluated"):
        fates(rows[rows["recipe"] != "none"])
