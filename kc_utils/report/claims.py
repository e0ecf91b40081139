"""The ledger of claims as a page: each claim, its source, the rule that decides it, and what the rows at hand say."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
import yaml

from kc_utils.places import project_dir
from kc_utils.report.drawing import FAINT, INK, legend_below, png, theme
from kc_utils.report.phrases import NBSP, number, series
from kc_utils.report.tables import devices, figure, markdown_table, template
from kc_utils.stats import decision
from kc_utils.stats.claims import AGAINST, FOR, KNOWN_FROM, UNDECIDED, Decision, Part, decide_all, read_ledger, side_of
from kc_utils.stats.decision import FACTS
from kc_utils.stats.evidence import LAB, LANGUAGE, Effect, Evidence
from kc_utils.stats.names import model_name, short_protocol
from kc_utils.study import record

CAPTION = (
    "Distance of each effect from the line of its claim, by protocol; to the right of 0 it favours the claim. Bars: 95 % "
    "intervals. Colour and marker: what it decides. Filled: language models; hollow: lab models."
)
LOOKS = {FOR: (2, "o"), AGAINST: (3, "X"), UNDECIDED: (0, "s")}  # colour and marker: neither is needed alone
SIDES = {FOR: "for the claim", AGAINST: "against it", UNDECIDED: "undecided"}
ROW = 0.36  # inches


def ledger_page(rows: pd.DataFrame) -> tuple[str, dict[str, bytes]]:
    """Return Markdown, and pictures by file name, for `book/results/`. rows: of `kc.results`; empty where there are none."""
    file = project_dir() / "book" / "claims.yaml"
    decisions = decide_all(read_ledger(file), Evidence(rows))
    parts, pictures = [template("claims.md").render(), summary(decisions)], {}
    if any(d.parts for d in decisions):
        pictures["claims.png"] = png(draw_all(decisions))
        said = [f"{d.claim.title}: {part_name(p)}, {effect_text(p, d)}, {p.side}" for d in decisions for p in d.parts]
        parts.append(figure("claims.png", "fig-claims", CAPTION, "; ".join(said) + "."))
    for decided in decisions:
        text, own = section(decided)
        parts.append(text)
        pictures |= own
    return "\n".join([*parts, "## Rows\n", *origins(rows)]) + "\n", pictures


def decision_rows() -> list[dict[str, str]]:
    """Return the values that decide on every page as rows of a table, each with its reason."""
    written = yaml.safe_load(decision.FILE.read_text(encoding="utf-8"))
    shown = lambda value: ", ".join(value) if isinstance(value, list) else f"{value}"  # noqa: E731
    return [{"setting": name, "value": shown(x["value"]), "reason": x["reason"]} for name, x in written.items()]


def summary(decisions: Sequence[Decision]) -> str:
    """Write the table of all claims: the verdict, and the effect that it rests on, by protocol."""
    rows = []
    for d in decisions:
        row = {"claim": f"[{d.claim.title}](claim-{d.claim.id})", "source": f"{{cite:t}}`{d.claim.source}`"}
        row["verdict"] = f"**{d.verdict}**" + (" (in lab models)" if d.main == LAB else "")
        for protocol in decision.PROTOCOLS:
            own = [part for part in d.of(d.main) if part.protocol == protocol]
            row[short_protocol(protocol)] = "".join(f"{SIDES[p.side]}, {effect_text(p, d)}" for p in own)
        lab = d.of(LAB) if d.main != LAB else ()
        row["in lab models"] = f"{d.verdict_in(LAB)}: " + "; ".join(effect_text(p, d) for p in lab) if lab else ""
        rows.append(row)
    return f"{markdown_table(rows)}\n"


def section(decision: Decision) -> tuple[str, dict[str, bytes]]:
    """Return the section of one claim and its picture by file name."""
    claim, rule = decision.claim, decision.claim.decided_by
    given = {"claim": claim, "decision": decision, "known_from": KNOWN_FROM[claim.known_from]}
    given["least"] = FACTS
    given["rule"] = f"{rule.says}. Amounts: {amounts_text(rule.amounts)}."
    given["kinds"] = [kind_text(kind, decision) for kind in (LANGUAGE, LAB) if decision.of(kind)]
    if not decision.parts:
        return template("claim.md").render(given), {}
    name = f"claim-{claim.id}.png"
    caption = f"{claim.title}: effect in each stratum. Bars: 95 % intervals; dashed: the line that the claim must pass."
    shown = [f"{model_name(s.model)}, {s.facts}, {effect_text(s, decision)}" for p in decision.parts for s in p.strata]
    table = [
        {
            "model": f"`{model_name(s.model)}`", "facts": f"`{s.facts}`", "protocol": short_protocol(part.protocol),
            "effect (95 % interval)": effect_text(s, decision), "amounts": amounts_text(s.amounts), "n": f"{s.n:,}",
            "rows": s.origin,
        }
        for part in decision.parts
        for s in part.strata
    ]  # fmt: skip
    given["picture"] = figure(name, f"fig-claim-{claim.id}", caption, f"{rule.unit}: {'; '.join(shown)}")
    given["table"] = markdown_table(table)
    return template("claim.md").render(given), {name: png(draw_claim(decision))}


def kind_text(kind: str, decision: Decision) -> str:
    """State the verdict for one kind of models, with the effect by each protocol."""
    rule, parts = decision.claim.decided_by, decision.of(kind)
    models = list(dict.fromkeys(m for part in parts for m in part.models))
    whose = f"{len(models)} {kind}" if len(models) > 2 else series([f"`{model_name(m)}`" for m in models])
    said = []
    for part in parts:
        text = f"by {short_protocol(part.protocol)} {effect_text(part, decision)}, {SIDES[part.side]}"
        text += f", beside `{part.rival}`" * bool(part.rival)
        several = f", of which {part.disagree} clearly disagree{'s' * (part.disagree == 1)}" if part.disagree else ""
        said.append(f"{text} ({part.n:,} queries in {len(part.strata)} strat{'a' if len(part.strata) > 1 else 'um'}{several})")
    needs = f"{rule.side} {number(rule.scale * rule.line)}{NBSP}{_unit(rule)}"
    needs += f" by {rule.scale * rule.least:g} at least" * bool(rule.least)
    verdict = decision.verdict_in(kind).capitalize()
    return f"**{verdict}**, in {whose}. The claim needs the effect {needs}. It is {'; '.join(said)}."


def part_name(part: Part) -> str:
    return f"{part.kind} by {short_protocol(part.protocol)}"


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
    return "bits" if "bits" in rule.unit else "points"


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
        names = {record.rules(): "the rules of this page", "": "rules that its list does not name"}
        under = names.get(record.rules_of(study), "other rules than those of this page")
        lines.append(
            f"- **Results of record, study `{study}`**: {count}, computed on {when} with {', '.join(made['versions'])}{how}. "
            f"{devices(made['made'])} It was recorded under {under}. `kc verify --study {study}` computes a sample of them again."
        )
    return lines + [f"- **Missing**: {line}" for name in record.studies() for line in record.load(name).problems]


def draw_all(decisions: Sequence[Decision]) -> plt.Figure:
    """Draw each claim that has data, a panel a protocol: how far its effects lie from its line, to the right in favour."""
    theme()
    shown = [d for d in decisions if d.parts and "bits" not in d.claim.decided_by.unit]
    fig, axes = plt.subplots(1, 2, figsize=(11, ROW * len(shown) + 1.6), sharey=True)
    for ax, protocol in zip(axes, decision.PROTOCOLS, strict=True):
        for y, d in enumerate(reversed(shown)):
            rule = d.claim.decided_by
            sign = rule.scale * (1 if rule.side == "above" else -1)
            for part in (part for part in d.parts if part.protocol == protocol):
                values = [sign * (value - rule.line) for value in (part.effect, part.low, part.high)]
                at = y + 0.17 * (1 if part.kind == LANGUAGE else -1)
                _mark(ax, values[0], sorted(values[1:]), at, part.side, hollow=part.kind == LAB)
        _axis(ax, [d.claim.title for d in reversed(shown)], "points beyond the line of the claim")
        ax.set_title(short_protocol(protocol).capitalize())
        ax.axvline(0, color=INK, linewidth=1.2, zorder=1)
    parts, colours = [p for d in shown for p in d.parts], sns.color_palette("colorblind")
    marks = [(SIDES[s], LOOKS[s][1], colours[LOOKS[s][0]], False) for s in LOOKS if any(p.side == s for p in parts)]
    marks += [(kind, "o", FAINT, kind == LAB) for kind in (LANGUAGE, LAB) if any(p.kind == kind for p in parts)]
    for name, marker, ink, hollow in marks:
        look = {"color": ink, "marker": marker, "markerfacecolor": "white" if hollow else ink}
        axes[0].plot([], [], linestyle="none", label=name, **look)
    legend_below(fig)
    return fig


def draw_claim(decision: Decision) -> plt.Figure:
    """Draw the strata of one claim by kind and protocol, below each group its mean; dashed: the line that it must pass."""
    theme()
    rule, lines = decision.claim.decided_by, []
    for part in decision.parts:
        how = short_protocol(part.protocol)
        for s in part.strata:
            side = side_of(rule, s.effect, s.low, s.high)
            lines.append((f"{model_name(s.model)}, {s.facts}, {how}", s, side, part.kind, 6.5))
        if len(part.strata) > 1:
            lines.append((f"mean, {part_name(part)}", part, part.side, part.kind, 9))
    fig, ax = plt.subplots(figsize=(8.6, ROW * len(lines) + 1.1))
    for y, (_, x, side, kind, size) in enumerate(reversed(lines)):
        _mark(ax, rule.scale * x.effect, (rule.scale * x.low, rule.scale * x.high), y, side, kind == LAB, size)
    ax.axvline(rule.scale * rule.line, color=FAINT, linewidth=1.6, linestyle="--", zorder=1)
    _axis(ax, [name for name, *_ in reversed(lines)], rule.unit)
    fig.tight_layout()
    return fig


def _axis(ax, names: Sequence[str], label: str) -> None:
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(-0.6, len(names) - 0.4)
    ax.set_xlabel(label)


def _mark(ax, middle: float, ends, y: float, side: str, hollow: bool = False, size: float = 6.5) -> None:
    colour, (low, high) = sns.color_palette("colorblind")[LOOKS[side][0]], ends
    ax.errorbar(
        [middle], [y], xerr=[[max(0.0, middle - low)], [max(0.0, high - middle)]], color=colour, marker=LOOKS[side][1],
        markerfacecolor="white" if hollow else colour, markersize=size, linestyle="none", elinewidth=1.4, capsize=2.5, zorder=3,
    )  # fmt: skip
