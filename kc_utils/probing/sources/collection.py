"""Reading records, counting what is left out, and making one list of it all: the shared part of the benchmark sources."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import yaml

from kc_utils.errors import MissingData
from kc_utils.probing.download import fileset_sha256
from kc_utils.probing.facts import Fact, FactSet, Relation
from kc_utils.probing.files import data_files


class Collection:
    """Facts of a source, relation by relation, with the reasons for what was left out."""

    def __init__(self, name: str):
        self.name = name
        self.facts: list[Fact] = []
        self.dropped: Counter[tuple[str, str]] = Counter()
        self.files: dict[str, str] = {}
        self._relations: dict[str, Relation] = {}
        self._seen: set = set()
        self._ids: Counter[str] = Counter()

    def add_relation(self, id, label, wikidata, type, templates: Iterable[str], answer_space=()) -> None:
        self._relations[id] = Relation(id, label, wikidata, type, tuple(templates), tuple(answer_space))

    def add(self, fact: Fact, once: tuple | None = None, why: str = "duplicate_fact") -> None:
        """Keep a fact, unless one with the same `once` was kept before it; `why` is the filter that this counts for. LAMA gives
        one id to several sentences: the second keeps it as `<id>/2`."""
        if once is not None:
            if once in self._seen:
                return self.drop(fact.relation, why)
            self._seen.add(once)
        self._ids[fact.id] += 1
        number = self._ids[fact.id]
        self.facts.append(fact if number == 1 else replace(fact, id=f"{fact.id}/{number}"))

    def drop(self, relation: str, reason: str, count: int = 1) -> None:
        self.dropped[relation, reason] += count

    def read(self, source: str, names: Sequence[str], known: str | None) -> list[Path]:
        """The files of a source, their hash noted; a set of files other than the known one is used, with a warning."""
        paths = data_files(names)
        root = Path(str(paths[0])[: -len(names[0])])
        found = self.files[source] = fileset_sha256(root, names)
        if known not in (None, found):
            warnings.warn(
                f"{source} under {root} is not the set of files that this study's counts were made from (hash {found[:16]}..., "
                f"known {known[:16]}...): the facts may differ; results carry the hash of their facts",
                stacklevel=2,
            )
        return paths

    def factset(self, space_over: Callable[[str], str] = lambda relation: relation) -> FactSet:
        """The list. Answer spaces that were not given are the answers of all facts in the same group of relations
        (`space_over` names a relation's group), and facts of one subject list each other's answers."""
        spaces, by_subject = defaultdict(set), defaultdict(dict)
        for fact in self.facts:
            spaces[space_over(fact.relation)].update(fact.answers)
            by_subject[_subject(fact)].update(dict.fromkeys(fact.answers))
        relations = {
            id: relation if relation.answer_space else replace(relation, answer_space=tuple(sorted(spaces[space_over(id)])))
            for id, relation in self._relations.items()
        }
        facts = [_aware_of(fact, by_subject[_subject(fact)]) for fact in self.facts]
        filters: Counter[str] = Counter()
        for (_, reason), count in self.dropped.items():
            filters[reason] += count
        return FactSet(self.name, relations, tuple(facts), dict(sorted(filters.items())), dict(self.files))


def _aware_of(fact: Fact, answers: dict[str, None]) -> Fact:
    """The fact, with those of its subject's answers that belong to another fact."""
    if len(answers) == 1 or not fact.subject:
        return fact
    accepted = set(fact.accepted)
    others = tuple(a for a in answers if a not in accepted)
    return replace(fact, other_answers=others) if others else fact


def _subject(fact: Fact) -> tuple[str, str]:
    return fact.relation, fact.subject.casefold()


def without_give_aways(facts: FactSet, name: str) -> FactSet:
    """The facts whose subject does not hold the answer, letter by letter and regardless of case.

    The string-match filter of LAMA-UHN (Poerner et al. 2020). Its second filter, BERT's guess of a language or place from a
    person's name, is not applied: it would make the list depend on one of the models that are studied.
    """
    kept, filters = [], Counter(facts.filters)
    for fact in facts.facts:
        subject, answer = fact.subject.lower(), fact.answers[0].lower()
        if answer == subject:
            filters["subject_is_answer"] += 1
        elif answer in subject:
            filters["answer_in_subject"] += 1
        else:
            kept.append(fact)
    return replace(facts, name=name, facts=tuple(kept), filters=dict(sorted(filters.items())))


def text(record: dict, key: str, path: Path) -> str:
    """A text that a record must have. Raises MissingData where it has none."""
    value = record.get(key)
    if not isinstance(value, str) or not value.strip():
        raise MissingData(f"{path}: a record lacks {key!r} ({str(record)[:80]}...): this is not the expected file")
    return value


@cache
def properties() -> dict[str, dict[str, str]]:
    """Label, and LAMA's type where it has one, of each Wikidata property that a source here may name."""
    return yaml.safe_load(Path(__file__).with_name("properties.yaml").read_text(encoding="utf-8"))
