"""The paired bootstrap: its draws against theory and scipy, its intervals against simulation, its speed."""

import math
import time

import numpy as np
import pytest
from scipy import stats

from kc_utils.stats.bootstrap import (
    cluster_sums,
    expanded_interval,
    made_up_pairs,
    mean_interval,
    resampled_sums,
)
from kc_utils.stats.statistics import PairedResamples, compare, retention
from tests.stats.made import beta, frame, worded


def test_sums_of_clusters():
    sums = cluster_sums(np.array([[1.0, 10], [2, 20], [4, 40]]), np.array([1, 0, 1]))
    assert sums.tolist() == [[2, 20], [5, 50]]


@pytest.mark.parametrize("kinds", [3, 400], ids=["few kinds", "all different"])
def test_draws_have_the_moments_of_drawing_with_replacement(kinds):
    rng = np.random.default_rng(0)
    sums = rng.normal(1, 2, size=(kinds, 2))[rng.integers(0, kinds, 400)]
    drawn = resampled_sums(sums, seed=1, resamples=20_000)
    assert drawn.mean(axis=0) == pytest.approx(sums.sum(axis=0), rel=0.01, abs=1.0)
    assert np.cov(drawn.T) == pytest.approx(400 * np.cov(sums.T, ddof=0), rel=0.06, abs=8)


def test_the_order_of_clusters_makes_no_difference():
    sums = np.random.default_rng(0).normal(size=(50, 2))
    assert (resampled_sums(sums, 3) == resampled_sums(sums[::-1], 3)).all()
    assert (resampled_sums(sums, 3) != resampled_sums(sums, 4)).any()


def test_parts_of_many_draws_are_as_one(monkeypatch):
    sums = np.random.default_rng(0).normal(size=(50, 1))
    monkeypatch.setattr("kc_utils.stats.bootstrap.CELLS", 500)
    drawn = resampled_sums(sums, 3, resamples=2005)
    assert drawn.shape == (2005, 1)
    assert drawn.std() == pytest.approx(math.sqrt(50) * sums.std(), rel=0.05)


def test_made_up_facts_are_half_a_fact_for_each_outcome():
    after, before, items = made_up_pairs(0, 40_000, weight=3.0)
    assert items.mean() / 3 == pytest.approx(2, abs=0.03)
    assert after.mean() / 3 == pytest.approx(1, abs=0.03)
    assert before.mean() / 3 == pytest.approx(1, abs=0.03)
    assert np.cov(after, before)[0, 1] / 9 == pytest.approx(0.5, abs=0.03), "of which half a fact is right twice"


def test_the_expanded_interval_of_normal_values_is_students():
    values = stats.norm.ppf((np.arange(100_000) + 0.5) / 100_000)
    low, high = expanded_interval(values, effective=10)
    assert high == pytest.approx(stats.t.ppf(0.975, 9) * math.sqrt(10 / 9), rel=1e-3)
    assert low == pytest.approx(-high, rel=1e-6)
    assert expanded_interval(values, 1e9)[1] == pytest.approx(1.96, abs=1e-3)
    assert all(math.isnan(x) for x in expanded_interval(np.array([1.0, np.nan] * 50), 50))
    assert all(math.isnan(x) for x in expanded_interval(values, 1.0))


def test_the_interval_of_a_difference_agrees_with_scipys_bootstrap():
    """On many facts with many flips, where the made-up ones and the expansion are nothing."""
    rng = np.random.default_rng(2)
    before = rng.random(2000) < 0.6
    after = np.where(before, rng.random(2000) < 0.7, rng.random(2000) < 0.2)
    low, high = compare(frame(after), frame(before)).difference_ci95
    change = (after.astype(float) - before,)
    other = stats.bootstrap(change, np.mean, method="percentile", n_resamples=4000, rng=0).confidence_interval
    assert (low, high) == pytest.approx((other.low, other.high), abs=0.003)
    kept = compare(frame(after), frame(before)).retention_ci95

    def kept_of(a, b, axis):
        return (a.mean(axis) - 0.1) / (b.mean(axis) - 0.1)

    other = stats.bootstrap(
        (after, before), kept_of, paired=True, method="percentile", n_resamples=4000, rng=0, batch=500
    ).confidence_interval
    assert kept == pytest.approx((other.low, other.high), abs=0.006)


def test_wordings_of_a_fact_are_not_taken_for_more_facts():
    rng = np.random.default_rng(3)
    before, after = rng.random(150) < 0.6, rng.random(150) < 0.4
    once = compare(frame(after), frame(before))
    thrice = compare(worded(frame(after), 3), worded(frame(before), 3))
    for name in ("retention_ci95", "difference_ci95"):
        assert getattr(thrice, name) == pytest.approx(getattr(once, name), abs=0.02)
    assert (once.n, thrice.n, thrice.clusters) == (150, 450, 150)
    assert thrice.p_mcnemar == pytest.approx(once.p_mcnemar)


