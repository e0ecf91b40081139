"""Rows made ready for statistics: the same questions side by side, each once, each with an answer.

Every function of `kc_utils.stats` takes rows through here, so that what cannot be counted is refused in one place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from kc_utils.errors import BadRequest, BadResult, listed
from kc_utils.stats.names import TASK

NO_QUESTIONS = ("perplexity", "relearning")

ITEM = ["protocol", "fact", "template"]
"""What names a question: the same three values in two frames are the same question."""

CLUSTERS = ("fact", "relation")
MIN_RELATIONS = 6
"""Below so many relations, intervals that resample relations cover too little in simulation to be shown."""


def checked(rows: pd.DataFrame, measure: str = "correct", needs: Sequence[str] = ()) -> pd.DataFrame:
    """The rows in the order of their items, `measure` as booleans.

    Raises BadResult for no rows and for a measure or chance that is missing or out of range, BadRequest for columns that
    are not there and for questions that occur twice.
    """
    rows = in_order(rows, [measure, *needs])
    values = rows[measure]
    if values.dtype != bool:
        values = _zeros_and_ones(values, measure)
    if "chance" in rows and not rows["chance"].between(0, 1).all():  # NaN is not between
        raise BadResult("column 'chance' holds values that are no probabilities: evaluate the cell again")
    return rows.assign(**{measure: values})


def _zeros_and_ones(values: pd.Series, measure: str) -> pd.Series:
    values = pd.to_numeric(values, errors="coerce")
    if values.isna().any():
        raise BadResult(
            f"{int(values.isna().sum())} of {len(values)} rows have no value of {measure!r}: leave those rows out where the "
            "protocol gives none, otherwise evaluate the cell again"
        )
    if not values.isin((0, 1)).all():
        raise BadResult(f"column {measure!r} holds values other than true and false: name a column of right and wrong")
    return values.astype(bool)


def in_order(rows: pd.DataFrame, needs: Sequence[str] = ()) -> pd.DataFrame:
    """The rows in the order of their items, so that no result depends on how a file was sorted. Raises as `checked`."""
    if rows.empty:
        raise BadResult("no rows to compare: the probe asked nothing")
    missing = [c for c in (*ITEM, *needs) if c not in rows]
    if missing:
        raise BadRequest(
            f"the rows have no column {listed(missing)}; they have {listed(rows.columns)}: name another measure or protocol"
        )
    places = _places(rows)
    order = np.argsort(places, kind="stable")
    repeated = int((np.diff(places[order]) == 0).sum())
    if repeated:
        raise BadRequest(
            f"{repeated} of {len(rows)} rows repeat a question: give the rows of one cell, in which two models do not ask "
            "the same facts twice (protocol, fact and template name a question)"
        )
    return rows.iloc[order].reset_index(drop=True)


def _places(rows: pd.DataFrame) -> np.ndarray:
    """A number for each row, in the order of the items and the same for the same item."""
    places = np.zeros(len(rows), np.int64)
    for column in ITEM:
        codes, values = pd.factorize(rows[column], sort=True, use_na_sentinel=False)
        places = places * len(values) + codes
    return places


def paired(rows: pd.DataFrame, baseline: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Two frames in order, question by question: all columns of `rows`, and `columns` of the baseline as `*_baseline`.

    Raises BadRequest where they do not hold the same questions, or not with the same chance of a right guess.
    """
    beside = list(dict.fromkeys([*columns, *(["chance"] if "chance" in baseline and "chance" in rows else [])]))
    if not same_items(rows, baseline):
        shared = len(rows[ITEM].merge(baseline[ITEM], on=ITEM))
        raise BadRequest(
            f"{len(rows)} and {len(baseline)} rows share {shared} items: they do not ask the same facts. Evaluate both "
            "models with one probe"
        )
    joined = rows.assign(**{f"{c}_baseline": baseline[c].to_numpy() for c in beside})
    if "chance_baseline" in joined and not np.allclose(joined["chance"], joined["chance_baseline"], rtol=1e-6):
        raise BadRequest(
            "the same items have another chance in the two frames: they were asked with other wrong answers. Evaluate both "
            "models with one probe"
        )
    return joined


