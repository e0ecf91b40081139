"""Lab checkpoints: a folder each under `kc_lab/checkpoints/`, with weights, configuration, tokenizer and a card.

The card (`card.json`) records what made the model and what it knows: five shares of right answers, each with its 95 %
interval. Weights are stored in 16-bit floats; the stored ones are measured, for the card and in every study.

    trained    facts about people, top-1 over the whole vocabulary, in templates that training showed for them
    held_out   the same facts in templates that training held out for them
    world      facts of worldfacts, where they were taught, and of companies, ranked among all answers of the relation, first
               template
    open_book  unknown people: the fact is stated first beside one about somebody else, then queried in another template,
               top-1 over the whole vocabulary
    rule       agreement of subject and verb for pairs of nouns that never stand together in training

Models of real sentences have other shares, all top-1 over the whole vocabulary: `both`, `sentence` and `never`, facts of these
kinds (`kc_lab.wikipedia`) in the first template; `both_held_out` and `sentence_held_out` in the one that training held out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pydantic
from tokenizers import Tokenizer

from kc_lab.loads import Load
from kc_utils.errors import BadModel, BadRequest, BadResult, MissingData, listed
from kc_utils.places import complete_or_absent, sha256_of

WIKIPEDIA = "wikipedia"
"""The size of models that read real sentences, with their word pieces; all others know the made-up world."""
CHECKPOINTS = Path(__file__).with_name("checkpoints")
WEIGHTS, CARD = "model.safetensors", "card.json"
SAMPLE, STRANGERS, SEED = 900, 600, 7
"""Facts about people and about strangers that recall is measured on, and the seed of the former."""
VERSIONS = ("torch", "transformers", "tokenizers", "safetensors", "numpy")


class Share(pydantic.BaseModel):
    """A share of right answers with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int


class Recall(pydantic.BaseModel):
    """What a model knows and can do, as the module's docstring defines it."""

    trained: Share
    held_out: Share
    world: Share
    open_book: Share
    rule: Share


class Reading(pydantic.BaseModel):
    """What a model of real sentences knows."""

    both: Share
    both_held_out: Share
    sentence: Share
    sentence_held_out: Share
    never: Share


class Exposures(pydantic.BaseModel):
    """How many rows of training stated a fact about a person."""

    mean: float
    least: int
    most: int


class Card(pydantic.BaseModel):
    """The fields that every card holds; others are allowed. people, exposures: of models of the made-up world."""

    name: str
    family: Literal["encoder", "encoder-decoder", "decoder"]
    size: str
    seed: int
    load: int
    people: int | None = None
    exposures: Exposures | None = None
    parameters: int
    world: str
    tokenizer: str
    training: dict
    recall: Recall | Reading
    sha256: str


def names() -> list[str]:
    """The names of all checkpoints."""
    return sorted(file.parent.name for file in CHECKPOINTS.glob(f"*/{CARD}"))


def folder_of(name: str) -> Path:
    """The folder of a checkpoint. Raises BadRequest for an unknown name."""
    if name not in names():
        raise BadRequest(f"no lab model {name!r}: there are {listed(names(), 40) or 'none'}; `kc lab train` makes them")
    return CHECKPOINTS / name


def read_card(name: str) -> dict:
    """The card of a checkpoint. Raises MissingData for a card that is damaged or belongs to another checkpoint."""
    file = folder_of(name) / CARD
    try:
        card = json.loads(file.read_text(encoding="utf-8"))
        Card.model_validate(card)
        if card["name"] != name:
            raise ValueError(f"it belongs to {card['name']}")
    except (OSError, ValueError) as error:
        reason = str(error)
        if isinstance(error, pydantic.ValidationError):
            first = error.errors()[0]
            reason = f"{'.'.join(map(str, first['loc'])) or 'card'}: {first['msg']}"
        raise MissingData(
            f"{file} is damaged ({reason}); restore the file, or train the model again: kc lab train {name}"
        ) from error
    return card


def read_cards(real: bool = False) -> list[dict]:
    """The cards of the made-up world's models, or of those that read real sentences. Raises MissingData as `read_card`."""
    return [card for card in map(read_card, names()) if (card["size"] == WIKIPEDIA) == real]


def checked_folder(name: str) -> Path:
    """The folder of a checkpoint, its weights checked against its card. Raises BadModel where they differ."""
    folder = folder_of(name)
    if not (folder / WEIGHTS).is_file() or sha256_of(folder / WEIGHTS) != read_card(name)["sha256"]:
        raise BadModel(
            f"lab:{name}: {folder / WEIGHTS} is not the file that its card describes; restore it, or train the model "
            f"again: kc lab train {name}"
        )
    return folder


def recall(model, tokenizer, family: str, world: Load | None) -> dict[str, dict[str, float]]:
    """{name: {value, low, high, n}} of one model for each field of `Recall`, or of `Reading` where the world is None, that of
    real sentences."""
    from kc_utils.probing.evaluate import evaluate
    from kc_utils.probing.probe import Probe

    def rows(**fields):
        return evaluate(model, tokenizer, family, Probe(**fields)).rows

    measured = of_kinds(rows) if world is None else _taught(rows, world)
    return {name: _share(frame["correct"]) for name, frame in measured.items() if name != "never_held_out"}


