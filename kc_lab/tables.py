"""Tables of the book's chapter on the lab: what its world holds, which models learned it, the published points."""

from __future__ import annotations

from collections.abc import Sequence

from kc_lab import cards, world
from kc_lab.bits import PUBLISHED, SOURCE, tables_of

NO_MODELS = "There are no checkpoints here; `kc lab train --all` makes them.\n"


def world_table() -> str:
    """The taught relations with their answers, bits, first template and facts; below it how often training states a fact."""
    taught, plan, people = world.taught(1), world.plan(1), world.people(1)
    bits = tables_of(people)
    rows = []
    for relation, group in taught.by_relation().items():
        kind = taught.relations[relation]
        rows.append(
            {
                "relation": kind.label,
                "first template": kind.templates[0].replace("[X]", "\\[X\\]").replace("[Y]", "\\[Y\\]"),
                "type": kind.type,
                "facts": f"{len(group):,}",
                "answers to choose from": len(kind.answer_space),
                "bits per fact": f"{bits[relation].entropy:.2f}" if relation in bits else "not counted",
            }
        )
    counts = [plan[fact.id].exposures for fact in people.facts]
    shown = [len(plan[fact.id].shown) for fact in people.facts]
    hidden = world.held_out(1)
    held = [len(hidden[fact.id]) for fact in people.facts]
    enters = sorted({plan[fact.id].enters for fact in people.facts})
    names, strangers = (len({fact.subject for fact in part.facts}) for part in (people, world.strangers()))
    total = sum(table.facts * table.entropy for table in bits.values())
    return (
        _table(rows) + f"\n\nThe facts about {names:,} people carry {total:,.0f} bits in all. Training states each of them "
        f"{sum(counts) / len(counts):.0f} times on average, between {min(counts)} and {max(counts):,} times; a third of the "
        f"people each enter at {', '.join(f'{100 * e:.0f}' for e in enters[:-1])} and {100 * enters[-1]:.0f} per cent of "
        f"training. Of the templates of a fact {_span(shown)} are shown and {_span(held)} held out. {strangers:,} strangers "
        f"have facts of the same kinds, which no training states. The agreement rule has {len(world.unseen()):,} sentences.\n"
    )


def _span(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def models_table() -> str:
    """The checkpoints, from their cards."""
    found = cards.read_cards()
    if not found:
        return NO_MODELS
    names = list(cards.Recall.model_fields)
    rows = [
        {
            "model": f"`lab:{card['name']}`",
            "parameters": f"{card['parameters']:,}",
            "people": f"{card['people']:,}",
            "exposures of a fact": f"{card['exposures']['mean']:.0f}",
            **{name.replace("_", " "): f"{100 * card['recall'][name]['value']:.1f}" for name in names},
        }
        for card in found
    ]
    sizes = "; ".join(f"{name.replace('_', ' ')} {_span([c['recall'][name]['n'] for c in found])}" for name in names)
    return (
        _table(rows) + f"\n\nExposures: mean of facts about people. Correct answers in per cent, as on its card (n: {sizes}).\n"
    )


def published_table() -> str:
    """The published points that the bits are compared with."""
    rows = [
        {
            "point": p.name,
            "stored bits per parameter": p.stored,
            "knowledge, bits per parameter": f"{p.per_parameter:g}",
            "knowledge, bits per stored byte": f"{p.per_byte:.2g}",
        }
        for p in PUBLISHED
    ]
    return _table(rows) + f"\n\nSource: {SOURCE}; the last column is computed from the two before it.\n"


def _table(rows: Sequence[dict]) -> str:
    """Markdown of rows with the same keys."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(row.values() for row in rows)]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
