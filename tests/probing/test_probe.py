"""A probe of every family: its rows, what is left out, and that broken models are never right."""

import warnings
from functools import partial

import pytest
import torch
from pydantic import ValidationError

from kc_utils.errors import BadModel, BadRequest
from kc_utils.models.loading import load
from kc_utils.probing import probe as probe_module
from kc_utils.probing import scorers
from kc_utils.probing.facts import Fact, FactSet, Relation
from kc_utils.probing.probe import Probe, evaluate
from tests.probing.conftest import PROTOCOLS
from tests.trained import MIXED, PROBE

PREDICTORS = {"decoder": "NextToken", "encoder": "MaskedTokens", "encoder-decoder": "GapFiller"}
EVERY = {family: (*names, "openbook") for family, names in PROTOCOLS.items()}
DECISIONS = ["fact", "relation", "protocol", "template", "correct", "chance", "valid"]


@pytest.fixture(params=PREDICTORS)
def family(request):
    return request.param


@pytest.mark.parametrize(
    "wrong",
    [
        {"limit": 0},
        {"limit": -3},
        {"protocols": ()},
        {"protocols": ("cloze", "guess")},
        {"templates": 0},
        {"templates": "some"},
        {"alternatives": 0},
        {"alternatives": "most"},
        {"relations": ()},
        {"shots": -1},
        {"fact": "worldfacts"},
        {"seed": "x"},
    ],
)
def test_impossible_probes_are_refused(wrong):
    with pytest.raises(ValidationError):
        Probe(**wrong)


def test_the_order_of_protocols_does_not_matter():
    assert Probe(protocols=("rank", "cloze", "rank")) == Probe(protocols=("cloze", "rank"))


def test_unknown_facts_and_relations_name_the_known_ones():
    with pytest.raises(BadRequest, match=r"unknown facts 'lore': choose worldfacts"):
        Probe(facts="lore").factset()
    with pytest.raises(BadRequest, match=r"no relation flavour; it has .*capital"):
        Probe(relations=("capital", "flavour")).factset()


def test_the_facts_of_a_probe_are_frozen():
    facts = Probe(relations=("capital", "continent"), limit=20, seed=3).factset()
    assert {r: len(f) for r, f in facts.by_relation().items()} == {"capital": 10, "continent": 10}
    assert facts.sha256 == Probe(relations=("capital", "continent"), limit=20, seed=3).factset().sha256
    assert facts.sha256 != Probe(relations=("capital", "continent"), limit=20, seed=4).factset().sha256


def test_one_row_for_each_fact_protocol_and_template(evaluated, family):
    rows = evaluated(family).rows
    assert not rows.duplicated(["fact", "protocol", "template"]).any()
    assert tuple(rows["protocol"].unique()) == tuple(sorted(PROTOCOLS[family]))
    counts = rows.groupby("protocol")["template"].value_counts().unstack(fill_value=0)
    assert counts.loc["rank"].tolist() == [60] * 4
    if family != "encoder":  # a decoder is not queried by "[Y] is the capital of ..."
        both = [60, 60, 60, 0 if family == "decoder" else 60]
        assert counts.loc["cloze"].tolist() == counts.loc["generate"].tolist() == both
    ordered = rows.sort_values(["protocol", "fact", "template"], kind="stable")
    assert ordered.index.tolist() == list(range(len(rows)))


def test_what_is_left_out_is_counted(tiny, evaluated, family):
    left_out = evaluated(family).left_out
    assert set(left_out) == set(PROTOCOLS[family])
    several = 0
    if family == "encoder":
        pieces = lambda answer: len(tiny(family).tokenizer(answer, add_special_tokens=False).input_ids)  # noqa: E731
        several = sum(all(pieces(a) > 1 for a in fact.accepted) for fact in MIXED.factset().facts)
        assert 20 < several < 45
    assert left_out == dict.fromkeys(left_out, 0) | {"cloze": several}


def test_more_templates_than_there_are_means_all(tiny):
    few = PROBE.model_copy(update={"templates": 99, "limit": 3})
    rows = evaluate(tiny("decoder").model, tiny("decoder").tokenizer, "decoder", few).rows
    assert rows.groupby("protocol")["template"].nunique().to_dict() == {"cloze": 3, "rank": 4}


def test_all_alternatives_are_the_whole_answer_space(tiny, family):
    probe = PROBE.model_copy(update={"limit": 4, "alternatives": "all", "protocols": ("rank",)})
    rows = evaluate(tiny(family).model, tiny(family).tokenizer, family, probe).rows.set_index("fact")
    space = set(probe.factset().relations["capital"].answer_space)
    for fact in probe.factset().facts:
        size = len(space - set(fact.accepted)) + 1
        assert len(rows.loc[fact.id, "scores"]) == size
        assert rows.loc[fact.id, "chance"] == 1 / size
        assert size > 200


@pytest.mark.parametrize("sizes", [{"batch_tokens": 120, "rows": 20}, {"batch_tokens": 5000, "rows": 5000}])
def test_rows_do_not_depend_on_batch_sizes_nor_on_which_facts_share_a_batch(
    tiny, evaluated, family, monkeypatch, sizes
):
    rows, probe = evaluated(family).rows, MIXED.model_copy(update={"protocols": ("cloze", "rank"), "templates": 1})
    monkeypatch.setattr(scorers, PREDICTORS[family], partial(getattr(scorers, PREDICTORS[family]), **sizes))
    monkeypatch.setattr(probe_module, "FACTS_AT_A_TIME", 7)
    others = evaluate(tiny(family).model, tiny(family).tokenizer, family, probe).rows
    same = rows.merge(others, on=["fact", "protocol", "template"], suffixes=("", "_2"))
    assert len(same) == len(others)
    for name in [*DECISIONS[4:], "rank", "chosen", "predicted_token"]:
        assert same[name].equals(same[f"{name}_2"].rename(name)), name
    assert (same["score"] - same["score_2"]).abs().max() < 1e-4


