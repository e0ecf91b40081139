"""Models of one line, which differ in their seed: their mean, with an interval that holds for other seeds.

A *line* is a family, with its size where several sizes are compared. The interval is Student's t interval of its models'
values: with three seeds it is wide, as it has to be; with one there is none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce

import pandas as pd

from kc_utils.errors import BadRequest, listed
from kc_utils.models.registry import FAMILIES, resolve
from kc_utils.probing.probe import Probe
from kc_utils.stats.intervals import clustered_wilson, t_interval, welch_interval, wilson
from kc_utils.stats.items import ITEM, questions_of, same_items
from kc_utils.stats.names import lab_parts, model_name, recipe_fields
from kc_utils.study.cells import Cell

SHOWN = 0.995
"""A mean that keeps more is 100 % in whole per cent: three seeds that lose one fact each have no spread, and no loss."""

BY = ("line", "protocol", "asked", "recipe")


def lines_of(models: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return (line, seed) of each model, lines in the order of FAMILIES. Another model than the lab's is its own seed."""
    found = {
        model: lab_parts(model) or (resolve(model).family, "", model_name(model)) for model in dict.fromkeys(models)
    }
    several = len({size for _, size, _ in found.values()}) > 1
    ordered = sorted(found, key=lambda model: FAMILIES.index(found[model][0]))
    return {m: (", ".join(part for part in (found[m][0], found[m][1] * several) if part), found[m][2]) for m in ordered}


