"""Batches: every evaluation in one, whole groups, resources from the model; progress in seconds."""

from itertools import chain, pairwise

import pytest

from kc_utils.probing.probe import Probe
from kc_utils.study import batches, estimate, progress, store
from kc_utils.study.cells import Cell, grouped

LAB = ("lab:encoder-small-s1", "lab:decoder-small-s1", "lab:encoder-decoder-small-s1")
LARGE = ("smollm2-135m", "vicuna-7b")
RECIPES = ("none", "rtn@all=4", *(f"magnitude@all=0.{s}" for s in range(1, 8)))


@pytest.fixture(scope="module")
def cells():
    probes = [Probe(facts="worldfacts", limit=limit, protocols=["cloze"]) for limit in (200, 20)]
    return [Cell(m, r, p) for p in probes for m in (*LAB, *LARGE) for r in (*RECIPES, "gptq@all=4")]


def seconds(batch):
    return sum(sum(estimate.seconds(group)) for group in grouped(batch).values())


@pytest.mark.parametrize(("jobs", "recipes"), [(1, None), (2, None), (64, None), (8, 1), (8, 3)])
def test_batches_hold_every_evaluation_once_and_keep_recipes_whole(cells, jobs, recipes):
    found = batches.packed(cells, jobs, recipes)
    assert sorted(map(repr, chain.from_iterable(found))) == sorted(map(repr, cells))
    where = [{(c.model, c.recipe) for c in batch} for batch in found]
    assert sum(map(len, where)) == len(set.union(*where)), "a compressed model is made in one batch"
    for batch in where:
        assert len({m for m, _ in batch}) == 1 or {m for m, _ in batch} <= set(LAB), "large models have their own batches"
        assert not recipes or len(batch) <= recipes or {m for m, _ in batch} <= set(LAB)


def test_batches_shrink_so_that_cores_end_together(cells):
    large = [cell for cell in cells if cell.model == "smollm2-135m"]
    many = [Cell(c.model, f"{c.recipe}+magnitude@head=0.{s}" if c.recipe != "none" else c.recipe, c.probe)
            for c in large for s in range(1, 9)]  # fmt: skip
    spent = [seconds(batch) for batch in batches.packed(dict.fromkeys(many), 2)]
    assert len(spent) > 4 and spent[0] < sum(spent) / 2
    assert all(later < 1.5 * earlier for earlier, later in pairwise(spent)) and spent[-1] < spent[0] / 2


def test_a_batch_asks_for_what_its_model_needs(cells):
    of = lambda model: batches.described([c for c in cells if c.model == model])  # noqa: E731
    lab, smollm, vicuna = of(LAB[0]), of("smollm2-135m"), of("vicuna-7b")
    assert (lab["gpu"], smollm["gpu"], vicuna["gpu"]) == (0, 1, 1)
    assert lab["mem_mb"] < 2100 < smollm["mem_mb"] < 3000
    assert 4 * 6738 < vicuna["mem_mb"] < 5 * 6738 + 2100, "float32 weights of 6.7 billion parameters fit"
    assert 10 <= lab["runtime"] < smollm["runtime"] < vicuna["runtime"]
    slow = batches.described([c for c in cells if c.model == "vicuna-7b"], speed=3.0)
    assert slow["runtime"] - 10 == pytest.approx(3 * (vicuna["runtime"] - 10), rel=0.01), "measured seconds correct it"


def test_threads_are_those_of_cores_that_memory_leaves_idle(cells):
    of = lambda model: batches.described([c for c in cells if c.model == model], 16, 64_000)["threads"]  # noqa: E731
    assert [of(m) for m in (LAB[0], *LARGE)] == [1, 1, 8]


def test_work_is_corrected_by_what_was_measured(cells, results, monkeypatch):
    small = [c for c in cells if c.model in LAB]
    work = progress.Work(small)
    took = {c.key: 3 * work.expected[c] for c in small if c.model == LAB[0]}
    about = lambda key: {"made": {"seconds": {"probe": took[key] / 2}, "threads": 2}} if key in took else None  # noqa: E731
    monkeypatch.setattr(store, "about", about)
    before = work.seconds(small)
    assert [c for c in small if work.learn(c)] == [c for c in small if c.key in took]
    work._measured[LAB[0]] = [100 * n for n in work._measured[LAB[0]]]  # as of hundred times as many
    assert work.speed(LAB[0]) == pytest.approx(3, rel=0.2)
    assert 1 < work.speed(LAB[1]) <= work.speed(), "others are expected to be as slow"
    assert work.seconds(small) > 1.5 * before