@pytest.mark.parametrize("protocol", ["cloze", "rank"])
def test_rows_do_not_depend_on_the_other_protocols(tiny, evaluated, family, protocol):
    probe = MIXED.model_copy(update={"protocols": (protocol,), "templates": 1})
    alone = evaluate(tiny(family).model, tiny(family).tokenizer, family, probe).rows
    rows = evaluated(family).rows
    both = rows[(rows["protocol"] == protocol) & (rows["template"] == 0)].reset_index(drop=True)
    assert alone[DECISIONS].equals(both[DECISIONS])
    assert (alone["score"] - both["score"]).abs().max() < 1e-4


def broken(trained, change):
    """The trained model with every weight changed in place."""
    loaded = load(trained.id)
    with torch.no_grad():
        for parameter in loaded.model.parameters():
            change(parameter)
    return loaded


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_a_broken_model_is_never_right(trained_as, family, value):
    loaded = broken(trained_as(family), lambda p: p.fill_(value))
    probe = PROBE.model_copy(update={"limit": 20, "protocols": EVERY[family]})
    with pytest.warns(
        UserWarning, match=r"of \d+ scores are not numbers, or the same for every token, and count as wrong"
    ):
        rows = evaluate(loaded.model, loaded.tokenizer, family, probe).rows
    assert set(rows["protocol"]) == set(EVERY[family])
    assert not rows["valid"].any()
    assert not rows["correct"].any()
    assert not (rows["correct_at_10"] == True).any()  # noqa: E712
    assert rows["score"].isna().all()
    assert (rows[rows["protocol"].isin(["rank", "openbook"])]["chosen"] == -1).all()


def test_a_model_that_scores_alike_whatever_it_reads_knows_nothing(trained_as):
    """Every position of every statement has the same scores, not all equal: no cloze but for one answer, ranking by chance."""
    loaded = broken(trained_as("encoder"), torch.Tensor.zero_)
    torch.manual_seed(0)
    with torch.no_grad():
        loaded.model.cls.predictions.bias.normal_()
    probe = MIXED.model_copy(update={"templates": 1, "protocols": ("cloze", "rank")})
    rows = evaluate(loaded.model, loaded.tokenizer, "encoder", probe).rows
    assert rows["valid"].all()
    assert rows[rows["protocol"] == "cloze"]["correct"].sum() <= 1
    assert 0 < rows[rows["protocol"] == "rank"]["correct"].mean() < 0.45


def test_no_warning_without_a_reason(tiny, family):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        probe = MIXED.model_copy(update={"limit": 5, "protocols": EVERY[family]})
        evaluate(tiny(family).model, tiny(family).tokenizer, family, probe)


def test_a_tokenizer_of_another_family_is_refused(tiny):
    with pytest.raises(BadModel, match="no mask token"):
        evaluate(tiny("decoder").model, tiny("decoder").tokenizer, "encoder", PROBE)
    with pytest.raises(BadModel, match="extra_id_0"):
        evaluate(tiny("decoder").model, tiny("decoder").tokenizer, "encoder-decoder", PROBE)


def factset(templates, answers, space):
    relation = Relation("number", "number", None, "N-1", templates, space)
    return FactSet("test", {"number": relation}, (Fact("f", "number", "Chile", answers),))


def test_a_probe_that_suits_no_fact_is_refused(tiny, monkeypatch):
    """Numbers begin with a token of white space in this tokenizer, so that cloze leaves them out."""
    loaded, probe = tiny("decoder"), lambda *protocols: Probe(protocols=protocols)
    facts = factset(("The number of [X] is [Y].",), ("1",), ("1", "2"))
    monkeypatch.setattr(probe_module, "load_source", lambda name: facts)
    answers = evaluate(loaded.model, loaded.tokenizer, "decoder", probe("cloze", "rank"))
    assert answers.rows["protocol"].tolist() == ["rank"]
    assert answers.left_out == {"cloze": 1, "rank": 0}
    with pytest.raises(BadRequest, match="cloze suits none of these 1 facts"):
        evaluate(loaded.model, loaded.tokenizer, "decoder", probe("cloze"))


def test_facts_without_a_usable_template_or_a_wrong_answer_are_counted(tiny, monkeypatch):
    loaded = tiny("decoder")
    facts = factset(("[Y] is the number of [X].",), ("Quito",), ("Quito",))
    monkeypatch.setattr(probe_module, "load_source", lambda name: facts)
    with pytest.raises(BadRequest, match="cloze, generate, openbook, rank suits none of these 1 facts"):
        evaluate(loaded.model, loaded.tokenizer, "decoder", Probe(protocols=EVERY["decoder"]))
    facts = factset(("[Y] is the number of [X].",), ("Quito",), ("Quito", "Lima"))
    answers = evaluate(loaded.model, loaded.tokenizer, "decoder", Probe(protocols=EVERY["decoder"]))
    assert answers.left_out == {"cloze": 1, "generate": 1, "openbook": 0, "rank": 0}
