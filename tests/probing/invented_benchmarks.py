"""Invented benchmark files in the layouts of the real ones, small and of this project's own making."""

import json
from pathlib import Path

from kc_utils.probing.sources.bear import RELATIONS as BEAR_RELATIONS
from kc_utils.probing.sources.lama import GOOGLE_RE, TREX
from kc_utils.probing.sources.pararel import WITHOUT_PATTERNS

LANDS, TOWNS = ("Lyonesse", "Avalon", "Ruritania"), ("Camelot", "Strelsau", "Ys")


def write(path: Path, *records: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")


def trex(folder: Path) -> None:
    """Every relation has: two facts, one of them twice, an answer that is the subject, one inside it, and a second
    answer to the first subject. The last two have neither a uuid nor a sentence, as some records of LAMA."""
    rows = [{"relation": p, "template": "[X] lies near [Y] .", "label": f"relation {p}", "type": "N-M"} for p in TREX]
    write(folder / "relations.jsonl", *rows)
    for p in TREX:
        sentence = [{"masked_sentence": f"Of old, {p} of Lyonesse was [MASK]."}]
        first = {"uuid": f"{p}-1", "sub_label": "Lyonesse", "obj_label": "Camelot", "sub_uri": "Q1", "obj_uri": "Q2"}
        second = {"uuid": f"{p}-2", "sub_label": "Avalon", "obj_label": "Ys", "sub_uri": "Q3", "obj_uri": "Q4"}
        other = [{"masked_sentence": f"[MASK] is the {p} of Avalon."}]
        unmasked = [{"masked_sentence": f"{p}, no mask."}]
        write(
            folder / f"TREx/{p}.jsonl",
            first | {"evidences": sentence},
            first | {"uuid": f"{p}-again", "evidences": sentence},
            second | {"evidences": other},
            {"uuid": f"{p}-3", "sub_label": "Ys", "obj_label": "Ys", "evidences": unmasked},
            {"sub_label": "Old Strelsau", "obj_label": "strelsau"},
            {"sub_label": "Lyonesse", "obj_label": "Strelsau"},
        )


def lama(folder: Path) -> None:
    trex(folder)
    for name in GOOGLE_RE:
        person = {"sub_label": "Ann Example", "sub_w": "Q5", "obj_w": None}
        write(
            folder / f"Google_RE/{name}_test.jsonl",
            person
            | {"uuid": f"{name}-1", "obj_label": "Ys", "obj_aliases": ["Kêr-Is", "YS", "is", "Keris"]}
            | {"masked_sentences": [f"Ann Example, {name} [MASK].", "She was of [MASK]."]},
            person | {"uuid": f"{name}-2", "obj_label": "Camelot", "masked_sentences": ["No mask.", f"{name} [MASK]."]},
            person | {"uuid": f"{name}-3", "obj_label": "Avalon", "masked_sentences": [f"{name}: [MASK] and [MASK]."]},
        )
    write(
        folder / "ConceptNet/test.jsonl",
        {"uuid": "c1", "pred": "IsA", "sub_label": "gryphon", "obj_label": "beast", "masked_sentences": ["A [MASK]."]},
        {"uuid": "c2", "pred": "IsA", "sub_label": "wyvern", "obj_label": "dragon", "masked_sentences": ["A [MASK]."]},
        {"uuid": "c1", "pred": "IsA", "sub_label": "gryphon", "obj_label": "bird", "masked_sentences": ["[MASK]."]},
        {"uuid": "c3", "pred": "HasA", "sub_label": "wyvern", "obj_label": "tail", "masked_sentences": ["Its [MASK]."]},
    )
    write(
        folder / "Squad/test.jsonl",
        {"id": "s1", "sub_label": "Squad", "obj_label": "Ys", "masked_sentences": ["The drowned city is [MASK]."]},
        {"id": "s2", "sub_label": "Squad", "obj_label": "Ys", "masked_sentences": ["[MASK] and [MASK]."]},
    )


def bear(folder: Path) -> None:
    """Two answers in every relation; each is right once where the relation's number is even, twice where it is odd."""
    space = {"answer_space_labels": ["Ys", "Avalon"], "answer_space_ids": ["Q1", "Q2"]}
    templates = {"templates": ["[X] knows [Y].", "[Y] knows [X].", "[X] has seen [Y]."]}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metadata_relations.json").write_text(json.dumps(dict.fromkeys(BEAR_RELATIONS, templates | space)))
    for p in BEAR_RELATIONS:
        rows = []
        for n in range(4 if int(p[1:]) % 2 else 2):
            answer = n % 2
            rows.append(
                {"sub_id": f"Q{n + 10}", "sub_label": f"Knight {n}", "sub_aliases": [], "answer_idx": answer}
                | {"obj_id": space["answer_space_ids"][answer], "obj_label": space["answer_space_labels"][answer]}
            )
        write(folder / f"{p}.jsonl", *rows)


def pararel(folder: Path) -> None:
    for p in TREX:
        if p not in WITHOUT_PATTERNS:
            patterns = ("[X] lies by [Y].", "[Y] is where [X] lies.", "[X] lies by [Y].")
            write(folder / f"graphs_json/{p}.jsonl", *({"pattern": t, "lemma": "lie"} for t in patterns))
        rows = [{"sub_label": a, "obj_label": b, "uuid": f"{p}-{a}"} for a, b in zip(LANDS, TOWNS, strict=True)]
        write(folder / f"trex_lms_vocab/{p}.jsonl", *rows, rows[0] | {"uuid": f"{p}-again"})


POPQA_COLUMNS = (
    "id subj prop obj subj_id prop_id obj_id s_aliases o_aliases s_uri o_uri s_wiki_title o_wiki_title s_pop o_pop question "
    "possible_answers"
)


def popqa(folder: Path) -> None:
    asked, drowned = "What is Ann Example's occupation?", ["Cornouaille", 'the "drowned" land']
    rows = [
        ("1", "Ann Example", "occupation", "knight", "5", ["knight", "Sir"], asked),
        ("2", "Ann Example", "occupation", "smith", "5", ["smith"], asked),
        ("3", "Ys", "capital of", "Cornouaille", "900", drowned, "What is Ys the capital of?"),
    ]
    lines = [POPQA_COLUMNS.split()]
    for id, subject, prop, answer, views, answers, question in rows:
        uris = [f"http://www.wikidata.org/entity/Q{id}{n}" for n in (0, 1)]
        first = [id, subject, prop, answer, "1", "2", "3", "[]", "[]", *uris, subject, answer]
        lines.append([*first, views, "7", question, json.dumps(answers)])
    folder.mkdir(parents=True, exist_ok=True)
    quoted = lambda cell: '"' + cell.replace('"', '""') + '"' if '"' in cell else cell  # noqa: E731
    text = "".join("\t".join(map(quoted, line)) + "\n" for line in lines)
    (folder / "test.tsv").write_text(text, encoding="utf-8")


MAKERS = {"LAMA": lama, "BEAR": bear, "ParaRel": pararel, "PopQA": popqa}
