"""Compressed models against uncompressed ones, fact by fact: one line per model, recipe and protocol.

Accuracies carry Wilson intervals; differences and retentions a bootstrap over facts that scores both recipes on the same
draw (`bootstrap`); losses McNemar's exact test, corrected by Holm's method over all lines of a model and protocol.
A loss is *clear* where the corrected p lies below LEVEL and LEAST of the knowledge is lost (`decision`). A model is *equal* to
its baseline where the whole interval of retention lies within MARGIN of 1. Overlapping intervals decide nothing.
"""

import math
from collections.abc import Mapping, Sequence

import pandas as pd
from scipy.stats import norm

from kc_utils.errors import BadRequest, BadResult, listed
from kc_utils.stats.bootstrap import Resamples
from kc_utils.stats.decision import LEAST, LEVEL, MARGIN
from kc_utils.stats.intervals import NAN, clustered_wilson, holm, mcnemar
from kc_utils.stats.items import Answers, aligned, questions_of, refuse_missing, sample_of
from kc_utils.stats.names import canonical, recipe_fields
from kc_utils.study.rows import REPORTED


def compare(rows: pd.DataFrame, against: str | Mapping[str, str] = "none", by: str | Sequence[str] = ()) -> pd.DataFrame:
    """Compare every recipe with the uncompressed model, or with another recipe, on the same facts.

    rows     of `evaluate` or `results`; text windows and relearning are passed over, a harness task is the protocol
             `task NAME`
    against  a recipe that all are compared with, or a mapping of recipes to the one that each is compared with
    by       columns that split the facts, such as `relation`; rows without a value belong to no line

    Returns a table, one line per model, recipe and protocol (and facts, probe, where the rows name them; and value of
    `by`): n questions, clusters (facts); accuracy with its interval low, high; chance; baseline_accuracy, of the recipe named in
    `against`; difference and retention with *_low and *_high; lost and gained, shares of all questions that only one of
    the two answers rightly; p of McNemar's test, p_holm, clear and equal; visible, the smallest loss of knowledge that would be
    clear in four of five samples of this size; the fields of the recipe (`names.recipe_fields`) and
    what of it was measured (`touched_fraction`, `sparsity`, `compression_ratio` ...). Intervals are 95 %. Where rows have a
    column static (`probing.static`): the share that word embeddings alone get right, and static_retention, of the knowledge.

    retention = (accuracy - chance) / (baseline_accuracy - chance): 1 nothing lost, 0 guessing; missing where the baseline
    does not beat chance. A model that equals its baseline in every stored value has intervals of no length.

    Raises BadRequest for unknown columns and recipes, where the recipe to compare with was not evaluated, and where two
    recipes did not answer the same questions; BadResult for answers that are missing.

    >>> import pandas as pd
    >>> rows = pd.DataFrame({"model": "m", "protocol": "rank", "template": 0, "chance": 0.1, "fact": list("abcdefgh") * 2,
    ...     "recipe": ["none"] * 8 + ["rtn@all=3"] * 8, "correct": [True] * 7 + [False] + [True] * 4 + [False] * 4})
    >>> compare(rows)[["recipe", "n", "accuracy", "baseline_accuracy", "lost", "clear"]]
          recipe  n  accuracy  baseline_accuracy   lost  clear
    0       none  8     0.875              0.875  0.000  False
    1  rtn@all=3  8     0.500              0.875  0.375  False
    """
    by = [by] if isinstance(by, str) else list(by)
    refuse_missing(rows, ["model", "recipe", "protocol", "correct", "chance", *by])
    rows = questions_of(rows).dropna(subset=by)
    if rows.empty:
        raise BadResult(f"no rows to compare: none is a question{f' with a {listed(by)}' * bool(by)}")
    rivals = _rivals(rows, against)
    keys = list(dict.fromkeys([*sample_of(rows), "protocol", *by]))
    lines = []
    for values, part in rows.groupby(keys, sort=bool(by), observed=True, dropna=False):
        found = aligned(part)
        named = dict(zip(keys, values, strict=True))
        shown = part.drop_duplicates("recipe").set_index("recipe").reindex(columns=list(REPORTED))
        for recipe, line in compared(found, rivals).items():
            if "static" in part:
                line |= beside(part["static"].mean(), line["baseline_accuracy"], line["chance"])
            lines.append(named | recipe_fields(recipe) | line | shown.loc[recipe].to_dict())
    return _corrected(pd.DataFrame(lines))


