"""Forest plots of the ledger: effects with their intervals, and the line that a claim must lie beyond."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import seaborn as sns

from kc_utils.analysis.claims import FAILS, HOLDS, NO_DATA, UNDECIDED, Decision, side
from kc_utils.analysis.figures import FAINT, INK, theme
from kc_utils.analysis.names import model_name

LOOKS = {HOLDS: (2, "o"), FAILS: (3, "X"), UNDECIDED: (0, "s")}
"""Colour in the colour-blind-safe palette, and marker, so that neither is needed alone."""
ROW = 0.36  # inches


def overview(decisions: Sequence[Decision]) -> plt.Figure:
    """Every claim that has data, by unit: how far its effect lies beyond the line that it must pass, to the right of 0 in
    favour of the claim."""
    theme()
    groups: dict[str, list[Decision]] = {}
    for decision in decisions:
        if decision.verdict != NO_DATA:
            groups.setdefault(_group(decision), []).append(decision)
    sizes = [len(group) for group in groups.values()]
    fig, axes = plt.subplots(
        len(groups), 1, figsize=(8.6, ROW * sum(sizes) + 0.95 * len(groups) + 0.4), squeeze=False,
        gridspec_kw={"height_ratios": [n + 0.6 for n in sizes]},
    )  # fmt: skip
    seen: dict[str, object] = {}
    for ax, (unit, group) in zip(axes[:, 0], groups.items(), strict=True):
        for place, decision in enumerate(reversed(group)):
            ends = sorted(beyond(decision, value) for value in (decision.low, decision.high))
            seen[decision.verdict] = _draw(ax, beyond(decision, decision.effect), ends, place, decision.verdict)
        ax.axvline(0, color=INK, linewidth=1.2, zorder=1)
        ax.set_yticks(range(len(group)), [d.claim.title for d in reversed(group)])
        ax.set_ylim(-0.6, len(group) - 0.4)
        ax.set_xlabel(f"beyond the line of the claim, {unit}")
    fig.legend(seen.values(), seen, loc="lower center", ncols=len(seen), frameon=False, bbox_to_anchor=(0.5, 0))
    fig.tight_layout(rect=(0, 0.34 / fig.get_figheight(), 1, 1))
    return fig


def of_claim(decision: Decision) -> plt.Figure:
    """The strata of one claim, and their mean below; the dashed line is the one that the claim must pass."""
    theme()
    rule, scale = decision.claim.decided_by, decision.claim.decided_by.scale
    lines = [(f"{model_name(s.model)}, {s.facts}", s.effect, s.low, s.high) for s in decision.strata]
    if len(lines) > 1:
        lines.append(("together", decision.effect, decision.low, decision.high))
    fig, ax = plt.subplots(figsize=(8.6, ROW * len(lines) + 1.1))
    for place, (_, middle, low, high) in enumerate(reversed(lines)):
        verdict = side(low, high, rule.threshold, rule.claims)
        if len(lines) > 1 and place == 0:
            verdict = decision.verdict
        _draw(ax, scale * middle, (scale * low, scale * high), place, verdict, larger=len(lines) > 1 and place == 0)
    ax.axvline(scale * rule.threshold, color=FAINT, linewidth=1.6, linestyle="--", zorder=1)
    ax.set_yticks(range(len(lines)), [name for name, *_ in reversed(lines)])
    ax.set_ylim(-0.6, len(lines) - 0.4)
    ax.set_xlabel(rule.unit)
    fig.tight_layout()
    return fig


def beyond(decision: Decision, value: float) -> float:
    """How far a value lies beyond the line of the claim, in the unit that is drawn; positive in favour of the claim."""
    rule = decision.claim.decided_by
    sign = 1 if rule.claims == "above" else -1
    return sign * rule.scale * (value - rule.threshold)


def _group(decision: Decision) -> str:
    unit = decision.claim.decided_by.unit
    return unit if "per million" in unit or "bits" in unit else "points (of knowledge, or of answers)"


def _draw(ax, middle: float, ends, place: int, verdict: str, larger: bool = False):
    colour, marker = LOOKS.get(verdict, LOOKS[UNDECIDED])
    low, high = ends
    return ax.errorbar(
        [middle], [place], xerr=[[max(0.0, middle - low)], [max(0.0, high - middle)]],
        color=sns.color_palette("colorblind")[colour], marker=marker, markersize=9 if larger else 6.5, linestyle="none",
        elinewidth=1.4, capsize=2.5, zorder=3,
    )  # fmt: skip
