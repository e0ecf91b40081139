"""What became of every single fact: kept, lost, or answered by a compressed model alone; of sources that may be shown."""

from __future__ import annotations

from dataclasses import dataclass

from kc_utils.stats.names import CLOSED_BOOK, model_name, protocols_in_order, short_protocol
from kc_utils.study.cells import Cell
from kc_utils.study.store import CellResult

SHOWN = ("worldfacts", "lab")
"""Sources whose facts may be shown: those built by this project."""


@dataclass(frozen=True)
class Fates:
    """One model, one question. facts: (relation, subject, answer) each; right: recipe -> for each fact `1` where it is
    answered rightly in the first wording asked, else `0`; `none` is among the recipes."""

    model: str
    question: str
    facts: tuple[tuple[str, str, str], ...]
    right: dict[str, str]


def fates(results: dict[Cell, CellResult]) -> list[Fates]:
    """Of every model and closed-book question of the results, models of language first, largest samples first in a model."""
    groups: dict[tuple, dict[str, CellResult]] = {}
    for cell, result in results.items():
        source = (cell.probe.facts or "").partition(":")[0]
        if source in SHOWN and not cell.probe.shots and cell.baseline in results:
            groups.setdefault((cell.model, cell.probe), {})[cell.recipe] = result
    found = []
    for (model, probe), by_recipe in groups.items():
        for protocol in protocols_in_order(set(probe.protocols) & set(CLOSED_BOOK)):
            answers = {recipe: _right(result, protocol) for recipe, result in by_recipe.items()}
            asked = [fact for fact in probe.factset().facts if all(fact.id in mine for mine in answers.values())]
            if not asked or set(answers) == {"none"}:
                continue
            relations = probe.factset().relations
            found.append(
                Fates(
                    model_name(model),
                    f"{probe.facts}, {short_protocol(protocol)}, {len(asked)} facts",
                    tuple((relations[f.relation].label, f.subject, f.answers[0]) for f in asked),
                    {recipe: "".join("01"[mine[f.id]] for f in asked) for recipe, mine in answers.items()},
                )
            )
    return _merged(found)


def _right(result: CellResult, protocol: str) -> dict[str, bool]:
    rows = result.rows[result.rows["protocol"] == protocol]
    rows = rows.sort_values("template", kind="stable").drop_duplicates("fact")
    return dict(zip(rows["fact"], rows["correct"].astype(bool), strict=True))


def _merged(found: list[Fates]) -> list[Fates]:
    """Runs that asked the same model the same facts are one question."""
    merged: dict[tuple, Fates] = {}
    for one in found:
        key = (one.model, one.question, one.facts)
        merged[key] = Fates(*key, {**merged[key].right, **one.right}) if key in merged else one
    in_lab = lambda one: one.model.startswith("lab:")  # noqa: E731
    return sorted(merged.values(), key=lambda one: (in_lab(one), one.model, -len(one.facts), -len(one.right)))