def compared(found: Answers, rivals: Mapping[str, str], seed: int = 0) -> dict[str, dict]:
    """Return a line of numbers for each recipe that has a rival among the answers."""
    drawn = Resamples.of(found.right, found.chance, found.facts, seed)
    chance, clusters, lines = float(found.chance.mean()), int(found.facts.max()) + 1, {}
    for recipe, i in found.recipes.items():
        if recipe not in rivals:
            continue
        rival, j = rivals[recipe], found.recipes.get(rivals[recipe])
        if j is None:
            model = found.source["model"].iloc[0]
            raise BadRequest(f"{model}: {rival} was not evaluated beside {recipe}; evaluate both on the same facts")
        after, before = found.right[i], found.right[j]
        accuracy, baseline = float(after.mean()), float(before.mean())
        kept, same = retention(accuracy, baseline, chance), found.same(recipe, rival)
        low, high = clustered_wilson(after, found.facts)
        apart = (0.0, 0.0) if same else drawn.interval(drawn.difference(i, j))
        kept_in = NAN if math.isnan(kept) else (kept, kept) if same else drawn.interval(drawn.retention(i, j))
        lines[recipe] = {
            "against": rival, "n": len(after), "clusters": clusters,
            "accuracy": accuracy, "low": low, "high": high, "chance": chance, "baseline_accuracy": baseline,
            "difference": accuracy - baseline, "difference_low": apart[0], "difference_high": apart[1],
            "retention": kept, "retention_low": kept_in[0], "retention_high": kept_in[1],
            "lost": float((before & ~after).mean()), "gained": float((~before & after).mean()),
            "p": mcnemar(before, after, found.facts),
        }  # fmt: skip
    return lines


def retention(accuracy: float, baseline: float, chance: float) -> float:
    """Return the share of the knowledge above chance that is kept; NaN where the baseline does not beat chance."""
    return (accuracy - chance) / (baseline - chance) if baseline > chance else math.nan


def beside(static: float, baseline: float, chance: float) -> dict[str, float]:
    """Return the columns of the static-embedding control: its share of right answers, and of the knowledge above chance."""
    return {"static": static, "static_retention": retention(static, baseline, chance)}


def _rivals(rows: pd.DataFrame, against: str | Mapping[str, str]) -> dict[str, str]:
    """What each recipe is compared with, both in canonical form."""
    present = list(rows["recipe"].unique())
    if isinstance(against, str):
        return dict.fromkeys(present, canonical(against))
    rivals = {canonical(recipe): canonical(rival) for recipe, rival in against.items()}
    if missing := [r for pair in rivals.items() for r in pair if r not in present]:
        raise BadRequest(f"no rows of {listed(dict.fromkeys(missing))}; the rows hold {listed(present)}")
    return rivals


def _corrected(table: pd.DataFrame) -> pd.DataFrame:
    """Add p_holm over the tests of a model and protocol, `clear`, `equal` and `visible`, at Holm's level for those left over."""
    if table.empty:
        raise BadRequest("none of the recipes to compare was evaluated: name recipes of the rows")
    tested = table["p"].where(table["recipe"] != table["against"])
    family = [table["model"], table["protocol"]]
    p_holm = tested.groupby(family, observed=True).transform(holm)
    left = (p_holm >= LEVEL).groupby(family, observed=True).transform("sum").clip(lower=1)
    found = {"p_holm": p_holm, **judged(table, tested, LEVEL / left)}
    at = table.columns.get_loc("p") + 1
    for place, (name, values) in enumerate(found.items(), at):
        table.insert(place, name, values)
    return table


def judged(table: pd.DataFrame, p: pd.Series | float, level: pd.Series | float) -> dict[str, pd.Series]:
    """Return `clear`, `equal` and `visible` of lines with retention and its interval; level: LEVEL by the number of tests."""
    kept, low, high = (table[f"retention{end}"] for end in ("", "_low", "_high"))
    clear, equal = (p < level) & (kept <= 1 - LEAST), (low >= 1 - MARGIN) & (high <= 1 + MARGIN)
    errors = norm.isf(level / 2) + norm.ppf(0.8)  # standard errors at which four of five samples are significant
    return {"clear": clear, "equal": equal, "visible": errors * (high - low) / (2 * norm.ppf(0.975))}


def halves(rows: pd.DataFrame) -> pd.Series:
    """Return `head` for the more popular half of each relation's facts, `tail` for the other; missing without a popularity.

    For `compare(rows.assign(half=halves(rows)), by="half")`.
    """
    known = rows.assign(popularity=pd.to_numeric(rows["popularity"], errors="coerce")).drop_duplicates("fact")
    rank = known.set_index("fact").groupby("relation", observed=True)["popularity"].rank(pct=True, method="first")
    return rows["fact"].map((rank > 0.5).map({True: "head", False: "tail"}).where(rank.notna()))
