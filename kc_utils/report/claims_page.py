"""The ledger of claims as a page: what is claimed, by whom, what decides it, and what the rows at hand say."""

from __future__ import annotations

import math

from kc_utils.places import project_dir
from kc_utils.report import claim_figures, figures
from kc_utils.report.evidence import AllResults, record_note
from kc_utils.report.markdown import figure, markdown_table
from kc_utils.stats.claim_rule import Effect
from kc_utils.stats.claims import (
    FAILS,
    HOLDS,
    LAB,
    LANGUAGE,
    NO_DATA,
    UNDECIDED,
    VERDICTS,
    Decision,
    Part,
    decide_all,
)
from kc_utils.stats.findings import number, series
from kc_utils.stats.ledger import KNOWN_FROM, read_ledger
from kc_utils.stats.names import model_name

FILE = "claims.yaml"
NBSP = "\u00a0"
INTRO = """# The ledger of claims

**Question.** Which of the things that are said about compression and knowledge do the models measured here bear out?

Every claim is written down as data in `book/claims.yaml`: the statement, the source, and the rule that decides it. The verdict
is computed from rows when this page is built, and changes when they do; nobody types one.

- **holds**: the 95 % interval of the effect lies wholly beyond the line that the claim must pass, and no model is clearly on the
  other side of it.
- **does not hold**: the interval lies wholly on the other side.
- **undecided**: the interval holds both sides, or models clearly disagree.
- **no data**: no rows at hand can decide it.

An effect is the mean over strata, a stratum being one model asked the facts of one source, each counting alike. Claims are about
models of language, whose verdict is the claim's. The models of the [lab](../lab.md), which are many, small and alike, are decided
apart and stand beside it: filled marks are models of language, hollow ones those of the lab. The interval
says how far the effect would move with other facts like these; it does not speak of models that were not measured. A verdict is
about these models and this study's rules, not about the source's own experiments, which used other models. Claims are decided
one by one: of twenty intervals like these, one is expected to miss.
"""


def ledger_page(found: AllResults) -> tuple[str, dict[str, bytes]]:
    """Markdown and pictures by file name, for `book/results/`."""
    decisions = decide_all(read_ledger(project_dir() / "book" / FILE), found.evidence)
    pictures: dict[str, bytes] = {}
    parts = [INTRO, counted(decisions), table(decisions)]
    if any(d.parts for d in decisions):
        pictures["claims.png"] = figures.png(claim_figures.overview(decisions))
        parts.append(
            figure(
                "claims.png",
                "fig-claims",
                "How far the effect of each claim lies beyond the line that it must pass, in favour of the claim to the right of "
                "0. Bars: 95 % intervals. Colour and marker: verdict. Filled: models of language; hollow: the models of the lab.",
                "; ".join(in_words(d) for d in decisions if d.parts) + ".",
            )
        )
    for decision in decisions:
        text, own = section(decision)
        parts.append(text)
        pictures |= own
    parts.append(origins(found))
    return "\n".join(parts), pictures


def counted(decisions: list[Decision]) -> str:
    """The verdicts, counted, in a sentence."""
    counts = {v: sum(d.verdict == v for d in decisions) for v in VERDICTS}
    told = [
        f"{counts[HOLDS]} hold" + ("s" if counts[HOLDS] == 1 else ""),
        f"{counts[FAILS]} do{'es' if counts[FAILS] == 1 else ''} not hold",
        f"{counts[UNDECIDED]} {'is' if counts[UNDECIDED] == 1 else 'are'} undecided",
        f"{counts[NO_DATA]} {'has' if counts[NO_DATA] == 1 else 'have'} no data",
    ]
    return f"Of {len(decisions)} claims, {', '.join(told[:-1])} and {told[-1]}.\n"


def table(decisions: list[Decision]) -> str:
    rows = []
    for d in decisions:
        lab = next((part for part in d.parts if part.kind == LAB), None)
        rows.append(
            {
                "claim": f"[{d.claim.title}](claim-{d.claim.id})",
                "source": f"{{cite:t}}`{d.claim.source}`",
                "verdict": f"**{d.verdict}**" + (" (in the lab)" if d.main is lab and lab else ""),
                "effect (95 % interval)": effect_text(d.main, d) if d.main else "",
                "models": len(d.main.models) if d.main else "",
                "n": f"{d.main.n:,}" if d.main else "",
                "in the lab": f"{lab.verdict}, {effect_text(lab, d)}" if lab and d.main is not lab else "",
            }
        )
    if not any(row["in the lab"] for row in rows):
        rows = [{name: value for name, value in row.items() if name != "in the lab"} for row in rows]
    return f"{markdown_table(rows)}\n"


