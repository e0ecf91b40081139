"""The world of real sentences: facts of LAMA, and the sentences of Wikipedia from which models of the lab learn them.

T-REx and Google-RE bring to each fact a sentence that states it. A fact is taken where this sentence names the subject as
LAMA does, then the answer in its own words, and where nothing else decides: no answer within the name of its subject, no
second answer to the same question, no answer of fewer than LEAST facts, and of a common one MOST facts at the most.

All facts about a subject are of one kind, by a hash of its name:

    both      the sentence is read, and statements of the fact in prompt templates
    sentence  the sentence alone is read; facts of kind `both` teach what the templates mean
    never     neither is read, nor any text that names subject and answer: what a model gets right of them it has guessed

The templates of LAMA and ParaRel (those that end with the answer) serve all kinds; the last of each relation is held out from
training where there are two or more. Passages of BoolQ are ordinary language between the sentences, and some are held out.
The texts belong to Wikipedia's authors (CC BY-SA) and stay in KC_DATA: the repository holds word pieces, counts and hashes.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources

from tokenizers import Tokenizer

from kc_lab import tokenizer
from kc_utils.errors import BadRequest, listed
from kc_utils.probing.facts import Fact, FactSet, fill
from kc_utils.probing.files import data_file, data_files, read_jsonl
from kc_utils.probing.queries import Query
from kc_utils.probing.sources import lama, load_source
from kc_utils.probing.sources.pararel import PATTERNS

KINDS = ("both", "sentence", "never")
SHARE, NEVER = 0.5, 0.15
"""Shares of subjects of kind `both` and of kind `never`."""
LONGEST = 30
"""Words of a sentence."""
LEAST, MOST = 3, 30
"""Facts of a relation with the same answer."""
TEMPLATES = 5
"""Templates of a relation, with the one that is held out."""
BOOLQ = "harness/boolq/val.jsonl"
HELD_OUT = 20
"""One passage of so many is held out."""
PIECES = 8000
SENTINELS = tuple(f"<extra_id_{number}>" for number in range(65))
"""As many as a row of 128 tokens can need: a gap at every other one, and the last."""


def needed() -> list[str]:
    """The files of KC_DATA that the sentences and templates are read from."""
    return [*lama.needed("trex"), *lama.needed("google_re"), *PATTERNS, BOOLQ]


def _drawn(*of) -> float:
    """A number from 0 to 1 that belongs to a text for good."""
    return int.from_bytes(hashlib.sha256("/".join(("wikipedia", *map(str, of))).encode()).digest()[:8]) / 2**64


def kind_of(fact: Fact, share: float = SHARE) -> str:
    """The kind of a fact at a share of kind `both`."""
    at = _drawn("kind", fact.subject.casefold())
    return "never" if at < NEVER else "both" if at < NEVER + share * (1 - NEVER) else "sentence"


@cache
def _surfaces() -> dict[str, str]:
    """By id of a T-REx fact, the words that stand for its answer in its sentence."""
    paths = data_files(lama.FILES["TREx"])[1:]
    records = ((path.stem, record) for path in paths for record in read_jsonl(path))
    return {f"lama/{p}/{r['uuid']}": r["evidences"][0]["obj_surface"] for p, r in records if r.get("evidences")}


def _left_out(fact: Fact) -> str | None:
    """Why the sentence of a fact does not serve; None where it does."""
    text, answer, subject = fact.statement, fact.answers[0], re.escape(fact.subject)
    reasons = {
        "no_template": fact.relation not in _templates(),
        "long_sentence": len(text.split()) > LONGEST,
        "part_of_a_word": re.fullmatch(r"\w+", answer) is None or re.search(r"(?<!\w)\[Y\](?!\w)", text) is None,
        "subject_not_before_answer": re.search(rf"(?<!\w){subject}(?!\w)", text[: text.index("[Y]")]) is None,
        "answer_in_other_words": _surfaces().get(fact.id, answer).casefold() != answer.casefold(),
        "answer_in_subject": answer.casefold() in fact.subject.casefold(),
        "several_answers": bool(fact.other_answers),
    }
    return next((reason for reason, true in reasons.items() if true), None)


@cache
def _chosen() -> tuple[dict[str, str], dict[str, int]]:
    """By id, the sentence of every fact of this world, its answer filled in; and how many facts were left out for what."""
    found, taken, number, out = [], set(), Counter(), Counter()
    for part in ("lama:trex_sentences", "lama:google_re_sentences"):
        facts = load_source(part)
        out.update(facts.filters)
        for fact in sorted(facts.facts, key=lambda fact: _drawn("order", fact.id)):
            what = facts.relations[fact.relation].wikidata, fact.subject.casefold()
            answer, reason = (fact.relation, fact.answers[0]), _left_out(fact)
            if reason is None and what in taken:
                reason = "duplicate_fact"
            if reason is None and number[answer] == MOST:
                reason = "common_answer"
            if reason is not None:
                out[reason] += 1
                continue
            taken.add(what)
            number[answer] += 1
            found.append(fact)
    kept = [fact for fact in found if number[fact.relation, fact.answers[0]] >= LEAST]
    out["rare_answer"] = len(found) - len(kept)
    return {fact.id: Query(fact, 0, fact.statement).stated(fact.answers[0]) for fact in kept}, dict(out)


def sentences() -> dict[str, str]:
    """By id, the sentence of every fact of this world, its answer filled in."""
    return _chosen()[0]


@cache
def _templates() -> dict[str, tuple[str, ...]]:
    """By relation, its templates that end with the answer, LAMA's first."""
    patterns = {path.stem: [r["pattern"] for r in read_jsonl(path)] for path in data_files(PATTERNS)}
    found = {}
    for part in ("lama:trex", "lama:google_re"):
        for name, relation in load_source(part).relations.items():
            texts = [*relation.templates, *patterns.get(relation.wikidata, ())]
            texts = dict.fromkeys(f"{text.rstrip(' .')}." for text in texts)
            own = [t for t in texts if t.endswith("[Y].") and t.index("[X]") < t.index("[Y]")]
            if own:
                found[name] = tuple(own[:TEMPLATES])
    return found


