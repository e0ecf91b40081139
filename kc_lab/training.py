"""Training of lab models: which there are, and a short loop in plain torch that can be killed at any step and resumed.

All randomness depends on the seed and the step alone. Every few seconds the weights and the optimizer's moments are
written, as safetensors, whole or not at all; the same seed and number of threads give the same weights bit for bit,
interrupted or not.
"""

from __future__ import annotations

import json
import math
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tqdm.auto import tqdm

from kc_lab.cards import CARD, CHECKPOINTS, write
from kc_lab.loads import EQUAL_LOADS, LOADS, Load
from kc_lab.models import TINY, WIKIPEDIA, fresh
from kc_lab.objectives import OBJECTIVES, Statements
from kc_lab.packing import Sentences
from kc_utils.errors import BadRequest, BadResult, listed
from kc_utils.models.registry import FAMILIES
from kc_utils.places import cache_dir, complete_or_absent, cores, results_dir
from kc_utils.study.code import code_hash
from kc_utils.study.execution import snakemake

WARMUP, CLIP = 0.05, 1.0
ADAM = {"betas": (0.9, 0.98), "weight_decay": 0.01}
RATES = {
    ("encoder", "tiny"): 7e-3, ("encoder-decoder", "tiny"): 7e-3, ("decoder", "tiny"): 7e-3,
    ("encoder", "small"): 5e-3, ("encoder-decoder", "small"): 6e-3, ("decoder", "small"): 5e-3,
    ("encoder", "large"): 4e-3, ("encoder-decoder", "large"): 5e-3, ("decoder", "large"): 4e-3,
    ("encoder", WIKIPEDIA): 5e-4, ("encoder-decoder", WIKIPEDIA): 1e-2, ("decoder", WIKIPEDIA): 2e-3,
}  # fmt: skip
RELATIVE = ("encoder-decoder", WIKIPEDIA)
"""Of these models the rate is relative to the size of a matrix, as in T5's own training (Adafactor, Shazeer and Stern 2018)."""
SAVE_SECONDS = 20.0
_NAME = re.compile(r"(?P<family>encoder|encoder-decoder|decoder)-(?P<size>[a-z]+)(?:-x(?P<load>[1-9]\d*))?-s(?P<seed>\d+)")


@dataclass(frozen=True)
class Lesson:
    """One model to train: family, size and seed; load, of its world."""

    family: str
    size: str
    seed: int
    load: int = 1

    @property
    def name(self) -> str:
        """`encoder-small-s1`; with a load of its own, `encoder-small-x4-s1`."""
        return f"{self.family}-{self.size}" + (f"-x{self.load}" if self.load != 1 else "") + f"-s{self.seed}"

    @property
    def world(self) -> Load | None:
        """Its made-up world; None if it reads real sentences. Raises BadRequest for a load that there is not."""
        return None if self.size == WIKIPEDIA else Load.of(self.load, equal=self.size == TINY)

    @classmethod
    def named(cls, name: str) -> Lesson:
        """The lesson of a name, `lab:` before it or not. Raises BadRequest for a text that is no name."""
        parts = _NAME.fullmatch(name.removeprefix("lab:"))
        if parts is None or parts["load"] == "1":
            raise BadRequest(f"no lab model {name!r}: write FAMILY-SIZE-sSEED, or with a load FAMILY-SIZE-xLOAD-sSEED")
        return cls(parts["family"], parts["size"], int(parts["seed"]), int(parts["load"] or 1))

    @classmethod
    def of(cls, family: str, size: str | None = None, seed: int = 1, load: int | None = None, world: str | None = None) -> Lesson:
        """The lesson of a description. Raises BadRequest for a world that there is not, or that has no such size or load."""
        if world not in (None, *WORLDS):
            raise BadRequest(f"no world {world!r} for lab models: choose {listed(WORLDS)}")
        if world == WIKIPEDIA and (load or 1, size or WIKIPEDIA) != (1, WIKIPEDIA):
            raise BadRequest("the world wikipedia has one size and no load: leave --size and --load out")
        return cls(family, WIKIPEDIA if world == WIKIPEDIA else size or "small", seed, load or 1)


