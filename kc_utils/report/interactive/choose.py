"""The practitioner's page: an interactive chart of knowledge kept against size, and a table beside it for print."""

import json
import math

import pandas as pd
from plotly.offline import get_plotlyjs

from kc_utils.compression.methods import method
from kc_utils.compression.recipe import Recipe
from kc_utils.models.sizes import shapes
from kc_utils.report.interactive import page
from kc_utils.report.phrases import percent
from kc_utils.report.tables import markdown_table
from kc_utils.stats.compare import compare
from kc_utils.stats.evidence import NO_KNOWLEDGE
from kc_utils.stats.names import CLOSED_BOOK, lab_parts, model_name, protocols_in_order, short_protocol
from kc_utils.study import speeds

MEGABYTE = 1e6
ORIGINAL = "original file, as published"
"""Stands for a recipe where the published file holds the weights in few bits: the model that is called uncompressed."""
NOTHING = "No facts were evaluated under enough recipes of a model for a choice among them.\n"


def choose_page(rows: pd.DataFrame) -> tuple[str, str]:
    """A fragment in HTML, with script and data, and one in Markdown, a table of the compressed models that none beats.

    rows: of `kc.results`.
    """
    frame = rows if rows.empty else offers(rows)
    if frame.empty:
        return f"<p>{NOTHING.strip()}</p>\n", NOTHING
    frame, measured = with_times(frame)
    shown = json.loads(frame.to_json(orient="records", double_precision=5))
    return page("choose", shown, get_plotlyjs()), table(frame) + measured


def offers(rows: pd.DataFrame) -> pd.DataFrame:
    """Compare every recipe from memory: one line per model, question (source, protocol, number of facts) and recipe.

    Columns: model, question, recipe, technique, megabytes (of the whole model, 10^6 bytes), kept, low, high (retention with
    its 95 % interval), again (rounds weights that the published file had rounded), and frontier: no other recipe of the model
    keeps as much in as few bytes. A published file of few bits is a line of its own. Of several samples of one source the
    largest counts; of lab models that differ in their seed alone, the first.
    """
    other_seed = {model for model in rows["model"].unique() if (parts := lab_parts(model)) and parts[-1] != "s1"}
    rows = rows[rows["protocol"].isin(CLOSED_BOOK) & ~rows["facts"].isin(NO_KNOWLEDGE)]
    rows = rows[~rows["model"].isin(other_seed)]
    keys = ["origin", "model", "facts", "probe"]
    whole = [part for _, part in rows.groupby(keys, sort=False, observed=True) if {"none"} < set(part["recipe"])]
    if not whole:
        return pd.DataFrame()
    tables = [compare(part).assign(source=part["facts"].iloc[0]).dropna(axis="columns", how="all") for part in whole]
    found = pd.concat(tables, ignore_index=True)
    found = found.dropna(subset=["bytes_compressed", "retention"])
    most = found.groupby(["model", "source", "protocol"])["n"].transform("max")
    found = found[found["n"] == most].drop_duplicates(["model", "source", "protocol", "recipe"])
    rank = protocols_in_order(found["protocol"])
    found = found.sort_values("protocol", key=lambda p: p.map(rank.index), kind="stable")
    question = [f"{x.source}, {short_protocol(x.protocol)}, {x.n} facts" for x in found.itertuples()]
    named = found["model"].map(model_name), question, found["recipe"], found["recipe"].map(technique)
    numbers = found["bytes_compressed"] / MEGABYTE, *(found[f"retention{end}"] for end in ("", "_low", "_high"))
    columns = ("model", "question", "recipe", "technique", "megabytes", "kept", "low", "high")
    frame = pd.DataFrame(dict(zip(columns, (*named, *numbers), strict=True)))
    files = frame["model"].map({name: shape.file_bytes for name, shape in shapes().items()}).astype(float) / MEGABYTE
    original = frame.assign(recipe=ORIGINAL, technique="original file", megabytes=files)
    original = original[frame["recipe"].eq("none") & files.notna()]
    frame["again"] = files.notna() & frame["technique"].str.contains("quantization")
    frame = pd.concat([frame, original.assign(again=False)], ignore_index=True)
    best = [unbeaten(part) for _, part in frame.groupby(["model", "question"], sort=False)]
    return frame.assign(frontier=pd.concat(best).astype(bool))


