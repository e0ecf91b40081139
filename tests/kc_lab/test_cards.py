"""Checkpoints, their cards, and the one door to them: what is written is loaded, what was changed since is caught."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

import kc_lab
from kc_lab import cards, objectives, tables, training, wikipedia, world
from kc_lab.bits import PUBLISHED
from kc_lab.loads import EQUAL_EXPOSURES
from kc_lab.models import TINY, fresh
from kc_lab.training import ALL, Lesson, Trained, of_world
from kc_utils import lab
from kc_utils.errors import BadModel, BadRequest, BadResult, MissingData
from kc_utils.models.loading import fingerprint, load
from kc_utils.models.registry import registry, resolve
from kc_utils.probing.files import find_data

LESSON = Lesson("decoder", "small", 1)
ROOT = Path(kc_lab.__file__).parents[1]


@pytest.fixture(scope="module")
def untaught(tmp_path_factory):
    """A checkpoint of a model that learned nothing, written as a trained one is; recall is of few facts in this module."""
    folder, model = tmp_path_factory.mktemp("checkpoints") / LESSON.name, fresh("decoder", "small", 1).eval()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cards, "SAMPLE", 60)
        patch.setattr(cards, "STRANGERS", 40)
        cards.write(LESSON, model, training.settings(LESSON, Trained(model, 0, 9.9, 1.0, {})), folder)
        yield folder


def _forget():
    registry.cache_clear()
    lab.entries.cache_clear()


@pytest.fixture
def mine(untaught, tmp_path, monkeypatch):
    """The same as the only checkpoint that there is, to be damaged."""
    folder = shutil.copytree(untaught, tmp_path / "checkpoints" / untaught.name)
    monkeypatch.setattr(cards, "CHECKPOINTS", folder.parent)
    _forget()
    yield folder
    _forget()


def change(folder, **fields):
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(card | fields))


def test_a_checkpoint_loads_by_its_name_as_it_was_measured(mine):
    entry, card = resolve("lab:decoder-small-s1"), cards.read_card(mine.name)
    assert (entry.family, entry.architecture, entry.group, entry.ran_here) == ("decoder", "llama", "lab", True)
    assert fingerprint(entry) == card["sha256"]
    loaded = load("lab:decoder-small-s1")
    for stored, drawn in zip(loaded.model.parameters(), fresh("decoder", "small", 1).parameters(), strict=True):
        assert stored.dtype == torch.float32 and torch.equal(stored, drawn.half().float())
    assert cards.verify(mine.name) == card["recall"]
    values = {name: share["value"] for name, share in card["recall"].items()}
    assert values["trained"] < 0.1 and values["held_out"] < 0.1, "it learned nothing"
    assert values["open_book"] < 0.4 and 0.3 < values["rule"] < 0.7


def test_a_flipped_byte_is_caught(mine):
    content = (mine / "model.safetensors").read_bytes()
    (mine / "model.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    for check in (cards.verify, lambda name: load(f"lab:{name}")):
        with pytest.raises(BadModel, match=r"model\.safetensors is not the file that its card describes; restore it"):
            check(mine.name)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("world", "0" * 64, "the world is not the one that it was trained on"),
        ("tokenizer", "0" * 64, "the tokenizer is not the one"),
        ("parameters", 7, "the number of parameters is not the card's"),
        ("recall", {"value": 0.99, "low": 0.98, "high": 1.0, "n": 9}, r"outside of the card's 0\.980 to 1\.000"),
    ],
)
def test_a_card_that_does_not_fit_its_model_is_caught(mine, field, value, message):
    change(mine, **{field: dict.fromkeys(cards.Recall.model_fields, value) if field == "recall" else value})
    with pytest.raises(BadResult, match=message):
        cards.verify(mine.name)


@pytest.mark.parametrize("content", ["{", "[]", "{}", "\udcff", {"parameters": "many"}, {"recall": {}}], ids=str)
def test_a_damaged_card_is_left_out_of_lists_and_refused_by_name(mine, untaught, kc, content):
    shutil.copytree(untaught, mine.parent / "decoder-small-s2")
    change(mine.parent / "decoder-small-s2", name="decoder-small-s2", seed=2)
    if isinstance(content, dict):
        change(mine, **content)
    else:
        (mine / "card.json").write_bytes(content.encode(errors="surrogateescape"))
    code, out, err = kc("models", "--json")
    listed = {row["model"] for row in json.loads(out)}
    assert code == 0 and {"smollm2-135m", "lab:decoder-small-s2"} <= listed and "lab:decoder-small-s1" not in listed
    assert len(err.splitlines()) == 1 and "lab:decoder-small-s1 is left out" in err
    with pytest.raises(MissingData, match=r"card\.json is damaged .* restore the file.*kc lab train decoder-small-s1"):
        resolve("lab:decoder-small-s1")


def test_an_unknown_checkpoint_is_refused_with_those_there_are(mine):
    for name in ("decoder-huge-s1", "../decoder-small-s1"):
        with pytest.raises(BadRequest, match=r"no lab model '.*': there are decoder-small-s1"):
            resolve(f"lab:{name}")


@pytest.mark.parametrize(
    "arguments",
    [
        "", "decoder-small-s1 --all", "--seed 2", "decoder-small-s1 --size large", "deco", "--world wikipedia",
        "decoder-small-s1 --world people", "--family decoder --world mars", "--family decoder --world wikipedia --load 2",
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_one_line(kc, arguments):
    code, out, err = kc("lab", "train", *arguments.split())
    assert (code, out, len(err.splitlines())) == (2, "", 1)


def test_a_model_is_trained_by_the_name_that_messages_advise(kc, untaught, corpus, tmp_path, monkeypatch):
    whole = training.train
    monkeypatch.setattr(objectives, "Corpus", lambda load, seed: corpus)
    monkeypatch.setattr(training, "train", lambda *a: whole(*a[:3], steps=2))
    monkeypatch.setenv("KC_CACHE", str(tmp_path / "cache"))
    code, out, _ = kc("lab", "train", "encoder-decoder-small-x2-s3", "--out", str(tmp_path / "out"))
    assert code == 0 and out.startswith("encoder-decoder-small-x2-s3: trained 0.")
    card = json.loads((tmp_path / "out" / "encoder-decoder-small-x2-s3" / "card.json").read_text())
    assert (card["seed"], card["load"], card["training"]["steps"]) == (3, 2, 2)


def test_without_the_package_lab_ids_are_refused_and_all_else_works(kc, monkeypatch):
    monkeypatch.setattr(lab, "find_spec", lambda name: None)
    _forget()
    try:
        assert "smollm2-135m" in registry() and not any(name.startswith("lab:") for name in registry())
        for arguments in (("inspect", "lab:decoder-small-s1"), ("eval", "smollm2-135m", "--facts", "lab:people-x7")):
            code, out, err = kc(*arguments)
            assert (code, out, len(err.splitlines())) == (2, "", 1)
            assert "kc_lab is not installed" in err
    finally:
        _forget()


def test_kc_utils_names_the_lab_in_one_module_alone():
    allowed = {"lab.py", "study/code.py"}  # the latter lists packages whose code results depend on
    files = {f.relative_to(ROOT / "kc_utils").as_posix(): f.read_text() for f in (ROOT / "kc_utils").rglob("*.py")}
    assert {name for name, text in files.items() if re.search(r"(import|from) kc_lab|[\"']kc_lab", text)} <= allowed


@pytest.mark.skipif(not cards.names(), reason="no checkpoints here; `kc lab train --all` makes them")
class TestCheckpoints:
    def test_every_lesson_has_its_checkpoint_and_every_checkpoint_its_lesson(self):
        assert set(cards.names()) <= {lesson.name for lesson in ALL}
        assert {lesson.name for lesson in of_world("people")} <= set(cards.names())
        assert sum(f.stat().st_size for f in cards.CHECKPOINTS.rglob("*") if f.is_file()) < 80e6

    @pytest.mark.parametrize("name", cards.names())
    def test_a_checkpoint_is_whole_of_this_world_and_has_its_skills(self, name):
        card = cards.read_card(name)
        cards.checked_folder(name)
        if card["size"] == cards.WIKIPEDIA:
            both, alone, never = (card["recall"][kind] for kind in wikipedia.KINDS)
            assert both["low"] > max(0.5, alone["high"]) and alone["low"] > never["high"] and never["high"] < 0.25
            if find_data(wikipedia.needed()):
                assert card["world"] == wikipedia.world_hash()
            return
        taught = cards.load_of(card)
        plan = world.plan(taught)
        counts = [plan[fact.id].exposures for fact in world.people(taught).facts]
        assert card["world"] == world.world_hash(taught) and card["people"] == len(counts) / len(world.ABOUT_PEOPLE)
        mean = pytest.approx(sum(counts) / len(counts), abs=0.01)
        assert card["exposures"] == {"mean": mean, "least": min(counts), "most": max(counts)}
        if card["size"] == TINY:
            assert card["exposures"] == dict.fromkeys(("mean", "least", "most"), EQUAL_EXPOSURES)
        elif card["load"] == 1:
            least = {"trained": 0.98, "held_out": 0.9, "open_book": 0.9, "rule": 0.8}
            assert all(card["recall"][what]["value"] >= value for what, value in least.items())

    def test_four_times_the_load_is_too_much_for_a_small_decoder(self):
        names = [f"decoder-small{load}-s1" for load in ("", "-x2", "-x4", "-x8")]
        trained = [cards.read_card(name)["recall"]["trained"] for name in names]
        assert trained[2]["high"] < trained[0]["low"] - 0.1
        values = [share["value"] for share in trained]
        assert values == sorted(values, reverse=True), "recall falls as the load grows"


def test_tables_of_the_book(mine, monkeypatch):
    texts = lab.fragments()
    assert "| 3.58 |" in texts["lab_world.md"]  # log2 12, of the month of birth
    assert "| `lab:decoder-small-s1` | 211,776 | 300 |" in texts["lab_models.md"]
    assert all(f"| {p.name} | {p.stored} | {p.per_parameter:g} |" in texts["lab_published.md"] for p in PUBLISHED)
    shutil.rmtree(mine)
    assert tables.models_table() == tables.NO_MODELS