WORLDS = ("people", WIKIPEDIA)
SEEDS = (1, 2, 3)
ALL = (
    *(Lesson(family, size, seed) for size in ("small", "large") for seed in SEEDS for family in FAMILIES),
    *(Lesson(family, "small", 4) for family in ("encoder", "encoder-decoder")),
    *(Lesson("decoder", "small", 1, load) for load in LOADS),
    *(Lesson(family, WIKIPEDIA, 1) for family in FAMILIES),
    *(Lesson(family, TINY, 1, load) for load in EQUAL_LOADS for family in FAMILIES),
    *(Lesson(family, TINY, seed, EQUAL_LOADS[1]) for seed in SEEDS[1:] for family in FAMILIES),
)
"""All models of the lab."""


def of_world(world: str | None) -> tuple[Lesson, ...]:
    """All models of a world, or of every world."""
    return tuple(lesson for lesson in ALL if world is None or (lesson.world is None) == (world == WIKIPEDIA))


@dataclass
class Trained:
    """model: in evaluation mode; loss: mean over the last 50 steps; seconds: of all sessions together; course: own settings."""

    model: torch.nn.Module
    steps: int
    loss: float
    seconds: float
    course: dict


def settings(lesson: Lesson, trained: Trained) -> dict:
    """The course of a training, for the model's card."""
    return {
        "steps": trained.steps,
        "loss": round(trained.loss, 5),
        "seconds": round(trained.seconds, 1),
        "threads": torch.get_num_threads(),
        "rate": peak(lesson),
        "warm_up": WARMUP,
        **({"optimizer": "adafactor"} if (lesson.family, lesson.size) == RELATIVE else ADAM),
        "clip": CLIP,
        **trained.course,
    }


def peak(lesson: Lesson) -> float:
    """The highest learning rate. RATES of tiny models are for the middle load; it grows with the root of the rows in a step."""
    scale = math.sqrt(lesson.load / EQUAL_LOADS[1]) if lesson.size == TINY else 1.0
    return RATES[lesson.family, lesson.size] * scale


def rate(step: int, steps: int, peak: float) -> float:
    """Learning rate of a step: a straight warm-up, then half a cosine down to zero."""
    warm = max(1, round(WARMUP * steps))
    if step < warm:
        return peak * (step + 1) / warm
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def train(lesson: Lesson, device: str = "cpu", show_progress: bool = True, steps: int | None = None) -> Trained:
    """Train a model from scratch, or resume where an earlier call was stopped.

    steps: train on the first so many steps of the corpus; None for all of it.
    Raises BadRequest for an unknown family or size, BadResult where the loss stops being a number.
    """
    if lesson.family not in OBJECTIVES:
        raise BadRequest(f"unknown family {lesson.family!r}: choose {listed(OBJECTIVES)}")
    model = fresh(lesson.family, lesson.size, lesson.seed).to(device).train()
    course = (Sentences if lesson.world is None else Statements)(lesson, model)
    optimizer = optimizer_of(lesson, model)
    steps, file = min(steps or course.steps, course.steps), saved_at(lesson)
    start, losses, before = _restore(file, steps, model, optimizer)
    begun = last = time.perf_counter()
    shown = {"unit": "step", "desc": lesson.name, "disable": not show_progress, "file": sys.stderr, "mininterval": 1.0}
    with tqdm(total=steps, initial=start, **shown) as bar:
        for step in range(start, steps):
            for group in optimizer.param_groups:
                group["lr"] = rate(step, steps, peak(lesson))
            optimizer.zero_grad(set_to_none=True)
            losses.append(course.backward(model, step, steps))
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            if not math.isfinite(losses[-1]):
                raise BadResult(f"{lesson.name}: the loss at step {step} is not a number; lower its rate in RATES")
            bar.update()
            bar.set_postfix_str(f"loss {losses[-1]:.3f}", refresh=False)
            if time.perf_counter() - last > SAVE_SECONDS:
                last = time.perf_counter()
                _save(file, steps, model, optimizer, step + 1, losses, before + last - begun)
    seconds = before + time.perf_counter() - begun
    return Trained(model.eval(), steps, float(np.mean(losses[-50:])), seconds, course.described(model))


