"""Models and sources of facts side by side: which rows a finding is read off, what is kept of each, and contrasts.

A stratum is one model queried about the facts of one source. Contrasts are paired: both recipes answer the same facts.
Lab models that differ in their seed make one curve, whose interval speaks of other seeds; every other interval speaks of
other facts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from kc_utils.errors import BadRequest
from kc_utils.stats.compare import compare
from kc_utils.stats.intervals import wilson
from kc_utils.stats.names import lab_parts, recipe_fields
from kc_utils.stats.seeds import clear_over_seeds, over_seeds, shared_questions
from kc_utils.study.rows import REPORTED, results

STRATUM = ["model", "facts"]
SAMPLE = ["origin", "probe", *STRATUM]
NO_KNOWLEDGE = ("lab:strangers", "lab:rule")
"""Sources without a fact that a model could have learned: strangers, and agreement of subject and verb."""
MEMORY = ("rank", "cloze")
"""Protocols that query from memory, the preferred first."""
LANGUAGE, LAB = "language models", "lab models"


def at_hand(recipes: Sequence[str], protocols: Sequence[str] = MEMORY) -> pd.DataFrame:
    """Return `results` of recipes, names or patterns, and without compression; an empty table where there are none."""
    try:
        return results(recipes=["none", *recipes], protocols=protocols)
    except BadRequest:
        return pd.DataFrame(columns=["model", "recipe", "protocol", "facts"])


def from_memory(rows: pd.DataFrame, recipes: str, least: int = 1) -> pd.DataFrame:
    """Keep one sample of each model and source: queries from memory, uncompressed and under some recipes.

    rows: of `at_hand`; recipes: a regular expression that whole recipes match, of which a sample must have `least`. Of
    several samples the one with most of these recipes stands, then that of the first origin, then the largest. Ranking is
    preferred to cloze. A model that does not clearly beat chance uncompressed has nothing to keep and is left out.
    """
    if rows.empty:
        return rows
    wanted = rows["recipe"].eq("none") | rows["recipe"].str.fullmatch(recipes)
    rows = rows[wanted & rows["protocol"].isin(MEMORY) & ~rows["facts"].isin(NO_KNOWLEDGE)]
    rank = rows["protocol"].eq(MEMORY[0])
    rows = rows[rank | ~rank.groupby([rows[c] for c in SAMPLE], sort=False, observed=True).transform("any")]
    base = rows[rows["recipe"] == "none"].groupby(SAMPLE, sort=False, observed=True)
    right, chance, facts = base["correct"].mean().astype(float), base["chance"].mean(), base["fact"].nunique()
    low = np.array([wilson(round(p * n), n)[0] for p, n in zip(right, facts, strict=True)])  # templates count once
    many = rows[rows["recipe"] != "none"].groupby(SAMPLE, sort=False, observed=True)["recipe"].nunique()
    found = pd.DataFrame({"many": many.reindex(right.index, fill_value=0), "n": base.size(), "known": low > chance})
    found = found[found["known"] & (found["many"] >= least)].reset_index()
    found["place"] = [list(dict.fromkeys(rows["origin"])).index(origin) for origin in found["origin"]]
    best = found.sort_values(["many", "place", "n"], ascending=[False, True, False], kind="stable")
    return rows.merge(best.drop_duplicates(STRATUM)[SAMPLE], on=SAMPLE)


def in_lab(table: pd.DataFrame) -> pd.Series:
    """Return where the model of a row is one of the lab's."""
    known = {model: lab_parts(model) is not None for model in table["model"].unique()}
    return table["model"].map(known).astype(bool)


def curves(rows: pd.DataFrame) -> pd.DataFrame:
    """Compare every recipe with the uncompressed model: one line per panel, line and recipe, from mild to strong.

    rows: of `from_memory`. A language model is a panel with a line for each source; a size of lab models is a panel with a
    line for each family, the mean over seeds. Columns beside those of `compare`: panel, line, whose (lab models together),
    curve (the line, of lab models with the size), seeds, percent. `clear`: McNemar's test corrected by Holm's method; over
    seeds an interval of retention that lies below 1.
    """
    parts, lab = [], in_lab(rows)
    if len(language := rows[~lab]):
        table = compare(language)
        parts.append(table.assign(panel=table["model"], line=table["facts"], seeds=1, whose=[f"`{m}`" for m in table["model"]]))
    if lab.any():
        means = over_seeds(lab_singles(rows[lab]), ["retention"], ["panel", "line", "recipe"])
        parts.append(means.assign(clear=clear_over_seeds(means), whose=LAB))
    if not parts:
        return pd.DataFrame()
    columns = list(dict.fromkeys(column for part in parts for column in part))
    table = pd.concat([part.dropna(axis="columns", how="all") for part in parts], ignore_index=True).reindex(columns=columns)
    base = table["recipe"] == "none"
    table.loc[base, ["retention", "retention_low", "retention_high"]] = 1.0
    table["clear"] = table["clear"].astype(bool) & ~base
    table["percent"] = 100 * table["pruned"].astype(float)
    table["curve"] = [f"{p.split()[1]} {n}" if w == LAB else n for p, n, w in table[["panel", "line", "whose"]].values]
    return table.sort_values(["percent", "bits"], ascending=[True, False], na_position="first", kind="stable")


