"""Rows made ready for statistics: the same questions side by side, each once, each with an answer.

A question is a protocol, a fact and a template. Every function of `kc_utils.stats` takes rows through here, so that what
cannot be counted is refused in one place. Facts are what is drawn again: the templates of one fact stay together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from kc_utils.errors import BadRequest, BadResult, listed
from kc_utils.stats.names import TASK

NO_QUESTIONS = ("perplexity", "relearning")
SAME = ("score", "margin", "chosen", "predicted_token")  # in which a model agrees with itself, beside `correct`


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
        equal = (np.array_equal(v[i], v[j], equal_nan=True) for v in self.values)
        return i == j or bool((self.right[i] == self.right[j]).all() and all(equal))


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
    right, chance = (v.to_numpy()[order].reshape(shape) for v in (zeros_and_ones(rows["correct"]), rows["chance"]))
    if not ((chance >= 0) & (chance <= 1)).all():  # NaN is neither
        raise BadResult("column 'chance' holds values that are no probabilities: evaluate the model again")
    if not np.allclose(chance.astype(float), chance[0].astype(float), rtol=1e-6):
        raise BadRequest(
            "the same questions have another chance under another recipe: they were scored against other alternatives. "
            "Evaluate both with one probe"
        )
    values = tuple(pd.to_numeric(rows[c]).to_numpy(float)[order].reshape(shape) for c in SAME if c in rows)
    positions = {name: i for i, name in enumerate(names)}
    facts = first // len(template_names)
    return Answers(rows, order.reshape(shape), positions, right, chance[0].astype(float), facts, values)


def zeros_and_ones(values: pd.Series) -> pd.Series:
    """Return a column of right and wrong as booleans. Raises BadResult for missing and for other values."""
    if values.dtype == bool:
        return values
    numbers = pd.to_numeric(values, errors="coerce")
    if missing := int(numbers.isna().sum()):
        raise BadResult(f"{missing} of {len(values)} rows have no value of 'correct': evaluate the model again")
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
