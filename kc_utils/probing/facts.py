"""Facts as records: every source gives them, every protocol scores them.

The record follows LAMA (Petroni et al. 2019): a subject, a relation with templates in which `[X]` stands for the
subject and `[Y]` for the answer, and one or more right answers.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cache, cached_property

from kc_utils.errors import BadRequest, listed

RELATION_TYPES = ("1-1", "N-1", "N-M", "other")


@dataclass(frozen=True)
class Relation:
    """A kind of fact.

    id            short name, e.g. `capital`
    label         for figures and tables, e.g. `capital`
    wikidata      property id such as `P36`, or None
    type          `1-1`, `N-1` or `N-M`, as in LAMA, or `other` where the source says none
    templates     sentences holding `[X]` and `[Y]` once each; none where every fact brings its own statement
    answer_space  every answer a closed set may be drawn from, canonical spellings, sorted
    """

    id: str
    label: str
    wikidata: str | None
    type: str
    templates: tuple[str, ...]
    answer_space: tuple[str, ...]

    def __post_init__(self):
        if self.type not in RELATION_TYPES:
            raise BadRequest(f"relation {self.id}: type {self.type!r} is not one of {listed(RELATION_TYPES)}")
        for template in self.templates:
            if template.count("[X]") != 1 or template.count("[Y]") != 1:
                raise BadRequest(f"relation {self.id}: template {template!r} must hold [X] and [Y] once each")


@dataclass(frozen=True)
class Fact:
    """One fact.

    answers        the right answers in canonical spelling, the main one first
    aliases        further spellings that count as right too
    popularity     population, page views or the like, ranks head and tail; None where unknown
    statement      a sentence of this fact's own, with `[Y]` where the answer stands: it takes the templates' place
    other_answers  answers to another fact with the same subject: no right answers here, and never offered as wrong ones
    subject_id, answer_id  Wikidata's ids, where the source gives them
    """

    id: str
    relation: str
    subject: str
    answers: tuple[str, ...]
    aliases: tuple[str, ...] = ()
    popularity: float | None = None
    statement: str | None = None
    other_answers: tuple[str, ...] = ()
    subject_id: str | None = None
    answer_id: str | None = None

    def __post_init__(self):
        if self.statement is not None and (self.statement.count("[Y]") != 1 or "[X]" in self.statement):
            raise BadRequest(f"{self.id}: statement {self.statement!r} must hold [Y] once and no [X]")

    @property
    def accepted(self) -> tuple[str, ...]:
        """Every spelling that counts as right, without repetition, canonical ones first."""
        return tuple(dict.fromkeys(self.answers + self.aliases))

    @property
    def not_wrong(self) -> set[str]:
        """In lower case, what is never offered as a wrong answer: every accepted one, and those of its subject's other facts."""
        return {answer.casefold() for answer in self.accepted + self.other_answers}


_OPTIONAL = {"statement": None, "other_answers": (), "subject_id": None, "answer_id": None}


def _record(fact: Fact) -> dict:
    """The fields that a fact's hash covers: those that are set, so that a new kind of field alters no old list."""
    return {k: v for k, v in vars(fact).items() if k not in _OPTIONAL or v != _OPTIONAL[k]}


def fill(template: str, subject: str) -> str:
    """The template with its subject, which takes a capital where it opens the sentence. `[Y]` stays."""
    if template.startswith("[X]"):
        subject = subject[:1].upper() + subject[1:]
    return template.replace("[X]", subject)


