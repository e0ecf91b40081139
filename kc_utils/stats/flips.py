"""Answers that flip: right before and wrong after, or the reverse, beside what guessing alone would bring.

Accuracy can stay while answers change (Dutta et al. 2024, arXiv 2407.09141). But where a wrong fact is guessed, some
answers change though nothing was learnt or forgotten, so flips are shown beside three references.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from kc_utils.stats.intervals import clustered_wilson
from kc_utils.stats.items import checked, clusters_of, paired
from kc_utils.stats.statistics import chance_of


@dataclass(frozen=True)
class Flips:
    """Shares of all n items unless said otherwise; intervals are 95 %.

    flips               lost + gained
    lost_of_right       share lost of the items that were right before; NaN where none was
    gained_of_wrong     share gained of those that were wrong before
    least               the fewest flips that the two accuracies allow: their difference
    guessing_lost, guessing_gained, guessing
                        expected if the model did nothing but forget (or learn) what the accuracies say, and guessed anew,
                        with each item's chance, whatever it does not know
    unrelated           expected if the two models' right answers had nothing to do with each other
    agreement           Cohen's kappa (1960): 1 no flips, 0 as many as unrelated answers have
    """

    n: int
    lost: float
    gained: float
    flips: float
    flips_ci95: tuple[float, float]
    lost_of_right: float
    lost_of_right_ci95: tuple[float, float]
    gained_of_wrong: float
    gained_of_wrong_ci95: tuple[float, float]
    least: float
    guessing_lost: float
    guessing_gained: float
    guessing: float
    unrelated: float
    agreement: float

    def to_dict(self) -> dict:
        return asdict(self)


def flips(rows: pd.DataFrame, baseline: pd.DataFrame, measure: str = "correct", cluster: str = "fact") -> Flips:
    """Count flips and what to expect of them. Raises as `statistics.compare`.

    If `flips_ci95` lies above `guessing`, more changed than forgetting and renewed guesses explain. A compressed model
    usually repeats most of its guesses, so fewer flips than `guessing` are no sign of precision.
    """
    joined = paired(checked(rows, measure, ["chance"]), checked(baseline, measure, ["chance"]), [measure])
    after, before = joined[measure].to_numpy(bool), joined[f"{measure}_baseline"].to_numpy(bool)
    clusters = clusters_of(joined, cluster)
    changed = after != before
    p, q = float(before.mean()), float(after.mean())
    guessing_lost, guessing_gained = guessed_flips(p, q, chance_of(joined, measure))
    unrelated = p * (1 - q) + q * (1 - p)
    lost_share, lost_interval = _share(~after, clusters, before)
    gained_share, gained_interval = _share(after, clusters, ~before)
    return Flips(
        n=len(joined),
        lost=float((before & ~after).mean()),
        gained=float((~before & after).mean()),
        flips=float(changed.mean()),
        flips_ci95=clustered_wilson(changed, clusters),
        lost_of_right=lost_share,
        lost_of_right_ci95=lost_interval,
        gained_of_wrong=gained_share,
        gained_of_wrong_ci95=gained_interval,
        least=abs(p - q),
        guessing_lost=guessing_lost,
        guessing_gained=guessing_gained,
        guessing=guessing_lost + guessing_gained,
        unrelated=unrelated,
        agreement=1 - float(changed.mean()) / unrelated if unrelated else math.nan,
    )


def guessed_flips(before: float, after: float, chance: np.ndarray) -> tuple[float, float]:
    """Expected shares lost and gained by forgetting and guessing alone, from two accuracies and each item's chance.

    An item is known, or guessed rightly with its chance c: accuracy = k + (1 - k) c. What is known after is a part of what
    was known before (or the reverse, where the compressed model is the better one); guesses are independent.
    """
    c = float(np.mean(chance))
    if c >= 1:
        return 0.0, 0.0
    known_before, known_after = (min(1.0, max(0.0, (a - c) / (1 - c))) for a in (before, after))
    both_guess = (1 - max(known_before, known_after)) * float(np.mean(chance * (1 - chance)))
    forgotten = max(known_before - known_after, 0.0) * (1 - c)
    learnt = max(known_after - known_before, 0.0) * (1 - c)
    return forgotten + both_guess, learnt + both_guess


def _share(what: np.ndarray, clusters: np.ndarray, among: np.ndarray) -> tuple[float, tuple[float, float]]:
    """Share with its interval among the rows chosen."""
    if not among.any():
        return math.nan, (math.nan, math.nan)
    numbers = np.unique(clusters[among], return_inverse=True)[1]
    return float(what[among].mean()), clustered_wilson(what[among], numbers)
