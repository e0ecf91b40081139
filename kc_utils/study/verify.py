"""Do the results of record come out on this machine? A sample of cells, computed again and compared.

Nothing stored is used and nothing is stored. A cell reproduces in one of two ways, and which of them is always said.

Answer by answer. Weights of pruning and of rounding to nearest are the same on every machine, bit for bit; what differs is the
order in which float32 sums are made, by processor and number of threads. The questions are the same, hardly an answer turns, and
neither the typical nor the worst score is further off than EXACT allows. Where compression has broken a model, scores are large
and so are their errors: the worst may be off by a share of the score besides.

In distribution. Dynamic int8 rounds each token's activations, and GPTQ solves for its weights with sums over calibration texts:
a sum that falls on the other side of a step moves all that follows, and what comes out is another draw of the same noise. A cell
of these methods that misses EXACT is tested for more than noise: whether answers turned more one way than the other, and whether
scores moved more one way than the other. Either sum, over facts that moved independently, is compared with its own spread,
|sum| / sqrt(sum of squares), at Z standard errors. Nothing in it is fitted to what was seen. Fewer than ten facts cannot fail it.
"""

from __future__ import annotations

import hashlib
import math
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from kc_utils.compression.recipe import Recipe
from kc_utils.errors import BadRequest, KCError, MissingData
from kc_utils.study import measure, packing, record
from kc_utils.study.cells import Cell, chosen
from kc_utils.study.data import check_data
from kc_utils.study.evaluate import Versions, grouped
from kc_utils.study.recording import probe_name

QUESTION = ["protocol", "fact", "template"]
"""What names a question in the rows of a cell."""


@dataclass(frozen=True)
class Tolerance:
    """nats: that the worst score may be off, and `share` of that score added to it; typical: that the median may be off, in
    nats; turned: share of the answers that may turn, one at least."""

    nats: float
    share: float
    turned: float
    typical: float


EXACT = Tolerance(0.02, 0.001, 0.005, 0.01)
Z = 3.0
NOISY = ("int8", "llm-int8", "gptq")
"""Methods whose rounding depends on sums of float32."""

BY_ANSWER, IN_DISTRIBUTION, NO = "answer by answer", "in distribution", "no"


@dataclass(frozen=True)
class Check:
    """One cell, computed again.

    n: questions and windows; turned: answers right in the record and wrong here, or the other way round; turned_allowed;
    largest: the score that is furthest off, in nats; typical: the median; accuracy, accuracy_recorded: of questions;
    z_answers, z_scores: net movement of answers and of scores, in its standard errors; same_code: whether the record was made
    with this very code and versions; agreement: BY_ANSWER, IN_DISTRIBUTION or NO; why: in words, where not by answer;
    seconds: that it took here, seconds_recorded then.
    """

    model: str
    recipe: str
    asked: str
    n: int
    turned: int
    turned_allowed: int
    largest: float
    typical: float
    accuracy: float | None
    accuracy_recorded: float | None
    z_answers: float
    z_scores: float
    same_code: bool
    agreement: str
    why: str
    seconds: float
    seconds_recorded: float

    @property
    def reproduces(self) -> bool:
        return self.agreement != NO

    def to_dict(self) -> dict:
        return {**asdict(self), "reproduces": self.reproduces}


def noisy(recipe: str) -> bool:
    """Whether another machine gives another draw of a recipe's rounding."""
    return any(step.method in NOISY for step in Recipe.parse(recipe).steps)


def sample(found: record.Record, size: int, seed: int, models: Sequence[str] = ()) -> list[Cell]:
    """So many recorded cells, drawn by seed and by what they are, so that a cell that is added moves no other."""
    cells = chosen(found.cells, f"the record of {found.study}", models)

    def place(cell: Cell) -> str:
        text = f"{seed}/{cell.model}/{cell.recipe}/{cell.probe.model_dump_json()}"
        return hashlib.sha256(text.encode()).hexdigest()

    return sorted(cells, key=place)[:size]


def verify(study: str, size: int, seed: int = 0, show_progress: bool = True, models: Sequence[str] = ()) -> list[Check]:
    """Compute a seeded sample of a study's recorded cells again, of these models or patterns where any are named. One `Check`
    for each.

    Raises BadRequest for models of which nothing is recorded, MissingData where the study has no record, or one that is not
    whole, or where facts are not on this machine.
    """
    if size < 1:
        raise BadRequest(f"a sample holds at least one cell, got {size}")
    found = record.load(study)
    if found.problems:
        others = f" (and {len(found.problems) - 1} more)" if len(found.problems) > 1 else ""
        raise MissingData(f"{found.problems[0]}{others}")
    if not found.files:
        raise MissingData(
            f"study {study} has no results of record; there are those of {', '.join(record.studies()) or 'none'}"
        )
    cells = sample(found, size, seed, models)
    check_data(study, [cell.probe.model_dump() for cell in cells])
    files = found.cells
    checks = []
    with tqdm(total=len(cells), unit="cell", disable=not show_progress, file=sys.stderr) as bar:
        for group in grouped(cells):
            versions = Versions()
            for cell in group:
                bar.set_description(f"{cell.model} {cell.recipe}"[:48])
                checks.append(check(cell, files[cell], versions))
                bar.update()
    return checks


