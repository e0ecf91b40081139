"""Where facts come from. Each source is a module with `load() -> FactSet`."""

from functools import cache
from importlib import import_module

from kc_utils.errors import BadRequest, listed
from kc_utils.knowledge.facts import FactSet

SOURCES = {"worldfacts": "kc_utils.knowledge.sources.worldfacts"}


@cache
def load_source(name: str) -> FactSet:
    """The whole fact set of a source. Raises BadRequest for an unknown one, MissingData where its files are absent."""
    if name not in SOURCES:
        raise BadRequest(f"unknown facts {name!r}: choose {listed(SOURCES)}")
    return import_module(SOURCES[name]).load()
