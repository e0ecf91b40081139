"""What a lab model reads: rows of token ids, in an order that a seed and a step number determine.

Three kinds of rows: statements of the world, by its plan; open-book rows, which state facts about people who stand nowhere
else and query each of them in another template; and sentences of the rule. All of them are made beforehand, so that
training can stop at any step and go on from there as if it had not.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from kc_lab import world
from kc_lab.loads import Load
from kc_lab.tokenizer import build
from kc_utils.probing.facts import fill

FACT_ROWS, OPEN_BOOK_ROWS, RULE_ROWS = 256, 16, 32
"""Rows of each kind in a step of training."""
EQUAL_STEPS, EQUAL_RULE_ROWS = 4500, 8
"""At equal loads: steps of a training, which share the rows of facts evenly, and rows of the rule in each. No open-book rows."""
STATEMENTS = (2, 3)
"""Statements of an open-book row, by turns of a step, so that a query stands at other positions, among more or fewer answers."""

Span = tuple[int, int]
Row = tuple[list[int], int, Span, list[Span]]  # tokens, given, subject, answers


@dataclass(frozen=True)
class Rows:
    """Statements, each with its subject and its answers marked.

    tokens   [n, width] int16, padded with -1 on the right
    given    [n] columns before this one are given: the statements of an open book, or none
    subject  [n, 2] first and behind the last token of the subject, of an open-book row that of its first query
    answers  [n, k, 2] the same of each answer; (0, 0) where a row has fewer than k
    """

    tokens: np.ndarray
    given: np.ndarray
    subject: np.ndarray
    answers: np.ndarray

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, which) -> Rows:
        """Some rows, as wide as the longest of them."""
        tokens = self.tokens[which]
        width = int((tokens >= 0).sum(axis=1).max())
        return Rows(tokens[:, :width], self.given[which], self.subject[which], self.answers[which])

    @property
    def lengths(self) -> np.ndarray:
        return (self.tokens >= 0).sum(axis=1)

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Rows:
        ids, given, subject, answers = zip(*rows, strict=True)
        tokens = np.full((len(ids), max(map(len, ids))), -1, dtype=np.int16)
        for row, mine in enumerate(ids):
            tokens[row, : len(mine)] = mine
        return cls(tokens, np.array(given), np.array(subject), np.array(answers))

    @classmethod
    def joined(cls, parts: list[Rows]) -> Rows:
        """Rows with equally many answers, one below the other."""
        width = max(part.tokens.shape[1] for part in parts)
        tokens = [np.pad(p.tokens, ((0, 0), (0, width - p.tokens.shape[1])), constant_values=-1) for p in parts]
        rest = (np.concatenate([getattr(p, name) for p in parts]) for name in ("given", "subject", "answers"))
        return cls(np.concatenate(tokens), *rest)


@dataclass(frozen=True)
class OpenBook:
    """Open-book rows, and which of their columns belong together.

    rows    k statements first, then as many queries, whose answers are the rows' answers, of one token each
    stated  [n, k] the column of the answer in each statement
    whose   [n, 2 k] the column of the last token of the subject, of each statement, then of each query
    source  [n, k] of each query, the column of its answer in the statement
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
    """Encodes statements piece by piece, each piece once.

    Words never run together, so that the pieces' tokens in a row are those of the whole sentence.
    """

    def __init__(self, real: bool = True):
        self._tokenizer = build(real)
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
        at = len(ids)
        ids += self.ids(answer)
        return [*ids, *self.ids(tail)], len(before), (start, end), [(at, len(ids))]

    def sentence(self, lead: str, answer: str) -> Row:
        """A sentence of the rule, in which the text before the verb counts as the subject."""
        given = self.ids(lead)
        ids = [*given, *self.ids(answer)]
        return [*ids, *self.ids(".")], 0, (0, len(given)), [(len(given), len(ids))]


