"""Attention against feed-forward on two axes: at equal sparsity, and at equal numbers of weights removed.

Feed-forward blocks are larger, so that the same fraction of them is more weights: which scope seems more delicate may depend
on what is held equal. Both scopes are pruned in the same model and asked the same facts, so that a difference is taken
within each seed, and seeds give its interval.
"""

from __future__ import annotations

import pandas as pd

from kc_utils.stats.lab_findings import points, seeds_text
from kc_utils.stats.names import SCOPE_NAMES
from kc_utils.stats.seeds import over_seeds
from kc_utils.compression.recipe import Recipe

SPARSITY, WEIGHTS = "equal sparsity", "equal weights removed"
SCOPES = ("attention", "feed_forward")
BY = ("line", "axis", "amount")


def budgets(singles: pd.DataFrame) -> pd.DataFrame:
    """The lines of `seeds.by_model` that prune one scope, with `axis`, what is held equal, `amount`, a fraction or a number
    of weights, and `removed`, the number of weights."""
    found = []
    for _, line in singles[singles["scope"].isin(SCOPES) & (singles["steps"] == 1)].iterrows():
        weights = Recipe.parse(line["recipe"]).steps[0].options.get("weights")
        axis, amount = (SPARSITY, line["pruned"]) if weights is None else (WEIGHTS, weights)
        found.append({**line, "axis": axis, "amount": float(amount), "removed": line["weights_removed"]})
    return pd.DataFrame(found)


def paired(singles: pd.DataFrame) -> pd.DataFrame:
    """One line per model, axis and amount that both scopes were pruned by: line, seed, axis, amount, n; attention,
    feed_forward, what each keeps; difference, attention's less feed-forward's: below 0 where attention is the more
    delicate."""
    frame = budgets(singles)
    keys = ["line", "seed", "axis", "amount", "n"]
    if frame.empty:
        return pd.DataFrame(columns=[*keys, *SCOPES, "difference"])
    wide = frame.pivot(index=keys, columns="scope", values="retention").reindex(columns=list(SCOPES)).dropna()
    wide = wide.assign(difference=wide["attention"] - wide["feed_forward"]).reset_index().rename_axis(columns=None)
    order = list(dict.fromkeys(singles["line"]))
    return wide.sort_values("line", key=lambda c: c.map(order.index), kind="stable").reset_index(drop=True)


def differences(pairs: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds by line, axis and amount, with t intervals."""
    return over_seeds(pairs, ("difference",), BY)


def over_amounts(pairs: pd.DataFrame) -> pd.DataFrame:
    """One line per line and axis: the difference of each seed, averaged over all amounts first, then over seeds."""
    each = pairs.groupby(["line", "axis", "seed"], sort=False)["difference"].mean().reset_index()
    return over_seeds(each, ("difference",), ("line", "axis"))


def verdict(low: float, high: float) -> str:
    """Whether attention hurts more, less, or that is undecided, from an interval of the difference."""
    if high < 0:
        return "pruning attention hurts more"
    if low > 0:
        return "pruning attention hurts less"
    return "undecided"


def sentences(pairs: pd.DataFrame) -> list[str]:
    """A verdict for each line on both axes, and whether the axis changes it."""
    found, whole, single = [], over_amounts(pairs), differences(pairs)
    for name, lines in whole.groupby("line", sort=False):
        told, verdicts = [], {}
        for _, line in lines.iterrows():
            mine = single[(single["line"] == name) & (single["axis"] == line["axis"])]
            verdicts[line["axis"]] = verdict(line["difference_low"], line["difference_high"])
            clear = [x for _, x in mine.iterrows() if verdict(x["difference_low"], x["difference_high"]) != "undecided"]
            told.append(
                f"at {line['axis']}, {verdicts[line['axis']]} "
                f"({points(line['difference'], line['difference_low'], line['difference_high'])} of retention, mean of "
                f"{len(mine)} amounts; clear at {len(clear)} of them)"
            )
        text = f"**{name}** ({seeds_text(lines)}), {SCOPE_NAMES[SCOPES[0]]} less {SCOPE_NAMES[SCOPES[1]]}: {'; '.join(told)}."
        if len(verdicts) == 2:
            same = len(set(verdicts.values())) == 1
            text += " The two axes agree." if same else " The verdict depends on what is held equal."
        found.append(text)
    return found


def size_sentences(singles: pd.DataFrame) -> list[str]:
    """How many weights each scope has, by line."""
    found = []
    for name, lines in budgets(singles).groupby("line", sort=False):
        sizes = {}
        for scope in SCOPES:
            mine = lines[(lines["scope"] == scope) & (lines["axis"] == SPARSITY) & (lines["pruned"] > 0)]
            if len(mine):
                sizes[scope] = float((mine["removed"] / mine["pruned"]).mean())
        if len(sizes) == 2:
            ratio = sizes["feed_forward"] / sizes["attention"]
            found.append(
                f"**{name}**: at equal sparsity feed-forward loses {ratio:.2f} times as many weights as attention."
            )
    return found
