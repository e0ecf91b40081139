"""Intervals and tests against textbook values, scipy, statsmodels, and simulation."""

import math
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest
from statsmodels.stats.proportion import proportion_confint

from kc_utils.stats.statistics import accuracy_by, compare, compare_by, head_and_tail, retention, wilson
from kc_utils.errors import BadRequest, BadResult
from tests.stats.made import frame, worded


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),
    [  # Newcombe 1998, Statistics in Medicine 17, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_against_published_values(correct, n, low, high):
    assert wilson(correct, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 500), st.data())
def test_wilson_against_its_formula_and_statsmodels(n, data):
    k = data.draw(st.integers(0, n))
    z, p = 1.959963984540054, k / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    assert wilson(k, n) == pytest.approx((centre - half, centre + half), abs=1e-9)
    assert wilson(k, n) == pytest.approx(proportion_confint(k, n, method="wilson"), abs=1e-12)
    narrow = wilson(k, n, level=0.5)
    assert wilson(k, n)[0] - 1e-9 <= narrow[0] <= narrow[1] <= wilson(k, n)[1] + 1e-9


def test_wilson_of_nothing():
    assert all(math.isnan(x) for x in wilson(0, 0))


@given(st.fractions(0, 1), st.fractions(0, 1), st.fractions(0, 1))
def test_retention_is_a_share_of_what_lies_above_chance(compressed, baseline, chance):
    found = retention(float(compressed), float(baseline), float(chance))
    if float(baseline) <= float(chance):
        assert math.isnan(found)
    elif baseline - chance > Fraction(1, 1000):
        assert found == pytest.approx(float((compressed - chance) / (baseline - chance)), rel=1e-9, abs=1e-9)


def test_retention_at_its_landmarks():
    assert retention(0.6, 0.6, 0.2) == 1
    assert retention(0.2, 0.6, 0.2) == 0
    assert retention(0.4, 0.6, 0.2) == pytest.approx(0.5)
    assert retention(0.0, 0.6, 0.2) == pytest.approx(-0.5)
    assert math.isnan(retention(0.2, 0.2, 0.2))


def test_comparison_by_hand():
    before = frame([1, 1, 1, 1, 1, 1, 0, 0, 0, 0])
    after = frame([1, 1, 0, 0, 0, 0, 1, 0, 0, 0])
    found = compare(after.sample(frac=1, random_state=0), before)  # the order of rows does not matter
    assert (found.n, found.accuracy, found.baseline_accuracy) == (10, 0.3, 0.6)
    assert (found.lost, found.gained) == (0.4, 0.1)
    assert found.chance == pytest.approx(0.1)
    assert found.retention == pytest.approx((0.3 - 0.1) / (0.6 - 0.1))
    assert found.ci95 == wilson(3, 10)
    assert found.p_mcnemar == pytest.approx(binomtest(1, 5, 0.5).pvalue)
    assert set(found.to_dict()) >= {"n", "accuracy", "ci95", "chance", "baseline_accuracy", "retention"}


@settings(max_examples=40)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_mcnemar_is_the_exact_binomial_test(pairs):
    before, after = (frame(side) for side in zip(*pairs, strict=True))
    lost = sum(b and not a for b, a in pairs)
    gained = sum(a and not b for b, a in pairs)
    found = compare(after, before)
    expected = binomtest(lost, lost + gained, 0.5).pvalue if lost + gained else 1.0
    assert found.p_mcnemar == pytest.approx(min(1.0, expected))
    assert found.accuracy - found.baseline_accuracy == pytest.approx(found.gained - found.lost)
    mirrored = compare(before, after)
    assert (mirrored.lost, mirrored.gained, mirrored.p_mcnemar) == (found.gained, found.lost, found.p_mcnemar)


def test_a_model_against_itself():
    rows = frame([1, 0] * 50)
    found = compare(rows, rows)
    assert (found.retention, found.retention_ci95, found.p_mcnemar) == (1, (1, 1), 1)


