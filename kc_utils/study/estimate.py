"""Estimate what evaluations take, from the number of parameters alone: nothing is loaded, fetched or measured.

A token costs 2 operations for each parameter that it meets; tokens are characters / CHARACTERS_A_TOKEN of the statements, twice
those of a text, whose windows overlap by half. A compression passes PASSES times over the weights; calibration costs 4 operations
a parameter and token. Files are read once for each model and recipe. The result is an order of magnitude, in float32 and 16 bits.

`seconds` is for one core of a processor: a token takes A_TOKEN at least, however small the model. What a study has computed
corrects it (`corrected`).
"""

from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from math import inf
from pathlib import Path

import yaml

from kc_utils.compression.methods import method
from kc_utils.compression.recipe import Recipe
from kc_utils.errors import BadRequest, KCError, listed
from kc_utils.models.registry import resolve
from kc_utils.models.sizes import Size, size_of
from kc_utils.probing.probe import TWINS, Probe
from kc_utils.study.cells import Cell

CHARACTERS_A_TOKEN, ITEMS_OF_A_TASK, TOKENS_OF_AN_ITEM, TOKENS_OF_A_TEXT = 4.0, 1500, 100, 300_000
A_CORE, A_TOKEN, AN_EVALUATION = 2.4e11, 25e-6, 0.03  # operations a second, of those that are estimated here; seconds
SMALL_MB = 2100  # of memory: a model that takes no more shares batches with others
COMPRESSING, CALIBRATING = 20e-9, 250e-9  # seconds a parameter, loading included; the second, of solving
UTILISATION, SOLVER_UTILISATION, DISK_GB_S, PASSES, CALIBRATION_TOKENS = 0.3, 0.1, 1.0, 30, 120


def card(name: str) -> dict[str, float]:
    """Return a card of `gpus.yaml`: memory_gb, bandwidth_gb_s, tflops_16, tflops_32. Raises BadRequest for an unknown one."""
    cards = yaml.safe_load(Path(__file__).with_name("gpus.yaml").read_text(encoding="utf-8"))
    if name not in cards:
        raise BadRequest(f"no card {name!r} in the table of kc_utils/study/gpus.yaml: choose {listed(cards, 30)}")
    return cards[name]


@lru_cache(maxsize=256)
def counts(probe: Probe, family: str) -> tuple[int, float]:
    """Count the questions of a probe and, roughly, its tokens; what candidates share counts once, but for encoders."""
    facts, questions = probe.factset(), len(probe.tasks) * (probe.task_limit or ITEMS_OF_A_TASK)
    tokens = TOKENS_OF_AN_ITEM * questions + 2 * bool(probe.text) * (probe.text_tokens or TOKENS_OF_A_TEXT)
    most = {name: inf if (n := getattr(probe, name)) == "all" else n for name in ("templates", "alternatives")}
    for fact in facts.facts:
        relation = facts.relations[fact.relation]
        texts = [fact.statement] if fact.statement else relation.templates
        queries, wrong = min(len(texts), most["templates"]), min(len(relation.answer_space) - 1, most["alternatives"])
        length = (len(texts[0]) + len(fact.subject) + len(fact.answers[0])) / CHARACTERS_A_TOKEN + 2
        questions += queries * len(probe.protocols)
        for protocol in probe.protocols:
            read = length * (2 if protocol in TWINS else 1) + 10 * probe.shots
            if protocol in ("rank", "openbook", "rank-other"):
                read = read * (wrong + 1) if family == "encoder" else read + 4 * wrong
            tokens += queries * (read + 20 * (protocol == "generate")) * (2 if protocol == "rank-other" else 1)
    return questions, tokens


def seconds(cells: Sequence[Cell]) -> list[float]:
    """Estimate what each of several evaluations of one model and recipe takes on one core of a processor, the first with making
    the compressed model."""
    size = Size(10**8, 4 * 10**8, 10**8)  # where its shapes are not known here
    with suppress(KCError):
        size = size_of(cells[0].model)
    token, family = max(A_TOKEN, 2 * size.applied / A_CORE), resolve(cells[0].model).family
    each = [AN_EVALUATION + token * counts(c.probe, family)[1] * (1 + (c.probe.relearn_steps or 0)) for c in cells]
    text = calibration(cells[0].recipe)
    each[0] += size.parameters * (CALIBRATING if text else COMPRESSING) + 4 * size.applied * text / A_CORE
    return each


def memory_mb(model: str) -> int:
    """Estimate the memory that a model takes while it is compressed and evaluated in float32: weights, a tenth more in passing,
    activations, and Python."""
    parameters = 10**8
    with suppress(KCError):
        parameters = size_of(model).parameters
    return round(4.4 * parameters / 1e6 + 2000)


def calibration(recipe: str) -> int:
    """Count the tokens that a recipe's methods calibrate on."""
    steps = [step for step in Recipe.parse(recipe).steps if method(step.method).calibrates]
    return sum(CALIBRATION_TOKENS * step.options["samples"] for step in steps)


def by_model(cells: Sequence[Cell], gpu: str) -> list[dict]:
    """Return one line for each model: what it takes of disk and memory, and hours in float32 and in 16 bits."""
    on, lines = card(gpu), []
    for model in dict.fromkeys(cell.model for cell in cells):
        own = [cell for cell in cells if cell.model == model]
        size, family, recipes = size_of(model), resolve(model).family, {cell.recipe for cell in own}
        passes = PASSES * 4 * size.parameters / (1e9 * on["bandwidth_gb_s"]) + size.stored_bytes / (1e9 * DISK_GB_S)
        solved = 4 * size.applied * sum(map(calibration, recipes)) / (1e12 * SOLVER_UTILISATION * on["tflops_32"])
        tokens = sum(counts(cell.probe, family)[1] for cell in own)
        once, each = len(recipes) * passes + solved, 2 * size.applied * tokens / (1e12 * UTILISATION)
        memory = memory_mb(model) / 1000
        lines.append({
            "model": model, "family": family, "evaluations": len(own), "recipes": len(recipes),
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
