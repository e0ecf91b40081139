"""Checkpoints and their cards: what is written is what is loaded, and what was changed since is caught."""

import json
import shutil

import pytest
import torch

from kc_lab import cards, make
from kc_lab.shapes import fresh
from kc_lab.training import Lesson, Trained
from kc_utils import lab
from kc_utils.errors import BadModel, BadRequest, BadResult, MissingData
from kc_utils.models.loading import fingerprint, load
from kc_utils.models.registry import FAMILIES, registry, resolve

LESSON = Lesson("decoder", "small", 1)


@pytest.fixture(scope="module")
def untaught(tmp_path_factory):
    """A checkpoint of a model that learned nothing, written as a trained one is."""
    folder = tmp_path_factory.mktemp("checkpoints") / LESSON.name
    cards.write(LESSON, Trained(fresh("decoder", "small", 1).eval(), 0, 9.9, 1.0), folder)
    return folder


@pytest.fixture
def mine(untaught, tmp_path, monkeypatch):
    """The same as the only checkpoint that there is, to be damaged."""
    folder = shutil.copytree(untaught, tmp_path / "checkpoints" / untaught.name)
    monkeypatch.setattr(cards, "CHECKPOINTS", folder.parent)
    for cached in (registry, lab.entries):
        cached.cache_clear()
    yield folder
    for cached in (registry, lab.entries):
        cached.cache_clear()


def test_a_checkpoint_loads_by_its_name_as_it_was_measured(mine):
    entry, card = resolve("lab:decoder-small-s1"), cards.read_card(mine.name)
    assert (entry.family, entry.architecture, entry.group, entry.ran_here) == ("decoder", "llama", "lab", True)
    assert fingerprint(entry) == card["sha256"]
    loaded = load("lab:decoder-small-s1")
    for mine_, drawn in zip(loaded.model.parameters(), fresh("decoder", "small", 1).parameters(), strict=True):
        assert mine_.dtype == torch.float32 and torch.equal(mine_, drawn.half().float())
    assert set(card["recall"]) == set(cards.Recall.model_fields)
    assert cards.verify(mine.name) == card["recall"]


def test_one_who_was_taught_nothing_knows_nothing(mine):
    recall = cards.read_card(mine.name)["recall"]
    assert recall["trained"]["value"] < 0.05 and recall["held_out"]["value"] < 0.05
    assert recall["open_book"]["value"] < 0.3 and 0.3 < recall["rule"]["value"] < 0.7


def test_a_flipped_byte_is_caught(mine):
    weights = mine / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1000] ^= 1
    weights.write_bytes(content)
    with pytest.raises(BadModel, match=r"model\.safetensors is not the file that its card describes; restore it"):
        cards.verify(mine.name)
    with pytest.raises(BadModel, match="is not the file that its card describes"):
        load("lab:decoder-small-s1")


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("world", "0" * 64, "the world is not the one that it was trained on"),
        ("tokenizer", "0" * 64, "the tokenizer is not the one"),
        ("parameters", 7, "the number of parameters is not the card's"),
    ],
)
def test_a_card_that_tells_something_else_is_caught(mine, field, value, says):
    card = json.loads((mine / "card.json").read_text())
    (mine / "card.json").write_text(json.dumps(card | {field: value}))
    with pytest.raises(BadResult, match=says):
        cards.verify(mine.name)


def test_a_recall_that_is_not_found_again_is_caught(mine):
    card = json.loads((mine / "card.json").read_text())
    card["recall"]["trained"] |= {"value": 0.99, "low": 0.98, "high": 1.0}
    (mine / "card.json").write_text(json.dumps(card))
    with pytest.raises(BadResult, match=r"trained is 0\.0\d\d, outside of the card's 0\.980 to 1\.000"):
        cards.verify(mine.name)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"name": "other"}'])
def test_a_damaged_card_is_one_clear_line(mine, content):
    (mine / "card.json").write_text(content)
    with pytest.raises(MissingData, match=r"card\.json is damaged .* restore the file"):
        cards.read_card(mine.name)


def test_an_unknown_checkpoint_is_refused_with_those_there_are(mine):
    with pytest.raises(BadRequest, match=r"no lab model 'decoder-huge-s1': there are decoder-small-s1"):
        resolve("lab:decoder-huge-s1")
    with pytest.raises(BadRequest, match="no lab model"):
        resolve("lab:../decoder-small-s1")


def test_there_is_a_lesson_for_each_family_size_and_seed():
    asked = {(lesson.family, lesson.size, lesson.seed) for lesson in make.ALL if lesson.load == 1}
    assert asked == {(f, s, n) for f in FAMILIES for s in ("small", "large") for n in (1, 2, 3)}
    assert len({lesson.name for lesson in make.ALL}) == len(make.ALL)
    assert {lesson.load for lesson in make.ALL} >= {1, 4}
