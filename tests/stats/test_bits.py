"""Bits of knowledge, against numbers worked out by hand and simulations whose information is known."""

import math

import numpy as np
import pandas as pd
import pytest

from kc_lab.bits import (
    Table,
    bits_by_relation,
    by_accuracy,
    by_likelihood,
    capacity,
    load_curve,
    tables_of,
    total_bits,
)
from kc_utils.errors import BadRequest
from kc_utils.probing.facts import Fact, FactSet, Relation


def rows(correct, score, relation="field"):
    """Rows of the cloze; scores in nats."""
    n = len(correct)
    return pd.DataFrame(
        {
            "protocol": "cloze", "fact": [f"{relation}/{i}" for i in range(n)], "template": 0, "relation": relation,
            "correct": np.asarray(correct, bool), "score": np.asarray(score, float), "chance": 0.001,
        }
    )  # fmt: skip


def entropy(p):
    return -sum(x * math.log2(x) for x in (p, 1 - p) if x > 0)


@pytest.mark.parametrize(
    ("values", "accuracy", "bits"),
    [
        (64, 1.0, 6.0),
        (64, 0.9, 6 - 0.4689955935892812 - 0.1 * 5.977279923499917),  # h(0.9), log2 63
        (2, 0.5, 0.0),
        (32, 1 / 32, 0.0),
        (32, 0.0, 0.0),  # worse than guessing tells nothing that is counted
    ],
)
def test_fano_by_hand(values, accuracy, bits):
    assert by_accuracy(Table(100, values), accuracy) == pytest.approx(bits, abs=1e-12)


@pytest.mark.parametrize("accuracy", [0.3, 0.5, 0.75, 0.99])
@pytest.mark.parametrize("values", [12, 24, 60])
def test_fano_as_it_is_written_down(values, accuracy):
    written = math.log2(values) - entropy(accuracy) - (1 - accuracy) * math.log2(values - 1)
    assert by_accuracy(Table(1, values), accuracy) == pytest.approx(max(0.0, written), abs=1e-9)


def test_of_two_right_answers_the_named_one_counts():
    language = Table(300, 24, answers=2)
    assert language.entropy == pytest.approx(math.log2(12))
    assert by_accuracy(language, 1.0) == pytest.approx(math.log2(12))
    assert by_accuracy(language, 2 / 24) == 0.0, "guessing names one of two"
    assert by_likelihood(language, 1.0) == pytest.approx(math.log2(12) - 1), "an even split between both"


def test_likelihood_by_hand():
    table = Table(1000, 64)
    known = rows([True] * 4, [0.0, math.log(0.5), math.log(0.25), 0.0])  # 0, 1, 2 and 0 bits
    (line,) = bits_by_relation(known, {"field": table}).to_dict("records")
    assert line["cross_entropy"] == pytest.approx(0.75)
    assert line["likelihood_bits"] == pytest.approx(5.25)
    assert line["bits"] == pytest.approx(6.0), "all are right: the bound by accuracy is the larger one"
    assert total_bits(pd.DataFrame([line])) == pytest.approx(6000), "four facts stand for a thousand"


def test_a_score_that_is_no_number_is_worth_nothing():
    broken = rows([True, False, False, False], [0.0, math.nan, math.nan, math.nan])
    (line,) = bits_by_relation(broken, {"field": Table(10, 64)}).to_dict("records")
    assert line["likelihood_bits"] == -math.inf
    assert line["bits"] == pytest.approx(by_accuracy(Table(10, 64), 0.25))


def test_a_model_that_knows_nothing_holds_nothing():
    uniform = rows([False] * 200, [-math.log(1500)] * 200)  # over the whole vocabulary
    assert bits_by_relation(uniform, {"field": Table(1000, 32)})["bits"].tolist() == [0.0]


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.4])
def test_information_of_a_noisy_channel(noise):
    """The model names an answer that is right with probability 1 - noise, and says so: both bounds are its information."""
    rng, values, n = np.random.default_rng(3), 32, 20_000
    right = rng.random(n) >= noise
    score = np.where(right, np.log1p(-noise), math.log(noise / (values - 1)) if noise else 0.0)
    information = math.log2(values) - entropy(noise) - noise * math.log2(values - 1)
    (line,) = bits_by_relation(rows(right, score), {"field": Table(500, values)}).to_dict("records")
    assert line["likelihood_bits"] == pytest.approx(information, abs=0.05)
    assert line["accuracy_bits"] == pytest.approx(information, abs=0.05)
    assert line["bits"] >= max(line["likelihood_bits"], line["accuracy_bits"]) - 1e-12