def same_items(rows: pd.DataFrame, other: pd.DataFrame) -> bool:
    """Whether two frames hold the same questions, row by row."""
    return len(rows) == len(other) and all((rows[c].to_numpy() == other[c].to_numpy()).all() for c in ITEM)


def same_numbers(rows: pd.DataFrame, baseline: pd.DataFrame) -> bool:
    """Whether two frames in order agree in every stored value: a model beside itself."""
    plain = [c for c in rows if c != "scores"]  # its numbers are also in score and margin
    numbers_first = sorted(plain, key=lambda c: rows[c].dtype == object)  # where two models differ
    return set(rows) == set(baseline) and all(rows[c].equals(baseline[c]) for c in numbers_first)


def clusters_of(rows: pd.DataFrame, cluster: str) -> np.ndarray:
    """A number for each row, the same for rows that are drawn together. Raises BadRequest for an unknown `cluster`.

    `fact`: the wordings of a fact stay together, and other facts might have been drawn: what is said holds for more
    facts like these. `relation`: whole relations stay together, and other relations might have been drawn: what is said
    holds for relations not asked. The second needs at least six relations and gives wider intervals.
    """
    if cluster not in CLUSTERS:
        raise BadRequest(f"no cluster {cluster!r}: choose {listed(CLUSTERS)}")
    keys = rows["relation"] if cluster == "relation" else _fact_keys(rows)
    if keys.isna().any():
        raise BadResult(f"{int(keys.isna().sum())} rows name no {cluster}: evaluate the cell again")
    numbers = pd.factorize(keys, sort=True)[0]
    if cluster == "relation" and numbers.max() + 1 < MIN_RELATIONS:
        raise BadRequest(
            f"{numbers.max() + 1} relations are too few to speak of relations not asked, which takes {MIN_RELATIONS}: use "
            "cluster='fact', which speaks of these relations alone"
        )
    return numbers


def _fact_keys(rows: pd.DataFrame) -> pd.Series:
    return rows["fact"].astype("string")


SAME = ("score", "margin", "chosen", "predicted_token")
"""Stored values in which a model must agree with itself, beside `correct`."""


@dataclass(frozen=True)
class Answers:
    """Answers of k recipes to the same n questions, in the order of facts and templates.

    recipes: name -> position; right: (k, n) booleans; chance: (n,); facts: (n,) numbers from 0; values: (k, n) each of the
    columns of SAME that are there; source: the rows, and places: (k, n) where in them each answer stands.
    """

    source: pd.DataFrame
    places: np.ndarray
    recipes: dict[str, int]
    right: np.ndarray
    chance: np.ndarray
    facts: np.ndarray
    values: tuple[np.ndarray, ...]

    def rows(self, recipe: str = "none") -> pd.DataFrame:
        """The rows of one recipe, in the order of the questions."""
        return self.source.iloc[self.places[self.recipes[recipe]]].reset_index(drop=True)

    def same(self, recipe: str, other: str) -> bool:
        """Whether two recipes agree in every stored value: nothing was changed."""
        i, j = self.recipes[recipe], self.recipes[other]
        return i == j or all(
            np.array_equal(v[i], v[j], equal_nan=v.dtype.kind == "f") for v in (self.right, *self.values)
        )


