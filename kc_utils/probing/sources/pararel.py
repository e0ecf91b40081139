"""`pararel`: ParaRel (Elazar et al. 2021, arXiv 2102.01017): T-REx facts of LAMA, each in many paraphrases.

The facts are those whose answer is one token for BERT, RoBERTa and ALBERT alike, as the authors filtered them. The
patterns are the templates, in the authors' order. `templates: all` measures consistency.
"""

from __future__ import annotations

from kc_utils.probing.facts import Fact, FactSet
from kc_utils.probing.files import read_jsonl
from kc_utils.probing.sources.collection import Collection, properties, text
from kc_utils.probing.sources.lama import TREX

WITHOUT_PATTERNS = ("P31", "P527")
PATTERNS = tuple(f"ParaRel/graphs_json/{p}.jsonl" for p in TREX if p not in WITHOUT_PATTERNS)
FACTS = tuple(f"ParaRel/trex_lms_vocab/{p}.jsonl" for p in TREX)
KNOWN = "7e04998ababf6bf43f853017e517216481b595c1aaea2f3735e13a9fe0ab8071"
"""Hash of the files that the counts of the data card were made from."""


def needed() -> list[str]:
    return [*PATTERNS, *FACTS]


def load() -> FactSet:
    """All facts that have a pattern. Raises MissingData where the files are absent or damaged."""
    collection = Collection("pararel")
    paths = collection.read("ParaRel", needed(), KNOWN)
    patterns = {p.stem: [text(r, "pattern", p) for r in read_jsonl(p)] for p in paths[: len(PATTERNS)]}
    for path in paths[len(PATTERNS) :]:
        relation, records = path.stem, read_jsonl(path)
        if relation not in patterns:
            collection.drop(relation, "no_pattern", len(records))
            continue
        own = properties()[relation]
        collection.add_relation(relation, own["label"], relation, own["type"], dict.fromkeys(patterns[relation]))
        for record in records:
            subject, answer = text(record, "sub_label", path), text(record, "obj_label", path)
            fact = Fact(f"pararel/{relation}/{text(record, 'uuid', path)}", relation, subject, (answer,))
            collection.add(fact, once=(relation, subject, answer))
    return collection.factset()
