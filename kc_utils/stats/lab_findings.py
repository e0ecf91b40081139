"""What the pages over several models say: sentences computed from values of single seeds and their means (`seeds`).

A loss is called clear where the interval over seeds lies wholly below what the uncompressed models have, a difference where
its interval does not hold zero. One model of a line has no interval, and nothing is called clear.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pandas as pd

from kc_utils.stats.findings import NBSP, interval, percent, series, whole
from kc_utils.stats.names import UNQUANTIZED
from kc_utils.stats.seeds import difference_interval, t_interval

SHOWN = 0.995
"""What keeps more is 100 % in whole per cent: three seeds that lose one fact each have no spread, and no loss to speak of."""
ASKED_NAMES = {
    "taught": "taught facts, from memory",
    "stated": "strangers' facts, stated first",
    "rule": "agreement rule",
}


def amount(line: pd.Series) -> str:
    """How much a recipe compresses, in words: `30 % sparsity`, `RTN 4 bits`, `20 % sparsity, then int8 dynamic`."""
    parts = [f"{100 * line['pruned']:g}{NBSP}% sparsity"] if line["pruned"] else []
    parts += [line["precision"]] if line["precision"] != UNQUANTIZED else []
    return ", then ".join(parts) or "no compression"


def points(middle: float, low: float, high: float, told: Callable[[float], str] = whole) -> str:
    """A difference of shares in points: `−12 points (−20 to −4)`. told: how each of the three is written."""
    unit = "point" if told(middle).lstrip("\u2212") == "1" else "points"
    between = "no interval: one seed" if math.isnan(low) else f"{told(low)} to {told(high)}"
    return f"{told(middle)} {unit} ({between})"


def more_or_less(middle: float, low: float, high: float, told: Callable[[float], str] = whole) -> str:
    """As `points`, without the sign: `12 points (4 to 20) less`."""
    if middle > 0:
        return f"{points(middle, low, high, told)} more"
    return f"{points(-middle, -high, -low, told)} less"


def kept(line: pd.Series) -> str:
    return f"{percent(line['retention'])} ({interval(line['retention_low'], line['retention_high'])})"


def seeds_text(means: pd.DataFrame) -> str:
    """How many seeds stand behind means: `3 seeds`, `2 to 3 seeds`."""
    low, high = int(means["seeds"].min()), int(means["seeds"].max())
    return f"{low} seed{'s' * (low > 1)}" if low == high else f"{low} to {high} seeds"


def clear_loss(line: pd.Series) -> bool:
    """Whether the interval lies below what was known, and the loss is one that whole per cent show."""
    return bool(line["retention_high"] < 1 and line["retention"] < SHOWN)


def first_losses(means: pd.DataFrame, singles: pd.DataFrame, recipes: Sequence[str]) -> list[str]:
    """For each line the mildest of some recipes, ordered from mild to harsh, with a clear loss of taught facts; then which
    line loses first, and by how much more than the others.

    means, singles: of `over_seeds` and `by_model`.
    """
    taught = _from_mild(means, recipes)
    sentences = []
    for name, lines in taught.groupby("line", sort=False):
        clear = lines[[clear_loss(line) for _, line in lines.iterrows()]]
        if clear.empty:
            why = (
                "one seed has no interval"
                if lines["seeds"].max() < 2
                else "none is below 100" + NBSP + "% with its interval"
            )
            sentences.append(f"**{name}**: no clear loss at any amount tested ({why}).")
            continue
        mild, harsh = clear.iloc[0], lines.iloc[-1]
        text = f"**{name}**: the loss is first clear at {amount(mild)}, where {kept(mild)} of the knowledge is kept."
        if harsh["recipe"] != mild["recipe"]:
            text += f" At {amount(harsh)} it keeps {kept(harsh)}."
        sentences.append(text)
    return sentences + [text for text in [first_to_lose(means, singles, recipes)] if text]


def _from_mild(means: pd.DataFrame, recipes: Sequence[str]) -> pd.DataFrame:
    """Taught facts under some recipes, in their order."""
    taught = means[(means["asked"] == "taught") & means["recipe"].isin(recipes)]
    return taught.sort_values("recipe", key=lambda c: c.map(list(recipes).index), kind="stable")


def first_to_lose(means: pd.DataFrame, singles: pd.DataFrame, recipes: Sequence[str]) -> str:
    """The line whose loss of taught facts is clear first, against each other line there; nothing where none is clear, or
    there is one line alone. As `first_losses`."""
    taught = _from_mild(means, recipes)
    clear = taught[[clear_loss(line) for _, line in taught.iterrows()]].drop_duplicates("line")
    if clear.empty or taught["line"].nunique() < 2:
        return ""
    first = {line["line"]: list(recipes).index(line["recipe"]) for _, line in clear.iterrows()}
    place = min(first.values())
    here = taught[taught["recipe"] == recipes[place]].set_index("line")
    leaders = [name for name, at in first.items() if at == place]
    loser = min(leaders, key=lambda name: here.loc[name, "retention"])
    at = singles[(singles["asked"] == "taught") & (singles["recipe"] == recipes[place])]
    mine = at[at["line"] == loser]["retention"].dropna()
    told = []
    for name in here.index.drop(loser):
        others = at[at["line"] == name]["retention"].dropna()
        low, high = difference_interval(mine, others)
        verdict = "clear" if high < 0 or low > 0 else "undecided"
        told.append(f"{more_or_less(mine.mean() - others.mean(), low, high)} than {name} ({verdict})")
    which = (
        f"**First to lose** is {loser}"
        if len(leaders) == 1
        else f"**First to lose** are {series(leaders)} together, {loser} most"
    )
    return f"{which}, at {amount(here.loc[loser])}: it keeps {series(told)}, by Welch's t intervals over seeds."


def skill_sentences(means: pd.DataFrame, singles: pd.DataFrame, recipes: Sequence[str]) -> list[str]:
    """For each line, at the mildest clear loss of taught facts: what it keeps of the skills that take no knowledge, and
    whether facts suffer more. Differences are taken within each seed."""
    sentences = []
    taught = _from_mild(means, recipes)
    for name, lines in taught.groupby("line", sort=False):
        clear = lines[[clear_loss(line) for _, line in lines.iterrows()]]
        if clear.empty:
            continue
        mild = clear.iloc[0]
        mine = singles[(singles["line"] == name) & (singles["recipe"] == mild["recipe"])]
        wide = mine.pivot(index="seed", columns="asked", values="retention")
        told = []
        for skill in (s for s in ("stated", "rule") if s in wide):
            apart = (wide[skill] - wide["taught"]).dropna()
            low, high = t_interval(apart)
            verdict = (
                "facts suffer more"
                if low > 0
                else "the skill suffers more"
                if high < 0
                else "which suffers more is undecided"
            )
            if len(apart):
                told.append(
                    f"of the {ASKED_NAMES[skill]}, {percent(wide[skill].mean())} is kept, "
                    f"{points(apart.mean(), low, high)} more than of the facts: {verdict}"
                )
        if told:
            sentences.append(f"**{name}**, at {amount(mild)} ({kept(mild)} of the facts kept): {'; '.join(told)}.")
    return sentences


def baselines(means: pd.DataFrame) -> str:
    """What the uncompressed models answer, by line and probe, in one sentence."""
    base = means[means["recipe"] == "none"]
    told = []
    for name, lines in base.groupby("line", sort=False):
        parts = [f"{percent(line['accuracy'])} of the {ASKED_NAMES[line['asked']]}" for _, line in lines.iterrows()]
        told.append(f"{name} {', '.join(parts)}")
    n = base.drop_duplicates("asked").set_index("asked")["n"]
    counts = ", ".join(f"{count} {ASKED_NAMES[asked]}" for asked, count in n.items())
    return f"Uncompressed, the models answer rightly ({counts}; means over {seeds_text(base)}): {'; '.join(told)}."
