"""Do the results of record come out on this machine? A sample of cells, computed again and compared.

Nothing stored is used and nothing is stored. A cell reproduces when its questions are the same, no more answers turn than
its tolerance allows, and neither the typical nor the worst score is further off.

Tolerances. Weights of pruning and of rounding to nearest are the same on every machine, bit for bit; what differs is the order
in which float32 sums are made, by processor and number of threads. Between one thread and two, and between AVX2 and the plainest
instructions of one processor, scores of smollm2-135m moved by less than the record's own rounding, and no answer turned.

Dynamic int8 rounds each token's activations: a sum that falls on the other side of a step moves all that follows, and what comes
out is another draw of the same noise. Under it, the same two sets of instructions gave scores that were 0.3 to 0.5 nats apart in
the middle and 7 at worst; 3 % of the answers about facts turned, and 14 of 62 of WinoGrande, where the two candidates are about
as likely. What has to come out there is the distribution: scores as close as that in the middle, and answers that turn both
ways alike. GPTQ solves for its weights with sums over calibration texts, so that single weights round differently; it is given
the room of int8, without having been measured across processors.

Where compression has broken a model, scores are large and so are their errors: the worst may be off by a share of the score
besides.
"""

from __future__ import annotations

import hashlib
import math
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from kc_utils.compression.methods import method
from kc_utils.compression.recipe import Recipe
from kc_utils.errors import BadRequest, KCError, MissingData
from kc_utils.study import measure, packing, record
from kc_utils.study.cells import Cell
from kc_utils.study.data import check_data
from kc_utils.study.evaluate import Versions, grouped
from kc_utils.study.recording import probe_name

QUESTION = ["protocol", "fact", "template"]
"""What names a question in the rows of a cell."""


@dataclass(frozen=True)
class Tolerance:
    """nats: that the worst score may be off, and `share` of that score added to it; typical: that the median may be off, in
    nats; turned: share of the answers that may turn, one at least. Of answers that turn, those lost may outnumber those
    gained, or the other way round, by NET times the square root of their number."""

    nats: float
    share: float
    turned: float
    typical: float


EXACT = Tolerance(0.02, 0.001, 0.005, 0.01)
NET = 3.0
_MOVED = Tolerance(10.0, 0.05, 0.3, 0.9)
ROUNDED = {"int8": _MOVED, "llm-int8": _MOVED, "gptq": _MOVED}
"""By method; the widest of a recipe's steps holds."""


@dataclass(frozen=True)
class Check:
    """One cell, computed again.

    n: questions and windows; turned: answers right in the record and wrong here, or the other way round; turned_allowed;
    largest: the score that is furthest off, in nats; typical: the median; excess: by how much the worst score passes its
    tolerance, 0 where none does; accuracy, accuracy_recorded: of questions; same_code: whether the record was made with this
    very code and versions; reproduces; why: in words, where it does not; seconds: that it took here, seconds_recorded then.
    """

    model: str
    recipe: str
    asked: str
    n: int
    turned: int
    turned_allowed: int
    largest: float
    typical: float
    excess: float
    accuracy: float | None
    accuracy_recorded: float | None
    same_code: bool
    reproduces: bool
    why: str
    seconds: float
    seconds_recorded: float

    def to_dict(self) -> dict:
        return asdict(self)


def tolerance_of(recipe: str) -> Tolerance:
    steps = [
        ROUNDED[s.method] for s in Recipe.parse(recipe).steps if s.method in ROUNDED and not method(s.method).prunes
    ]
    return max(steps, key=lambda t: t.nats, default=EXACT)


def sample(found: record.Record, size: int, seed: int) -> list[Cell]:
    """So many recorded cells, drawn by seed and by what they are, so that a cell that is added moves no other."""
    cells = list(found.cells)

    def place(cell: Cell) -> str:
        text = f"{seed}/{cell.model}/{cell.recipe}/{cell.probe.model_dump_json()}"
        return hashlib.sha256(text.encode()).hexdigest()

    return sorted(cells, key=place)[:size]


def verify(study: str, size: int, seed: int = 0, show_progress: bool = True) -> list[Check]:
    """Compute a seeded sample of a study's recorded cells again. One `Check` for each.

    Raises MissingData where the study has no record, or one that is not whole, or where facts are not on this machine.
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
    cells = sample(found, size, seed)
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
    tolerance = tolerance_of(cell.recipe)
    both = recorded.merge(rows, on=QUESTION, how="inner", suffixes=("_then", ""))
    if len(both) != len(recorded) or len(both) != len(rows):
        why = f"{len(recorded)} recorded and {len(rows)} fresh questions share {len(both)}"
        return _not_compared(cell, len(recorded), same_code, recorded_s, why)
    answered = both["correct"].notna() & both["correct_then"].notna()
    right, was = (both.loc[answered, c].astype(bool) for c in ("correct", "correct_then"))
    turned = int((right != was).sum()) + int((both["correct"].notna() != both["correct_then"].notna()).sum())
    allowed = max(1, math.floor(tolerance.turned * len(both)))
    score, then = both["score"].to_numpy(float), both["score_then"].to_numpy(float)
    unlike = int((np.isnan(score) != np.isnan(then)).sum())
    off = np.abs(score - then)[~np.isnan(score) & ~np.isnan(then)]
    room = (tolerance.nats + tolerance.share * np.abs(then) + packing.STEP / 2)[~np.isnan(score) & ~np.isnan(then)]
    excess = float(np.max(off - room, initial=0.0))
    why = []
    if turned > allowed:
        why.append(f"{turned} answers turned, {allowed} may")
    net = abs(int(right.sum()) - int(was.sum()))
    if turned <= allowed and net > max(1.0, NET * math.sqrt(turned)):
        why.append(f"of {turned} answers that turned, {net} more turned one way than the other")
    if excess > 0:
        why.append(f"a score is {float(off.max()):.2f} nats off")
    typical = float(np.median(off)) if len(off) else 0.0
    if typical > tolerance.typical + packing.STEP / 2:
        why.append(f"scores are {typical:.2f} nats off in the middle")
    if unlike:
        why.append(f"{unlike} scores are numbers in one of the two alone")
    return Check(
        **_names(cell),
        n=len(both),
        turned=turned,
        turned_allowed=allowed,
        largest=float(off.max(initial=0.0)),
        typical=typical,
        excess=max(0.0, excess),
        accuracy=float(right.mean()) if len(right) else None,
        accuracy_recorded=float(was.mean()) if len(was) else None,
        same_code=same_code,
        reproduces=not why,
        why="; ".join(why),
        seconds=round(spent, 1),
        seconds_recorded=round(recorded_s, 1),
    )


def _not_compared(cell: Cell, n: int, same_code: bool, recorded_s: float, why: str) -> Check:
    return Check(
        **_names(cell), n=n, turned=0, turned_allowed=0, largest=math.nan, typical=math.nan, excess=math.nan,
        accuracy=None, accuracy_recorded=None, same_code=same_code, reproduces=False, why=why, seconds=0.0,
        seconds_recorded=recorded_s,
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
        f"{len(failed)} of {len(checks)} recorded cells do not reproduce within their tolerance; first, {first.model}, "
        f"{first.recipe}, {first.asked}: {first.why}"
    )
