"""What a lab model reads: rows of token ids, in an order that a seed and a step number determine.

Three kinds of rows: statements of the world, by its plan; open-book rows, which state facts about people met nowhere else
and ask for each of them in another wording; and sentences of the rule. All of them are made beforehand, so that
training can stop at any step and go on from there as if it had not.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from kc_lab import rule, world
from kc_lab.names import table
from kc_lab.tokenizer import build
from kc_utils.probing.facts import fill

FACT_ROWS, OPEN_BOOK_ROWS, RULE_ROWS = 256, 16, 32
"""Rows of each kind in a step of training."""
TOLD = (2, 3)
"""Statements of an open-book row, by turns of a step: a question stands in other places, among more or fewer answers."""


Span = tuple[int, int]
Row = tuple[list[int], int, Span, list[Span]]  # tokens, said, subject, answers


@dataclass(frozen=True)
class Rows:
    """Statements, each with its subject and its answers marked.

    tokens   [n, width] int16, padded with -1 on the right
    said     [n] columns before here are given: the sentences of an open book, or nothing
    subject  [n, 2] first and behind the last token of the subject, of an open-book row that of its first question
    answers  [n, k, 2] the same of each answer; (0, 0) where a row has fewer than k
    """

    tokens: np.ndarray
    said: np.ndarray
    subject: np.ndarray
    answers: np.ndarray

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, which) -> Rows:
        """Some rows, as wide as the longest of them."""
        tokens = self.tokens[which]
        width = int((tokens >= 0).sum(axis=1).max())
        return Rows(tokens[:, :width], self.said[which], self.subject[which], self.answers[which])

    @property
    def lengths(self) -> np.ndarray:
        return (self.tokens >= 0).sum(axis=1)

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Rows:
        ids, said, subject, answers = zip(*rows, strict=True)
        tokens = np.full((len(ids), max(map(len, ids))), -1, dtype=np.int16)
        for row, mine in enumerate(ids):
            tokens[row, : len(mine)] = mine
        return cls(tokens, np.array(said), np.array(subject), np.array(answers))

    @classmethod
    def joined(cls, parts: list[Rows]) -> Rows:
        """Rows with equally many answers, one below the other."""
        width = max(part.tokens.shape[1] for part in parts)
        tokens = [np.pad(p.tokens, ((0, 0), (0, width - p.tokens.shape[1])), constant_values=-1) for p in parts]
        rest = (np.concatenate([getattr(p, name) for p in parts]) for name in ("said", "subject", "answers"))
        return cls(np.concatenate(tokens), *rest)


@dataclass(frozen=True)
class OpenBook:
    """Open-book rows, and which of their columns belong together.

    rows    statements first, then as many questions, the answers of which are the rows' answers; of one token each
    stated  [n, told] the column of the answer in each statement
    whose   [n, 2 told] the column of the last token of the subject, of each statement, then of each question
    source  [n, told] of each question, the column of its answer in the statement
    """

    rows: Rows
    stated: np.ndarray
    whose: np.ndarray
    source: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, which) -> OpenBook:
        return OpenBook(self.rows[which], self.stated[which], self.whose[which], self.source[which])


class Encoder:
    """Encodes statements piece by piece, each piece once: words never run together, so that the pieces' tokens in a row
    are those of the whole sentence."""

    def __init__(self):
        self._tokenizer = build()
        self._known: dict[str, list[int]] = {}

    def ids(self, text: str) -> list[int]:
        if text not in self._known:
            self._known[text] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return self._known[text]

    def statement(self, template: str, subject: str, answer: str, before: Sequence[int] = ()) -> Row:
        """The template with its subject and answer, behind `before`."""
        head, rest = template.split("[X]")
        middle, tail = rest.split("[Y]")
        name = fill(template, subject)[: len(subject)] if not head else subject
        ids = [*before, *self.ids(head)]
        start = len(ids)
        ids += self.ids(name)
        end = len(ids)
        ids += self.ids(middle)
        asked = len(ids)
        ids += self.ids(answer)
        return [*ids, *self.ids(tail)], len(before), (start, end), [(asked, len(ids))]

    def sentence(self, lead: str, answer: str) -> Row:
        """A sentence of the rule: all that stands before the verb counts as given."""
        given = self.ids(lead)
        ids = [*given, *self.ids(answer)]
        return [*ids, *self.ids(".")], 0, (0, len(given)), [(len(given), len(ids))]


class Corpus:
    """All training rows of a world of this load, in the order of a seed.

    `batch(step)` gives the rows of a step: facts with the rule, and open-book rows.
    """

    def __init__(self, load: int, seed: int):
        encoder = Encoder()
        self._statements, first, count = _statements(encoder, load)
        self._order = _order(load, seed, first, count)
        self.steps = len(self._order) // FACT_ROWS
        self._rule = Rows.of(encoder.sentence(*s) for s in rule.sentences(6000, f"{seed}"))
        turns = -(-self.steps // len(TOLD))
        self._open = [open_book(encoder, told, turns * OPEN_BOOK_ROWS, seed) for told in TOLD]
        self._seed = seed

    def batch(self, step: int) -> tuple[Rows, OpenBook]:
        facts = self._statements[self._order[step * FACT_ROWS : (step + 1) * FACT_ROWS]]
        which = np.random.default_rng((self._seed, step)).integers(len(self._rule), size=RULE_ROWS)
        turn, kind = divmod(step, len(TOLD))
        book = self._open[kind][np.arange(turn * OPEN_BOOK_ROWS, (turn + 1) * OPEN_BOOK_ROWS)]
        return Rows.joined([facts, self._rule[which]]), book


def _statements(encoder: Encoder, load: int) -> tuple[Rows, np.ndarray, np.ndarray]:
    """Every fact in every wording and with every answer that it is shown in; the first row of each fact, and how many."""
    facts, told = world.taught(load), world.plan(load)
    rows, first, count = [], [], []
    for fact in facts.facts:
        first.append(len(rows))
        for number in told[fact.id].shown:
            template = facts.relations[fact.relation].templates[number]
            rows += [encoder.statement(template, fact.subject, answer) for answer in fact.answers]
        count.append(len(rows) - first[-1])
    return Rows.of(rows), np.array(first), np.array(count)


def _order(load: int, seed: int, first: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Indices of statements, by the time at which they are told: each fact as often as its plan says, at times drawn
    evenly from when it enters to the end of training."""
    draw = np.random.default_rng((seed, load))
    plan = world.plan(load)
    told = [plan[fact.id] for fact in world.taught(load).facts]
    which = np.repeat(np.arange(len(told)), [p.exposures for p in told])
    enters = np.array([p.enters for p in told])[which]
    at = enters + (1 - enters) * draw.random(len(which))
    which = which[np.argsort(at, kind="stable")]
    return first[which] + draw.integers(count[which])


