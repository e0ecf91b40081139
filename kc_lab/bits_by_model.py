"""Knowledge in bits of every model under every recipe, and what is said of it beside the published points."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from kc_lab.bits import Table, bits_by_relation, capacity, total_bits
from kc_utils.probing.probe import Probe
from kc_utils.stats.findings import NBSP, interval, percent
from kc_utils.stats.lab_findings import amount, seeds_text
from kc_utils.stats.seeds import Results, lines_of, over_seeds, rows_by_model
from kc_utils.stats.summary import recipe_fields, report_fields

VALUES = ("bits", "per_parameter", "per_byte", "kept")


@dataclass(frozen=True)
class Published:
    """A point of Allen-Zhu and Li (2024, arXiv 2404.05405), quoted: bits of knowledge a parameter, at so many stored bits."""

    name: str
    stored: int
    per_parameter: float

    @property
    def per_byte(self) -> float:
        return self.per_parameter / (self.stored / 8)


THOUSAND = Published("1000 exposures", 16, 2.0)
HUNDRED = Published("100 exposures", 16, 1.0)
INT8 = Published("int8", 8, 2.0)
INT4 = Published("int4", 4, 0.7)
PUBLISHED = (THOUSAND, HUNDRED, INT8, INT4)
SOURCE = "Allen-Zhu and Li, 2024, quoted"


def bits_by_model(results: Results, probe: Probe, tables: Mapping[str, Table]) -> pd.DataFrame:
    """One line per model and recipe: line, seed, model, `recipe_fields` (of which `bits`, of a
    weight, is here `bits_asked`), `report_fields`; n, the facts asked; bits of all
    facts; per_parameter and per_byte of the model as stored; stored, bits a parameter takes; taught, bits a parameter that
    there are to know; kept, the share of the uncompressed model's bits (NaN where it has none).

    Parameters are those of the uncompressed model.
    """
    lines, found = lines_of(dict.fromkeys(cell.model for cell in results)), {}
    for cell, rows in rows_by_model(results, {"taught": probe}, "taught").items():
        relations = bits_by_relation(rows[rows["protocol"] == "cloze"], tables)
        parameters = results[cell.baseline].report["weights_model"]
        known = {relation: tables[relation] for relation in relations["relation"]}
        report, fields = results[cell].report, recipe_fields(cell.recipe)
        bits = total_bits(relations)
        found[cell] = {
            "line": lines[cell.model][0], "seed": lines[cell.model][1], "model": cell.model, **fields,
            **report_fields(report), "bits_asked": fields["bits"], "n": int(relations["n"].sum()), "bits": bits,
            "per_parameter": bits / parameters, "per_byte": bits / report["bytes_compressed"],
            "stored": 8 * report["bytes_compressed"] / parameters, "taught": capacity(known) / parameters,
            "parameters": parameters,
        }  # fmt: skip
    for cell, line in found.items():
        before = found[cell.baseline]["bits"]
        line["kept"] = line["bits"] / before if before else math.nan
    frame = pd.DataFrame(found.values())
    order = list(dict.fromkeys(line for line, _ in lines.values()))
    return frame.sort_values("line", key=lambda c: c.map(order.index), kind="stable").reset_index(drop=True)


def bits_over_seeds(frame: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds with t intervals, by line and recipe."""
    return over_seeds(frame, VALUES, ("line", "recipe"))


def between(line: pd.Series, value: str, digits: int = 2) -> str:
    """`0.13 (0.12 to 0.14)`; the mean alone for one seed."""
    low, high = line[f"{value}_low"], line[f"{value}_high"]
    middle = f"{line[value]:.{digits}f}"
    return middle if math.isnan(low) else f"{middle} ({low:.{digits}f} to {high:.{digits}f})"


def baseline_sentences(means: pd.DataFrame) -> list[str]:
    """What the uncompressed models hold, by line."""
    base = means[means["recipe"] == "none"]
    return [
        f"**{line['line']}**, uncompressed: at least {line['bits']:,.0f} bits, {between(line, 'per_parameter', 3)} a parameter "
        f"of the {line['taught']:.3f} that were taught, {between(line, 'per_byte', 3)} a stored byte "
        f"({line['seeds']} seed{'s' * (line['seeds'] > 1)}; {line['n']} facts asked)."
        for _, line in base.iterrows()
    ]


