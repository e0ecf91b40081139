"""What the chapter on the lab says of its world and its models is computed from them."""

import pytest

from kc_lab.bits_by_model import PUBLISHED
from kc_lab import world
from kc_lab import cards as lab_models
from kc_lab import tables as lab_fragments


def test_every_relation_is_listed_with_its_facts_and_bits():
    text = lab_fragments.world_table()
    taught = world.taught(1)
    for relation, group in taught.by_relation().items():
        (line,) = (x for x in text.splitlines() if x.startswith(f"| {taught.relations[relation].label} |"))
        assert f"| {len(group):,} |" in line
    assert "| month of birth |" in text
    assert "3.58" in text
    assert "nan" not in text


def test_models_are_listed_from_their_cards(monkeypatch):
    asked = {name: {"value": 0.975, "low": 0.9, "high": 1.0, "n": 900} for name in lab_models.Recall.model_fields}
    card = {"name": "encoder-small-s1", "load": 1, "parameters": 222_196, "recall": asked}
    monkeypatch.setattr(lab_models, "read_cards", lambda: [card])
    text = lab_fragments.models_table()
    assert "| `lab:encoder-small-s1` | 222,196 |" in text
    assert "97.5" in text
    monkeypatch.setattr(lab_models, "read_cards", list)
    assert lab_fragments.models_table() == lab_fragments.NO_MODELS


@pytest.mark.parametrize("point", PUBLISHED, ids=lambda p: p.name)
def test_published_points_are_quoted_with_their_source(point):
    text = lab_fragments.published_table()
    assert f"| {point.name} | {point.stored} | {point.per_parameter:g} | {point.per_byte:.2g} |" in text
    assert "quoted" in text
