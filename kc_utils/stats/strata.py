"""Models and sources of facts side by side: the rows that a finding is read off, and curves of what is kept of each.

Lab models that differ in their seed make one curve, whose interval speaks of other seeds; every other interval speaks of
other facts.
"""

from collections.abc import Sequence

import pandas as pd

from kc_utils.errors import BadRequest
from kc_utils.stats.compare import compare
from kc_utils.stats.decision import PROTOCOLS
from kc_utils.stats.evidence import LAB, Evidence
from kc_utils.stats.losses import half_gone
from kc_utils.stats.names import lab_parts
from kc_utils.stats.seeds import clear_over_seeds, over_seeds, shared_questions
from kc_utils.study.rows import results

SAMPLE = ["origin", "probe"]


def at_hand(recipes: Sequence[str], protocols: Sequence[str] = PROTOCOLS) -> pd.DataFrame:
    """Return `results` of recipes, names or patterns, and without compression; an empty table where there are none."""
    try:
        return results(recipes=["none", *recipes], protocols=protocols)
    except BadRequest:
        return pd.DataFrame(columns=["model", "recipe", "protocol", "facts", "probe", "origin"])


def from_memory(rows: pd.DataFrame, recipes: str, least: int = 1) -> pd.DataFrame:
    """Keep one sample of each model, source and protocol: queries from memory, uncompressed and under some recipes.

    rows: of `at_hand`; recipes: a regular expression that whole recipes match, of which a sample must have `least`. Samples
    are chosen as `Evidence.of_knowledge` does, by the most of these recipes. A model that does not clearly beat chance
    uncompressed has nothing to keep and is left out.
    """
    rows = rows[rows["recipe"].eq("none") | rows["recipe"].astype(str).str.fullmatch(recipes)]
    evidence, many = Evidence(rows), lambda s: (len(s.recipes) - 1) * (len(s.recipes) > least)
    strata = [(s, protocol) for protocol in PROTOCOLS for s in evidence.of_knowledge(protocol, many)]
    parts = [s.rows[s.rows["protocol"] == protocol] for s, protocol in strata if s.knows(protocol)]
    return pd.concat(parts, ignore_index=True) if parts else rows.iloc[:0]


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
        table = compare(language).assign(seeds=1)
        whose = [f"`{model}`" for model in table["model"]]
        parts.append(table.assign(panel=table["model"], line=table["facts"], whose=whose))
    if lab.any():
        means = over_seeds(lab_singles(rows[lab]), ["retention"], ["panel", "line", "recipe"])
        parts.append(means.assign(clear=clear_over_seeds(means), whose=LAB))
    if not parts:
        return pd.DataFrame()
    columns = list(dict.fromkeys(column for part in parts for column in part))
    filled = [part.dropna(axis="columns", how="all") for part in parts]
    table = pd.concat(filled, ignore_index=True).reindex(columns=columns)
    base = table["recipe"] == "none"
    table.loc[base, ["retention", "retention_low", "retention_high"]] = 1.0
    table["clear"] = table["clear"].astype(bool) & ~base
    table["percent"] = 100 * table["pruned"].astype(float)
    table["curve"] = [f"{p.split()[1]} {n}" if w == LAB else n for p, n, w in table[["panel", "line", "whose"]].values]
    return table.sort_values(["percent", "bits"], ascending=[True, False], na_position="first", kind="stable")


def lab_singles(rows: pd.DataFrame) -> pd.DataFrame:
    """Compare each lab model on the questions that all models of its size answered: a line of `compare` for each recipe, with
    panel (the size), line (the family) and seed."""
    found, parts = [], {model: lab_parts(model) for model in rows["model"].unique()}
    for size, group in rows.groupby(rows["model"].map(lambda m: parts[m][1]), sort=False):
        samples = group.groupby(SAMPLE, sort=False, observed=True).agg(
            models=("model", "nunique"), many=("recipe", "nunique")
        )
        origin, probe = samples.sort_values(["models", "many"], ascending=False, kind="stable").index[0]
        table = compare(shared_questions(group[(group["origin"] == origin) & (group["probe"] == probe)]))
        line, seed = ([parts[m][i] for m in table["model"]] for i in (0, 2))
        found.append(table.assign(panel=f"lab, {size} models", line=line, seed=seed))
    return pd.concat(found, ignore_index=True)


def milestones(kept: pd.DataFrame) -> pd.DataFrame:
    """Where each of `curves` first loses clearly, and where half of the knowledge is gone.

    One line per curve: whose, panel, curve; the line of the first clear loss, with recipe, percent and precision missing
    where there is none; half, the share of weights pruned at which half is left.
    """
    found = []
    for (panel, curve), line in kept.groupby(["panel", "curve"], sort=False) if len(kept) else ():
        clear = line[line["clear"]]
        first = (
            clear.iloc[0] if len(clear) else line.iloc[0].mask(line.columns.isin(["recipe", "percent", "precision"]))
        )
        half = half_gone(line["percent"], line["retention"])
        found.append({**first, "panel": panel, "curve": curve, "half": half})
    return pd.DataFrame(found)