def test_a_baseline_at_chance_has_no_retention():
    found = compare(frame([0] * 20, chance=0.5), frame([1, 0] * 10, chance=0.5))
    assert math.isnan(found.retention)
    assert all(math.isnan(x) for x in found.retention_ci95)
    assert "does not beat chance" in found.retention_note
    assert found.accuracy == 0
    assert found.difference == -0.5
    assert found.difference_ci95[0] < -0.5 < found.difference_ci95[1] < 0, "a difference is defined whatever chance is"


def test_a_baseline_hardly_above_chance_has_a_retention_without_interval():
    found = compare(frame([1] * 8 + [0] * 32, chance=0.2), frame([1] * 9 + [0] * 31, chance=0.2))
    assert found.retention == pytest.approx(0)
    assert all(math.isnan(x) for x in found.retention_ci95)
    assert "too narrowly" in found.retention_note
    assert compare(frame([1] * 20 + [0] * 20), frame([1] * 30 + [0] * 10)).retention_note == ""


def test_chance_may_differ_from_item_to_item():
    chance = np.array([0.5] * 4 + [0.1] * 6)
    found = compare(frame([1, 1, 0, 0, 1, 0, 0, 0, 0, 0], chance=chance), frame([1] * 6 + [0] * 4, chance=chance))
    assert found.chance == pytest.approx(0.26)
    assert found.retention == pytest.approx((0.3 - 0.26) / (0.6 - 0.26))


def test_a_model_that_happens_to_answer_alike_is_not_the_same_model():
    rows = frame([1, 0] * 50, score=np.linspace(-1, 0, 100))
    found = compare(rows.assign(score=rows["score"] - 0.01), rows)
    assert (found.retention, found.difference, found.p_mcnemar) == (1, 0, 1)
    assert found.retention_ci95[0] < 1 < found.retention_ci95[1], "other facts might have flipped"
    assert found.difference_ci95[0] < 0 < found.difference_ci95[1]


def test_lines_for_each_value_of_a_column():
    before, after = (
        frame([1] * 8, relation=list("aaaabbbb")),
        frame([1, 0, 1, 1, 0, 0, 0, 1], relation=list("aaaabbbb")),
    )
    found = compare_by(after.sample(frac=1, random_state=0), before, "relation").set_index("relation")
    whole = compare(after[:4], before[:4])
    assert found.loc["a", ["n", "accuracy", "retention", "lost"]].tolist() == [4, 0.75, whole.retention, 0.25]
    assert found.loc["a", ["low", "high"]].tolist() == list(whole.ci95)
    assert found.loc["a", ["retention_low", "retention_high"]].tolist() == list(whole.retention_ci95)
    assert found.loc["b", "accuracy"] == 0.25
    some = compare_by(after, before, pd.Series([1, 1, None, None, 2, 2, 2, None], name="part"))
    assert some["n"].tolist() == [2, 3]
    with pytest.raises(BadRequest, match="no row has a part"):
        compare_by(after, before, pd.Series([None] * 8, name="part"))
    with pytest.raises(BadRequest, match="no column 'age'"):
        compare_by(after, before, "age")
    with pytest.raises(BadRequest, match="belongs to other rows"):
        compare_by(after, before, pd.Series([1] * 7))
    numbered_twice = after.set_axis([0] * 8)
    pd.testing.assert_frame_equal(compare_by(numbered_twice, before, "relation"), compare_by(after, before, "relation"))


def test_chance_of_the_top_five_is_five_times_that_of_the_top_one():
    rows = frame([1, 0, 0, 0], chance=0.01, correct_at_5=[True, True, False, False])
    assert compare(rows, rows, "correct_at_5").chance == pytest.approx(0.05)
    assert compare(rows, rows, "correct_at_5").accuracy == 0.5


