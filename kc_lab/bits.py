"""Knowledge in bits: a lower bound on what a model can tell about facts that were drawn evenly from known tables.

After the bit complexity of Allen-Zhu and Li, "Physics of Language Models", part 3.3 (arXiv 2404.05405). An answer drawn
evenly from S values is worth log2 S bits to whoever is told it. A model that knows something needs fewer:

    by likelihood  log2 S - mean cross-entropy of the right answer in bits, over the whole vocabulary
    by accuracy    log2 S - h(a) - (1 - a) log2(S - 1), with h the entropy of a coin: Fano's inequality for top-1 accuracy a

Neither can be positive on average for a model that knows nothing (Jensen's inequality; a = 1 / S gives 0 in the second), so
that the larger of the two, floored at 0, is a lower bound up to the choice of facts. Where a fact has k right answers of S,
and naming one of them is right, what is counted is the one that is named: S / k takes the place of S, and the cross-entropy is
that of the likeliest right one. Knowing all k is worth more; a lower bound may leave that out.

Names are given in the question and not counted, unlike in the paper, whose bound holds the names, too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from kc_utils.errors import BadRequest
from kc_utils.probing.facts import FactSet
from kc_utils.stats.items import checked

NATS = math.log(2)  # nats in a bit


@dataclass(frozen=True)
class Table:
    """What the facts of a relation are drawn from: `facts` facts in all, each with `answers` right ones of `values`."""

    facts: int
    values: int
    answers: int = 1

    @property
    def entropy(self) -> float:
        """Bits that one named right answer carries."""
        return math.log2(self.values / self.answers)


def by_likelihood(table: Table, cross_entropy: float) -> float:
    """Bits a fact, from the mean cross-entropy of its right answer in bits; below 0 for a model worse than guessing."""
    return table.entropy - cross_entropy


def by_accuracy(table: Table, accuracy: float) -> float:
    """Bits a fact, from the share of right answers; 0 at and below the share that guessing reaches.

    The divergence of a coin that falls right with `accuracy` from one that does with the chance k / S; for k = 1 it is
    Fano's bound.
    """
    chance = table.answers / table.values
    if accuracy <= chance:
        return 0.0
    wrong = (1 - accuracy) * math.log2((1 - accuracy) / (1 - chance)) if accuracy < 1 else 0.0
    return accuracy * math.log2(accuracy / chance) + wrong


def tables_of(facts: FactSet) -> dict[str, Table]:
    """The tables behind the relations of a fact set. Raises BadRequest where facts of one relation differ in how many right
    answers they have."""
    found = {}
    for relation, group in facts.by_relation().items():
        counts = {len(fact.answers) for fact in group}
        if len(counts) != 1:
            raise BadRequest(
                f"facts of {relation} have {sorted(counts)} right answers: their bits cannot be counted so"
            )
        found[relation] = Table(len(group), len(facts.relations[relation].answer_space), counts.pop())
    return found


def bits_by_relation(rows: pd.DataFrame, tables: Mapping[str, Table]) -> pd.DataFrame:
    """One line per relation that has a table: facts (in all), n (asked), entropy, accuracy, cross_entropy, likelihood_bits,
    accuracy_bits and bits, the larger of the two, floored at 0; all in bits a fact but the first two.

    rows: of protocol cloze, whose `score` is the log-probability in nats of the likeliest right answer; a score that is not
    a number is worth nothing. Raises BadRequest where no row belongs to a table, and as `items.checked`.
    """
    rows = checked(rows, "correct", ["relation", "score"])
    lines = []
    for relation, part in rows[rows["relation"].isin(tables)].groupby("relation", sort=False):
        table = tables[relation]
        cross = float((-part["score"] / NATS).fillna(math.inf).mean())
        accuracy = float(part["correct"].mean())
        likelihood, right = by_likelihood(table, cross), by_accuracy(table, accuracy)
        lines.append(
            {
                "relation": relation, "facts": table.facts, "n": len(part), "entropy": table.entropy, "accuracy": accuracy,
                "cross_entropy": cross, "likelihood_bits": likelihood, "accuracy_bits": right,
                "bits": max(0.0, likelihood, right),
            }
        )  # fmt: skip
    if not lines:
        raise BadRequest(f"none of these rows asks for facts drawn from a known table ({', '.join(tables)})")
    return pd.DataFrame(lines)


def total_bits(relations: pd.DataFrame) -> float:
    """Bits of all facts of these relations: those of the asked ones, scaled to all."""
    return float((relations["facts"] * relations["bits"]).sum())


def capacity(tables: Mapping[str, Table]) -> float:
    """Bits of all facts for a model that knows every one."""
    return sum(table.facts * table.entropy for table in tables.values())


def load_curve(cards: Sequence[Mapping], tables: Mapping[int, Mapping[str, Table]]) -> pd.DataFrame:
    """Recall and bits against how much was taught, one line per card: name, family, size, seed, load, people, bits_taught and
    taught_per_parameter, recall, low, high (of that card's sample), bits, bits_per_parameter.

    cards   what `kc_lab.cards` reads: name, family, size, seed, load, parameters, recall["trained"]
    tables  by load, what people's facts are drawn from

    Cards hold one recall for all relations, so that bits are those of a model with that accuracy in each: less than what
    the same model has by its likelihoods. Raises BadRequest for a load without tables.
    """
    lines = []
    for card in cards:
        if card["load"] not in tables:
            raise BadRequest(f"{card['name']}: no tables are known for load {card['load']}")
        here, found = tables[card["load"]], card["recall"]["trained"]
        bits = sum(table.facts * by_accuracy(table, found["value"]) for table in here.values())
        lines.append(
            {
                **{name: card[name] for name in ("name", "family", "size", "seed", "load")},
                "people": max(table.facts for table in here.values()), "bits_taught": capacity(here),
                "taught_per_parameter": capacity(here) / card["parameters"],
                "recall": found["value"], "low": found["low"], "high": found["high"],
                "bits": bits, "bits_per_parameter": bits / card["parameters"],
            }
        )  # fmt: skip
    return pd.DataFrame(lines).sort_values(["family", "size", "load", "seed"], ignore_index=True)
