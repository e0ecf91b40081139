"""Which part of the network holds the facts? Attention and feed-forward at equal sparsity, and per weight that is removed."""

from __future__ import annotations

import re

from kc_utils.stats.across import curves
from kc_utils.stats.claim_rows import Evidence
from kc_utils.stats.claim_rule import Effect
from kc_utils.stats.claim_rules import KeptLess, MorePerWeight
from kc_utils.stats.claims import apart, together
from kc_utils.stats.findings import decimals
from kc_utils.stats.lab_findings import more_or_less
from kc_utils.stats.names import SCOPE_NAMES
from kc_utils.report.answers.answer import (
    Answer,
    amounts_of,
    clear_sides,
    effect_rows,
    pairs,
    picture,
    verdict,
)

PARTS = re.compile(r"magnitude@(?:attention|feed_forward)=[\d.]+")
ATTENTION, FEED_FORWARD = "magnitude@attention={amount}", "magnitude@feed_forward={amount}"
AMOUNTS = (0.1, 0.2, 0.3, 0.4, 0.5)


def where(evidence: Evidence) -> Answer:
    """Attention alone against feed-forward alone, pruned by magnitude."""
    share = KeptLess(kind="keeps less", worse=ATTENTION, better=(FEED_FORWARD,), amounts=AMOUNTS)
    weight = MorePerWeight(kind="costs more per weight", recipe=ATTENTION, against=FEED_FORWARD, amounts=AMOUNTS)
    by_share, by_weight = (list(rule.effects(evidence)) for rule in (share, weight))
    if not by_share:
        return Answer()
    found = curves(evidence, PARTS)
    found = found.assign(
        part=found["scope"].map(lambda scope: SCOPE_NAMES.get(scope, scope)),
        removed=100 * (found["sparsity"] * found["touched_fraction"]).astype(float),
        panel=found["panel"] + ", " + found["line"],
    )
    what = "Knowledge kept when attention alone or feed-forward alone is pruned"
    return Answer(
        tuple(_told(name, group, dict(apart(by_weight)).get(name, [])) for name, group in apart(by_share)),
        (
            picture("sparsity", found, "percent", f"{what}, against the share of its weights", "part", "the part"),
            picture("weights", found, "removed", f"{what}, against the number of weights removed", "part"),
        ),
        tuple(effect_rows(by_share, "feed-forward keeps more at equal sparsity")),
    )


def _told(name: str, by_share: list[Effect], by_weight: list[Effect]) -> str:
    share, weight = clear_sides(by_share), clear_sides(by_weight)
    how_much = more_or_less(*together(by_share), decimals)
    which = verdict(
        by_share,
        "attention is the more delicate part, share for share",
        "feed-forward is the more delicate part, share for share",
        "it is undecided which part is more delicate, share for share",
    )
    text = (
        f"In {name}, {which}: at equal sparsity ({amounts_of(by_share)}, averaged), pruning attention costs "
        f"{how_much} of the knowledge than pruning feed-forward, clearly more in {share[0]} and clearly less in "
        f"{share[1]} of {pairs(len(by_share))}."
    )
    if by_weight:
        text += f" Per weight that is removed, attention costs clearly more in {weight[0]} of {len(by_weight)}"
        text += f" and feed-forward in {weight[1]}."
    return text