def check(cell: Cell, file: record.RecordedFile, versions: Versions) -> Check:
    """Compute one recorded cell and compare."""
    before = file.result(cell.recipe)
    same_code = before.key == cell.key
    recorded_s = sum(before.record["made"]["seconds"].values())
    then = before.record["depends_on"]
    now = cell.depends_on
    for what, name in (("facts", "facts"), ("asked", "tasks or texts"), ("model", "weights")):
        if then[what] != now[what]:
            return _not_compared(
                cell, len(before.rows), same_code, recorded_s, f"the {name} here are not those of the record"
            )
    try:
        version, seconds = versions.of(cell)
        begin = time.perf_counter()
        rows, _ = measure.answers(version, cell.probe)
        spent = sum(seconds.values()) + time.perf_counter() - begin
    except MissingData:
        raise
    except KCError as error:
        return _not_compared(cell, len(before.rows), same_code, recorded_s, f"it cannot be computed here: {error}")
    return compare(cell, rows, before.rows, same_code, spent, recorded_s)


def compare(
    cell: Cell,
    rows: pd.DataFrame,
    recorded: pd.DataFrame,
    same_code: bool = True,
    spent: float = 0,
    recorded_s: float = 0,
) -> Check:
    """Fresh rows against recorded ones."""
    both = recorded.merge(rows, on=QUESTION, how="inner", suffixes=("_then", ""))
    if len(both) != len(recorded) or len(both) != len(rows):
        why = f"{len(recorded)} recorded and {len(rows)} fresh questions share {len(both)}"
        return _not_compared(cell, len(recorded), same_code, recorded_s, why)
    answered = both["correct"].notna() & both["correct_then"].notna()
    right, was = (both.loc[answered, c].astype(int) for c in ("correct", "correct_then"))
    turned = int((right != was).sum())
    unlike = int((both["correct"].notna() != both["correct_then"].notna()).sum())
    unlike += int((both["score"].notna() != both["score_then"].notna()).sum())
    allowed = max(1, math.floor(EXACT.turned * len(both)))
    scored = both["score"].notna() & both["score_then"].notna()
    then = both.loc[scored, "score_then"].astype(float)
    moved = both.loc[scored, "score"].astype(float) - then
    off = moved.abs().to_numpy()
    typical = float(np.median(off)) if len(off) else 0.0
    within = off <= EXACT.nats + EXACT.share * then.abs().to_numpy() + packing.STEP / 2
    z_answers = _net((right - was).groupby(both.loc[answered, "fact"]).sum())
    z_scores = _net(moved.groupby(both.loc[scored, "fact"]).sum())
    why = []
    if turned > allowed:
        why.append(f"{turned} answers turned, {allowed} may")
    if not within.all():
        why.append(f"a score is {float(off.max()):.2f} nats off")
    if typical > EXACT.typical + packing.STEP / 2:
        why.append(f"scores are {typical:.2f} nats off in the middle")
    agreement = NO if why else BY_ANSWER
    if why and noisy(cell.recipe):
        one_way = [
            f"{what} moved one way, by {z:.1f} standard errors"
            for what, z in (("answers", z_answers), ("scores", z_scores))
            if z > Z
        ]
        agreement = NO if one_way else IN_DISTRIBUTION
        why += one_way
    if unlike:
        agreement = NO
        why.append(f"{unlike} answers or scores are there in one of the two alone")
    return Check(
        **_names(cell),
        n=len(both),
        turned=turned,
        turned_allowed=allowed,
        largest=float(off.max(initial=0.0)),
        typical=typical,
        accuracy=float(right.mean()) if len(right) else None,
        accuracy_recorded=float(was.mean()) if len(was) else None,
        z_answers=z_answers,
        z_scores=z_scores,
        same_code=same_code,
        agreement=agreement,
        why="; ".join(why),
        seconds=round(spent, 1),
        seconds_recorded=round(recorded_s, 1),
    )


def _net(moved: pd.Series) -> float:
    """|sum| / sqrt(sum of squares) of what each fact moved; 0 where none did."""
    size = float(np.sqrt((moved.astype(float) ** 2).sum()))
    return abs(float(moved.sum())) / size if size else 0.0


def _not_compared(cell: Cell, n: int, same_code: bool, recorded_s: float, why: str) -> Check:
    return Check(
        **_names(cell), n=n, turned=0, turned_allowed=0, largest=math.nan, typical=math.nan, accuracy=None,
        accuracy_recorded=None, z_answers=math.nan, z_scores=math.nan, same_code=same_code, agreement=NO, why=why,
        seconds=0.0, seconds_recorded=recorded_s,
    )  # fmt: skip


def _names(cell: Cell) -> dict:
    return {"model": cell.model, "recipe": cell.recipe, "asked": probe_name(cell.probe)}


def failures(checks: Iterable[Check]) -> str:
    """One line about the cells that do not reproduce; empty where all do."""
    checks = list(checks)
    failed = [c for c in checks if not c.reproduces]
    if not failed:
        return ""
    first = failed[0]
    return (
        f"{len(failed)} of {len(checks)} recorded cells do not reproduce; first, {first.model}, {first.recipe}, "
        f"{first.asked}: {first.why}"
    )


def summary(checks: Iterable[Check]) -> str:
    """How many cells came out, and in which way."""
    ways = [c.agreement for c in checks]
    return f"of {len(ways)} recorded cells {ways.count(BY_ANSWER)} reproduce answer by answer" + (
        f", {ways.count(IN_DISTRIBUTION)} in distribution" if IN_DISTRIBUTION in ways else ""
    )
