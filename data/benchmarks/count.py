"""The counted parts of the benchmarks' data card, benchmarks.md beside this script.

After a deliberate change, `KC_DATA=... python data/benchmarks/count.py` counts again and rewrites the card.
"""

from __future__ import annotations

from pathlib import Path

from kc_lab import wikipedia
from kc_utils.probing.sources import load_source

CARD = Path(__file__).with_name("benchmarks.md")
FILTERS = {
    "answer_in_other_words": "the sentence states the answer in other words",
    "answer_in_subject": "the subject holds the answer, letter by letter (only with `-uhn`, and in `lab:wikipedia`)",
    "answer_not_taught": "no fact of the relation with this answer is of kind `both`",
    "common_answer": "enough facts of the relation have this answer",
    "duplicate_fact": "subject, relation and answer are those of an earlier record",
    "duplicate_sentence": "the sentence is that of an earlier record",
    "long_sentence": "the sentence has too many words",
    "named_elsewhere": "a fact that no sentence was to state, but some text names its subject and its answer",
    "no_mask": "the first sentence holds no mask",
    "no_pattern": "the relation has no pattern, so there is no prompt",
    "no_sentence": "the record holds no sentence",
    "no_template": "no template of the relation ends with the answer",
    "part_of_a_word": "the answer, or its place in the sentence, is not one word",
    "rare_answer": "too few facts of the relation have this answer",
    "several_answers": "the subject has another answer in this relation",
    "several_masks": "the sentence holds more than one mask",
    "subject_is_answer": "the subject is the answer (only with `-uhn`)",
    "subject_not_before_answer": "the sentence does not name the subject, as LAMA does, before the answer",
}
"""The meaning of each filter."""
COUNTED = {
    "lama": ("lama", "lama:trex", "lama:google_re", "lama:conceptnet", "lama:squad", "lama:sentences", "lama-uhn"),
    "bear": ("bear", "bear-uhn"),
    "pararel": ("pararel", "pararel-uhn"),
    "lab:wikipedia": ("lab:wikipedia", *(f"lab:wikipedia-{kind}" for kind in wikipedia.KINDS)),
}
"""The names that are counted under each heading, the one that is listed by relation first."""


def card(source: str) -> str:
    """Facts and filters of a source, its parts and its relations, as Markdown. Raises MissingData without its files."""
    lines = ["| name | facts | left out | SHA-256 of the list |", "|---|---:|---|---|"]
    for name in COUNTED[source]:
        facts = load_source(name)
        out = ", ".join(f"{count:,} `{reason}`" for reason, count in facts.filters.items()) or "–"
        lines.append(f"| `{name}` | {len(facts):,} | {out} | `{facts.sha256[:16]}` |")
    facts = load_source(source)
    reasons = sorted({reason for name in COUNTED[source] for reason in load_source(name).filters})
    if reasons:
        lines += ["", *(f"- `{reason}`: {FILTERS[reason]}" for reason in reasons)]
    lines += ["", "| files | SHA-256 |", "|---|---|", *(f"| {name} | `{hash[:16]}` |" for name, hash in facts.files.items())]
    lines += ["", "| relation | label | type | facts | answers | templates |", "|---|---|---|---:|---:|---:|"]
    for id, own in facts.by_relation().items():
        relation = facts.relations[id]
        counts = (len(own), len(relation.answer_space), len(relation.templates) or "own sentence")
        lines.append(f"| `{id}` | {relation.label} | {relation.type} | " + " | ".join(map(str, counts)) + " |")
    if source == "lab:wikipedia":
        lines += ["", "| read | texts | words | word pieces |", "|---|---:|---:|---:|"]
        lines += [f"| {name} | " + " | ".join(f"{n:,}" for n in row.values()) + " |" for name, row in wikipedia.counts().items()]
        lines += ["", f"SHA-256 of all facts, kinds and texts: `{wikipedia.world_hash()[:16]}`"]
    return "\n".join(lines)


def with_counts(text: str) -> str:
    """The card with every counted part made anew."""
    for source in COUNTED:
        mark, end = f"% generated: {source}", f"% end of {source}"
        before, _, after = text.partition(f"{mark}\n")
        after = after.partition(f"{end}\n")[2] or after
        text = f"{before}{mark}\n\n{card(source)}\n\n{end}\n{after}"
    return text


if __name__ == "__main__":
    CARD.write_text(with_counts(CARD.read_text(encoding="utf-8")), encoding="utf-8")
