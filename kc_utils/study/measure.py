"""Make the rows of an evaluation: load a model, compress it once, and evaluate one probe after another.

The key of an evaluation covers this module and all that it imports (`cells.CODE`); where rows are kept and who waits for
whom is not part of it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from importlib import import_module

import pandas as pd

from kc_utils.compression.apply import Report, apply
from kc_utils.compression.recipe import Recipe
from kc_utils.errors import KCError
from kc_utils.models.loading import Loaded, load, place
from kc_utils.probing.causal import NextToken
from kc_utils.probing.evaluate import evaluate
from kc_utils.probing.probe import Probe


@dataclass(frozen=True)
class Compressed:
    """A model after a recipe, in memory. trees: see `NextToken`; seconds: of loading and of compressing it; device: where it
    is evaluated."""

    recipe: str
    loaded: Loaded
    trees: bool | None
    report: Report
    seconds: dict[str, float]
    device: str


def make(model: str, recipe: str) -> Compressed:
    """Load a model, apply a recipe, and move it to where it is evaluated. Raises as `load`, `apply` and `place`, naming both."""
    begin = time.perf_counter()
    loaded = load(model)
    trees = NextToken(loaded.model).takes_trees() if loaded.entry.family == "decoder" else None
    between = time.perf_counter()
    try:
        report = apply(loaded.model, Recipe.parse(recipe), tokenizer=loaded.tokenizer)
        compressed = time.perf_counter()
        device = place(loaded.model)
    except KCError as error:
        raise type(error)(f"{model}, {recipe}: {error}") from error
    seconds = {"load": round(between - begin, 3), "compress": round(compressed - between, 3)}
    return Compressed(recipe, loaded, trees, report, seconds, str(device))


def answers(made: Compressed, probe: Probe) -> tuple[pd.DataFrame, dict]:
    """Return the rows of a probe, and what else is known: facts left out by protocol, tokens computed."""
    model, tokenizer, family = made.loaded.model, made.loaded.tokenizer, made.loaded.entry.family
    tables, about = [], {}
    if probe.facts is not None:
        found = evaluate(model, tokenizer, family, probe, trees=made.trees)
        tables.append(found.rows)
        about = {"left_out": found.left_out, "tokens_computed": found.tokens_computed}
    for name in probe.instruments:
        tables.append(import_module(name).measure(model, tokenizer, family, probe, made.trees, made.recipe))
    return together(tables), about


def together(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Concatenate rows of several instruments. `correct` is missing where nothing is right or wrong, in a text."""
    columns = list(dict.fromkeys(column for table in tables for column in table))
    rows = pd.concat([t.dropna(axis="columns", how="all") for t in tables], ignore_index=True).reindex(columns=columns)
    if "correct" not in rows or rows["correct"].isna().any():
        rows["correct"] = rows.get("correct", pd.Series(pd.NA, index=rows.index, dtype="boolean")).astype("boolean")
    return rows
