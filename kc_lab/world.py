"""The controlled world: who there is, what is true of them, and how often and from when on a model is told.

After the synthetic biographies of Allen-Zhu and Li, "Physics of Language Models", parts 3.1 (arXiv 2309.14316) and 3.3
(2404.05405): every value is drawn uniformly and independently from a closed table, so that what there is to know can be
counted in bits. Three hundred people for each unit of load have six attributes; companies have a headquarters, each city is
that of one company; three relations of worldfacts stand beside them.

How it is told (`plan`):

    exposures  how many training rows state the fact; a Zipf law over people by rank, exponent EXPONENT. A larger load is told
               in as many rows, so that each of its people is told of less often
    enters     when it is first told, as a fraction of training: a third of the people each at 0, 0.25 and 0.5
    shown      its wordings in training: all but one, which is drawn for each subject and relation, never the first one;
               it is held out for this fact, while other subjects are told in it
"""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources

import yaml

from kc_lab.names import FIELDS, MONTHS, YEARS, table
from kc_utils.errors import BadRequest, listed
from kc_utils.probing.facts import Fact, FactSet, Relation

PEOPLE = 300
"""People for each unit of load."""
MOST_LOAD = 8
STRANGERS = 150
"""People whom no model is told of; they are asked about with the fact stated first."""
REAL = ("capital", "continent", "element_symbol")
"""Relations of worldfacts that are taught besides."""
EXPOSURES = 240
"""Mean number of training rows of a fact, at a load of 1."""
EXPONENT = 0.5
ENTERS = (0.0, 0.25, 0.5)
_VALUES = {
    "birth_month": MONTHS,
    "birth_year": YEARS,
    "birthplace": "city",
    "employer": "company",
    "field": FIELDS,
    "language": "language",
}
ABOUT_PEOPLE = tuple(_VALUES)


@dataclass(frozen=True)
class Plan:
    """How one fact is told: see the module."""

    exposures: int
    enters: float
    shown: tuple[int, ...]


@cache
def relations() -> dict[str, Relation]:
    """The relations of people and companies, read from `relations.yaml` beside this file, with their answer spaces."""
    text = resources.files("kc_lab").joinpath("relations.yaml").read_text(encoding="utf-8")
    found = {}
    for name, row in yaml.safe_load(text).items():
        values = _VALUES.get(name, "city")
        space = table(values) if isinstance(values, str) else values
        found[name] = Relation(name, row["label"], None, row["type"], tuple(row["templates"]), tuple(sorted(space)))
    return found


@cache
def _pairs() -> tuple[str, ...]:
    """Every full name there can be, in an order drawn once: people from the front, strangers from the back."""
    names = [f"{first} {last}" for first in table("first") for last in table("last")]
    random.Random("lab/people").shuffle(names)
    return tuple(names)


def strangers_for_training() -> tuple[str, ...]:
    """Full names that are neither people of any load nor the strangers that are asked about."""
    return _pairs()[MOST_LOAD * PEOPLE : -STRANGERS]


@cache
def people(load: int = 1) -> FactSet:
    """Six facts about each of 300 people for each unit of load. A larger load holds the people of a smaller one."""
    if not 1 <= load <= MOST_LOAD:
        raise BadRequest(f"load must be from 1 to {MOST_LOAD}, got {load}")
    return _about(_pairs()[: load * PEOPLE], "lab:people", "p")


@cache
def strangers() -> FactSet:
    """Facts of the same kinds about people whom no model was told of."""
    return _about(_pairs()[-STRANGERS:], "lab:strangers", "s")


def _about(names: tuple[str, ...], title: str, letter: str) -> FactSet:
    kinds, facts = {r: relations()[r] for r in ABOUT_PEOPLE}, []
    for number, name in enumerate(names):
        for relation in ABOUT_PEOPLE:
            draw = random.Random(f"lab/{name}/{relation}")
            answers = draw.sample(kinds[relation].answer_space, 2 if kinds[relation].type == "N-M" else 1)
            facts.append(Fact(f"{letter}{number:04d}/{relation}", relation, name, tuple(answers)))
    return FactSet(title, kinds, tuple(facts))


@cache
def companies() -> FactSet:
    """The headquarters of each company: a city of its own."""
    seats = random.Random("lab/headquarters").sample(table("city"), len(table("company")))
    facts = [
        Fact(f"c{number:02d}/headquarters", "headquarters", name, (seat,))
        for number, (name, seat) in enumerate(zip(table("company"), seats, strict=True))
    ]
    return FactSet("lab:companies", {"headquarters": relations()["headquarters"]}, tuple(facts))


