"""What further tries recover, with luck taken out: rows made so that the answer is known."""

import math

import numpy as np
import pandas as pd
import pytest

from kc_lab import hidden
from kc_lab.hidden import HELD_OUT, TRAINED, Wordings, by_luck, recoveries, relearning, shots_way
from kc_utils.probing.probe import Probe
from kc_utils.study.cells import Cell
from kc_utils.study.store import CellResult
from tests.stats.made import frame

MODEL, RECIPE = "lab:decoder-small-s1", "rtn@all=2"
PROBES = {
    "taught": Probe(facts="lab:people", limit=40, protocols=("cloze",), templates="all"),
    "strangers": Probe(facts="lab:strangers", limit=60, protocols=("cloze",), templates="all"),
    "taught, 1 shots": Probe(facts="lab:people", limit=40, protocols=("cloze",), shots=1),
    "strangers, 1 shots": Probe(facts="lab:strangers", limit=60, protocols=("cloze",), shots=1),
}
FACTS = [f"f{i:05}" for i in range(40)]
WORDINGS = Wordings(dict.fromkeys(FACTS, (1, 2)), dict.fromkeys(FACTS, (3, 4)))


def asked(right: dict[int, set[int]], n: int) -> pd.DataFrame:
    """Rows of n facts in some wordings: which facts are right in each."""
    parts = [
        frame([i in facts for i in range(n)], protocol="cloze", template=t, chance=0.01) for t, facts in right.items()
    ]
    return pd.concat(parts, ignore_index=True)


def results(after: dict, strangers: dict, shot=frozenset(), shot_strangers=frozenset()) -> dict[Cell, CellResult]:
    every = set(range(40))
    tables = {
        ("none", "taught"): asked(dict.fromkeys(range(5), every), 40),
        ("none", "strangers"): asked(dict.fromkeys(range(5), frozenset()), 60),
        ("none", "taught, 1 shots"): asked({0: set(range(30))}, 40),
        ("none", "strangers, 1 shots"): asked({0: set()}, 60),
        (RECIPE, "taught"): asked(after, 40),
        (RECIPE, "strangers"): asked(strangers, 60),
        (RECIPE, "taught, 1 shots"): asked({0: shot}, 40),
        (RECIPE, "strangers, 1 shots"): asked({0: shot_strangers}, 60),
    }
    return {Cell(MODEL, r, PROBES[name]): CellResult(r, rows, {}, {}) for (r, name), rows in tables.items()}


NO_LUCK = dict.fromkeys(range(5), frozenset())


def test_lost_facts_that_another_wording_gets():
    after = {0: set(range(20)), 1: set(range(25)), 2: {30, 31}, 3: {39}, 4: set()}  # 20 are lost, 20 to 39
    lines = recoveries(results(after, NO_LUCK), PROBES, WORDINGS, (1,)).set_index("way")
    assert lines.loc[TRAINED, ["lost", "answered", "luck", "recovered", "ceiling"]].tolist() == pytest.approx(
        [20, 7 / 20, 0, 7 / 20, 1]
    )
    assert lines.loc[HELD_OUT, "recovered"] == pytest.approx(1 / 20)
    assert lines.loc[shots_way(1), ["answered", "ceiling"]].tolist() == pytest.approx([0, 30 / 40])


def test_luck_is_what_as_many_tries_get_of_strangers():
    strangers = {0: set(range(10)), 1: set(range(10, 22)), 2: set(range(10, 22)), 3: set(), 4: set()}
    rows = asked(strangers, 60)  # of the 50 missed at first, 12 have 2 of 4 wordings right
    one, two = (by_luck(rows, tries)["r"] for tries in (1, 2))
    assert one == pytest.approx(12 / 50 * 2 / 4)
    assert two == pytest.approx(12 / 50 * (1 - 1 / 6)), "1 - C(2, 2) / C(4, 2)"


