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
from kc_utils.publishing.answers.answer import Answer, amounts_of, clear_sides, effect_rows, pairs, picture, verdict

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
        (_by_share(by_share), _by_weight(by_weight)),
        (
            picture("sparsity", found, "percent", f"{what}, against the share of its weights", "part", "the part"),
            picture("weights", found, "removed", f"{what}, against the number of weights removed", "part"),
        ),
        tuple(effect_rows(by_share, "feed-forward keeps more at equal sparsity")),
    )


def _by_share(effects: list[Effect]) -> str:
    attention, feed_forward = clear_sides(effects)
    told = verdict(
        effects,
        "by share, attention is the more delicate part",
        "by share, feed-forward is the more delicate part",
        "which part is more delicate by share is undecided",
    )
    return (
        f"At equal sparsity ({amounts_of(effects)}, averaged), pruning attention costs {points(*together(effects))} more of the "
        f"knowledge than pruning feed-forward: {told} (attention clearly in {attention}, feed-forward clearly in {feed_forward} "
        f"of {pairs(len(effects))})."
    )


def _by_weight(effects: list[Effect]) -> str:
    attention, feed_forward = clear_sides(effects)
    return (
        f"Per weight that is removed, attention costs clearly more in {attention} and feed-forward in {feed_forward} of "
        f"{len(effects)}: equal shares of two parts are no equal cuts."
    )
