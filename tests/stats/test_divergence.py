"""Divergences against scipy's entropy, by hand, and where scores are missing or infinite."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import entropy

from kc_utils.stats.divergence import divergence, divergence_by_item, kl_bits, log_probability_change
from kc_utils.errors import BadRequest, BadResult
from tests.stats.made import frame

scores = st.lists(st.floats(-200, 0), min_size=2, max_size=12)


def scored(values, valid=None, **columns):
    return frame([0] * len(values), scores=list(values), **columns).assign(
        valid=True if valid is None else valid, score=[v[0] for v in values]
    )


@given(st.data())
def test_kl_against_scipys_entropy(data):
    before = data.draw(scores)
    after = data.draw(st.lists(st.floats(-200, 0), min_size=len(before), max_size=len(before)))
    expected = entropy(softmax(before), softmax(after), base=2)
    if math.isfinite(expected):  # scipy leaves the logarithms, and calls what is below 1e-308 nothing
        assert kl_bits(np.array(before), np.array(after)) == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert kl_bits(np.array(before), np.array(before)) == 0


def test_kl_at_its_landmarks():
    sure, guess = np.array([0.0, -500, -500, -500]), np.zeros(4)
    assert kl_bits(sure, guess) == pytest.approx(2)
    assert kl_bits(guess, guess + 7) == pytest.approx(0, abs=1e-12), "a constant is no difference"
    assert kl_bits(guess, sure) == pytest.approx(0.75 * 500 / math.log(2) - 2)
    assert math.isinf(kl_bits(guess, np.array([0, 0, 0, -math.inf])))
    assert kl_bits(np.array([0, -math.inf]), np.array([0, -math.inf])) == 0
    assert math.isnan(kl_bits(guess, np.array([0, 0, 0, math.nan])))
    assert math.isnan(kl_bits(guess, np.full(4, -math.inf)))


def test_the_mean_over_items_that_are_valid_in_both():
    rng = np.random.default_rng(0)
    before = [rng.normal(-20, 3, k) for k in (4, 4, 10, 2, 10, 4)]  # as Parquet gives them back: arrays
    after = [list(s + rng.normal(0, 1, len(s))) for s in before]
    after[1] = [math.nan] * 4
    found = divergence(
        scored(after, valid=[True, False, True, True, True, True]),
        scored(before, valid=[True, True, True, True, False, True]),
    )
    expected = [entropy(softmax(before[i]), softmax(after[i]), base=2) for i in (0, 2, 3, 5)]
    assert (found.n, found.left_out, found.infinite) == (4, 2, 0)
    assert found.mean == pytest.approx(np.mean(expected))
    assert found.median == pytest.approx(np.median(expected))
    assert found.ci95[0] < found.mean < found.ci95[1]
    items = divergence_by_item(scored(after, valid=[True, False, True, True, True, True]), scored(before))
    assert items["divergence"].isna().tolist() == [False, True, False, False, False, False]


def test_a_model_beside_itself():
    rows = scored([[-1.0, -2, -3]] * 30)
    found = divergence(rows, rows)
    assert (found.mean, found.ci95) == (0, (0, 0))


def test_the_interval_shrinks_with_the_root_of_facts():
    rng = np.random.default_rng(1)
    widths = []
    for n in (100, 1600):
        before = rng.normal(-10, 2, (n, 5))
        found = divergence(scored((before + rng.normal(0, 1, (n, 5))).tolist()), scored(before.tolist()))
        widths.append(found.ci95[1] - found.ci95[0])
    assert widths[0] / widths[1] == pytest.approx(4, rel=0.35)


def test_one_endless_divergence_is_not_averaged_away():
    before = [[-1.0, -1]] * 5
    after = [[-1.0, -1.5]] * 4 + [[-1.0, -math.inf]]
    found = divergence(scored(after), scored(before))
    assert (found.infinite, found.mean) == (1, math.inf)
    assert math.isfinite(found.median)
    assert all(math.isnan(x) for x in found.ci95)


def test_what_has_no_distribution_is_refused():
    rows = scored([[-1.0, -2]] * 3)
    with pytest.raises(BadRequest, match="closed set"):
        divergence(scored([[-1.0, -2, -3]] * 3), rows)
    with pytest.raises(BadRequest, match="closed set"):
        divergence(rows.assign(scores=None), rows.assign(scores=None))
    with pytest.raises(BadRequest, match="closed set"):
        divergence(scored([[-1.0]] * 3), scored([[-1.0]] * 3))
    with pytest.raises(BadRequest, match="no column scores"):
        divergence(rows.drop(columns="scores"), rows)
    with pytest.raises(BadResult, match="none of 3 items"):
        divergence(rows.assign(valid=False), rows)


def test_change_of_the_right_answers_log_probability():
    rows = frame([0] * 4, protocol="cloze", score=[-1.0, -2.0, np.nan, -3.0]).assign(valid=[True, True, False, True])
    base = frame([0] * 4, protocol="cloze", score=[-0.5, -2.0, -1.0, -1.0])
    found = log_probability_change(rows, base)
    assert (found.n, found.left_out) == (3, 1)
    assert found.mean == pytest.approx(-2.5 / 3 / math.log(2))
    with pytest.raises(BadResult, match="generated answers have no scores"):
        log_probability_change(rows.assign(score=np.nan), base)
