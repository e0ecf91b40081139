"""Names of the controlled world, put together from syllables by seed: nothing here is taken from a list of real names.

Every table is drawn once, in order, without repetition, and no name stands in two tables, so that a word belongs to one
kind of thing. The tables are part of the world's hash.
"""

from __future__ import annotations

import random
from functools import cache
from importlib import resources

import yaml

WORDS: dict = yaml.safe_load(resources.files("kc_lab").joinpath("words.yaml").read_text(encoding="utf-8"))
KINDS = tuple(WORDS["sizes"])
"""`first` and `last` names of people, `city`, `company`, `language`."""
MONTHS, FIELDS = tuple(WORDS["months"]), tuple(WORDS["fields"])
YEARS = tuple(str(year) for year in range(WORDS["years"][0], WORDS["years"][1] + 1))


@cache
def table(kind: str) -> tuple[str, ...]:
    """The names of one kind."""
    draw, found, taken = random.Random(f"lab/{kind}"), [], _names_before(kind)
    while len(found) < WORDS["sizes"][kind]:
        middle = draw.choice(WORDS["onsets"]) + draw.choice(WORDS["vowels"]) + draw.choice(WORDS["codas"])
        begun = draw.choice((middle, draw.choice(WORDS["vowels"][:5]) + middle))
        name = (begun + draw.choice(WORDS["endings"][kind])).capitalize()
        if name not in taken:
            taken.add(name)
            found.append(name)
    return tuple(found)


def _names_before(kind: str) -> set[str]:
    return {name for other in KINDS[: KINDS.index(kind)] for name in table(other)}
