"""What is kept under some recipes, across every model and source of facts at hand: the curves that findings are read off.

Models of the lab that differ in their seed are one curve: the mean over seeds, with an interval that speaks of other seeds.
Every other model is a curve for each source of facts, with an interval that speaks of other facts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from functools import partial

import pandas as pd

from kc_utils.stats.claim_rows import Evidence, Stratum, knows_something
from kc_utils.stats.findings import clearly_worse
from kc_utils.stats.lab_findings import clear_loss
from kc_utils.stats.names import model_name
from kc_utils.stats.seeds import by_model, lab_parts, over_seeds
from kc_utils.stats.summary import lines_of, summary_of
from kc_utils.errors import BadRequest
from kc_utils.probing.probe import Probe
from kc_utils.study.cells import Cell
from kc_utils.study.record import CellResult

LAB_PANEL = "lab, "
PRUNED = re.compile(r"magnitude@all=[\d.]+")
"""All layers pruned by magnitude, with every option at its default."""


def curves(evidence: Evidence, wanted: re.Pattern, least: int = 2) -> pd.DataFrame:
    """One line per panel, curve and recipe; empty without rows.

    wanted: matches recipes; least: how many of them a stratum must have. Columns: panel, a model, or a size of the lab's; line,
    a source of facts, or a family; retention with its 95 % interval, `retention_low` and `retention_high`; clear, whether the
    loss is (McNemar's test corrected over the recipes; over seeds: the interval lies below 1); n, seeds; percent, of the weights
    of the scope that are pruned; and those of `summary.recipe_fields` and `report_fields`. Models that know nothing
    uncompressed are left out.
    """
    strata = evidence.of_knowledge(lambda s: matching(s, wanted, least))
    parts = [_of_model(s, wanted) for s in strata if not lab_parts(s.model) and _knows(s)]
    parts += [lab_curves(size, singles) for size, singles in lab_singles(strata, wanted).items()]
    if not parts:
        return pd.DataFrame()
    columns = list(dict.fromkeys(column for part in parts for column in part))
    filled = [
        part.dropna(axis="columns", how="all") for part in parts
    ]  # pandas is about to change what empty ones become
    return pd.concat(filled, ignore_index=True).reindex(columns=columns)


def matching(stratum: Stratum, wanted: re.Pattern, least: int = 1) -> int:
    """How many of a stratum's recipes are wanted, 0 where they are fewer than `least`."""
    count = sum(bool(wanted.fullmatch(recipe)) for recipe in stratum.recipes)
    return count if count >= least else 0


def _knows(stratum: Stratum) -> bool:
    return knows_something(stratum.rows("none", stratum.memory))


def _of_model(stratum: Stratum, wanted: re.Pattern) -> pd.DataFrame:
    cells = cells_of(stratum, wanted)
    base = stratum.results["none"]
    lines = []
    for cell, result in cells.items():
        lines += stratum.once(("lines", cell.recipe), partial(lines_of, cell, result, base))
    summary = summary_of(lines)
    part = summary[summary["protocol"] == stratum.memory]
    return as_curve(part, clearly_worse).assign(panel=model_name(stratum.model), line=stratum.facts, seeds=1)


def as_curve(lines: pd.DataFrame, clear: Callable[[pd.Series], bool]) -> pd.DataFrame:
    """Lines of one model with `percent` and `clear`, the uncompressed model exactly at 1, from mild to harsh pruning."""
    base = lines["recipe"] == "none"
    start = {c: lines[c].where(~base, 1.0) for c in ("retention", "retention_low", "retention_high")}
    found = lines.assign(
        **start,
        percent=100 * lines["pruned"].astype(float),
        clear=[not is_base and clear(line) for is_base, (_, line) in zip(base, lines.iterrows(), strict=True)],
    )
    return found.sort_values("percent", kind="stable")


def lab_singles(strata: Iterable[Stratum], wanted: re.Pattern) -> dict[str, pd.DataFrame]:
    """Of each size of the lab's models, the probe that most of them were asked: `seeds.by_model`, a line for each family."""
    sizes: dict[str, dict[Probe, list[Stratum]]] = {}
    for stratum in strata:
        if parts := lab_parts(stratum.model):
            sizes.setdefault(parts[1], {}).setdefault(stratum.probe, []).append(stratum)
    found = {}
    for size, probes in sizes.items():
        probe = max(probes, key=lambda p: len(probes[p]))
        cells = {cell: result for s in probes[probe] for cell, result in cells_of(s, wanted).items()}
        try:
            singles = by_model(cells, {"taught": probe})
        except BadRequest:  # no question that all of them were asked
            continue
        found[size] = singles.assign(line=[lab_parts(model)[0] for model in singles["model"]])
    return found


def lab_curves(size: str, singles: pd.DataFrame) -> pd.DataFrame:
    """The means over seeds of `lab_singles`, as curves."""
    return as_curve(over_seeds(singles, ("retention",)), clear_loss).assign(panel=f"{LAB_PANEL}{size} models")


def cells_of(stratum: Stratum, wanted: re.Pattern) -> dict[Cell, CellResult]:
    """The uncompressed model and the wanted recipes."""
    return {
        Cell(stratum.model, recipe, stratum.probe): result
        for recipe, result in stratum.results.items()
        if recipe == "none" or wanted.fullmatch(recipe)
    }


def first_clear(curve: pd.DataFrame) -> pd.Series | None:
    """Of the lines of one curve, from mild to harsh, the first whose loss is clear."""
    clear = curve[curve["clear"]]
    return None if clear.empty else clear.iloc[0]


def half_gone(amounts: Iterable[float], kept: Iterable[float]) -> float:
    """At which amount half of the knowledge is left, on straight lines between the amounts measured, from mild to harsh and
    beginning with the uncompressed model. NaN where more than half is left at all of them."""
    before = None
    for amount, value in zip(amounts, kept, strict=True):
        if value <= 0.5 and before is not None:
            share = (before[1] - 0.5) / (before[1] - value)
            return before[0] + share * (amount - before[0])
        if not math.isnan(value):
            before = (amount, value)
    return math.nan
