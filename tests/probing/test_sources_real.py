"""The benchmark sources on the real files (`KC_DATA`), against a count of the files that shares no code with them."""

import json
import os
import runpy
from collections import Counter
from pathlib import Path

import pytest

from kc_utils.probing.files import project_data
from kc_utils.probing.sources import CARDS, load_source

DATA = Path(os.environ.get("KC_DATA", "no such folder"))
pytestmark = pytest.mark.skipif(
    not all((DATA / part).is_dir() for part in ("LAMA", "BEAR", "ParaRel")),
    reason="KC_DATA does not name a folder with LAMA/, BEAR/ and ParaRel/",
)


def lines(pattern: str) -> dict[str, list[dict]]:
    return {
        path.stem: [json.loads(line) for line in path.open(encoding="utf-8") if line.strip()]
        for path in sorted(DATA.glob(pattern))
    }


def test_trex_is_what_the_files_say():
    records = lines("LAMA/TREx/*.jsonl")
    described = {r["relation"]: r for r in lines("LAMA/relations.jsonl")["relations"]}
    pairs = {p: list(dict.fromkeys((r["sub_label"], r["obj_label"]) for r in own)) for p, own in records.items()}
    facts = load_source("lama:trex")
    assert {p: [(f.subject, f.answers[0]) for f in own] for p, own in facts.by_relation().items()} == pairs
    assert facts.filters == {"duplicate_fact": sum(map(len, records.values())) - sum(map(len, pairs.values()))}
    for id, relation in facts.relations.items():
        assert (relation.label, relation.type) == (described[id]["label"], described[id]["type"])
        assert relation.templates == (described[id]["template"],)
    uuids = {r["uuid"] for own in records.values() for r in own if "uuid" in r}
    keys = [f.id.rsplit("/", 1)[1] for f in facts.facts]
    assert sum(k not in uuids for k in keys) == 481
    right = {p: {} for p in pairs}
    for p, own in pairs.items():
        for subject, answer in own:
            right[p].setdefault(subject.casefold(), set()).add(answer)
    for fact in facts.facts:
        assert {*fact.answers, *fact.other_answers} == right[fact.relation][fact.subject.casefold()]


def test_sentences_are_those_of_the_paper():
    """First sentence of each record; no mask, several masks or the same sentence in the same data set: left out."""
    found: dict[str, list[tuple[str, str]]] = {}
    left_out: Counter[str] = Counter()
    for part, pattern in {"t": "TREx", "g": "Google_RE", "c": "ConceptNet", "s": "Squad"}.items():
        seen = set()
        by_file = lines(f"LAMA/{pattern}/*.jsonl")
        order = sorted(by_file, key=lambda p: int(p[1:]) if part == "t" else ("birth" not in p, "date" in p))
        for record in (r for p in order for r in by_file[p]):
            sentences = record.get("masked_sentences") or [e["masked_sentence"] for e in record.get("evidences", [])]
            if not sentences:
                left_out["no_sentence"] += 1
            elif sentences[0].count("[MASK]") != 1:
                left_out["several_masks" if "[MASK]" in sentences[0] else "no_mask"] += 1
            elif sentences[0] in seen:
                left_out["duplicate_sentence"] += 1
            else:
                seen.add(sentences[0])
                found.setdefault(part, []).append((sentences[0], record["obj_label"]))
    facts = load_source("lama:sentences")
    assert facts.filters == dict(left_out)
    found_here = [(f.statement.replace("[Y]", "[MASK]"), f.answers[0]) for f in facts.facts]
    assert found_here == found["t"] + found["g"] + found["c"] + found["s"]


def test_bear_is_read_as_its_authors_library_reads_it():
    lm_pub_quiz = pytest.importorskip("lm_pub_quiz")
    theirs, facts = lm_pub_quiz.Dataset.from_path(DATA / "BEAR"), load_source("bear")
    ours = facts.by_relation()
    assert {r.relation_code for r in theirs} == set(ours)
    for relation in theirs:
        table, own = relation.instance_table, ours[relation.relation_code]
        assert list(table["sub_label"]) == [f.subject for f in own]
        answers = [relation.answer_space.iloc[i] for i in table["answer_idx"]]
        assert answers == [f.answers[0] for f in own]
        assert list(relation.templates) == list(facts.relations[relation.relation_code].templates)


def test_pararel_is_what_the_files_say():
    facts, patterns = load_source("pararel"), lines("ParaRel/graphs_json/*.jsonl")
    for id, relation in facts.relations.items():
        assert [r["pattern"] for r in patterns[id]] == list(relation.templates)
    records = lines("ParaRel/trex_lms_vocab/*.jsonl")
    pairs = {p: list(dict.fromkeys((r["sub_label"], r["obj_label"]) for r in records[p])) for p in patterns}
    assert {p: [(f.subject, f.answers[0]) for f in own] for p, own in facts.by_relation().items()} == pairs
    without = sum(len(own) for p, own in records.items() if p not in patterns)
    twice = sum(len(records[p]) - len(own) for p, own in pairs.items())
    assert facts.filters == {"duplicate_fact": twice, "no_pattern": without}


def test_the_files_are_the_known_ones_and_the_card_says_what_is_there(recwarn):
    load_source.cache_clear()
    card = project_data(CARDS["benchmarks"])
    text = card.read_text(encoding="utf-8")
    count = runpy.run_path(str(card.with_name("count.py")))
    assert count["with_counts"](text) == text, "run: python data/benchmarks/count.py"
    assert [str(w.message) for w in recwarn if "set of files" in str(w.message)] == []
