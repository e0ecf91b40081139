"""Perplexity against the plain loop of transformers' guide."""

import hashlib
import math

import numpy as np
import pytest
import torch

from kc_utils.errors import BadRequest, MissingData
from kc_utils.probing.perplexity import fingerprint, load_text, perplexity, score_text
from kc_utils.probing.probe import Probe
from tests.probing.invented_tasks import WORDS, model, tokenizer

TEXT = " ".join(WORDS[(7 * n * n + n) % 16] + ("\n" if n % 11 == 0 else "") for n in range(150)) + " métro 東京.\n"


def made_for(kind="llama", **marks):
    words = tokenizer(**marks)
    return model(kind, len(words)), words


def guide(made, ids, max_length, stride):
    """Sum of negative log-likelihoods and number of tokens of each window, as transformers' documentation computes them."""
    found, previous = [], 0
    for begin in range(0, ids.shape[1], stride):
        end = min(begin + max_length, ids.shape[1])
        length = end - previous
        window = ids[:, begin:end]
        labels = window.clone()
        labels[:, :-length] = -100
        with torch.no_grad():
            loss = made(window, labels=labels).loss
        count = int((labels != -100).sum()) - int(labels[0, 0] != -100)  # the first token of a window is never scored
        found.append((float(loss) * count, count))
        previous = end
        if end == ids.shape[1]:
            break
    return found


@pytest.mark.parametrize(
    ("kind", "max_length", "stride"),
    [("llama", 64, 32), ("gpt2", 64, 64), ("llama", 50, 7), ("bloom", 1024, 512), ("bloom", 20, 3)],
)
def test_windows_are_those_of_the_guide(kind, max_length, stride):
    made, words = made_for(kind)
    rows = score_text(made, words, TEXT, max_length=max_length, stride=stride)
    expected = guide(made, words(TEXT, return_tensors="pt").input_ids, max_length, stride)
    assert rows["tokens"].tolist() == [count for _, count in expected]
    assert rows["nll"].tolist() == pytest.approx([nll for nll, _ in expected], rel=1e-4)
    lost = len(rows) if stride == max_length else 1  # windows that do not overlap lose their first token
    assert rows["tokens"].sum() == len(words(TEXT).input_ids) - lost
    assert rows["valid"].all() and rows["fact"].is_unique


@pytest.mark.parametrize("marks", [{}, {"begin": True}, {"begin": True, "end": True}])
def test_every_byte_and_word_belongs_to_one_window(marks):
    made, words = made_for(**marks)
    rows = score_text(made, words, TEXT, max_length=30, stride=20)
    ids = words(TEXT, return_offsets_mapping=True)
    skipped = 0 if marks else ids.offset_mapping[1][0]  # without a begin token the text's first token is not scored
    assert rows["bytes"].sum() == len(TEXT[skipped:].encode())
    assert rows["words"].sum() == len(TEXT[skipped:].split()) - (skipped > 0)
    assert rows["tokens"].sum() == len(ids.input_ids) - 1 - bool(marks.get("end"))


def test_metrics_follow_from_the_sums():
    made, words = made_for(begin=True)
    rows = score_text(made, words, TEXT, max_length=1024)
    with torch.no_grad():
        ids = words(TEXT, return_tensors="pt").input_ids
        loss = float(made(ids, labels=ids).loss)
    found = perplexity(rows)
    total = loss * (ids.shape[1] - 1)
    assert found["token_perplexity"] == pytest.approx(math.exp(loss), rel=1e-4)
    assert found["word_perplexity"] == pytest.approx(math.exp(total / len(TEXT.split())), rel=1e-3)
    assert found["bits_per_byte"] == pytest.approx(total / len(TEXT.encode()) / math.log(2), rel=1e-4)


def test_nan_is_never_a_good_number():
    made, words = made_for()
    with torch.no_grad():  # a token of the last window alone
        made.model.embed_tokens.weight[words(" 東").input_ids[-1]] = math.nan
    with pytest.warns(UserWarning, match=r"\d of \d+ windows have scores that are not numbers"):
        rows = score_text(made, words, TEXT, max_length=32)
    assert rows["valid"][0] and not rows["valid"].iloc[-1]
    assert np.isinf(rows["nll"].iloc[-1]) and np.isnan(rows["score"].iloc[-1])
    assert set(perplexity(rows).values()) == {math.inf}


def test_a_limit_reads_the_beginning():
    made, words = made_for()
    few = score_text(made, words, TEXT, limit_tokens=65, max_length=64, stride=32)
    whole = score_text(made, words, TEXT, max_length=64, stride=32)
    assert few["tokens"].sum() == 64
    assert few["nll"][0] == pytest.approx(whole["nll"][0])
    span = TEXT[slice(*[words(TEXT, return_offsets_mapping=True).offset_mapping[n][0] for n in (1, 65)])]
    assert few["bytes"].sum() == len(span.encode())
    with pytest.raises(BadRequest, match="fewer than two tokens"):
        score_text(made, words, "a")


def test_texts_by_name_and_path(tmp_path, monkeypatch):
    monkeypatch.setenv("KC_DATA", str(tmp_path))
    monkeypatch.setenv("KC_CACHE", str(tmp_path / "cache"))
    with pytest.raises(MissingData, match="wikitext2/wiki.test.raw"):
        load_text("wikitext2")
    (tmp_path / "wikitext2").mkdir()
    (tmp_path / "wikitext2/wiki.test.raw").write_text(TEXT, encoding="utf-8")
    assert load_text("wikitext2") == TEXT == load_text(str(tmp_path / "wikitext2/wiki.test.raw"))
    assert fingerprint(Probe(facts=None, text="wikitext2")) == hashlib.sha256(TEXT.encode()).hexdigest()
    with pytest.raises(MissingData, match="no text 'wikitext3': name a file, or one of wikitext2"):
        load_text("wikitext3")
    (tmp_path / "empty").write_text(" \n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name in ("empty", "binary", "."):
        with pytest.raises(BadRequest):
            load_text(str(tmp_path / name))
