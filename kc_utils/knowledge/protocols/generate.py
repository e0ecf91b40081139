"""Free answers: does the model, asked to complete the statement, say a right answer?

Greedy decoding, at most `NEW_TOKENS` tokens, cut at the end of the line or sentence. Right is what equals an accepted
answer after lower-casing and dropping punctuation, articles and accents (exact match as in SQuAD, Rajpurkar et al.
2016, with aliases), or begins with it at a word's end. `shots` completed statements of the same relation go before.
Chance is 0: nobody guesses an answer out of all text.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import replace

import torch

from kc_utils.knowledge.facts import FactSet
from kc_utils.knowledge.questions import Question, wordings
from kc_utils.knowledge.wordings import Wording

NEW_TOKENS = 16
BATCH = 32


def normalized(text: str) -> str:
    """Lower case, no accents, punctuation or articles, single spaces."""
    bare = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)).casefold()
    words = re.sub(r"[^\w\s]", " ", bare).split()
    return " ".join(w for w in words if w not in ("a", "an", "the"))


def is_right(said: str, accepted: tuple[str, ...]) -> bool:
    """Whether what was said is an accepted answer, or one followed by more words."""
    found = normalized(said)
    return any(found == a or found.startswith(f"{a} ") for a in map(normalized, accepted) if a)


def with_shots(questions: list[Question], facts: FactSet, shots: int, seed: int) -> list[Question]:
    """The questions with `shots` true statements of the same relation and wording before each, never about itself."""
    if not shots:
        return questions
    groups = facts.by_relation()
    found = []
    for question in questions:
        draw = random.Random(f"{seed}/{question.fact.id}/shots")
        others = [f for f in groups[question.fact.relation] if not _tells(f, question)]
        lines = []
        for fact in draw.sample(others, min(shots, len(others))):
            offered = wordings(facts, fact)
            text = offered[question.template % len(offered)]
            lines.append(Question(fact, 0, text).stated(fact.answers[0]))
        found.append(replace(question, before="\n".join(lines) + "\n" if lines else ""))
    return found


def _tells(fact, question: Question) -> bool:
    """Whether stating this fact would give the answer away."""
    mine = {a.casefold() for a in question.fact.accepted}
    return fact.subject == question.fact.subject or bool(mine & {a.casefold() for a in fact.accepted})


@torch.inference_mode()
def generate(model, tokenizer, questions: list[Question], wording: Wording) -> Iterator[dict]:
    """One row per question. An empty answer is a wrong one; a model whose scores are not numbers says nothing."""
    asked = sorted(((wording.gap(q), q) for q in questions), key=lambda pair: len(_prompt(pair[0])[0]))
    finite = _speaks(model, asked[0][0]) if asked else True
    for start in range(0, len(asked), BATCH):
        batch = asked[start : start + BATCH]
        said = _say(model, tokenizer, [gap for gap, _ in batch]) if finite else [""] * len(batch)
        for (_, question), text in zip(batch, said, strict=True):
            valid = bool(text.strip())
            yield {
                "fact": question.fact.id,
                "relation": question.fact.relation,
                "popularity": question.fact.popularity,
                "protocol": "generate",
                "template": question.template,
                "correct": valid and is_right(text, question.fact.accepted),
                "score": float("nan"),
                "chance": 0.0,
                "valid": valid,
            }


def _prompt(gap) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """(what is read, what has been said) of an encoder-decoder's gap; (context, None) of a decoder's."""
    return (gap[0], gap[1]) if isinstance(gap[0], tuple) else (gap, None)


def _speaks(model, gap) -> bool:
    read, said = _prompt(gap)
    extra = {} if said is None else {"decoder_input_ids": torch.tensor([said], device=model.device)}
    logits = model(input_ids=torch.tensor([read], device=model.device), **extra).logits[0, -1].float()
    return bool(torch.isfinite(torch.logsumexp(logits, -1))) and bool(logits.max() > logits.min())


def _say(model, tokenizer, gaps: list) -> list[str]:
    """The first line or sentence that the model says to each."""
    prompts = [_prompt(gap) for gap in gaps]
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    pad = 0 if pad is None else pad
    width = max(len(read) for read, _ in prompts)
    said = prompts[0][1]
    left = said is None  # a decoder goes on from its last token, so padding stands before the first
    tokens, mask = torch.full((len(gaps), width), pad), torch.zeros(len(gaps), width, dtype=torch.long)
    for row, (read, _) in enumerate(prompts):
        at = slice(width - len(read), width) if left else slice(0, len(read))
        tokens[row, at], mask[row, at] = torch.tensor(read), 1
    extra = {} if left else {"decoder_input_ids": torch.tensor([said] * len(gaps), device=model.device)}
    output = model.generate(
        input_ids=tokens.to(model.device),
        attention_mask=mask.to(model.device),
        do_sample=False,
        num_beams=1,
        max_new_tokens=NEW_TOKENS,
        pad_token_id=pad,
        **extra,
    )
    begin = width if left else len(said)
    texts = tokenizer.batch_decode(output[:, begin:].tolist(), skip_special_tokens=True)
    return [re.split(r"\n|(?<=\w{2})\.(?=\s|$)", text.strip())[0] for text in texts]