def with_lines(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with columns line and seed of its models, lines together and in order."""
    lines = lines_of(table["model"].unique())
    table = table.assign(line=[lines[m][0] for m in table["model"]], seed=[lines[m][1] for m in table["model"]])
    order = list(dict.fromkeys(line for line, _ in lines.values()))
    return table.sort_values("line", key=lambda c: c.map(order.index), kind="stable").reset_index(drop=True)


def shared_questions(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the questions that every model answered, so that lines are compared on the same facts.

    (An encoder's cloze has answers of one piece alone.) Raises BadRequest where models share none.
    """
    rows = questions_of(rows)
    models = rows["model"].nunique()
    item = pd.MultiIndex.from_frame(rows[["protocol", "fact", "template"]])
    codes = item.factorize()[0]
    count = pd.DataFrame({"item": codes, "model": rows["model"].to_numpy()}).drop_duplicates()["item"].value_counts()
    kept = rows[pd.Series(codes, rows.index).map(count) == models]
    if kept.empty:
        raise BadRequest(
            f"{listed(rows['model'].unique())} share no question: compare other models, or with other facts"
        )
    return kept.reset_index(drop=True)


def knowing(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of `compare` with retention only where the uncompressed model clearly beats chance."""
    base = table[table["recipe"] == "none"].set_index(["model", "protocol"])
    fine = (base["low"] > base["chance"]).to_dict()
    beats = [fine.get(key, False) for key in zip(table["model"], table["protocol"], strict=True)]
    columns = {c: table[c].where(beats) for c in ("retention", "retention_low", "retention_high")}
    return table.assign(**columns)


def over_seeds(
    table: pd.DataFrame,
    values: Sequence[str] = ("accuracy", "retention"),
    by: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Average the models of each line: one line per combination of `by`, by default line, protocol and recipe.

    table: with a line per model, such as `compare` gives; line and seed are added where they are missing. Returns the mean
    over models of every column of `values`, its t interval as `*_low` and `*_high`, `seeds` (how many models), and of other
    columns the first entry. A mean is over the models that have the value.

    >>> table = pd.DataFrame({"line": "decoder", "seed": ["s1", "s2", "s3"], "retention": [0.80, 0.84, 0.88]})
    >>> over_seeds(table, ["retention"], ["line"]).round(2).to_dict("records")
    [{'line': 'decoder', 'seeds': 3, 'retention': 0.84, 'retention_low': 0.74, 'retention_high': 0.94}]
    """
    if "line" not in table and "line" in (by or BY):
        table = with_lines(table)
    by = [c for c in BY if c in table] if by is None else list(by)
    if missing := [c for c in (*values, *by) if c not in table]:
        raise BadRequest(f"the table has no column {listed(missing)}; it has {listed(table.columns, 40)}")
    ends = [f"{name}{end}" for name in values for end in ("_low", "_high")]
    found = []
    for _, part in table.groupby(by, sort=False, observed=True, dropna=False):
        line = {c: part[c].iloc[0] for c in part if c not in (*values, *ends, "seed", "model")} | {"seeds": len(part)}
        for name in values:
            known = part[name].dropna().astype(float)
            line[name] = float(known.mean()) if len(known) else math.nan
            line[f"{name}_low"], line[f"{name}_high"] = t_interval(known)
        found.append(line)
    return pd.DataFrame(found)


def clear_over_seeds(means: pd.DataFrame) -> pd.Series:
    """Return where the interval over seeds of `retention` lies below 1, and the loss is one that whole per cent show."""
    return (means["retention_high"] < 1) & (means["retention"] < SHOWN)


def between_lines(table: pd.DataFrame, first: str, second: str, value: str = "retention") -> dict[str, float]:
    """Return the mean of one line's models less that of another's, with Welch's t interval: difference, low, high.

    table: the lines of one recipe and protocol, with columns line and `value`.
    """
    mine, others = (table.loc[table["line"] == line, value].dropna() for line in (first, second))
    low, high = welch_interval(mine, others)
    return {"difference": float(mine.mean() - others.mean()), "low": low, "high": high}


def beats_chance(rows: pd.DataFrame) -> bool:
    """Whether the accuracy of these rows lies above chance with its whole 95 % interval: otherwise nothing can be lost."""
    low, _ = clustered_wilson(rows["correct"].to_numpy(bool), pd.factorize(rows["fact"])[0])
    return bool(low > rows["chance"].mean())


# of the modules that go
def rows_by_model(results: Results, probes: Mapping[str, Probe], asked: str) -> dict[Cell, pd.DataFrame]:
    """The questions of one probe, by cell: those that every model was asked, so that lines speak of the same facts.

    (An encoder's cloze asks for answers of one piece alone.) Raises BadRequest where models share no question.
    """
    chosen = {cell: questions_of(result.rows) for cell, result in results.items() if cell.probe == probes[asked]}
    # cells that ask the same in the same order, as all of one model do, are compared once
    alike: list[tuple[pd.DataFrame, list[Cell]]] = []
    for cell, rows in chosen.items():
        own = next((cells for other, cells in alike if same_items(rows, other)), None)
        if own is None:
            alike.append((rows, own := []))
        own.append(cell)
    items = [pd.MultiIndex.from_frame(rows[ITEM]) for rows, _ in alike]
    shared = reduce(lambda a, b: a.intersection(b), items)
    if shared.empty:
        raise BadRequest(f"the models of this page share no question of the probe {asked!r}: compare other models")
    kept = {cell: mine.isin(shared) for mine, (_, cells) in zip(items, alike, strict=True) for cell in cells}
    return {cell: rows[kept[cell]].reset_index(drop=True) for cell, rows in chosen.items()}


def by_model(results: Results, probes: Mapping[str, Probe]) -> pd.DataFrame:
    """One line per model, recipe and probe: line, seed, model, asked (the probe's name); `summary.recipe_fields` and
    `report_fields`; n, accuracy, baseline_accuracy, chance, retention (NaN where the uncompressed model does not clearly
    beat chance), lost (of what was known). Models of a line stand together."""
    lines = lines_of(dict.fromkeys(cell.model for cell in results))
    found = []
    for asked in probes:
        rows = rows_by_model(results, probes, asked)
        for cell, mine in rows.items():
            base = rows[cell.baseline]
            right, before, chance = (float(x.mean()) for x in (mine["correct"], base["correct"], mine["chance"]))
            known = mine[base["correct"].to_numpy(bool)]
            found.append(
                {
                    "line": lines[cell.model][0], "seed": lines[cell.model][1], "model": cell.model, "asked": asked,
                    **recipe_fields(cell.recipe), **_report_fields(results[cell].report), "n": len(mine), "accuracy": right,
                    "baseline_accuracy": before, "chance": chance, "retention": _kept(right, before, chance, len(mine)),
                    "lost": float((~known["correct"].astype(bool)).mean()) if len(known) else math.nan,
                }
            )  # fmt: skip
    frame = pd.DataFrame(found)
    order = {line: place for place, line in enumerate(dict.fromkeys(line for line, _ in lines.values()))}
    return frame.sort_values("line", key=lambda c: c.map(order), kind="stable").reset_index(drop=True)


def _kept(right: float, before: float, chance: float, n: int) -> float:
    """Retention; NaN, too, where n questions do not tell the uncompressed model from one that guesses."""
    return (right - chance) / (before - chance) if wilson(round(before * n), n)[0] > chance else math.nan


def _report_fields(report):
    from kc_utils.stats.summary import report_fields

    return report_fields(report)


Results = dict
difference_interval = welch_interval
