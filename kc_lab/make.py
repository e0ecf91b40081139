"""All models of the lab: which there are, and how they are made, several at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from tqdm.auto import tqdm

from kc_utils.errors import BadResult
from kc_lab.cards import write
from kc_lab.training import Lesson, train
from kc_lab.checkpoint_cards import CARD, CHECKPOINTS
from kc_utils.models.registry import FAMILIES

SEEDS = (1, 2, 3)
LOADS = (2, 4, 8)
"""Loads of the curve of recall against load, beside 1; of one decoder each."""
ALL = (
    *(Lesson(family, size, seed) for size in ("small", "large") for seed in SEEDS for family in FAMILIES),
    *(Lesson("decoder", "small", 1, load) for load in LOADS),
)


def make_one(lesson: Lesson, out: Path | None = None, show_progress: bool = True) -> dict:
    """Train one model and write its checkpoint; on a GPU where there is one. Returns its card.

    One thread: these matrices are small, two models side by side use two cores better, and the weights are the same on
    machines with more of them.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return write(lesson, train(lesson, device, show_progress), (out or CHECKPOINTS) / lesson.name)
    finally:
        torch.set_num_threads(threads)


def make(lessons: tuple[Lesson, ...], out: Path | None = None, cores: int | None = None) -> None:
    """Train those that have no checkpoint yet, each in a process of its own. Raises BadResult where one fails."""
    waiting = [lesson for lesson in lessons if not ((out or CHECKPOINTS) / lesson.name / CARD).is_file()]
    with (
        tqdm(total=len(lessons), initial=len(lessons) - len(waiting), unit="model", desc="lab", file=sys.stderr) as bar,
        ThreadPoolExecutor(cores or len(os.sched_getaffinity(0))) as pool,
    ):
        for lesson, error in pool.map(lambda lesson: (lesson, _in_a_process(lesson, out)), waiting):
            if error:
                raise BadResult(f"{lesson.name}: {error}")
            bar.update()


def _in_a_process(lesson: Lesson, out: Path | None) -> str:
    """The last line of what a failed training said, or nothing."""
    command = [sys.executable, "-m", "kc_utils", "lab", "train", "--family", lesson.family, "--size", lesson.size]
    command += ["--seed", str(lesson.seed), "--load", str(lesson.load), *(["--out", str(out)] if out else [])]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["it failed"])[-1]
