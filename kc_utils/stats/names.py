"""What protocols, scopes, methods and precisions are called in tables, figures and sentences, and in which order."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePath

import pandas as pd

from kc_utils.compression.recipe import Step

PROTOCOL_NAMES = {
    "cloze": "Cloze: first token, whole vocabulary",
    "rank": "Ranking: whole answer, closed set",
    "openbook": "Open book: ranking, the fact stated first",
    "openbook-cloze": "Open book: cloze, the fact stated first",
    "generate": "Generation: free answer",
}
CLOSED_BOOK = ("cloze", "rank", "generate")
"""Protocols that ask from memory."""
TASK = "task "
"""What the name of a harness task is preceded by where it stands for a protocol: each task has a chance level of its own."""

SCOPE_NAMES = {
    "all": "all layers",
    "attention": "attention",
    "feed_forward": "feed-forward",
    "head": "final layer",
    "transform": "dense layer before the final one",
    "encoder": "encoder",
    "decoder": "decoder",
    "encoder.attention": "encoder attention",
    "encoder.feed_forward": "encoder feed-forward",
    "decoder.attention": "decoder attention",
    "decoder.self_attention": "decoder self-attention",
    "decoder.cross_attention": "cross-attention",
    "decoder.feed_forward": "decoder feed-forward",
}
METHOD_NAMES = {
    "magnitude": "magnitude",
    "random": "random",
    "random-rows": "random rows",
    "rows-l1": "rows by L1",
    "rows-l2": "rows by L2",
    "rtn": "round to nearest",
    "gptq": "GPTQ",
    "int8": "int8 dynamic",
    "int8-weight": "int8 weights",
    "int4-weight": "int4 weights",
    "nf4": "NF4",
    "llm-int8": "LLM.int8()",
}
BITS = {"int8": 8, "int8-weight": 8, "llm-int8": 8, "int4-weight": 4, "nf4": 4}
"""Bits of a weight under the methods that take no amount."""

UNQUANTIZED = "not quantized"
_WITH_BITS = {"rtn": "RTN", "gptq": "GPTQ"}
_IN_ORDER = ("int8-weight", "llm-int8", "int8", "int4-weight", "nf4")
PRECISIONS = [UNQUANTIZED] + [
    name
    for bits in (8, 4, 3, 2)
    for name in (
        *(f"{short} {bits} bits" for short in _WITH_BITS.values()),
        *(METHOD_NAMES[m] for m in _IN_ORDER if BITS[m] == bits),
    )
]
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
    """A model's id; of a local folder its own name, without where it lies."""
    return PurePath(model.removeprefix("path:")).name if model.startswith("path:") else model


def bits_of(step: Step) -> int:
    """Bits of a weight after a quantizing step."""
    return BITS.get(step.method) or int(step.amount)


def precision_of(step: Step) -> str:
    """How weights are stored after a quantizing step, as in PRECISIONS."""
    if step.method in _WITH_BITS:
        return f"{_WITH_BITS[step.method]} {step.amount} bits"
    return METHOD_NAMES[step.method]


def in_order_of_precision(precision: pd.Series) -> pd.Series:
    """The column `precision` as an ordered categorical of the values that occur."""
    return pd.Series(
        pd.Categorical(precision, [p for p in PRECISIONS if p in set(precision)], ordered=True), precision.index
    )
