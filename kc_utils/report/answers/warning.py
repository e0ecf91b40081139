"""Do perplexity and harness scores warn in time? Facts, tasks and the perplexity of a text along the same sparsities."""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import pandas as pd

from kc_utils.report import figures
from kc_utils.stats.across import PRUNED, as_curve, cells_of, curves, first_clear, matching
from kc_utils.stats.claim_beside import LostUnnoticed
from kc_utils.stats.claim_rows import Evidence
from kc_utils.stats.contrasts import surprises
from kc_utils.stats.findings import NBSP, clearly_worse, interval, percent, series
from kc_utils.stats.lab_findings import amount, kept, points
from kc_utils.stats.names import TASK, model_name
from kc_utils.stats.summary import summarise
from kc_utils.report.answers.answer import Answer, Picture

FLAT = 1.05
RULE = LostUnnoticed(
    kind="lost while perplexity is flat", recipe="magnitude@all={amount}", amounts=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6),
    flat=FLAT, least=0.05,
)  # fmt: skip


def warning(evidence: Evidence) -> Answer:
    """Of the first model that has facts, and a text or tasks beside them, under pruning of all layers."""
    facts = curves(evidence, PRUNED)
    for model in dict.fromkeys(s.model for s in evidence.strata if len(facts)):
        own = facts[facts["panel"] == model_name(model)]
        tasks, text = _tasks(evidence, model), _text(evidence, model)
        if len(own) and (len(tasks) or len(text)):
            return _answer(evidence, model, own, tasks, text)
    return Answer()


def _tasks(evidence: Evidence, model: str) -> pd.DataFrame:
    """Right answers to each harness task."""
    found = {}
    for stratum in evidence.strata:
        cells = cells_of(stratum, PRUNED)
        if stratum.model != model or not stratum.probe.tasks or len(cells) < 3:
            continue
        for name, part in summarise(cells).groupby("protocol"):
            if name.startswith(TASK):
                task = name.removeprefix(TASK)
                found.setdefault(task, as_curve(part, clearly_worse).assign(line=task))
    return pd.concat(found.values(), ignore_index=True) if found else pd.DataFrame()


def _text(evidence: Evidence, model: str) -> pd.DataFrame:
    """Perplexity as a multiple of the uncompressed one."""
    for stratum in evidence.reading_texts(lambda s: matching(s, PRUNED, 2) * (s.model == model)):
        found = surprises(cells_of(stratum, PRUNED))
        return found.assign(line=stratum.probe.text, percent=100 * found["pruned"].astype(float))
    return pd.DataFrame()


def _answer(evidence: Evidence, model: str, facts: pd.DataFrame, tasks: pd.DataFrame, text: pd.DataFrame) -> Answer:
    rows = []
    for kind, frame, told in (("facts", facts, lambda line: f"{kept(line)} kept"), ("task", tasks, _right)):
        for name, curve in _lines(frame):
            begin, last = first_clear(curve), curve.iloc[-1]
            nothing = "nothing to lose" if kind == "task" and _guesses(curve) else "none"
            rows.append(
                {
                    "measured": f"{kind}: `{name}`",
                    "first clear loss": nothing if begin is None else f"{amount(begin)}: {told(begin)}",
                    "at the most": f"{amount(last)}: {told(last)}",
                    "n": f"{curve['n'].iloc[0]:,}",
                }
            )
    what = f"Facts, tasks and perplexity of {model_name(model)} along the same sparsities"
    return Answer(
        (_when_facts_go(model_name(model), facts), _what_warns(evidence, model, tasks, text)),
        (
            Picture(
                "beside",
                lambda: _drawn(facts, tasks, text),
                f"{what}, all layers pruned by magnitude. Facts: what is kept above chance; tasks: right "
                "answers; 95 % intervals; perplexity: as a multiple of the uncompressed model's, logarithmic.",
                _in_words(what, facts, tasks, text),
            ),
        ),
        tuple(rows),
    )


