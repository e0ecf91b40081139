"""Which facts go first, on made-up rows in which the seldom told are the first to go."""

import numpy as np
import pandas as pd
import pytest

from kc_utils.stats.first_losses import (
    choice_sentences,
    extremes,
    losses,
    losses_over_seeds,
    mildest,
    model_sentences,
    models,
    pairs_of,
)
from kc_utils.stats.loss_model import loss_model
from kc_utils.stats.seeds import by_model, over_seeds, rows_by_model
from kc_utils.probing.probe import Probe
from kc_utils.study.cells import Cell
from kc_utils.study.store import CellResult
from tests.stats.made import frame

PROBE = Probe(facts="lab", limit=400, protocols=("cloze",))
N = 400
EXPOSED = np.geomspace(20, 800, N)
ENTERS = {f"f{i:05}": (0.0, 0.25, 0.5)[i % 3] for i in range(N)}
TYPES = {"month": "N-1", "seat": "1-1"}
MILD, HARSH = "magnitude@all=0.2", "rtn@all=2"


@pytest.fixture(scope="module")
def results():
    """Three seeds of one family: a harmless recipe, and one that takes the seldom told facts."""
    found = {}
    for seed in (1, 2, 3):
        rng = np.random.default_rng(seed)
        lose = rng.random(N) < 1 / (1 + np.exp(2.0 * np.log10(EXPOSED) - 3.0))  # odds fall by exp(2) for ten times
        for recipe, right in (("none", np.ones(N, bool)), (MILD, np.ones(N, bool)), (HARSH, ~lose)):
            rows = frame(
                right, chance=0.001, protocol="cloze", popularity=EXPOSED, relation=np.where(np.arange(N) % 2, "month", "seat"),
                margin=rng.normal(5, 1, N),
            )  # fmt: skip
            found[Cell(f"lab:decoder-small-s{seed}", recipe, PROBE)] = CellResult(recipe, rows, {}, {})
    return found


@pytest.fixture(scope="module")
def rows(results):
    return rows_by_model(results, {"taught": PROBE}, "taught")


@pytest.fixture(scope="module")
def chosen(results):
    means = over_seeds(by_model(results, {"taught": PROBE}), ("retention", "accuracy", "lost"))
    return mildest(means, 0.05)


def test_the_mildest_clear_loss_that_is_large_enough(results, chosen):
    assert chosen["decoder"]["recipe"] == HARSH
    means = over_seeds(by_model(results, {"taught": PROBE}), ("retention", "accuracy", "lost"))
    assert mildest(means, 0.9) == {}
    assert "no recipe here loses clearly and at least 90" in choice_sentences(means, {}, 0.9)[0]
    assert f"`{HARSH}`" in choice_sentences(means, chosen, 0.05)[0]


def test_every_seed_is_compared_with_its_own_uncompressed_model(rows, chosen):
    pairs = pairs_of(rows, chosen)
    assert len(pairs) == 3
    assert all(cell.recipe == HARSH for cell in pairs)
    assert all(base["correct"].all() and not mine["correct"].all() for mine, base in pairs.values())


def test_losses_by_group_and_seed(rows, chosen):
    single = losses(rows, chosen, ENTERS, TYPES, 4)
    assert set(single["by"]) == {"exposures", "enters", "margin", "relation", "type"}
    means = losses_over_seeds(single)
    exposed = means[means["by"] == "exposures"]
    assert len(exposed) == 4
    assert exposed["group"].iloc[0].startswith("20 to ")
    assert exposed["lost_of_known"].is_monotonic_decreasing, "the least told first"
    assert exposed["known"].tolist() == [100] * 4
    assert means[means["by"] == "enters"]["group"].tolist() == ["0\u00a0%", "25\u00a0%", "50\u00a0%"]
    (text,) = extremes(means, "type")
    assert "by type: most is lost of" in text


def test_regressions_find_what_was_put_in(rows, chosen):
    found = models(rows, chosen, ENTERS)
    exposed = found["decoder", "exposures"]
    low, high = exposed.odds_ratio_ci95
    assert low < np.exp(-2.0) < high
    assert exposed.clusters == N, "a fact is one cluster, whichever seeds lose it"
    assert exposed.n == 3 * N
    told = {name: text for (_, name), text in zip(found, model_sentences(found), strict=True)}
    assert "what was told seldom goes first" in told["exposures"]
    assert told["enters"].endswith("undecided.")
    assert told["margin"].endswith("undecided.")


def test_a_regression_on_the_time_of_entry():
    late = np.repeat([0.0, 0.5], 200)
    right = np.random.default_rng(0).random(400) > 0.1 + 0.6 * late
    base = frame(np.ones(400, bool), enters=late)
    found = loss_model(frame(right, enters=late), base, "enters", cluster="fact")
    assert found.odds_ratio > 5
    assert found.odds_ratio_ci95[0] > 1


def test_nothing_chosen_gives_nothing(rows):
    empty = losses(rows, {}, ENTERS, TYPES, 4)
    assert empty.empty
    assert losses_over_seeds(empty).empty
    assert models(rows, {}, ENTERS) == {}
    assert isinstance(empty, pd.DataFrame)
