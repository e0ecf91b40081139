"""Logistic regression of forgetting: how the odds of losing a known fact change with its popularity or margin."""

from __future__ import annotations

import math
import warnings
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.discrete.discrete_model import Logit
from statsmodels.tools.sm_exceptions import ConvergenceWarning, PerfectSeparationWarning

from kc_utils.stats.forgetting import known_items
from kc_utils.stats.items import clusters_of
from kc_utils.errors import BadRequest

SCALES = {"popularity": ("popularity", True), "margin": ("margin_baseline", False), "enters": ("enters", False)}
"""What can be regressed on: the column of known items, and whether its decimal logarithm is taken."""
FEWEST = 10


@dataclass(frozen=True)
class LossModel:
    """Odds of losing a known fact, fitted to n items of which `lost` were lost.

    odds_ratio   by which they are multiplied for a fact ten times as popular, for one nat more of margin, or for one first
                 told at the end of training instead of its beginning (`enters`, a fraction of it); below 1: the popular,
                 the clearly known, the late are lost less. With its 95 % interval and p.
    slope, error the natural logarithm of the odds ratio, and its standard error, clustered
    intercept    log odds at popularity 1 or margin 0; of the average relation where values are taken within relations
    left_out     known items without a value (no popularity, or none above 0)
    clusters     how many were taken to be independent
    note         why nothing could be fitted; everything is then missing. Empty otherwise
    """

    on: str
    n: int
    lost: int
    left_out: int
    cluster: str
    clusters: int
    slope: float
    intercept: float
    error: float
    odds_ratio: float
    odds_ratio_ci95: tuple[float, float]
    p: float
    note: str

    def to_dict(self) -> dict:
        return asdict(self)


def loss_model(
    rows: pd.DataFrame,
    baseline: pd.DataFrame,
    on: str = "popularity",
    cluster: str = "relation",
    within: bool = False,
    measure: str = "correct",
) -> LossModel:
    """Fit lost ~ log10(popularity), lost ~ baseline margin, or lost ~ enters, among the items that were known.

    cluster   standard errors allow for whole relations (or the wordings of a fact) rising and falling together: the
              sandwich of statsmodels with its small-sample factor, and t on the number of clusters less 1
    within    compare facts with others of their relation only: values are centred by relation

    Raises as `compare`, BadRequest for another `on` or rows without that column. With fewer than ten lost or ten kept,
    or where one value parts all lost from all kept, there is a note instead of a slope.
    """
    if on not in SCALES:
        raise BadRequest(f"no regression on {on!r}: choose {' or '.join(SCALES)}")
    column, logarithm = SCALES[on]
    known = known_items(rows, baseline, measure)
    if column not in known:
        raise BadRequest(f"the rows have no {on}: use facts or a protocol that has one")
    values = pd.to_numeric(known[column], errors="coerce").astype(float)
    if logarithm:
        values = np.log10(values.where(values > 0))
    used = known[np.isfinite(values)].reset_index(drop=True)
    values = values[np.isfinite(values)].reset_index(drop=True)
    facts = {"on": on, "n": len(used), "lost": int(used["lost"].sum()), "left_out": len(known) - len(used)}
    if min(facts["lost"], facts["n"] - facts["lost"]) < FEWEST:
        return _nothing(facts, cluster, f"fewer than {FEWEST} of the known items are lost, or are kept")
    clusters = clusters_of(used, cluster)
    if within:
        values = values - values.groupby(used["relation"]).transform("mean") + values.mean()
    if values.std() < 1e-9:
        return _nothing(facts, cluster, f"all items have the same {on}")
    return _fit(used["lost"].to_numpy(float), values.to_numpy(), clusters, cluster, facts)


def _fit(lost: np.ndarray, values: np.ndarray, clusters: np.ndarray, cluster: str, facts: dict) -> LossModel:
    # centred and scaled for the solver only: popularity may have any unit
    middle, scale = values.mean(), values.std()
    design = np.column_stack([np.ones_like(values), (values - middle) / scale])
    with warnings.catch_warnings(), np.errstate(over="ignore"):  # exp of far-off steps of the solver
        warnings.simplefilter("error", PerfectSeparationWarning)
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            fitted = Logit(lost, design).fit(
                disp=False, cov_type="cluster", cov_kwds={"groups": clusters, "use_correction": True}
            )
        except (PerfectSeparationWarning, ConvergenceWarning, np.linalg.LinAlgError):
            return _nothing(facts, cluster, f"one value of {facts['on']} parts the lost from the kept")
    count = int(clusters.max()) + 1
    slope, error = float(fitted.params[1]) / scale, float(np.sqrt(fitted.cov_params()[1, 1])) / scale
    reach = stats.t.ppf(0.975, count - 1) * error
    return LossModel(
        **facts,
        cluster=cluster,
        clusters=count,
        slope=slope,
        intercept=float(fitted.params[0]) - slope * middle,
        error=error,
        odds_ratio=_exp(slope),
        odds_ratio_ci95=(_exp(slope - reach), _exp(slope + reach)),
        p=float(2 * stats.t.sf(abs(slope / error), count - 1)),
        note="",
    )


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf


def _nothing(facts: dict, cluster: str, note: str) -> LossModel:
    nan = math.nan
    return LossModel(**facts, cluster=cluster, clusters=0, slope=nan, intercept=nan, error=nan, odds_ratio=nan,
                     odds_ratio_ci95=(nan, nan), p=nan, note=note)  # fmt: skip