def of_kinds(rows, limit: int = SAMPLE) -> dict:
    """By kind, and by kind with `_held_out`, the answers to a sample of facts. rows: evaluates a model on a probe's fields."""
    from kc_lab import wikipedia

    hidden, found = {name: wikipedia.held_out(r) for name, r in wikipedia.facts().relations.items()}, {}
    for kind in wikipedia.KINDS:
        frame = rows(facts=f"lab:wikipedia-{kind}", limit=limit, seed=SEED, protocols=("cloze",), templates="all")
        found[kind] = frame[frame["template"] == 0]
        found[f"{kind}_held_out"] = frame[frame["template"] == frame["relation"].map(hidden)]
    return found


def _taught(rows, load: Load) -> dict:
    from kc_lab import world

    others = (*(world.REAL if load.by_law else ()), "headquarters")
    people = rows(facts=f"lab:{load.source}", limit=SAMPLE, seed=SEED, protocols=("cloze",), templates="all")
    hidden = world.held_out(load)
    held_out = [t in hidden[f] for f, t in zip(people["fact"], people["template"], strict=True)]
    return {
        "trained": people[[not h for h in held_out]],
        "held_out": people[held_out],
        "world": rows(facts="lab", relations=others, protocols=("rank",), alternatives=9),
        "open_book": rows(facts="lab:strangers", limit=STRANGERS, protocols=("openbook-cloze",)),
        "rule": rows(facts="lab:rule", protocols=("rank",), alternatives=1),
    }


@dataclass(frozen=True)
class Made:
    """What a model is made of. tokenizer; sha256: of its world; taught: how many people, and how often, for its card."""

    tokenizer: Tokenizer
    sha256: str
    taught: dict


def load_of(card: Mapping) -> Load | None:
    """The load of a card's model; None for one that read real sentences."""
    from kc_lab.training import Lesson

    return Lesson.named(card["name"]).world


def made_of(load: Load | None) -> Made:
    """The tokenizer and the world of models of a load; of those that read real sentences for None."""
    from kc_lab import tokenizer, wikipedia, world

    if load is None:
        return Made(wikipedia.build(), wikipedia.world_hash(), {})
    counts = [int(fact.popularity) for fact in world.part(load.source).facts]
    exposures = {"mean": round(sum(counts) / len(counts), 2), "least": min(counts), "most": max(counts)}
    return Made(tokenizer.build(load.by_law), world.world_hash(load), {"people": load.people, "exposures": exposures})


def _share(correct) -> dict[str, float]:
    from kc_utils.stats.intervals import wilson

    right, n = int(correct.sum()), len(correct)
    low, high = wilson(right, n)
    return {"value": right / n, "low": low, "high": high, "n": n}


def write(lesson, model, course: dict, target: Path) -> dict:
    """Write a trained model as a folder with its card, whole or not at all. Returns the card.

    lesson: a `training.Lesson`; course: how it was trained, for the card.
    """
    import torch

    from kc_lab.tokenizer import as_transformers, tokenizer_hash
    from kc_utils.study import provenance

    made, model = made_of(lesson.world), model.to("cpu")
    tokenizer = as_transformers(made.tokenizer)
    with complete_or_absent(target) as folder:
        model.to(torch.float16).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        card = {
            "name": lesson.name,
            "family": lesson.family,
            "size": lesson.size,
            "seed": lesson.seed,
            "load": lesson.load,
            **made.taught,
            "parameters": sum(p.numel() for p in model.parameters()),
            "world": made.sha256,
            "tokenizer": tokenizer_hash(made.tokenizer),
            "training": course,
            "recall": recall(model.float(), tokenizer, lesson.family, lesson.world),
            "sha256": sha256_of(folder / WEIGHTS),
            "at": provenance.now(),
            "versions": provenance.versions(VERSIONS),
            "hardware": provenance.hardware(),
        }
        (folder / CARD).write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return card


def verify(name: str) -> dict:
    """Check a checkpoint against its card and return its recall, measured anew.

    Compares the hashes of weights, world and tokenizer, the number of parameters, and recall, which must lie in the card's
    intervals. Raises BadResult with what differs.
    """
    from kc_lab.tokenizer import tokenizer_hash
    from kc_utils.models.loading import load

    card, loaded = read_card(name), load(f"lab:{name}")
    again, of = f"train again: kc lab train {name}", load_of(card)
    made = made_of(of)
    if made.sha256 != card["world"] or not card.items() >= made.taught.items():
        raise BadResult(f"{name}: the world is not the one that it was trained on; {again}")
    if tokenizer_hash(made.tokenizer) != card["tokenizer"] or loaded.tokenizer.get_vocab() != made.tokenizer.get_vocab():
        raise BadResult(f"{name}: the tokenizer is not the one that it was trained with; {again}")
    if sum(p.numel() for p in loaded.model.parameters()) != card["parameters"]:
        raise BadResult(f"{name}: the number of parameters is not the card's")
    found = recall(loaded.model, loaded.tokenizer, card["family"], of)
    for what, now in found.items():
        then = card["recall"][what]
        if not then["low"] <= now["value"] <= then["high"]:
            raise BadResult(
                f"{name}: {what} is {now['value']:.3f}, outside of the card's {then['low']:.3f} to {then['high']:.3f}"
            )
    return found
