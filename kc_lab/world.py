"""The controlled world: its people, companies and cities, the facts about them, and the plan by which training states them.

After the synthetic biographies of Allen-Zhu and Li, "Physics of Language Models", parts 3.1 (arXiv 2309.14316) and 3.3
(2404.05405): every value is drawn uniformly and independently from a closed table, so that what there is to know can be
counted in bits. Three hundred people for each unit of load have six attributes; companies have a headquarters, each city is
that of one company; three relations of worldfacts stand beside them. Names are put together from syllables by seed; none is
taken from a list of real names, and none stands in two tables.

The plan of a fact (`plan`):

    exposures  how many training rows state the fact; a Zipf law over people by rank, exponent EXPONENT. A larger load is
               stated in as many rows, so that each of its people has fewer. At equal loads (`loads.py`) each fact has as many
    enters     when it is first stated, as a fraction of training: a third of the people each at 0, 0.25 and 0.5
    shown      its templates in training: all but one, which is drawn for each subject and relation and is never the first;
               that one is held out for this fact and shown for other subjects

The rule is a skill that takes no knowledge: subject and verb agree in number, whatever noun stands between them ("The lantern
behind the rivers glows"). One in five pairs of nouns never stands together in training; `unseen` queries those.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources

import yaml

from kc_lab.loads import MOST_LOAD, PEOPLE, Load, sources
from kc_utils.errors import BadRequest, listed
from kc_utils.probing.facts import Fact, FactSet, Relation

WORDS: dict = yaml.safe_load(resources.files("kc_lab").joinpath("words.yaml").read_text(encoding="utf-8"))
KINDS = tuple(WORDS["sizes"])
"""Tables of names: `first` and `last` names of people, `city`, `company`, `language`."""
MONTHS, FIELDS = tuple(WORDS["months"]), tuple(WORDS["fields"])
YEARS = tuple(str(year) for year in range(WORDS["years"][0], WORDS["years"][1] + 1))
NOUNS, VERBS, BETWEEN = (tuple(WORDS[kind]) for kind in ("nouns", "verbs", "between"))

STRANGERS = 150
"""People whom no training states anything about; they are queried with the fact stated first."""
REAL = ("capital", "continent", "element_symbol")
"""Relations of worldfacts that are taught besides."""
EXPOSURES = 240
"""Mean number of training rows of a fact, at a load of 1."""
EXPONENT = 0.5
ENTERS = (0.0, 0.25, 0.5)
SENTENCES = 25
"""Queried sentences of the rule for each verb."""
_VALUES = {
    "birth_month": MONTHS, "birth_year": YEARS, "birthplace": "city", "employer": "company", "field": FIELDS,
    "language": "language",
}  # fmt: skip
ABOUT_PEOPLE = tuple(_VALUES)


@dataclass(frozen=True)
class Plan:
    """How training states one fact: see the module."""

    exposures: int
    enters: float
    shown: tuple[int, ...]


@cache
def table(kind: str) -> tuple[str, ...]:
    """The names of one of KINDS, drawn in order without repetition, and without those of the kinds before."""
    taken = {name for other in KINDS[: KINDS.index(kind)] for name in table(other)}
    draw, found = random.Random(f"lab/{kind}"), []
    while len(found) < WORDS["sizes"][kind]:
        middle = draw.choice(WORDS["onsets"]) + draw.choice(WORDS["vowels"]) + draw.choice(WORDS["codas"])
        begun = draw.choice((middle, draw.choice(WORDS["vowels"][:5]) + middle))
        name = (begun + draw.choice(WORDS["endings"][kind])).capitalize()
        if name not in taken:
            taken.add(name)
            found.append(name)
    return tuple(found)


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
def _full_names() -> tuple[str, ...]:
    """Every full name there can be, in an order drawn once: people from the front, strangers from the back."""
    names = [f"{first} {last}" for first in table("first") for last in table("last")]
    random.Random("lab/people").shuffle(names)
    return tuple(names)


def strangers_for_training() -> tuple[str, ...]:
    """Full names that belong neither to people of any load nor to the strangers that are queried."""
    return _full_names()[MOST_LOAD * PEOPLE : -STRANGERS]


@cache
def people(load: int | Load = 1) -> FactSet:
    """Six facts about each person of a load. A larger load holds the people of a smaller one. Raises BadRequest as `Load.of`."""
    return _about(_full_names()[: Load.of(load).people], "lab:people", "p")


@cache
def strangers() -> FactSet:
    """Facts of the same kinds about people whom no training states anything about."""
    return _about(_full_names()[-STRANGERS:], "lab:strangers", "s")


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
    """Facts of worldfacts that are taught, in the templates that name the subject before the answer."""
    from kc_utils.probing.sources import load_source

    facts = load_source("worldfacts").only(REAL)
    kinds = {
        name: replace(r, templates=tuple(t for t in r.templates if t.index("[X]") < t.index("[Y]")))
        for name, r in facts.relations.items()
    }
    return replace(facts, name="lab:world", relations=kinds)


@cache
def taught(load: int | Load = 1) -> FactSet:
    """All facts that training states at this load, with the number of exposures as each fact's popularity."""
    parts = _parts(load)
    kinds = {name: relation for part in parts for name, relation in part.relations.items()}
    facts = (fact for part in parts for fact in part.facts)
    facts = tuple(replace(fact, popularity=float(_plan(load)[fact.id].exposures)) for fact in facts)
    return FactSet("lab", kinds, facts)


def _parts(load: int | Load) -> tuple[FactSet, ...]:
    return (people(load), companies(), *([real()] if Load.of(load).by_law else []))


