"""Tests of paired answers, and corrections for many of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from kc_utils.errors import BadRequest, BadResult, listed

CORRECTIONS = ("holm", "fdr_bh")


def clustered_mcnemar(before: np.ndarray, after: np.ndarray, clusters: np.ndarray) -> float:
    """Exact two-sided p that an answer is as likely lost as gained, for rows that hang together in clusters.

    before, after  (n,) booleans
    clusters       (n,) numbers

    With one row in each cluster this is McNemar's exact test (McNemar 1947). Otherwise each cluster gives its losses less
    its gains, and the test is Fisher's randomisation test of their sum: under the hypothesis every such difference could
    as well have the other sign. The distribution is computed, not drawn. Facts asked in three wordings, all lost together,
    so count as one loss of weight three and not as three. With few clusters p cannot be small: six relations give at
    least 2/64.
    """
    net = _net_losses(before, after, clusters)
    sizes, counts = np.unique(np.abs(net[net != 0]), return_counts=True)
    chances = np.ones(1)  # of sums -reach ... reach of all sizes so far, each of either sign
    for size, count in zip(sizes, counts, strict=True):
        own = np.zeros(2 * size * count + 1)
        own[:: 2 * size] = stats.binom.pmf(np.arange(count + 1), count, 0.5)
        chances = np.convolve(chances, own)
    reach = len(chances) // 2
    observed = abs(int(net.sum()))
    if observed == 0:
        return 1.0
    return float(min(1.0, chances[: reach - observed + 1].sum() + chances[reach + observed :].sum()))


@dataclass(frozen=True)
class ObuchowskiTest:
    """statistic, chi-squared on 1 degree of freedom, of so many clusters, and its p."""

    statistic: float
    clusters: int
    p: float


def obuchowski(before: np.ndarray, after: np.ndarray, clusters: np.ndarray) -> ObuchowskiTest:
    """Obuchowski's test (1998) of two proportions of the same clustered rows, for comparison with the exact one.

    (G-1)/G times the squared sum of each cluster's losses less gains, over the sum of their squares; with one row in each
    cluster McNemar's chi-squared but for the first factor. It keeps below its level with few clusters. Raises BadResult
    for fewer than two.
    """
    net = _net_losses(before, after, clusters).astype(float)
    if len(net) < 2:
        raise BadResult("a test over clusters needs two at least: give more facts or relations")
    squares = float(net @ net)
    statistic = (len(net) - 1) / len(net) * float(net.sum()) ** 2 / squares if squares else 0.0
    return ObuchowskiTest(statistic, len(net), float(stats.chi2.sf(statistic, 1)))


def _net_losses(before: np.ndarray, after: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Rows lost less rows gained in each cluster, integers."""
    change = np.asarray(before, int) - np.asarray(after, int)
    return np.round(np.bincount(np.unique(clusters, return_inverse=True)[1], change)).astype(int)


def corrected(p: pd.Series, method: str = "holm") -> pd.Series:
    """p-values corrected for their number; missing ones stay missing and do not count.

    holm    no false claim among all, with 95 % probability (Holm 1979): for the recipes of a page
    fdr_bh  at most 5 % false claims among those made, on average (Benjamini and Hochberg 1995): for long lists, such as
            relations times recipes
    """
    if method not in CORRECTIONS:
        raise BadRequest(f"no correction {method!r}: choose {listed(CORRECTIONS)}")
    found = pd.Series(np.nan, p.index, dtype=float)
    known = p.notna()
    if not p[known].between(0, 1).all():
        raise BadResult("p-values below 0 or above 1 cannot be corrected: give probabilities")
    if known.any():
        values = p[known].to_numpy(float)
        found[known] = _holm(values) if method == "holm" else stats.false_discovery_control(values, method="bh")
    return found


def _holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down correction. (statsmodels' collects Python's garbage at every call, which takes longer than the page.)"""
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    found = np.empty_like(p)
    found[order] = np.minimum(stepped, 1)
    return found
