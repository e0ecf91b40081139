import re
from types import SimpleNamespace

import pytest
import torch

from kc_utils.compression import calibration
from kc_utils.errors import BadRequest
from kc_utils.probing.probe import Probe
from tests.models.architectures import tiny


class Words:
    """A tokenizer without a vocabulary: a word's number is the sum of its letters, below `size`."""

    def __init__(self, size=40, mask=None):
        self.size, self.mask_token_id = size, mask

    def __call__(self, text, truncation, max_length):
        numbers = [3 + 7 * sum(map(ord, word)) % (self.size - 3) for word in text.split()]
        return {"input_ids": numbers[:max_length] if truncation else numbers}


def test_paragraphs_are_whole_lines_of_prose():
    paragraphs = calibration.paragraphs()
    assert len(paragraphs) == len(set(paragraphs)) == 40
    for paragraph in paragraphs:
        assert 60 <= len(paragraph.split()) <= 90
        assert paragraph[0].isupper() and paragraph[-1] == "." and "\n" not in paragraph
        assert not re.search(r"\d", paragraph)
        inside = re.findall(r"(?<![.?!:;] )\b(?!I\b)[A-Z]\w*", paragraph[1:])
        assert not inside, f"a name? {inside}"


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


def test_the_hash_names_the_text_that_was_read():
    assert calibration.sha256(2) == calibration.sha256(2) != calibration.sha256(3)
    assert calibration.texts(3)[:2] == calibration.texts(2)
    with pytest.raises(BadRequest, match="samples=41: the calibration text has 40 paragraphs"):
        calibration.texts(41)


def test_examples_fit_the_positions_of_the_model():
    for name, longest in (("llama", 22), ("gpt2", 22), ("t5", 90)):
        found = calibration.examples(tiny(name), Words(), 5)
        assert len(found) == 5
        for example, text in zip(found, calibration.texts(5), strict=True):
            assert example["input_ids"].shape == (1, min(longest, len(text.split())))
            assert example["input_ids"].dtype == torch.int64
            assert bool((example["attention_mask"] == 1).all())


def test_a_masked_model_gets_masks_and_others_none():
    masked, plain = (calibration.examples(tiny("bert"), Words(mask=mask), 1)[0]["input_ids"] for mask in (2, None))
    assert (masked == 2).nonzero()[:, 1].tolist() == [3, 10, 17]
    assert torch.equal(masked[masked != 2], plain[masked != 2])
    assert not (calibration.examples(tiny("bart"), Words(mask=2), 1)[0]["input_ids"] == 2).any()


@pytest.mark.parametrize("tokenizer", [Words(size=41000), lambda *_, **__: {"input_ids": []}])
def test_a_tokenizer_of_another_model_is_refused(tokenizer):
    with pytest.raises(BadRequest, match="does not fit the model, which has 40 token embeddings"):
        calibration.examples(tiny("llama"), tokenizer, 2)


def test_positions_under_another_name():
    model = SimpleNamespace(
        config=SimpleNamespace(n_positions=12), get_input_embeddings=tiny("gpt2").get_input_embeddings
    )
    assert calibration.examples(model, Words(), 1)[0]["input_ids"].shape == (1, 10)


def test_a_decoder_reads_each_paragraph_behind_its_first_token():
    from tests.trained import byte_level

    tokenizer, model = byte_level(), tiny("llama")
    model.resize_token_embeddings(len(tokenizer))
    found = calibration.examples(model, tokenizer, 2)
    longest = calibration._longest(model)
    for example, text in zip(found, calibration.texts(2), strict=True):
        plain = tokenizer(text, add_special_tokens=False).input_ids
        assert example["input_ids"][0].tolist() == [tokenizer.bos_token_id, *plain][:longest]