def test_luck_is_taken_out():
    strangers = {0: set(), 1: set(range(30)), 2: set(range(30)), 3: set(range(30)), 4: set(range(30))}  # half get all
    after = {0: set(range(20)), 1: set(range(30)), 2: set(range(30)), 3: set(range(30)), 4: set(range(30))}
    found = recoveries(
        results(after, strangers, shot=set(range(30)), shot_strangers=set(range(15))), PROBES, WORDINGS, (1,)
    )
    lines = found.set_index("way")
    for way in (TRAINED, HELD_OUT):
        assert lines.loc[way, ["answered", "luck", "recovered"]].tolist() == pytest.approx([0.5, 0.5, 0.0])
    shot = lines.loc[shots_way(1)]
    assert (shot["answered"], shot["luck"]) == pytest.approx((0.5, 0.25))
    assert shot["recovered"] == pytest.approx((0.5 - 0.25) / 0.75)


def test_a_model_that_only_guesses_recovers_nothing_on_average():
    rng, found = np.random.default_rng(1), []
    for _ in range(25):

        def guessed(n):
            return {t: set(np.flatnonzero(rng.random(n) < 0.2)) for t in range(5)}

        after = guessed(40)
        found.append(
            recoveries(results(after, guessed(60)), PROBES, WORDINGS, ()).set_index("way").loc[TRAINED, "recovered"]
        )
    assert abs(np.mean(found)) < 3 * np.std(found) / math.sqrt(len(found))


def test_few_lost_facts_say_nothing():
    after = {t: set(range(35)) for t in range(5)}
    lines = recoveries(results(after, NO_LUCK), PROBES, WORDINGS, (1,))
    assert lines["lost"].tolist() == [5, 5, 5]
    assert lines["recovered"].isna().all()
    means = hidden.recoveries_over_seeds(lines)
    assert "fewer than 10 facts are lost" in hidden.recovery_sentences(means)[0]


def singles(recovered):
    lines = [
        {"line": "decoder", "seed": f"s{n}", "recipe": RECIPE, "pruned": 0.0, "precision": "RTN 2 bits", "way": way,
         "lost": 50, "answered": r, "luck": 0.1, "recovered": r, "ceiling": 0.9}
        for way, values in recovered.items() for n, r in enumerate(values)
    ]  # fmt: skip
    return pd.DataFrame(lines)


def test_sentences_say_what_intervals_allow():
    clear = hidden.recoveries_over_seeds(singles({TRAINED: (0.3, 0.32, 0.31), HELD_OUT: (0.0, 0.1, -0.1)}))
    (text,) = hidden.recovery_sentences(clear)
    assert f"is only hidden, and {TRAINED} get most of it" in text
    assert "ceiling 90" in text
    unclear = hidden.recoveries_over_seeds(singles({TRAINED: (0.3, -0.2, 0.1)}))
    assert "no way recovers clearly more than luck" in hidden.recovery_sentences(unclear)[0]


def learned(lost, new):
    probe = Probe(facts="lab:people", protocols=("cloze",), relearn_steps=2)
    found = {}
    for number in range(3):
        rows = pd.concat(
            [
                frame(np.arange(20) < 20 * share[step], protocol="relearning").assign(set=name, step=step)
                for name, share in (("lost", lost[number]), ("new", new[number])) for step in (0, 1, 2)
            ]
        )  # fmt: skip
        found[Cell(f"lab:decoder-small-s{number + 1}", RECIPE, probe)] = CellResult(RECIPE, rows, {}, {})
    return relearning(found, probe)


def test_relearning_is_compared_within_seeds():
    ahead = learned([(0, 0.5, 1)] * 2 + [(0, 0.6, 1)], [(0, 0.1, 0.3)] * 2 + [(0, 0.2, 0.3)])
    assert ahead.groupby(["set", "step"])["recall"].mean()["lost facts", 2] == 1
    (text,) = hidden.relearning_sentences(ahead)
    assert "lost facts come back faster than new ones are learned" in text
    assert "after 2 steps 100" in text
    alike = learned([(0, 0.5, 1), (0, 0.3, 0.9), (0, 0.4, 0.8)], [(0, 0.4, 0.9), (0, 0.4, 1), (0, 0.4, 0.8)])
    assert hidden.relearning_sentences(alike)[0].endswith("undecided.")
    assert "enough facts" in hidden.relearning_sentences(pd.DataFrame())[0]
