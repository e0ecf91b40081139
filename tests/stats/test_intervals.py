"""Wilson's interval for rows that hang together: against its plain form, a survey formula, and simulation."""

import math

import numpy as np
import pytest
import statsmodels.api as sm

from kc_utils.stats.intervals import (
    clustered_wilson,
    effective_clusters,
    ratio_variance,
    wilson,
    wilson_of_variance,
)
from tests.stats.made import beta


def test_clusters_of_one_row_give_the_plain_interval():
    right = np.array([1, 1, 0, 0, 0, 1, 0, 0, 0, 0], bool)
    assert clustered_wilson(right, np.arange(10)) == wilson(3, 10)
    assert clustered_wilson(right, np.arange(10)[::-1], level=0.8) == wilson(3, 10, level=0.8)


def test_the_variance_is_that_of_a_regression_with_clustered_errors():
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(15), rng.integers(1, 9, 15))
    right = rng.random(len(clusters)) < beta(0.4, 0.3, 15, rng)[clusters]
    fit = sm.OLS(right.astype(float), np.ones(len(right))).fit(
        cov_type="cluster", cov_kwds={"groups": clusters, "use_correction": True}
    )
    assert ratio_variance(right, clusters) == pytest.approx(fit.bse[0] ** 2 * (len(right) - 1) / len(right), rel=0.1)
    exact = fit.bse[0] ** 2 * (len(right) - 1) / (len(right) - 1)  # statsmodels: G/(G-1) * (n-1)/(n-k), and k is 1
    assert ratio_variance(right, clusters) == pytest.approx(exact, rel=1e-12)


def test_an_interval_holds_its_own_value():
    for n in (1, 7, 300, 593, 3600):
        for right in (0, 1, n - 1, n):
            low, high = wilson(right, n)
            assert 0 <= low <= right / n <= high <= 1


def test_wilson_of_the_binomial_variance_is_wilson():
    low, high = wilson_of_variance(0.3, 0.3 * 0.7 / 50, df=1e9, fallback=50)
    assert (low, high) == pytest.approx(wilson(15, 50), abs=1e-8)


def test_repeating_a_question_adds_nothing():
    rng = np.random.default_rng(1)
    right = rng.random(200) < 0.3
    thrice = clustered_wilson(np.tile(right, 3), np.tile(np.arange(200), 3))
    once = wilson(int(right.sum()), 200)
    assert thrice == pytest.approx(once, abs=2e-3)
    naive = wilson(3 * int(right.sum()), 600)
    assert thrice[1] - thrice[0] > 1.6 * (naive[1] - naive[0])


@pytest.mark.parametrize("answer", [0, 1])
def test_answers_all_alike_count_once_for_each_cluster(answer):
    low, high = clustered_wilson(np.full(120, answer, bool), np.tile(np.arange(40), 3))
    plain = wilson(40 * answer, 40)
    assert (low, high) == pytest.approx(plain, abs=0.01)
    assert 0 <= low < high <= 1


def test_no_spread_no_interval():
    assert all(math.isnan(x) for x in clustered_wilson(np.array([1, 0, 1], bool), np.zeros(3, int)))
    assert all(math.isnan(x) for x in clustered_wilson(np.array([], bool), np.array([], int)))


def test_effective_clusters():
    assert effective_clusters(np.full(12, 7)) == pytest.approx(12)
    assert effective_clusters(np.array([1000, 1, 1, 1])) == pytest.approx(1.006, abs=1e-3)


def covered(p, correlation, sizes, rng, samples):
    clusters = np.repeat(np.arange(len(sizes)), sizes)
    hits = 0
    for _ in range(samples):
        right = rng.random(len(clusters)) < beta(p, correlation, len(sizes), rng)[clusters]
        low, high = clustered_wilson(right, clusters)
        hits += low <= p <= high
    return hits / samples


@pytest.mark.parametrize("p", [0.05, 0.3, 0.7, 0.9])
@pytest.mark.parametrize(("facts", "wordings", "correlation"), [(100, 3, 0.8), (300, 3, 0.4)], ids=["few", "many"])
def test_coverage_with_several_wordings(p, facts, wordings, correlation):
    rate = covered(p, correlation, np.full(facts, wordings), np.random.default_rng(7), samples=1000)
    assert 0.93 <= rate <= 0.97


UNEVEN = np.round(12 * np.exp(np.linspace(-1.2, 1.2, 24))).astype(int)


@pytest.mark.parametrize(
    ("p", "correlation", "sizes"),
    [
        (0.05, 0.02, np.full(20, 20)),
        (0.3, 0.1, np.full(20, 10)),
        (0.7, 0.2, np.full(12, 20)),
        (0.9, 0.02, np.full(30, 15)),
        (0.3, 0.0, UNEVEN),
        (0.5, 0.2, UNEVEN),
        (0.7, 0.05, UNEVEN),
    ],
)
def test_coverage_over_relations(p, correlation, sizes):
    rate = covered(p, correlation, sizes, np.random.default_rng(11), samples=1000)
    assert 0.93 <= rate <= 0.97


def test_where_the_interval_over_relations_does_not_hold():
    """As the module says: accuracies near 0 that differ much between relations of unequal size."""
    rate = covered(0.05, 0.2, UNEVEN, np.random.default_rng(11), samples=600)
    assert 0.85 <= rate <= 0.93
    naive, clusters = 0, np.repeat(np.arange(len(UNEVEN)), UNEVEN)
    rng = np.random.default_rng(11)
    for _ in range(600):
        right = rng.random(len(clusters)) < beta(0.05, 0.2, len(UNEVEN), rng)[clusters]
        low, high = wilson(int(right.sum()), len(right))
        naive += low <= 0.05 <= high
    assert naive / 600 < rate - 0.1, "and yet far better than rows taken as independent"
