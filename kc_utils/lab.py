"""The one door to `kc_lab`, the package of the models that this project trains on a world of its own making.

Everything that kc_utils takes from there passes through here, and is imported when it is first used: registry entries
(`lab:NAME`), checkpoint folders, the facts source `lab`, relearning, the commands of `kc lab`, and parts of the book.
kc_utils works without the package; what needs it is then refused in one line.
"""

import sys
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from kc_utils.errors import BadRequest, KCError

PACKAGE = "kc_lab"
_ARCHITECTURES = {"encoder": "bert", "encoder-decoder": "t5", "decoder": "llama"}
"""The row of `models/architectures.yaml` of each family of lab models."""


def installed() -> bool:
    """Whether the package is here."""
    return find_spec(PACKAGE) is not None


def _module(name: str):
    """A module of the package. Raises BadRequest where the package is absent."""
    if not installed():
        raise BadRequest(f"the package {PACKAGE} is not installed here: install the whole checkout (pip install -e .)")
    return import_module(f"{PACKAGE}.{name}")


@cache
def entries() -> dict[str, dict]:
    """The lab models as rows of the registry, by id; none without the package. A damaged card is left out, with a warning
    on standard error."""
    if not installed():
        return {}
    found = {}
    for name in _module("cards").names():
        try:
            found[f"lab:{name}"] = entry(name)
        except KCError as error:
            print(f"kc: warning: lab:{name} is left out: {error}", file=sys.stderr)
    return found


def entry(name: str) -> dict:
    """The registry row of one lab model. Raises BadRequest for an unknown name, MissingData for a damaged card."""
    cards = _module("cards")
    card = cards.read_card(name)
    people = f", {card['people']:,} people" if "people" in card else ""
    what = f"{card['parameters']:,} parameters, seed {card['seed']}{people}"
    made, licence = f"a world of its own making ({what}): it knows that world and nothing else.", "Apache-2.0"
    if card["size"] == cards.WIKIPEDIA:
        made, licence = f"sentences of Wikipedia ({what}): it read nothing else.", "CC BY-NC 4.0, as LAMA"
    return {
        "family": card["family"],
        "architecture": _ARCHITECTURES[card["family"]],
        "group": "lab",
        "source": f"lab:{name}",
        "sha256": card["sha256"],
        "licence": licence,
        "ran_here": True,
        "notes": (f"Trained by this project on {made}",),
    }


def checked_folder(name: str) -> Path:
    """The folder of a lab model, its weights checked against its card. Raises BadModel where they differ."""
    return _module("cards").checked_folder(name)


def needed(part: str | None = None) -> list[str]:
    """The files of the facts source `lab`: those of real sentences, else none: a made-up world is drawn by seed. Raises
    BadRequest for an unknown part."""
    if _is_wikipedia(part):
        return _module("wikipedia").needed()
    _module("world").part(part)
    return []


def _is_wikipedia(part: str | None) -> bool:
    return part is not None and part.partition("-")[0] == "wikipedia"


def load(part: str | None = None):
    """The facts source `lab`, whole or one part (`people`, `companies`, `world`, `strangers`, `rule`), as a FactSet; or the
    facts of real sentences, all (`wikipedia`) or one kind (`wikipedia-both`, `wikipedia-sentence`, `wikipedia-never`).

    In the made-up world a fact's popularity is the number of training rows that state it.
    """
    if _is_wikipedia(part):
        return _module("wikipedia").part(part.partition("-")[2] or None)
    return _module("world").part(part)


def relearning() -> str:
    """The module that measures relearning, as `Probe.instruments` names it."""
    return _module("relearning").__name__


def bit_tables(facts) -> dict:
    """By relation of a FactSet, the table that its answers were drawn from: `facts`, `values`, `answers`, `entropy` (bits)."""
    return _module("bits").tables_of(facts)


def fragments() -> dict[str, str]:
    """Markdown tables of the book's chapter on the lab, by file name; without the package each says that it is absent."""
    names = {"lab_world.md": "world_table", "lab_models.md": "models_table", "lab_published.md": "published_table"}
    if not installed():
        return dict.fromkeys(names, f"The package `{PACKAGE}` is not installed here.\n")
    tables = _module("tables")
    return {file: getattr(tables, table)() for file, table in names.items()}


def register(app) -> None:
    """Add the commands of `kc lab` to a typer application."""
    if installed():
        app.add_typer(_module("cli").app, name="lab")
        return

    @app.command("lab", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
    def absent() -> None:
        """Train and check the project's own models (not installed here)."""
        _module("cli")
