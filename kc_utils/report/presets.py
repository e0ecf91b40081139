"""What the paper's sets of matrices change: recipes with `preset=paper` beside the same recipes without it."""

from __future__ import annotations

import pandas as pd

from kc_utils.stats.findings import LEVEL, NBSP, percent
from kc_utils.stats.names import short_protocol
from kc_utils.stats.pair_tests import corrected
from kc_utils.stats.statistics import compare
from kc_utils.stats.summary import questions_of
from kc_utils.compression.recipe import Recipe, Step
from kc_utils.report.fragments import Results
from kc_utils.report.markdown import markdown_table
from kc_utils.study.cells import Cell

NONE = (
    "No run with `preset=paper` is among the results that this book was built from, so that nothing can be said here about "
    "its effect on facts.\n"
)


def paper_preset(results: Results) -> str:
    """Markdown: a table of all pairs, and what it says; in words where there is no pair. results: cells of a study."""
    asked = [cell for cell in results if "preset=paper" in cell.recipe]
    pairs = [(cell, twin) for cell in asked if (twin := without_preset(cell)) in results]
    if not asked:
        return NONE
    alone = [f"`{cell.recipe}`" for cell in asked if without_preset(cell) not in results]
    lines = [line for paper, plain in pairs for line in _lines(results, paper, plain)]
    text = ""
    if lines:
        p_values = corrected(pd.Series([line["p"] for line in lines]))
        lines = [{**line, "p": p} for line, p in zip(lines, p_values, strict=True)]
        text = markdown_table([_row(line) for line in lines]) + "\n\n" + "\n".join(f"- {_sentence(x)}" for x in lines)
        text += "\n\nPairs are compared fact by fact with McNemar's exact test, corrected by Holm's method.\n"
    if alone:
        text += f"\nWithout a counterpart among the results: {', '.join(alone)}.\n"
    return text


def without_preset(cell: Cell) -> Cell:
    """The cell of the same recipe with the scopes of this study."""
    steps = tuple(
        Step(s.method, s.scope, s.amount, {**s.options, "preset": "consistent"})
        for s in Recipe.parse(cell.recipe).steps
    )
    return Cell(cell.model, str(Recipe(steps)), cell.probe)


def _lines(results: Results, paper: Cell, plain: Cell) -> list[dict]:
    """One line per protocol; lost and gained are answers that only the plain, only the paper's version has right."""
    touched = {name: results[cell].report["weights_touched"] for name, cell in (("paper", paper), ("plain", plain))}
    lines = []
    for protocol, rows in questions_of(results[paper].rows).groupby("protocol"):
        other = questions_of(results[plain].rows)
        found = compare(rows, other[other["protocol"] == protocol])
        lines.append(
            {
                "model": paper.model, "recipe": paper.recipe, "protocol": protocol, "touched": touched,
                "n": found.n, "paper": found.accuracy, "plain": found.baseline_accuracy,
                "lost": found.lost, "gained": found.gained, "p": found.p_mcnemar,
            }
        )  # fmt: skip
    return lines


def _row(line: dict) -> dict:
    return {
        "model": line["model"],
        "recipe": f"`{line['recipe']}`",
        "asked by": line["protocol"],
        "facts": line["n"],
        "weights, paper": f"{line['touched']['paper'] / 1e6:,.1f} M",
        "weights, here": f"{line['touched']['plain'] / 1e6:,.1f} M",
        "right, paper": percent(line["paper"]),
        "right, here": percent(line["plain"]),
        "p (Holm)": "< 0.001" if line["p"] < 0.001 else f"{line['p']:.3f}",
    }


def _sentence(line: dict) -> str:
    more = line["touched"]["paper"] - line["touched"]["plain"]
    size = (
        f"{abs(more) / 1e6:,.1f}{NBSP}M weights {'more' if more > 0 else 'fewer'}"
        if more
        else "the same number of weights"
    )
    changed = line["lost"] + line["gained"]
    if not changed:
        verdict = "not one answer differs in being right"
    else:
        clear = "a clear difference" if line["p"] < LEVEL else "a difference that may be chance"
        verdict = f"{percent(line['paper'])} right instead of {percent(line['plain'])}, {clear}"
    name = short_protocol(line["protocol"])
    return (
        f"`{line['recipe']}` touches {size} {'than' if more else 'as'} without the preset; asked by {name}, {verdict}."
    )
