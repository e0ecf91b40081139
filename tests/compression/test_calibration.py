"""The calibration text and the walk through a model that reads it."""

import re

import pytest
import torch

from kc_utils.compression import calibration
from kc_utils.errors import MissingData
from kc_utils.models.scopes import select
from kc_utils.probing.probe import Probe
from tests.models.architectures import tiny
from tests.trained import byte_level, sentinels, word_pieces


class Words:
    """A tokenizer without a vocabulary: a word's number is the sum of its letters, below `size`."""

    def __init__(self, size=40, mask=None):
        self.size, self.mask_token_id = size, mask

    def __call__(self, text, **options):
        return {"input_ids": [3 + 7 * sum(map(ord, word)) % (self.size - 3) for word in text.split()]}


def test_no_probed_fact_is_in_the_text():
    """The subject of a fact and one of its answers never meet in a paragraph."""
    words = [set(re.findall(r"\w+", paragraph)) for paragraph in calibration.paragraphs()]
    facts = Probe().factset().facts
    assert len(facts) > 500
    for fact in facts:
        subject = set(re.findall(r"\w+", fact.subject))
        for answer in fact.answers:
            both = subject | set(re.findall(r"\w+", answer))
            assert not any(both <= paragraph for paragraph in words), fact


@pytest.mark.parametrize(
    ("name", "tokenizer", "first", "longest", "last"),
    [("bert", word_pieces(), 1, 20, 1), ("t5", sentinels(), 0, 511, 1), ("llama", byte_level(), 0, 22, 0)],
)
def test_a_window_fits_the_positions_between_the_special_tokens(name, tokenizer, first, longest, last):
    model = tiny(name)
    model.resize_token_embeddings(len(tokenizer))
    text, parts = calibration.batch(model, tokenizer, 9, 1), calibration.texts(9, 1)
    whole = tokenizer(["\n\n".join(parts)] if name == "llama" else list(parts)).input_ids
    rows = [t[:first] + t[i : min(i + longest, len(t) - last)] + t[len(t) - last :]
            for t in whole for i in range(first, len(t) - last, longest)]  # fmt: skip
    for row, ids, real in zip(map(torch.tensor, rows), text["input_ids"], text["attention_mask"], strict=True):
        assert real.sum() == real[: len(row)].sum() == len(row) and ids.dtype == torch.int64
        assert ((ids[: len(row)] == row) | (ids[: len(row)] == (tokenizer.mask_token_id or -1))).all()
    assert len(rows) >= 9 and ("decoder_input_ids" in text) == (name == "t5")


def test_a_masked_model_gets_masks_and_others_none():
    masked, plain = (calibration.batch(tiny("bert"), Words(mask=mask), 1)["input_ids"] for mask in (2, None))
    assert (masked[0] == 2).nonzero()[:, 0].tolist() == [3, 10, 17]
    assert torch.equal(masked[masked != 2], plain[masked != 2])
    assert not any((calibration.batch(tiny(n), Words(mask=2), 1)["input_ids"] == 2).any() for n in ("bart", "llama"))


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma3_text", "bert", "roberta", "opt", "t5", "bart"])
def test_the_walk_gives_what_each_window_by_itself_gives(name):
    """One padded batch, and the model run on one window after the other: the same inputs."""
    model, seen = tiny(name), {}
    text = calibration.batch(model, Words(), 4)
    calibration.walk(model, select(model, "all"), text, lambda matrix, inputs: seen.update({matrix.name: inputs}))
    alone = {m.name: [] for m in select(model, "all")}
    for m in select(model, "all"):
        m.module.register_forward_pre_hook(lambda _, args, name=m.name: alone[name].append(args[0].flatten(0, -2)))
    for row in range(len(text["input_ids"])):
        length = int(text["attention_mask"][row].sum())
        with torch.no_grad():
            model(**{key: value[row : row + 1, :length] for key, value in text.items()})
    assert seen.keys() == alone.keys()
    for key, pieces in alone.items():
        torch.testing.assert_close(seen[key], torch.cat(pieces), rtol=1e-3, atol=1e-4)


def test_a_text_that_was_changed_is_refused(tmp_path, monkeypatch):
    other = tmp_path / "calibration.txt"
    other.write_text("Something else.")
    monkeypatch.setattr(calibration, "TEXT", other)
    calibration.paragraphs.cache_clear()
    with pytest.raises(MissingData, match="is not the text of this study any more"):
        calibration.paragraphs()
    calibration.paragraphs.cache_clear()
