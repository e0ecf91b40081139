"""All models of the lab: which there are, and how they are trained."""

from __future__ import annotations

import sys
from itertools import repeat
from pathlib import Path

import torch
from tqdm.auto import tqdm

from kc_lab.cards import CARD, CHECKPOINTS, write
from kc_lab.training import Lesson, train
from kc_utils.models.registry import FAMILIES
from kc_utils.places import cores
from kc_utils.study.processes import processes

SEEDS = (1, 2, 3)
LOADS = (2, 4, 8)
"""Loads of the curve of recall against load, beside 1; of one decoder each."""
ALL = (
    *(Lesson(family, size, seed) for size in ("small", "large") for seed in SEEDS for family in FAMILIES),
    *(Lesson("decoder", "small", 1, load) for load in LOADS),
)


def make_one(lesson: Lesson, out: Path | None = None, show_progress: bool = True) -> dict:
    """Train one model and write its checkpoint; on a GPU where there is one. Returns its card.

    Computes with one thread: the matrices are small, and the weights do not depend on the number of cores.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return write(lesson, train(lesson, device, show_progress), (out or CHECKPOINTS) / lesson.name)
    finally:
        torch.set_num_threads(threads)


def make(lessons: tuple[Lesson, ...], out: Path | None = None, count: int | None = None) -> None:
    """Train those that have no checkpoint yet, so many at a time (as many as there are cores by default)."""
    waiting = [lesson for lesson in lessons if not ((out or CHECKPOINTS) / lesson.name / CARD).is_file()]
    if not waiting:
        return
    with processes(min(count or cores(), len(waiting)), threads=1) as pool:
        trained = pool.map(make_one, waiting, repeat(out), repeat(False))
        for _ in tqdm(trained, total=len(waiting), unit="model", desc="lab", file=sys.stderr):
            pass
