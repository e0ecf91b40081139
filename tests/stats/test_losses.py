"""Losses in groups by hand, and the regression of losses against one written out, a simulated truth, and no fit."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from kc_utils.errors import BadRequest, BadResult
from kc_utils.stats.intervals import wilson
from kc_utils.stats.losses import bins, half_gone, known_facts, loss_odds, lost_by, mildest_clear
from tests.stats.made import frame, study, templates

RECIPE = "magnitude@all=0.5"


def test_known_and_lost_with_the_margin_of_the_uncompressed_model():
    before, after = frame([1, 1, 0, 0], margin=[3.0, 4, -1, -2]), frame([1, 0, 1, 0], margin=[1.0, -1, 2, -2])
    found = known_facts(study({"none": before, RECIPE: after.sample(frac=1, random_state=0)}))
    assert found["lost"].tolist() == [False, True]
    assert found["margin"].tolist() == [3, 4]
    assert set(found["recipe"]) == {RECIPE}
    with pytest.raises(BadResult, match="nothing can be lost"):
        known_facts(study({"none": frame([0, 0]), RECIPE: frame([1, 0])}))
    with pytest.raises(BadRequest, match="do not query the same facts"):
        known_facts(study({"none": before, RECIPE: after.iloc[1:]}))


def test_losses_of_groups():
    relation = list("aaaaabbbbb")
    before = frame([1, 1, 1, 1, 0, 0, 0, 0, 1, 0], relation=relation)
    after = frame([1, 0, 0, 1, 1] + [0] * 5, relation=relation)
    known = known_facts(study({"none": before, RECIPE: after}))
    found = lost_by(known, "relation").set_index("relation")
    assert found.loc["a", ["known", "lost_of_known"]].tolist() == [4, 0.5]
    assert found.loc["a", ["lost_low", "lost_high"]].tolist() == pytest.approx(list(wilson(2, 4)))
    assert found.loc["b", ["known", "lost_of_known"]].tolist() == [1, 1]
    types = known.assign(type=known["relation"].map({"a": "1-1"}))
    assert lost_by(types, "type")["known"].tolist() == [4], "what has no value belongs to no group"
    with pytest.raises(BadRequest, match="no column age"):
        lost_by(known, "age")


def test_bins_are_even_and_keep_facts_whole():
    rows = templates(frame([1] * 23, popularity=np.arange(23.0)[::-1]), 3)
    found = bins(rows, "popularity", 4)
    assert (found.groupby(rows["fact"]).nunique() == 1).all()
    assert np.ptp(found[:23].value_counts()) <= 1
    assert (found[0], found[22]) == (4, 1)
    assert pd.Series(found.to_numpy(), rows["popularity"]).sort_index().is_monotonic_increasing
    popularity = [1, 2, 3, 4, 5, 6, 100, 200, 300, 400, 500, np.nan]
    rows = frame([1] * 12, relation=list("aaaaaabbbbbb"), popularity=popularity)
    assert bins(rows, "popularity", 2, "relation").tolist()[:11] == [1, 1, 1, 2, 2, 2, 1, 1, 2, 2, 2]
    assert bins(rows, "popularity", 2).tolist()[:11] == [1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2]
    assert bins(rows, "popularity", 2).isna().tolist() == [False] * 11 + [True]
    with pytest.raises(BadRequest, match="11 facts with a popularity cannot be parted into 12"):
        bins(rows, "popularity", 12)


def test_a_tail_that_suffers_and_narrow_margins_are_seen():
    rng = np.random.default_rng(0)
    popularity, margin = np.exp(rng.normal(5, 2, 800)), rng.uniform(0, 4, 800)
    order = popularity.argsort().argsort() / 800
    before = frame([1] * 800, popularity=popularity, margin=margin)
    after = before.assign(correct=rng.random(800) < (0.3 + 0.6 * order) * (0.4 + 0.15 * margin))
    known = known_facts(study({"none": before, RECIPE: after}))
    for column in ("popularity", "margin"):
        found = lost_by(known.assign(bin=bins(known, column, 4)), "bin")
        assert found["bin"].tolist() == [1, 2, 3, 4]
        assert found["known"].tolist() == [200] * 4
        assert found["lost_low"].iloc[0] > found["lost_high"].iloc[3]


def simulated(n=600, slope=-0.8, seed=0):
    rng = np.random.default_rng(seed)
    popularity = 10 ** rng.normal(4, 1, n)
    lost = rng.random(n) < 1 / (1 + np.exp(-(2.5 + slope * np.log10(popularity))))
    before = frame([1] * n, popularity=popularity)
    known = known_facts(study({"none": before, RECIPE: before.assign(correct=~lost)}))
    return known, lost.astype(float), np.log10(popularity)


def newton(lost, x, clusters):
    """Logistic regression with clustered errors, written out: Newton's method, then the sandwich (Liang and Zeger 1986)."""
    design, b = np.column_stack([np.ones_like(x), x]), np.zeros(2)
    for _ in range(50):
        p = 1 / (1 + np.exp(-design @ b))
        bread = np.linalg.inv(design.T @ (design * (p * (1 - p))[:, None]))
        b = b + bread @ design.T @ (lost - p)
    scores = design * (lost - p)[:, None]
    sums = np.stack([scores[clusters == c].sum(axis=0) for c in np.unique(clusters)])
    g, n = len(sums), len(x)
    covariance = bread @ (sums.T @ sums) @ bread * g / (g - 1) * (n - 1) / (n - 2)
    return b[1], np.sqrt(covariance[1, 1])