def verdicts(means: pd.DataFrame, exposures: float) -> list[str]:
    """Whether each published point holds here. exposures: how often a fact was told on average."""
    base = means[means["recipe"] == "none"]
    best = base.loc[base["per_parameter"].idxmax()]
    found = []
    for point in (THOUSAND, HUNDRED):
        holds = best["per_parameter"] <= point.per_parameter
        text = (
            f"**At most {point.per_parameter:g} bit{'s' * (point.per_parameter != 1)} a parameter at {point.name}** "
            f"({SOURCE}): {'holds' if holds else 'does not hold'} here; the most is "
            f"{between(best, 'per_parameter', 3)} ({best['line']}), at {exposures:.0f} exposures of a fact on average."
        )
        if holds and best["taught"] < point.per_parameter:
            text += (
                f" It could not be otherwise: {best['taught']:.3f} bits a parameter were taught. What runs short at a larger "
                "load, in the load curve, is exposures and not parameters: as many rows are shared by more people."
            )
        found.append(text)
    for line in dict.fromkeys(means["line"]):
        mine = means[means["line"] == line].set_index("recipe")
        found += [text for text in (_int8(line, mine), _int4(line, mine)) if text]
    return found


def _int8(name: str, mine: pd.DataFrame) -> str:
    eight = mine[(mine["bits_asked"] == 8) & (mine["steps"] == 1)]
    if eight.empty:
        return ""
    line = eight.iloc[0]
    low, high = line["kept_low"], line["kept_high"]
    if math.isnan(low):
        verdict = "one seed has no interval, so that nothing can be said"
    elif high < 1:
        verdict = "does not hold here: the interval lies below 100" + NBSP + "%"
    elif low > 0.98:
        verdict = "holds here"
    else:
        verdict = f"is compatible with what is seen, and so is a loss of {percent(1 - low)}"
    return (
        f"**int8 loses nothing** ({SOURCE}), {name}: {percent(line['kept'])} of the bits are kept under `{line.name}` "
        f"({interval(low, high)}); {verdict}."
    )


def _int4(name: str, mine: pd.DataFrame) -> str:
    four = mine[(mine["bits_asked"] == 4) & (mine["steps"] == 1)]
    if four.empty:
        return ""
    line = four.iloc[0]
    share = INT4.per_parameter / THOUSAND.per_parameter
    low, high = line["kept_low"], line["kept_high"]
    if math.isnan(low):
        verdict = "one seed has no interval, so that nothing can be said"
    elif low > share:
        verdict = "more is kept here"
    elif high < share:
        verdict = "less is kept here"
    else:
        verdict = "the two agree within the interval"
    return (
        f"**int4 falls to {INT4.per_parameter:g} bits a parameter, {percent(share)} of "
        f"{THOUSAND.per_parameter:g}** ({SOURCE}), {name}: {percent(line['kept'])} of the bits are kept under "
        f"`{line.name}` ({interval(low, high)}), {between(line, 'per_parameter', 3)} a parameter; {verdict}."
    )


def best_sentences(means: pd.DataFrame) -> list[str]:
    """The recipe with the most knowledge a stored byte, by line."""
    found = []
    for name, mine in means.groupby("line", sort=False):
        base, best = mine[mine["recipe"] == "none"].iloc[0], mine.loc[mine["per_byte"].idxmax()]
        if best["recipe"] == "none":
            found.append(f"**{name}**: no recipe holds more bits a stored byte than the uncompressed model.")
            continue
        found.append(
            f"**{name}**: most bits a stored byte under `{best['recipe']}` ({amount(best)}): {between(best, 'per_byte', 3)} "
            f"instead of {between(base, 'per_byte', 3)}, with {percent(best['kept'])} of the bits kept "
            f"({seeds_text(mine)})."
        )
    return found
