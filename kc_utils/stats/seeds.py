"""Several models of one kind that differ in their seed: what they do on average, and how far other seeds might lie.

A *line* is a family, with its size where several sizes are compared. Its members answer the same facts. The interval of a
line is Student's t interval of its members' values (their mean, their standard deviation over the square root of their
number, the t quantile for one degree of freedom less): it speaks of other seeds asked the same facts. With three seeds it
is wide, as it has to be; with one there is none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from kc_utils.stats.intervals import NAN, wilson
from kc_utils.stats.items import ITEM, same_items
from kc_utils.stats.names import model_name
from kc_utils.stats.statistics import retention
from kc_utils.stats.summary import questions_of, recipe_fields, report_fields
from kc_utils.errors import BadRequest
from kc_utils.probing.probe import Probe
from kc_utils.models.registry import FAMILIES, resolve
from kc_utils.study.cells import Cell
from kc_utils.study.store import CellResult

Results = dict[Cell, CellResult]
_LAB = re.compile(r"lab:(?P<family>encoder-decoder|encoder|decoder)-(?P<size>[a-z]+(?:-x\d+)?)-(?P<seed>s\d+)")


def lab_parts(model: str) -> tuple[str, str, str] | None:
    """(family, size, seed) of a model of the lab: `lab:decoder-small-x4-s1` is a decoder, `small-x4`, `s1`."""
    found = _LAB.fullmatch(model)
    return found.group("family", "size", "seed") if found else None


def lines_of(models: Iterable[str]) -> dict[str, tuple[str, str]]:
    """(line, seed) of each model, lines in the order of FAMILIES. A model that is no lab model is named by itself."""
    found = {}
    for model in models:
        found[model] = lab_parts(model) or (resolve(model).family, "", model_name(model))
    several = len({size for _, size, _ in found.values()}) > 1
    ordered = sorted(found, key=lambda model: FAMILIES.index(found[model][0]))
    return {m: (", ".join(part for part in (found[m][0], found[m][1] * several) if part), found[m][2]) for m in ordered}


def t_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Student's t interval of the mean of independent values; NaN for fewer than two."""
    values = np.asarray(values, float)
    if len(values) < 2 or not np.isfinite(values).all():
        return NAN
    reach = float(stdtrit(len(values) - 1, (1 + level) / 2)) * values.std(ddof=1) / math.sqrt(len(values))
    return float(values.mean() - reach), float(values.mean() + reach)


def difference_interval(a: Sequence[float], b: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Welch's t interval of mean(a) - mean(b), for members of two lines, which are not paired; NaN for fewer than two in
    either."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    if min(len(a), len(b)) < 2 or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return NAN
    parts = np.array([x.var(ddof=1) / len(x) for x in (a, b)])
    middle = float(a.mean() - b.mean())
    if not parts.sum():
        return middle, middle
    df = parts.sum() ** 2 / (parts[0] ** 2 / (len(a) - 1) + parts[1] ** 2 / (len(b) - 1))
    reach = float(stdtrit(df, (1 + level) / 2)) * math.sqrt(parts.sum())
    return middle - reach, middle + reach


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
                    **recipe_fields(cell.recipe), **report_fields(results[cell].report), "n": len(mine), "accuracy": right,
                    "baseline_accuracy": before, "chance": chance, "retention": _kept(right, before, chance, len(mine)),
                    "lost": float((~known["correct"].astype(bool)).mean()) if len(known) else math.nan,
                }
            )  # fmt: skip
    frame = pd.DataFrame(found)
    order = {line: place for place, line in enumerate(dict.fromkeys(line for line, _ in lines.values()))}
    return frame.sort_values("line", key=lambda c: c.map(order), kind="stable").reset_index(drop=True)


def _kept(right: float, before: float, chance: float, n: int) -> float:
    """Retention; NaN, too, where n questions do not tell the uncompressed model from one that guesses."""
    return retention(right, before, chance) if wilson(round(before * n), n)[0] > chance else math.nan


def over_seeds(
    frame: pd.DataFrame, values: Sequence[str], by: Sequence[str] = ("line", "asked", "recipe")
) -> pd.DataFrame:
    """One line per combination of `by`: the mean over members of every column of `values`, its t interval as `*_low` and
    `*_high`, `seeds` (members), and of other columns the first entry. A mean is over the members that have the value."""
    found = []
    for _, part in frame.groupby(list(by), sort=False, observed=True, dropna=False):
        line = {name: part[name].iloc[0] for name in part.columns if name not in (*values, "seed", "model")}
        line["seeds"] = len(part)
        for name in values:
            known = part[name].dropna().astype(float)
            line[name] = float(known.mean()) if len(known) else math.nan
            line[f"{name}_low"], line[f"{name}_high"] = t_interval(known)
        found.append(line)
    return pd.DataFrame(found)
