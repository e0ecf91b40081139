import pytest
from pydantic import ValidationError

from kc_utils.errors import BadRequest
from kc_utils.knowledge import probe as probe_module
from kc_utils.knowledge.facts import Fact, FactSet, Relation
from kc_utils.knowledge.probe import Probe, ask
from kc_utils.models.loading import load
from tests.trained import PROBE


@pytest.fixture(scope="module")
def tiny(trained):
    return load(trained.id)


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
        {"alternatives": 100},
        {"relations": ()},
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


def test_the_facts_asked_are_frozen():
    facts = Probe(relations=("capital", "continent"), limit=20, seed=3).factset()
    assert {r: len(f) for r, f in facts.by_relation().items()} == {"capital": 10, "continent": 10}
    assert facts.sha256 == Probe(relations=("capital", "continent"), limit=20, seed=3).factset().sha256
    assert facts.sha256 != Probe(relations=("capital", "continent"), limit=20, seed=4).factset().sha256


def test_one_row_for_each_fact_protocol_and_template(tiny):
    rows = ask(tiny.model, tiny.tokenizer, "decoder", PROBE.model_copy(update={"templates": 2}))
    assert len(rows) == 30 * 2 * 2
    assert not rows.duplicated(["fact", "protocol", "template"]).any()
    assert list(rows["protocol"].unique()) == ["cloze", "rank"]
    ordered = rows.sort_values(["protocol", "fact", "template"], kind="stable")
    assert ordered.index.tolist() == list(range(len(rows)))


def test_asking_for_more_templates_than_there_are_asks_all(tiny):
    rows = ask(tiny.model, tiny.tokenizer, "decoder", PROBE.model_copy(update={"templates": 99, "limit": 3}))
    assert rows["template"].nunique() == 3


def test_other_families_are_refused_for_now(tiny):
    with pytest.raises(BadRequest, match="family encoder"):
        ask(tiny.model, tiny.tokenizer, "encoder", PROBE)


def test_a_probe_that_can_ask_nothing_is_refused(tiny, monkeypatch):
    """Numbers begin with a token of white space in this tokenizer, so that cloze leaves them out."""
    relation = Relation("number", "number", None, "N-1", ("The number of [X] is [Y].",), ("1", "2"))
    facts = FactSet("test", {"number": relation}, (Fact("f", "number", "Chile", ("1",)),))
    monkeypatch.setattr(probe_module, "load_source", lambda name: facts)
    rows = ask(tiny.model, tiny.tokenizer, "decoder", Probe(protocols=("cloze", "rank")))
    assert rows["protocol"].tolist() == ["rank"]
    with pytest.raises(BadRequest, match="cloze can ask none of these 1 facts"):
        ask(tiny.model, tiny.tokenizer, "decoder", Probe(protocols=("cloze",)))
