"""Free answers: does the model, asked to complete the statement, say a right answer?

Greedy decoding, at most `NEW_TOKENS` tokens, cut at the end of the line. Right is what equals an accepted answer after
lower-casing and dropping punctuation, articles and accents (exact match as in SQuAD, Rajpurkar et al. 2016, with
aliases), or begins with it at a word's end, since a model that has answered may go on. `shots` completed statements of
the same relation go before. Chance is 0: nobody guesses an answer out of all text.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice

import torch
from transformers import LogitsProcessor, LogitsProcessorList

from kc_utils.probing.facts import Fact, FactSet
from kc_utils.probing.questions import Question, wordings
from kc_utils.probing.reading import Reading, check_length
from kc_utils.probing.wordings import Wording

NEW_TOKENS = 16
BATCH = 32


def normalized(text: str) -> str:
    """Lower case, no accents, punctuation or articles (but for what is articles alone), single spaces."""
    bare = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)).casefold()
    words = re.sub(r"[^\w\s]", " ", bare).split()
    return " ".join([w for w in words if w not in ("a", "an", "the")] or words)


def is_right(said: str, accepted: tuple[str, ...]) -> bool:
    """Whether what was said is an accepted answer, or one followed by more words."""
    found = normalized(said)
    return any(found == a or found.startswith(f"{a} ") for a in map(normalized, accepted) if a)


def with_shots(questions: list[Question], facts: FactSet, shots: int, seed: int) -> list[Question]:
    """The questions with `shots` true statements of the same relation and wording before each, fewer where not so many
    can be made that do not tell the answer."""
    if not shots:
        return questions
    groups = facts.by_relation()
    found = []
    for question in questions:
        draw = random.Random(f"{seed}/{question.fact.id}/shots")
        group = groups[question.fact.relation]
        harmless = filter(_silent_about(question.fact), draw.sample(group, len(group)))
        lines = []
        for fact in islice(harmless, shots):
            offered = wordings(facts, fact)
            lines.append(Question(fact, 0, offered[question.template % len(offered)]).stated(fact.answers[0]) + "\n")
        found.append(replace(question, before="".join(lines)))
    return found


def _silent_about(asked: Fact) -> Callable[[Fact], bool]:
    """Whether a fact may be stated before a question: it is about another subject, and names no right answer."""
    names = "|".join(re.escape(answer.casefold()) for answer in asked.accepted)
    telling = re.compile(rf"(?<!\w)(?:{names})(?!\w)")

    def silent(fact: Fact) -> bool:
        named = "\n".join((fact.subject, fact.statement or "", *fact.accepted)).casefold()
        return fact.subject.casefold() != asked.subject.casefold() and not telling.search(named)

    return silent


class _Sound(LogitsProcessor):
    """Keeps count of the rows whose scores have been numbers, and not all alike, at every step so far."""

    def __init__(self, rows: int):
        self.rows = torch.ones(rows, dtype=torch.bool)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.rows &= Reading.of([], scores).valid
        return scores


@torch.inference_mode()
def generate(model, tokenizer, questions: list[Question], wording: Wording) -> Iterator[dict]:
    """One row per question. An empty answer is a wrong one; so is any of a model whose scores are not numbers.

    Raises BadRequest for a question that leaves the model no place for an answer.
    """
    asked = sorted(((_prompt(wording.gap(q)), q) for q in questions), key=lambda pair: len(pair[0][0]))
    if asked:
        check_length(model, len(asked[-1][0][0]) + NEW_TOKENS, "a question with its answer")
    for start in range(0, len(asked), BATCH):
        batch = asked[start : start + BATCH]
        said, valid = _say(model, tokenizer, [prompt for prompt, _ in batch], wording.ends)
        for (_, question), text, is_valid in zip(batch, said, valid, strict=True):
            yield {
                "fact": question.fact.id,
                "relation": question.fact.relation,
                "popularity": question.fact.popularity,
                "protocol": "generate",
                "template": question.template,
                "correct": is_valid and is_right(text, question.fact.accepted),
                "score": float("nan"),
                "chance": 0.0,
                "valid": is_valid,
            }


@torch.inference_mode()
def say(model, tokenizer, question: Question, wording: Wording) -> str:
    """What the model answers to one question."""
    return _say(model, tokenizer, [_prompt(wording.gap(question))], wording.ends)[0][0]


def _prompt(gap) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """(what is read, what has been said) of an encoder-decoder's gap; (context, None) of a decoder's."""
    return (gap[0], gap[1]) if isinstance(gap[0], tuple) else (gap, None)


def _say(model, tokenizer, prompts: list, ends: tuple[int, ...]) -> tuple[list[str], list[bool]]:
    """The first line that the model says to each, and whether its scores were numbers."""
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    pad = 0 if pad is None else pad
    width = max(len(read) for read, _ in prompts)
    said = prompts[0][1]
    left = said is None  # a decoder goes on from its last token, so padding stands before the first
    tokens, mask = torch.full((len(prompts), width), pad), torch.zeros(len(prompts), width, dtype=torch.long)
    for row, (read, _) in enumerate(prompts):
        at = slice(width - len(read), width) if left else slice(0, len(read))
        tokens[row, at], mask[row, at] = torch.tensor(read), 1
    extra = {} if left else {"decoder_input_ids": torch.tensor([said] * len(prompts), device=model.device)}
    extra |= {"eos_token_id": list(ends)} if ends else {}
    sound = _Sound(len(prompts))
    output = model.generate(
        input_ids=tokens.to(model.device),
        attention_mask=mask.to(model.device),
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,  # some models bring their own, and no_repeat_ngram_size
        no_repeat_ngram_size=0,
        max_new_tokens=NEW_TOKENS,
        pad_token_id=pad,
        logits_processor=LogitsProcessorList([sound]),
        **extra,
    )
    found = []
    for ids in output[:, width if left else len(said) :].tolist():
        end = next((at for at, token in enumerate(ids) if token in ends), len(ids))
        text = tokenizer.decode(ids[:end], skip_special_tokens=True)
        found.append(re.split(r"[\r\n]", text)[0].strip())
    return found, sound.rows.tolist()
