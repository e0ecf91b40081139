"""Forgotten against broken, by hand and in simulation."""

import math

import numpy as np
import pandas as pd
import pytest

from kc_utils.stats.intervals import wilson
from kc_utils.stats.open_and_closed import _gap_interval, open_and_closed
from kc_utils.stats.statistics import compare
from kc_utils.errors import BadRequest, BadResult
from tests.stats.made import frame, worded


def both(closed, told, **columns):
    return pd.concat([frame(closed, **columns), frame(told, protocol="openbook", **columns)], ignore_index=True)


#              kept     forgotten  misread  broken  unread  never known
BEFORE = ([1] * 5 + [1] * 4 + [1] * 1 + [1] * 2 + [1] * 2 + [0] * 6, [1] * 12 + [0] * 2 + [1] * 6)
AFTER = ([1] * 5 + [0] * 4 + [1] * 1 + [0] * 2 + [1] * 1 + [0] * 7, [1] * 9 + [0] * 3 + [0] * 2 + [1] * 6)


def test_fates_by_hand():
    found = open_and_closed(both(*AFTER).sample(frac=1, random_state=0), both(*BEFORE))
    fates = found.fates.set_index("fate")
    assert fates["count"].to_dict() == {"kept": 5, "forgotten": 4, "misread": 1, "broken": 2}
    assert fates["share"].sum() == pytest.approx(1)
    assert fates.loc["forgotten", ["low", "high"]].tolist() == list(wilson(4, 12))
    assert (found.n, found.unread) == (12, 2)
    assert found.closed == compare(frame(AFTER[0]), frame(BEFORE[0]))
    assert found.open.retention == pytest.approx((15 / 20 - 0.1) / (18 / 20 - 0.1))
    assert found.gap == pytest.approx(found.open.retention - found.closed.retention)
    assert found.gap_ci95[0] < found.gap < found.gap_ci95[1]
    assert set(found.to_dict()["fates"][0]) >= {"fate", "share", "low", "high"}


def test_other_protocols_are_passed_over():
    rows, base = both(*AFTER), both(*BEFORE)
    cloze = frame(BEFORE[0], protocol="cloze", chance=1e-4)
    more = open_and_closed(pd.concat([rows, cloze]), pd.concat([base, cloze]))
    assert more.fates.equals(open_and_closed(rows, base).fates)


def test_coverage_of_the_gap_between_two_retentions():
    """Facts whose two answers hang together; chance 0.1, 0.7 known, of which 0.5 and 0.85 are still answered."""
    rng, hits, chance, n = np.random.default_rng(0), 0, 0.1, 150
    truth = (0.9 * 0.85 - chance) / (0.9 - chance) - (0.7 * 0.5 - chance) / (0.7 - chance)
    for seed in range(300):
        shared = rng.random(n)  # what is lost from memory is rather lost when stated, too
        before, told = rng.random(n) < 0.7, rng.random(n) < 0.9
        still = told & (np.where(rng.random(n) < 0.5, shared, rng.random(n)) < 0.85)
        answers = {
            "correct": before & (shared < 0.5), "correct_baseline": before, "correct_open": still,
            "correct_baseline_open": told, "chance": chance, "chance_open": chance, "fact": range(n),
        }  # fmt: skip
        low, high = _gap_interval(pd.DataFrame(answers), np.arange(n), seed)
        hits += low <= truth <= high
    assert 0.925 <= hits / 300 <= 0.975


def test_wordings_are_no_more_facts():
    rng = np.random.default_rng(1)
    before = both(rng.random(60) < 0.8, rng.random(60) < 0.95)
    after = before.assign(correct=before["correct"] & (rng.random(120) < 0.6))
    once, thrice = open_and_closed(after, before), open_and_closed(worded(after, 3), worded(before, 3))
    assert thrice.n == 3 * once.n
    assert thrice.gap_ci95 == pytest.approx(once.gap_ci95, abs=0.05)
    assert thrice.fates["high"].tolist() == pytest.approx(once.fates["high"].tolist(), abs=0.02)


def test_a_baseline_at_chance_leaves_no_gap():
    found = open_and_closed(both([1, 0] * 10, [1, 0] * 10, chance=0.5), both([1, 0] * 10, [1] * 20, chance=0.5))
    assert math.isnan(found.gap)
    assert all(math.isnan(x) for x in found.gap_ci95)
    assert found.n == 10


def test_what_cannot_be_told():
    rows, base = both(*AFTER), both(*BEFORE)
    with pytest.raises(BadRequest, match="no rows of protocol 'openbook' among rank"):
        open_and_closed(rows[rows["protocol"] == "rank"], base)
    with pytest.raises(BadRequest, match="share 18"):
        fewer = [f[~((f["protocol"] == "openbook") & f["fact"].isin(["f00000", "f00001"]))] for f in (rows, base)]
        open_and_closed(*fewer)
    with pytest.raises(BadRequest, match="do not ask the same facts"):
        open_and_closed(rows[rows["fact"] != "f00000"], base)
    with pytest.raises(BadResult, match="answers none of 20"):
        open_and_closed(rows, both([0] * 20, [1] * 20))