@dataclass(frozen=True)
class FactSet:
    """A frozen list of facts with its relations.

    filters  names and counts of the facts left out
    files    the hash of each set of files that it was read from, by name; not part of the list's own hash
    sets     fact id -> the facts whose answers it is ranked against, where `in_sets` formed them; else None
    """

    name: str
    relations: dict[str, Relation]
    facts: tuple[Fact, ...]
    filters: dict[str, int] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    sets: dict[str, tuple[Fact, ...]] | None = None

    def __post_init__(self):
        unknown = {f.relation for f in self.facts} - set(self.relations)
        if unknown:
            raise BadRequest(f"{self.name}: facts of unknown relations {listed(sorted(unknown))}")
        if len({f.id for f in self.facts}) != len(self.facts):
            raise BadRequest(f"{self.name}: fact ids repeat")

    def __len__(self) -> int:
        return len(self.facts)

    @cached_property
    def sha256(self) -> str:
        """Hash of every fact and relation in order: two equal hashes are the same items in the same templates."""
        record = [[vars(self.relations[r]) for r in sorted(self.relations)], [_record(f) for f in self.facts]]
        text = json.dumps(record, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def by_relation(self) -> dict[str, list[Fact]]:
        groups: dict[str, list[Fact]] = defaultdict(list)
        for fact in self.facts:
            groups[fact.relation].append(fact)
        return dict(groups)

    def only(self, relations: Iterable[str]) -> FactSet:
        """The facts of these relations, in the same order."""
        wanted = list(dict.fromkeys(relations))
        unknown = [r for r in wanted if r not in self.relations]
        if unknown:
            raise BadRequest(f"{self.name} has no relation {listed(unknown)}; it has {listed(sorted(self.relations), 40)}")
        kept = tuple(f for f in self.facts if f.relation in wanted)
        return replace(self, relations={r: self.relations[r] for r in wanted}, facts=kept)

    def sample(self, limit: int | None, seed: int = 0) -> FactSet:
        """A frozen sample of `limit` facts, as equal a number from each relation as its size allows, drawn by a seed and by
        fact id alone, so that adding a relation does not reshuffle the others."""
        if limit is None or limit >= len(self.facts):
            return self
        if limit < 1:
            raise BadRequest(f"limit must be at least 1, got {limit}")
        return self._sample(limit, seed)

    @cached_property
    def _sample(self) -> Callable[[int, int], FactSet]:
        return cache(self._drawn)  # a study of many models needs the same sample over and over

    def _drawn(self, limit: int, seed: int) -> FactSet:
        groups = self.by_relation()
        share = _equal_shares({r: len(f) for r, f in groups.items()}, limit)
        order = lambda f: hashlib.sha256(f"{seed}/{f.id}".encode()).hexdigest()  # noqa: E731
        chosen = {f.id for relation, facts in groups.items() for f in sorted(facts, key=order)[: share[relation]]}
        return replace(self, facts=tuple(f for f in self.facts if f.id in chosen))

    def in_sets(self, size: int, seed: int = 0) -> FactSet:
        """The same facts, put by seed into sets of `size` facts of one relation, each ranked among the main answers of its set.

        No answer of a set is right for two of its facts. A model that ignores the subject gets one fact of each set right,
        whatever answers it prefers. A set takes the answers of which most facts are left, and fewer where no more go
        together; a fact that finds no other is in no set.
        """
        sets = {}
        for relation, facts in self.by_relation().items():
            left: dict[str, list[Fact]] = defaultdict(list)
            draw = random.Random(f"{seed}/{relation}/sets")
            for fact in draw.sample(facts, len(facts)):
                left[fact.answers[0].casefold()].append(fact)
            while left:
                chosen: dict[str, Fact] = {}
                for answer in sorted(left, key=lambda a: -len(left[a])):
                    found = next((fact for fact in left[answer] if fact.not_wrong.isdisjoint(chosen)), None)
                    if found and not any(answer in other.not_wrong for other in chosen.values()):
                        chosen[answer] = found
                    if len(chosen) == size:
                        break
                for answer, fact in chosen.items():
                    left[answer].remove(fact)
                    if not left[answer]:
                        del left[answer]
                    others = [other for other in chosen.values() if other is not fact]
                    sets[fact.id] = tuple(draw.sample(others, len(others)))
        return replace(self, sets={id: others for id, others in sets.items() if others})

    def alternatives(self, fact: Fact, count: int | str, seed: int = 0) -> tuple[str, ...]:
        """Up to `count` wrong answers for a closed-set question, drawn from the relation's answer space by seed and
        fact id, or all of them for "all", in the answer space's order. Fewer where the answer space has no more to offer,
        so that chance differs between relations; none where it holds right answers alone. With `sets`, the answers of its
        set, whatever count and seed.
        """
        if self.sets is not None:
            return tuple(other.answers[0] for other in self.sets.get(fact.id, ()))
        accepted = fact.not_wrong
        space = [a for a in self.relations[fact.relation].answer_space if a.casefold() not in accepted]
        if count == "all":
            return tuple(space)
        return tuple(random.Random(f"{seed}/{fact.id}").sample(space, min(int(count), len(space))))


def _equal_shares(sizes: dict[str, int], total: int) -> dict[str, int]:
    """Split `total` over groups as evenly as their sizes allow (largest equal share; remainders by name order)."""
    share = dict.fromkeys(sizes, 0)
    left = total
    while left > 0:
        open_groups = [g for g in sorted(sizes) if share[g] < sizes[g]]
        step = max(1, left // len(open_groups))
        for group in open_groups:
            take = min(step, sizes[group] - share[group], left)
            share[group] += take
            left -= take
            if left == 0:
                break
    return share
