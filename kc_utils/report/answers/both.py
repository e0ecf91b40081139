"""Does quantizing a pruned model cost more? Pruning first, then int8 or fewer bits, beside pruning alone."""

from __future__ import annotations

import re

import pandas as pd

from kc_utils.stats.across import PRUNED, curves
from kc_utils.stats.claim_rows import Evidence
from kc_utils.stats.claim_rule import Effect
from kc_utils.stats.claim_rules import LittleExtra
from kc_utils.stats.claims import apart, together
from kc_utils.stats.findings import decimals
from kc_utils.stats.lab_findings import points
from kc_utils.stats.names import UNQUANTIZED
from kc_utils.report.answers.answer import Answer, Picture, amounts_of, effect_rows, pairs, picture, verdict

ONE_OR_TWO = re.compile(rf"{PRUNED.pattern}(?:\+(?:int8@all|rtn@all=\d+))?")
MARGIN = 0.05


def both(evidence: Evidence) -> Answer:
    """Pruning of all layers, then quantization of all layers."""
    found = curves(evidence, ONE_OR_TWO)
    twice = found[found["steps"] == 2] if len(found) else found
    if twice.empty:
        return Answer()
    sentences, rows = [], []
    for second, mine in twice.groupby(twice["recipe"].str.partition("+")[2]):
        rule = LittleExtra(
            kind="little extra cost", first="magnitude@all={amount}", second=second, margin=MARGIN,
            amounts=tuple(sorted(set(mine["pruned"]))),
        )  # fmt: skip
        if effects := list(rule.effects(evidence)):
            sentences.append(_told(second, effects))
            rows += [{"second step": f"`{second}`", **row} for row in effect_rows(effects, "extra cost")]
    return Answer(tuple(sentences), (_picture(found, set(twice["pruned"])),), tuple(rows))


def _told(second: str, effects: list[Effect]) -> str:
    bound = f"{100 * MARGIN:g} points"
    told = []
    for name, group in apart(effects):
        how_much = verdict(
            group,
            f"which is more than {bound}",
            f"which is little, below {bound}",
            f"which may lie on either side of {bound}",
            MARGIN,
        )
        told.append(
            f"another {points(*together(group), decimals)} of the knowledge in {name} ({pairs(len(group))}), {how_much}"
        )
    return f"After pruning {amounts_of(effects)} of all layers, `{second}` costs {'; '.join(told)}."


def _picture(found: pd.DataFrame, shared: set[float]) -> Picture:
    """At the sparsities that were asked with a second step: pruning alone, and with each of them."""
    found = found[found["pruned"].isin({0.0} | shared)]
    found = found.assign(
        panel=found["panel"] + ", " + found["line"],
        then=["pruning alone" if p == UNQUANTIZED else f"then {p}" for p in found["precision"]],
    )
    return picture(
        "kept", found, "percent", "Knowledge kept after pruning, and after pruning and then quantizing", "then"
    )
