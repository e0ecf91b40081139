"""Names of protocols, scopes, methods and precisions in tables and figures, their order, and the fields of a recipe."""

import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path, PurePath

import pandas as pd
import yaml

from kc_utils.compression.methods import method
from kc_utils.compression.recipe import Recipe, Step

_NAMES = yaml.safe_load(Path(__file__).with_name("names.yaml").read_text(encoding="utf-8"))
PROTOCOL_NAMES, SCOPE_NAMES, METHOD_NAMES = (_NAMES[kind] for kind in ("protocols", "scopes", "methods"))
CLOSED_BOOK = ("cloze", "rank", "generate")
"""Protocols that query from memory."""
TASK = "task "
"""Prefix of a harness task that stands for a protocol: each task has a chance level of its own."""
RECIPE_FIELDS = ("recipe", "steps", "method", "scope", "amount", "pruned", "precision", "bits")

UNQUANTIZED = "not quantized"
_WITH_BITS = {"rtn": "RTN", "gptq": "GPTQ"}
_BY_BITS = {8: ("int8-weight", "llm-int8", "int8"), 4: ("int4-weight", "nf4"), 3: (), 2: ()}
PRECISIONS = [UNQUANTIZED]
for _bits, _methods in _BY_BITS.items():
    PRECISIONS += [f"{short} {_bits} bits" for short in _WITH_BITS.values()] + [METHOD_NAMES[m] for m in _methods]
"""Every precision as an axis: fewer bits to the right."""


def protocol_name(protocol: str) -> str:
    """The title of a protocol's panel."""
    if protocol.startswith(TASK):
        return f"Task {protocol.removeprefix(TASK)}: answers scored"
    return PROTOCOL_NAMES.get(protocol, protocol)


def short_protocol(protocol: str) -> str:
    """A protocol in one or two words, as in a sentence."""
    return protocol if protocol.startswith(TASK) else protocol_name(protocol).partition(":")[0].lower()


def protocols_in_order(protocols: Iterable[str]) -> list[str]:
    """Each protocol once, those with a name first, then tasks by theirs."""
    known = list(PROTOCOL_NAMES)
    return sorted(set(protocols), key=lambda p: (known.index(p) if p in known else len(known), p))


def model_name(model: str) -> str:
    """A model's id; of a local folder its name, without its path."""
    return PurePath(model.removeprefix("path:")).name if model.startswith("path:") else model


def _precision(step: Step) -> tuple[str, int]:
    """How weights are stored after a quantizing step, as in PRECISIONS, and in how many bits each."""
    if step.method in _WITH_BITS:
        return f"{_WITH_BITS[step.method]} {step.amount} bits", int(step.amount)
    return METHOD_NAMES[step.method], next(bits for bits, methods in _BY_BITS.items() if step.method in methods)


def in_order_of_precision(precision: pd.Series) -> pd.Series:
    """The column `precision` as an ordered categorical of the values that occur."""
    return pd.Series(pd.Categorical(precision, [p for p in PRECISIONS if p in set(precision)], ordered=True), precision.index)


@lru_cache(maxsize=4096)
def canonical(recipe: str) -> str:
    """Return a recipe in the form that rows carry. Raises BadRequest for one that does not parse."""
    return str(Recipe.parse(recipe))


def filled(recipe: str, amount: float) -> str:
    """Return a recipe with an amount in the place of `{amount}`, in canonical form."""
    return canonical(recipe.replace("{amount}", f"{amount:g}"))


@lru_cache(maxsize=4096)
def _fields(recipe: str) -> tuple:
    steps = Recipe.parse(recipe).steps
    first = (steps[0].method, steps[0].scope, steps[0].amount) if steps else ("none", "none", None)
    pruned = next((s.amount or 0.0 for s in steps if method(s.method).prunes), 0.0)
    quantizing = next((s for s in reversed(steps) if not method(s.method).prunes), None)
    return recipe, len(steps), *first, pruned, *(_precision(quantizing) if quantizing else (UNQUANTIZED, None))


def recipe_fields(recipe: str) -> dict:
    """Return what tables hold of a recipe: recipe; steps, how many; method, scope and amount of the first; pruned, the
    fraction that a pruning step takes, 0 without one; precision, how weights are stored after the last quantizing step,
    and bits of a weight there."""
    return dict(zip(RECIPE_FIELDS, _fields(recipe), strict=True))


_LAB = re.compile(r"lab:(?P<family>encoder-decoder|encoder|decoder)-(?P<size>[a-z]+(?:-x\d+)?)-(?P<seed>s\d+)")


def lab_parts(model: str) -> tuple[str, str, str] | None:
    """Return (family, size, seed) of a lab model: `lab:decoder-small-x4-s1` is a decoder, `small-x4`, `s1`; else None."""
    found = _LAB.fullmatch(model)
    return found.group("family", "size", "seed") if found else None
