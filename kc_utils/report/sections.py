"""The parts of a result page: each draws one figure of a run, or says what is to be seen there.

A part that a run has no rows for shows nothing; where its heading is tagged `optional`, the page leaves it out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd

from kc_utils.report import figures
from kc_utils.stats import findings
from kc_utils.stats.names import METHOD_NAMES, SCOPE_NAMES, protocol_name, short_protocol
from kc_utils.report.layout import View, bits_view, bytes_view, laid_out
from kc_utils.report.showing import show, show_sentences

if TYPE_CHECKING:
    from kc_utils.report.notebook import OpenRun

WHAT = {
    "pruning": "after pruning",
    "quantization": "after quantization",
    "pruning_then_quantization": "after pruning, then quantizing",
    "final_layer": "after pruning its final layer",
    "gptq": "after GPTQ and after rounding to nearest",
}
FATE_NAMES = {
    "kept": "Kept: both ways still right",
    "forgotten": "Forgotten: right only when stated",
    "misread": "Misread: right only from memory",
    "broken": "Broken: both ways wrong",
}
KEPT = ((1.0, "nothing lost"), (0.0, "guessing"))


def draw_accuracy(run: OpenRun) -> None:
    """Right answers against what the technique varies."""
    what = f"Right answers of {run.model} {WHAT[run.technique]}"
    _draw_answers(run, run.view, "accuracy", what, "Black line: uncompressed; dotted: chance.")


def draw_budget(run: OpenRun) -> None:
    """The same answers against the number of weights set to zero."""
    view = replace(run.view, x="millions", xlabel="weights set to zero (millions)")
    what = f"Right answers of {run.model} against the number of weights set to zero"
    _draw_answers(run, view, "budget", what, "The same models as in the first figure.")


def draw_bits(run: OpenRun) -> None:
    """The same answers against bits per weight of the touched matrices; the uncompressed model is a line."""
    view = bits_view(run.technique)
    what = f"Right answers of {run.model} against the bits that a weight of the scope takes"
    _draw_answers(run, view, "bits", what, "Black line: uncompressed; dotted: chance.", run.only_compressed)


def _draw_answers(
    run: OpenRun, view: View, name: str, what: str, note: str, summary: pd.DataFrame | None = None
) -> None:
    frame = laid_out(run.summary if summary is None else summary, view)
    show(
        figures.panels(frame, x=view.x, hue=view.hue, row=view.row, xlabel=view.xlabel, joined=view.joined),
        name=name,
        caption=f"{what}. Bars: 95 % intervals ({asked(frame)}). {note}",
        alt=figures.describe(
            frame, view.x, view.hue, f"{what}: right answers in per cent by {view.xlabel}", row=view.row
        ),
    )


def draw_bytes(run: OpenRun) -> None:
    """Knowledge kept against bytes of the whole model; protocols in which nothing was known are left out."""
    view = bytes_view(run.technique)
    known = run.summary[run.summary["retention"].notna() & run.summary["compression_ratio"].notna()]
    if known.empty:
        return
    frame = laid_out(known, view)
    what = f"Knowledge that {run.model} keeps, against the bytes it takes"
    shares = {"y": "retention", "low": "retention_low", "high": "retention_high"}
    show(
        figures.panels(
            frame, x=view.x, hue=view.hue, row=view.row, xlabel=view.xlabel, ylabel="knowledge kept (%)", **shares,
            reference=None, chance=None, levels=KEPT, joined=view.joined,
        ),
        name="bytes",
        caption=(
            f"{what}: further right is smaller. Bars: 95 % paired bootstrap intervals ({asked(frame)}). The ratio is that of "
            "the uncompressed model at 16 bits a value; what is not compressed counts 16 bits a value, too."
        ),
        alt=figures.describe(
            frame, view.x, view.hue, f"{what}: per cent kept by compression ratio", y="retention", row=view.row
        ),
    )  # fmt: skip


def tell_bytes(run: OpenRun) -> None:
    show_sentences(findings.smallest_without_clear_loss(run.summary, p) for p in run.closed_book)


def tell_losses(run: OpenRun) -> None:
    """What the first figure shows, by protocol."""
    for protocol in run.protocols:
        show_sentences([findings.baseline_sentence(run.summary, protocol), *_losses(run, protocol)])


def _losses(run: OpenRun, protocol: str) -> list[str]:
    summary = run.summary
    if run.technique == "pruning":
        return findings.loss_by_group(summary, protocol, "scope", SCOPE_NAMES, "pruned", "% sparsity")
    if run.technique == "final_layer":
        return findings.loss_by_group(summary, protocol, "method", METHOD_NAMES, "pruned", "% sparsity")
    if run.technique == "pruning_then_quantization":
        return findings.combination_sentences(summary, protocol)
    if run.technique == "gptq":
        return findings.duel_sentences(run.duels, protocol)
    rounded = findings.loss_by_group(
        run.only(method="rtn"), protocol, "scope", SCOPE_NAMES, "amount", "bits", harsher="down"
    )
    return rounded + findings.lines_of(summary[summary["method"] != "rtn"], protocol)


def tell_scopes(run: OpenRun) -> None:
    """Attention against feed-forward at equal sparsity."""
    show_sentences(findings.scope_contrast(run.summary, protocol) for protocol in run.closed_book)


def draw_zeros(run: OpenRun) -> None:
    """Zeros asked for against zeros found after the last step."""
    frame = laid_out(run.summary, run.view).drop_duplicates(["recipe", "scope_name"])
    show(
        figures.panels(
            frame, x="percent", hue="precision_name", column="scope_name", xlabel="zeros asked for (%)",
            ylabel="zeros found at the end (%)", y="sparsity", low="sparsity", high="sparsity", reference=None, chance=None,
        ),
        name="zeros",
        caption="Zeros asked for by pruning against zeros found after the last step, counted in the weights that the model uses.",
        alt=figures.describe(
            frame, "percent", "precision_name", "Zeros found after the last step in per cent", "scope_name", "sparsity"
        ),
    )  # fmt: skip


def draw_surprise(run: OpenRun) -> None:
    """Perplexity of a text on the axis of recall."""
    if run.surprises.empty:
        return
    view, protocol = run.view, run.main_protocol
    frame = laid_out(run.summary, view)
    recall, surprise = frame[frame["protocol"] == protocol], laid_out(run.surprises, view)
    text = surprise["text"].iloc[0]
    what = f"Facts and perplexity of {run.model}"
    show(
        figures.recall_and_surprise(recall, surprise, view.x, view.hue, view.xlabel, view.row, view.joined),
        name="perplexity",
        caption=(
            f"{what}: above, right answers ({protocol_name(protocol)}; {asked(recall)}); below, the perplexity of {text} as "
            "a multiple of the uncompressed model's, on a logarithmic scale. Bars: 95 % intervals, below over windows of the "
            "text. An open triangle at the upper edge is endless."
        ),
        alt=figures.describe(recall, view.x, view.hue, f"{what}: right answers in per cent", row=view.row)
        + " "
        + figures.describe(
            surprise, view.x, view.hue, "Perplexity, times the uncompressed one", column=view.row or "text",
            y="ratio", times=True,
        ),
    )  # fmt: skip


def tell_surprise(run: OpenRun) -> None:
    if len(run.surprises):
        show_sentences(findings.surprise_sentences(run.summary, run.surprises, run.main_protocol))


def draw_fates(run: OpenRun) -> None:
    """Forgotten against broken: facts lost from memory while their open-book twin survives, or not."""
    frame = run.fates
    if frame.empty:
        return
    frame = frame[frame["fate"].isin(("forgotten", "broken"))]
    frame = laid_out(frame.assign(fate_name=frame["fate"].map(FATE_NAMES)), run.view)
    frame = frame.sort_values("fate", ascending=False, kind="stable")
    what = f"What becomes of the facts that {run.model} answers both from memory and when stated"
    show(
        figures.panels(
            frame, x=run.view.x, hue=run.view.hue, row=run.view.row, column="fate_name", xlabel=run.view.xlabel,
            ylabel="of the facts answered both ways (%)", y="share", reference=None, chance=None, joined=run.view.joined,
        ),
        name="fates",
        caption=f"{what} (n = {frame['n'].iloc[0]}). Bars: 95 % intervals. Guesses count as answers here.",
        alt=figures.describe(
            frame, run.view.x, run.view.hue, f"{what}, in per cent", column="fate_name", y="share", row=run.view.row
        ),
    )  # fmt: skip


def tell_fates(run: OpenRun) -> None:
    recipes = dict.fromkeys((run.mildest_clear_loss(), run.worst()))
    show_sentences(findings.fate_sentence(run.fates, recipe) for recipe in recipes)


def draw_agreement(run: OpenRun) -> None:
    """How often two wordings of a fact get the same answer."""
    if run.agreements.empty:
        return
    frame = laid_out(run.agreements, run.view)
    what = f"Pairs of wordings of a fact to which {run.model} gives the same answer"
    show(
        figures.panels(
            frame, x=run.view.x, hue=run.view.hue, row=run.view.row, xlabel=run.view.xlabel,
            ylabel="pairs that agree (%)", y="value", reference="baseline_value", chance=None, joined=run.view.joined,
        ),
        name="consistency",
        caption=f"{what}, right or wrong. Bars: 95 % intervals over {frame['facts'].iloc[0]} facts; black line: uncompressed.",
        alt=figures.describe(frame, run.view.x, run.view.hue, f"{what}, in per cent", y="value", row=run.view.row),
    )  # fmt: skip


def tell_agreement(run: OpenRun) -> None:
    recipe = run.mildest_clear_loss()
    show_sentences(findings.agreement_sentence(run.agreements, recipe, protocol) for protocol in run.protocols)


def draw_halves(run: OpenRun) -> None:
    """Better-known and less-known facts, for the first scope of the run."""
    if run.halves.empty:
        return
    view = replace(run.view, hue="half", starts=(), row=None)
    frame = laid_out(run.halves, view)
    scope = run.parameters.scopes[0]
    what = f"Right answers of {run.model} for better-known and less-known facts ({SCOPE_NAMES.get(scope, scope)})"
    show(
        figures.panels(frame, x=view.x, hue="half", xlabel=view.xlabel, reference=None, joined=view.joined),
        name="popularity",
        caption=f"{what}. head: the more popular half of each relation's facts; tail: the other half. Bars: 95 % intervals.",
        alt=figures.describe(frame, view.x, "half", what),
    )


def tell_halves(run: OpenRun) -> None:
    if len(run.halves):
        show_sentences(
            findings.head_and_tail_sentence(run.halves, recipe, run.main_protocol) for recipe in run.recipes_of_halves
        )


def draw_relations(run: OpenRun) -> None:
    """Each relation before and after the mildest recipe with a clear loss. Shows nothing for a run without facts."""
    protocol, recipe = run.main_protocol, run.mildest_clear_loss()
    frame = run.relations(["none", recipe])
    frame = frame[frame["protocol"] == protocol]
    if frame.empty or not run.asks_facts:
        return
    show(
        figures.relation_bars(frame, "none", recipe, protocol),
        name="relations",
        caption=(
            f"Right answers ({short_protocol(protocol)}) by relation, before and after `{recipe}`. Bars: 95 % Wilson "
            "intervals; short grey strokes: chance."
        ),
        alt=figures.describe(frame, "relation", "recipe", "Right answers by relation in per cent"),
    )


def asked(frame: pd.DataFrame) -> str:
    """How many questions each protocol of a frame asked: `n = 500` where all are alike."""
    counts = frame.drop_duplicates("protocol").set_index("protocol")["n"]
    if counts.nunique() == 1:
        return f"n = {counts.iloc[0]}"
    return ", ".join(f"n = {n} in {short_protocol(protocol)}" for protocol, n in counts.items())
