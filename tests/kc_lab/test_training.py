"""Training of lab models: the same weights however often it is interrupted, learning what it is taught."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from kc_lab import training
from kc_lab.corpus import Corpus
from kc_lab.objectives import NOTHING, OBJECTIVES
from kc_lab.shapes import SIZES, fresh
from kc_lab.training import Lesson, mean_loss, rate, saved_at, train
from kc_utils.errors import BadRequest
from kc_utils.models.registry import FAMILIES

STEPS = 12


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KC_CACHE", str(tmp_path / "cache"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _same(one, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("size", SIZES)
def test_families_of_one_size_have_nearly_equal_numbers_of_parameters(size):
    counts = [sum(p.numel() for p in fresh(family, size, 1).parameters()) for family in FAMILIES]
    assert max(counts) / min(counts) < 1.10


def test_a_seed_gives_the_weights_and_leaves_the_global_one_alone():
    before = torch.random.get_rng_state()
    assert _same(fresh("decoder", "small", 5), fresh("decoder", "small", 5))
    assert not _same(fresh("decoder", "small", 5), fresh("decoder", "small", 6))
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_is_that_of_the_model_itself(family):
    """Scores computed at the labels alone give the loss that transformers computes from all of them."""
    model = fresh(family, "small", 1).eval()
    rows = Corpus(1, 1).batch(0)[1].rows[slice(0, 16)]
    import numpy as np

    inputs = OBJECTIVES[family]().inputs(rows, np.random.default_rng(0))
    with torch.no_grad():
        if family == "decoder":  # transformers shifts labels by itself, ours stand where they are predicted
            logits = model(input_ids=inputs["input_ids"]).logits
            theirs = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), inputs["labels"].flatten(), ignore_index=NOTHING
            )
        else:
            theirs = model(**inputs).loss
        assert float(mean_loss(model, inputs)) == pytest.approx(float(theirs), abs=1e-5)


def test_the_rate_rises_then_falls_to_nothing():
    rates = [rate(step, 100, 2.0) for step in range(100)]
    assert rates[0] < rates[4] == pytest.approx(2.0) and rates[-1] < 0.01
    assert rates[5:] == sorted(rates[5:], reverse=True)


def test_an_interrupted_training_ends_with_the_same_weights(monkeypatch):
    whole = train(Lesson("encoder-decoder", "small", 1), show_progress=False, steps=STEPS)
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    real, done = training._learn, []

    def dies_at_step_seven(*arguments):
        if len(done) == 7:
            raise KeyboardInterrupt
        done.append(1)
        return real(*arguments)

    monkeypatch.setattr(training, "_learn", dies_at_step_seven)
    with pytest.raises(KeyboardInterrupt):
        train(Lesson("encoder-decoder", "small", 1), show_progress=False, steps=STEPS)
    assert saved_at(Lesson("encoder-decoder", "small", 1)).is_file()
    monkeypatch.setattr(training, "_learn", real)
    again = train(Lesson("encoder-decoder", "small", 1), show_progress=False, steps=STEPS)
    assert _same(whole.model, again.model)
    assert again.loss == pytest.approx(whole.loss)


def test_what_was_saved_of_another_course_is_not_gone_on_with(monkeypatch):
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    lesson = Lesson("encoder-decoder", "small", 2)
    train(lesson, show_progress=False, steps=3)
    longer = train(lesson, show_progress=False, steps=5)
    saved_at(lesson).unlink()
    assert _same(longer.model, train(lesson, show_progress=False, steps=5).model)


def test_a_damaged_save_is_a_new_beginning():
    lesson = Lesson("encoder-decoder", "small", 3)
    saved_at(lesson).parent.mkdir(parents=True)
    saved_at(lesson).write_bytes(b"not a safetensors file")
    assert train(lesson, show_progress=False, steps=2).steps == 2


def test_the_loss_falls():
    first = train(Lesson("encoder-decoder", "small", 4), show_progress=False, steps=1).loss
    assert train(Lesson("encoder-decoder", "small", 5), show_progress=False, steps=30).loss < 0.85 * first


def test_unknown_families_and_sizes_are_refused():
    with pytest.raises(BadRequest, match="unknown family 'mixer': choose decoder, encoder"):
        train(Lesson("mixer", "small", 1))
    with pytest.raises(BadRequest, match="sizes are small, large"):
        train(Lesson("decoder", "huge", 1))


def test_killed_and_started_again_from_the_command_line(tmp_path, environment):
    """`kill -9` in the middle: the same command goes on from what was saved and writes the same weights."""
    out = {name: tmp_path / name for name in ("whole", "killed")}

    def start(name: str) -> subprocess.Popen:
        program = (
            "import sys; from kc_lab import training, make; from pathlib import Path\n"
            "training.SAVE_SECONDS = 0.2\n"
            "whole = training.train\n"
            "make.train = lambda *a, **k: whole(*a, **k, steps=25)\n"
            "make.make_one(training.Lesson('encoder-decoder', 'small', 1), Path(sys.argv[1]))\n"
        )
        own = environment | {"KC_CACHE": str(tmp_path / f"cache-{name}")}
        return subprocess.Popen([sys.executable, "-c", program, str(out[name])], env=own, stderr=subprocess.DEVNULL)

    assert start("whole").wait(timeout=300) == 0
    victim, saved = start("killed"), tmp_path / "cache-killed" / "lab" / "encoder-decoder-small-s1.safetensors"
    for _ in range(3000):
        if saved.is_file():
            break
        time.sleep(0.05)
    os.kill(victim.pid, signal.SIGKILL)
    assert victim.wait(timeout=60) == -signal.SIGKILL
    assert not out["killed"].exists() or not list(out["killed"].iterdir())
    assert start("killed").wait(timeout=300) == 0
    weights = [folder / "encoder-decoder-small-s1" / "model.safetensors" for folder in out.values()]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert not saved.exists()
