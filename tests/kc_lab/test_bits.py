"""Bits of knowledge, against numbers worked out by hand and simulations whose information is known."""

import math

import numpy as np
import pandas as pd
import pytest

from kc_lab.bits import Table, bits_by_model, bits_by_relation, by_accuracy, by_likelihood, load_curve, tables_of
from kc_utils.errors import BadRequest
from kc_utils.probing.facts import Fact, FactSet, Relation


def rows(correct, score, relation="field", **columns):
    """Rows of the cloze; scores in nats."""
    frame = pd.DataFrame({"correct": np.asarray(correct, bool), "score": np.asarray(score, float)})
    return frame.assign(protocol="cloze", relation=relation, **columns)


def line_of(frame, table) -> dict:
    (line,) = bits_by_relation(frame, {"field": table}).to_dict("records")
    return line


def entropy(p):
    return -sum(x * math.log2(x) for x in (p, 1 - p) if x > 0)


def test_of_two_right_answers_the_named_one_counts():
    language = Table(300, 24, answers=2)
    assert by_accuracy(language, 1.0) == pytest.approx(math.log2(12))
    assert by_accuracy(language, 2 / 24) == 0.0, "guessing names one of two"
    assert by_likelihood(language, 1.0) == pytest.approx(math.log2(12) - 1), "an even split between both"


def test_likelihood_by_hand():
    line = line_of(rows([True] * 4, [0.0, math.log(0.5), math.log(0.25), 0.0]), Table(1000, 64))  # 0, 1, 2 and 0 bits
    assert (line["cross_entropy"], line["likelihood_bits"]) == pytest.approx((0.75, 5.25))
    assert line["bits"] == pytest.approx(6.0), "all are right: the bound by accuracy is the larger one"
    broken = line_of(rows([True, False, False, False], [0.0, *[math.nan] * 3]), Table(10, 64))
    assert broken["likelihood_bits"] == -math.inf
    assert broken["bits"] == pytest.approx(by_accuracy(Table(10, 64), 0.25))
    assert line_of(rows([False] * 200, [-math.log(1500)] * 200), Table(1000, 32))["bits"] == 0.0
    with pytest.raises(BadRequest, match=r"no row is a fact drawn from a known table \(field\)"):
        line_of(rows([True], [0.0], "capital"), Table(1, 2))


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.4])
def test_information_of_a_noisy_channel(noise):
    """The model names an answer that is right with probability 1 - noise, and says so: both bounds are its information."""
    rng, values, n = np.random.default_rng(3), 32, 20_000
    right = rng.random(n) >= noise
    score = np.where(right, np.log1p(-noise), math.log(noise / (values - 1)) if noise else 0.0)
    information = math.log2(values) - entropy(noise) - noise * math.log2(values - 1)
    line = line_of(rows(right, score), Table(500, values))
    assert (line["likelihood_bits"], line["accuracy_bits"]) == pytest.approx((information, information), abs=0.05)


def test_models_and_recipes_by_hand():
    """1000 parameters in 2000 bytes; all of 100 facts of 4 bits known, then half of them in a quarter of the bytes."""
    tables, right = {"field": Table(100, 16)}, [True] * 25 + [False] * 25
    base = rows([True] * 50, [0.0] * 50, model="m", recipe="none", bytes_compressed=2000.0)
    small = rows(right, [0.0] * 25 + [-99.0] * 25, model="m", recipe="rtn@all=4", bytes_compressed=500.0)
    table = bits_by_model(pd.concat([base, small]), tables).set_index("recipe")
    half = 100 * (4 - 1 - 0.5 * math.log2(15))
    assert table.loc["none", ["bits", "per_parameter", "per_byte", "stored", "taught", "kept", "n"]].tolist() == (
        pytest.approx([400, 0.4, 0.2, 16, 0.4, 1, 50])
    )
    assert table.loc["rtn@all=4", ["bits", "per_parameter", "per_byte", "stored", "kept"]].tolist() == (
        pytest.approx([half, half / 1000, half / 500, 4, half / 400])
    )
    with pytest.raises(BadRequest, match=r"m: evaluate the uncompressed model"):
        bits_by_model(small, tables)


def test_tables_are_read_off_a_fact_set():
    sizes = {"month": 12, "language": 24}
    answers = {name: tuple(f"{name}{i}" for i in range(size)) for name, size in sizes.items()}
    relations = {name: Relation(name, name, None, "N-1", ("[X] is [Y].",), answers[name]) for name in sizes}
    facts = [Fact(f"m{i}", "month", f"s{i}", (f"month{i}",)) for i in range(3)]
    facts += [Fact(f"l{i}", "language", f"s{i}", ("language0", "language1")) for i in range(2)]
    expected = {"month": Table(3, 12, 1), "language": Table(2, 24, 2)}
    assert tables_of(FactSet("made", relations, tuple(facts))) == expected
    mixed = FactSet("made", relations, (facts[0], Fact("m9", "month", "s9", ("month1", "month2"))))
    with pytest.raises(BadRequest, match=r"month have \[1, 2\] right answers"):
        tables_of(mixed)


def test_the_load_curve_by_hand():
    def card(load, people, value):
        share = {"value": value, "low": value, "high": value, "n": 900}
        return {"name": f"decoder-small-s{load}", "family": "decoder", "size": "small", "seed": 1, "load": load,
                "people": people, "exposures": {"mean": 240.0}, "parameters": 1000, "recall": {"trained": share}}  # fmt: skip

    tables = {100: {"month": Table(100, 16)}, 400: {"month": Table(400, 16)}}
    curve = load_curve([card(1, 100, 1.0), card(4, 400, 0.5)], tables).set_index("load")
    assert curve.loc[1, ["bits", "bits_per_parameter", "people"]].tolist() == pytest.approx([400, 0.4, 100])
    assert curve.loc[4, "bits_per_parameter"] == pytest.approx(0.4 * (4 - 1 - 0.5 * math.log2(15)))
    with pytest.raises(BadRequest, match="decoder-small-s8: no tables are known for 800 people"):
        load_curve([card(8, 800, 1.0)], tables)
