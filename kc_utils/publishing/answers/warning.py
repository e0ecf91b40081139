"""Do perplexity and harness scores warn in time? Facts, tasks and the perplexity of a text along the same sparsities."""

from __future__ import annotations

import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from kc_utils.analysis import figures
from kc_utils.analysis.across import COLUMNS, curves, first_clear
from kc_utils.analysis.claim_beside import LostUnnoticed
from kc_utils.analysis.claim_rows import Evidence, Stratum
from kc_utils.analysis.contrasts import surprises
from kc_utils.analysis.findings import NBSP, clearly_worse, percent
from kc_utils.analysis.names import TASK, model_name
from kc_utils.analysis.summary import summarise
from kc_utils.publishing.answers.answer import Answer, Picture, kept_text
from kc_utils.study.cells import Cell

_PRUNED = re.compile(r"magnitude@all=[\d.]+")
FLAT = 1.05
AMOUNTS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)


def warning(evidence: Evidence) -> Answer:
    """Of the first model that has facts, and a text or tasks beside them, under pruning of all layers."""
    facts = curves(evidence, _wanted)
    for model in dict.fromkeys(s.model for s in evidence.strata):
        own = facts[facts["panel"] == model_name(model)] if len(facts) else facts
        tasks, text = _tasks(evidence, model), _text(evidence, model)
        if len(own) and (len(tasks) or len(text)):
            return _answer(evidence, model_name(model), own, tasks, text)
    return Answer()


def _wanted(recipe: str) -> bool:
    return bool(_PRUNED.fullmatch(recipe))


def _cells(stratum: Stratum) -> dict:
    return {
        Cell(stratum.model, r, stratum.probe): result
        for r, result in stratum.results.items()
        if r == "none" or _wanted(r)
    }


def _tasks(evidence: Evidence, model: str) -> pd.DataFrame:
    """What is kept of each harness task above chance."""
    found = {}
    for stratum in evidence.strata:
        if stratum.model != model or not stratum.probe.tasks or len(_cells(stratum)) < 3:
            continue
        summary = summarise(_cells(stratum))
        for name, part in summary[summary["protocol"].str.startswith(TASK)].groupby("protocol"):
            found.setdefault(
                name.removeprefix(TASK),
                part.assign(
                    line=name.removeprefix(TASK), low=part["retention_low"], high=part["retention_high"], seeds=1,
                    clear=[line["recipe"] != "none" and clearly_worse(line) for _, line in part.iterrows()],
                ),
            )  # fmt: skip
    return pd.concat(found.values(), ignore_index=True) if found else pd.DataFrame(columns=COLUMNS)


def _text(evidence: Evidence, model: str) -> pd.DataFrame:
    """Perplexity as a multiple of the uncompressed one."""
    for stratum in evidence.reading_texts(lambda s: s.model == model and len(_cells(s)) >= 3):
        return surprises(_cells(stratum)).assign(line=stratum.probe.text)
    return pd.DataFrame(columns=["recipe", "ratio"])


def _answer(evidence: Evidence, model: str, facts: pd.DataFrame, tasks: pd.DataFrame, text: pd.DataFrame) -> Answer:
    parts = [_by_percent(frame) for frame in (facts, tasks, text)]
    rows = []
    for what, frame in zip(("facts", "task"), parts, strict=False):
        for name, curve in frame[frame["recipe"] != "none"].groupby("line", sort=False) if len(frame) else ():
            begin, last = first_clear(curve), curve.iloc[-1]
            rows.append(
                {
                    "measured": f"{what}: `{name}`",
                    "first clear loss": "none" if begin is None else f"{begin['percent']:g}{NBSP}% pruned",
                    "kept there": "" if begin is None else kept_text(begin),
                    f"kept at {last['percent']:g}{NBSP}%": kept_text(last),
                    "n": f"{curve['n'].iloc[0]:,}",
                }
            )
    what = f"Facts, tasks and perplexity of `{model}` along the same sparsities"
    return Answer(
        (_when_facts_go(model, parts[0]), _what_warns(evidence, model, parts[1], parts[2])),
        (
            Picture(
                "beside",
                lambda: _drawn(*parts),
                f"{what.replace('`', '')}, all layers pruned by magnitude. Facts and tasks: kept above chance, 95 % paired "
                "bootstrap intervals; perplexity: as a multiple of the uncompressed model's, logarithmic.",
                _in_words(what.replace("`", ""), *parts),
            ),
        ),
        tuple(_same_columns(rows)),
    )


