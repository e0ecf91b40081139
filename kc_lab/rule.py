"""A skill that takes no knowledge: subject and verb agree in number, whatever noun stands between them.

"The lantern behind the rivers glows." Half of the sentences have a noun of the other number next to the verb. One in five
pairs of nouns never stands together in training; `unseen` asks about those, each verb as a relation of its own whose closed
set is its two forms, so that chance is one half.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache

from kc_lab.names import WORDS
from kc_utils.probing.facts import Fact, FactSet, Relation

NOUNS, VERBS, BETWEEN = (tuple(WORDS[kind]) for kind in ("nouns", "verbs", "between"))
ASKED = 25
"""Sentences asked of each verb."""


def _sentence(noun: str, plural: bool, between: str, other: str, others: bool) -> str:
    return f"The {noun}{'s' * plural} {between} the {other}{'s' * others}"


@cache
def _pairs() -> tuple[tuple[str, str], ...]:
    """Pairs of different nouns, in an order drawn once: those of training first."""
    pairs = [(a, b) for a in NOUNS for b in NOUNS if a != b]
    random.Random("lab/rule").shuffle(pairs)
    return tuple(pairs)


def _cut() -> int:
    return len(_pairs()) * 4 // 5


def sentences(count: int, seed: str) -> Iterator[tuple[str, str]]:
    """`count` sentences of training: what stands before the verb, and the verb."""
    draw = random.Random(f"lab/rule/{seed}")
    for _ in range(count):
        noun, other = draw.choice(_pairs()[: _cut()])
        plural = draw.random() < 0.5
        verb = draw.choice(VERBS)
        yield _sentence(noun, plural, draw.choice(BETWEEN), other, draw.random() < 0.5), verb + "s" * (not plural)


@cache
def unseen() -> FactSet:
    """Sentences about pairs of nouns that never stand together in training."""
    kinds, facts, told = {}, [], set()
    for verb in VERBS:
        name, draw = f"agreement_{verb}", random.Random(f"lab/rule/asked/{verb}")
        kinds[name] = Relation(name, f"agreement of “{verb}”", None, "other", (), (verb, f"{verb}s"))
        while sum(f.relation == name for f in facts) < ASKED:
            noun, other = draw.choice(_pairs()[_cut() :])
            plural = draw.random() < 0.5
            # the other noun has the other number: copying the number of the nearest one is wrong
            text = _sentence(noun, plural, draw.choice(BETWEEN), other, not plural)
            if (text, verb) not in told:
                told.add((text, verb))
                id = f"r/{verb}/{len(facts):03d}"
                facts.append(Fact(id, name, "", (verb + "s" * (not plural),), statement=f"{text} [Y]."))
    return FactSet("lab:rule", kinds, tuple(facts))