def test_two_thousand_resamples_of_two_thousand_rows_are_quick():
    rng = np.random.default_rng(4)
    chance = rng.random(2000) / 10  # every row another kind: the slow way
    args = (rng.random(2000) < 0.4, rng.random(2000) < 0.6, chance, np.arange(2000), 1.0, 0)
    PairedResamples.of(*args)
    began = time.perf_counter()
    resamples = PairedResamples.of(*args)
    resamples.retention_interval(), resamples.difference_interval()
    assert time.perf_counter() - began < 0.5


def coverage(base, keep, gain, chance, sizes, wordings=1, correlation=0.0, samples=400, cluster="fact", seed=0):
    """How often the intervals of difference and retention hold the truth; relations vary in all three probabilities."""
    rng = np.random.default_rng(seed)
    relations = np.repeat(np.arange(len(sizes)), sizes)
    facts = np.arange(len(relations))
    truth = base * keep + (1 - base) * gain
    hits, kept, defined = 0, 0, 0
    for _ in range(samples):
        p, k, g = (beta(x, correlation, len(sizes), rng)[relations] for x in (base, keep, gain))
        before = rng.random(len(facts)) < p
        after = np.where(before, rng.random(len(facts)) < k, rng.random(len(facts)) < g)
        clusters = np.tile(facts if cluster == "fact" else relations, wordings)
        drawn = PairedResamples.of(
            np.tile(after, wordings),
            np.tile(before, wordings),
            np.full(len(clusters), chance),
            clusters,
            wordings,
            0,
            1000,
        )
        low, high = drawn.difference_interval()
        hits += low <= truth - base <= high
        low, high = drawn.retention_interval()
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
    found = np.array([coverage(*case[1:], [case[0]], samples=400, seed=case[0]) for case in cases])
    assert (found[:, 2] > 0.95).all(), "defined"
    assert ((found[:, :2] >= 0.93) & (found[:, :2] <= 0.97)).mean() > 0.7
    assert ((found[:, :2] >= 0.92) & (found[:, :2] <= 0.98)).all()
    assert found[:, :2].mean(axis=0) == pytest.approx([0.95, 0.95], abs=0.01)


def test_where_next_to_nothing_flips_the_interval_is_too_wide_and_not_too_short():
    difference, kept, _ = coverage(0.1, 0.95, 0.002, 0, [100], samples=300)
    assert min(difference, kept) > 0.97


def test_coverage_with_several_wordings():
    difference, kept, _ = coverage(0.4, 0.6, 0.05, 0.1, [120], wordings=3, samples=500)
    assert 0.93 <= difference <= 0.97
    assert 0.93 <= kept <= 0.97


@pytest.mark.parametrize(
    ("base", "keep", "gain", "chance", "correlation", "relations"),
    [
        (0.3, 0.5, 0.05, 0, 0.1, 20),
        (0.7, 0.8, 0.05, 0.1, 0.05, 20),
        (0.5, 0.5, 0.1, 0.1, 0.05, 12),
        (0.9, 0.5, 0.1, 0.1, 0.05, 30),
    ],
)
def test_coverage_over_relations(base, keep, gain, chance, correlation, relations):
    sizes = np.round(14 * np.exp(np.linspace(-0.8, 0.8, relations))).astype(int)
    difference, kept, _ = coverage(
        base, keep, gain, chance, sizes, correlation=correlation, cluster="relation", samples=500, seed=relations
    )
    assert 0.92 <= difference <= 0.98
    assert 0.92 <= kept <= 0.98


def test_relations_not_asked_are_less_certain_than_facts_not_asked():
    rng = np.random.default_rng(5)
    relation = np.repeat([f"r{i}" for i in range(20)], 25)
    keep = np.repeat(beta(0.5, 0.3, 20, rng), 25)
    before = rng.random(500) < 0.6
    rows = [frame(x, relation=relation) for x in (before & (rng.random(500) < keep), before)]
    by_fact, by_relation = compare(*rows), compare(*rows, cluster="relation")
    assert (by_fact.clusters, by_relation.clusters) == (500, 20)
    width = [c.retention_ci95[1] - c.retention_ci95[0] for c in (by_fact, by_relation)]
    assert width[1] > 1.5 * width[0]
    assert by_fact.retention == by_relation.retention


def test_the_interval_of_a_mean_of_normal_values_is_students():
    values = np.random.default_rng(6).normal(3, 2, size=400)
    low, high = mean_interval(values, np.arange(400))
    expected = stats.t.interval(0.95, 399, values.mean(), stats.sem(values))
    assert (low, high) == pytest.approx(expected, abs=0.03)


def test_coverage_of_the_mean_of_a_skewed_quantity():
    """Exponential values, as divergences are: percentile intervals hold the truth in some 92 of 100 samples."""
    rng = np.random.default_rng(7)
    hits = sum(
        low <= 1 <= high
        for low, high in (mean_interval(rng.exponential(size=100), np.arange(100), i) for i in range(400))
    )
    assert 0.93 <= hits / 400 <= 0.97


def test_coverage_of_a_ratio_over_clusters():
    rng, hits = np.random.default_rng(8), 0
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
    low, high = mean_interval(np.array([1.0, 2.0, 4.0]), np.arange(3))
    assert low < 7 / 3 < high, "few clusters: Student's interval"