@cache
def facts(share: float = SHARE) -> FactSet:
    """The facts of all kinds. One that is never read has an answer which is read as that of another fact of its relation, and
    no text names both its subject and this answer."""
    drawn = _drawn_facts(share)
    texts, named = list(documents(share)), set()
    whole = "\n".join(texts)
    for fact in (f for f in drawn.facts if kind_of(f, share) == "never" and f.subject in whole):
        if any(fact.subject in text and fact.answers[0] in text for text in texts):
            named.add(fact.id)
    kept = tuple(fact for fact in drawn.facts if fact.id not in named)
    return replace(drawn, facts=kept, filters=drawn.filters | {"named_elsewhere": len(named)})


@cache
def _drawn_facts(share: float) -> FactSet:
    chosen, kinds, files = [], {}, {}
    for part in ("lama:trex", "lama:google_re"):
        source = load_source(part)
        chosen += [replace(fact, aliases=()) for fact in source.facts if fact.id in sentences()]
        kinds, files = kinds | source.relations, files | source.files
    shown = {(f.relation, f.answers[0]) for f in chosen if kind_of(f, share) == "both"}
    filters = _chosen()[1] | {"answer_not_taught": sum((f.relation, f.answers[0]) not in shown for f in chosen)}
    chosen = tuple(f for f in chosen if (f.relation, f.answers[0]) in shown)
    relations = {}
    for name in dict.fromkeys(f.relation for f in chosen):
        space = tuple(sorted({f.answers[0] for f in chosen if f.relation == name}))
        relations[name] = replace(kinds[name], templates=_templates()[name], answer_space=space)
    return FactSet("lab:wikipedia", relations, chosen, dict(sorted(filters.items())), files)


def held_out(relation) -> int | None:
    """The index of the template of a relation that no training shows; None for a relation with a single one."""
    return len(relation.templates) - 1 if len(relation.templates) > 1 else None


