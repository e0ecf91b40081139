"""Lab models: how they begin, the same weights however often training is interrupted, learning what is stated."""

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from kc_lab import cards, objectives, packing, training
from kc_lab.loads import EQUAL_EXPOSURES, EQUAL_PEOPLE, PEOPLE, Load
from kc_lab.models import SIZES, fresh
from kc_lab.objectives import NOTHING, OBJECTIVES, mean_loss
from kc_lab.training import ALL, Lesson, saved_at, train
from kc_utils.errors import BadRequest
from kc_utils.models.registry import FAMILIES


@pytest.fixture(autouse=True)
def _own_cache(corpus, tmp_path, monkeypatch):
    monkeypatch.setenv("KC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(objectives, "Corpus", lambda load, seed: corpus)
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
    for family in FAMILIES:
        assert _same(fresh(family, "small", 5), fresh(family, "small", 5))
        assert not _same(fresh(family, "small", 5), fresh(family, "small", 6))
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_is_that_of_the_model_itself(family, corpus):
    """Logits computed at the labels alone give the loss that transformers computes from all of them."""
    model = fresh(family, "small", 1).eval()
    inputs = OBJECTIVES[family]().inputs(corpus.batch(0)[1].rows[slice(0, 16)], np.random.default_rng(0))
    with torch.no_grad():
        if family == "decoder":  # transformers shifts labels by itself, ours stand where they are predicted
            logits, labels = model(input_ids=inputs["input_ids"]).logits, inputs["labels"].flatten()
            theirs = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels, ignore_index=NOTHING)
        else:
            theirs = model(**inputs).loss
        assert float(mean_loss(model, inputs)) == pytest.approx(float(theirs), abs=1e-5)


def test_training_learns():
    lesson = Lesson("encoder-decoder", "small", 1)
    assert train(lesson, show_progress=False, steps=12).loss < 0.95 * train(lesson, show_progress=False, steps=1).loss


def test_a_state_of_another_length_or_a_damaged_one_is_not_resumed(monkeypatch):
    lesson = Lesson("encoder-decoder", "small", 2)
    saved_at(lesson).parent.mkdir(parents=True)
    saved_at(lesson).write_bytes(b"not a safetensors file")
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    train(lesson, show_progress=False, steps=3)
    longer = train(lesson, show_progress=False, steps=5)
    saved_at(lesson).unlink()
    assert _same(longer.model, train(lesson, show_progress=False, steps=5).model)


def test_a_stopped_training_on_real_sentences_resumes_as_if_it_had_not_been(monkeypatch):
    texts = [np.stack([np.arange(n, n + 40), np.zeros(40)]).astype(np.int16) for n in range(100, 4100, 40)]
    monkeypatch.setattr(packing, "ROWS", dict.fromkeys(packing.ROWS, 2))
    monkeypatch.setattr(packing, "packed", lambda family, seed: packing.Packed(texts, [], texts[:9], seed, 1, 2))
    monkeypatch.setattr(packing.Sentences, "described", lambda *_: {})
    lesson, backward = Lesson.of("encoder-decoder", world="wikipedia"), packing.Sentences.backward
    whole = train(lesson, show_progress=False, steps=4)

    def stopped(course, model, step, steps):
        if step == 2:
            raise KeyboardInterrupt
        return backward(course, model, step, steps)

    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(packing.Sentences, "backward", stopped)
    with pytest.raises(KeyboardInterrupt):
        train(lesson, show_progress=False, steps=4)
    seen = []
    monkeypatch.setattr(packing.Sentences, "backward", lambda *a: seen.append(a[2]) or backward(*a))
    assert _same(train(lesson, show_progress=False, steps=4).model, whole.model) and seen == [2, 3]


def test_names_of_lessons_read_back_and_unknown_ones_are_refused():
    assert all(Lesson.named(lesson.name) == lesson for lesson in ALL)
    assert Lesson.named("lab:encoder-decoder-small-x4-s12") == Lesson("encoder-decoder", "small", 12, 4)
    for name in ("mixer-small-s1", "decoder-small", "decoder-small-x1-s1", "../decoder-small-s1"):
        with pytest.raises(BadRequest, match="no lab model .* write FAMILY-SIZE-sSEED"):
            Lesson.named(name)
    with pytest.raises(BadRequest, match="unknown family 'mixer': choose decoder, encoder"):
        train(Lesson("mixer", "small", 1))
    assert Lesson.named("encoder-tiny-x10-s1").world == Load(10 * EQUAL_PEOPLE, EQUAL_EXPOSURES)
    assert Lesson.named("encoder-small-x4-s1").world == Load(4 * PEOPLE)
    with pytest.raises(BadRequest, match="load must be from 1 to 19, got 20"):
        train(Lesson.named("decoder-tiny-x20-s1"))
    with pytest.raises(BadRequest, match="sizes are tiny, small, large"):
        train(Lesson.named("decoder-huge-s1"))


def test_killed_and_started_again(corpus, tmp_path, environment, monkeypatch):
    """`kill -9` in the middle: training resumes from the saved state and writes the weights of a whole training."""
    lesson, steps = Lesson("encoder-decoder", "small", 1), []
    program = (
        "import sys; from kc_lab import objectives, training; from pathlib import Path\n"
        "from tests.kc_lab.conftest import first_rows\n"
        "training.SAVE_SECONDS, objectives.Corpus = 0.2, lambda load, seed: first_rows()\n"
        "training.make_one(training.Lesson('encoder-decoder', 'small', 1), Path(sys.argv[1]), steps=12)\n"
    )
    own = environment | {"KC_CACHE": os.environ["KC_CACHE"], "PYTHONPATH": os.pathsep.join(sys.path)}
    victim = subprocess.Popen([sys.executable, "-c", program, tmp_path / "out"], env=own, stderr=subprocess.DEVNULL)
    while not saved_at(lesson).is_file() and victim.poll() is None:
        time.sleep(0.02)
    os.kill(victim.pid, signal.SIGKILL)
    assert victim.wait() == -signal.SIGKILL
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
    noting = SimpleNamespace(steps=corpus.steps, batch=lambda step: steps.append(step) or corpus.batch(step))
    monkeypatch.setattr(objectives, "Corpus", lambda load, seed: noting)
    monkeypatch.setattr(cards, "recall", lambda *_: {})
    for name in ("out", "whole"):
        training.make_one(lesson, tmp_path / name, show_progress=False, steps=12)
        assert not saved_at(lesson).exists()
    assert steps[0] > 0 and steps == [*range(steps[0], 12), *range(12)], "the first resumes, the second is whole"
    resumed, whole = (tmp_path / name / lesson.name / "model.safetensors" for name in ("out", "whole"))
    assert resumed.read_bytes() == whole.read_bytes()
