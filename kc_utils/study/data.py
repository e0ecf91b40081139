"""Which benchmark files a study needs, and whether they are here: before anything is loaded or fetched."""

from __future__ import annotations

from collections.abc import Iterable

from kc_utils.errors import MissingData
from kc_utils.probing.files import find_data, what_to_do
from kc_utils.probing.harness.local import FILES
from kc_utils.probing.perplexity import TEXTS
from kc_utils.probing.sources import missing


def absent(parameters: Iterable[dict]) -> dict[str, str]:
    """What is asked and not here, by name (`lama:trex`, `boolq`, `wikitext2`), each with what to do about it.

    parameters: of runs, as written: `facts`, `tasks`, `text`. Raises BadRequest for unknown facts.
    """
    found: dict[str, str] = {}
    parameters = list(parameters)
    for source in dict.fromkeys(facts for p in parameters if isinstance(facts := p.get("facts"), str)):
        if why := missing(source):
            found[source] = why
    files = {task: FILES[task] for p in parameters for task in p.get("tasks") or () if task in FILES}
    files |= {text: (TEXTS[text],) for p in parameters if (text := p.get("text")) in TEXTS}
    for name, needed in files.items():
        if find_data(needed) is None:
            found[name] = what_to_do(needed)
    return found


def check_data(study: str, parameters: Iterable[dict]) -> None:
    """Raises MissingData in one line where a study asks what is not on this machine."""
    found = absent(parameters)
    if found:
        name, why = next(iter(found.items()))
        others = f" (and {len(found) - 1} more: {', '.join(list(found)[1:])})" if len(found) > 1 else ""
        raise MissingData(f"study {study} asks {name}{others}, not on this machine: {why}")
