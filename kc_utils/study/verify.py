"""Do the results of record come out on this machine? A sample of evaluations, computed again and compared.

Nothing stored is used and nothing is stored. An evaluation reproduces in one of two ways, and a check states which.

Answer by answer: weights of pruning and of rounding to nearest are the same on every machine; only the order of float32 sums
differs. Hardly an answer turns, and neither the median nor the worst score is further off than allowed here.

In distribution: dynamic int8 rounds each token's activations, and GPTQ solves with sums over calibration texts, so that another
machine gives another draw of the same noise. An evaluation of these methods that misses the bounds is tested for more than noise:
whether answers turned, or scores moved, more one way than the other. Either sum over facts is compared with its own spread,
|sum| / sqrt(sum of squares), at Z standard errors. Nothing in it is fitted. Fewer than ten facts cannot fail it.
"""

import hashlib
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from kc_utils.compression.recipe import Recipe
from kc_utils.errors import BadRequest, BadResult, KCError, MissingData, listed
from kc_utils.places import reference_dir
from kc_utils.study import measure, packing, record
from kc_utils.study.cells import Cell, chosen, grouped
from kc_utils.study.rows import source_of
from kc_utils.study.store import CompressedModels
from kc_utils.study.studyfile import check_data

QUESTION = ["protocol", "fact", "template"]
"""What names a question in the rows of an evaluation."""
NATS, SHARE, TYPICAL, TURNED = 0.02, 0.001, 0.01, 0.005
"""How far the worst score may be off in nats, with a share of that score added; the median score; the share of answers that may
turn, one at least."""
Z = 3.0
NOISY = ("int8", "llm-int8", "gptq")
"""Methods whose rounding depends on sums of float32: another machine gives another draw of it."""
BY_ANSWER, IN_DISTRIBUTION, NO = "answer by answer", "in distribution", "no"
SHOWN = (
    "model",
    "recipe",
    "facts",
    "n",
    "turned",
    "turned_allowed",
    "typical",
    "largest",
    "same_code",
    "seconds",
    "agreement",
    "why",
)
"""What a table shows of a check."""


@dataclass(frozen=True)
class Check:
    """One evaluation, computed again. n: questions and windows; turned: answers right in the record and wrong here, or the other
    way round; largest: the score that is furthest off, in nats; typical: the median; z_answers, z_scores: net movement in its
    standard errors; same_code: whether the record was made with this very code and versions; why: in words."""

    model: str
    recipe: str
    facts: str
    n: int
    same_code: bool = True
    seconds_recorded: float = 0.0
    agreement: str = NO
    why: str = ""
    turned: int = 0
    turned_allowed: int = 0
    largest: float = math.nan
    typical: float = math.nan
    accuracy: float = math.nan
    accuracy_recorded: float = math.nan
    z_answers: float = math.nan
    z_scores: float = math.nan
    seconds: float = 0.0

    @property
    def reproduces(self) -> bool:
        return self.agreement != NO

    def to_dict(self) -> dict:
        return {**asdict(self), "reproduces": self.reproduces}


def sample(found: record.Record, size: int, seed: int, models: Sequence[str] = ()) -> list[Cell]:
    """Draw so many recorded evaluations, by seed and by what they are, so that one that is added moves no other."""

    def rank(cell: Cell) -> bytes:
        return hashlib.sha256(f"{seed}/{cell.model}/{cell.recipe}/{cell.probe.model_dump_json()}".encode()).digest()

    return sorted(chosen(found.cells, f"the record of {found.study}", models), key=rank)[:size]


def verify(study: str, size: int, seed: int = 0, models: Sequence[str] = ()) -> list[Check]:
    """Compute a seeded sample of a study's recorded evaluations again, of these models or patterns where any are named.

    Raises BadRequest for models of which nothing is recorded, MissingData where the study has no record, or one that is not
    whole, or where facts are not on this machine.
    """
    if size < 1:
        raise BadRequest(f"a sample holds at least one evaluation, got {size}")
    found = record.load(study)
    if found.problems:
        raise MissingData("; ".join(found.problems[:2]))
    if not found.files:
        there = listed(record.studies(reference_dir())) or "none"
        raise MissingData(f"study {study} has no results of record; there are those of {there}")
    cells = sample(found, size, seed, models)
    check_data(study, [cell.probe.model_dump() for cell in cells])
    files, checks = found.cells, []
    with tqdm(total=len(cells), unit="evaluation", file=sys.stderr) as bar:
        for group in grouped(cells).values():
            made = CompressedModels()
            for cell in group:
                bar.set_description(f"{cell.model} {cell.recipe}"[:48])
                checks.append(check(cell, files[cell], made))
                bar.update()
    return checks