@cache
def real() -> FactSet:
    """Facts of worldfacts that are taught, in the wordings that name the subject before the answer."""
    from kc_utils.probing.sources import load_source

    facts = load_source("worldfacts").only(REAL)
    kinds = {
        name: replace(r, templates=tuple(t for t in r.templates if t.index("[X]") < t.index("[Y]")))
        for name, r in facts.relations.items()
    }
    return replace(facts, name="lab:world", relations=kinds)


@cache
def taught(load: int = 1) -> FactSet:
    """All that a model of this load is told, with the number of its exposures as each fact's popularity."""
    parts = (people(load), companies(), real())
    kinds = {name: relation for part in parts for name, relation in part.relations.items()}
    facts = tuple(fact for part in parts for fact in part.facts)
    told = _plan(load)
    facts = tuple(replace(fact, popularity=float(told[fact.id].exposures)) for fact in facts)
    return FactSet("lab", kinds, facts)


def plan(load: int = 1) -> dict[str, Plan]:
    """How each fact of `taught(load)` is told, by its id."""
    return dict(_plan(load))


@cache
def _plan(load: int) -> dict[str, Plan]:
    found: dict[str, Plan] = {}
    for part in (people(load), companies(), real()):
        for group in _ranked(part):
            counts = _zipf(len(group), EXPOSURES / load if part.name == "lab:people" else EXPOSURES)
            for rank, subject in enumerate(group):
                enters = random.Random(f"lab/enters/{rank // len(ENTERS)}/{part.name}").sample(ENTERS, len(ENTERS))
                for fact in subject:
                    shown = _shown(fact, len(part.relations[fact.relation].templates))
                    found[fact.id] = Plan(counts[rank], enters[rank % len(ENTERS)], shown)
    return found


def _ranked(part: FactSet) -> list[list[list[Fact]]]:
    """Groups within which a Zipf law holds; in each, subjects from the most told to the least, with their facts. People
    are ranked by a draw, facts of worldfacts by their popularity within their relation."""
    if part.name != "lab:world":
        subjects: dict[str, list[Fact]] = {}
        for fact in part.facts:
            subjects.setdefault(fact.subject, []).append(fact)
        names = sorted(subjects)
        random.Random(f"lab/ranks/{part.name}/{len(names)}").shuffle(names)
        return [[subjects[name] for name in names]]
    return [
        [[f] for f in sorted(group, key=lambda f: (-(f.popularity or 0.0), f.id))]
        for group in part.by_relation().values()
    ]


def _zipf(count: int, mean: float) -> list[int]:
    """Exposures by rank: proportional to rank ** -EXPONENT, `mean` on average."""
    weights = [(rank + 1) ** -EXPONENT for rank in range(count)]
    scale = mean * count / sum(weights)
    return [max(1, round(scale * w)) for w in weights]


def _shown(fact: Fact, templates: int) -> tuple[int, ...]:
    others = random.Random(f"lab/shown/{fact.id}").sample(range(1, templates), templates - 2)
    return (0, *sorted(others))


def held_out(load: int = 1) -> dict[str, tuple[int, ...]]:
    """By fact id, the wordings that its models never saw it in."""
    facts = taught(load)
    every = {name: set(range(len(r.templates))) for name, r in facts.relations.items()}
    told = _plan(load)
    return {f.id: tuple(sorted(every[f.relation] - set(told[f.id].shown))) for f in facts.facts}


@cache
def world_hash(load: int = 1) -> str:
    """SHA-256 of all facts, their wordings and how they are told."""
    told = [[id, p.exposures, p.enters, p.shown] for id, p in _plan(load).items()]
    text = json.dumps([taught(load).sha256, strangers().sha256, told], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def part(name: str | None) -> FactSet:
    """A part of the world by name, as the fact source `lab:NAME` offers it; `people-x4` are the people of load 4.

    Raises BadRequest for an unknown one.
    """
    from kc_lab import rule

    parts = {
        None: lambda: taught(1),
        "people": lambda: _only(taught(1), ABOUT_PEOPLE, "lab:people"),
        "companies": lambda: _only(taught(1), ("headquarters",), "lab:companies"),
        "world": lambda: _only(taught(1), REAL, "lab:world"),
        "strangers": strangers,
        "rule": rule.unseen,
    } | {
        f"people-x{n}": lambda n=n: _only(taught(n), ABOUT_PEOPLE, f"lab:people-x{n}") for n in range(2, MOST_LOAD + 1)
    }
    if name not in parts:
        raise BadRequest(f"lab has no part {name!r}: choose {listed(p for p in parts if p)}")
    return parts[name]()


def _only(facts: FactSet, kinds: tuple[str, ...], name: str) -> FactSet:
    return replace(facts.only(kinds), name=name)
