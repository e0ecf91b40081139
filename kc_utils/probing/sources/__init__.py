"""Where facts come from. Each source is a module with `load(part) -> FactSet`.

A source is named `lama`, one of its parts `lama:trex`. `-uhn` behind either leaves out facts whose subject gives the
answer away letter by letter, as in LAMA-UHN: `lama:trex-uhn`, `bear-uhn`.
"""

from functools import cache
from importlib import import_module

from kc_utils.errors import BadRequest, MissingData, listed
from kc_utils.probing.facts import FactSet

SOURCES = {
    "worldfacts": "kc_utils.probing.sources.worldfacts",
    "lama": "kc_utils.probing.sources.lama",
    "bear": "kc_utils.probing.sources.bear",
    "pararel": "kc_utils.probing.sources.pararel",
    "popqa": "kc_utils.probing.sources.popqa",
    "lab": "kc_utils.lab",
}
WITHOUT_GIVE_AWAYS = "-uhn"


@cache
def load_source(name: str) -> FactSet:
    """The whole fact set of a source or a part of one, its files fetched if need be.

    Raises BadRequest for an unknown one, MissingData where its files are absent and cannot be fetched.
    """
    source, part = _split(name)
    module = import_module(SOURCES[source])
    facts = module.load(part) if hasattr(module, "needed") else module.load()
    if name.endswith(WITHOUT_GIVE_AWAYS):
        from kc_utils.probing.sources.collection import without_give_aways

        facts = without_give_aways(facts, name)
    return facts


def missing(name: str) -> str | None:
    """What to do about a source that is not on this machine, in one line; None where it is. Fetches nothing.

    Raises BadRequest for an unknown source.
    """
    from kc_utils.probing.files import find_data, what_to_do

    source, part = _split(name)
    module = import_module(SOURCES[source])
    try:
        if hasattr(module, "needed"):
            needed = module.needed(part)
            return (
                None if not needed or find_data(needed) else what_to_do(needed, "they are fetched when first asked for")
            )
        module.load()
    except MissingData as error:
        return str(error)
    return None


def _split(name: str) -> tuple[str, str | None]:
    source, colon, part = name.removesuffix(WITHOUT_GIVE_AWAYS).partition(":")
    if source not in SOURCES:
        raise BadRequest(f"unknown facts {name!r}: choose {listed(SOURCES)}, or a part such as lama:trex")
    if colon and not hasattr(import_module(SOURCES[source]), "needed"):
        raise BadRequest(f"{source} has no parts, {part!r} was asked for")
    return source, part if colon else None
