"""The paired bootstrap: facts drawn again with all that belongs to them, every recipe scored on the same draw.

A resample draws clusters (facts) with replacement, each with all its rows. One set of draws serves all recipes of a model
and protocol. `scipy.stats.bootstrap` has neither clusters nor statistics that share their draws.

Percentile intervals are "expanded" (Hesterberg 2015), as Student's t and the bootstrap's own factor (G-1)/G require. Shares
of right answers get half a made-up fact on average for each of the four outcomes (right or wrong, before and after) in every
resample, as Agresti and Min (2005) add to the pairs of a Wald interval. Without them, a sample in which no fact happened to
flip would give an interval of no length: coverage fell to 60 % for small accuracies and mild compression.

In simulations with 100 to 500 facts, intervals of differences and retentions hold the truth in 93 to 97 of 100 samples; in
98 to 99 where fewer than about five facts flip. A retention has none where one baseline in a hundred does not beat chance.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import ndtr, stdtrit

from kc_utils.stats.intervals import NAN, effective_clusters

RESAMPLES = 2000
PART = 2_000_000  # draws that are counted at a time


@lru_cache(maxsize=16)
def counts(size: int, seed: int = 0, resamples: int = RESAMPLES) -> np.ndarray:
    """Return how often each of `size` clusters is drawn in each resample, (resamples, size) small integers."""
    rng, parts, at_once = np.random.default_rng([seed, size]), [], max(1, PART // size)
    for start in range(0, resamples, at_once):
        part = min(at_once, resamples - start)
        drawn = rng.integers(0, size, size=(part, size)) + size * np.arange(part)[:, None]
        found = np.bincount(drawn.ravel(), minlength=part * size).reshape(part, size)
        parts.append(found.astype(np.uint8 if found.max() < 256 else np.uint32))
    return np.concatenate(parts)


def cluster_sums(values: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Return (G, k): the columns of values (n, k) summed over the rows of each cluster."""
    return np.stack([np.bincount(clusters, column) for column in np.asarray(values, float).T], axis=1)


def resampled_sums(sums: np.ndarray, seed: int = 0, resamples: int = RESAMPLES) -> np.ndarray:
    """Return (resamples, k): totals of clusters drawn with replacement from the rows of sums (G, k)."""
    drawn, step = counts(len(sums), seed, resamples), max(1, PART // len(sums))
    return np.concatenate([drawn[i : i + step].astype(float) @ sums for i in range(0, len(drawn), step)])


@lru_cache(maxsize=64)
def made_up(seed: int, weight: float, resamples: int = RESAMPLES) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (right after, right before, all) of the made-up facts in each resample, in rows; weight: rows of one fact.

    Half a fact of each outcome on average, Poisson, as drawing n + 2 facts from n real and 2 made-up ones would give.
    """
    cells = np.random.default_rng([seed, 1]).poisson(0.5, size=(4, resamples)) * weight
    return cells[0] + cells[1], cells[0] + cells[2], cells.sum(axis=0)


@dataclass(frozen=True)
class Resamples:
    """Totals of each resample. right: (k, resamples) right answers of k models or recipes; chance, items: (resamples,);
    guess: mean chance of a row; weight: rows of one fact, on average; effective: clusters that these count as."""

    right: np.ndarray
    chance: np.ndarray
    items: np.ndarray
    guess: float
    weight: float
    effective: float

    @classmethod
    def of(cls, right: np.ndarray, chance: np.ndarray, facts: np.ndarray, seed: int = 0, resamples: int = RESAMPLES):
        """right: (k, n) booleans; chance: (n,); facts: (n,) numbers from 0 of what is drawn together."""
        right, chance = np.asarray(right, float), np.asarray(chance, float)
        sizes = np.bincount(facts)
        sums = cluster_sums(np.vstack([right, chance, np.ones(len(chance))]).T, facts)
        totals = resampled_sums(sums, seed, resamples).T
        weight = len(chance) / np.count_nonzero(sizes)
        return cls(totals[:-2], totals[-2], totals[-1], float(chance.mean()), weight, effective_clusters(sizes))

    def retention(self, after: int, before: int, seed: int = 0) -> np.ndarray:
        """Return the retention in each resample; NaN where its baseline does not beat chance. seed: of made-up facts."""
        extra_after, extra_before, extra = made_up(seed, self.weight, len(self.items))
        guessed = self.chance + extra * self.guess
        known = self.right[before] + extra_before - guessed
        known[known <= 1e-9 * (self.items + extra)] = np.nan
        return (self.right[after] + extra_after - guessed) / known

    def difference(self, after: int, before: int, seed: int = 0) -> np.ndarray:
        """Return the difference of accuracies in each resample."""
        extra_after, extra_before, extra = made_up(seed, self.weight, len(self.items))
        return (self.right[after] + extra_after - self.right[before] - extra_before) / (self.items + extra)

    def interval(self, values: np.ndarray) -> tuple[float, float]:
        return expanded_interval(values, self.effective)


def expanded_interval(values: np.ndarray, effective: float) -> tuple[float, float]:
    """Return the expanded percentile interval of resampled values from so many effective clusters.

    NaN where more than 1 % of the values are undefined, or there are not two clusters.
    """
    defined = values[~np.isnan(values)]
    if not effective > 1 or len(defined) < 0.99 * len(values):
        return NAN
    tail = float(ndtr(-math.sqrt(effective / (effective - 1)) * stdtrit(effective - 1, 0.975)))
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)


def mean_interval(
    values: np.ndarray, clusters: np.ndarray, seed: int = 0, weights: np.ndarray | None = None
) -> tuple[float, float]:
    """Return the interval of sum(values) / sum(weights), for quantities that are no shares of right answers.

    values: (n,) log-probabilities, bits, answers that agree; clusters: (n,) numbers of what is drawn together; weights: (n,).
    The studentised bootstrap (Efron and Tibshirani 1993, chapter 12): it follows the skew of such quantities, where
    percentile intervals are too short. NaN with fewer than two clusters or a value that is not finite.
    """
    values = np.asarray(values, float)
    weights = np.ones_like(values) if weights is None else np.asarray(weights, float)
    if not (np.isfinite(values).all() and np.isfinite(weights).all()):
        return NAN
    sums = cluster_sums(np.stack([values, weights], axis=1), clusters)
    sums = sums[sums[:, 1] > 0]
    if len(sums) < 2:
        return NAN
    x, m = sums.T
    products = np.stack([x, m, x * x, x * m, m * m], axis=1)
    estimate, error = (float(v) for v in _ratio(*products.sum(axis=0), len(sums)))
    if error == 0:
        return estimate, estimate
    means, errors = _ratio(*resampled_sums(products, seed).T, len(sums))
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(errors > 0, (means - estimate) / errors, np.nan)
    # resamples of one cluster over and over have no spread of their own; few clusters give many of them
    if np.isnan(t).mean() > 0.01:
        reach = float(stdtrit(max(effective_clusters(m) - 1, 1), 0.975)) * error
        return estimate - reach, estimate + reach
    low, high = np.quantile(t[~np.isnan(t)], [0.025, 0.975])
    return float(estimate - high * error), float(estimate - low * error)


def _ratio(x, m, xx, xm, mm, count: int):
    """A ratio of sums and its linearised standard error."""
    ratio = x / m
    variance = count / (count - 1) * (xx - 2 * ratio * xm + ratio**2 * mm) / m**2
    rounding = 1e-12 * xx / m**2  # of the differences between sums
    return ratio, np.sqrt(np.where(variance > rounding, variance, 0.0))
