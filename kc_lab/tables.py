"""Pieces of the chapter on the lab that are computed: what its world holds, and which models learned it."""

from __future__ import annotations

from kc_lab import cards as lab_models
from kc_lab import rule, world
from kc_lab.bits import tables_of
from kc_lab.bits_by_model import PUBLISHED, SOURCE
from kc_utils.probing.facts import FactSet
from kc_utils.report.markdown import markdown_table

NO_MODELS = "There are no checkpoints here; `kc lab train --all` makes them.\n"


def world_table() -> str:
    """What is taught: relations with their answers, their bits, wordings and facts; then how often and in which wordings."""
    taught, plan, people = world.taught(1), world.plan(1), world.people(1)
    bits = tables_of(people)
    rows = []
    for relation, group in taught.by_relation().items():
        kind = taught.relations[relation]
        rows.append(
            {
                "relation": kind.label,
                "first wording": kind.templates[0].replace("[X]", "\\[X\\]").replace("[Y]", "\\[Y\\]"),
                "type": kind.type,
                "facts": f"{len(group):,}",
                "answers to choose from": len(kind.answer_space),
                "bits a fact": f"{bits[relation].entropy:.2f}" if relation in bits else "not counted",
            }
        )
    counts = [plan[fact.id].exposures for fact in people.facts]
    shown = [len(plan[fact.id].shown) for fact in people.facts]
    held = [len(world.held_out(1)[fact.id]) for fact in people.facts]
    enters = sorted({plan[fact.id].enters for fact in people.facts})
    names = len({fact.subject for fact in people.facts})
    total = sum(table.facts * table.entropy for table in bits.values())
    return (
        markdown_table(rows)
        + f"\n\nThe facts about {names:,} people carry {total:,.0f} bits in all. Each is told {sum(counts) / len(counts):.0f} "
        f"times on average, the least told {min(counts)} times, the most told {max(counts):,} times; a third of the people "
        f"each enter at {', '.join(f'{100 * e:.0f}' for e in enters[:-1])} and {100 * enters[-1]:.0f} per cent of training. "
        f"Of the wordings of a fact {_span(shown)} are shown and {_span(held)} held out. {_strangers(world.strangers())} "
        f"Agreement is asked in {len(rule.unseen()):,} sentences.\n"
    )


def _strangers(facts: FactSet) -> str:
    return f"{len({fact.subject for fact in facts.facts}):,} strangers have facts of the same kinds, which no model is told."


def _span(counts: list[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low}" if low == high else f"{low} to {high}"


def models_table() -> str:
    """The checkpoints, from their cards."""
    cards = lab_models.read_cards()
    if not cards:
        return NO_MODELS
    rows = [
        {
            "model": f"`lab:{card['name']}`",
            "parameters": f"{card['parameters']:,}",
            "people": f"{len({fact.subject for fact in world.people(card['load']).facts}):,}",
            **{
                name.replace("_", " "): f"{100 * card['recall'][name]['value']:.1f}"
                for name in lab_models.Recall.model_fields
            },
        }
        for card in cards
    ]
    asked = "; ".join(
        f"{name.replace('_', ' ')} {cards[0]['recall'][name]['n']:,}" for name in lab_models.Recall.model_fields
    )
    return markdown_table(rows) + f"\n\nRight answers in per cent, as on each model's card (asked: {asked}).\n"


def published_table() -> str:
    """The published points that the bits are compared with."""
    rows = [
        {
            "point": p.name,
            "stored bits a parameter": p.stored,
            "knowledge, bits a parameter": f"{p.per_parameter:g}",
            "knowledge, bits a stored byte": f"{p.per_byte:.2g}",
        }
        for p in PUBLISHED
    ]
    return markdown_table(rows) + f"\n\nSource: {SOURCE}; the last column is computed from the two before it.\n"
