"""Models of one line, which differ in their seed: their mean, with an interval that holds for other seeds.

A *line* is a family, with its size where several sizes are compared. The interval is Student's t interval of its models'
values: with three seeds it is wide, as it has to be; with one there is none.
"""

import math
from collections.abc import Iterable, Sequence

import pandas as pd
from scipy import stats

from kc_utils.errors import BadRequest, listed
from kc_utils.models.registry import FAMILIES, resolve
from kc_utils.stats.decision import LEAST
from kc_utils.stats.intervals import t_interval
from kc_utils.stats.items import questions_of
from kc_utils.stats.names import lab_parts, model_name

BY = ("line", "protocol", "recipe")


def lines_of(models: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return (line, seed) of each model, lines in the order of FAMILIES. Another model than the lab's is its own seed."""
    found = {m: lab_parts(m) or (resolve(m).family, "", model_name(m)) for m in dict.fromkeys(models)}
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
    answered = rows.groupby(["protocol", "fact", "template"], observed=True)["model"].transform("nunique")
    kept, models = rows[answered == rows["model"].nunique()], listed(rows["model"].unique())
    if kept.empty:
        raise BadRequest(f"{models} share no question: compare other models, or with other facts")
    return kept.reset_index(drop=True)


def knowing(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of `compare` with retention only where the uncompressed model clearly beats chance."""
    base = table[table["recipe"] == "none"].set_index(["model", "protocol"])
    fine = (base["low"] > base["chance"]).to_dict()
    beats = [fine.get(key, False) for key in zip(table["model"], table["protocol"], strict=True)]
    return table.assign(**{f"retention{end}": table[f"retention{end}"].where(beats) for end in ("", "_low", "_high")})


def over_seeds(
    table: pd.DataFrame, values: Sequence[str] = ("accuracy", "retention"), by: Sequence[str] | None = None
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
    """Return where the interval over seeds of `retention` lies below 1, and LEAST of the knowledge is lost."""
    return (means["retention_high"] < 1) & (means["retention"] <= 1 - LEAST)


def between_lines(table: pd.DataFrame, first: str, second: str, value: str = "retention") -> dict[str, float]:
    """Return the mean of one line's models less that of another's, with a 95 % interval: difference, low, high.

    table: a value for each model of every line, with columns line and `value`. The variance of seeds is pooled over all lines,
    and taken to be that of a standard deviation of LEAST / 2 at least: seeds with equal counts do not vary by nothing. Tukey's
    range makes the intervals of all pairs hold together. Missing where no line has two models.
    """
    groups = {line: own.dropna().to_numpy(float) for line, own in table.groupby("line", observed=True)[value]}
    groups = {line: own for line, own in groups.items() if len(own)}
    if not {first, second} <= set(groups):
        return dict.fromkeys(("difference", "low", "high"), math.nan)
    mine, others = groups[first], groups[second]
    apart, freedom = float(mine.mean() - others.mean()), sum(len(own) - 1 for own in groups.values())
    if not freedom:
        return {"difference": apart, "low": math.nan, "high": math.nan}
    spread = max(math.sqrt(sum(len(own) * own.var() for own in groups.values()) / freedom), LEAST / 2)
    range_of = stats.studentized_range.ppf(0.95, len(groups), freedom) / math.sqrt(2)
    reach = float(range_of * spread * math.sqrt(1 / len(mine) + 1 / len(others)))
    return {"difference": apart, "low": apart - reach, "high": apart + reach}
