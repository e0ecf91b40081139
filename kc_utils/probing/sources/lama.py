"""`lama`: the LAMA probe (Petroni et al. 2019, arXiv 1909.01066) in its four parts.

`lama` is all four, in the prompts of LAMA's own code: T-REx and Google-RE by one template for each relation, ConceptNet
and SQuAD by each record's own sentence. `lama:trex`, `lama:google_re`, `lama:conceptnet` and `lama:squad` are single
parts. `lama:sentences` is all four by each record's first sentence, duplicate sentences dropped, as in the study of
compression by Namburi et al. (2023); `lama:trex_sentences` and `lama:google_re_sentences` are its parts.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import partial
from pathlib import Path

from kc_utils.errors import BadRequest, MissingData, listed
from kc_utils.probing.facts import Fact, FactSet
from kc_utils.probing.files import read_jsonl
from kc_utils.probing.sources.collection import Collection, properties, text

TREX = tuple(name for name, row in properties().items() if "type" in row)

GOOGLE_RE = {
    "place_of_birth": ("place of birth", "P19", "N-1", "[X] was born in [Y] ."),
    "date_of_birth": ("year of birth", "P569", "other", "[X] (born [Y])."),
    "place_of_death": ("place of death", "P20", "N-1", "[X] died in [Y] ."),
}
"""Label, Wikidata property, type, and the template of LAMA's code."""

FILES = {
    "TREx": ("LAMA/relations.jsonl", *(f"LAMA/TREx/{p}.jsonl" for p in TREX)),
    "Google_RE": tuple(f"LAMA/Google_RE/{name}_test.jsonl" for name in GOOGLE_RE),
    "ConceptNet": ("LAMA/ConceptNet/test.jsonl",),
    "Squad": ("LAMA/Squad/test.jsonl",),
}
KNOWN = {
    "TREx": "dcad95af3380e0910d1cdedb9ca2e0ba274f44fe2b02abecb4ac09c6079623b8",
    "Google_RE": "3d517ba2ef2c9ee25ccf8eaa2057b6ee1a2211c35b4f791fcb30845c749c898f",
    "ConceptNet": "0ea4d7a8740f968e5eae479d00922abd31643a787021df024b2a18d944733126",
    "Squad": "93e0efd489995060d0dff152942bf0e9afe96e5e25831042f6fd92f5441a2bbc",
}
"""Hashes of the files that the counts of the data card were made from."""


def needed(part: str | None = None) -> list[str]:
    """The files of a part. Raises BadRequest for an unknown one."""
    return [name for own in _parts(part) for name in FILES[PARTS[own][0]]]


def load(part: str | None = None) -> FactSet:
    """The facts of one part, or of all. Raises MissingData where its files are absent, BadRequest for an unknown part."""
    collection = Collection(f"lama:{part}" if part else "lama")
    for own in _parts(part):
        files, reader = PARTS[own]
        reader(collection, collection.read(f"LAMA/{files}", FILES[files], KNOWN[files]))
    return collection.factset(space_over=_space)


def _parts(part: str | None) -> tuple[str, ...]:
    parts = GROUPS.get(part, (part,))
    if parts[0] not in PARTS:
        raise BadRequest(f"lama has no part {part!r}: choose {listed([*PARTS, *(g for g in GROUPS if g)])}")
    return parts


def _space(relation: str) -> str:
    """The relations that share an answer space: those of ConceptNet, some of which have a single fact."""
    return "conceptnet" if relation.startswith("conceptnet/") else relation


def _trex(collection: Collection, paths: list[Path], sentences: bool = False) -> None:
    described = {text(r, "relation", paths[0]): r for r in read_jsonl(paths[0])}
    for path in paths[1:]:
        relation = path.stem
        if relation not in described:
            raise MissingData(f"{paths[0]} does not describe {relation}: it is not LAMA's list of relations")
        own = described[relation]
        collection.add_relation(relation, text(own, "label", paths[0]), relation, own["type"], [own["template"]])
        for record in read_jsonl(path):
            subject, answer = text(record, "sub_label", path), text(record, "obj_label", path)
            content = f"{record.get('sub_uri') or subject}\t{answer}"  # some records have no key of their own
            key = record.get("uuid") or hashlib.sha256(content.encode()).hexdigest()[:16]
            ids = {"subject_id": record.get("sub_uri"), "answer_id": record.get("obj_uri")}
            fact = Fact(f"lama/{relation}/{key}", relation, subject, (answer,), **ids)
            own_sentences = [e["masked_sentence"] for e in record.get("evidences") or []]
            _add(collection, fact, "trex", own_sentences if sentences else None)


