"""Do the results of record come out on this machine? A sample of evaluations, computed again and compared.

Nothing stored is used and nothing is stored. An evaluation reproduces in one of two ways, and a check states which.

Answer by answer: weights of pruning and of rounding to nearest are the same on every machine; only the order of float32 sums
differs. Hardly an answer turns, and neither the median nor the worst score is further off than allowed here.

In distribution: where sums of float32 decide how values are rounded, another machine gives another draw of the same noise. What
misses the bounds is tested for more than noise. int8 rounds the activations of each text anew, so that facts are the units: of
answers that turned and of scores that moved, |sum| / sqrt(sum of squares) over facts is at most Z. GPTQ rounds each matrix once,
so that one draw of noise moves all facts together, and the draw is the unit: DRAWS more compressions read the calibration
paragraphs in other orders, and by protocol the recorded share of right answers and mean score have to lie in the t prediction
interval of all n draws, mean +- (t sd sqrt(1 + 1/n) + what may turn), at LEVEL for all intervals together (Bonferroni).
"""

import hashlib
import math
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import pandas as pd
from scipy import stats
from tqdm.auto import tqdm

from kc_utils.compression import calibration
from kc_utils.compression.apply import apply
from kc_utils.compression.recipe import Recipe
from kc_utils.errors import BadRequest, BadResult, KCError, MissingData, listed
from kc_utils.models.loading import load, place
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
DRAWS, LEVEL = 5, 0.95
NOISY, DRAWN = ("int8", "llm-int8"), ("gptq",)
"""Methods whose rounding depends on sums of float32, with the fact and with the draw as the unit of noise."""
BY_ANSWER, IN_DISTRIBUTION, NO = "answer by answer", "in distribution", "no"
SHOWN = ("model", "recipe", "facts", "n", "turned", "turned_allowed", "typical", "largest", "same_code", "seconds", "agreement",
         "why")  # fmt: skip
"""What a table shows of a check."""


@dataclass(frozen=True)
class Check:
    """One evaluation, computed again. n: questions and windows; turned: answers right in the record and wrong here, or the other
    way round; largest: the score that is furthest off, in nats; typical: the median; z_answers, z_scores: net movement of facts
    in its standard errors; same_code: whether the record was made with this very code and versions; why: in words."""

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


def sample(found: record.Record, size: int, seed: int, *named: Sequence[str]) -> list[Cell]:
    """Draw so many recorded evaluations, by seed and by what they are, so that one that is added moves no other."""

    def rank(cell: Cell) -> bytes:
        return hashlib.sha256(f"{seed}/{cell.model}/{cell.recipe}/{cell.probe.model_dump_json()}".encode()).digest()

    return sorted(chosen(found.cells, f"the record of {found.study}", *named), key=rank)[:size]


