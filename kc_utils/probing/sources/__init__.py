"""Sources of facts. Each is a module with `load() -> FactSet`, and `needed()`, its files, if it reads other people's; one
that has parts takes the name of one, or None, in both.

A source is named `lama`, one of its parts `lama:trex`. `-uhn` behind either leaves out facts whose subject gives the
answer away letter by letter, as in LAMA-UHN: `lama:trex-uhn`, `bear-uhn`.
"""

from collections.abc import Sequence
from functools import cache
from importlib import import_module

import pandas as pd

from kc_utils.errors import BadRequest, MissingData, listed
from kc_utils.probing.facts import FactSet
from kc_utils.probing.files import find_data, what_to_do
from kc_utils.probing.queries import Query, statements

SOURCES = {
    "worldfacts": "kc_utils.probing.sources.worldfacts",
    "lama": "kc_utils.probing.sources.lama",
    "bear": "kc_utils.probing.sources.bear",
    "pararel": "kc_utils.probing.sources.pararel",
    "popqa": "kc_utils.probing.sources.popqa",
    "lab": "kc_utils.lab",
}
WITH_PARTS = ("lama", "lab")
WITHOUT_GIVE_AWAYS = "-uhn"
CARDS = {"worldfacts": "worldfacts/worldfacts.md", "benchmarks": "benchmarks/benchmarks.md"}
"""Data cards, as `files.project_data` finds them."""


def facts(
    source: str = "worldfacts", relations: Sequence[str] | None = None, limit: int | None = None, seed: int = 0
) -> pd.DataFrame:
    """The facts of a source as a table, one row a fact.

    source     `worldfacts`, `lab`, or a benchmark such as `bear` or `lama:trex`, fetched once if need be
    relations  only these, or all
    limit      a frozen sample of so many facts, spread evenly over relations; None for all
    seed       of the sample

    Columns: id, relation, subject, answers (tuple of right answers, the main one first), statement (the first prompt template
    with the main answer), popularity (population, page views or the like; missing where unknown).
    Raises BadRequest for an unknown source or relation, MissingData where files are absent and cannot be fetched.

    >>> import kc_utils as kc
    >>> kc.facts("worldfacts", relations=["capital"], limit=2)["statement"].tolist()
    ['The capital of the Faroe Islands is Tórshavn.', 'The capital of Vanuatu is Port Vila.']
    """
    chosen = load_source(source)
    if relations is not None:
        chosen = chosen.only([relations] if isinstance(relations, str) else relations)
    chosen = chosen.sample(limit, seed)
    table = pd.DataFrame([vars(fact) for fact in chosen.facts], columns=["id", "relation", "subject", "answers"])
    table["statement"] = [Query(f, 0, statements(chosen, f)[0]).stated(f.answers[0]) for f in chosen.facts]
    table["popularity"] = pd.Series([f.popularity for f in chosen.facts], dtype="float64")
    return table


@cache
def load_source(name: str) -> FactSet:
    """The whole fact set of a source or a part of one, its files fetched if need be. Raises BadRequest for an unknown one,
    MissingData where its files are absent and cannot be fetched."""
    source, part = _split(name)
    module = import_module(SOURCES[source])
    found = module.load(*part)
    if name.endswith(WITHOUT_GIVE_AWAYS):
        from kc_utils.probing.sources.collection import without_give_aways

        found = without_give_aways(found, name)
    return found


def missing(name: str) -> str | None:
    """What to do about a source that is not on this machine, in one line; None where it is. Fetches nothing. Raises
    BadRequest for an unknown source."""
    source, part = _split(name)
    module = import_module(SOURCES[source])
    try:
        if not hasattr(module, "needed"):
            module.load()
        elif (needed := module.needed(*part)) and not find_data(needed):
            return what_to_do(needed, "they are fetched when first used")
    except MissingData as error:
        return str(error)
    return None


def _split(name: str) -> tuple[str, tuple[str | None, ...]]:
    """The source of a name, and the arguments that name its part."""
    source, colon, part = name.removesuffix(WITHOUT_GIVE_AWAYS).partition(":")
    if source not in SOURCES:
        raise BadRequest(f"unknown facts {name!r}: choose {listed(SOURCES)}, or a part such as lama:trex")
    if source in WITH_PARTS:
        return source, (part if colon else None,)
    if colon:
        raise BadRequest(f"{source} has no parts, {part!r} was given")
    return source, ()
