"""How far a compressed model's answers moved, also where right stayed right: in bits, from stored scores.

Closed sets (ranking, its open-book twin, harness tasks) store the score of every candidate: their softmax is the model's
distribution over the answers, and its Kullback-Leibler divergence to the uncompressed model's is what Dutta et al. (2024,
arXiv 2407.09141) report beside flips. A cloze row stores the log-probability of the right answer alone: there, its mean
change is given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from scipy.special import log_softmax

from kc_utils.stats.bootstrap import mean_interval
from kc_utils.stats.items import ITEM, clusters_of, in_order, paired
from kc_utils.errors import BadRequest, BadResult


@dataclass(frozen=True)
class MeanBits:
    """Mean of a quantity in bits over the n items that are valid in both frames, with its 95 % interval.

    left_out   items of which one model gave no scores that are numbers; the mean says nothing of them
    infinite   items, among the n, at which the quantity is infinite: the mean then is too, the median may not be
    """

    n: int
    left_out: int
    infinite: int
    mean: float
    ci95: tuple[float, float]
    median: float

    def to_dict(self) -> dict:
        return asdict(self)


def divergence(rows: pd.DataFrame, baseline: pd.DataFrame, seed: int = 0, cluster: str = "fact") -> MeanBits:
    """Mean KL divergence of the compressed model's answer distribution from the uncompressed one's, in bits.

    0: the same distribution; log2 of the number of candidates: what a model that was sure becomes when it guesses.
    Raises as `divergence_by_item`, and BadResult where no item is valid in both.
    """
    return _mean_bits(divergence_by_item(rows, baseline), "divergence", seed, cluster)


def divergence_by_item(rows: pd.DataFrame, baseline: pd.DataFrame) -> pd.DataFrame:
    """The paired rows with a column `divergence`: KL(uncompressed || compressed) in bits, NaN where one is not valid.

    sum of p (log2 p - log2 q) over the candidates, p and q the softmax of the two frames' `scores` (nats). Infinite where
    the compressed model rules out (-inf) what the uncompressed one does not.
    Raises BadRequest where rows have no scores, or not for the same candidates.
    """
    needs = ["scores", "valid", "relation"]
    joined = paired(in_order(rows, needs), in_order(baseline, needs), ["scores", "valid"])
    after, before = ([_numbers(s) for s in joined[c]] for c in ("scores", "scores_baseline"))
    lengths = np.array([len(s) for s in before])
    if (lengths < 2).any() or any(len(a) != n for a, n in zip(after, lengths, strict=True)):
        raise BadRequest(
            "an item has fewer than two scores, or not as many in both frames: a divergence takes the rows of a closed set "
            "(protocol rank, openbook or harness with choices), asked with the same candidates"
        )
    bits = np.full(len(joined), np.nan)
    valid = joined["valid"].to_numpy(bool) & joined["valid_baseline"].to_numpy(bool)
    for length in np.unique(lengths):
        at = np.flatnonzero((lengths == length) & valid)
        if len(at):
            bits[at] = kl_bits(np.stack([before[i] for i in at]), np.stack([after[i] for i in at]))
    return joined.assign(divergence=bits)


def kl_bits(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """KL divergence in bits of softmax(after) from softmax(before), along the last axis; scores in nats.

    NaN where a row has a NaN, a positive infinity, or no finite score.
    """
    with np.errstate(invalid="ignore"):
        log_p, log_q = (log_softmax(np.asarray(s, float), axis=-1) for s in (before, after))
        p = np.exp(log_p)
        terms = np.where(p > 0, p * (log_p - log_q), np.where(np.isnan(p), np.nan, 0.0))
        # rounding leaves the sum of equal distributions a hair below nothing
        return np.maximum(terms.sum(axis=-1), 0.0) / math.log(2)


def log_probability_change(
    rows: pd.DataFrame, baseline: pd.DataFrame, seed: int = 0, cluster: str = "fact"
) -> MeanBits:
    """Mean change of the log-probability of the right answer, in bits: below 0 where compression made it less likely.

    From the column `score` (nats): of its first token in cloze, of the whole statement in ranking.
    Raises BadRequest for other items, BadResult where no item is valid in both.
    """
    needs = ["score", "valid", "relation"]
    joined = paired(in_order(rows, needs), in_order(baseline, needs), ["score", "valid"])
    valid = joined["valid"].to_numpy(bool) & joined["valid_baseline"].to_numpy(bool)
    with np.errstate(invalid="ignore"):
        change = (joined["score"].astype(float) - joined["score_baseline"].astype(float)) / math.log(2)
    return _mean_bits(joined.assign(change=change.where(valid)), "change", seed, cluster)


def _numbers(scores) -> np.ndarray:
    return np.asarray(scores, float) if isinstance(scores, Sequence | np.ndarray) else np.empty(0)


def _mean_bits(joined: pd.DataFrame, column: str, seed: int, cluster: str) -> MeanBits:
    used = joined[joined[column].notna()]
    if used.empty:
        asked = ", ".join(sorted(set(joined[ITEM[0]])))
        raise BadResult(
            f"{asked}: none of {len(joined)} items has scores in both models (the compressed one may be destroyed, which its "
            "accuracy shows; generated answers have no scores)"
        )
    values = used[column].to_numpy(float)
    return MeanBits(
        n=len(used),
        left_out=len(joined) - len(used),
        infinite=int(np.isinf(values).sum()),
        mean=float(values.mean()),
        ci95=mean_interval(values, clusters_of(used, cluster), seed),
        median=float(np.median(values)),
    )
