"""Forest plots of the ledger: effects with their intervals, and the line that a claim must lie beyond."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.lines import Line2D

from kc_utils.report.figures import FAINT, INK, theme
from kc_utils.stats.claims import FAILS, HOLDS, LAB, LANGUAGE, UNDECIDED, Decision, Part, side
from kc_utils.stats.names import model_name

LOOKS = {HOLDS: (2, "o"), FAILS: (3, "X"), UNDECIDED: (0, "s")}
"""Colour in the colour-blind-safe palette, and marker, so that neither is needed alone."""
ROW = 0.36  # inches


def overview(decisions: Sequence[Decision]) -> plt.Figure:
    """Every claim that has data, by unit: how far its effects lie beyond the line that it must pass, to the right of 0 in
    favour of the claim; filled for models of language, hollow below for those of the lab."""
    theme()
    groups: dict[str, list[Decision]] = {}
    for decision in decisions:
        if decision.parts:
            groups.setdefault(_group(decision), []).append(decision)
    sizes = [len(group) for group in groups.values()]
    fig, axes = plt.subplots(
        len(groups), 1, figsize=(8.6, 1.25 * ROW * sum(sizes) + 0.95 * len(groups) + 0.5), squeeze=False,
        gridspec_kw={"height_ratios": [n + 0.6 for n in sizes]},
    )  # fmt: skip
    for ax, (unit, group) in zip(axes[:, 0], groups.items(), strict=True):
        for place, decision in enumerate(reversed(group)):
            for part in decision.parts:
                ends = sorted(beyond(decision, value) for value in (part.low, part.high))
                at = place + (0.17 if part.kind == LANGUAGE else -0.17) * (len(decision.parts) > 1)
                _draw(ax, beyond(decision, part.effect), ends, at, part.verdict, hollow=part.kind == LAB)
        ax.axvline(0, color=INK, linewidth=1.2, zorder=1)
        ax.set_yticks(range(len(group)), [d.claim.title for d in reversed(group)])
        ax.set_ylim(-0.6, len(group) - 0.4)
        ax.set_xlabel(f"beyond the line of the claim, {unit}")
    parts = [part for decision in decisions for part in decision.parts]
    handles, names = _legend(parts)
    fig.legend(handles, names, loc="lower center", ncols=len(names), frameon=False, bbox_to_anchor=(0.5, 0))
    fig.tight_layout(rect=(0, 0.34 / fig.get_figheight(), 1, 1))
    return fig


def of_claim(decision: Decision) -> plt.Figure:
    """The strata of one claim, below those of each kind their mean; the dashed line is the one that the claim must pass."""
    theme()
    rule, scale = decision.claim.decided_by, decision.claim.decided_by.scale
    lines = []
    for part in decision.parts:
        lab = part.kind == LAB
        for s in part.strata:
            verdict = side(s.low, s.high, rule.threshold, rule.claims)
            lines.append((f"{model_name(s.model)}, {s.facts}", s.effect, s.low, s.high, verdict, lab, False))
        if len(part.strata) > 1:
            lines.append((f"mean, {part.kind}", part.effect, part.low, part.high, part.verdict, lab, True))
    fig, ax = plt.subplots(figsize=(8.6, ROW * len(lines) + 1.1))
    for place, (_, middle, low, high, verdict, lab, mean) in enumerate(reversed(lines)):
        _draw(ax, scale * middle, (scale * low, scale * high), place, verdict, larger=mean, hollow=lab)
    ax.axvline(scale * rule.threshold, color=FAINT, linewidth=1.6, linestyle="--", zorder=1)
    ax.set_yticks(range(len(lines)), [name for name, *_ in reversed(lines)])
    ax.set_ylim(-0.6, len(lines) - 0.4)
    ax.set_xlabel(rule.unit)
    fig.tight_layout()
    return fig


def _legend(parts: Sequence[Part]) -> tuple[list, list[str]]:
    """Verdicts that are there by colour and marker, and what is filled and what hollow."""
    verdicts = [v for v in LOOKS if any(part.verdict == v for part in parts)]
    handles = [_handle(LOOKS[v][1], sns.color_palette("colorblind")[LOOKS[v][0]]) for v in verdicts]
    kinds = [kind for kind in (LANGUAGE, LAB) if any(part.kind == kind for part in parts)]
    handles += [_handle("o", FAINT, hollow=kind == LAB) for kind in kinds]
    return handles, verdicts + kinds


def _handle(marker: str, colour, hollow: bool = False) -> Line2D:
    face = "white" if hollow else colour
    return Line2D([], [], color=colour, marker=marker, markerfacecolor=face, markersize=7, linestyle="none")


def beyond(decision: Decision, value: float) -> float:
    """How far a value lies beyond the line of the claim, in the unit that is drawn; positive in favour of the claim."""
    rule = decision.claim.decided_by
    sign = 1 if rule.claims == "above" else -1
    return sign * rule.scale * (value - rule.threshold)


def _group(decision: Decision) -> str:
    unit = decision.claim.decided_by.unit
    return unit if "per million" in unit or "bits" in unit else "points (of knowledge, or of answers)"


def _draw(ax, middle: float, ends, place: float, verdict: str, larger: bool = False, hollow: bool = False):
    number, marker = LOOKS[verdict]
    colour = sns.color_palette("colorblind")[number]
    low, high = ends
    ax.errorbar(
        [middle], [place], xerr=[[max(0.0, middle - low)], [max(0.0, high - middle)]],
        color=colour, marker=marker, markerfacecolor="white" if hollow else colour, markersize=9 if larger else 6.5,
        linestyle="none", elinewidth=1.4, capsize=2.5, zorder=3,
    )  # fmt: skip
