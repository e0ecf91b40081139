"""What the commands of `kc` share: options that several take, and how an answer is printed."""

from __future__ import annotations

import json
import math
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
StudyName = Annotated[str, typer.Argument(help="A study in studies/, or the path of a .yaml file.")]
Cores = Annotated[int | None, typer.Option(help="Processor cores to use; all by default.", min=1)]


def show(rows: list[dict], as_json: bool) -> None:
    """Print a list of records as JSON or as an aligned table."""
    if as_json:
        print(as_text(rows, indent=1))
        return
    if rows:
        import pandas as pd

        with pd.option_context("display.max_colwidth", 70, "display.width", 250, "display.max_rows", 1000):
            print(pd.DataFrame(rows).to_string(index=False))


def as_text(value, indent: int | None = None) -> str:
    """Write JSON, with null for what is not a number: readers of JSON know neither NaN nor infinity."""

    def plain(part):
        if isinstance(part, dict):
            return {key: plain(v) for key, v in part.items()}
        if isinstance(part, list | tuple):
            return [plain(v) for v in part]
        part = part.item() if hasattr(part, "item") else part  # a number of numpy
        return None if isinstance(part, float) and not math.isfinite(part) else part

    return json.dumps(plain(value), indent=indent, ensure_ascii=False, allow_nan=False)


def show_answer(answer: dict, as_json: bool) -> None:
    """Print names and values as JSON on one line, or one below the other."""
    if as_json:
        print(as_text(answer))
        return
    for key, value in answer.items():
        print(f"{key:24} {value:.6g}" if isinstance(value, float) else f"{key:24} {value}")
