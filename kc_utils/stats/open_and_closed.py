"""Forgotten or broken? A fact asked from memory, beside its twin that is stated in the question.

Jin et al. (2024, arXiv 2310.04680) tell recall from in-context processing so: a fact that is lost while its open-book twin
is still answered was forgotten; where both are lost the model no longer reads.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from kc_utils.stats.bootstrap import RESAMPLES, cluster_sums, expanded_interval, made_up_pairs, resampled_sums
from kc_utils.stats.intervals import NAN, clustered_wilson, effective_clusters
from kc_utils.stats.items import checked, clusters_of, paired
from kc_utils.stats.statistics import Comparison, compare, facts_of
from kc_utils.errors import BadRequest, BadResult, listed

FATES = ("kept", "forgotten", "misread", "broken")
TWIN = ["fact", "template"]


@dataclass(frozen=True)
class OpenAndClosed:
    """What became of the facts that the uncompressed model answers rightly in both ways; intervals are 95 %.

    fates     one line each: fate, share, low, high, count. `kept`: both ways still right; `forgotten`: wrong from memory,
              right when stated; `misread`: right from memory, wrong when stated; `broken`: both wrong
    n         how many items those are
    unread    items that the uncompressed model knew but did not answer when stated: nothing can be said of them
    closed, open   comparisons of all items from memory, and when stated
    gap       retention when stated less retention from memory: above 0 where knowledge suffers more than reading
    """

    fates: pd.DataFrame
    n: int
    unread: int
    closed: Comparison
    open: Comparison
    gap: float
    gap_ci95: tuple[float, float]

    def to_dict(self) -> dict:
        return {**asdict(self), "fates": self.fates.to_dict("records")}


def open_and_closed(
    rows: pd.DataFrame, baseline: pd.DataFrame, seed: int = 0, cluster: str = "fact", memory: str = "rank"
) -> OpenAndClosed:
    """Compare a compressed with the uncompressed model, from memory (protocol `rank`) and open-book, fact by fact.

    rows, baseline: rows of both protocols; others are passed over. A right guess counts as any right answer: with c
    chance, a model that has lost all still seems to have kept about c of either kind.

    Raises BadRequest where a protocol is missing or the two do not ask the same questions, and as `statistics.compare`.
    """
    sides = {}
    for name in (memory, "openbook"):
        for label, frame in (("after", rows), ("before", baseline)):
            part = frame[frame["protocol"] == name]
            if part.empty:
                raise BadRequest(
                    f"no rows of protocol {name!r} among {listed(sorted(set(frame['protocol'])))}: evaluate a probe with "
                    f"protocols {memory} and openbook"
                )
            sides[name, label] = checked(part, needs=["chance", "relation"])
    closed_rows, open_rows = (paired(sides[n, "after"], sides[n, "before"], ["correct"]) for n in (memory, "openbook"))
    both = closed_rows.merge(open_rows, on=TWIN, suffixes=("", "_open"))
    if len(both) != len(closed_rows) or len(both) != len(open_rows):
        raise BadRequest(
            f"{len(closed_rows)} questions from memory and {len(open_rows)} open-book ones share {len(both)}: ask both of the "
            "same facts"
        )
    after, before = both["correct"].to_numpy(bool), both["correct_baseline"].to_numpy(bool)
    told, told_before = both["correct_open"].to_numpy(bool), both["correct_baseline_open"].to_numpy(bool)
    known = before & told_before
    if not known.any():
        raise BadResult(
            f"the uncompressed model answers none of {len(both)} facts both from memory and when stated: nothing can be lost"
        )
    clusters = clusters_of(both, cluster)
    closed, opened = (
        compare(sides[n, "after"], sides[n, "before"], seed=seed, cluster=cluster) for n in (memory, "openbook")
    )
    gap = opened.retention - closed.retention
    interval = _gap_interval(both, clusters, seed) if gap == gap else NAN
    return OpenAndClosed(
        fates=_fates(after[known], told[known], clusters[known]),
        n=int(known.sum()),
        unread=int((before & ~told_before).sum()),
        closed=closed,
        open=opened,
        gap=float(gap),
        gap_ci95=interval,
    )


def _fates(after: np.ndarray, told: np.ndarray, clusters: np.ndarray) -> pd.DataFrame:
    numbers = np.unique(clusters, return_inverse=True)[1]
    lines = []
    for fate, is_so in zip(FATES, (after & told, ~after & told, after & ~told, ~after & ~told), strict=True):
        low, high = clustered_wilson(is_so, numbers)
        lines.append({"fate": fate, "share": float(is_so.mean()), "low": low, "high": high, "count": int(is_so.sum())})
    return pd.DataFrame(lines)


def _gap_interval(both: pd.DataFrame, clusters: np.ndarray, seed: int) -> tuple[float, float]:
    """Paired bootstrap of the difference of two retentions: each draw scores four sets of answers on the same facts."""
    columns = ["correct", "correct_baseline", "chance", "correct_open", "correct_baseline_open", "chance_open"]
    values = np.column_stack([both[columns].to_numpy(float), np.ones(len(both))])
    a, b, c, oa, ob, oc, _ = resampled_sums(cluster_sums(values, clusters), seed).T
    found = []
    for side, (after, before, chance, name) in enumerate(((a, b, c, "chance"), (oa, ob, oc, "chance_open"))):
        extra_after, extra_before, extra = made_up_pairs(seed + side, RESAMPLES, facts_of(both))
        chance = chance + extra * both[name].mean()
        known = before + extra_before - chance
        with np.errstate(divide="ignore", invalid="ignore"):
            found.append(np.where(known > 1e-9, (after + extra_after - chance) / known, np.nan))
    return expanded_interval(found[1] - found[0], effective_clusters(np.bincount(clusters)))
