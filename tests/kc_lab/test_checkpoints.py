"""The checkpoints of the repository, where there are any: whole, of this world, and knowing what the study needs."""

import pytest

from kc_lab import cards as lab_models
from kc_lab.make import ALL, LOADS
from kc_lab.world import world_hash

MEGABYTES = 80

pytestmark = pytest.mark.skipif(not lab_models.names(), reason="no checkpoints here; `kc lab train --all` makes them")


def test_every_lesson_has_its_checkpoint_and_every_checkpoint_its_lesson():
    assert {lesson.name for lesson in ALL} == set(lab_models.names())


@pytest.mark.parametrize("card", lab_models.read_cards(), ids=lambda card: card["name"])
def test_a_checkpoint_is_whole_and_of_this_world(card):
    lab_models.checked_folder(card["name"])
    assert card["world"] == world_hash(card["load"])


@pytest.mark.parametrize("card", [c for c in lab_models.read_cards() if c["load"] == 1], ids=lambda card: card["name"])
def test_a_checkpoint_knows_its_world_and_has_its_skills(card):
    recall = {name: value["value"] for name, value in card["recall"].items()}
    assert recall["trained"] >= 0.98
    assert recall["held_out"] >= 0.9
    assert recall["open_book"] >= 0.9
    assert recall["rule"] >= 0.8  # encoders differ most here: 0.86 to 0.99 by seed


def test_four_times_the_load_is_too_much_for_a_small_decoder():
    trained = {card["load"]: card["recall"]["trained"] for card in lab_models.read_cards() if _is_small_decoder(card)}
    assert sorted(trained) == [1, *LOADS]
    assert trained[4]["high"] < trained[1]["low"] - 0.1
    shares = [trained[load]["value"] for load in sorted(trained)]
    assert shares == sorted(shares, reverse=True), "recall against load falls"


def _is_small_decoder(card: dict) -> bool:
    return (card["family"], card["size"], card["seed"]) == ("decoder", "small", 1)


def test_all_checkpoints_together_are_small():
    size = sum(f.stat().st_size for f in lab_models.CHECKPOINTS.rglob("*") if f.is_file())
    assert size < MEGABYTES * 1e6
