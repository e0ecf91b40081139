"""Knowledge in bits: a lower bound on what a model knows of facts that were drawn evenly from known tables.

After the bit complexity of Allen-Zhu and Li, "Physics of Language Models", part 3.3 (arXiv 2404.05405). An answer drawn
evenly from S values carries log2 S bits. A model that knows something needs fewer bits to encode it:

    by likelihood  log2 S - mean cross-entropy of the right answer in bits, over the whole vocabulary
    by accuracy    log2 S - h(a) - (1 - a) log2(S - 1), with h the entropy of a coin: Fano's inequality for top-1 accuracy a

Neither is positive on average for a model that knows nothing (Jensen's inequality; a = 1 / S gives 0 in the second), so
that the larger of the two, floored at 0, is a lower bound up to the choice of facts. Where k of S answers are right and any
of them counts, S / k takes the place of S, and the cross-entropy is that of the likeliest right one; knowing all k is worth
more, which a lower bound may leave out. Names are given in the query and not counted; the paper's bound holds them, too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from kc_utils.errors import BadRequest
from kc_utils.probing.facts import FactSet

NATS = math.log(2)  # nats in a bit


@dataclass(frozen=True)
class Table:
    """What the facts of a relation are drawn from: `facts` facts in all, each with `answers` right ones of `values`."""

    facts: int
    values: int
    answers: int = 1

    @property
    def entropy(self) -> float:
        """Bits that one right answer carries."""
        return math.log2(self.values / self.answers)


@dataclass(frozen=True)
class Published:
    """A point of Allen-Zhu and Li (2024), quoted: bits of knowledge per parameter, at so many stored bits per parameter."""

    name: str
    stored: int
    per_parameter: float

    @property
    def per_byte(self) -> float:
        return self.per_parameter / (self.stored / 8)


SOURCE = "Allen-Zhu and Li, 2024, quoted"
PUBLISHED = (
    Published("1000 exposures", 16, 2.0),
    Published("100 exposures", 16, 1.0),
    Published("int8", 8, 2.0),
    Published("int4", 4, 0.7),
)


def by_likelihood(table: Table, cross_entropy: float) -> float:
    """Bits per fact from the mean cross-entropy of its right answer, in bits; below 0 for a model worse than guessing."""
    return table.entropy - cross_entropy


def by_accuracy(table: Table, accuracy: float) -> float:
    """Bits per fact from the share of right answers; 0 at and below the share that guessing reaches.

    The divergence of a coin with probability `accuracy` from one with the chance k / S; for k = 1 it is Fano's bound.
    """
    chance = table.answers / table.values
    if accuracy <= chance:
        return 0.0
    wrong = (1 - accuracy) * math.log2((1 - accuracy) / (1 - chance)) if accuracy < 1 else 0.0
    return accuracy * math.log2(accuracy / chance) + wrong


def tables_of(facts: FactSet) -> dict[str, Table]:
    """The tables behind the relations of a fact set.

    Raises BadRequest where facts of one relation differ in their number of right answers.
    """
    found = {}
    for relation, group in facts.by_relation().items():
        counts = {len(fact.answers) for fact in group}
        if len(counts) != 1:
            raise BadRequest(f"facts of {relation} have {sorted(counts)} right answers: their bits cannot be counted")
        found[relation] = Table(len(group), len(facts.relations[relation].answer_space), counts.pop())
    return found


def bits_by_relation(rows: pd.DataFrame, tables: Mapping[str, Table]) -> pd.DataFrame:
    """One line per relation that has a table, of the rows of one model under one recipe.

    rows: of protocol cloze, whose `score` is the log-probability in nats of the likeliest right answer; a score that is not
    a number is worth nothing. Columns: relation, facts (in all), n (queried), and in bits per fact entropy, cross_entropy,
    likelihood_bits, accuracy_bits and bits, the larger of the two, floored at 0; accuracy.
    Raises BadRequest where no row belongs to a table.
    """
    lines = []
    for relation, part in rows[rows["relation"].isin(tables)].groupby("relation", sort=False):
        table = tables[relation]
        cross = float((-part["score"].astype(float) / NATS).fillna(math.inf).mean())
        accuracy = float(part["correct"].astype(bool).mean())
        likelihood, right = by_likelihood(table, cross), by_accuracy(table, accuracy)
        lines.append(
            {
                "relation": relation, "facts": table.facts, "n": len(part), "entropy": table.entropy, "accuracy": accuracy,
                "cross_entropy": cross, "likelihood_bits": likelihood, "accuracy_bits": right,
                "bits": max(0.0, likelihood, right),
            }
        )  # fmt: skip
    if not lines:
        raise BadRequest(f"no row is a fact drawn from a known table ({', '.join(tables)})")
    return pd.DataFrame(lines)


def total_bits(relations: pd.DataFrame) -> float:
    """Bits of all facts of these relations: those of the queried ones, scaled to all."""
    return float((relations["facts"] * relations["bits"]).sum())


def capacity(tables: Mapping[str, Table]) -> float:
    """Bits of all facts for a model that knows every one."""
    return sum(table.facts * table.entropy for table in tables.values())


def bits_by_model(rows: pd.DataFrame, tables: Mapping[str, Table]) -> pd.DataFrame:
    """Knowledge in bits of each model under each recipe, from the rows of `kc.evaluate`.

    rows: of facts about the lab's people; the cloze is read. Columns: model, recipe; n, queried facts; bits, of all facts;
    per_parameter and per_byte, bits over the parameters of the uncompressed model and over the bytes of the model as
    stored; stored, stored bits per parameter; taught, bits per parameter of a model that knows all; kept, the share of
    the uncompressed model's bits (NaN where it has none). Raises BadRequest for a model without its uncompressed rows.
    """
    lines = []
    for (model, recipe), part in rows[rows["protocol"] == "cloze"].groupby(["model", "recipe"], sort=False):
        relations = bits_by_relation(part, tables)
        known = capacity({relation: tables[relation] for relation in relations["relation"]})
        size = float(part["bytes_compressed"].iloc[0])
        line = {"model": model, "recipe": recipe, "n": int(relations["n"].sum()), "bits": total_bits(relations)}
        lines.append(line | {"all": known, "bytes": size})
    table = pd.DataFrame(lines, columns=["model", "recipe", "n", "bits", "all", "bytes"])
    base = table[table["recipe"] == "none"].set_index("model")
    if lacking := set(table["model"]) - set(base.index):
        raise BadRequest(f"{sorted(lacking)[0]}: evaluate the uncompressed model (none) besides")
    parameters = table["model"].map(base["bytes"]) / 2  # the uncompressed model is counted at 16 bits per parameter
    before = table["model"].map(base["bits"])
    return table.assign(
        per_parameter=table["bits"] / parameters,
        per_byte=table["bits"] / table["bytes"],
        stored=8 * table["bytes"] / parameters,
        taught=table["all"] / parameters,
        kept=(table["bits"] / before).where(before > 0),
    ).drop(columns=["all", "bytes"])


def load_curve(cards: Sequence[Mapping], tables: Mapping[int, Mapping[str, Table]]) -> pd.DataFrame:
    """Recall and bits against the load, one line per card.

    cards: of `kc_lab.cards.read_cards`; tables: by number of people, what facts about them are drawn from. Columns: name,
    family, size, seed, load, people, exposures (mean of a fact); recall, low, high (of the card's sample); bits_taught,
    taught_per_parameter, bits, bits_per_parameter. A card holds one recall for all relations, so that bits are those of a
    model with that accuracy in each: less than the same model has by its likelihoods. Raises BadRequest for a number of
    people without tables.
    """
    lines = []
    for card in cards:
        if card["people"] not in tables:
            raise BadRequest(f"{card['name']}: no tables are known for {card['people']} people")
        here, found = tables[card["people"]], card["recall"]["trained"]
        bits = sum(table.facts * by_accuracy(table, found["value"]) for table in here.values())
        lines.append(
            {
                **{name: card[name] for name in ("name", "family", "size", "seed", "load", "people")},
                "exposures": card["exposures"]["mean"], "bits_taught": capacity(here),
                "taught_per_parameter": capacity(here) / card["parameters"],
                "recall": found["value"], "low": found["low"], "high": found["high"],
                "bits": bits, "bits_per_parameter": bits / card["parameters"],
            }
        )  # fmt: skip
    return pd.DataFrame(lines).sort_values(["family", "size", "load", "seed"], ignore_index=True)
