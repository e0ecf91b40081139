"""What the commands of `kc` share: options that several take, and what an answer holds and how it is printed."""

from typing import Annotated

import typer
from pydantic_core import to_json

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
StudyName = Annotated[str, typer.Argument(help="A study in studies/, or the path of a .yaml file.")]
Models = Annotated[list[str] | None, typer.Option(help="Only models of this id or pattern, such as 'lab:*'; repeatable.")]
Recipes = Annotated[list[str] | None, typer.Option(help="Only recipes of this pattern, such as '*gptq*'; repeatable.")]
Cores = Annotated[int | None, typer.Option(help="Processor cores to use; all by default.", min=1)]


def show(rows: list[dict], as_json: bool) -> None:
    """Print a list of records as JSON or as an aligned table."""
    if as_json:
        print(as_text(rows, indent=1))
        return
    if rows:
        import pandas as pd

        print(pd.DataFrame(rows).to_string(index=False, max_colwidth=70))


def as_text(value, indent: int | None = None) -> str:
    """Write JSON, with null for what is not a number: readers of JSON know neither NaN nor infinity."""
    return to_json(value, indent=indent, inf_nan_mode="null", fallback=lambda number: number.item()).decode()


def show_answer(answer: dict, as_json: bool) -> None:
    """Print names and values as JSON on one line, or one below the other."""
    if as_json:
        print(as_text(answer))
        return
    for key, value in answer.items():
        print(f"{key:24} {value:.6g}" if isinstance(value, float) else f"{key:24} {value}")


def answer_of(rows, consistent: bool) -> dict:
    """Compare the last recipe of some rows with the uncompressed model: facts at the top level; tasks by name; a text."""
    import kc_utils as kc
    from kc_utils.stats.consistency import agreement
    from kc_utils.study.rows import REPORTED

    recipe = rows["recipe"].iloc[-1]
    answer = {name: rows[name].iloc[-1] for name in ("model", "recipe")}
    table = kc.compare(rows) if set(rows["protocol"]) - {"perplexity"} else rows.head(0)
    for line in table[table["recipe"] == recipe].to_dict("records"):
        numbers = {name: line[name] for name in ("protocol", "n", "accuracy", "chance", "baseline_accuracy")}
        numbers["ci95"] = [line["low"], line["high"]]
        for name in ("difference", "retention"):
            numbers |= {name: line[name], f"{name}_ci95": [line[f"{name}_low"], line[f"{name}_high"]]}
        numbers |= {name: line[name] for name in ("lost", "gained", "p", "clear")}
        if line["protocol"].startswith("task "):
            answer.setdefault("tasks", {})[line["protocol"].removeprefix("task ")] = numbers
            continue
        answer |= {"facts": rows["facts"].iloc[-1]} | numbers
        own = rows[(rows["recipe"] == recipe) & (rows["protocol"] == line["protocol"])]
        if own["template"].nunique() > 1:
            split = kc.compare(rows[rows["protocol"] == line["protocol"]], by="template")
            split = split[split["recipe"] == recipe]
            answer["by_template"] = split[["template", "accuracy", "low", "high"]].to_dict("records")
        if consistent:
            pairs = agreement(rows).set_index("recipe").loc[recipe]
            answer["consistency"] = {c: float(pairs[c]) for c in ("value", "low", "high", "facts", "baseline_value")}
    if (rows["protocol"] == "perplexity").any():
        read = kc.perplexity(rows)
        (line,) = read[read["recipe"] == recipe].to_dict("records")
        names = ("text", "perplexity", "baseline_perplexity", "bits_per_byte", "ratio", "ratio_low", "ratio_high")
        answer["perplexity"] = {name: line[name] for name in names}
    return answer | {name: rows[name].iloc[-1].item() for name in REPORTED}
