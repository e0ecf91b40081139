from types import SimpleNamespace

from kc_utils.probing.probe import Probe
from kc_utils.report.examples import best_known, three_facts
from tests.trained import PROBE


def study(*probes, model="unused"):
    return SimpleNamespace(
        runs=[SimpleNamespace(parameters=SimpleNamespace(probe=p, asked_models=(model,))) for p in probes]
    )


def test_the_best_known_fact_of_each_of_three_relations():
    chosen = best_known(Probe(relations=("capital", "continent", "currency", "demonym"))).facts
    assert len({fact.relation for fact in chosen}) == len(chosen) == 3
    everything = Probe(relations=("capital",)).factset().facts
    assert best_known(Probe(relations=("capital",))).facts[0].popularity == max(f.popularity or 0 for f in everything)


def test_a_decoder_is_shown_in_four_ways(trained):
    text = three_facts(study(PROBE, model=trained.id))
    assert [line for line in text.splitlines() if line.startswith("**")] == [
        "**Top-k cloze**", "**Closed-set ranking**", "**Open-book twin**", "**Free answer**"
    ]  # fmt: skip
    fact = best_known(PROBE).facts[0]
    rows = [line for line in text.splitlines() if line.startswith("|") and line.rstrip(" |").endswith(fact.answers[0])]
    assert len(rows) == 4
    assert fact.answers[0] in rows[1].split("|")[2]
    assert rows[2].split("|")[1].count(fact.subject) == 2, "the twin states the fact and asks for it"


def test_an_encoder_does_not_answer_freely(trained_as):
    assert "**Free answer**" not in three_facts(study(PROBE, model=trained_as("encoder").id))


def test_text_of_others_is_not_printed():
    assert three_facts(study(Probe(facts="bear"), Probe(facts=None, text="wikitext2"))).startswith("The study that")