def technique(recipe: str) -> str:
    """What a recipe does, as the chart colours it."""
    prunes = {method(step.method).prunes for step in Recipe.parse(recipe).steps}
    if len(prunes) > 1:
        return "pruning then quantization"
    return {None: "uncompressed", True: "pruning", False: "quantization"}[next(iter(prunes), None)]


def unbeaten(part: pd.DataFrame) -> pd.Series:
    """Of recipes of one model and question: those beside which no other is at least as small and keeps as much, and is
    better in one of the two. Nothing keeps more than all: answers gained by chance beat nobody."""
    size, kept = part["megabytes"].to_numpy(), part["kept"].clip(upper=1).to_numpy()
    as_good = (size[None, :] <= size[:, None]) & (kept[None, :] >= kept[:, None])
    better = (size[None, :] < size[:, None]) | (kept[None, :] > kept[:, None])
    return pd.Series(~(as_good & better).any(axis=1), part.index)


def with_times(frame: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The frame with `reading` and `writing`, times as multiples of the uncompressed model's (NaN where no kernel was
    measured), and how they were measured, in a sentence for each model."""
    found = {model: speeds.recorded(model) for model in dict.fromkeys(frame["model"])}
    times = [
        found[m].of(recipe) if found[m] and recipe != ORIGINAL else None
        for m, recipe in zip(frame["model"], frame["recipe"], strict=True)
    ]
    frame = frame.assign(**{name: [t[name] if t else math.nan for t in times] for name in ("reading", "writing")})
    stated = [
        f"Times of `{model}` are multiples of the uncompressed model's in 32-bit numbers: reading {s.what}, and writing one "
        f"token at a time, on {s.processor}, {s.threads} thread{'s' * (s.threads > 1)}, {s.day}. Recipes without a time are "
        "computed here by their meaning and not by a kernel."
        for model, s in found.items()
        if s
    ]
    return frame, "".join(f"\n{text}\n" for text in stated)


def table(frame: pd.DataFrame) -> str:
    """The recipes that none beats, model by model and question by question, from the largest to the smallest."""
    parts, best = [], frame[frame["frontier"]]
    for model, own in best.groupby("model", sort=False):
        parts.append(f"### {model}\n\n{about_original(frame[frame['model'] == model])}")
        for question, part in own.groupby("question", sort=False):
            timed = part["reading"].notna().any()
            rows = [
                {
                    "recipe": f"{r.recipe if r.recipe in ('none', ORIGINAL) else f'`{r.recipe}`'}{' †' * r.again}",
                    "size (MB)": f"{r.megabytes:.3g}",
                    "knowledge kept": percent(r.kept),
                    "95 % interval": f"{percent(r.low)} to {percent(r.high)}",
                }
                | ({"time to read, write": _times(r)} if timed else {})
                for r in part.sort_values("megabytes", ascending=False).itertuples()
            ]
            parts.append(f"**{question}**\n\n{markdown_table(rows)}\n")
    return "\n".join(parts)


def about_original(own: pd.DataFrame) -> str:
    """State what the published file of a model beats, and what the mark of its recipes means; nothing for other models."""
    sizes = own.drop_duplicates("recipe").set_index("recipe")["megabytes"]
    if ORIGINAL not in sizes:
        return ""
    rest = sizes.drop([ORIGINAL, "none"])
    larger = int((rest >= sizes[ORIGINAL]).sum())
    return (
        f"The file in which this model was published holds exactly the weights that are called uncompressed here, in "
        f"{sizes[ORIGINAL]:.3g} MB instead of {sizes['none']:.3g} MB. So it beats the uncompressed model and those {larger} "
        f"of {len(rest)} compressed models that are not smaller.\n\n† Rounds weights again that this file had rounded: what is "
        "lost says little about [weights that never were](four-bit-origin).\n\n"
    )


def _times(line) -> str:
    return "" if math.isnan(line.reading) else f"{line.reading:.2f}, {line.writing:.2f}"
