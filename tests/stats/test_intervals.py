"""Intervals and paired tests against scipy, statsmodels, enumeration and simulation."""

import itertools
import math

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests

from kc_utils.errors import BadResult
from kc_utils.stats.intervals import clustered_wilson, effective_clusters, holm, mcnemar, t_interval, wilson


@pytest.mark.parametrize(("right", "n"), [(0, 20), (3, 20), (20, 20), (137, 500)])
def test_wilson_agrees_with_scipy(right, n):
    expected = stats.binomtest(right, n).proportion_ci(method="wilson")
    assert wilson(right, n) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert wilson(right, n)[0] <= right / n <= wilson(right, n)[1]
    assert all(math.isnan(x) for x in wilson(0, 0))


def test_one_row_a_cluster_is_wilson_and_repeated_rows_count_once():
    right = np.random.default_rng(0).random(80) < 0.3
    once = clustered_wilson(right, np.arange(80))
    assert once == pytest.approx(wilson(right.sum(), 80))
    thrice = clustered_wilson(np.tile(right, 3), np.tile(np.arange(80), 3))
    reach = stats.t.ppf(0.975, 79) / stats.norm.ppf(0.975)
    assert thrice[1] - thrice[0] == pytest.approx((once[1] - once[0]) * reach, rel=0.02), "but for Student's quantile"
    assert clustered_wilson(np.ones(30, bool), np.repeat(np.arange(10), 3))[0] == pytest.approx(
        wilson(10, 10, 2 * stats.norm.sf(stats.t.ppf(0.975, 9)))[0]
    )
    assert all(math.isnan(x) for x in clustered_wilson(right, np.zeros(80, int)))


def test_the_clustered_interval_has_the_width_of_a_sandwich_estimate():
    """Independent computation: a regression on a constant with clustered standard errors."""
    rng = np.random.default_rng(1)
    clusters = np.repeat(np.arange(40), rng.integers(3, 20, 40))
    right = rng.random(len(clusters)) < rng.beta(2, 2, 40)[clusters]
    low, high = clustered_wilson(right, clusters)
    fit = sm.OLS(right.astype(float), np.ones(len(right))).fit(
        cov_type="cluster", cov_kwds={"groups": clusters, "use_correction": True}
    )
    wald = 2 * stats.t.ppf(0.975, effective_clusters(np.bincount(clusters)) - 1) * fit.bse[0]
    assert high - low == pytest.approx(wald, rel=0.03)


def test_coverage_over_clusters():
    rng, hits = np.random.default_rng(2), 0
    clusters = np.repeat(np.arange(120), 3)
    for _ in range(400):
        fact = rng.random(120) < 0.3
        right = np.where(rng.random(360) < 0.8, fact[clusters], rng.random(360) < 0.3)
        low, high = clustered_wilson(right, clusters)
        hits += low <= 0.3 <= high
    assert 0.93 <= hits / 400 <= 0.97


def test_t_intervals():
    values = [0.8, 0.84, 0.88]
    assert t_interval(values) == pytest.approx(sm.stats.DescrStatsW(values).tconfint_mean())
    for undefined in (t_interval([0.5]), t_interval([0.5, math.nan])):
        assert all(math.isnan(x) for x in undefined)
    assert t_interval([0.5, 0.5, 0.5]) == (0.5, 0.5)


@pytest.mark.parametrize(("lost", "gained"), [(0, 0), (5, 5), (12, 3), (1, 0), (40, 22)])
def test_mcnemar_agrees_with_statsmodels(lost, gained):
    before = np.repeat([True, False, True], [lost, gained, 10])
    after = np.repeat([False, True, True], [lost, gained, 10])
    table = [[10, lost], [gained, 0]]
    expected = statsmodels_mcnemar(table, exact=True).pvalue
    assert mcnemar(before, after, np.arange(len(before))) == pytest.approx(min(expected, 1))


def test_mcnemar_over_clusters_is_the_enumerated_randomisation_test():
    rng = np.random.default_rng(3)
    clusters = np.repeat(np.arange(9), 4)
    before, after = rng.random(36) < 0.7, rng.random(36) < 0.4
    net = np.bincount(clusters, before.astype(int) - after)
    sums = [abs(np.dot(signs, net)) for signs in itertools.product((-1, 1), repeat=9)]
    assert mcnemar(before, after, clusters) == pytest.approx(np.mean(np.array(sums) >= abs(net.sum())))
    once = mcnemar(before[:9], after[:9], np.arange(9))
    assert mcnemar(np.tile(before[:9], 3), np.tile(after[:9], 3), np.tile(np.arange(9), 3)) == pytest.approx(once)


def test_holm_agrees_with_statsmodels_and_leaves_missing_ones_out():
    p = np.array([0.04, 0.001, 0.03, 0.2, 0.001])
    expected = multipletests(p, method="holm")[1]
    assert holm(p) == pytest.approx(expected)
    found = holm(np.insert(p, 2, np.nan))
    assert math.isnan(found[2])
    assert np.delete(found, 2) == pytest.approx(expected)
    with pytest.raises(BadResult, match="cannot be corrected"):
        holm([0.5, 1.2])
    assert len(holm([])) == 0


def test_holm_keeps_the_share_of_families_with_a_false_claim_below_its_level():
    rng = np.random.default_rng(4)
    families = sum(holm(rng.random(10)).min() < 0.05 for _ in range(2000))
    assert families / 2000 == pytest.approx(0.05, abs=0.015)