class Corpus:
    """All training rows of a world of this load, in the order of a seed.

    `batch(step)` gives the rows of a step: facts with the rule, and open-book rows, None at equal loads.
    """

    def __init__(self, load: int | Load, seed: int):
        by_law = Load.of(load).by_law
        encoder = Encoder(real=by_law)
        self._statements, first, count = _statements(encoder, load)
        self._order = _order(load, seed, first, count)
        self.steps = len(self._order) // FACT_ROWS if by_law else EQUAL_STEPS
        self._ends = (
            FACT_ROWS * np.arange(self.steps + 1) if by_law else np.arange(self.steps + 1) * len(self._order) // self.steps
        )
        self._rule_rows = RULE_ROWS if by_law else EQUAL_RULE_ROWS
        self._rule = Rows.of(encoder.sentence(*s) for s in world.sentences(6000, f"{seed}"))
        turns = -(-self.steps // len(STATEMENTS))
        self._open = [open_book(encoder, k, turns * OPEN_BOOK_ROWS, seed) for k in STATEMENTS] if by_law else []
        self._seed = seed

    def batch(self, step: int) -> tuple[Rows, OpenBook | None]:
        facts = self._statements[self._order[self._ends[step] : self._ends[step + 1]]]
        which = np.random.default_rng((self._seed, step)).integers(len(self._rule), size=self._rule_rows)
        turn, kind = divmod(step, len(STATEMENTS))
        book = self._open[kind][np.arange(turn * OPEN_BOOK_ROWS, (turn + 1) * OPEN_BOOK_ROWS)] if self._open else None
        return Rows.joined([facts, self._rule[which]]), book


def _statements(encoder: Encoder, load: int | Load) -> tuple[Rows, np.ndarray, np.ndarray]:
    """Every fact in every shown template and with every answer; the first row of each fact, and its number of rows."""
    facts, plan = world.taught(load), world.plan(load)
    rows, first, count = [], [], []
    for fact in facts.facts:
        first.append(len(rows))
        for number in plan[fact.id].shown:
            template = facts.relations[fact.relation].templates[number]
            rows += [encoder.statement(template, fact.subject, answer) for answer in fact.answers]
        count.append(len(rows) - first[-1])
    return Rows.of(rows), np.array(first), np.array(count)


def _order(load: int | Load, seed: int, first: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Indices of statements in the order of training: each fact as often as its plan says, at times drawn evenly from when
    it enters to the end."""
    draw = np.random.default_rng((seed, *Load.of(load).seed))
    plan = world.plan(load)
    plans = [plan[fact.id] for fact in world.taught(load).facts]
    which = np.repeat(np.arange(len(plans)), [p.exposures for p in plans])
    enters = np.array([p.enters for p in plans])[which]
    at = enters + (1 - enters) * draw.random(len(which))
    which = which[np.argsort(at, kind="stable")]
    return first[which] + draw.integers(count[which])


def open_book(encoder: Encoder, statements: int, count: int, seed: int) -> OpenBook:
    """`count` rows: statements about so many strangers, then a query about each in another template, in another order."""
    draw = random.Random(f"lab/open-book/{statements}/{seed}")
    names = world.strangers_for_training()
    kinds = [world.relations()[r] for r in (*world.ABOUT_PEOPLE, "headquarters")]
    rows, *columns = zip(*(_open_book_row(encoder, statements, draw, names, kinds) for _ in range(count)), strict=True)
    return OpenBook(Rows.of(rows), *map(np.array, columns))


def _open_book_row(encoder, count, draw, names, kinds) -> tuple[Row, list[int], list[int], list[int]]:
    """The row, and what `OpenBook` holds of its columns."""
    relation = draw.choice(kinds)
    subjects = draw.sample(world.table("company") if relation.id == "headquarters" else names, count)
    pairs = list(zip(subjects, draw.sample(relation.answer_space, count), strict=True))
    queried, shown = draw.sample(range(len(relation.templates)), 2)
    ids, stated, whose = [], {}, []
    for pair in pairs:
        ids, _, subject_at, (span,) = encoder.statement(relation.templates[shown], *pair, before=ids)
        stated[pair] = span[0]
        whose.append(subject_at[1] - 1)
    given, subject, answers = len(ids), None, []
    columns = list(stated.values())
    draw.shuffle(pairs)
    for pair in pairs:
        ids, _, subject_at, (span,) = encoder.statement(relation.templates[queried], *pair, before=ids)
        subject, answers = subject or subject_at, [*answers, span]
        whose.append(subject_at[1] - 1)
    return (ids, given, subject, answers), columns, whose, [stated[pair] for pair in pairs]