@pytest.mark.parametrize("known", [0.2, 0.7])
def test_information_of_a_model_that_knows_a_part(known):
    """It knows a share of the facts for sure and gives even odds to the others: the likelihood tells all of its bits."""
    rng, values, n = np.random.default_rng(5), 64, 20_000
    knows = rng.random(n) < known
    right = knows | (rng.random(n) < 1 / values)
    score = np.where(knows, 0.0, -math.log(values))
    (line,) = bits_by_relation(rows(right, score), {"field": Table(500, values)}).to_dict("records")
    assert line["likelihood_bits"] == pytest.approx(known * 6, abs=0.1)
    assert 0 < line["accuracy_bits"] < line["likelihood_bits"], "which answers it knows is more than accuracy says"


def test_a_wrong_belief_is_not_knowledge():
    """Jensen's inequality: whatever a model without knowledge believes, its bits are not positive on average."""
    rng, values, n = np.random.default_rng(7), 32, 50_000
    belief = rng.dirichlet(np.full(values, 0.5))
    truth = rng.integers(values, size=n)
    score = np.log(belief[truth])
    (line,) = bits_by_relation(rows(truth == belief.argmax(), score), {"field": Table(9, values)}).to_dict("records")
    assert line["likelihood_bits"] < 0
    assert line["accuracy_bits"] < 0.01


def test_tables_are_read_off_a_fact_set():
    relations = {
        name: Relation(name, name, None, "N-1", ("[X] is [Y].",), tuple(f"{name}{i}" for i in range(size)))
        for name, size in (("month", 12), ("language", 24))
    }
    facts = [Fact(f"m{i}", "month", f"s{i}", (f"month{i}",)) for i in range(3)]
    facts += [Fact(f"l{i}", "language", f"s{i}", ("language0", "language1")) for i in range(2)]
    tables = tables_of(FactSet("made", relations, tuple(facts)))
    assert tables == {"month": Table(3, 12, 1), "language": Table(2, 24, 2)}
    assert capacity(tables) == pytest.approx(5 * math.log2(12))
    mixed = FactSet("made", relations, (facts[0], Fact("m9", "month", "s9", ("month1", "month2"))))
    with pytest.raises(BadRequest, match=r"month have \[1, 2\] right answers"):
        tables_of(mixed)


def test_rows_without_a_table_are_named():
    with pytest.raises(BadRequest, match="none of these rows .*field"):
        bits_by_relation(rows([True], [0.0], "capital"), {"field": Table(1, 2)})


def card(name, load, value, parameters=1000):
    family, size, seed = name.rsplit("-", 2)
    found = {"value": value, "low": value - 0.01, "high": min(1.0, value + 0.01), "n": 900}
    return {
        "name": name, "family": family, "size": size, "seed": int(seed[1:]), "load": load, "parameters": parameters,
        "recall": {"trained": found},
    }  # fmt: skip


def test_the_load_curve_by_hand():
    tables = {1: {"month": Table(100, 16)}, 4: {"month": Table(400, 16)}}
    cards = [card("decoder-small-s1", 1, 1.0), card("decoder-small-s2", 4, 0.5), card("encoder-small-s1", 1, 0.0625)]
    curve = load_curve(cards, tables).set_index("name")
    assert curve.loc["decoder-small-s1", "bits"] == pytest.approx(400)
    assert curve.loc["decoder-small-s1", "bits_per_parameter"] == pytest.approx(0.4)
    half = 4 - 1 - 0.5 * math.log2(15)
    assert curve.loc["decoder-small-s2", "bits_per_parameter"] == pytest.approx(0.4 * half)
    assert curve.loc["decoder-small-s2", "bits_taught"] == 1600
    assert curve.loc["encoder-small-s1", "bits"] == 0.0, "guessing"
    with pytest.raises(BadRequest, match="decoder-small-s1: no tables are known for load 8"):
        load_curve([card("decoder-small-s1", 8, 1.0)], tables)
