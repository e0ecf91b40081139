"""Which compression for a budget: what every version keeps, beside the bytes it takes, and the versions that none beats."""

from __future__ import annotations

import pandas as pd

from kc_utils.stats.claim_rows import NO_KNOWLEDGE
from kc_utils.stats.names import CLOSED_BOOK, model_name, protocols_in_order, short_protocol
from kc_utils.stats.seeds import lab_parts
from kc_utils.stats.summary import summarise
from kc_utils.probing.probe import Probe
from kc_utils.study.cells import Cell
from kc_utils.study.store import CellResult

MEGABYTE = 1e6
TECHNIQUES = ("uncompressed", "pruning", "quantization", "pruning then quantization")


def offers(*origins: dict[Cell, CellResult]) -> pd.DataFrame:
    """One line per model, question and recipe, of all facts that were asked from memory. Of models of the lab that differ in
    their seed alone, one: nobody chooses between them.

    origins: results that belong together, the preferred first; a compressed model is compared with the uncompressed one of
    its own origin.

    Columns: model, question (source, protocol and number of facts), recipe, technique (one of TECHNIQUES), megabytes (of
    the whole model, 10^6 bytes, in the encodings of the report), kept, low, high (retention with its 95 % interval), and
    frontier, whether no other version of the model keeps as much in as few bytes. Of a recipe that was asked about several
    samples of one source, the largest counts, so that versions of a question share their facts.
    """
    groups: dict[tuple, dict[Cell, CellResult]] = {}
    for number, results in enumerate(origins):
        for cell, result in results.items():
            if _from_memory(cell.probe) and cell.baseline in results and not _other_seed(cell.model):
                groups.setdefault((number, cell.model, cell.probe), {})[cell] = result
    tables = []
    for (_, model, probe), cells in groups.items():
        summary = summarise(cells)
        summary = summary[summary["protocol"].isin(CLOSED_BOOK) & summary["bytes_compressed"].notna()]
        if len(summary) < 3:
            continue
        for protocol in protocols_in_order(set(summary["protocol"])):
            part = summary[summary["protocol"] == protocol]
            tables.append(
                pd.DataFrame(
                    {
                        "model": model_name(model),
                        "source": probe.facts,
                        "protocol": short_protocol(protocol),
                        "n": int(part["n"].iloc[0]),
                        "recipe": part["recipe"],
                        "technique": [_technique(recipe) for recipe in part["recipe"]],
                        "megabytes": part["bytes_compressed"] / MEGABYTE,
                        "kept": part["retention"],
                        "low": part["retention_low"],
                        "high": part["retention_high"],
                    }
                )
            )
    columns = ["model", "question", "recipe", "technique", "megabytes", "kept", "low", "high", "frontier"]
    if not tables:
        return pd.DataFrame(columns=columns)
    frame = pd.concat(tables, ignore_index=True)
    most = frame.groupby(["model", "source", "protocol"])["n"].transform("max")
    frame = frame[(frame["n"] == most) & frame["kept"].notna()]
    frame = frame.drop_duplicates(["model", "source", "protocol", "recipe"]).reset_index(drop=True)
    frame["question"] = [f"{r.source}, {r.protocol}, {r.n} facts" for r in frame.itertuples()]
    frame["frontier"] = False
    for _, part in frame.groupby(["model", "question"]):
        frame.loc[part.index, "frontier"] = unbeaten(part)
    return frame[columns]


def _from_memory(probe: Probe) -> bool:
    """Whether facts that a model may know are asked of it as it is, without examples and without training it again."""
    knowledge = probe.facts is not None and probe.facts not in NO_KNOWLEDGE
    return knowledge and not probe.shots and probe.relearn_steps is None


def _technique(recipe: str) -> str:
    from kc_utils.compression.methods import method
    from kc_utils.compression.recipe import Recipe

    steps = Recipe.parse(recipe).steps
    if not steps:
        return TECHNIQUES[0]
    prunes = {method(step.method).prunes for step in steps}
    return TECHNIQUES[3] if len(prunes) > 1 else TECHNIQUES[1 if prunes == {True} else 2]


def unbeaten(part: pd.DataFrame) -> pd.Series:
    """Of versions of one model asked one question: those beside which no other is at least as small and keeps as much,
    and better in one of the two. Boolean, by the frame's index."""
    size, kept = part["megabytes"].to_numpy(), part["kept"].to_numpy()
    as_good = (size[None, :] <= size[:, None]) & (kept[None, :] >= kept[:, None])
    better = (size[None, :] < size[:, None]) | (kept[None, :] > kept[:, None])
    return pd.Series(~(as_good & better).any(axis=1), part.index)


def within(part: pd.DataFrame, megabytes: float) -> pd.DataFrame:
    """Versions of one model that fit a budget and that none beats, the one that keeps most first."""
    fitting = part[part["frontier"] & (part["megabytes"] <= megabytes)]
    return fitting.sort_values(["kept", "megabytes"], ascending=[False, True])


def _other_seed(model: str) -> bool:
    parts = lab_parts(model)
    return parts is not None and parts[2] != "s1"
