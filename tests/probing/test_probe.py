"""A probe of every family: its rows, what is left out, and that broken models are never right."""

from functools import partial

import pytest
import torch
from pydantic import ValidationError

from kc_utils.errors import BadRequest
from kc_utils.models.loading import load
from kc_utils.probing import evaluate as evaluate_module
from kc_utils.probing import probe as probe_module
from kc_utils.probing import scorers
from kc_utils.probing.evaluate import evaluate
from kc_utils.probing.facts import Fact, FactSet, Relation
from kc_utils.probing.probe import Probe
from tests.probing.conftest import PROTOCOLS
from tests.trained import MIXED, PROBE

PREDICTORS = {"decoder": "NextToken", "encoder": "MaskedTokens", "encoder-decoder": "GapFiller"}
EVERY = {family: (*names, "openbook") for family, names in PROTOCOLS.items()}


def test_impossible_probes_are_refused():
    wrong = {"limit": (0, -3), "protocols": ((), ("cloze", "guess")), "templates": (0, "some"), "relations": ((),)}
    wrong |= {"alternatives": (0, "most"), "shots": (-1,), "seed": ("x",), "fact": ("worldfacts",)}
    for name, value in [(name, value) for name, values in wrong.items() for value in values]:
        with pytest.raises(ValidationError, match=name):
            Probe(**{name: value})
    with pytest.raises(BadRequest, match=r"no relation flavour; it has .*capital"):
        Probe(relations=("capital", "flavour")).factset()


def test_what_an_encoder_cannot_do_is_refused_beforehand():
    for asked, says in (
        ({"protocols": ("generate",)}, "an encoder does not generate text"),
        ({"facts": None, "tasks": ("boolq",)}, "family encoder does not give"),
        ({"facts": None, "text": "wikitext2"}, "family encoder does not predict"),
    ):
        with pytest.raises(BadRequest, match=says):
            evaluate(None, None, "encoder", Probe(**asked))


def test_one_row_for_each_fact_protocol_and_template(tiny, evaluated, family):
    rows = evaluated(family).rows
    assert not rows.duplicated(["fact", "protocol", "template"]).any()
    assert tuple(rows["protocol"].unique()) == tuple(sorted(PROTOCOLS[family]))
    counts = rows.groupby("protocol")["template"].value_counts().unstack(fill_value=0)
    assert counts.loc["rank"].tolist() == [60] * 4
    left_out = dict.fromkeys(PROTOCOLS[family], 0)
    if family != "encoder":  # a decoder is not queried by "[Y] is the capital of ..."
        both = [60, 60, 60, 0 if family == "decoder" else 60]
        assert counts.loc["cloze"].tolist() == counts.loc["generate"].tolist() == both
    else:  # a mask stands for one piece
        pieces = lambda answer: len(tiny(family).tokenizer(answer, add_special_tokens=False).input_ids)  # noqa: E731
        left_out["cloze"] = sum(all(pieces(a) > 1 for a in fact.accepted) for fact in MIXED.factset().facts)
        assert 20 < left_out["cloze"] < 45
    assert evaluated(family).left_out == left_out
    ordered = rows.sort_values(["protocol", "fact", "template"], kind="stable")
    assert ordered.index.tolist() == list(range(len(rows)))


def test_rows_do_not_depend_on_batch_sizes_nor_on_which_facts_share_a_batch(tiny, evaluated, family, monkeypatch):
    rows, probe = evaluated(family).rows, MIXED.model_copy(update={"protocols": ("cloze", "rank"), "templates": 1})
    small = partial(getattr(scorers, PREDICTORS[family]), batch_tokens=120, rows=20)
    monkeypatch.setattr(scorers, PREDICTORS[family], small)
    monkeypatch.setattr(evaluate_module, "FACTS_AT_A_TIME", 7)
    others = evaluate(tiny(family).model, tiny(family).tokenizer, family, probe).rows
    same = rows.merge(others, on=["fact", "protocol", "template"], suffixes=("", "_2"))
    assert len(same) == len(others)
    for name in ("correct", "chance", "valid", "rank", "chosen", "predicted_token"):
        assert same[name].equals(same[f"{name}_2"].rename(name)), name
    assert (same["score"] - same["score_2"]).abs().max() < 1e-4


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_a_broken_model_is_never_right(trained_as, family, value):
    loaded = load(trained_as(family).id)
    with torch.no_grad():
        for parameter in loaded.model.parameters():
            parameter.fill_(value)
    probe = PROBE.model_copy(update={"limit": 8, "protocols": EVERY[family]})
    with pytest.warns(UserWarning, match=r"of \d+ scores are not numbers, or the same for every token, and count as wrong"):
        rows = evaluate(loaded.model, loaded.tokenizer, family, probe).rows
    assert set(rows["protocol"]) == set(EVERY[family])
    assert not rows["valid"].any()
    assert not rows["correct"].any()
    assert not (rows["correct_at_10"] == True).any()  # noqa: E712
    assert rows["score"].isna().all()
    assert (rows[rows["protocol"].isin(["rank", "openbook"])]["chosen"] == -1).all()


def test_a_probe_that_suits_no_fact_is_refused(tiny, monkeypatch):
    """Numbers begin with a token of white space in this tokenizer, so that cloze leaves them out."""
    relation = Relation("number", "number", None, "N-1", ("The number of [X] is [Y].",), ("1", "2"))
    facts = FactSet("test", {"number": relation}, (Fact("f", "number", "Chile", ("1",)),))
    monkeypatch.setattr(probe_module, "load_source", lambda name: facts)
    ask = lambda *names: evaluate(tiny("decoder").model, tiny("decoder").tokenizer, "decoder", Probe(protocols=names))  # noqa: E731
    answers = ask("cloze", "rank")
    assert answers.rows["protocol"].tolist() == ["rank"]
    assert answers.left_out == {"cloze": 1, "rank": 0}
    with pytest.raises(BadRequest, match="cloze suits none of these 1 facts"):
        ask("cloze")
