"""Which facts are lost first? Known facts by popularity, margin, relation or training, and where half of them is gone.

A fact is *known* where the uncompressed model answers it rightly, and *lost* where the compressed one then does not. Some
of the known were guessed: look at `compare` by the same groups, too, whose retention is corrected for chance.
"""

import math
import warnings
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from statsmodels.discrete.discrete_model import Logit
from statsmodels.tools.sm_exceptions import ConvergenceWarning, PerfectSeparationWarning

from kc_utils.errors import BadRequest, BadResult, listed
from kc_utils.stats.intervals import clustered_wilson
from kc_utils.stats.items import aligned, questions_of, refuse_missing, sample_of

FEWEST = 10  # lost, and kept, facts below which nothing is fitted


def known_facts(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the questions that the uncompressed model answers rightly, once for each recipe, with a column `lost`.

    rows: of `evaluate`. Other columns are those of the uncompressed model's rows, so that `margin` is its lead of the right
    answer over the best wrong one, in nats. Raises BadResult where nothing was known, and as `compare`.
    """
    refuse_missing(rows, ["model", "recipe", "protocol"])
    parts = []
    for values, part in questions_of(rows).groupby([*sample_of(rows), "protocol"], sort=False, observed=True, dropna=False):
        found = aligned(part)
        if "none" not in found.recipes:
            raise BadRequest(f"{values[0]}: the uncompressed model was not evaluated; evaluate it on the same facts")
        known = found.right[found.recipes["none"]]
        base = found.rows("none")[known]
        parts += [base.assign(recipe=r, lost=~found.right[i][known]) for r, i in found.recipes.items() if r != "none"]
    known = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    if known.empty:
        raise BadResult("the uncompressed model answers nothing rightly, or no recipe stands beside it: nothing can be lost")
    return known


def bins(rows: pd.DataFrame, column: str, count: int = 4, within: str | None = None) -> pd.Series:
    """Return the bin of each row, 1 (lowest values of a column) to `count`, so that facts fill them evenly.

    Missing where the value is. The templates of a fact stay in one bin, that of the mean of its values. within: `relation`
    where values are not comparable between relations (population of a country, views of a page). Raises BadRequest for
    fewer than two bins, or more than there are facts with a value.
    """
    if column not in rows:
        raise BadRequest(f"the rows have no column {column!r}; they have {listed(rows.columns, 30)}")
    values = pd.to_numeric(rows[column], errors="coerce").astype(float)
    facts = rows.assign(value=values).groupby("fact").agg(value=("value", "mean"), group=(within or "fact", "first"))
    facts = facts[facts["value"].notna()]
    if count < 2 or len(facts) < count:
        raise BadRequest(f"{len(facts)} facts with a {column} cannot be parted into {count} bins: choose 2 or more, and fewer")
    grouped = facts.groupby("group")["value"] if within else facts["value"]
    order = grouped.rank(method="first", pct=True)
    number = np.ceil((order * count).round(9)).clip(1, count).astype(int)
    return rows["fact"].map(number).astype("Int64").rename(column)


def lost_by(known: pd.DataFrame, by: str | Sequence[str]) -> pd.DataFrame:
    """Return the share of known facts that each recipe loses, in groups.

    known: of `known_facts`; by: a column or several; rows without a value belong to no group. One line per model, recipe,
    protocol and group: known, how many; lost_of_known with its 95 % interval lost_low, lost_high over facts. Means over seeds:
    `over_seeds(lost_by(known, "relation"), ["lost_of_known"], ["line", "recipe", "relation"])`.
    """
    by = [by] if isinstance(by, str) else list(by)
    refuse_missing(known, ["lost", *by])
    keys, lines = [*sample_of(known), "recipe", "protocol", *by], []
    for values, part in known.dropna(subset=by).groupby(keys, sort=False, observed=True):
        low, high = clustered_wilson(part["lost"].to_numpy(bool), pd.factorize(part["fact"])[0])
        share = {"known": len(part), "lost_of_known": float(part["lost"].mean()), "lost_low": low, "lost_high": high}
        lines.append(dict(zip(keys, values, strict=True)) | share)
    return pd.DataFrame(lines).sort_values(by, kind="stable", ignore_index=True) if lines else pd.DataFrame()


def loss_odds(known: pd.DataFrame, on: str, logarithm: bool = False) -> dict:
    """Fit lost ~ a column by logistic regression, on the known facts of one recipe; a fact is a cluster.

    known: of `known_facts`, of one model or of several seeds, whose answers to a fact then rise and fall together; on: a
    column such as `margin` (nats); logarithm: of its decimal logarithm (`popularity`: ten times as popular). Returns n, lost,
    left_out (facts without a value), clusters; odds_ratio, by which the odds of a loss are multiplied for one more of the
    column, with its 95 % interval low, high, and p: the sandwich of statsmodels with its small-sample factor, t on the number
    of facts less 1. With fewer than ten lost or kept, one value for all, or a value that parts the lost from the kept, `note`
    says so and the rest is missing. Raises BadRequest for a column that is not there.
    """
    refuse_missing(known, ["lost", on])
    values = pd.to_numeric(known[on], errors="coerce").astype(float)
    values = np.log10(values.where(values > 0)) if logarithm else values
    fine = np.isfinite(values)
    used, x = known[fine], values[fine].to_numpy()
    lost, clusters = used["lost"].to_numpy(float), pd.factorize(used["fact"])[0]
    count = int(clusters.max()) + 1 if len(used) else 0
    found = {"on": on, "n": len(used), "lost": int(lost.sum()), "left_out": int((~fine).sum()), "clusters": count}
    nothing = dict.fromkeys(("odds_ratio", "low", "high", "p"), math.nan)
    if min(lost.sum(), len(used) - lost.sum()) < FEWEST:
        return found | nothing | {"note": f"fewer than {FEWEST} of the known answers are lost, or are kept"}
    if x.std() < 1e-9:
        return found | nothing | {"note": f"all facts have the same {on}"}
    design = np.column_stack([np.ones_like(x), (x - x.mean()) / x.std()])  # scaled for the solver only
    with warnings.catch_warnings(), np.errstate(over="ignore"):  # exp of far-off steps of the solver
        warnings.simplefilter("error", PerfectSeparationWarning)
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            kind = {"cov_type": "cluster", "cov_kwds": {"groups": clusters, "use_correction": True}, "use_t": True}
            fitted = Logit(lost, design).fit(disp=False, **kind)
            ratio, low, high = np.exp(np.array([fitted.params[1], *fitted.conf_int()[1]]) / x.std())
        except (PerfectSeparationWarning, ConvergenceWarning, np.linalg.LinAlgError):
            return found | nothing | {"note": f"one value of {on} parts the lost from the kept"}
    line = {"odds_ratio": float(ratio), "low": float(low), "high": float(high), "p": float(fitted.pvalues[1])}
    return found | line | {"note": ""}


def mildest_clear(table: pd.DataFrame) -> pd.Series | None:
    """Return the line with the smallest clear loss of a table with columns clear and accuracy; None without one."""
    lines = table[table["clear"].astype(bool)]
    return None if lines.empty else lines.sort_values("accuracy", ascending=False, kind="stable").iloc[0]


def half_gone(amounts: Iterable[float], kept: Iterable[float]) -> float:
    """Return the amount at which half is left, on straight lines between the amounts measured, from mild to harsh.

    amounts, kept: begin with the uncompressed model. NaN where more than half is left at all of them.
    """
    before = None
    for amount, value in zip(amounts, kept, strict=True):
        if value <= 0.5 and before is not None:
            return before[0] + (before[1] - 0.5) / (before[1] - value) * (amount - before[0])
        if not math.isnan(value):
            before = (amount, value)
    return math.nan
