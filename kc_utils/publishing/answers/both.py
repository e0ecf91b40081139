"""Does quantizing a pruned model cost more? Pruning first, then int8 or fewer bits, beside pruning alone."""

from __future__ import annotations

import re

from kc_utils.analysis.across import curves
from kc_utils.analysis.claim_rows import Evidence
from kc_utils.analysis.claim_rules import LittleExtra
from kc_utils.analysis.claims import together
from kc_utils.analysis.findings import NBSP
from kc_utils.analysis.lab_findings import points
from kc_utils.publishing.answers.answer import (
    Answer,
    Picture,
    basis,
    effect_rows,
    in_words,
    kept_panels,
    named,
    strata,
    with_start,
)

_PRUNED = re.compile(r"(magnitude@all=[\d.]+)(?:\+(int8@all|rtn@all=\d+(?:,group=\d+)?))?")
MARGIN = 0.05


def both(evidence: Evidence) -> Answer:
    """Pruning of all layers, then quantization of all layers."""
    found = curves(evidence, lambda recipe: bool(_PRUNED.fullmatch(recipe)))
    seconds = _seconds(evidence)
    if found.empty or not seconds:
        return Answer()
    # the figure shows the amounts that were asked with and without a second step
    shared = set(found[found["steps"] == 2]["pruned"])
    found = found[found["pruned"].isin(shared) | (found["recipe"] == "none")]
    found = found.assign(percent=100 * found["pruned"].astype(float), then=found["precision"].map(_then))
    found = found.assign(panel=[_panel(line) for _, line in found.iterrows()]).sort_values("percent", kind="stable")
    frame = with_start(found, "percent", 0.0, by="then")
    sentences, rows = [], []
    for second in seconds:
        effects = _extra(evidence, second)
        if not effects:
            continue
        middle, low, high = together(effects)
        verdict = (
            f"little, below {100 * MARGIN:g} points"
            if high < MARGIN
            else f"more than {100 * MARGIN:g} points"
            if low > MARGIN
            else "an amount that these rows cannot tell from little"
        )
        amounts = sorted({a for e in effects for a in e.amounts})
        told = named([f"{100 * a:g}{NBSP}%" for a in amounts])
        sentences.append(
            f"After pruning {told} of all layers, `{second}` costs another {points(middle, low, high)} of the knowledge on "
            f"average over {strata(len(effects))}: {verdict}."
        )
        rows += [{"second step": f"`{second}`", **row} for row in effect_rows(effects, "extra cost (95 % interval)")]
    what = "Knowledge kept after pruning alone, and after pruning and then quantizing"
    return Answer(
        tuple(sentences),
        (
            Picture(
                "kept",
                lambda: kept_panels(frame, "percent", "weights of all layers set to zero first (%)", "then"),
                f"{what}, as a share of what the uncompressed model knew above chance. {basis(found)}",
                in_words(frame, "percent", what, "then"),
            ),
        ),
        tuple(rows),
    )


def _panel(line) -> str:
    return f"{line['panel']}, {line['line']}"


def _then(precision: str) -> str:
    return "pruning alone" if precision == "not quantized" else f"then {precision}"


def _seconds(evidence: Evidence) -> list[str]:
    """Second steps that were asked of any model, int8 first."""
    seconds = {m[2] for s in evidence.strata for r in s.recipes if (m := _PRUNED.fullmatch(r)) and m[2]}
    return sorted(seconds)


def _extra(evidence: Evidence, second: str) -> list:
    amounts = {
        float(m[1].partition("=")[2])
        for s in evidence.strata
        for r in s.recipes
        if (m := _PRUNED.fullmatch(r)) and m[2] == second
    }
    rule = LittleExtra(
        kind="little extra cost",
        first="magnitude@all={amount}",
        second=second,
        margin=MARGIN,
        amounts=tuple(sorted(amounts)),
    )
    return list(rule.effects(evidence))
