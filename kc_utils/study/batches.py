"""Batches: what one job of Snakemake computes, what it needs of a machine, and how it is done there.

A batch holds evaluations in groups of one model and recipe, so that every compressed model is made once. Large models have
batches of their own; small ones share them. Batches shrink towards the end of a study, so that all cores end together.

A batch is a file `NAME.json`. `NAME.done` says that each of its evaluations is in the store: finished, or recorded as failed for
a reason of its model or recipe. A job that is killed, or that misses data, leaves no such file, and does not begin anew.
"""

import json
import math
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from kc_utils.errors import KCError, MissingData
from kc_utils.places import write_text
from kc_utils.probing.probe import Probe
from kc_utils.study import estimate, store
from kc_utils.study.cells import Cell, grouped

LEAST_S = 150.0
"""Of a batch on a cluster, in seconds on one core: to start Snakemake twice, torch and a model's classes takes ten."""
LEAST_HERE_S = 10.0
"""The same on this machine, where jobs are forks of a process that has imported all this."""
SHARE = 2.0
"""A batch takes this part of what a core has left: so much may the estimates err before cores end apart."""
BEAT_S = 30.0
SPARE = 3
"""Times the expected seconds that a job is given on a cluster, and ten minutes more."""


def packed(cells: Iterable[Cell], jobs: int, recipes: int | None = None) -> list[list[Cell]]:
    """Pack evaluations into batches for so many jobs at a time, the longest first.

    recipes: how many recipes a batch of a large model has; without it, a batch takes a share of the seconds that are left.
    """
    pools: dict[str, list] = {}
    for (model, _), group in grouped(cells).items():
        large = estimate.memory_mb(model) > estimate.SMALL_MB
        pools.setdefault(model if large else "", []).append((sum(estimate.seconds(group)), group))
    batches, left = [], sum(seconds for groups in pools.values() for seconds, _ in groups)
    least = LEAST_S if recipes else min(LEAST_HERE_S, left / jobs)  # on a cluster, a job may wait
    for model, groups in sorted(pools.items(), reverse=True):  # the small ones last
        share = held = count = 0.0
        for seconds, group in sorted(groups, key=lambda g: -g[0]):
            if not count or (count >= recipes if model and recipes else held >= share):
                batches.append([])
                share, held, count = max(least, left / (SHARE * jobs)), 0.0, 0
            batches[-1] += group
            held, count, left = held + seconds, count + 1, left - seconds
    return batches


def described(batch: Sequence[Cell], jobs: int = 1, memory: float = math.inf, speed: float = 1.0) -> dict:
    """Return a batch as JSON. jobs: at a time, in so much memory (MB); speed: measured seconds of finished evaluations by the
    estimated ones.

    A job has one thread, whatever else is left to do, so that scores do not depend on when a study was stopped; more only where
    memory leaves room for fewer jobs than there are cores.
    """
    models = list(dict.fromkeys(cell.model for cell in batch))
    seconds = speed * sum(sum(estimate.seconds(group)) for group in grouped(batch).values())
    needed = max(map(estimate.memory_mb, models))
    return {
        "models": models,
        "threads": min(jobs, max(1, round(jobs * needed / memory))),
        "mem_mb": needed,
        "runtime": 10 + round(SPARE * seconds / 60),
        "gpu": int(needed > estimate.SMALL_MB),
        "seconds": round(seconds, 1),
        "evaluations": [{"model": c.model, "recipe": c.recipe, "probe": c.probe.model_dump(mode="json")} for c in batch],
    }


def compute_batch(file: Path) -> None:
    """Compute the evaluations of a batch that no store holds, record those that fail for a reason of model or recipe, and write
    the batch's `.done`. Raises MissingData, after all others are computed, where one of them lacks data or a disk."""
    batch = json.loads(file.read_text(encoding="utf-8"))
    cells = [Cell(e["model"], e["recipe"], Probe(**e["probe"])) for e in batch["evaluations"]]
    with beating(file.with_suffix(".running")):
        missing = [error for group in grouped(cells).values() if (error := compute_group(group))]
    if missing:
        raise missing[-1]
    write_text(file.with_suffix(".done"), "")


@contextmanager
def beating(file: Path) -> Iterator[None]:
    """Touch a file every BEAT_S seconds while a block runs, so that others see whether it does, and remove it."""
    ended = threading.Event()

    def beat():
        with suppress(OSError):
            file.touch()
            while not ended.wait(BEAT_S):
                file.touch()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        file.unlink(missing_ok=True)


def compute_group(group: Sequence[Cell]) -> MissingData | None:
    """Compute evaluations of one model and recipe. Return the error of the last one that could not be tried here."""
    made, missing = store.CompressedModels(), None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of scores that are not numbers, as rows show
        for cell in group:
            if store.has(cell.key):
                continue
            try:
                store.compute_once(cell, made)
            except MissingData as error:
                missing = error
                print(f"kc: {error}", file=sys.stderr)
            except KCError as error:
                store.write_failure(cell, str(error))
    return missing