def _by_percent(frame: pd.DataFrame) -> pd.DataFrame:
    if frame.empty:
        return frame
    return frame.assign(percent=100 * frame["pruned"].astype(float)).sort_values("percent", kind="stable")


def _same_columns(rows: list[dict]) -> list[dict]:
    """A last amount that differs between rows is a column of its own for all."""
    columns = list(dict.fromkeys(c for row in rows for c in row))
    order = [c for c in columns if c != "n"] + ["n"]
    return [{c: row.get(c, "") for c in order} for row in rows]


def _when_facts_go(model: str, facts: pd.DataFrame) -> str:
    begins = [first_clear(curve) for _, curve in facts[facts["recipe"] != "none"].groupby("line", sort=False)]
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
        rule = LostUnnoticed(
            kind="lost while perplexity is flat",
            recipe="magnitude@all={amount}",
            amounts=AMOUNTS,
            flat=FLAT,
            least=0.05,
        )
        lost = [e for e in rule.effects(evidence) if model_name(e.model) == model]
        if flat.empty:
            told.append(f"perplexity has risen by more than {percent(FLAT - 1)} at every sparsity tested")
        else:
            most = max((e.effect for e in lost), default=np.nan)
            hidden = f", where up to {percent(most)} of the knowledge is lost" if np.isfinite(most) and most > 0 else ""
            told.append(f"perplexity stays within {percent(FLAT - 1)} up to {flat.max():g}{NBSP}%{hidden}")
    begins = {}
    for name, curve in tasks[tasks["recipe"] != "none"].groupby("line", sort=False) if len(tasks) else ():
        line = first_clear(curve)
        begins[name] = None if line is None else line["percent"]
    if begins:
        each = [
            f"{name} shows no clear loss" if at is None else f"{name} falls clearly at {at:g}{NBSP}%"
            for name, at in begins.items()
        ]
        told.append(", ".join(each))
    text_ = "; ".join(told)
    return f"Beside them, {text_}."


def _drawn(facts: pd.DataFrame, tasks: pd.DataFrame, text: pd.DataFrame) -> plt.Figure:
    figures.theme()
    shown = [(t, f) for t, f in (("Facts, from memory", facts), ("Tasks", tasks), ("Perplexity", text)) if len(f)]
    fig, axes = plt.subplots(len(shown), 1, figsize=(7.4, 3.1 * len(shown) + 0.6), sharex=True, squeeze=False)
    for ax, (title, frame) in zip(axes[:, 0], shown, strict=True):
        ax.set_title(title, fontsize="small")
        if title == "Perplexity":
            finite = frame[np.isfinite(frame["ratio"].astype(float))]
            figures.draw_lines(ax, finite, "percent", "line", "ratio", "ratio_low", "ratio_high", True, scale=1)
            ax.set_yscale("log")
            ax.axhline(1, color=figures.INK, linewidth=1.2, zorder=1)
            ax.set_ylabel("times the uncompressed one")
        else:
            figures.draw_lines(ax, frame, "percent", "line", "retention", "low", "high", True)
            ax.axhline(100, color=figures.INK, linewidth=1.1, linestyle="--", zorder=1, label="nothing lost")
            ax.axhline(0, color=figures.FAINT, linewidth=1.8, linestyle=":", zorder=1, label="guessing")
            ax.set_ylabel("kept above chance (%)")
        handles, labels = ax.get_legend_handles_labels()
        ax.legend(handles, labels, fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    axes[-1, 0].set_xlabel("weights of all layers set to zero (%)")
    fig.tight_layout()
    return fig


def _in_words(what: str, facts: pd.DataFrame, tasks: pd.DataFrame, text: pd.DataFrame) -> str:
    parts = [what]
    for name, frame, column, scale in (
        ("facts kept in per cent", facts, "retention", 100),
        ("tasks kept in per cent", tasks, "retention", 100),
        ("perplexity, times the uncompressed one", text, "ratio", 1),
    ):
        for line, curve in frame.groupby("line", sort=False) if len(frame) else ():
            told = ", ".join(
                f"{scale * v:.3g} at {at:g}"
                for at, v in zip(curve["percent"], curve[column].astype(float), strict=True)
            )
            parts.append(f"{name}, {line}: {told}")
    return ". ".join(parts) + "."
