"""Where models are evaluated: chosen by KC_DEVICE, stated in the record, without influence on the answers."""

import numpy as np
import pytest
import torch
from torch import nn

from kc_utils.compression.apply import apply
from kc_utils.compression.recipe import Recipe
from kc_utils.errors import BadRequest
from kc_utils.models import loading
from kc_utils.models.loading import load
from kc_utils.probing.probe import Probe
from kc_utils.study import measure

HERE = torch.cuda.is_available()


CHOSEN = {
    ("", 0): "cpu", ("auto", 0): "cpu", ("auto", 2): "cuda", ("cpu", 2): "cpu", ("cuda", 1): "cuda", ("cuda:1", 2): "cuda:1",
}  # fmt: skip
REFUSED = {
    ("cuda", 0): "KC_DEVICE=cuda: torch sees 0 CUDA devices here; choose auto or cpu",
    ("cuda:2", 2): "sees 2 CUDA devices",
    ("gpu", 1): "KC_DEVICE=gpu: choose auto, cpu, cuda or cuda:N",
    ("cuda:-1", 1): "choose auto",
}


@pytest.mark.parametrize(("wish", "there"), [*CHOSEN, *REFUSED])
def test_a_device_is_chosen_or_refused(monkeypatch, wish, there):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    monkeypatch.setenv("KC_DEVICE", wish)
    if (wish, there) in CHOSEN:
        assert loading.chosen_device() == torch.device(CHOSEN[wish, there])
        return
    with pytest.raises(BadRequest, match=REFUSED[wish, there]):
        loading.chosen_device()


@pytest.mark.parametrize(("recipe", "expected"), [("magnitude@all=0.5", "meta"), ("rtn@all=4", "meta"), ("int8@all", "cpu")])
def test_what_a_library_holds_stays_on_the_processor(trained, monkeypatch, recipe, expected):
    loaded = load(trained.id)
    apply(loaded.model, Recipe.parse(recipe), tokenizer=loaded.tokenizer)
    monkeypatch.setattr(loading, "chosen_device", lambda: torch.device("meta"))  # a device that every machine has
    assert loading.place(loaded.model) == torch.device(expected)
    assert {p.device.type for p in loaded.model.parameters()} == {expected}


def test_a_device_that_is_too_small_is_refused(monkeypatch):
    def too_large(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(nn.Linear, "to", too_large)
    monkeypatch.setattr(loading, "chosen_device", lambda: torch.device("cuda"))
    with pytest.raises(BadRequest, match="does not fit on cuda: KC_DEVICE=cpu"):
        loading.place(nn.Linear(2, 2))


@pytest.mark.skipif(not HERE, reason="no CUDA device here")
@pytest.mark.parametrize("recipe", ["none", "magnitude@all=0.3", "rtn@all=4"])
@pytest.mark.parametrize(
    ("family", "more"), [("decoder", ["generate", "openbook"]), ("encoder", ["openbook"]), ("encoder-decoder", ["generate"])]
)
def test_an_accelerator_gives_the_processors_answers(monkeypatch, family, more, recipe):
    rows, model = {}, f"lab:{family}-small-s1"
    probe = {"facts": "lab", "limit": 120, "protocols": ["rank", "cloze", *more]}
    for name in ("cpu", "cuda"):
        monkeypatch.setenv("KC_DEVICE", name)
        version = measure.make(model, recipe)
        assert {p.device.type for p in version.loaded.model.parameters()} == {name}
        rows[name], _ = measure.answers(version, Probe(**probe))
    there, here = rows["cuda"], rows["cpu"]
    assert list(there["fact"]) == list(here["fact"])
    assert (there["correct"] != here["correct"]).sum() <= 1
    np.testing.assert_allclose(there["score"], here["score"], atol=2e-3, equal_nan=True)
