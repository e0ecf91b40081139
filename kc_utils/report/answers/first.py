"""Which facts go first? The better and the lesser known half under light pruning, and answers that hung by a thread."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from kc_utils.stats.bootstrap import expanded_interval
from kc_utils.stats.claim_rows import Evidence, Kept, Stratum
from kc_utils.stats.claim_rule import Effect
from kc_utils.stats.claim_rules import TailKeptBetter
from kc_utils.stats.claims import apart, together
from kc_utils.stats.findings import decimals, percent
from kc_utils.stats.forgetting import loss_by_margin
from kc_utils.stats.lab_findings import more_or_less
from kc_utils.stats.names import model_name
from kc_utils.stats.seeds import lab_parts, over_seeds
from kc_utils.errors import BadRequest
from kc_utils.report.answers.answer import (
    Answer,
    amounts_of,
    clear_sides,
    effect_rows,
    pairs,
    picture,
    verdict,
)

RULE = TailKeptBetter(kind="tail kept better", recipe="magnitude@all={amount}", amounts=(0.1, 0.2, 0.3))
NAMES = {"head": "better known half", "tail": "lesser known half"}
BINS = 4


def first(evidence: Evidence) -> Answer:
    """Losses by popularity or exposure and by margin, under light pruning of all layers."""
    parted = list(RULE.halves(evidence))
    if not parted:
        return Answer()
    effects = [RULE.between(stratum, halves) for stratum, halves in parted]
    what = "Knowledge kept of the better and the lesser known half of each relation's facts when all layers are pruned"
    note = "each as a share of what was known of it above chance"
    return Answer(
        (*(_tail(name, group) for name, group in apart(effects)), _margin(by_margin(evidence))),
        (picture("halves", curves_of_halves(parted), "percent", what, "half", note=note),),
        tuple(effect_rows(effects, "lesser known half keeps more")),
    )


def curves_of_halves(parted: Iterable[tuple[Stratum, dict[str, Kept]]]) -> pd.DataFrame:
    """Retention of either half at each amount; models of the lab that differ in their seed taken together."""
    lines = []
    for stratum, halves in parted:
        for half, own in halves.items():
            for amount, recipe in ((0.0, "none"), *((a, *RULE.needs(a)) for a in RULE.usable(stratum))):
                low, high = (1.0, 1.0) if recipe == "none" else expanded_interval(own.draws[recipe], own.effective)
                lines.append(
                    {
                        "panel": _panel(stratum), "half": NAMES[half], "recipe": recipe, "percent": 100 * amount,
                        "retention": own.at[recipe], "low": low, "high": high,
                    }
                )  # fmt: skip
    means = over_seeds(pd.DataFrame(lines), ("retention",), ("panel", "half", "percent"))
    single = means["seeds"] == 1  # its interval is one over facts
    return means.assign(
        retention_low=means["retention_low"].where(~single, means["low"]),
        retention_high=means["retention_high"].where(~single, means["high"]),
    )


def _panel(stratum: Stratum) -> str:
    parts = lab_parts(stratum.model)
    model = f"lab, {parts[1]} {parts[0]}" if parts else model_name(stratum.model)
    return f"{model}, {stratum.facts}"


def by_margin(evidence: Evidence) -> pd.DataFrame:
    """Of facts that were known, the share lost in the quarter of the narrowest and of the widest leads, at the middle of the
    light amounts that a stratum has; a line for each stratum with facts and margins enough."""
    found = []
    for stratum in evidence.of_knowledge(lambda s: len(RULE.usable(s))):
        amounts = RULE.usable(stratum)
        recipes = (*RULE.needs(amounts[len(amounts) // 2]), "none")
        after, before = (stratum.rows(r, stratum.memory) for r in recipes)
        try:
            left = loss_by_margin(after, before, BINS).sort_values("margin")["accuracy"]
        except BadRequest:  # too few known facts, or rows without margins
            continue
        found.append({"narrow": 1 - left.iloc[0], "wide": 1 - left.iloc[-1]})
    return pd.DataFrame(found)


def _tail(name: str, effects: list[Effect]) -> str:
    more, less = clear_sides(effects)
    how_much = more_or_less(*together(effects), decimals)
    which = verdict(
        effects,
        "lesser known facts are relatively better kept",
        "better known facts are kept better",
        "it is undecided whether better or lesser known facts go first",
    )
    return (
        f"In {name}, {which}: with {amounts_of(effects)} of all weights pruned, the lesser known half of each relation's facts "
        f"keeps {how_much} of its knowledge than the better known half (clearly more in {more}, clearly less in "
        f"{less} of {pairs(len(effects))})."
    )


def _margin(margins: pd.DataFrame) -> str:
    """Where nothing at all was lost there is nothing to foretell."""
    lost = margins[(margins[["narrow", "wide"]] > 0).any(axis=1)] if len(margins) else margins
    if lost.empty:
        return "Nothing can be said of margins: no known fact was lost."
    narrow, wide = lost.mean()[["narrow", "wide"]]
    more, less = int((lost["narrow"] > lost["wide"]).sum()), int((lost["narrow"] < lost["wide"]).sum())
    told = "The margin foretells a loss" if more > less else "The margin does not foretell a loss here"
    return (
        f"{told}: of the known facts whose answer led by least, {percent(narrow)} are lost, of those that led by most "
        f"{percent(wide)} (the narrowest and the widest quarter, means over the {pairs(len(lost))} that lost any; more of the "
        f"narrow ones are lost in {more}, fewer in {less})."
    )
