"""The checkpoints of the lab: models of all three families that this project trained itself, in the repository.

Each is a folder under `kc_lab/checkpoints/`: weights, configuration, tokenizer and a card (`card.json`) that says what
made it and what it knows. kc_lab writes them; here they are found, and checked against their cards.
"""

from __future__ import annotations

import json
from pathlib import Path


from kc_utils.errors import BadModel, BadRequest, MissingData, listed

CHECKPOINTS = Path(__file__).with_name("checkpoints")
WEIGHTS, CARD = "model.safetensors", "card.json"
FIELDS = {"name", "family", "size", "seed", "load", "parameters", "world", "tokenizer", "training", "recall", "sha256"}
"""What every card holds."""


def names() -> list[str]:
    """Every checkpoint that is there, by name."""
    return sorted(file.parent.name for file in CHECKPOINTS.glob(f"*/{CARD}"))


def folder_of(name: str) -> Path:
    """The folder of a checkpoint. Raises BadRequest for a name that there is none of."""
    if name not in names():
        raise BadRequest(f"no lab model {name!r}: there are {listed(names(), 40) or 'none'}; `kc lab train` makes them")
    return CHECKPOINTS / name


def read_card(name: str) -> dict:
    """What is known of a checkpoint. Raises MissingData for a card that is damaged or another one's."""
    file = folder_of(name) / CARD
    try:
        card = json.loads(file.read_text(encoding="utf-8"))
        lacking = FIELDS - set(card)
        if lacking or card["name"] != name:
            raise ValueError(f"it lacks {listed(sorted(lacking))}" if lacking else f"it is that of {card['name']}")
    except (OSError, ValueError, TypeError) as error:
        raise MissingData(
            f"{file} is damaged ({error}); restore the file, or train the model again by `kc lab train`"
        ) from error
    return card


def read_cards() -> list[dict]:
    """Every card, by name."""
    return [read_card(name) for name in names()]


def checked_folder(name: str) -> Path:
    """The folder of a checkpoint whose weights are those of its card. Raises BadModel where they are not."""
    from kc_utils.models.packaged import sha256_of

    folder = folder_of(name)
    if not (folder / WEIGHTS).is_file() or sha256_of(folder / WEIGHTS) != read_card(name)["sha256"]:
        raise BadModel(
            f"lab:{name}: {folder / WEIGHTS} is not the file that its card describes; restore it, or train the model again "
            "by `kc lab train`"
        )
    return folder
