"""Which facts go first? The better and the lesser known half under light pruning, and answers that hung by a thread."""

from __future__ import annotations

import numpy as np
import pandas as pd

from kc_utils.analysis.bootstrap import expanded_interval
from kc_utils.analysis.claim_rows import Evidence, Stratum, kept, knows_something
from kc_utils.analysis.claim_rules import TailKeptBetter, has_popularity
from kc_utils.analysis.claims import together
from kc_utils.analysis.findings import percent
from kc_utils.analysis.forgetting import loss_by_margin
from kc_utils.analysis.lab_findings import points
from kc_utils.analysis.names import model_name
from kc_utils.analysis.seeds import lab_parts, t_interval
from kc_utils.analysis.statistics import head_and_tail
from kc_utils.errors import BadRequest
from kc_utils.publishing.answers.answer import Answer, Picture, basis, effect_rows, in_words, kept_panels, strata

AMOUNTS = (0.1, 0.2, 0.3)
HALVES = {"head": "better known half", "tail": "lesser known half"}
BINS = 4


def first(evidence: Evidence) -> Answer:
    """Losses by popularity or exposure and by margin, under light pruning of all layers."""
    rule = TailKeptBetter(kind="tail kept better", recipe="magnitude@all={amount}", amounts=AMOUNTS)
    effects = list(rule.effects(evidence))
    if not effects:
        return Answer()
    frame = halves(evidence, rule)
    margins = by_margin(evidence, rule)
    what = "Knowledge kept of the better and the lesser known half of each relation's facts when all layers are pruned"
    rows = effect_rows(effects, "lesser known half keeps more")
    return Answer(
        (_tail(effects), _margin(margins)),
        (
            Picture(
                "halves",
                lambda: kept_panels(frame, "percent", "weights of all layers set to zero (%)", "half"),
                f"{what}, each as a share of what was known of it above chance. {basis(frame)}",
                in_words(frame, "percent", what, "half"),
            ),
        ),
        tuple(rows),
    )


def halves(evidence: Evidence, rule: TailKeptBetter) -> pd.DataFrame:
    """Retention of either half at each amount; the lab's seeds taken together by family."""
    found = []
    for stratum in evidence.of_knowledge(lambda s: bool(rule.usable(s)) and has_popularity(s)):
        rows = stratum.rows("none", stratum.memory)
        part = head_and_tail(rows.assign(popularity=pd.to_numeric(rows["popularity"])))
        if not all(knows_something(rows[part == half]) for half in HALVES):
            continue
        half_of = part.groupby(rows["fact"]).first()
        for number, (half, name) in enumerate(HALVES.items()):
            recipes = {a: rule.needs(a)[0] for a in rule.usable(stratum)}
            own = kept(stratum, recipes.values(), stratum.memory, half_of == half, seed=number)
            for amount, recipe in ((0.0, "none"), *recipes.items()):
                low, high = expanded_interval(own.draws[recipe], own.effective) if recipe != "none" else (1.0, 1.0)
                found.append(
                    {
                        "model": stratum.model, "facts": stratum.facts, "half": name, "percent": 100 * amount,
                        "retention": own.at[recipe], "low": low, "high": high,
                    }
                )  # fmt: skip
    return _panels(pd.DataFrame(found))


def _panels(frame: pd.DataFrame) -> pd.DataFrame:
    """A panel for each model and source of facts; models of the lab that differ in their seed share one."""
    frame = frame.assign(panel=[_panel(row.model, row.facts) for row in frame.itertuples()])
    lines = []
    for (panel, half, at), part in frame.groupby(["panel", "half", "percent"], sort=False):
        line = {"panel": panel, "half": half, "percent": at, "retention": part["retention"].mean(), "seeds": len(part)}
        low, high = part[["low", "high"]].iloc[0] if len(part) == 1 else t_interval(part["retention"])
        lines.append({**line, "low": low if at else 1.0, "high": high if at else 1.0})
    return pd.DataFrame(lines)


def _panel(model: str, facts: str) -> str:
    parts = lab_parts(model)
    return f"{model_name(model)}, {facts}" if parts is None else f"lab, {parts[1]} {parts[0]}, {facts}"


def by_margin(evidence: Evidence, rule: TailKeptBetter) -> pd.DataFrame:
    """Of facts that were known, the share lost in the quarter of the narrowest and of the widest leads, at the middle of the
    light amounts that a stratum has."""
    found = []
    for stratum in evidence.of_knowledge(lambda s: bool(rule.usable(s))):
        amounts = rule.usable(stratum)
        recipe = rule.needs(amounts[len(amounts) // 2])[0]
        losses = _losses(stratum, recipe)
        if losses is not None:
            found.append({"model": stratum.model, "facts": stratum.facts, "recipe": recipe, **losses})
    return pd.DataFrame(found)


def _losses(stratum: Stratum, recipe: str) -> dict[str, float] | None:
    after, before = (stratum.rows(r, stratum.memory) for r in (recipe, "none"))
    try:
        bins = loss_by_margin(after, before, BINS).set_index("margin")["accuracy"]
    except (BadRequest, KeyError):  # too few known facts, or rows without margins
        return None
    return {"narrow": 1 - float(bins.iloc[0]), "wide": 1 - float(bins.iloc[-1])}


def _tail(effects) -> str:
    middle, low, high = together(effects)
    verdict = (
        "rare facts are relatively better kept"
        if low > 0
        else "the better known facts are kept better"
        if high < 0
        else "undecided"
    )
    clear = sum(e.low > 0 for e in effects), sum(e.high < 0 for e in effects)
    return (
        f"With 10 to 30 % of all weights pruned, {points(middle, low, high)} more is kept of the lesser known half of each "
        f"relation's facts than of the better known half, over {strata(len(effects))}: {verdict} (the lesser "
        f"known half fares clearly better in {clear[0]}, clearly worse in {clear[1]})."
    )


def _margin(margins: pd.DataFrame) -> str:
    if margins.empty or not np.isfinite(margins[["narrow", "wide"]].to_numpy(float)).all():
        return "Nothing can be said of margins."
    narrow, wide = margins["narrow"].mean(), margins["wide"].mean()
    worse = int((margins["narrow"] > margins["wide"]).sum())
    verdict = "The margin foretells a loss" if 2 * worse > len(margins) else "The margin does not foretell a loss here"
    return (
        f"{verdict}: of the known facts whose answer led by least, {percent(narrow)} are lost, of those that led by most "
        f"{percent(wide)} (the narrowest and the widest quarter, means over {strata(len(margins))}; more of the narrow ones are "
        f"lost in {worse})."
    )