def _lines(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Each line of compressed models."""
    return [*frame[frame["recipe"] != "none"].groupby("line", sort=False)] if len(frame) else []


def _when_facts_go(model: str, facts: pd.DataFrame) -> str:
    begins = [first_clear(curve) for _, curve in _lines(facts)]
    clear = [line["percent"] for line in begins if line is not None]
    if not clear:
        return f"`{model}` loses no facts clearly at any sparsity tested."
    spread = f"{min(clear):g}" + (f" to {max(clear):g}" if max(clear) > min(clear) else "")
    sources = f"{len(clear)} of {len(begins)} sources of facts"
    return f"Facts of `{model}` are lost clearly from {spread}{NBSP}% sparsity on ({sources})."


def _what_warns(evidence: Evidence, model: str, tasks: pd.DataFrame, text: pd.DataFrame) -> str:
    told = []
    if len(text):
        flat = text[(text["recipe"] != "none") & (text["ratio"] <= FLAT)]["percent"]
        if flat.empty:
            told.append(f"perplexity has risen by more than {percent(FLAT - 1)} at every sparsity tested")
        else:
            lost = [e for e in RULE.effects(evidence) if e.model == model and e.effect > 0]
            most = max(lost, key=lambda e: e.effect, default=None)
            hidden = (
                f", where up to {points(most.effect, most.low, most.high)} of the knowledge are lost" if most else ""
            )
            told.append(f"perplexity stays within {percent(FLAT - 1)} up to {flat.max():g}{NBSP}%{hidden}")
    told += _of_tasks(tasks)
    return f"Beside them, {'; '.join(told)}."


def _of_tasks(tasks: pd.DataFrame) -> list[str]:
    """Where each task's score falls clearly; those on which the uncompressed model hardly beats chance together."""
    told, guessed = [], []
    for name, curve in _lines(tasks):
        begin = first_clear(curve)
        if _guesses(curve):
            guessed.append(name)
        else:
            told.append(f"{name} shows no clear loss" if begin is None else f"{name} falls clearly at {amount(begin)}")
    if guessed:
        have = "has" if len(guessed) == 1 else "have"
        told.append(f"{series(guessed)} {have} nothing to lose, since the uncompressed model hardly beats chance there")
    return told


def _guesses(curve: pd.DataFrame) -> bool:
    """Whether the uncompressed model hardly beats chance: by less than two standard errors of guessing."""
    known = curve.iloc[0]
    return known["baseline_accuracy"] - known["chance"] < 2 * math.sqrt(
        known["chance"] * (1 - known["chance"]) / known["n"]
    )


def _right(line: pd.Series) -> str:
    return f"{percent(line['accuracy'])} ({interval(line['low'], line['high'])}) right"


def _drawn(facts: pd.DataFrame, tasks: pd.DataFrame, text: pd.DataFrame) -> plt.Figure:
    figures.theme()
    shown = [(t, f) for t, f in (("Facts, from memory", facts), ("Tasks", tasks), ("Perplexity", text)) if len(f)]
    fig, axes = plt.subplots(len(shown), 1, figsize=(7.4, 3.1 * len(shown) + 0.6), sharex=True, squeeze=False)
    for ax, (title, frame) in zip(axes[:, 0], shown, strict=True):
        ax.set_title(title, fontsize="small")
        if title == "Perplexity":
            figures.draw_ratio(ax, frame, "percent", "line", True)
            ax.set_ylabel("times the uncompressed one")
        elif title == "Tasks":
            figures.draw_lines(ax, frame, "percent", "line", "accuracy", "low", "high", True)
            for chance in sorted(set(frame["chance"].round(3))):
                ax.axhline(100 * chance, color=figures.FAINT, linewidth=1.8, linestyle=":", zorder=1, label="guessing")
            ax.set_ylabel("right answers (%)")
        else:
            figures.draw_lines(ax, frame, "percent", "line", "retention", "retention_low", "retention_high", True)
            ax.axhline(100, color=figures.INK, linewidth=1.1, linestyle="--", zorder=1, label="nothing lost")
            ax.axhline(0, color=figures.FAINT, linewidth=1.8, linestyle=":", zorder=1, label="guessing")
            ax.set_ylabel("kept above chance (%)")
        ax.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    axes[-1, 0].set_xlabel("weights of all layers set to zero (%)")
    fig.tight_layout()
    return fig


def _in_words(what: str, facts: pd.DataFrame, tasks: pd.DataFrame, text: pd.DataFrame) -> str:
    parts = [what]
    for name, frame, column, scale in (
        ("facts kept in per cent", facts, "retention", 100),
        ("right answers in per cent", tasks, "accuracy", 100),
        ("perplexity, times the uncompressed one", text, "ratio", 1),
    ):
        for line, curve in frame.groupby("line", sort=False) if len(frame) else ():
            told = ", ".join(
                f"{scale * v:.3g} at {at:g}"
                for at, v in zip(curve["percent"], curve[column].astype(float), strict=True)
            )
            parts.append(f"{name}, {line}: {told}")
    return ". ".join(parts) + "."
