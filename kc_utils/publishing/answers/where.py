"""Which part of the network holds the facts? Attention and feed-forward at equal sparsity, and per weight that is removed."""

from __future__ import annotations

import re

from kc_utils.analysis.across import curves
from kc_utils.analysis.claim_rows import Evidence
from kc_utils.analysis.claim_rule import Effect
from kc_utils.analysis.claim_rules import KeptLess, MorePerWeight
from kc_utils.analysis.claims import together
from kc_utils.analysis.lab_findings import points
from kc_utils.analysis.names import SCOPE_NAMES
from kc_utils.publishing.answers.answer import (
    Answer,
    Picture,
    basis,
    effect_rows,
    in_words,
    kept_panels,
    strata,
    with_start,
)

_PRUNED = re.compile(r"magnitude@(?:attention|feed_forward)=[\d.]+")
AMOUNTS = (0.1, 0.2, 0.3, 0.4, 0.5)
PARTS = ("magnitude@attention={amount}", "magnitude@feed_forward={amount}")


def where(evidence: Evidence) -> Answer:
    """Attention alone against feed-forward alone, pruned by magnitude."""
    found = curves(evidence, lambda recipe: bool(_PRUNED.fullmatch(recipe)))
    if found.empty:
        return Answer()
    found = found.assign(
        percent=100 * found["pruned"].astype(float),
        part=found["scope"].map(lambda s: SCOPE_NAMES.get(s, s)),
        removed=100 * (found["sparsity"] * found["touched_fraction"]).astype(float),
        panel=found["panel"] + ", " + found["line"],
    ).sort_values("percent", kind="stable")
    equal_share = list(
        KeptLess(kind="keeps less", worse=PARTS[0], better=(PARTS[1],), amounts=AMOUNTS).effects(evidence)
    )
    rule = MorePerWeight(kind="costs more per weight", recipe=PARTS[0], against=PARTS[1], amounts=AMOUNTS)
    per_weight = list(rule.effects(evidence))
    if not equal_share:
        return Answer()
    what = "Knowledge kept when attention alone or feed-forward alone is pruned"
    pictures = []
    for x, xlabel, name in (
        ("percent", "weights of the part set to zero (%)", "sparsity"),
        ("removed", "weights set to zero (% of the whole model)", "weights"),
    ):
        frame = with_start(found, x, 0.0, by="part")
        pictures.append(_picture(frame, x, xlabel, name, what, basis(found)))
    return Answer(
        (_equal_share(equal_share), _per_weight(per_weight)),
        tuple(pictures),
        (*effect_rows(equal_share, "feed-forward keeps more at equal sparsity"),),
    )


def _picture(frame, x: str, xlabel: str, name: str, what: str, bars: str) -> Picture:
    against = "the share of its weights" if x == "percent" else "the number of weights removed"
    return Picture(
        name,
        lambda: kept_panels(frame, x, xlabel, "part"),
        f"{what}, against {against}. {bars}",
        in_words(frame, x, f"{what}, against {against}", "part"),
    )


def _equal_share(effects: list[Effect]) -> str:
    middle, low, high = together(effects)
    verdict = (
        "by share, attention is the more delicate part"
        if low > 0
        else "by share, feed-forward is the more delicate part"
        if high < 0
        else "which part is more delicate by share is undecided"
    )
    return (
        f"At equal sparsity (10 to 50 %, averaged), pruning attention costs {points(middle, low, high)} more of the knowledge "
        f"than pruning feed-forward: {verdict} (attention clearly in {_above(effects)}, feed-forward clearly in "
        f"{_below(effects)} of {strata(len(effects))})."
    )


def _per_weight(effects: list[Effect]) -> str:
    if not effects:
        return "Per weight removed, nothing can be said."
    return (
        f"Per weight that is removed, attention costs clearly more in {_above(effects)} and feed-forward in "
        f"{_below(effects)} of them; feed-forward holds most of the weights, so that an equal share of it is a "
        "larger cut."
    )


def _above(effects: list[Effect]) -> int:
    return sum(e.low > 0 for e in effects)


def _below(effects: list[Effect]) -> int:
    return sum(e.high < 0 for e in effects)