def verify(study: str, size: int, seed: int = 0, *named: Sequence[str]) -> list[Check]:
    """Compute a seeded sample of a study's recorded evaluations again. named: patterns of models, and of recipes.

    Raises BadRequest where nothing of that name is recorded, MissingData where the study has no record, or one that is not
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
    cells = sample(found, size, seed, *named)
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
        drawn = [s.options for s in Recipe.parse(cell.recipe).steps if s.method in DRAWN]
        read = [step["calibration"] for step in before.report["steps"] if step["method"] in DRAWN]
        if read != [calibration.sha256(options["samples"], options["seed"]) for options in drawn]:
            return _of(cell, n=len(before.rows), **known, why="the calibration text here is not that of the record")
        made, waited = models.of(cell)
        begin = time.perf_counter()
        rows, _ = measure.answers(made, cell.probe)
    except MissingData:
        raise
    except KCError as error:
        return _of(cell, n=len(before.rows), **known, why=f"it cannot be computed here: {error}")
    spent = round(sum(waited.values()) + time.perf_counter() - begin, 1)
    return compare(cell, rows, before.rows, draws(cell, made), seconds=spent, **known)


def draws(cell: Cell, made: measure.Compressed) -> Iterator[pd.DataFrame]:
    """Compress DRAWS times, each time with the calibration paragraphs in another order, and yield the rows."""
    steps = Recipe.parse(cell.recipe).steps
    for seed in range(1, DRAWS + 1):
        loaded, drawn = load(cell.model), [{"seed": s.options["seed"] + seed} if s.method in DRAWN else {} for s in steps]
        other = Recipe(tuple(replace(s, options=s.options | change) for s, change in zip(steps, drawn, strict=True)))
        apply(loaded.model, other, tokenizer=loaded.tokenizer)
        place(loaded.model)
        yield measure.answers(replace(made, loaded=loaded), cell.probe)[0]


def outside(recorded: pd.DataFrame, drawn: Sequence[pd.DataFrame]) -> list[str]:
    """State which statistics of the record cannot be those of one more of these draws."""
    both = (rows.set_index("protocol")[["correct", "score"]].astype("Float64") for rows in (recorded, *drawn))
    then, *found = (numbers.astype(float).groupby(level=0).mean().stack().dropna() for numbers in both)
    now, n, sizes = pd.DataFrame(found)[then.index], len(found), recorded["protocol"].value_counts()
    allowed = [max(TURNED, 1 / sizes[p]) if what == "correct" else TYPICAL for p, what in then.index]
    reach = stats.t.ppf(1 - (1 - LEVEL) / len(then) / 2, n - 1) * now.std() * math.sqrt(1 + 1 / n) + allowed
    return [f"mean {what} by {p} is {then[p, what]:.3f} in the record and {now[p, what].mean():.3f} +- {reach[p, what]:.3f} "
            f"in {n} draws" for p, what in then.index[(then - now.mean()).abs() > reach]]  # fmt: skip


def compare(cell: Cell, rows: pd.DataFrame, recorded: pd.DataFrame, drawn: Iterable = (), **known) -> Check:
    """Compare fresh rows with recorded ones. drawn: more draws of GPTQ's, computed if needed; known: further fields."""
    both = recorded.merge(rows, on=QUESTION, suffixes=("_then", ""))
    if not len(both) == len(recorded) == len(rows):
        why = f"{len(recorded)} recorded and {len(rows)} fresh questions share {len(both)}"
        return _of(cell, n=len(recorded), **known | {"seconds": 0.0}, why=why)
    sides = ([f"correct{end}", f"score{end}"] for end in ("_then", ""))
    then, now = (both[s].astype("Float64").astype(float).set_axis(["answers", "scores"], axis=1) for s in sides)
    moved, allowed = now - then, max(1, math.floor(TURNED * len(both)))
    answered, off, turned = moved["answers"].notna(), moved["scores"].abs(), int(moved["answers"].abs().sum())
    typical, largest = (float(off.median()), float(off.max())) if off.any() else (0.0, 0.0)
    by_fact = moved.groupby(both["fact"]).sum()
    z = (by_fact.sum().abs() / (by_fact**2).sum() ** 0.5).fillna(0.0)  # nothing moved: 0 / 0
    why = []
    if turned > allowed:
        why.append(f"{turned} answers turned, {allowed} may")
    if (off > NATS + SHARE * then["scores"].abs() + packing.STEP / 2).any():
        why.append(f"a score is {largest:.2f} nats off")
    if typical > TYPICAL + packing.STEP / 2:
        why.append(f"scores are {typical:.2f} nats off in the middle")
    agreement = NO if why else BY_ANSWER
    methods = {step.method for step in Recipe.parse(cell.recipe).steps}
    if why and methods.intersection(NOISY + DRAWN):
        more = [f"{what} moved one way, by {size:.1f} standard errors" for what, size in z.items() if size > Z]
        if methods.intersection(DRAWN):
            more = outside(recorded, [rows, *drawn])
        agreement = NO if more else IN_DISTRIBUTION
        why += more
    if unlike := int((now.isna() != then.isna()).to_numpy().sum()):
        agreement = NO
        why.append(f"{unlike} answers or scores are there in one of the two alone")
    accuracy, before = (side.loc[answered, "answers"].mean() for side in (now, then))
    return _of(
        cell, **known, n=len(both), turned=turned, turned_allowed=allowed, largest=largest, typical=typical, accuracy=accuracy,
        accuracy_recorded=before, z_answers=float(z["answers"]), z_scores=float(z["scores"]), agreement=agreement,
        why="; ".join(why),
    )  # fmt: skip


def _of(cell: Cell, **found) -> Check:
    return Check(cell.model, cell.recipe, source_of(cell.probe.model_dump()), **found)


def summary(checks: Sequence[Check]) -> str:
    """State how many evaluations came out, and in which way. Raises BadResult with the first that does not reproduce."""
    if failed := [f"{c.model}, {c.recipe}, {c.facts}: {c.why}" for c in checks if not c.reproduces]:
        raise BadResult(f"{len(failed)} of {len(checks)} recorded evaluations do not reproduce; first, {failed[0]}")
    ways = [c.agreement for c in checks]
    noisy = f", {ways.count(IN_DISTRIBUTION)} in distribution" if IN_DISTRIBUTION in ways else ""
    return f"of {len(ways)} recorded evaluations {ways.count(BY_ANSWER)} reproduce answer by answer{noisy}"