def part(name: str | None) -> FactSet:
    """Facts of one kind, or of all, as the fact source `lab:wikipedia` offers them. Raises BadRequest for an unknown one."""
    if name is None:
        return facts()
    if name not in KINDS:
        raise BadRequest(f"lab:wikipedia has no kind {name!r}: choose {listed(KINDS)}")
    chosen = tuple(fact for fact in facts().facts if kind_of(fact) == name)
    return replace(facts(), name=f"lab:wikipedia-{name}", facts=chosen, filters={})


Text = tuple[str, tuple[str, ...]]
"""What is read, and the answers that it states."""


@dataclass(frozen=True)
class Documents:
    """What is read.

    sentences   each once, of facts of kinds `both` and `sentence`
    statements  of each fact of kind `both`, its shown statements
    passages    of ordinary language; held_out, those that are kept for its perplexity
    """

    sentences: tuple[Text, ...]
    statements: tuple[tuple[Text, ...], ...]
    passages: tuple[str, ...]
    held_out: tuple[str, ...]

    def __iter__(self) -> Iterator[str]:
        """All texts of training."""
        yield from (text for text, _ in self.sentences)
        yield from (text for texts in self.statements for text, _ in texts)
        yield from self.passages


@cache
def documents(share: float = SHARE, relations: tuple[str, ...] | None = None) -> Documents:
    """The texts of this world at a share of kind `both`; relations: facts of these alone."""
    chosen = _drawn_facts(share)
    facts = [f for f in chosen.facts if relations is None or f.relation in relations]
    shown = {kind: [f for f in facts if kind_of(f, share) == kind] for kind in ("both", "sentence")}
    answers: dict[str, list[str]] = {}
    for fact in shown["both"] + shown["sentence"]:
        answers.setdefault(sentences()[fact.id], []).append(fact.answers[0])
    passages: dict[bool, list[str]] = {True: [], False: []}
    for passage in dict.fromkeys(record["passage"] for record in read_jsonl(data_file(BOOLQ))):
        passages[_drawn("passage", passage) < 1 / HELD_OUT].append(passage)
    statements = tuple(tuple((text, fact.answers) for text in _stated(chosen, fact)) for fact in shown["both"])
    read = tuple((text, tuple(stated)) for text, stated in answers.items())
    return Documents(read, statements, tuple(passages[False]), tuple(passages[True]))


def _stated(chosen: FactSet, fact: Fact) -> Iterator[str]:
    relation = chosen.relations[fact.relation]
    for number, template in enumerate(relation.templates):
        if number != held_out(relation):
            yield Query(fact, number, fill(template, fact.subject)).stated(fact.answers[0])


def counts(share: float = SHARE) -> dict[str, dict[str, int]]:
    """Of each kind of texts: texts, words and tokens."""
    read, count = documents(share), {}
    own, stated = [text for text, _ in read.sentences], [text for texts in read.statements for text, _ in texts]
    named = {"sentences": own, "statements": stated, "passages": read.passages, "held-out passages": read.held_out}
    for name, texts in named.items():
        tokens = sum(len(one.ids) for one in build().encode_batch(list(texts)))
        count[name] = {"texts": len(texts), "words": sum(len(text.split()) for text in texts), "tokens": tokens}
    return count


@cache
def world_hash(share: float = SHARE) -> str:
    """SHA-256 of all facts, templates, kinds and texts."""
    read = documents(share)
    text = "\n".join((facts(share).sha256, *(kind_of(f, share) for f in facts(share).facts), *read, *read.held_out))
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def pieces() -> tuple[str, ...]:
    """Word pieces of the texts, frozen in `wikipedia_pieces.txt`: see `learn_pieces`."""
    return tuple(resources.files("kc_lab").joinpath("wikipedia_pieces.txt").read_text(encoding="utf-8").split())


def learn_pieces() -> list[str]:
    """Learn the pieces anew. Every answer is a piece, whatever the share of kind `both`; others make another tokenizer, which
    no checkpoint fits."""
    answers = {answer for fact in facts().facts for answer in fact.answers}
    return tokenizer.learned([*documents(), *(fact.subject for fact in facts().facts)], PIECES, answers)


@cache
def build() -> Tokenizer:
    """The tokenizer of this world."""
    return tokenizer.of(pieces(), SENTINELS)
