"""Estimate what evaluations take, from the number of parameters alone: nothing is loaded, fetched or measured.

A token costs 2 operations a parameter; tokens are characters / CHARACTERS_A_TOKEN of the statements. A compression passes
PASSES times over the weights; one that calibrates computes 4 operations a parameter and calibration token besides. Files are
read once for each model and recipe. The result is an order of magnitude, for float32 (in which models are computed here) and
for 16 bits.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import yaml

from kc_utils.compression.methods import method
from kc_utils.compression.recipe import Recipe
from kc_utils.errors import BadRequest, KCError, listed
from kc_utils.models.registry import resolve
from kc_utils.models.sizes import size_of
from kc_utils.probing.probe import TWINS, Probe
from kc_utils.study.cells import Cell, grouped

CHARACTERS_A_TOKEN, ITEMS_OF_A_TASK, TOKENS_OF_AN_ITEM, TOKENS_OF_A_TEXT = 4.0, 1500, 100, 300_000
UTILISATION, SOLVER_UTILISATION, DISK_GB_S, PASSES, CALIBRATION_TOKENS = 0.3, 0.1, 1.0, 30, 512
ACTIVATIONS_GB = 2.0


def card(name: str) -> dict[str, float]:
    """Return a card of `gpus.yaml`: memory_gb, bandwidth_gb_s, tflops_16, tflops_32. Raises BadRequest for an unknown one."""
    cards = yaml.safe_load(Path(__file__).with_name("gpus.yaml").read_text(encoding="utf-8"))
    if name not in cards:
        raise BadRequest(f"no card {name!r} in the table of kc_utils/study/gpus.yaml: choose {listed(cards, 30)}")
    return cards[name]


def _prompts(probe: Probe) -> Iterator[tuple]:
    """Yield each fact, what states it, and how many of these are prompts."""
    facts = probe.factset()
    for fact in facts.facts:
        texts = [fact.statement] if fact.statement else facts.relations[fact.relation].templates
        yield fact, texts, len(texts) if probe.templates == "all" else min(int(probe.templates), len(texts))


@lru_cache(maxsize=256)
def questions(probe: Probe) -> int:
    """Count the questions of a probe."""
    queries = sum(count for _, _, count in _prompts(probe))
    return queries * len(probe.protocols) + len(probe.tasks) * (probe.task_limit or ITEMS_OF_A_TASK)


@lru_cache(maxsize=256)
def tokens_of(probe: Probe, family: str) -> float:
    """Count the tokens of a probe, roughly; what candidates share counts once, but for encoders."""
    facts, total = probe.factset(), 0.0
    for fact, texts, count in _prompts(probe):
        length = (len(texts[0]) + len(fact.subject) + len(fact.answers[0])) / CHARACTERS_A_TOKEN + 2
        wrong = max(0, len(facts.relations[fact.relation].answer_space) - 1)
        wrong = wrong if probe.alternatives == "all" else min(int(probe.alternatives), wrong)
        for protocol in probe.protocols:
            read = length * (2 if protocol in TWINS else 1) + 10 * probe.shots
            if protocol == "generate":
                read += 20
            elif protocol in ("rank", "openbook"):
                read = read * (wrong + 1) if family == "encoder" else read + 4 * wrong
            total += count * read
    total += TOKENS_OF_AN_ITEM * len(probe.tasks) * min(probe.task_limit or ITEMS_OF_A_TASK, ITEMS_OF_A_TASK)
    return total + (2 * (probe.text_tokens or TOKENS_OF_A_TEXT) if probe.text else 0)  # windows overlap by half


def operations(cell: Cell) -> float:
    """Estimate the floating-point operations of an evaluation, calibration included."""
    parameters = 1e8  # where its shapes are not known here
    with suppress(KCError):
        parameters = size_of(cell.model).parameters
    tokens = tokens_of(cell.probe, resolve(cell.model).family)
    return 2 * parameters * (tokens + 2 * calibration(cell.recipe))


def calibration(recipe: str) -> int:
    """Count the tokens that a recipe's methods calibrate on."""
    steps = [step for step in Recipe.parse(recipe).steps if method(step.method).calibrates]
    return sum(CALIBRATION_TOKENS * int(step.options.get("samples") or 128) for step in steps)


def by_model(cells: Iterable[Cell], gpu: str) -> list[dict]:
    """Return one line for each model: what it takes of disk and memory, and hours in float32 and in 16 bits."""
    on, models = card(gpu), {}
    for group in grouped(cells):
        models.setdefault(group[0].model, []).append(group)
    lines = []
    for model, groups in models.items():
        size, family = size_of(model), resolve(model).family
        solved = 4 * size.parameters * sum(calibration(g[0].recipe) for g in groups) / (1e12 * SOLVER_UTILISATION)
        passes = PASSES * 4 * size.parameters / (1e9 * on["bandwidth_gb_s"]) + size.stored_bytes / (1e9 * DISK_GB_S)
        tokens = sum(tokens_of(cell.probe, family) for group in groups for cell in group)
        once = len(groups) * passes + solved / on["tflops_32"]
        each = 2 * size.parameters * tokens / (1e12 * UTILISATION)
        memory = 4.4 * size.parameters / 1e9 + ACTIVATIONS_GB
        lines.append({
            "model": model, "family": family, "evaluations": sum(map(len, groups)), "recipes": len(groups),
            "parameters_m": round(size.parameters / 1e6, 1), "disk_gb": round(size.stored_bytes / 1e9, 2),
            "memory_gb": round(memory, 1), "fits": memory <= on["memory_gb"], "tokens_m": round(tokens / 1e6, 1),
            **{f"hours_{b}": round((once + each / on[f"tflops_{b}"]) / 3600, 2) for b in (32, 16)},
        })  # fmt: skip
    return lines


def in_words(lines: list[dict], gpu: str) -> str:
    """State the sums, and how they were estimated."""
    n, disk, slow, fast = (sum(x[c] for x in lines) for c in ("evaluations", "disk_gb", "hours_32", "hours_16"))
    too_large = [line["model"] for line in lines if not line["fits"]]
    return (
        f"{n:,} evaluations of {len(lines)} models on one {gpu}: about {slow:.1f} hours in float32, in which models are "
        f"computed here ({fast:.1f} in 16 bits); {disk:.0f} GB of disk; at most {max(x['memory_gb'] for x in lines):.0f} of "
        f"{card(gpu)['memory_gb']:g} GB of memory at a time{f', too much for {listed(too_large)}' if too_large else ''}.\n"
        "An estimate from arithmetic, not a measurement: see kc_utils/study/estimate.py."
    )