def section(decision: Decision) -> tuple[str, dict[str, bytes]]:
    claim, rule = decision.claim, decision.claim.decided_by
    lines = [
        f"(claim-{claim.id})=",
        f"## {claim.title}: {decision.verdict}",
        "",
        f"> {claim.statement}",
        "",
        f"- **Source**: {{cite:t}}`{claim.source}`; {KNOWN_FROM[claim.known_from]}.",
        f"- **What decides it**: {rule.says}. Amounts: {amounts_text(rule.amounts, rule)}.",
    ]
    if claim.against:
        lines.append(
            f"- **Against**: [another claim](claim-{claim.against}) says the contrary; the same rows decide both."
        )
    if claim.note:
        lines.append(f"- **Keep in mind**: {claim.note}")
    lines += ["", verdict_text(decision), ""]
    if decision.trouble:
        lines += [f"Rows that are there could not be used: {decision.trouble}.", ""]
    pictures = {}
    if decision.strata:
        name = f"claim-{claim.id}.png"
        pictures[name] = figures.png(claim_figures.of_claim(decision))
        caption = (
            f"{claim.title}: effect in each stratum. Bars: 95 % intervals; dashed: the line that the claim must pass."
        )
        alt = f"{rule.unit}: " + "; ".join(
            f"{model_name(s.model)}, {s.facts}, {effect_text(s, decision)}" for s in decision.strata
        )
        lines += [figure(name, f"fig-claim-{claim.id}", caption, alt), strata_table(decision)]
    return "\n".join(lines), pictures


def verdict_text(decision: Decision) -> str:
    """The verdict in a sentence or two for each kind of models, every number computed."""
    if not decision.parts:
        return (
            "**No data.** No rows at hand have the recipes that this rule needs for a model that knows more than chance without "
            "compression."
        )
    return "\n\n".join(part_text(part, decision) for part in decision.parts)


def part_text(part: Part, decision: Decision) -> str:
    rule = decision.claim.decided_by
    models, strata = len(part.models), len(part.strata)
    line = f"{rule.scale * rule.threshold:g}{NBSP}{_unit(rule)}"
    verdict = f"{part.verdict.capitalize()}." if part is decision.main else f"In the lab: {part.verdict}."
    what = (
        f"model{'s' * (models > 1)} of language" if part.kind == LANGUAGE else f"model{'s' * (models > 1)} of the lab"
    )
    text = (
        f"**{verdict}** The effect is {effect_text(part, decision)} where the claim needs it {rule.claims} {line}, over "
        f"{models} {what} and {strata} strat{'a' if strata > 1 else 'um'} ({part.n:,} questions)."
    )
    if part.clear_against and strata > 1:
        lie = "lies" if part.clear_against == 1 else "lie"
        text += f" {part.clear_against} of the {strata} strata {lie} clearly on the other side."
    return text


def strata_table(decision: Decision) -> str:
    rule = decision.claim.decided_by
    rows = [
        {
            "model": f"`{model_name(s.model)}`",
            "facts": f"`{s.facts}`",
            "effect (95 % interval)": effect_text(s, decision),
            "amounts": amounts_text(s.amounts, rule),
            "n": f"{s.n:,}",
            "rows": s.origin,
        }
        for s in decision.strata
    ]
    return f"{markdown_table(rows)}\n"


def origins(found: AllResults) -> str:
    own = [
        f"- **Study `{name}`**: {len(r):,} cells, computed on this machine."
        for name, r in found.origins.items()
        if name not in _records(found)
    ]
    return "## Rows\n\n" + "\n".join([*own, record_note(found)]) + "\n"


def _records(found: AllResults) -> set[str]:
    from kc_utils.report.evidence import RECORD

    return {RECORD + name for name in found.records}


def effect_text(found: Part | Effect, decision: Decision) -> str:
    """`12.3 points (10.1 to 14.4)`, in the unit of the rule."""
    rule = decision.claim.decided_by
    if not math.isfinite(found.effect):
        return "undefined"
    middle, below, above = (number(rule.scale * value) for value in (found.effect, found.low, found.high))
    return f"{middle}{NBSP}{_unit(rule)} ({below} to {above})"


def _unit(rule) -> str:
    return "bits" if "bits" in rule.unit else "points a million weights" if "million" in rule.unit else "points"


def amounts_text(amounts, rule) -> str:
    """`20, 30 and 40 %` of pruning, `4 and 3 bits` of rounding."""
    shares = all(amount < 1 for amount in amounts)
    told = [f"{100 * a:g}" if shares else f"{a:g}" for a in amounts]
    return series(told) + (f"{NBSP}%" if shares else f"{NBSP}bits")


def in_words(decision: Decision) -> str:
    told = [f"{part.kind}, {effect_text(part, decision)}, {part.verdict}" for part in decision.parts]
    return f"{decision.claim.title}: {'; '.join(told)}"