def lab_singles(rows: pd.DataFrame) -> pd.DataFrame:
    """Return what each lab model keeps on the questions that all models of its size answered, one line per recipe.

    Columns: panel (size), line (family), seed, model, facts, n, accuracy, baseline_accuracy, chance, retention, lost, and those
    of the recipe and its report.
    """
    parts = {model: lab_parts(model) for model in rows["model"].unique()}
    rows = rows.assign(size=rows["model"].map({m: size for m, (_, size, _) in parts.items()}))
    found = []
    for size, group in rows.groupby("size", sort=False):
        samples = group.groupby(SAMPLE[:2], sort=False, observed=True).agg(models=("model", "nunique"), many=("recipe", "nunique"))
        origin, probe = samples.sort_values(["models", "many"], ascending=False, kind="stable").index[0]
        group = shared_questions(group[(group["origin"] == origin) & (group["probe"] == probe)])
        table = group.assign(correct=group["correct"].astype(float)).groupby(["model", "recipe"], sort=False, observed=True)
        table = table.agg(n=("correct", "size"), accuracy=("correct", "mean"), chance=("chance", "mean"), facts=("facts", "first"),
                          **{c: (c, "first") for c in REPORTED}).reset_index()  # fmt: skip
        table["baseline_accuracy"] = table["model"].map(table[table["recipe"] == "none"].set_index("model")["accuracy"])
        table["retention"] = (table["accuracy"] - table["chance"]) / (table["baseline_accuracy"] - table["chance"])
        fields = pd.DataFrame([recipe_fields(recipe) for recipe in table["recipe"]]).drop(columns="recipe")
        names = [(f"lab, {size} models", parts[m][0], parts[m][2]) for m in table["model"]]
        found.append(pd.concat([pd.DataFrame(names, columns=["panel", "line", "seed"]), table, fields], axis=1))
    return pd.concat(found, ignore_index=True)


def contrast(rows: pd.DataFrame, pairs: Sequence[tuple[str, str]], per_million: bool = False) -> pd.DataFrame:
    """Retention under the first recipe of each pair less that under the second, averaged over pairs, by stratum.

    rows: of `from_memory`; pairs that a stratum lacks are left out there. per_million: loss of knowledge for each million
    weights set to zero takes the place of retention. Returns model, facts, origin, n (facts), pairs (how many), effect, low,
    high and error: a ratio of sums over facts with its linearised standard error (Cochran 1977, section 6.4), 95 % by t.
    """
    found = []
    for (model, facts), part in rows.groupby(STRATUM, sort=False, observed=True) if len(rows) else ():
        there = [pair for pair in pairs if set(pair) <= set(part["recipe"])]
        if not there:
            continue
        wide = part.assign(correct=part["correct"].astype(float)).pivot_table("correct", "fact", "recipe", observed=True)
        known = wide["none"] - part[part["recipe"] == "none"].groupby("fact", observed=True)["chance"].mean()
        size = part.groupby("recipe", observed=True)["weights_removed"].first() / 1e6
        value = (lambda r: (wide["none"] - wide[r]) / (size[r] or np.nan)) if per_million else wide.get  # noqa: B023
        gap = sum(value(first) - value(second) for first, second in there) / len(there)
        effect, n = gap.sum() / known.sum(), len(gap)
        error = np.sqrt(n * (gap - effect * known).var(ddof=1)) / known.sum()
        reach = stats.t.ppf(0.975, n - 1) * error
        found.append({"model": model, "facts": facts, "origin": part["origin"].iloc[0], "n": n, "pairs": len(there),
                      "effect": effect, "low": effect - reach, "high": effect + reach, "error": error})  # fmt: skip
    return pd.DataFrame(found)


def together(effects: pd.DataFrame) -> dict[str, pd.Series]:
    """Average contrasts over the strata of language models and of lab models, each stratum counting alike.

    Returns by kind: effect, low, high, n, strata, and above and below: strata whose own interval lies wholly on that side
    of 0. Strata are independent samples of facts; the interval holds for these models.
    """
    found, lab = {}, in_lab(effects) if len(effects) else None
    for kind, part in ((LANGUAGE, effects[~lab]), (LAB, effects[lab])) if len(effects) else ():
        if len(part):
            mean, error = part["effect"].mean(), np.sqrt((part["error"] ** 2).sum()) / len(part)
            low, high = (mean - 1.96 * error, mean + 1.96 * error) if len(part) > 1 else part.iloc[0][["low", "high"]]
            found[kind] = pd.Series({"effect": mean, "low": low, "high": high, "n": part["n"].sum(), "strata": len(part),
                                     "above": (part["low"] > 0).sum(), "below": (part["high"] < 0).sum()})  # fmt: skip
    return found


def milestones(kept: pd.DataFrame) -> pd.DataFrame:
    """Where each of `curves` first loses clearly, and where half of the knowledge is gone.

    One line per curve: whose, panel, curve; the line of the first clear loss, with recipe, percent and precision missing
    where there is none; half, the share of weights pruned at which half is left.
    """
    found = []
    for (panel, curve), line in kept.groupby(["panel", "curve"], sort=False) if len(kept) else ():
        clear = line[line["clear"]]
        first = clear.iloc[0] if len(clear) else line.iloc[0].mask(line.columns.isin(["recipe", "percent", "precision"]))
        half = half_gone(line["percent"], line["retention"])
        found.append({**first, "panel": panel, "curve": curve, "half": half})
    return pd.DataFrame(found)


def half_gone(amounts: Iterable[float], kept: Iterable[float]) -> float:
    """At which amount half is left, on straight lines between amounts from mild to strong; NaN where more is left at all."""
    before = None
    for amount, value in zip(amounts, kept, strict=True):
        if value <= 0.5 and before is not None:
            return before[0] + (before[1] - 0.5) / (before[1] - value) * (amount - before[0])
        if not np.isnan(value):
            before = (amount, value)
    return float("nan")
