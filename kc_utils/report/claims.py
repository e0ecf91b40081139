"""The ledger of claims as a page: each claim, its source, the rule that decides it, and what the rows at hand say."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns

from kc_utils.places import project_dir
from kc_utils.report.drawing import FAINT, INK, legend_below, png, theme
from kc_utils.report.phrases import NBSP, number, series
from kc_utils.report.tables import figure, markdown_table
from kc_utils.stats.claims import (
    FAILS,
    HOLDS,
    KNOWN_FROM,
    UNDECIDED,
    VERDICTS,
    Decision,
    Part,
    decide_all,
    read_ledger,
    side,
)  # fmt: skip
from kc_utils.stats.evidence import LAB, LANGUAGE, Effect, Evidence
from kc_utils.stats.names import model_name
from kc_utils.study import record

CAPTION = (
    "Distance of each effect from the line of its claim; to the right of 0 it favours the claim. Bars: 95 % intervals. Colour "
    "and marker: verdict. Filled: language models; hollow: lab models."
)
LOOKS = {HOLDS: (2, "o"), FAILS: (3, "X"), UNDECIDED: (0, "s")}  # colour and marker: neither is needed alone
ROW = 0.36  # inches


def ledger_page(rows: pd.DataFrame) -> tuple[str, dict[str, bytes]]:
    """Return Markdown, and pictures by file name, for `book/results/`. rows: of `kc.results`; empty where there are none."""
    decisions = decide_all(read_ledger(project_dir() / "book" / "claims.yaml"), Evidence(rows))
    counts = {verdict: sum(d.verdict == verdict for d in decisions) for verdict in VERDICTS}
    counted = f"Verdicts of {len(decisions)} claims: {series([f'{n} {verdict}' for verdict, n in counts.items()])}.\n"
    about = Path(__file__).with_name("claims.md").read_text(encoding="utf-8")
    parts, pictures = [about, counted, summary(decisions)], {}
    if any(d.parts for d in decisions):
        pictures["claims.png"] = png(draw_all(decisions))
        said = [f"{d.claim.title}: {p.kind}, {effect_text(p, d)}, {p.verdict}" for d in decisions for p in d.parts]
        parts.append(figure("claims.png", "fig-claims", CAPTION, "; ".join(said) + "."))
    for decision in decisions:
        text, own = section(decision)
        parts.append(text)
        pictures |= own
    return "\n".join([*parts, "## Rows\n", *origins(rows)]) + "\n", pictures


def summary(decisions: Sequence[Decision]) -> str:
    """Write the table of all claims."""
    rows = []
    for d in decisions:
        lab = next((part for part in d.parts if part.kind == LAB), None)
        rows.append(
            {
                "claim": f"[{d.claim.title}](claim-{d.claim.id})",
                "source": f"{{cite:t}}`{d.claim.source}`",
                "verdict": f"**{d.verdict}**" + (" (in lab models)" if lab and d.main is lab else ""),
                "effect (95 % interval)": effect_text(d.main, d) if d.main else "",
                "models": len(d.main.models) if d.main else "",
                "n": f"{d.main.n:,}" if d.main else "",
                "in lab models": f"{lab.verdict}, {effect_text(lab, d)}" if lab and d.main is not lab else "",
            }
        )
    return f"{markdown_table(rows)}\n"


def section(decision: Decision) -> tuple[str, dict[str, bytes]]:
    """Return the section of one claim and its picture by file name."""
    claim, rule = decision.claim, decision.claim.decided_by
    lines = [
        f"(claim-{claim.id})=", f"## {claim.title}: {decision.verdict}", "", f"> {claim.statement}", "",
        f"- **Source**: {{cite:t}}`{claim.source}`; {KNOWN_FROM[claim.known_from]}.",
        f"- **Rule**: {rule.says}. Amounts: {amounts_text(rule.amounts)}.",
    ]  # fmt: skip
    if claim.against:
        lines.append(
            f"- **Against**: [another claim](claim-{claim.against}) states the contrary; the same rows decide it."
        )
    if claim.note:
        lines.append(f"- **Limit**: {claim.note}")
    lines += ["", *(f"{part_text(part, decision)}\n" for part in decision.parts)]
    if not decision.parts:
        lines.append(
            "**No data.** No rows at hand have these recipes for a model that knows more than chance uncompressed.\n"
        )
    if decision.trouble:
        lines.append(f"Some rows could not be used: {decision.trouble}.\n")
    if not decision.strata:
        return "\n".join(lines), {}
    name = f"claim-{claim.id}.png"
    caption = f"{claim.title}: effect in each stratum. Bars: 95 % intervals; dashed: the line that the claim must pass."
    shown = [f"{model_name(s.model)}, {s.facts}, {effect_text(s, decision)}" for s in decision.strata]
    table = [
        {
            "model": f"`{model_name(s.model)}`", "facts": f"`{s.facts}`", "effect (95 % interval)": effect_text(s, decision),
            "amounts": amounts_text(s.amounts), "n": f"{s.n:,}", "rows": s.origin,
        }
        for s in decision.strata
    ]  # fmt: skip
    picture = figure(name, f"fig-claim-{claim.id}", caption, f"{rule.unit}: {'; '.join(shown)}")
    return "\n".join([*lines, picture, f"{markdown_table(table)}\n"]), {name: png(draw_claim(decision))}


def part_text(part: Part, decision: Decision) -> str:
    """State the verdict for one kind of models, with its effect."""
    rule, models, strata = decision.claim.decided_by, len(part.models), len(part.strata)
    verdict = f"{part.verdict.capitalize()}." if part is decision.main else f"In lab models: {part.verdict}."
    text = (
        f"**{verdict}** The effect is {effect_text(part, decision)} where the claim needs it {rule.side} "
        f"{rule.scale * rule.line:g}{NBSP}{_unit(rule)}, over {models} {part.kind.removesuffix('s')}{'s' * (models > 1)} and "
        f"{strata} strat{'a' if strata > 1 else 'um'} ({part.n:,} queries)."
    )
    if part.clear_against and strata > 1:
        lie = "lies" if part.clear_against == 1 else "lie"
        text += f" {part.clear_against} of the {strata} strata {lie} clearly on the other side."
    return text


def effect_text(found: Part | Effect, decision: Decision) -> str:
    """Write an effect in the unit of its rule: `12.3 points (10.1 to 14.4)`."""
    rule = decision.claim.decided_by
    middle, below, above = (number(rule.scale * value) for value in (found.effect, found.low, found.high))
    return f"{middle}{NBSP}{_unit(rule)} ({below} to {above})"


def amounts_text(amounts: Sequence[float]) -> str:
    """Write amounts: `20, 30 and 40 %` of pruning, `4 and 3 bits` of rounding."""
    shares = all(amount < 1 for amount in amounts)
    return series([f"{100 * a if shares else a:g}" for a in amounts]) + f"{NBSP}{'%' if shares else 'bits'}"


def _unit(rule) -> str:
    return "bits" if "bits" in rule.unit else "points a million weights" if "million" in rule.unit else "points"


def origins(rows: pd.DataFrame) -> list[str]:
    """List where the rows come from; of results of record, what made them and how that differs from today."""
    lines = []
    for origin, part in rows.groupby("origin", sort=False, observed=True) if "origin" in rows else ():
        count = f"{len(part[['model', 'recipe', 'probe']].drop_duplicates()):,} evaluations"
        study = str(origin).removeprefix("record of ")
        if study == origin:
            lines.append(f"- **Study `{origin}`**: {count}, computed on this machine.")
            continue
        made, other = record.load(study).making(), record.load(study).otherwise()
        when = " to ".join(dict.fromkeys((made["days"][0], made["days"][-1])))
        differ = [f"{n:,} of them with other {what} than this book's" for what, n in other.items() if n]
        how = f": {' and '.join(differ)}" if differ else ", by the code and with the versions of this book"
        lines.append(
            f"- **Results of record, study `{study}`**: {count}, computed on {when} with {', '.join(made['versions'])} on "
            f"{' and '.join(made['processors'])}{how}. `kc verify --study {study}` computes a sample of them again."
        )
    return lines + [f"- **Missing**: {line}" for name in record.studies() for line in record.load(name).problems]


def draw_all(decisions: Sequence[Decision]) -> plt.Figure:
    """Draw every claim that has data, by unit: the distance of its effects from its line, to the right in favour of it."""
    theme()
    groups: dict[str, list[Decision]] = {}
    for d in decisions:
        if d.parts:
            unit = d.claim.decided_by.unit
            shown = unit if "million" in unit or "bits" in unit else "points (of knowledge, or of answers)"
            groups.setdefault(shown, []).append(d)
    heights = [len(group) + 0.6 for group in groups.values()]
    size = (8.6, 1.25 * ROW * sum(heights) + 0.68 * len(groups) + 0.5)
    fig, axes = plt.subplots(len(groups), 1, figsize=size, squeeze=False, height_ratios=heights)
    for ax, (unit, group) in zip(axes[:, 0], groups.items(), strict=True):
        for y, d in enumerate(reversed(group)):
            rule = d.claim.decided_by
            sign = rule.scale * (1 if rule.side == "above" else -1)
            for part in d.parts:
                values = [sign * (value - rule.line) for value in (part.effect, part.low, part.high)]
                at = y + (0.17 if part.kind == LANGUAGE else -0.17) * (len(d.parts) > 1)
                _mark(ax, values[0], sorted(values[1:]), at, part.verdict, hollow=part.kind == LAB)
        _axis(ax, [d.claim.title for d in reversed(group)], f"beyond the line of the claim, {unit}")
        ax.axvline(0, color=INK, linewidth=1.2, zorder=1)
    parts, colours = [p for d in decisions for p in d.parts], sns.color_palette("colorblind")
    marks = [(v, LOOKS[v][1], colours[LOOKS[v][0]], False) for v in LOOKS if any(p.verdict == v for p in parts)]
    marks += [(kind, "o", FAINT, kind == LAB) for kind in (LANGUAGE, LAB) if any(p.kind == kind for p in parts)]
    for name, marker, ink, hollow in marks:
        look = {"color": ink, "marker": marker, "markerfacecolor": "white" if hollow else ink}
        ax.plot([], [], linestyle="none", label=name, **look)
    legend_below(fig)
    return fig


def draw_claim(decision: Decision) -> plt.Figure:
    """Draw the strata of one claim, below those of each kind their mean; the dashed line is the one that it must pass."""
    theme()
    rule, lines = decision.claim.decided_by, []
    for part in decision.parts:
        for s in part.strata:
            verdict = side(s.low, s.high, rule.line, rule.side)
            lines.append((f"{model_name(s.model)}, {s.facts}", s, verdict, part.kind, 6.5))
        if len(part.strata) > 1:
            lines.append((f"mean, {part.kind}", part, part.verdict, part.kind, 9))
    fig, ax = plt.subplots(figsize=(8.6, ROW * len(lines) + 1.1))
    for y, (_, x, verdict, kind, size) in enumerate(reversed(lines)):
        _mark(ax, rule.scale * x.effect, (rule.scale * x.low, rule.scale * x.high), y, verdict, kind == LAB, size)
    ax.axvline(rule.scale * rule.line, color=FAINT, linewidth=1.6, linestyle="--", zorder=1)
    _axis(ax, [name for name, *_ in reversed(lines)], rule.unit)
    fig.tight_layout()
    return fig


def _axis(ax, names: Sequence[str], label: str) -> None:
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(-0.6, len(names) - 0.4)
    ax.set_xlabel(label)


def _mark(ax, middle: float, ends, y: float, verdict: str, hollow: bool = False, size: float = 6.5) -> None:
    colour, (low, high) = sns.color_palette("colorblind")[LOOKS[verdict][0]], ends
    ax.errorbar(
        [middle], [y], xerr=[[max(0.0, middle - low)], [max(0.0, high - middle)]], color=colour, marker=LOOKS[verdict][1],
        markerfacecolor="white" if hollow else colour, markersize=size, linestyle="none", elinewidth=1.4, capsize=2.5, zorder=3,
    )  # fmt: skip
