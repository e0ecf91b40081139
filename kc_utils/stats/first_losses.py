"""Which facts go first: losses of known facts in groups, for every seed of every line, at the mildest loss worth a look.

The groups and the logistic regressions are those of `forgetting` and `loss_model`; here they are made for each seed, and
seeds put together: shares by t intervals over seeds, regressions on the facts of all seeds at once with standard errors
that allow for a fact rising and falling in all of them (and hold for these seeds).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

from kc_utils.stats.findings import NBSP, interval, percent
from kc_utils.stats.forgetting import loss_by, loss_by_margin, loss_by_popularity, loss_by_type, quantile_bins
from kc_utils.stats.lab_findings import amount, clear_loss
from kc_utils.stats.loss_model import LossModel, loss_model
from kc_utils.stats.seeds import lines_of, over_seeds
from kc_utils.errors import BadRequest
from kc_utils.study.cells import Cell

Rows = Mapping[Cell, pd.DataFrame]
GROUPS = ("exposures", "enters", "margin", "relation", "type")
REGRESSORS = {"exposures": "popularity", "enters": "enters", "margin": "margin"}


def mildest(means: pd.DataFrame, least_lost: float) -> dict[str, pd.Series]:
    """For each line the recipe that keeps most among those with a clear loss that cost at least `least_lost` of the known
    facts. Lines without one are left out."""
    chosen = {}
    lines = means[(means["asked"] == "taught") & (means["recipe"] != "none")]
    for name, mine in lines.groupby("line", sort=False):
        enough = mine[[clear_loss(line) and line["lost"] >= least_lost for _, line in mine.iterrows()]]
        if len(enough):
            chosen[name] = enough.loc[enough["retention"].idxmax()]
    return chosen


def pairs_of(rows: Rows, chosen: Mapping[str, pd.Series]) -> dict[Cell, tuple[pd.DataFrame, pd.DataFrame]]:
    """Rows under the chosen recipe of each line, and those of the uncompressed model, by cell."""
    lines = lines_of(dict.fromkeys(cell.model for cell in rows))
    found = {}
    for cell, mine in rows.items():
        line = lines[cell.model][0]
        if line in chosen and cell.recipe == chosen[line]["recipe"]:
            found[cell] = (mine, rows[cell.baseline])
    return found


def losses(
    rows: Rows, chosen: Mapping[str, pd.Series], enters: Mapping[str, float], types: Mapping[str, str], bins: int
) -> pd.DataFrame:
    """One line per model, way to group (`by`) and group: line, seed, by, group, place (in order), known, lost_of_known.

    enters: when a fact was first told, by its id; types: of relations; bins: by exposures, and by margin.
    A group of which a model knew nothing has no share. Ways that the facts are too few for are left out.
    """
    lines, found = lines_of(dict.fromkeys(cell.model for cell in rows)), []
    for cell, (mine, base) in pairs_of(rows, chosen).items():
        line, seed = lines[cell.model]
        for by in GROUPS:
            try:
                groups = _grouped(by, mine, base, enters, types, bins)
            except BadRequest:  # fewer facts than bins
                continue
            groups = groups.assign(line=line, seed=seed, by=by, place=range(len(groups)))
            found.append(groups[["line", "seed", "by", "group", "place", "known", "lost_of_known"]])
    columns = ["line", "seed", "by", "group", "place", "known", "lost_of_known"]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=columns)


def _grouped(by: str, mine, base, enters, types, bins) -> pd.DataFrame:
    """`loss_by` with a column `group` that names each."""
    if by == "exposures":
        found = loss_by_popularity(mine, base, bins, within=None)
        return found.assign(group=_spans(mine, bins))
    if by == "margin":
        found = loss_by_margin(mine, base, bins)
        names = {1: "narrowest", bins: "widest"}
        return found.assign(group=[names.get(int(n), f"{int(n)}") for n in found["margin"]])
    if by == "enters":
        found = loss_by(mine, base, mine["fact"].map(enters).rename("enters"))
        return found.assign(group=[f"{100 * value:.0f}{NBSP}%" for value in found["enters"]])
    if by == "type":
        found = loss_by_type(mine, base, types)
        return found.assign(group=found["type"])
    return loss_by(mine, base, "relation").assign(group=lambda f: f["relation"].str.replace("_", " "))


def _spans(rows: pd.DataFrame, bins: int) -> list[str]:
    """Exposures in each bin, from the fewest to the most: `18 to 40`."""
    labels = quantile_bins(rows, "popularity", bins)
    edges = rows.groupby(labels)["popularity"].agg(["min", "max"])
    return [f"{low:.0f} to {high:.0f}" for low, high in edges.itertuples(index=False)]


def losses_over_seeds(frame: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds by line, way and group, with t intervals. Groups of one way in their order."""
    found = over_seeds(frame, ("lost_of_known",), ("line", "by", "group"))
    return found.sort_values("place", kind="stable").reset_index(drop=True) if len(found) else found