def _google_re(collection: Collection, paths: list[Path], sentences: bool = False) -> None:
    for path in paths:
        relation = path.stem.removesuffix("_test")
        label, wikidata, kind, template = GOOGLE_RE[relation]
        collection.add_relation(relation, label, wikidata, kind, [template])
        for record in read_jsonl(path):
            subject, answer = text(record, "sub_label", path), text(record, "obj_label", path)
            names = dict.fromkeys(record.get("obj_aliases") or ())
            aliases = tuple(name for name in names if _is_name(name) and name != answer)
            ids = {"subject_id": record.get("sub_w"), "answer_id": record.get("obj_w")}
            key = text(record, "uuid", path)
            fact = Fact(f"lama/{relation}/{key}", relation, subject, (answer,), aliases, **ids)
            _add(collection, fact, "google_re", (record.get("masked_sentences") or []) if sentences else None)


def _conceptnet(collection: Collection, paths: list[Path]) -> None:
    for record in read_jsonl(paths[0]):
        predicate = text(record, "pred", paths[0])
        relation, subject = f"conceptnet/{predicate}", record.get("sub_label") or record.get("sub") or ""
        collection.add_relation(relation, predicate, None, "other", [])
        key, answer = text(record, "uuid", paths[0]), text(record, "obj_label", paths[0])
        fact = Fact(f"lama/{relation}/{key}", relation, subject, (answer,))
        _add(collection, fact, "conceptnet", record.get("masked_sentences") or [])


def _squad(collection: Collection, paths: list[Path]) -> None:
    collection.add_relation("squad", "SQuAD", None, "other", [])
    for record in read_jsonl(paths[0]):
        key, answer = text(record, "id", paths[0]), text(record, "obj_label", paths[0])
        fact = Fact(f"lama/squad/{key}", "squad", "", (answer,))  # the subject of the file is the data set, `Squad`
        _add(collection, fact, "squad", record.get("masked_sentences") or [])


def _add(collection: Collection, fact: Fact, part: str, sentences: list[str] | None) -> None:
    """Keep a fact with its relation's template; or, where sentences are given, with the first one as prompt, as in Namburi
    et al.: no sentence twice in a part of LAMA."""
    if sentences is None:
        return collection.add(fact, once=(fact.relation, fact.subject, fact.answers[0]))
    if not sentences:
        return collection.drop(fact.relation, "no_sentence")
    masks = sentences[0].count("[MASK]")
    if masks != 1:
        return collection.drop(fact.relation, "several_masks" if masks else "no_mask")
    statement = sentences[0].replace("[X]", "X").replace("[Y]", "Y").replace("[MASK]", "[Y]")
    collection.add(replace(fact, statement=statement), once=(part, statement), why="duplicate_sentence")


def _is_name(alias: str) -> bool:
    """Whether an alias of Google-RE is a name: codes (`CH`), flags and nicknames of two letters are not."""
    return len(alias) > 3 and alias[0].isalpha() and not alias.isupper()


PARTS = {
    "trex": ("TREx", _trex),
    "google_re": ("Google_RE", _google_re),
    "conceptnet": ("ConceptNet", _conceptnet),
    "squad": ("Squad", _squad),
    "trex_sentences": ("TREx", partial(_trex, sentences=True)),
    "google_re_sentences": ("Google_RE", partial(_google_re, sentences=True)),
}
"""The files of each part, and the function that reads them."""

GROUPS = {
    None: ("trex", "google_re", "conceptnet", "squad"),
    "sentences": ("trex_sentences", "google_re_sentences", "conceptnet", "squad"),
}
