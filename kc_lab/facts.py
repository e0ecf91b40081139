"""`lab`: the facts of the controlled world that the project's own models were taught (kc_lab/world.py).

Parts: `lab:people`, `lab:companies`, `lab:world` (facts of worldfacts that are taught), `lab:strangers` (people whom no
model was told of: from memory they can only be guessed) and `lab:rule` (agreement of subject and verb, a skill that takes no
knowledge). Popularity is the number of training rows that state a fact.
"""

from __future__ import annotations

from kc_utils.probing.facts import FactSet
from kc_lab import world


def needed(part: str | None = None) -> list[str]:
    """No files: the world is drawn by seed."""
    world.part(part)
    return []


def load(part: str | None = None) -> FactSet:
    return world.part(part)
