"""Protocols: how an answer is taken from a model's logits, as one row per query.

    cloze     top-k: does a right answer rank high among the whole vocabulary at the gap? The protocol of LAMA (Petroni et
              al. 2019). A mask stands for one piece, so encoders are queried for answers of a single piece, as in LAMA. For
              the other families the first token of an answer counts, and rows state which answers are one token long.
    rank      closed set: is the statement likelier with the right answer than with every other one? The protocol of BEAR
              (Wiland et al. 2024), the same for all families: the score of an answer is the (pseudo-)log-likelihood of its
              statement, answers of many tokens included. Chance is one in the number of candidates.
    generate  free answers: greedy decoding of at most `NEW_TOKENS` tokens, cut at the end of the line. Right is a text that
              equals an accepted answer, or begins with it at a word's end, after lower-casing and dropping punctuation,
              articles and accents (exact match of SQuAD, Rajpurkar et al. 2016, with aliases). Chance is 0.

`openbook` and `openbook-cloze` are `rank` and `cloze` with the fact stated first (`queries.open_book`). The two sentences before
an open-book query name two candidates: a model that repeats either is right half of the time, so that chance is at least 1/2 in
`openbook`. `rank-other` is the control of `rank`: the same candidates in statements about two other subjects, so that the right
answer is right by chance alone (`queries.about_others`). A tie, or a score that is not a number, is a failure: the right answer
has to win outright.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache

import torch
from transformers import LogitsProcessor, LogitsProcessorList

from kc_utils.probing.facts import FactSet
from kc_utils.probing.logits import Input, Logits, check_length
from kc_utils.probing.queries import Query
from kc_utils.probing.scorers import Scorer

NEW_TOKENS = 16
BATCH = 32


def collect(predictor, protocols: Iterable[Cloze | Rank]) -> None:
    """Run a model once over the inputs of all protocols, and let each take what it needs."""
    protocols = list(protocols)
    inputs = list(dict.fromkeys(one for protocol in protocols for one in protocol.inputs))
    for logits in predictor.logits(inputs):
        taken = [inputs[index] for index in logits.indices]
        for protocol in protocols:
            protocol.take(taken, logits)


def _row(query: Query, protocol: str, **values) -> dict:
    fact = query.fact
    head = {"fact": fact.id, "relation": fact.relation, "popularity": fact.popularity}
    return {**head, "protocol": protocol, "template": query.template, **values}


class Cloze:
    """Collects one row per query. Left out: for encoders, facts without an answer of a single piece; and facts whose main
    answer begins with a token of white space alone (numbers, in many tokenizers) or the unknown token."""

    def __init__(self, queries: Iterable[Query], scorer: Scorer, tokenizer, name: str = "cloze"):
        self.name = name
        self._wanted: dict[Input, list[tuple[Query, list[int], bool]]] = {}
        self.rows: list[dict] = []
        empty = _is_empty(tokenizer)
        for query in queries:
            main, *others = scorer.fillers(query, query.fact.accepted)
            usable = [f for f in (main, *others) if f and (scorer.first_token_counts or len(f) == 1)]
            first = sorted({f[0] for f in usable if not empty(f[0])})
            if first and not (main and empty(main[0])):
                self._wanted.setdefault(scorer.gap(query), []).append((query, first, len(main) == 1))

    @property
    def inputs(self) -> list[Input]:
        return list(self._wanted)

    def take(self, inputs: list[Input], logits: Logits) -> None:
        """Score every query that has one of these inputs (one per row of the logits). Ties count against the model."""
        wanted = [(row, *query) for row, one in enumerate(inputs) for query in self._wanted.get(one, ())]
        if not wanted:
            return
        best = torch.stack([logits.values[row, first].max() for row, _, first, _ in wanted])
        values = logits.values[[row for row, *_ in wanted]]
        at_least = (values >= best[:, None]).sum(dim=1).tolist()
        predicted = values.argmax(dim=1).tolist()
        for n, (_, _, first, _) in enumerate(wanted):
            values[n, first] = -math.inf
        wrong = values.amax(dim=1).tolist()
        for n, (row, query, first, single) in enumerate(wanted):
            valid = bool(logits.valid[row])
            own = int((logits.values[row, first] >= best[n]).sum())
            rank = at_least[n] - own + 1 if valid else values.shape[1]
            found = {"correct": rank <= 1, "correct_at_5": rank <= 5, "correct_at_10": rank <= 10, "rank": rank}
            found["score"] = float(best[n] - logits.log_norm[row]) if valid else math.nan
            found["margin"] = float(best[n]) - wrong[n] if valid else math.nan
            found |= {"predicted_token": predicted[n] if valid else -1, "single_token": single}
            found |= {"chance": len(first) / values.shape[1], "valid": valid}
            self.rows.append(_row(query, self.name, **found))


def _is_empty(tokenizer):
    """Whether a token is white space alone, or stands for what the vocabulary lacks."""
    return cache(lambda token: token == tokenizer.unk_token_id or not tokenizer.decode([token]).strip())


class Rank:
    """Collects one row per query, like `Cloze`. Candidate 0 is the main right answer, the others are
    `facts.alternatives(...)`. Left out: facts whose relation offers no wrong answer."""

    def __init__(self, queries: Iterable[Query], scorer: Scorer, facts: FactSet, alternatives: int | str, seed: int, name="rank"):
        self.name = name
        self._queries: list[Query] = []
        self._scores: list[list[float]] = []
        self._wanted: dict[Input, list[tuple[int, int, int]]] = {}
        for query in queries:
            others = facts.alternatives(query.fact, alternatives, seed)
            if not others:
                continue
            number = len(self._queries)
            terms = scorer.terms(query, (query.fact.answers[0], *others))
            self._queries.append(query)
            self._scores.append([0.0] * len(terms))
            for candidate, parts in enumerate(terms):
                for one, token in parts:
                    self._wanted.setdefault(one, []).append((number, candidate, token))

    @property
    def inputs(self) -> list[Input]:
        return list(self._wanted)

    def take(self, inputs: list[Input], logits: Logits) -> None:
        """Add to the score of every candidate that has a term at one of these inputs (one per row of the logits)."""
        for row, one in enumerate(inputs):
            wanted = self._wanted.get(one)
            if wanted:
                values = logits.logprob(row, [token for _, _, token in wanted])
                for (number, candidate, _), value in zip(wanted, values, strict=True):
                    self._scores[number][candidate] += value

    @property
    def rows(self) -> list[dict]:
        return [self._scored(query, s) for query, s in zip(self._queries, self._scores, strict=True)]

    def _scored(self, query: Query, scores: list[float]) -> dict:
        valid = all(math.isfinite(s) for s in scores)
        best_wrong = max(scores[1:]) if valid else math.nan
        winners = [i for i, s in enumerate(scores) if s == max(scores)] if valid else []
        found = {"correct": valid and scores[0] > best_wrong, "score": scores[0] if valid else math.nan}
        found |= {"margin": scores[0] - best_wrong, "chosen": winners[0] if len(winners) == 1 else -1}
        chance = 1 / min(len(scores), 2) if self.name == "openbook" else 1 / len(scores)
        found |= {"scores": [float(s) for s in scores], "chance": chance, "valid": valid}
        return _row(query, self.name, **found)


def normalized(text: str) -> str:
    """Lower case, no accents, punctuation or articles (but for what is articles alone), single spaces."""
    bare = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)).casefold()
    words = re.sub(r"[^\w\s]", " ", bare).split()
    return " ".join([w for w in words if w not in ("a", "an", "the")] or words)


def is_right(text: str, accepted: tuple[str, ...]) -> bool:
    """Whether a generated text is an accepted answer, or one followed by more words."""
    found = normalized(text)
    return any(found == a or found.startswith(f"{a} ") for a in map(normalized, accepted) if a)


def generate(model, tokenizer, queries: list[Query], scorer: Scorer) -> Iterator[dict]:
    """One row per query. An empty answer is a wrong one; so is any of a model whose logits are not numbers. Raises BadRequest
    for a query that leaves the model no positions for an answer."""
    ordered = sorted(queries, key=lambda query: len(_prompt(scorer.gap(query))[0]))
    for query, text, valid in generated(model, tokenizer, ordered, scorer):
        correct = valid and is_right(text, query.fact.accepted)
        yield _row(query, "generate", correct=correct, score=math.nan, chance=0.0, valid=valid)


@torch.inference_mode()
def generated(model, tokenizer, queries: list[Query], scorer: Scorer) -> Iterator[tuple[Query, str, bool]]:
    """(query, first line that the model generates, whether its logits were numbers), in the order given."""
    prompts = [_prompt(scorer.gap(query)) for query in queries]
    if prompts:
        check_length(model, max(len(read) for read, _ in prompts) + NEW_TOKENS, "a prompt with its answer")
    for start in range(0, len(queries), BATCH):
        part = slice(start, start + BATCH)
        texts, valid = _generate(model, tokenizer, prompts[part], scorer.ends)
        yield from zip(queries[part], texts, valid, strict=True)


class _Valid(LogitsProcessor):
    """Records the rows whose logits have been numbers, and not all alike, at every step so far."""

    def __init__(self, rows: int):
        self.rows = torch.ones(rows, dtype=torch.bool)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.rows &= Logits.of([], scores).valid
        return scores


def _prompt(gap) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """(tokens of the encoder, of the decoder) of an encoder-decoder's gap; (context, None) of a decoder's."""
    return (gap[0], gap[1]) if isinstance(gap[0], tuple) else (gap, None)


def _generate(model, tokenizer, prompts: list, ends: tuple[int, ...]) -> tuple[list[str], list[bool]]:
    """The first line that the model generates after each prompt, and whether its logits were numbers."""
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    pad = 0 if pad is None else pad
    width = max(len(read) for read, _ in prompts)
    begun = prompts[0][1]
    left = begun is None  # a decoder continues its last token, so padding stands before the first
    tokens, mask = torch.full((len(prompts), width), pad), torch.zeros(len(prompts), width, dtype=torch.long)
    for row, (read, _) in enumerate(prompts):
        at = slice(width - len(read), width) if left else slice(0, len(read))
        tokens[row, at], mask[row, at] = torch.tensor(read), 1
    extra = {} if left else {"decoder_input_ids": torch.tensor([begun] * len(prompts), device=model.device)}
    extra |= {"eos_token_id": list(ends)} if ends else {}
    valid = _Valid(len(prompts))
    output = model.generate(
        input_ids=tokens.to(model.device),
        attention_mask=mask.to(model.device),
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,  # some models bring their own, and no_repeat_ngram_size
        no_repeat_ngram_size=0,
        max_new_tokens=NEW_TOKENS,
        pad_token_id=pad,
        logits_processor=LogitsProcessorList([valid]),
        **extra,
    )
    found = []
    for ids in output[:, width if left else len(begun) :].tolist():
        end = next((at for at, token in enumerate(ids) if token in ends), len(ids))
        text = tokenizer.decode(ids[:end], skip_special_tokens=True)
        found.append(re.split(r"[\r\n]", text)[0].strip())
    return found, valid.rows.tolist()
