"""Harness tasks against lm-eval's own model class, on invented items in the layouts of the real files."""

import copy
import math
import runpy
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from kc_utils.probing.evaluate import evaluate
from kc_utils.probing.harness.evaluate import make_reader, measure, multiple_choice, run, table_of
from kc_utils.probing.harness.tasks import Chosen, choose, lm_eval, quietly
from kc_utils.probing.probe import Probe
from tests.conftest import ROOT
from tests.probing.invented_tasks import TASKS, model, tasks, tokenizer, write_data

MARKED = {"llama, tied": {"begin": True}, "t5": {"end": True}, "bart": {"begin": True, "end": True}}


@pytest.fixture(scope="module")
def words():
    return tokenizer()


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("KC_DATA", str(write_data(tmp_path / "data")))
    return tmp_path / "data"


def by_hflm(made, words, chosen, batch_size=4):
    """The answers of lm-eval's own model class."""
    backend = "seq2seq" if made.config.is_encoder_decoder else "causal"
    with quietly(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hflm = lm_eval("models.huggingface").HFLM(
            pretrained=made, tokenizer=copy.deepcopy(words), backend=backend, batch_size=batch_size
        )
        return run(hflm, chosen)


def same(ours, theirs):
    assert ours["fact"].tolist() == theirs["fact"].tolist()
    for mine, other in zip(ours["scores"], theirs["scores"], strict=True):
        assert np.abs(np.subtract(mine, other)).max() < 1e-3
    for column in ("correct", "chosen", "gold", "valid"):
        assert ours[column].tolist() == theirs[column].tolist()


@pytest.mark.parametrize("kind", ["llama", "gpt2", "bloom", *MARKED])
def test_scores_are_those_of_lm_evals_own_class(kind):
    words = tokenizer(**MARKED.get(kind, {}))
    made = model(kind, len(words))
    family = "encoder-decoder" if made.config.is_encoder_decoder else "decoder"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not take trees")
        ours = measure(made, words, family, tasks(TASKS), batch_size=3)
    answers = by_hflm(made, words, choose(TASKS, None, 0))
    same(ours, table_of(answers))
    logged = [answer for _, items in answers for answer in items]
    assert ours["correct"].tolist() == [bool(a["acc"]) for a in logged], "lm-eval's own scoring agrees"
    norm = [bool(a["acc_norm"]) for a in logged if "acc_norm" in a]
    assert ours["correct_norm"].dropna().tolist() == norm and len(norm) == 12
    assert ours["valid"].all()
    assert 0 < ours["correct"].mean() < 1


@pytest.mark.parametrize(("kind", "family"), [("llama", "decoder"), ("bart", "encoder-decoder")])
def test_prompts_that_are_too_long_lose_their_beginning_as_in_lm_eval(kind, family, words):
    made = model(kind, len(words), positions=48)
    with pytest.warns(UserWarning, match=r"longer than the 48 tokens .* lose their beginning"):
        ours = measure(made, words, family, tasks(["boolq"]))
    same(ours, table_of(by_hflm(made, words, choose(["boolq"], None, 0))))


@pytest.mark.parametrize("value", [math.nan, 0.0])
def test_a_model_without_scores_is_never_right(value, words, data):
    """All right answers stand first, where lm-eval's arg-max of ties finds them."""
    write_data(data, first_only=True)
    made = model("llama", len(words))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.fill_(value)
    says = "36 of 36 items have scores that are not numbers, or two highest that are equal"
    with pytest.warns(UserWarning, match=says):
        rows = measure(made, words, "decoder", tasks(TASKS))
    assert not rows["correct"].any() and not rows["valid"].any() and (rows["chosen"] == -1).all()
    assert not rows["correct_norm"].dropna().any()
    assert (rows["gold"] == 0).all()
    flattered = [a["acc"] for _, items in by_hflm(made, words, choose(TASKS, None, 0)) for a in items]
    assert np.mean(flattered) > 0.6, "what this guards against"


def test_what_counts_as_right():
    for scores, right, correct, chosen, valid in (
        ([-1.0, -2.0], [1], False, 0, True),
        ([-1.0, -1.000001], [0], False, -1, False),
        ([-3.0, -1.0, -1.0], [0], False, -1, False),
        ([math.nan, -1.0], [1], False, -1, False),
        ([-math.inf, -1.0], [1], False, -1, False),
        ([-1.0, -2.0, -3.0], [0, 2], True, 0, True),
    ):
        row = multiple_choice(scores, right)
        assert (row["correct"], row["chosen"], row["valid"]) == (correct, chosen, valid), scores
        assert row["chance"] == len(right) / len(scores)


def test_dynamically_quantized_model_with_a_tied_embedding(words):
    """Of which lm-eval's own class makes a KeyError."""
    made = model("llama, tied", len(words))
    plain = measure(made, words, "decoder", tasks(["piqa"]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantized = torch.ao.quantization.quantize_dynamic(copy.deepcopy(made), {nn.Linear}, dtype=torch.qint8)
    rows = measure(quantized, words, "decoder", tasks(["piqa"]), trees=True)
    assert rows["valid"].all()
    change = np.subtract(rows["scores"].tolist(), plain["scores"].tolist())
    assert 0 < np.abs(change).max() < 0.2 * np.abs(plain["scores"].tolist()).max()


def test_a_task_of_one_answer_is_right_where_each_token_is_the_likeliest(words):
    """The layout of LAMBADA: no choices, lm-eval's `acc` is whether greedy decoding would give it."""
    from datasets import Dataset

    made = model("llama", len(words))
    texts = ["river stone copper", "the winter barrel", "lantern garden"]
    follow = []
    for text in texts[:2]:  # the model's own next tokens, twice; and something else
        with torch.no_grad():
            follow.append(words.decode([int(made(**words(text, return_tensors="pt")).logits[0, -1].argmax())]))
    docs = [{"text": t, "next": n} for t, n in zip(texts, [*follow, " violin harbour"], strict=True)]
    config = {
        "task": "last", "custom_dataset": lambda **_: {"test": Dataset.from_list(docs)}, "test_split": "test",
        "output_type": "loglikelihood", "doc_to_text": "text", "doc_to_target": "next",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }  # fmt: skip
    with quietly():
        chosen = [Chosen("last", lm_eval("api.task").ConfigurableTask(config=config), [0, 1, 2])]
    rows = table_of(run(make_reader(made, words, "decoder"), chosen))
    theirs = by_hflm(made, words, chosen)
    assert rows["correct"].tolist() == [bool(a["acc"]) for a in theirs[0][1]]
    assert not rows["correct"][2] and rows["correct"][:2].any()
    assert rows["score"].tolist() == pytest.approx([a["resps"][0][0][0] for a in theirs[0][1]], abs=1e-3)


@pytest.mark.parametrize(("marks", "begin"), [({"begin": True}, ""), ({}, "<eos>")])
def test_worldfacts_is_the_rank_protocol(marks, begin):
    """Item by item, through this project's reader and through lm-eval's own class; the begin-of-sequence token is one that
    the tokenizer adds, or one that is named."""
    task = runpy.run_path(str(ROOT / "data/worldfacts/lm_eval_task.py"))
    words = tokenizer(**marks)
    made = model("llama", len(words))
    probe = Probe(limit=60, alternatives=4, protocols=("rank",), seed=2)
    rank = evaluate(made, words, "decoder", probe).rows.set_index("fact")
    chosen = [Chosen("worldfacts", task["worldfacts_task"](60, 4, 2, begin), list(range(60)))]
    for answers in (run(make_reader(made, words, "decoder"), chosen), by_hflm(made, words, chosen)):
        logged = {answer["doc"]["fact"]: bool(answer["acc"]) for answer in answers[0][1]}
        rows = table_of(answers).set_index("fact").loc[rank.index]
        assert rows["correct"].tolist() == rank["correct"].tolist() == [logged[fact] for fact in rank.index]
        for fact in rank.index:
            assert sorted(rows.loc[fact, "scores"]) == pytest.approx(sorted(rank.loc[fact, "scores"]), abs=1e-3)
            assert rows.loc[fact, "score"] == pytest.approx(rank.loc[fact, "score"], abs=1e-3)
            assert rows.loc[fact, "chance"] == rank.loc[fact, "chance"]
    assert 0 < rank["correct"].mean() < 1
    assert (table_of(answers)["gold"] == 0).mean() < 0.4, "right answers stand anywhere"