def optimizer_of(lesson: Lesson, model) -> torch.optim.Optimizer:
    """The optimizer of a lesson; its rate is set at every step."""
    if (lesson.family, lesson.size) == RELATIVE:
        return torch.optim.Adafactor(model.parameters(), lr=1.0)
    return torch.optim.AdamW(model.parameters(), lr=1.0, **ADAM, fused=True)


def saved_at(lesson: Lesson) -> Path:
    """The file that holds the state of an unfinished training."""
    return cache_dir() / "lab" / f"{lesson.name}.safetensors"


def _course(steps: int) -> str:
    """The code and the length of a training: a saved state is resumed only where both are the same."""
    return f"{code_hash([__name__])}/{steps}"


def _save(file: Path, steps: int, model, optimizer, step: int, losses: list[float], seconds: float) -> None:
    tensors = {f"model.{name}": t.detach().contiguous() for name, t in model.named_parameters()}
    for number, state in enumerate(optimizer.state_dict()["state"].values()):
        tensors |= {f"optimizer.{number}.{name}": t.contiguous() for name, t in state.items()}
    tensors["losses"] = torch.tensor(losses)
    marks = {"step": str(step), "course": _course(steps), "seconds": json.dumps(seconds)}
    with complete_or_absent(file) as scratch:
        save_file(tensors, scratch, metadata=marks)


def _restore(file: Path, steps: int, model, optimizer) -> tuple[int, list[float], float]:
    """The step to resume at, losses so far, seconds spent; the start where no usable state is saved."""
    try:
        with safe_open(file, "pt") as saved:
            marks = saved.metadata()
            if marks["course"] != _course(steps):
                return 0, [], 0.0
            tensors = {name: saved.get_tensor(name) for name in saved.keys()}  # noqa: SIM118 (not a mapping)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError):
        return 0, [], 0.0
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[f"model.{name}"])
    state: dict[int, dict] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, number, key = name.split(".")
            state.setdefault(int(number), {})[key] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return int(marks["step"]), tensors["losses"].tolist(), json.loads(marks["seconds"])


def make_one(lesson: Lesson, out: Path | None = None, show_progress: bool = True, steps: int | None = None) -> dict:
    """Train one model and write its checkpoint; on a GPU where there is one. Returns its card.

    Computes with one thread: the matrices are small, and the weights do not depend on the number of cores.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        trained = train(lesson, device, show_progress, steps)
        card = write(lesson, trained.model, settings(lesson, trained), (out or CHECKPOINTS) / lesson.name)
    finally:
        torch.set_num_threads(threads)
    saved_at(lesson).unlink(missing_ok=True)
    return card


def make_all(lessons: tuple[Lesson, ...] = ALL, out: Path | None = None, count: int | None = None) -> None:
    """Train those that have no checkpoint yet, so many at a time (as many as there are cores by default), by Snakemake.

    Raises BadResult with the names of those that could not be trained; the others are there.
    """
    cards = [(out or CHECKPOINTS).absolute() / lesson.name / CARD for lesson in lessons]
    waiting = [card for card in cards if not card.is_file()]
    if not waiting:
        return
    with tqdm(total=len(waiting), unit="model", desc="lab", file=sys.stderr) as bar:

        def look() -> float:
            bar.update(sum(card.is_file() for card in waiting) - bar.n)
            return 1.0

        log = results_dir() / "logs" / "lab.log"
        snakemake(waiting, log, ["--cores", str(count or cores())], look)
    if left := [card.parent.name for card in waiting if not card.is_file()]:
        raise BadResult(f"{listed(left)} could not be trained: see {log} and the logs in {waiting[0].parents[1]}")
