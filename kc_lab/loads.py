"""How much a world of the lab holds: its people, and how often training states their facts.

Two series of loads, numbered in units of people each:

    by the law   n units of PEOPLE, for models of the sizes small and large. All loads are stated in equally many rows, so that
                 more people have fewer exposures each
    equal        n units of EQUAL_PEOPLE, for tiny models. Training states each fact EQUAL_EXPOSURES times at every load, in
                 equally many steps, so that more people take more rows in each
"""

from __future__ import annotations

from dataclasses import dataclass

from kc_utils.errors import BadRequest

PEOPLE, MOST_LOAD = 300, 8
EQUAL_PEOPLE, EQUAL_EXPOSURES = 125, 128
LOADS, EQUAL_LOADS = (2, 4, 8), (1, 3, 10)
"""Loads with models of their own: by the law beside 1, and equal."""


@dataclass(frozen=True)
class Load:
    """What a world holds. exposures: training rows of each fact; None for those of the law.

    Worldfacts are taught by the law alone. Functions that take a load read a number as one by the law.
    """

    people: int = PEOPLE
    exposures: int | None = None

    @classmethod
    def of(cls, load: int | Load, equal: bool = False) -> Load:
        """A load by its number. Raises BadRequest where there are not so many people."""
        if isinstance(load, Load):
            return load
        unit = EQUAL_PEOPLE if equal else PEOPLE
        most = MOST_LOAD * PEOPLE // unit
        if not 1 <= load <= most:
            raise BadRequest(f"load must be from 1 to {most}, got {load}")
        return cls(load * unit, EQUAL_EXPOSURES if equal else None)

    @property
    def by_law(self) -> bool:
        return self.exposures is None

    @property
    def seed(self) -> tuple[int, ...]:
        """What the seed of the order of training holds beside the model's."""
        return (self.people // PEOPLE,) if self.by_law else (self.people, self.exposures)

    @property
    def source(self) -> str:
        """The part of the world, as `world.part` names it, that is the people of this load."""
        if self.by_law:
            return "people" + (f"-x{self.people // PEOPLE}" if self.people > PEOPLE else "")
        return f"people-e{self.people // EQUAL_PEOPLE}"


def sources() -> dict[str, Load]:
    """The loads whose people are a fact source, by its name: all of the law, and the equal ones that have models."""
    found = [*map(Load.of, range(1, MOST_LOAD + 1)), *(Load.of(n, equal=True) for n in EQUAL_LOADS)]
    return {load.source: load for load in found}
