"""95 % intervals of proportions and means, and tests of paired answers.

A proportion carries Wilson's interval (Wilson 1927). Where rows hang together, because a fact is queried with several
templates, the number of rows gives way to the number of independent rows that would have the same variance (Kish 1965;
compared with other intervals by Franco et al. 2019), and the normal quantile to Student's. In simulations with 100 to 500
facts and true accuracies of 5 to 90 % these intervals hold the truth in 93 to 97 of 100 samples.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from kc_utils.errors import BadResult

NAN = (math.nan, math.nan)


def wilson(correct: float, n: float, alpha: float = 0.05) -> tuple[float, float]:
    """Return Wilson's interval of `correct` right answers among n independent ones; NaN for none."""
    if not n > 0:
        return NAN
    low, high = proportion_confint(correct, n, alpha=alpha, method="wilson")
    return min(float(low), correct / n), max(float(high), correct / n)  # without the last bit of rounding at 0 and 1


def clustered_wilson(right: np.ndarray, clusters: np.ndarray) -> tuple[float, float]:
    """Return Wilson's interval of the share of right rows, for rows that are drawn in clusters.

    right     (n,) booleans
    clusters  (n,) numbers of what is drawn together; clusters of one row each give `wilson`

    The variance is that of a ratio of cluster sums (Cochran 1977, section 11.8). Where all answers are alike it says
    nothing, and rows of one cluster count once. NaN for a single cluster.
    """
    right = np.asarray(right, float)
    sizes = np.bincount(clusters) if len(right) else np.zeros(0)
    sizes = sizes[sizes > 0]
    if len(sizes) == len(right):
        return wilson(right.sum(), len(right))
    effective = effective_clusters(sizes)
    if not effective > 1:
        return NAN
    p = right.mean()
    residuals = np.bincount(clusters, right - p)
    variance = len(sizes) / (len(sizes) - 1) * (residuals @ residuals) / len(right) ** 2
    n = p * (1 - p) / variance if 0 < p < 1 and variance > 0 else effective
    reach = stats.t.ppf(0.975, effective - 1)
    return wilson(p * n, n, alpha=2 * stats.norm.sf(reach))


def effective_clusters(sizes: np.ndarray) -> float:
    """Return how many clusters of equal size weigh as much as these (Carter et al. 2017)."""
    sizes = np.asarray(sizes, float)
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def t_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return Student's t interval of the mean of independent values; NaN for fewer than two, or one that is not finite."""
    values = np.asarray(values, float)
    if len(values) < 2 or not np.isfinite(values).all():
        return NAN
    if not values.std():
        return float(values[0]), float(values[0])
    low, high = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
    return float(low), float(high)


def mcnemar(before: np.ndarray, after: np.ndarray, clusters: np.ndarray) -> float:
    """Return the exact two-sided p that an answer is as likely lost as gained.

    before, after  (n,) booleans
    clusters       (n,) numbers of rows that hang together

    With one row in each cluster this is McNemar's exact test (1947). Otherwise each cluster gives its losses less its
    gains, and the test is Fisher's randomisation test of their sum: under the hypothesis every difference could as well
    have the other sign. The distribution is computed, not drawn. A fact that is lost with all its three templates so counts
    as one loss of weight three.
    """
    net = np.bincount(clusters, np.asarray(before, float) - np.asarray(after, float)).round().astype(int)
    sizes, counts = np.unique(np.abs(net[net != 0]), return_counts=True)
    chances = np.ones(1)  # of sums -reach ... reach of all sizes so far, each of either sign
    for size, count in zip(sizes, counts, strict=True):
        own = np.zeros(2 * size * count + 1)
        own[:: 2 * size] = stats.binom.pmf(np.arange(count + 1), count, 0.5)
        chances = np.convolve(chances, own)
    reach, observed = len(chances) // 2, abs(int(net.sum()))
    if observed == 0:
        return 1.0
    return float(min(1.0, chances[: reach - observed + 1].sum() + chances[reach + observed :].sum()))


def holm(p: Sequence[float]) -> np.ndarray:
    """Correct p-values for their number (Holm 1979); missing ones stay missing and do not count. Raises BadResult for others.

    (statsmodels' `multipletests` gives the same and collects Python's garbage at every call, longer than a page takes.)
    """
    p = np.asarray(p, float)
    known = np.flatnonzero(~np.isnan(p))
    if ((p[known] < 0) | (p[known] > 1)).any():
        raise BadResult("p-values below 0 or above 1 cannot be corrected: give probabilities")
    order = known[np.argsort(p[known], kind="stable")]
    found = np.full(len(p), math.nan)
    found[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)), 1)
    return found