def models(
    rows: Rows, chosen: Mapping[str, pd.Series], enters: Mapping[str, float]
) -> dict[tuple[str, str], LossModel]:
    """Logistic regressions of loss by (line, regressor), on the known facts of all seeds of a line; a fact is a cluster."""
    lines, pooled = lines_of(dict.fromkeys(cell.model for cell in rows)), {}
    for number, (cell, pair) in enumerate(pairs_of(rows, chosen).items()):
        # the seed takes the place of the wording, so that a fact asked of several seeds is one cluster
        told = [frame.assign(template=number, enters=frame["fact"].map(enters)) for frame in pair]
        pooled.setdefault(lines[cell.model][0], []).append(told)
    found = {}
    for line, pairs in pooled.items():
        mine, base = (pd.concat(side, ignore_index=True) for side in zip(*pairs, strict=True))
        for name, column in REGRESSORS.items():
            found[line, name] = loss_model(mine, base, column, cluster="fact")
    return found


def choice_sentences(means: pd.DataFrame, chosen: Mapping[str, pd.Series], least_lost: float) -> list[str]:
    """Under which recipe each line is looked at."""
    found = []
    for line in dict.fromkeys(means["line"]):
        if line not in chosen:
            found.append(
                f"**{line}**: no recipe here loses clearly and at least {percent(least_lost)} of the known facts."
            )
            continue
        row = chosen[line]
        found.append(
            f"**{line}** under `{row['recipe']}` ({amount(row)}): {percent(row['lost'])} "
            f"({interval(row['lost_low'], row['lost_high'])}) of the known facts are lost."
        )
    return found


WORDS = {
    "exposures": ("ten times as many exposures", "what was told seldom goes first", "what was told often goes first"),
    "enters": ("first being told at the end of training", "what came early goes first", "what came late goes first"),
    "margin": ("one nat more of margin before", "what was known narrowly goes first", "what was known by far goes first"),
}  # fmt: skip


def model_sentences(found: Mapping[tuple[str, str], LossModel]) -> list[str]:
    """What each regression says: an odds ratio with its interval, and in words."""
    told = []
    for (line, name), model in found.items():
        what, below, above = WORDS[name]
        if model.note:
            told.append(f"**{line}**, {name}: no regression ({model.note}).")
            continue
        low, high = model.odds_ratio_ci95
        verdict = below if high < 1 else above if low > 1 else "undecided"
        told.append(
            f"**{line}**, {name}: {what} multiplies the odds of a loss by {_ratio(model.odds_ratio)} ({_ratio(low)} to "
            f"{_ratio(high)}; {model.lost} of {model.n} known answers lost, {model.clusters} facts): {verdict}."
        )
    return told


def _ratio(value: float) -> str:
    return "∞" if math.isinf(value) else f"{value:.2g}"


def extremes(means: pd.DataFrame, by: str) -> list[str]:
    """For each line the groups that lose most and least."""
    told = []
    for line, groups in means[means["by"] == by].groupby("line", sort=False):
        groups = groups.dropna(subset="lost_of_known").sort_values("lost_of_known", kind="stable")
        if len(groups) < 2:
            continue
        least, most = groups.iloc[0], groups.iloc[-1]
        apart = most["lost_of_known_low"] > least["lost_of_known_high"]
        told.append(
            f"**{line}**, by {by}: most is lost of {_group(most)}, least of {_group(least)}: "
            f"{'their intervals are apart' if apart else 'their intervals overlap, or are undefined'}."
        )
    return told


def _group(row: pd.Series) -> str:
    return f"*{row['group']}* ({percent(row['lost_of_known'])}; {interval(row['lost_of_known_low'], row['lost_of_known_high'])})"