def aligned(rows: pd.DataFrame, needs: Sequence[str] = ()) -> Answers:
    """Lay the answers of several recipes side by side, question by question.

    rows: of one model and one protocol, with columns recipe, fact, template, correct, chance. Raises BadRequest where a
    recipe repeats a question, or recipes do not answer the same questions with the same chance; BadResult for no rows and
    for answers or chances that are missing or out of range.
    """
    refuse_missing(rows, ["recipe", "correct", "chance", *needs])
    recipes, names = pd.factorize(rows["recipe"])
    facts, _ = pd.factorize(rows["fact"], sort=True)
    if (facts < 0).any():
        raise BadResult(f"{int((facts < 0).sum())} rows name no fact: evaluate the model again")
    templates, template_names = pd.factorize(rows["template"], sort=True, use_na_sentinel=False)
    questions = facts.astype(np.int64) * len(template_names) + templates
    order = np.lexsort((questions, recipes))
    questions, counts = questions[order], np.bincount(recipes)
    repeated = int(((np.diff(questions) == 0) & (np.diff(recipes[order]) == 0)).sum())
    if repeated:
        raise BadRequest(
            f"{repeated} of {len(rows)} rows repeat a question: give the rows of one probe (model, recipe, protocol, fact "
            "and template name a question)"
        )
    first = questions[: counts[0]]
    for i, (count, start) in enumerate(zip(counts, np.cumsum(counts) - counts, strict=True)):
        mine = questions[start : start + count]
        if count != counts[0] or (mine != first).any():
            raise BadRequest(
                f"{names[0]} and {names[i]}: {counts[0]} and {count} rows share {len(np.intersect1d(first, mine))} "
                "questions: they do not query the same facts. Evaluate both with one probe"
            )
    shape = (len(names), int(counts[0]))

    def laid(column: str) -> np.ndarray:
        return rows[column].to_numpy()[order].reshape(shape)

    right, chance = zeros_and_ones(rows["correct"]).to_numpy()[order].reshape(shape), laid("chance").astype(float)
    if not ((chance >= 0) & (chance <= 1)).all():  # NaN is neither
        raise BadResult("column 'chance' holds values that are no probabilities: evaluate the model again")
    if not np.allclose(chance, chance[0], rtol=1e-6):
        raise BadRequest(
            "the same questions have another chance under another recipe: they were scored against other alternatives. "
            "Evaluate both with one probe"
        )
    values = tuple(pd.to_numeric(rows[c]).to_numpy(float)[order].reshape(shape) for c in SAME if c in rows)
    positions = {name: i for i, name in enumerate(names)}
    facts = first // len(template_names)
    return Answers(rows, order.reshape(shape), positions, right, chance[0], facts, values)


def zeros_and_ones(values: pd.Series) -> pd.Series:
    """Return a column of right and wrong as booleans. Raises BadResult for missing and for other values."""
    if values.dtype == bool:
        return values
    numbers = pd.to_numeric(values, errors="coerce")
    if numbers.isna().any():
        raise BadResult(
            f"{int(numbers.isna().sum())} of {len(values)} rows have no value of 'correct': leave those rows out where the "
            "protocol gives none, otherwise evaluate the model again"
        )
    if not numbers.isin((0, 1)).all():
        raise BadResult("column 'correct' holds values other than true and false")
    return numbers.astype(bool)


def refuse_missing(rows: pd.DataFrame, columns: Sequence[str]) -> None:
    """Raises BadResult for no rows, BadRequest for columns that are not there."""
    if rows.empty:
        raise BadResult("no rows to compare: the probe queried nothing")
    if missing := [c for c in dict.fromkeys(("fact", "template", *columns)) if c not in rows]:
        raise BadRequest(f"the rows have no column {listed(missing)}; they have {listed(rows.columns, 30)}")


def questions_of(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of questions put once to the model as it is: without windows of a text (`perplexity` reads those)
    and without relearning. Each harness task becomes a protocol of its own, `task NAME`."""
    refuse_missing(rows, ["protocol"])
    left_out = rows["protocol"].isin(NO_QUESTIONS)
    rows = rows[~left_out] if left_out.any() else rows
    of_tasks = rows["protocol"] == "harness"
    if not of_tasks.any():
        return rows
    protocol = rows["protocol"].astype(object).mask(of_tasks, TASK + rows["relation"].astype(object))
    return rows.assign(protocol=protocol)


def sample_of(rows: pd.DataFrame) -> list[str]:
    """Return the columns that name a model and the questions put to it, where the rows have them."""
    return ["model", *(c for c in ("facts", "probe") if c in rows)]
