"""`lama`: the LAMA probe (Petroni et al. 2019, arXiv 1909.01066) in its four parts.

`lama` is all four, in the prompts of LAMA's own code: T-REx and Google-RE by one template for each relation, ConceptNet
and SQuAD by each record's own sentence. `lama:trex`, `lama:google_re`, `lama:conceptnet` and `lama:squad` are single
parts. `lama:sentences` is all four by each record's first sentence, duplicate sentences dropped, as in the study of
compression by Namburi et al. (2023); `lama:trex_sentences` and `lama:google_re_sentences` are its parts.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from kc_utils.errors import BadRequest, MissingData, listed
from kc_utils.probing.facts import Fact, FactSet
from kc_utils.probing.files import read_jsonl
from kc_utils.probing.sources.collection import Collection, text

_NUMBERS = (
    "17 19 20 27 30 31 36 37 39 47 101 103 106 108 127 131 136 138 140 159 176 178 190 264 276 279 361 "
    "364 407 413 449 463 495 527 530 740 937 1001 1303 1376 1412"
)
TREX = tuple(f"P{number}" for number in _NUMBERS.split())

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
            key = record.get("uuid") or _made_up(record.get("sub_uri"), subject, answer)
            ids = {"subject_id": record.get("sub_uri"), "answer_id": record.get("obj_uri")}
            fact = {
                "id": f"lama/{relation}/{key}",
                "relation": relation,
                "subject": subject,
                "answers": (answer,),
            } | ids
            if sentences:
                _add_sentence(collection, "trex", [e["masked_sentence"] for e in record.get("evidences") or []], fact)
            else:
                collection.add(Fact(**fact), once=(relation, subject, answer))


def _trex_sentences(collection: Collection, paths: list[Path]) -> None:
    _trex(collection, paths, sentences=True)


def _google_re(collection: Collection, paths: list[Path], sentences: bool = False) -> None:
    for path in paths:
        relation = path.stem.removesuffix("_test")
        label, wikidata, kind, template = GOOGLE_RE[relation]
        collection.add_relation(relation, label, wikidata, kind, [template])
        for record in read_jsonl(path):
            subject, answer = text(record, "sub_label", path), text(record, "obj_label", path)
            fact = {
                "id": f"lama/{relation}/{text(record, 'uuid', path)}",
                "relation": relation,
                "subject": subject,
                "answers": (answer,),
                "aliases": tuple(
                    a for a in dict.fromkeys(record.get("obj_aliases") or ()) if _is_name(a) and a != answer
                ),
                "subject_id": record.get("sub_w"),
                "answer_id": record.get("obj_w"),
            }
            if sentences:
                _add_sentence(collection, "google_re", record.get("masked_sentences") or [], fact)
            else:
                collection.add(Fact(**fact), once=(relation, subject, answer))


def _google_re_sentences(collection: Collection, paths: list[Path]) -> None:
    _google_re(collection, paths, sentences=True)


def _conceptnet(collection: Collection, paths: list[Path]) -> None:
    for record in read_jsonl(paths[0]):
        predicate = text(record, "pred", paths[0])
        relation = f"conceptnet/{predicate}"
        collection.add_relation(relation, predicate, None, "other", [])
        fact = {
            "id": f"lama/{relation}/{text(record, 'uuid', paths[0])}",
            "relation": relation,
            "subject": record.get("sub_label") or record.get("sub") or "",
            "answers": (text(record, "obj_label", paths[0]),),
        }
        _add_sentence(collection, "conceptnet", record.get("masked_sentences") or [], fact)


def _squad(collection: Collection, paths: list[Path]) -> None:
    collection.add_relation("squad", "SQuAD", None, "other", [])
    for record in read_jsonl(paths[0]):
        fact = {
            "id": f"lama/squad/{text(record, 'id', paths[0])}",
            "relation": "squad",
            "subject": "",  # the file names the data set, `Squad`, instead of a subject
            "answers": (text(record, "obj_label", paths[0]),),
        }
        _add_sentence(collection, "squad", record.get("masked_sentences") or [], fact)


def _add_sentence(collection: Collection, part: str, sentences: list[str], fact: dict) -> None:
    """Keep a fact with its first sentence as prompt, as in Namburi et al.: no sentence twice in a part of LAMA."""
    if not sentences:
        return collection.drop(fact["relation"], "no_sentence")
    masks = sentences[0].count("[MASK]")
    if masks != 1:
        return collection.drop(fact["relation"], "several_masks" if masks else "no_mask")
    statement = sentences[0].replace("[X]", "X").replace("[Y]", "Y").replace("[MASK]", "[Y]")
    collection.add(Fact(**fact, statement=statement), once=(part, statement), why="duplicate_sentence")


def _is_name(alias: str) -> bool:
    """Whether an alias of Google-RE is a name: codes (`CH`), flags and nicknames of two letters are not."""
    return len(alias) > 3 and alias[0].isalpha() and not alias.isupper()


def _made_up(uri: str | None, subject: str, answer: str) -> str:
    """A stable key for a record without one, from its content."""
    return hashlib.sha256(f"{uri or subject}\t{answer}".encode()).hexdigest()[:16]


PARTS = {
    "trex": ("TREx", _trex),
    "google_re": ("Google_RE", _google_re),
    "conceptnet": ("ConceptNet", _conceptnet),
    "squad": ("Squad", _squad),
    "trex_sentences": ("TREx", _trex_sentences),
    "google_re_sentences": ("Google_RE", _google_re_sentences),
}
"""The files of each part, and the function that reads them."""

GROUPS = {
    None: ("trex", "google_re", "conceptnet", "squad"),
    "sentences": ("trex_sentences", "google_re_sentences", "conceptnet", "squad"),
}
