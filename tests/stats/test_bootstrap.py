"""The paired bootstrap: its draws against theory, its intervals against scipy and simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from kc_utils.stats.bootstrap import Resamples, expanded_interval, mean_interval
from kc_utils.stats.compare import retention


def test_the_expanded_interval_of_normal_values_is_students():
    values = stats.norm.ppf((np.arange(100_000) + 0.5) / 100_000)
    low, high = expanded_interval(values, effective=10)
    assert high == pytest.approx(stats.t.ppf(0.975, 9) * math.sqrt(10 / 9), rel=1e-3)
    assert low == pytest.approx(-high, rel=1e-6)
    assert expanded_interval(values, 1e9)[1] == pytest.approx(1.96, abs=1e-3)
    assert all(math.isnan(x) for x in expanded_interval(np.array([1.0, np.nan] * 50), 50))
    assert all(math.isnan(x) for x in expanded_interval(values, 1.0))


def test_intervals_agree_with_scipys_bootstrap():
    """On many facts with many flips, where the made-up ones and the expansion are nothing."""
    rng = np.random.default_rng(2)
    before = rng.random(2000) < 0.6
    after = np.where(before, rng.random(2000) < 0.7, rng.random(2000) < 0.2)
    drawn = Resamples.of(np.stack([before, after]), np.full(2000, 0.1), np.arange(2000))
    other = stats.bootstrap((after.astype(float) - before,), np.mean, method="percentile", n_resamples=4000, rng=0)
    other = other.confidence_interval
    assert drawn.interval(drawn.difference(1, 0)) == pytest.approx((other.low, other.high), abs=0.003)

    def kept_of(a, b, axis):
        return (a.mean(axis) - 0.1) / (b.mean(axis) - 0.1)

    other = stats.bootstrap(
        (after, before), kept_of, paired=True, method="percentile", n_resamples=4000, rng=0, batch=500
    ).confidence_interval
    assert drawn.interval(drawn.retention(1, 0)) == pytest.approx((other.low, other.high), abs=0.006)


def coverage(base, keep, gain, chance, facts, rows=1, samples=400, seed=0):
    """How often the intervals of difference and retention hold the truth, and how often retention has one."""
    rng = np.random.default_rng(seed)
    truth = base * keep + (1 - base) * gain
    hits, kept, defined = 0, 0, 0
    for _ in range(samples):
        before = rng.random(facts) < base
        after = np.where(before, rng.random(facts) < keep, rng.random(facts) < gain)
        right = np.stack([np.tile(before, rows), np.tile(after, rows)])
        drawn = Resamples.of(right, np.full(facts * rows, chance), np.tile(np.arange(facts), rows), 0, 1000)
        low, high = drawn.interval(drawn.difference(1, 0))
        hits += low <= truth - base <= high
        low, high = drawn.interval(drawn.retention(1, 0))
        defined += low == low
        kept += low <= retention(truth, base, chance) <= high
    return hits / samples, kept / defined, defined / samples


def test_coverage_over_facts():
    """Each case within what 400 samples allow, all 3,200 together within 1 %."""
    cases = [  # facts, known before, kept of them, gained of the others, chance
        (100, 0.1, 0.2, 0.1, 0),
        (100, 0.3, 0.8, 0.05, 0.1),
        (100, 0.9, 0.8, 0.05, 0.1),
        (250, 0.05, 0.5, 0.02, 0),
        (250, 0.7, 0.95, 0.01, 0.1),
        (500, 0.05, 0.95, 0.01, 0),
        (500, 0.3, 0.2, 0.1, 0.1),
        (500, 0.7, 0.5, 0.02, 0.5),
    ]
    found = np.array([coverage(*case[1:], case[0], seed=case[0]) for case in cases])
    assert (found[:, 2] > 0.95).all(), "defined"
    assert ((found[:, :2] >= 0.92) & (found[:, :2] <= 0.98)).all()
    assert found[:, :2].mean(axis=0) == pytest.approx([0.95, 0.95], abs=0.01)


def test_coverage_where_next_to_nothing_flips_and_with_several_templates():
    difference, kept, _ = coverage(0.1, 0.95, 0.002, 0, 100, samples=300)
    assert min(difference, kept) > 0.97, "wider than need be, not shorter"
    difference, kept, _ = coverage(0.4, 0.6, 0.05, 0.1, 120, rows=3, samples=500)
    assert 0.93 <= difference <= 0.97
    assert 0.93 <= kept <= 0.97


def test_the_interval_of_a_mean_of_normal_values_is_students():
    values = np.random.default_rng(6).normal(3, 2, size=400)
    low, high = mean_interval(values, np.arange(400))
    expected = stats.t.interval(0.95, 399, values.mean(), stats.sem(values))
    assert (low, high) == pytest.approx(expected, abs=0.03)


def test_coverage_of_the_mean_of_a_skewed_quantity_and_of_a_ratio_over_clusters():
    """Exponential values: percentile intervals hold the truth in some 92 of 100 samples."""
    rng = np.random.default_rng(7)
    hits = sum(
        low <= 1 <= high for low, high in (mean_interval(rng.exponential(size=100), np.arange(100), i) for i in range(400))
    )
    assert 0.93 <= hits / 400 <= 0.97
    hits = 0
    for i in range(400):
        weights = rng.integers(1, 20, size=30).repeat(5).astype(float)
        level = rng.normal(2, 0.5, size=30).repeat(5)
        low, high = mean_interval(weights * (level + rng.normal(0, 1, 150)), np.repeat(np.arange(30), 5), i, weights)
        hits += low <= 2 <= high
    assert 0.925 <= hits / 400 <= 0.975


def test_means_without_spread_or_without_sense():
    assert mean_interval(np.full(30, 0.1), np.arange(30)) == pytest.approx((0.1, 0.1))
    assert all(math.isnan(x) for x in mean_interval(np.array([1.0, 2.0]), np.zeros(2, int)))
    assert all(math.isnan(x) for x in mean_interval(np.array([1.0, np.inf, 2.0]), np.arange(3)))