def open_book(encoder: Encoder, told: int, count: int, seed: int) -> OpenBook:
    """Statements about so many strangers, then a question about each in another wording, in an order of its own."""
    draw = random.Random(f"lab/open-book/{told}/{seed}")
    names = world.strangers_for_training()
    kinds = [world.relations()[r] for r in (*world.ABOUT_PEOPLE, "headquarters")]
    rows, *columns = zip(*(_open_book_row(encoder, told, draw, names, kinds) for _ in range(count)), strict=True)
    return OpenBook(Rows.of(rows), *map(np.array, columns))


def _open_book_row(encoder, count, draw, names, kinds) -> tuple[Row, list[int], list[int], list[int]]:
    """The row, and what `OpenBook` says of its columns."""
    relation = draw.choice(kinds)
    subjects = draw.sample(table("company") if relation.id == "headquarters" else names, count)
    pairs = list(zip(subjects, draw.sample(relation.answer_space, count), strict=True))
    asked, told = draw.sample(range(len(relation.templates)), 2)
    ids, stated, whose = [], {}, []
    for pair in pairs:
        ids, _, place, (span,) = encoder.statement(relation.templates[told], *pair, before=ids)
        stated[pair] = span[0]
        whose.append(place[1] - 1)
    said, subject, answers = len(ids), None, []
    columns = list(stated.values())
    draw.shuffle(pairs)
    for pair in pairs:
        ids, _, place, (span,) = encoder.statement(relation.templates[asked], *pair, before=ids)
        subject, answers = subject or place, [*answers, span]
        whose.append(place[1] - 1)
    return (ids, said, subject, answers), columns, whose, [stated[pair] for pair in pairs]
