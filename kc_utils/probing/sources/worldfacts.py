"""`worldfacts`: real facts about countries, cities, elements, currencies and languages.

The list is one file, data/worldfacts/worldfacts.jsonl. Its card, worldfacts.md beside it, names sources, licences, counts and
known errors; `make data` builds it anew from five PyPI packages. Its hash is pinned here.
"""

from __future__ import annotations

import json
from functools import cache

from kc_utils.errors import MissingData
from kc_utils.probing.facts import Fact, FactSet, Relation
from kc_utils.probing.files import project_data

NAME = "worldfacts"
SHA256 = "d0eaf9b80641b8fe4333488b9effa11e3397cdf0d8da4f13f567863f4dcb8e13"
"""Hash of the frozen list (`FactSet.sha256`)."""


@cache
def load() -> FactSet:
    """The frozen facts. Raises MissingData where their file is absent, cut, or not the one that was frozen."""
    path = project_data("worldfacts/worldfacts.jsonl")
    try:
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        filters = records[0]["filters"]
        relations = {r["id"]: _made(Relation, r) for r in records if r["kind"] == "relation"}
        facts = tuple(_made(Fact, r) for r in records if r["kind"] == "fact")
        factset = FactSet(NAME, relations, facts, filters)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise MissingData(f"{path} is damaged ({type(error).__name__}: {error}): restore it from the repository") from error
    if factset.sha256 != SHA256:
        raise MissingData(
            f"{path} has hash {factset.sha256[:16]}..., the frozen list {SHA256[:16]}...: restore it from the repository"
        )
    return factset


def _made(kind: type, record: dict):
    """A Relation or Fact from its record: lists become tuples, an absent `wikidata` is None."""
    fields = {name: tuple(value) if isinstance(value, list) else value for name, value in record.items()}
    del fields["kind"]
    return kind(**({"wikidata": None, "templates": (), "answer_space": ()} if kind is Relation else {}) | fields)
