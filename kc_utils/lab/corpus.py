"""What a lab model reads: rows of token ids, in an order that a seed and a step number determine.

Three kinds of rows: statements of the world, by its plan; open-book rows, which state two facts about people met nowhere
else and ask for one of them in another wording; and sentences of the rule. All of them are made beforehand, so that
training can stop at any step and go on from there as if it had not.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from kc_utils.knowledge.facts import fill
from kc_utils.lab import rule, world
from kc_utils.lab.tokenizer import build

FACT_ROWS, OPEN_BOOK_ROWS, RULE_ROWS = 512, 96, 32
"""Rows of each kind in a step of training."""


@dataclass(frozen=True)
class Rows:
    """Statements, each with its subject and its answer marked.

    tokens   [n, width] int16, padded with -1 on the right
    said     [n] columns before here are given: the sentences of an open book, or nothing
    subject  [n, 2] first and behind the last token of the subject
    answer   [n, 2] the same of the answer
    """

    tokens: np.ndarray
    said: np.ndarray
    subject: np.ndarray
    answer: np.ndarray

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, which) -> Rows:
        """Some rows, as wide as the longest of them."""
        tokens = self.tokens[which]
        width = int((tokens >= 0).sum(axis=1).max())
        return Rows(tokens[:, :width], self.said[which], self.subject[which], self.answer[which])

    @property
    def lengths(self) -> np.ndarray:
        return (self.tokens >= 0).sum(axis=1)

    @classmethod
    def of(cls, rows: Iterable[tuple[list[int], int, tuple[int, int], tuple[int, int]]]) -> Rows:
        ids, said, subject, answer = zip(*rows, strict=True)
        tokens = np.full((len(ids), max(map(len, ids))), -1, dtype=np.int16)
        for row, mine in enumerate(ids):
            tokens[row, : len(mine)] = mine
        return cls(tokens, np.array(said), np.array(subject), np.array(answer))

    @classmethod
    def joined(cls, parts: list[Rows]) -> Rows:
        width = max(part.tokens.shape[1] for part in parts)
        tokens = [np.pad(p.tokens, ((0, 0), (0, width - p.tokens.shape[1])), constant_values=-1) for p in parts]
        rest = (np.concatenate([getattr(p, name) for p in parts]) for name in ("said", "subject", "answer"))
        return cls(np.concatenate(tokens), *rest)


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

    def statement(self, template: str, subject: str, answer: str, before: tuple[int, ...] = ()):
        """A row: the template with its subject and answer, behind `before`."""
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
        return [*ids, *self.ids(tail)], len(before), (start, end), (asked, len(ids))

    def sentence(self, lead: str, answer: str):
        """A row of the rule: all that stands before the verb counts as given."""
        given = self.ids(lead)
        ids = [*given, *self.ids(answer)]
        return [*ids, *self.ids(".")], 0, (0, len(given)), (len(given), len(ids))


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
        self._open = Rows.of(_open_book(encoder, self.steps * OPEN_BOOK_ROWS, seed))
        self._seed = seed

    def batch(self, step: int) -> tuple[Rows, Rows]:
        facts = self._statements[self._order[step * FACT_ROWS : (step + 1) * FACT_ROWS]]
        which = np.random.default_rng((self._seed, step)).integers(len(self._rule), size=RULE_ROWS)
        told = self._open[np.arange(step * OPEN_BOOK_ROWS, (step + 1) * OPEN_BOOK_ROWS)]
        return Rows.joined([facts, self._rule[which]]), told


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
    told = list(world.plan(load).values())
    which = np.repeat(np.arange(len(told)), [p.exposures for p in told])
    enters = np.array([p.enters for p in told])[which]
    at = enters + (1 - enters) * draw.random(len(which))
    which = which[np.argsort(at, kind="stable")]
    return first[which] + draw.integers(count[which])


def _open_book(encoder: Encoder, count: int, seed: int) -> Iterator[tuple]:
    """Two statements about strangers, in either order, then one of them in another wording."""
    draw = random.Random(f"lab/open-book/{seed}")
    names = world.strangers_for_training()
    kinds = [world.relations()[r] for r in (*world.ABOUT_PEOPLE, "headquarters")]
    for _ in range(count):
        relation = draw.choice(kinds)
        people, answers = draw.sample(names, 2), draw.sample(relation.answer_space, 2)
        wording = draw.randrange(len(relation.templates))
        other = (wording + draw.randrange(1, len(relation.templates))) % len(relation.templates)
        said = [encoder.statement(relation.templates[other], *pair)[0] for pair in zip(people, answers, strict=True)]
        if draw.random() < 0.5:
            said.reverse()
        yield encoder.statement(relation.templates[wording], people[0], answers[0], (*said[0], *said[1]))
