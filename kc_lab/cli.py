"""The commands of `kc lab`: train and check the project's own models of a known world."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from kc_utils.cli_shared import Cores, Json, as_text
from kc_utils.errors import BadRequest

app = typer.Typer(no_args_is_help=True, help="Train and check the project's own models of a known world.")


@app.command("train")
def train(
    family: Annotated[str | None, typer.Option(help="encoder, encoder-decoder or decoder.")] = None,
    size: Annotated[str, typer.Option(help="small or large.")] = "small",
    seed: Annotated[int, typer.Option(help="Of the weights and of the order of training.", min=0)] = 1,
    load: Annotated[int, typer.Option(help="Of its world: 300 people for each unit.", min=1)] = 1,
    every: Annotated[
        bool, typer.Option("--all", help="All models of the lab, as many at a time as there are cores.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="A folder for the checkpoints; the repository's by default.")] = None,
    cores: Cores = None,
    as_json: Json = False,
) -> None:
    """Train models of the lab and write checkpoints with their cards. Killed at any time, the same command goes on."""
    from kc_lab.make import ALL, make, make_one
    from kc_lab.training import Lesson

    if every:
        if family is not None:
            raise BadRequest("--all trains every model: leave --family out, or --all")
        make(ALL, out, cores)
        return
    if family is None:
        raise BadRequest("name a --family, or --all for every model of the lab")
    card = make_one(Lesson(family, size, seed, load), out)
    print(as_text(card) if as_json else f"{card['name']}: {recalls(card['recall'])}")


def recalls(recall: dict) -> str:
    return ", ".join(f"{what} {value['value']:.3f}" for what, value in recall.items())


@app.command("verify")
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(help="Checkpoints such as encoder-small-s1; all by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check checkpoints against their cards: the files by hash, and recall measured anew within the card's interval."""
    from tqdm.auto import tqdm

    from kc_lab import cards
    from kc_lab import checkpoint_cards as lab_models

    found = {}
    for name in tqdm(names or lab_models.names(), unit="model", file=sys.stderr):
        found[name] = cards.verify(name)
    if as_json:
        print(as_text(found))
    else:
        print(*(f"{name}: {recalls(values)}" for name, values in found.items()), sep="\n")