def test_the_regression_by_hand():
    known, lost, x = simulated()
    found = loss_odds(known.sample(frac=1, random_state=1), "popularity", logarithm=True)
    slope, error = newton(lost, x, np.arange(600))
    t = stats.t(599)
    assert found["odds_ratio"] == pytest.approx(math.exp(slope), rel=1e-4)
    expected = np.exp(slope + np.array(t.interval(0.95)) * error)
    assert (found["low"], found["high"]) == pytest.approx(tuple(expected), rel=1e-3)
    assert found["p"] == pytest.approx(2 * t.sf(abs(slope / error)), rel=1e-2)
    assert (found["n"], found["lost"], found["left_out"], found["clusters"], found["note"]) == (600, lost.sum(), 0, 600, "")


def test_coverage_and_seeds_of_a_fact_that_add_no_certainty():
    hits = 0
    for seed in range(100):
        found = loss_odds(simulated(n=300, seed=seed)[0], "popularity", logarithm=True)
        hits += found["low"] <= math.exp(-0.8) <= found["high"]
    assert 0.9 <= hits / 100 <= 0.99
    known = simulated(n=300)[0]
    thrice = pd.concat([known.assign(model=f"lab:decoder-small-s{i}") for i in (1, 2, 3)])
    once, more = (loss_odds(k, "popularity", logarithm=True) for k in (known, thrice))
    assert (more["low"], more["high"]) == pytest.approx((once["low"], once["high"]), rel=0.01)


def test_what_allows_no_fit():
    known = simulated()[0]
    rare = loss_odds(known.assign(lost=[True] * 9 + [False] * 591), "popularity")
    assert "fewer than 10" in rare["note"]
    assert math.isnan(rare["odds_ratio"])
    parted = known.assign(lost=known["popularity"] < known["popularity"].median())
    assert "parts the lost from the kept" in loss_odds(parted, "popularity", logarithm=True)["note"]
    assert "same popularity" in loss_odds(known.assign(popularity=3.0), "popularity")["note"]
    assert loss_odds(known.assign(popularity=None), "popularity")["left_out"] == 600
    some = known.assign(popularity=known["popularity"].where(np.arange(600) % 5 > 0, 0.0))
    assert loss_odds(some, "popularity", logarithm=True)["left_out"] == 120
    with pytest.raises(BadRequest, match="no column age"):
        loss_odds(known, "age")


def test_the_mildest_clear_loss_and_where_half_is_gone():
    table = pd.DataFrame({"clear": [False, True, True], "accuracy": [0.9, 0.3, 0.7], "recipe": list("abc")})
    assert mildest_clear(table)["recipe"] == "c"
    assert mildest_clear(table[:1]) is None
    assert half_gone([0, 20, 30], [1, 0.9, 0.1]) == pytest.approx(25)
    assert half_gone([0, 20, 30, 40], [1, 0.9, math.nan, 0.1]) == pytest.approx(30)
    assert math.isnan(half_gone([0, 20], [1, 0.6]))
