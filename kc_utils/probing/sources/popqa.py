"""`popqa`: PopQA (Mallen et al. 2023, arXiv 2212.10511): questions about 16 relations, with the page views of each subject.

Each fact brings its own question, in the prompt of the authors' code (`Q: ... A:`) without examples before it. Every
one of its possible answers counts as right; the monthly page views of the subject are its popularity.
"""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from kc_utils.errors import MissingData, listed
from kc_utils.probing.facts import Fact, FactSet
from kc_utils.probing.sources.collection import Collection

FILES = ("PopQA/test.tsv",)
COLUMNS = ("id", "subj", "prop", "obj", "s_uri", "o_uri", "s_pop", "question", "possible_answers")
"""The columns used here, of 17."""

KNOWN = None
"""The published file's hash is not known here; `FactSet.files` has the hash of the file that was read."""


def needed() -> list[str]:
    return list(FILES)


def load() -> FactSet:
    """All facts. Raises MissingData where the file is absent, cut or of another layout."""
    collection = Collection("popqa")
    path = collection.read("PopQA", needed(), KNOWN)[0]
    for line, record in _rows(path):
        try:
            answers = json.loads(record["possible_answers"])
            popularity = float(record["s_pop"])
        except ValueError as error:
            raise MissingData(f"{path}, line {line}: {error}; the file is cut or damaged, fetch it again") from error
        if not isinstance(answers, list) or not all(isinstance(a, str) and a.strip() for a in answers):
            raise MissingData(f"{path}, line {line}: possible_answers is no list of texts; fetch the file again")
        relation, question = record["prop"].strip().replace(" ", "_"), record["question"].strip()
        if "[Y]" in question or "[X]" in question:
            raise MissingData(f"{path}, line {line}: the question holds a slot; this is not the published file")
        collection.add_relation(relation, record["prop"].strip(), None, "other", [])
        fact = Fact(
            f"popqa/{record['id']}",
            relation,
            record["subj"],
            (record["obj"],),
            tuple(a for a in dict.fromkeys(answers) if a != record["obj"]),
            popularity,
            f"Q: {question} A: [Y]",
            subject_id=record["s_uri"].rsplit("/", 1)[-1] or None,
            answer_id=record["o_uri"].rsplit("/", 1)[-1] or None,
        )
        collection.add(fact, once=(question, record["obj"]))
    return collection.factset()


def _rows(path: Path) -> list[tuple[int, dict]]:
    """(line, record) of each row, all columns as text."""
    try:
        table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, on_bad_lines="error", engine="python")
    except (OSError, ValueError) as error:  # pandas' errors of parsing are ValueErrors
        raise MissingData(f"{path} cannot be read ({' '.join(str(error).split())}): fetch it again") from error
    lacking = [c for c in COLUMNS if c not in table]
    if lacking:
        raise MissingData(f"{path} lacks the columns {listed(lacking)}: this is not PopQA's test.tsv")
    if table.empty:
        raise MissingData(f"{path} is empty: fetch it again")
    rows = list(enumerate(table.to_dict("records"), start=2))
    for line, record in rows:
        empty = [c for c in COLUMNS if c not in ("s_uri", "o_uri") and not record[c]]
        if empty:
            raise MissingData(f"{path}, line {line}: {listed(empty)} is missing; the file is cut or damaged")
    return rows