@pytest.mark.parametrize(
    "other",
    [
        lambda rows: rows.iloc[:-1],
        lambda rows: rows.assign(fact=rows["fact"] + "x"),
        lambda rows: rows.assign(template=1),
        lambda rows: rows.assign(protocol="cloze"),
        lambda rows: pd.concat([rows, rows]),
    ],
    ids=["fewer", "other facts", "other template", "other protocol", "repeated"],
)
def test_other_items_are_not_compared(other):
    rows = frame([1, 0, 1])
    for pair in ((rows, other(rows)), (other(rows), rows)):
        with pytest.raises(BadRequest, match="do not ask the same facts"):
            compare(*pair)


def test_nothing_is_not_compared():
    with pytest.raises(BadResult, match="asked nothing"):
        compare(frame([]), frame([]))


def test_intervals_are_the_same_each_time():
    rng = np.random.default_rng(0)
    before, after = frame(rng.random(80) < 0.7), frame(rng.random(80) < 0.4)
    assert compare(after, before).retention_ci95 == compare(after, before).retention_ci95
    assert compare(after, before).retention_ci95 != compare(after, before, seed=1).retention_ci95


@pytest.mark.parametrize("n", [36, 100, 500])
def test_the_interval_of_an_accuracy_covers_its_truth_in_95_of_100_samples(n):
    """Computed, not drawn: for each true accuracy the probability of a count whose interval holds it."""
    truths = np.linspace(0.05, 0.95, 91)
    low, high = (np.array(side) for side in zip(*(wilson(k, n) for k in range(n + 1)), strict=True))
    coverage = [binom.pmf(np.flatnonzero((low <= p) & (p <= high)), n, p).sum() for p in truths]
    assert 0.945 <= np.mean(coverage) <= 0.96
    assert min(coverage) > 0.9


def test_accuracy_by_a_column():
    rows = frame([1, 1, 0, 0, 0, 1], relation=["a", "a", "a", "b", "b", "b"], chance=[0.1] * 3 + [0.2] * 3)
    found = accuracy_by(rows, "relation").set_index("relation")
    assert found.loc["a", "n"] == 3
    assert found.loc["a", "accuracy"] == pytest.approx(2 / 3)
    assert (found.loc["b", "low"], found.loc["b", "high"]) == wilson(1, 3)
    assert found["chance"].tolist() == pytest.approx([0.1, 0.2])


def test_accuracy_over_wordings_counts_facts():
    rows = frame([1, 0] * 15, relation="a")
    found = accuracy_by(worded(rows, 4), "relation").iloc[0]
    assert (found["n"], found["accuracy"]) == (120, 0.5)
    assert (found["low"], found["high"]) == pytest.approx(wilson(15, 30), abs=0.01)


def test_head_and_tail_split_each_relation_in_half():
    rows = frame([1] * 8, relation=["a"] * 4 + ["b"] * 4, popularity=[1, 2, 3, 4, 100, 400, 300, 200])
    assert head_and_tail(rows).tolist() == ["tail", "tail", "head", "head", "tail", "head", "head", "tail"]
    assert head_and_tail(rows, parts=4)[:4].tolist() == ["4th quarter", "3rd quarter", "2nd quarter", "1st quarter"]


def test_facts_of_unknown_popularity_are_in_neither_half():
    rows = frame([1] * 5, popularity=[1, np.nan, 3, np.nan, 2])
    halves = head_and_tail(rows)
    assert halves.isna().tolist() == [False, True, False, True, False]
    assert (halves[0], halves[2]) == ("tail", "head")


@given(st.integers(2, 9), st.integers(0, 5))
def test_a_fact_asked_in_several_ways_stays_in_one_half(n, seed):
    one = frame([1] * n, popularity=np.random.default_rng(seed).integers(0, 3, n).astype(float))
    rows = pd.concat([one, one.assign(template=1), one.assign(protocol="cloze")], ignore_index=True)
    halves = head_and_tail(rows)
    assert halves[:n].tolist() == head_and_tail(one).tolist()
    assert (halves.groupby(rows["fact"]).nunique() == 1).all()
    assert abs((halves == "head").sum() - (halves == "tail").sum()) <= 3