def plan(load: int | Load = 1) -> dict[str, Plan]:
    """How training states each fact of `taught(load)`, by its id."""
    return dict(_plan(load))


@cache
def _plan(load: int | Load) -> dict[str, Plan]:
    found, load = {}, Load.of(load)
    for part in _parts(load):
        for group in _ranked(part):
            mean = EXPOSURES * PEOPLE / load.people if part.name == "lab:people" else EXPOSURES
            counts = _zipf(len(group), mean) if load.by_law else [load.exposures] * len(group)
            for rank, subject in enumerate(group):
                enters = random.Random(f"lab/enters/{rank // len(ENTERS)}/{part.name}").sample(ENTERS, len(ENTERS))
                for fact in subject:
                    templates = len(part.relations[fact.relation].templates)
                    others = random.Random(f"lab/shown/{fact.id}").sample(range(1, templates), templates - 2)
                    found[fact.id] = Plan(counts[rank], enters[rank % len(ENTERS)], (0, *sorted(others)))
    return found


def _ranked(part: FactSet) -> list[list[list[Fact]]]:
    """Groups within which a Zipf law holds; in each, subjects from the most exposed to the least, with their facts. People
    are ranked by a draw, facts of worldfacts by their popularity within their relation."""
    if part.name != "lab:world":
        subjects: dict[str, list[Fact]] = {}
        for fact in part.facts:
            subjects.setdefault(fact.subject, []).append(fact)
        names = sorted(subjects)
        random.Random(f"lab/ranks/{part.name}/{len(names)}").shuffle(names)
        return [[subjects[name] for name in names]]
    groups = part.by_relation().values()
    return [[[f] for f in sorted(group, key=lambda f: (-(f.popularity or 0.0), f.id))] for group in groups]


def _zipf(count: int, mean: float) -> list[int]:
    """Exposures by rank: proportional to rank ** -EXPONENT, `mean` on average."""
    weights = [(rank + 1) ** -EXPONENT for rank in range(count)]
    scale = mean * count / sum(weights)
    return [max(1, round(scale * w)) for w in weights]


def held_out(load: int | Load = 1) -> dict[str, tuple[int, ...]]:
    """By fact id, the templates that training never shows it in."""
    facts = taught(load)
    every = {name: set(range(len(r.templates))) for name, r in facts.relations.items()}
    return {f.id: tuple(sorted(every[f.relation] - set(_plan(load)[f.id].shown))) for f in facts.facts}


@cache
def world_hash(load: int | Load = 1) -> str:
    """SHA-256 of all facts, their templates and their plans."""
    plans = [[id, p.exposures, p.enters, p.shown] for id, p in _plan(load).items()]
    text = json.dumps([taught(load).sha256, strangers().sha256, plans], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def part(name: str | None) -> FactSet:
    """A part of the world by name, as the fact source `lab:NAME` offers it; `people-x4` are the people of load 4 by the law,
    `people-e10` those of the equal load 10. Raises BadRequest for an unknown one.
    """
    people_of = sources()
    if name in people_of:
        return replace(taught(people_of[name]).only(ABOUT_PEOPLE), name=f"lab:{name}")
    others = {
        None: lambda: taught(1),
        "companies": lambda: replace(taught(1).only(("headquarters",)), name="lab:companies"),
        "world": lambda: replace(taught(1).only(REAL), name="lab:world"),
        "strangers": strangers,
        "rule": unseen,
    }
    if name not in others:
        raise BadRequest(f"lab has no part {name!r}: choose {listed([*filter(None, others), *people_of], 20)}")
    return others[name]()


def _sentence(noun: str, plural: bool, between: str, other: str, others: bool) -> str:
    return f"The {noun}{'s' * plural} {between} the {other}{'s' * others}"


@cache
def _noun_pairs(seen: bool) -> tuple[tuple[str, str], ...]:
    """Pairs of different nouns, in an order drawn once: four in five for training, the others unseen there."""
    pairs = [(a, b) for a in NOUNS for b in NOUNS if a != b]
    random.Random("lab/rule").shuffle(pairs)
    cut = len(pairs) * 4 // 5
    return tuple(pairs[:cut] if seen else pairs[cut:])


def sentences(count: int, seed: str) -> Iterator[tuple[str, str]]:
    """`count` training sentences of the rule: the text before the verb, and the verb."""
    draw = random.Random(f"lab/rule/{seed}")
    for _ in range(count):
        noun, other = draw.choice(_noun_pairs(True))
        plural = draw.random() < 0.5
        verb = draw.choice(VERBS)
        yield _sentence(noun, plural, draw.choice(BETWEEN), other, draw.random() < 0.5), verb + "s" * (not plural)


@cache
def unseen() -> FactSet:
    """Sentences with pairs of nouns that never stand together in training, of which the other noun has the other number.

    Each verb is a relation of its own whose closed set is its two forms, so that chance is one half.
    """
    kinds, facts, seen = {}, [], set()
    for verb in VERBS:
        name, draw = f"agreement_{verb}", random.Random(f"lab/rule/asked/{verb}")
        kinds[name] = Relation(name, f"agreement of “{verb}”", None, "other", (), (verb, f"{verb}s"))
        while sum(f.relation == name for f in facts) < SENTENCES:
            noun, other = draw.choice(_noun_pairs(False))
            plural = draw.random() < 0.5
            text = _sentence(noun, plural, draw.choice(BETWEEN), other, not plural)
            if (text, verb) not in seen:
                seen.add((text, verb))
                answer = verb + "s" * (not plural)
                facts.append(Fact(f"r/{verb}/{len(facts):03d}", name, "", (answer,), statement=f"{text} [Y]."))
    return FactSet("lab:rule", kinds, tuple(facts))
