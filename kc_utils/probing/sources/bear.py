"""`bear`: the BEAR probe (Wiland et al. 2024, arXiv 2404.04113): 60 relations, three templates and a closed set of answers each.

Nothing is filtered: published accuracies are over all 7,731 facts. A subject has one right answer, and within a relation
all answers are right equally often, so that guessing one answer gains nothing.
"""

from __future__ import annotations

import json
from pathlib import Path

from kc_utils.errors import MissingData
from kc_utils.probing.facts import Fact, FactSet
from kc_utils.probing.files import read_jsonl
from kc_utils.probing.sources.collection import Collection, properties, text

_NUMBERS = (
    "6 19 20 26 27 30 36 37 50 53 57 58 69 87 98 103 105 108 115 127 131 137 162 170 171 175 176 177 178 "
    "179 185 190 206 272 291 344 364 403 412 413 427 449 463 466 509 610 611 641 676 1303 1376 1412 1441 "
    "1532 2632 3373 4552 6886 7937 7959"
)
RELATIONS = tuple(f"P{number}" for number in _NUMBERS.split())

FILES = ("BEAR/metadata_relations.json", *(f"BEAR/{p}.jsonl" for p in RELATIONS))
KNOWN = "9b31ed3728375eddcb23f94536bb7451aca2edc38291a0b0cadc28387ceedb89"
"""Hash of the files that the counts of the data card were made from: those of the authors' repository at the commit in
homes.yaml."""


def needed() -> list[str]:
    return list(FILES)


def load() -> FactSet:
    """All facts. Raises MissingData where the files are absent or contradict each other."""
    collection = Collection("bear")
    described, *paths = collection.read("BEAR", needed(), KNOWN)
    try:
        metadata = json.loads(described.read_text(encoding="utf-8"))
        relations = {p.stem: metadata[p.stem] for p in paths}
        spaces = {p: r["answer_space_labels"] for p, r in relations.items()}
        ids = {p: r["answer_space_ids"] for p, r in relations.items()}
        templates = {p: r["templates"] for p, r in relations.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MissingData(f"{described}: not BEAR's description of its relations ({error!r}): fetch it again") from error
    for path in paths:
        relation, records = path.stem, read_jsonl(path)
        kind = "1-1" if len({r.get("obj_id") for r in records}) == len(records) else "N-1"
        label = properties()[relation]["label"]
        collection.add_relation(relation, label, relation, kind, templates[relation], sorted(spaces[relation]))
        for record in records:
            collection.add(_fact(record, relation, path, spaces[relation], ids[relation]))
    return collection.factset()


def _fact(record: dict, relation: str, path: Path, space: list[str], ids: list[str]) -> Fact:
    subject_id, answer, answer_id = (text(record, key, path) for key in ("sub_id", "obj_label", "obj_id"))
    index = record.get("answer_idx", -1)
    if not 0 <= index < len(space) or (space[index], ids[index]) != (answer, answer_id):
        raise MissingData(f"{path}: {answer!r} is not at index {index} of the answer space: files of two editions are mixed")
    return Fact(
        f"bear/{relation}/{subject_id}",
        relation,
        text(record, "sub_label", path),
        (answer,),
        subject_id=subject_id,
        answer_id=answer_id,
    )
