"""What a study would take on a card, from arithmetic alone: nothing is loaded, fetched or measured.

How the hours come about:

    asking       2 x (weights that a token passes x tokens + weights of the head x places read), divided by UTILISATION of the
                 card's peak. Tokens are characters / CHARACTERS_A_TOKEN of the statements asked; what questions share is
                 computed once by decoders, an encoder reads a statement again for each piece of each candidate.
    loading      size of the weight files / DISK_GB_S, once for each model and recipe
    compressing  PASSES over the weights at the card's bandwidth; GPTQ: 2 x inputs x inputs x (calibration tokens + outputs) for
                 each matrix, at SOLVER_UTILISATION of float32 peak

It says in which order of magnitude a study lies, for float32, in which models are computed here, and for 16 bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources

import yaml
from pydantic import BaseModel, ConfigDict

from kc_utils.compression.methods import method
from kc_utils.compression.recipe import Recipe
from kc_utils.errors import BadRequest, listed
from kc_utils.probing.probe import TWINS, Probe
from kc_utils.probing.questions import ask_about
from kc_utils.models.registry import resolve
from kc_utils.models.sizes import Size, size_of
from kc_utils.study.cells import Cell

CHARACTERS_A_TOKEN = 4.0
UTILISATION = 0.3  # of peak, over many short statements
SOLVER_UTILISATION = 0.1
DISK_GB_S = 1.0
PASSES = 30
CALIBRATION_TOKENS = 512  # of one piece of calibration text
TOKENS_OF_AN_ITEM = {"boolq": 150, "piqa": 40, "winogrande": 30}
"""Tokens that a decoder computes for an item, the beginning that its answers share once; other tasks count as 100."""
ITEMS = {"boolq": 3270, "piqa": 1838, "winogrande": 1267}
ITEMS_OF_A_TASK = 2000
TOKENS_OF_A_TEXT = 300_000
ACTIVATIONS_GB = 2.0


class Card(BaseModel):
    """A row of `gpus.yaml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    memory_gb: float
    bandwidth_gb_s: float
    tflops_16: float
    tflops_32: float


@cache
def cards() -> dict[str, Card]:
    text = resources.files("kc_utils.study").joinpath("gpus.yaml").read_text(encoding="utf-8")
    return {name: Card(**row) for name, row in yaml.safe_load(text).items()}


def card(name: str) -> Card:
    """A card by name. Raises BadRequest for an unknown one."""
    if name not in cards():
        raise BadRequest(f"no card {name!r} in the table of kc_utils/study/gpus.yaml: choose {listed(cards(), 30)}")
    return cards()[name]


@dataclass(frozen=True)
class Work:
    """What one probe costs a model of a family. tokens: that pass all layers; places: at which the vocabulary is scored."""

    tokens: float
    places: float


@lru_cache(maxsize=256)
def work_of(probe: Probe, family: str) -> Work:
    """See the module's text. Needs the facts, and no model."""
    tokens = places = 0.0
    if probe.facts is not None:
        facts = probe.factset()
        for question in ask_about(facts, probe.templates):
            length = len(question.stated(question.fact.answers[0])) / CHARACTERS_A_TOKEN + 2
            answer = max(1.0, math.ceil(len(question.fact.answers[0]) / CHARACTERS_A_TOKEN))
            offered = len(facts.relations[question.fact.relation].answer_space)
            wrong = offered - 1 if probe.alternatives == "all" else min(int(probe.alternatives), offered - 1)
            for protocol in probe.protocols:
                told = 2 if protocol in TWINS else 1
                if protocol in ("cloze", "openbook-cloze"):
                    own = (told * length, 1.0)
                elif protocol == "generate":
                    own = (length + 20, 20.0)
                elif family == "encoder":
                    own = (told * length * answer * (wrong + 1), answer * (wrong + 1))
                else:  # candidates share what stands before them; behind it each goes its own way
                    apart = answer + (length / 3 if family == "decoder" else 1)
                    own = (
                        told * length + wrong * apart,
                        length + wrong * apart if family == "decoder" else wrong * answer,
                    )
                tokens, places = tokens + own[0], places + own[1]
    for task in probe.tasks:
        items = min(probe.task_limit or ITEMS_OF_A_TASK, ITEMS.get(task, ITEMS_OF_A_TASK))
        tokens += items * TOKENS_OF_AN_ITEM.get(task, 100)
        places += items * 10
    if probe.text is not None:
        read = probe.text_tokens or TOKENS_OF_A_TEXT
        tokens, places = tokens + 2 * read, places + read  # windows overlap by half
    return Work(tokens, places)


def compressing_seconds(size: Size, recipe: str, on: Card) -> float:
    seconds = 0.0
    for step in Recipe.parse(recipe).steps:
        shapes = size.of_scope(step.scope) or size.of_scope("all")
        seconds += PASSES * 4 * sum(o * i for o, i in shapes) / (1e9 * on.bandwidth_gb_s)
        if method(step.method).calibrates:
            tokens = CALIBRATION_TOKENS * int(step.options.get("samples", 128))
            flops = 2 * sum(i * i * (tokens + o) for o, i in shapes) + 2 * size.body * tokens
            seconds += flops / (1e12 * on.tflops_32 * SOLVER_UTILISATION)
    return seconds


def asking_seconds(size: Size, work: Work, tflops: float) -> float:
    return 2 * (size.body * work.tokens + size.head * work.places) / (1e12 * tflops * UTILISATION)


def by_model(cells: Iterable[Cell], gpu: str) -> list[dict]:
    """One line for each model: cells, recipes, million parameters, disk_gb of its files, memory_gb that it takes while it is
    compressed and asked, whether it fits, hours in float32 and in 16 bits. Raises BadRequest for an unknown card, and for a
    model whose shapes are not known."""
    on = card(gpu)
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.model, []).append(cell)
    lines = []
    for model, own in groups.items():
        size, family = size_of(model), resolve(model).family
        recipes = list(dict.fromkeys(cell.recipe for cell in own))
        work = [work_of(cell.probe, family) for cell in own]
        once = sum(size.stored_bytes / (1e9 * DISK_GB_S) + compressing_seconds(size, r, on) for r in recipes)
        slow, fast = (once + sum(asking_seconds(size, w, t) for w in work) for t in (on.tflops_32, on.tflops_16))
        largest = max(out * inputs for _, out, inputs in size.matrices)
        memory = 4 * (size.parameters + 3 * largest) / 1e9 + ACTIVATIONS_GB
        lines.append(
            {
                "model": model,
                "family": family,
                "cells": len(own),
                "recipes": len(recipes),
                "parameters_m": round(size.parameters / 1e6, 1),
                "disk_gb": round(size.stored_bytes / 1e9, 2),
                "memory_gb": round(memory, 1),
                "fits": memory <= on.memory_gb,
                "tokens_m": round(sum(w.tokens for w in work) / 1e6, 1),
                "hours_32": round(slow / 3600, 2),
                "hours_16": round(fast / 3600, 2),
            }
        )
    return lines


def told(lines: list[dict], gpu: str) -> str:
    """The sums, and how they were estimated, in sentences."""
    on, total = (
        card(gpu),
        {name: sum(line[name] for line in lines) for name in ("cells", "disk_gb", "hours_32", "hours_16")},
    )
    most = max(line["memory_gb"] for line in lines)
    too_large = [line["model"] for line in lines if not line["fits"]]
    return (
        f"{total['cells']:,} cells of {len(lines)} models on one {gpu}: about {total['hours_32']:.1f} hours in float32, in which "
        f"models are computed here ({total['hours_16']:.1f} in 16 bits); {total['disk_gb']:.0f} GB of disk for their files; "
        f"at most {most:.0f} of {on.memory_gb:g} GB of memory at a time"
        + (f", too much for {listed(too_large)}" if too_large else "")
        + ".\nAn estimate from arithmetic, not a measurement: "
        f"{on.tflops_32:g} (16 bits: {on.tflops_16:g}) TFLOP/s at {100 * UTILISATION:.0f} % use, {on.bandwidth_gb_s:g} GB/s, "
        f"{CHARACTERS_A_TOKEN:g} characters a token, files read at {DISK_GB_S:g} GB/s; see kc_utils/study/estimate.py."
    )
