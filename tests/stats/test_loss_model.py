"""The regression of losses against one solved by hand, a simulated truth, and data that allow none."""

import math

import numpy as np
import pytest
from scipy import stats

from kc_utils.stats.loss_model import loss_model
from kc_utils.errors import BadRequest
from tests.stats.made import frame, worded


def simulated(n=600, relations=20, slope=-0.8, spread=0.5, seed=0):
    rng = np.random.default_rng(seed)
    number = rng.integers(0, relations, n)
    popularity = 10 ** rng.normal(4, 1, n)
    odds = 2.5 + slope * np.log10(popularity) + rng.normal(0, spread, relations)[number]
    lost = rng.random(n) < 1 / (1 + np.exp(-odds))
    columns = {"relation": [f"r{i:02}" for i in number], "popularity": popularity}
    return frame(~lost, **columns), frame([1] * n, **columns), lost, np.log10(popularity), number


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
    return b, np.sqrt(covariance[1, 1])


def test_the_fit_by_hand():
    after, before, lost, x, number = simulated()
    found = loss_model(after.sample(frac=1, random_state=1), before)
    b, error = newton(lost, x, number)
    assert (found.slope, found.error) == pytest.approx((b[1], error), rel=1e-4)
    assert found.intercept == pytest.approx(b[0], rel=1e-4)
    t = stats.t(19)
    assert found.odds_ratio == pytest.approx(math.exp(b[1]), rel=1e-4)
    assert np.log(found.odds_ratio_ci95) == pytest.approx(b[1] + np.array(t.interval(0.95)) * error, rel=1e-4)
    assert found.p == pytest.approx(2 * t.sf(abs(b[1] / error)), rel=1e-2)
    assert (found.n, found.lost, found.left_out, found.clusters, found.note) == (600, lost.sum(), 0, 20, "")


def test_coverage_where_relations_differ():
    """The slope that a population of such relations has, from one large sample; then many small ones."""
    truth = loss_model(*simulated(n=30_000, relations=1500, seed=99)[:2]).slope
    hits = 0
    for seed in range(100):
        low, high = loss_model(*simulated(n=400, relations=24, seed=seed)[:2]).odds_ratio_ci95
        hits += low <= math.exp(truth) <= high
    assert 0.9 <= hits / 100 <= 0.99


def test_only_known_facts_with_a_popularity_count():
    after, before, *_ = simulated()
    known = before.assign(correct=np.arange(600) % 3 > 0)
    some = known.assign(popularity=known["popularity"].where(np.arange(600) % 5 > 0, 0.0))
    found = loss_model(after.assign(popularity=some["popularity"]), some)
    assert found.n + found.left_out == 400
    assert found.left_out == sum(i % 3 > 0 and i % 5 == 0 for i in range(600))


def test_within_relations_what_differs_between_them_is_left_out():
    rng = np.random.default_rng(4)
    number = np.repeat(np.arange(10), 80)
    popularity = 10 ** (number / 2 + rng.normal(0, 0.5, 800))
    lost = rng.random(800) < 0.1 + 0.08 * number  # relations with popular subjects lose more, their facts alike
    columns = {"relation": [f"r{i}" for i in number], "popularity": popularity}
    after, before = frame(~lost, **columns), frame([1] * 800, **columns)
    assert loss_model(after, before).p < 0.01
    assert loss_model(after, before, within=True).p > 0.05


def test_wordings_add_no_certainty():
    after, before, *_ = simulated(n=300, spread=0)
    once = loss_model(after, before, cluster="fact")
    thrice = loss_model(worded(after, 3), worded(before, 3), cluster="fact")
    assert thrice.slope == pytest.approx(once.slope, rel=1e-4)
    assert thrice.error == pytest.approx(once.error, rel=0.01)


def test_on_the_baselines_margin():
    rng = np.random.default_rng(5)
    margin = rng.uniform(0, 5, 500)
    before = frame([1] * 500, margin=margin)
    moved = rng.random(500) < 1 / (1 + np.exp(margin - 1))
    after = frame(~moved, margin=np.where(moved, -1.0, 1.0))
    found = loss_model(after, before, on="margin", cluster="fact")
    assert found.slope == pytest.approx(-1, abs=0.25)
    assert found.intercept == pytest.approx(1, abs=0.5)


def test_what_allows_no_fit():
    after, before, *_ = simulated()
    rare = loss_model(before.assign(correct=[False] * 9 + [True] * 591), before)
    assert "fewer than 10" in rare.note
    assert math.isnan(rare.slope)
    assert math.isnan(rare.odds_ratio_ci95[0])
    parted = before.assign(correct=before["popularity"] > before["popularity"].median())
    assert "parts the lost from the kept" in loss_model(parted, before).note
    assert "same popularity" in loss_model(after.assign(popularity=3.0), before).note
    with pytest.raises(BadRequest, match="popularity or margin"):
        loss_model(after, before, on="age")
    with pytest.raises(BadRequest, match="no margin"):
        loss_model(after, before, on="margin")
    with pytest.raises(BadRequest, match="too few"):
        loss_model(after.assign(relation="r"), before.assign(relation="r"))
