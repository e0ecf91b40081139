"""One prompt completed, against a plain forward pass of transformers for each family."""

import pytest
import torch

from kc_utils.errors import BadRequest, BadResult
from kc_utils.models.loading import load
from kc_utils.probing.complete import complete
from kc_utils.probing.facts import Fact
from kc_utils.probing.queries import Query
from kc_utils.probing.sources import facts
from tests.probing.conftest import plain_logits

PROMPTS = {
    "decoder": "The capital of France is",
    "encoder": "The capital of France is [MASK].",
    "encoder-decoder": "The capital of France is ___.",
}


def test_probabilities_are_those_of_a_plain_forward_pass(tiny, family):
    lm, prompt = tiny(family), PROMPTS[family]
    found = complete(lm, prompt, top=7)
    gap = prompt.replace("[MASK]", "[Y]").replace("___", "[Y]")
    query = Query(Fact("f", "r", "", ()), 0, gap if "[Y]" in gap else f"{gap} [Y]")
    expected = torch.softmax(plain_logits(lm.model, lm.tokenizer, family, query).float(), dim=-1)
    best = torch.topk(expected, 7)
    assert list(found.columns) == ["piece", "probability"]
    assert found["probability"].tolist() == pytest.approx(best.values.tolist(), abs=1e-5)
    assert found["piece"].tolist() == [lm.tokenizer.decode([i]).strip() for i in best.indices.tolist()]
    assert complete(lm, prompt, top=10_000)["probability"].sum() == pytest.approx(1.0, abs=1e-4)


def test_a_gap_may_be_marked_in_several_ways_or_be_the_end(tiny, family):
    lm = tiny(family)
    at_end = complete(lm, "The capital of France is")
    for mark in ("[MASK]", "___", "[Y]", "<extra_id_0>"):
        assert complete(lm, f"The capital of France is {mark}").equals(at_end)
    if family != "decoder":
        assert not complete(lm, "In [MASK] is the capital of France.").equals(at_end)


def test_white_space_is_shown_escaped(trained):
    lm = load(trained.id)
    newline = lm.tokenizer("\n", add_special_tokens=False).input_ids[-1]
    head = torch.nn.Linear(64, len(lm.tokenizer))
    with torch.no_grad():
        head.bias[newline] = 99.0
    lm.model.set_output_embeddings(head)
    assert complete(lm, "A", top=1)["piece"].tolist() == ["\\n"]


def test_impossible_requests_are_refused_in_one_line(tiny):
    for family, prompt, top, says in (
        ("decoder", "", 5, "prompt is empty"),
        ("encoder", " [MASK] ", 5, "prompt is empty"),
        ("decoder", "The capital", 0, "top must be at least 1, got 0"),
        ("encoder-decoder", "___ and <extra_id_0>.", 5, "several gaps"),
        ("decoder", "In ___ is the capital.", 5, "is a decoder and reads from the left"),
    ):
        with pytest.raises(BadRequest, match=says) as error:
            complete(tiny(family), prompt, top)
        assert "\n" not in str(error.value)


def test_a_model_of_nan_is_refused(trained):
    lm = load(trained.id)
    with torch.no_grad():
        lm.model.get_input_embeddings().weight.fill_(float("nan"))
    with pytest.raises(BadResult, match="are not numbers"):
        complete(lm, "The capital of France is")


def test_facts_are_a_table():
    found = facts("worldfacts", relations=["capital", "continent"], limit=20, seed=3)
    assert list(found.columns) == ["id", "relation", "subject", "answers", "statement", "popularity"]
    assert found["relation"].value_counts().to_dict() == {"capital": 10, "continent": 10}
    for row in found.itertuples():
        assert row.subject.casefold() in row.statement.casefold() and row.answers[0] in row.statement
        assert "[" not in row.statement and isinstance(row.answers, tuple)
    assert found.equals(facts("worldfacts", relations=["capital", "continent"], limit=20, seed=3))
    assert len(facts(relations="capital")) > 200
