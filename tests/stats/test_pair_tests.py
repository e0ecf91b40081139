"""McNemar's test with and without clusters, and corrections, against statsmodels, enumeration and simulation."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from kc_utils.stats.pair_tests import clustered_mcnemar, corrected, obuchowski
from kc_utils.errors import BadRequest, BadResult


def pairs(both, lost, gained, neither):
    before = [1] * both + [1] * lost + [0] * gained + [0] * neither
    after = [1] * both + [0] * lost + [1] * gained + [0] * neither
    return np.array(before, bool), np.array(after, bool)


@pytest.mark.parametrize("table", [(20, 12, 3, 5), (0, 1, 0, 9), (0, 6, 6, 0), (50, 0, 0, 50), (30, 400, 310, 100)])
def test_without_clusters_it_is_mcnemars_exact_test(table):
    before, after = pairs(*table)
    _, lost, gained, _ = table
    expected = mcnemar([[0, lost], [gained, 0]], exact=True).pvalue if lost + gained else 1.0
    assert clustered_mcnemar(before, after, np.arange(len(before))) == pytest.approx(expected, rel=1e-9)


@given(st.lists(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=4), min_size=1, max_size=8))
def test_it_is_the_randomisation_test_of_cluster_differences(clusters):
    """Every choice of signs, written out."""
    net = [sum(b - a for b, a in rows) for rows in clusters]
    sums = [
        abs(sum(s * d for s, d in zip(signs, net, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(net))
    ]
    expected = np.mean([s >= abs(sum(net)) for s in sums])
    before, after = np.array([row for rows in clusters for row in rows], bool).T
    numbers = np.repeat(np.arange(len(clusters)), [len(rows) for rows in clusters])
    assert clustered_mcnemar(before, after, numbers) == pytest.approx(expected)


def test_obuchowski_without_clusters_is_mcnemars_chi_squared():
    before, after = pairs(100, 30, 14, 60)
    found = obuchowski(before, after, np.arange(204))
    assert found.statistic * 204 / 203 == pytest.approx(
        mcnemar([[0, 30], [14, 0]], exact=False, correction=False).statistic
    )
    assert found.clusters == 204
    assert found.p == pytest.approx(mcnemar([[0, 30], [14, 0]], exact=False, correction=False).pvalue, abs=2e-3)


def test_obuchowski_by_its_formula_of_pooled_proportions():
    """The variance as Obuchowski (1998) writes it, with covariance and the pooled proportion."""
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(25), rng.integers(1, 12, 25))
    before, after = rng.random((2, len(clusters))) < 0.5
    m, total = 25, len(clusters)
    n, x, y = (np.bincount(clusters, w) for w in (np.ones(total), before, after))
    pooled = (x.sum() + y.sum()) / 2 / total
    factor = m / (m - 1) / total**2
    variance = factor * (
        ((x - n * pooled) ** 2).sum() + ((y - n * pooled) ** 2).sum() - 2 * ((x - n * pooled) * (y - n * pooled)).sum()
    )
    expected = (before.mean() - after.mean()) ** 2 / variance
    assert obuchowski(before, after, clusters).statistic == pytest.approx(expected)


def test_levels_where_facts_hang_together():
    """Twenty relations that gain or lose as a whole, none of them on average: five of a hundred tests may say otherwise.
    McNemar's test on rows says so far more often."""
    rng = np.random.default_rng(1)
    clusters = np.repeat(np.arange(20), 15)
    found = {"exact": 0, "obuchowski": 0, "rows": 0}
    for _ in range(600):
        drift = rng.normal(0, 0.15, 20)[clusters]
        before, after = rng.random(300) < 0.5, rng.random(300) < np.clip(0.5 + drift, 0, 1)
        found["exact"] += clustered_mcnemar(before, after, clusters) < 0.05
        found["obuchowski"] += obuchowski(before, after, clusters).p < 0.05
        found["rows"] += clustered_mcnemar(before, after, np.arange(300)) < 0.05
    assert 0.02 <= found["exact"] / 600 <= 0.065, "an exact test keeps somewhat below its level"
    assert 0.02 <= found["obuchowski"] / 600 <= 0.07
    assert found["rows"] / 600 > 0.1


def test_two_tests_agree_where_both_hold():
    rng = np.random.default_rng(2)
    clusters = np.repeat(np.arange(60), 8)
    before, after = rng.random(480) < 0.5, rng.random(480) < 0.42
    assert clustered_mcnemar(before, after, clusters) == pytest.approx(obuchowski(before, after, clusters).p, abs=0.01)


def test_few_clusters_cannot_be_significant():
    before, after = np.ones(12, bool), np.zeros(12, bool)
    assert clustered_mcnemar(before, after, np.repeat(np.arange(4), 3)) == pytest.approx(2 / 16)
    with pytest.raises(BadResult, match="two at least"):
        obuchowski(before, after, np.zeros(12, int))
    assert obuchowski(before, before, np.arange(12)).p == 1


def test_corrections_by_hand_and_scipy():
    p = pd.Series([0.01, np.nan, 0.04, 0.03, 0.005], index=list("abcde"))
    assert corrected(p, "holm").tolist() == pytest.approx([0.03, np.nan, 0.06, 0.06, 0.02], nan_ok=True)
    expected = stats.false_discovery_control(p.dropna(), method="bh")
    assert corrected(p, "fdr_bh").dropna().tolist() == pytest.approx(expected.tolist())
    assert corrected(p, "fdr_bh").index.tolist() == list("abcde")
    assert corrected(pd.Series([np.nan, np.nan])).isna().all()
    with pytest.raises(BadRequest, match="no correction 'bonferoni'"):
        corrected(p, "bonferoni")
    with pytest.raises(BadResult, match="above 1"):
        corrected(pd.Series([0.5, 1.2]))


@pytest.mark.parametrize("size", [1, 2, 7, 40])
def test_corrections_are_those_of_statsmodels(size):
    p = np.round(np.random.default_rng(size).beta(0.3, 1, size), 2)  # some of them equal
    for method in ("holm", "fdr_bh"):
        expected = multipletests(p, method=method)[1]
        assert corrected(pd.Series(p), method).tolist() == pytest.approx(expected.tolist())
