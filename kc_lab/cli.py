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
    name: Annotated[str | None, typer.Argument(help="A model such as decoder-small-s1 or decoder-small-x4-s1.")] = None,
    family: Annotated[str | None, typer.Option(help="Instead of a name: encoder, encoder-decoder or decoder.")] = None,
    size: Annotated[str | None, typer.Option(help="With --family: tiny, small (the default) or large.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the weights and of the order of training; 1.", min=0)] = None,
    load: Annotated[int | None, typer.Option(help="Of its world: 300 people a unit, 125 for tiny models; 1.", min=1)] = None,
    world: Annotated[
        str | None, typer.Option(help="With --family: people (the default), made up; or wikipedia, real sentences.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="All lab models without a checkpoint, as many at a time as there are cores.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="A folder for the checkpoints; the repository's by default.")] = None,
    cores: Cores = None,
    as_json: Json = False,
) -> None:
    """Train lab models and write checkpoints with their cards. Killed at any time, the same command resumes."""
    from kc_lab.training import Lesson, make_all, make_one, of_world

    described = any(value is not None for value in (size, seed, load, world if name or family else None))
    if every + (name is not None) + (family is not None) != 1 or (described and family is None):
        raise BadRequest("give one of: a model's name such as decoder-small-s1, its --family, or --all for every model")
    if every:
        make_all(of_world(world), out, cores)
        return
    lesson = Lesson.named(name) if name else Lesson.of(family, size, 1 if seed is None else seed, load, world)
    card = make_one(lesson, out)
    print(as_text(card) if as_json else f"{card['name']}: {recalls(card['recall'])}")


def recalls(recall: dict) -> str:
    return ", ".join(f"{what} {value['value']:.3f}" for what, value in recall.items())


@app.command("verify")
def verify(
    names: Annotated[list[str] | None, typer.Argument(help="Checkpoints such as encoder-small-s1; all by default.")] = None,
    as_json: Json = False,
) -> None:
    """Check checkpoints against their cards: files by hash, recall by a new evaluation, within the card's interval."""
    from tqdm.auto import tqdm

    from kc_lab import cards

    found = {}
    for name in tqdm(names or cards.names(), unit="model", file=sys.stderr):
        found[name] = cards.verify(name.removeprefix("lab:"))
    if as_json:
        print(as_text(found))
    else:
        print(*(f"{name}: {recalls(values)}" for name, values in found.items()), sep="\n")