def check(cell: Cell, file: record.RecordedFile, models: CompressedModels) -> Check:
    """Compute one recorded evaluation and compare."""
    before = file.result(cell.recipe)
    then, now = before.record["depends_on"], cell.depends_on
    seconds = round(sum(before.record["made"]["seconds"].values()), 1)
    known = {"same_code": before.key == cell.key, "seconds_recorded": seconds}
    for what, name in (("facts", "facts"), ("asked", "tasks or texts"), ("model", "weights")):
        if then[what] != now[what]:
            return _of(cell, n=len(before.rows), **known, why=f"the {name} here are not those of the record")
    try:
        made, waited = models.of(cell)
        begin = time.perf_counter()
        rows, _ = measure.answers(made, cell.probe)
    except MissingData:
        raise
    except KCError as error:
        return _of(cell, n=len(before.rows), **known, why=f"it cannot be computed here: {error}")
    spent = sum(waited.values()) + time.perf_counter() - begin
    return compare(cell, rows, before.rows, seconds=round(spent, 1), **known)


def compare(cell: Cell, rows: pd.DataFrame, recorded: pd.DataFrame, **known) -> Check:
    """Compare fresh rows with recorded ones. known: further fields of the `Check`."""
    both = recorded.merge(rows, on=QUESTION, suffixes=("_then", ""))
    if not len(both) == len(recorded) == len(rows):
        why = f"{len(recorded)} recorded and {len(rows)} fresh questions share {len(both)}"
        return _of(cell, n=len(recorded), **known | {"seconds": 0.0}, why=why)
    sides = ([f"correct{end}", f"score{end}"] for end in ("_then", ""))
    then, now = (both[s].astype("Float64").astype(float).set_axis(["answers", "scores"], axis=1) for s in sides)
    moved, allowed = now - then, max(1, math.floor(TURNED * len(both)))
    answered, off, turned = moved["answers"].notna(), moved["scores"].abs(), int(moved["answers"].abs().sum())
    typical, largest = (float(off.median()), float(off.max())) if off.any() else (0.0, 0.0)
    z = {what: _net(moved[what], both["fact"]) for what in moved}
    why = []
    if turned > allowed:
        why.append(f"{turned} answers turned, {allowed} may")
    if (off > NATS + SHARE * then["scores"].abs() + packing.STEP / 2).any():
        why.append(f"a score is {largest:.2f} nats off")
    if typical > TYPICAL + packing.STEP / 2:
        why.append(f"scores are {typical:.2f} nats off in the middle")
    agreement = NO if why else BY_ANSWER
    if why and any(step.method in NOISY for step in Recipe.parse(cell.recipe).steps):
        one_way = [f"{what} moved one way, by {size:.1f} standard errors" for what, size in z.items() if size > Z]
        agreement = NO if one_way else IN_DISTRIBUTION
        why += one_way
    if unlike := int((now.isna() != then.isna()).to_numpy().sum()):
        agreement = NO
        why.append(f"{unlike} answers or scores are there in one of the two alone")
    accuracy, before = (side.loc[answered, "answers"].mean() for side in (now, then))
    return _of(
        cell, **known, n=len(both), turned=turned, turned_allowed=allowed, largest=largest, typical=typical, accuracy=accuracy,
        accuracy_recorded=before, z_answers=z["answers"], z_scores=z["scores"], agreement=agreement,
        why="; ".join(why),
    )  # fmt: skip


def _net(moved: pd.Series, facts: pd.Series) -> float:
    """|sum| / sqrt(sum of squares) of what each fact moved; 0 where none did."""
    moved = moved.groupby(facts).sum()
    size = float(np.linalg.norm(moved.to_numpy(float)))
    return abs(float(moved.sum())) / size if size else 0.0


def _of(cell: Cell, **found) -> Check:
    return Check(cell.model, cell.recipe, source_of(cell.probe.model_dump()), **found)


def summary(checks: Sequence[Check]) -> str:
    """State how many evaluations came out, and in which way. Raises BadResult with the first that does not reproduce."""
    if failed := [f"{c.model}, {c.recipe}, {c.facts}: {c.why}" for c in checks if not c.reproduces]:
        raise BadResult(f"{len(failed)} of {len(checks)} recorded evaluations do not reproduce; first, {failed[0]}")
    ways = [c.agreement for c in checks]
    noisy = f", {ways.count(IN_DISTRIBUTION)} in distribution" if IN_DISTRIBUTION in ways else ""
    return f"of {len(ways)} recorded evaluations {ways.count(BY_ANSWER)} reproduce answer by answer{noisy}"
