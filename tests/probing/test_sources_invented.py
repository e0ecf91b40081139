"""The benchmark sources on invented files: one form for all, ids, filters, and damaged files refused."""

from pathlib import Path

import pytest

from kc_utils.errors import BadRequest
from kc_utils.probing.sources import load_source, missing
from kc_utils.probing.sources.lama import TREX
from tests.probing import invented_benchmarks as invented
from tests.probing.conftest import refused

pytestmark = pytest.mark.filterwarnings("ignore:.*not the set of files:UserWarning")
NAMES = ("lama", "lama:sentences", "bear", "pararel", "popqa")


@pytest.fixture
def data(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("KC_DATA", str(tmp_path))
    monkeypatch.setenv("KC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for folder, make in invented.MAKERS.items():
        make(tmp_path / folder)
    load_source.cache_clear()
    yield tmp_path
    load_source.cache_clear()


@pytest.mark.parametrize("name", NAMES)
def test_every_source_gives_usable_facts(data, name):
    facts = load_source(name)
    assert facts.name == name
    assert missing(name) is None
    assert len(facts) > 0
    for fact in facts.facts:
        relation = facts.relations[fact.relation]
        assert fact.statement is not None or relation.templates
        assert fact.answers[0] in relation.answer_space
        assert not set(facts.alternatives(fact, 99)) & {*fact.accepted, *fact.other_answers}
    assert all(len(hash) == 64 for hash in facts.files.values())
    load_source.cache_clear()
    assert load_source(name).sha256 == facts.sha256


def test_lama_by_templates(data):
    facts = load_source("lama")
    assert {f.relation for f in facts.facts} >= {*TREX, "date_of_birth", "conceptnet/IsA", "squad"}
    own, relation = {f.id: f for f in facts.facts if f.relation == "P19"}, facts.relations["P19"]
    first = own["lama/P19/P19-1"]
    assert (first.subject, first.answers, first.subject_id, first.answer_id) == ("Lyonesse", ("Camelot",), "Q1", "Q2")
    assert (first.other_answers, own["lama/P19/P19-2"].other_answers) == (("Strelsau",), ())
    assert first.statement is None
    assert (relation.templates, relation.type) == (("[X] lies near [Y] .",), "N-M")
    assert relation.answer_space == ("Camelot", "Strelsau", "Ys", "strelsau")
    assert facts.relations["date_of_birth"].type == "other"
    assert facts.filters == {"duplicate_fact": 41, "duplicate_sentence": 1, "several_masks": 1}
    made_up = [i for i in own if len(i) == len("lama/P19/") + 16]
    assert (len(own), len(made_up)) == (5, 2), "records without a uuid get a key of their own"


def test_lama_by_sentences_as_in_the_study_of_compression(data):
    facts = load_source("lama:sentences")
    own = [f for f in facts.facts if f.relation == "P19"]
    assert [f.statement for f in own] == ["Of old, P19 of Lyonesse was [Y].", "[Y] is the P19 of Avalon."]
    left_out = {"duplicate_sentence": 41 + 1, "no_mask": 41 + 3, "no_sentence": 2 * 41, "several_masks": 3 + 1}
    assert facts.filters == left_out
    squad = facts.only(["squad"]).facts
    assert [(f.id, f.subject, f.statement) for f in squad] == [("lama/squad/s1", "", "The drowned city is [Y].")]


def test_parts_of_lama(data):
    whole = load_source("lama")
    parts = ("trex", "google_re", "conceptnet", "squad")
    assert [f for p in parts for f in load_source(f"lama:{p}").facts] == list(whole.facts)
    assert load_source("lama:squad").files == {"LAMA/Squad": whole.files["LAMA/Squad"]}
    (data / "LAMA/TREx/P19.jsonl").unlink()
    load_source.cache_clear()
    assert len(load_source("lama:squad")) == 1, "a part needs its own files only"
    assert "LAMA/TREx/P19.jsonl" in refused(load_source, "lama:trex")
    assert "LAMA/TREx/P19.jsonl" in missing("lama")


def test_without_give_aways(data):
    plain, filtered = load_source("lama:trex"), load_source("lama:trex-uhn")
    assert filtered.name == "lama:trex-uhn"
    gone = {(f.subject, f.answers[0]) for f in plain.facts} - {(f.subject, f.answers[0]) for f in filtered.facts}
    assert gone == {("Ys", "Ys"), ("Old Strelsau", "strelsau")}
    assert filtered.filters == {"answer_in_subject": 41, "duplicate_fact": 41, "subject_is_answer": 41}
    assert filtered.relations == plain.relations, "a fact that is left out is an answer all the same"


def test_bear(data):
    facts = load_source("bear")
    assert facts.filters == {}
    first, relations = facts.facts[0], facts.relations
    assert (first.id, first.subject_id, first.answer_id) == ("bear/P6/Q10", "Q10", "Q1")
    assert (relations["P6"].type, relations["P19"].type) == ("1-1", "N-1")
    assert relations["P6"].templates == ("[X] knows [Y].", "[Y] knows [X].", "[X] has seen [Y].")
    assert relations["P6"].label == "head of government"


def test_pararel(data):
    facts = load_source("pararel")
    assert facts.relations["P19"].templates == ("[X] lies by [Y].", "[Y] is where [X] lies.")
    assert facts.filters == {"duplicate_fact": 39, "no_pattern": 8}
    assert facts.facts[0].id == "pararel/P17/P17-Lyonesse"


def test_popqa(data):
    facts = load_source("popqa")
    first, second, third = facts.facts
    assert first.statement == "Q: What is Ann Example's occupation? A: [Y]"
    assert (first.id, first.popularity, first.subject_id, first.answer_id) == ("popqa/1", 5.0, "Q10", "Q11")
    assert (first.accepted, first.other_answers) == (("knight", "Sir"), ("smith",))
    assert (second.other_answers, third.aliases) == (("knight",), ('the "drowned" land',))
    assert set(facts.relations) == {"occupation", "capital_of"}


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


DAMAGED = {
    "a record without an answer": ("lama", "LAMA/TREx/P19.jsonl", '"obj_label"', '"object"', "lacks 'obj_label'"),
    "an empty subject": ("lama", "LAMA/TREx/P19.jsonl", '"Lyonesse"', '" "', "lacks 'sub_label'"),
    "a relation nobody describes": ("lama", "LAMA/relations.jsonl", '"P19"', '"P2"', "does not describe P19"),
    "another place": ("bear", "BEAR/P19.jsonl", '"answer_idx": 0', '"answer_idx": 1', "two editions"),
    "an impossible place": ("bear", "BEAR/P19.jsonl", '"answer_idx": 0', '"answer_idx": -2', "two editions"),
    "no answer space": ("bear", "BEAR/metadata_relations.json", "answer_space_ids", "ids", "not BEAR's description"),
    "no json": ("bear", "BEAR/metadata_relations.json", "{", "<", "not BEAR's description"),
    "no pattern": ("pararel", "ParaRel/graphs_json/P19.jsonl", '"pattern"', '"text"', "lacks 'pattern'"),
    "no column": ("popqa", "PopQA/test.tsv", "possible_answers", "answers", "lacks the columns possible_answers"),
    "answers cut": ("popqa", "PopQA/test.tsv", "land", 'land""]"\n9\tx', "line 5"),
    "popularity in words": ("popqa", "PopQA/test.tsv", "\t5\t", "\tmany\t", "line 2"),
    "cut": ("popqa", "PopQA/test.tsv", '" land""]"\n', '" lan', "cannot be read"),
    "no answer": ("popqa", "PopQA/test.tsv", "\tknight\t1", "\t\t1", "line 2: obj is missing"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_files_are_refused_in_one_line(data, case):
    name, file, old, new, says = DAMAGED[case]
    edit(data / file, old, new)
    text = refused(load_source, name)
    assert says in text and file in text


def test_unknown_names_are_refused_with_the_known_ones():
    for name, says in {
        "lore": "choose worldfacts, lama, bear, pararel, popqa",
        "lama:trek": "choose trex, google_re, conceptnet, squad, trex_sentences, google_re_sentences, sentences",
        "lama:": "lama has no part ''",
        "bear:big": "bear has no parts",
        "worldfacts:x": "worldfacts has no parts",
    }.items():
        for lookup in (load_source, missing):
            with pytest.raises(BadRequest, match=says):
                lookup(name)
