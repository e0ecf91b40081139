"""Top-k cloze for decoders: does the right answer's first token rank high among the whole vocabulary?

The protocol of LAMA (Petroni et al. 2019), with the next token in place of the mask. Only the first token of an
answer is looked at, so a many-token answer is credited for its beginning; rows say which answers are one token long.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from kc_utils.knowledge.causal import Reading
from kc_utils.knowledge.prompts import Prompt, continuations

TOP_K = (1, 5, 10)


class Cloze:
    """Collects one row per prompt. `contexts` are what the model has to be read at; `take` consumes readings.

    An answer whose first token is white space alone (numbers, in many tokenizers) would be credited for nothing: facts
    with such an answer are not asked, and `excluded` counts them.
    """

    name = "cloze"

    def __init__(self, prompts: Iterable[Prompt], tokenizer):
        self._prompts: dict[tuple[int, ...], list[tuple[Prompt, list[int], bool]]] = {}
        self.rows: list[dict] = []
        self.excluded = 0
        for prompt in prompts:
            answers = continuations(prompt, prompt.fact.accepted, tokenizer)
            first = sorted({ids[0] for ids in answers})
            if any(not tokenizer.decode([token]).strip() for token in first):
                self.excluded += 1
                continue
            self._prompts.setdefault(prompt.tokens, []).append((prompt, first, len(answers[0]) == 1))

    @property
    def contexts(self) -> list[tuple[int, ...]]:
        return list(self._prompts)

    def take(self, contexts: list[tuple[int, ...]], reading: Reading) -> None:
        """Score every prompt that ends at one of these contexts (one per row of the reading).

        The rank counts ties against the model; a distribution that is not a number ranks last.
        """
        asked = [(row, *prompt) for row, context in enumerate(contexts) for prompt in self._prompts.get(context, ())]
        if not asked:
            return
        rows = torch.tensor([row for row, *_ in asked])
        best = torch.stack([reading.logits[row, first].max() for row, _, first, _ in asked])
        logits = reading.logits[rows]
        at_least = (logits >= best[:, None]).sum(dim=1).tolist()
        predicted = logits.argmax(dim=1).tolist()
        for n, (row, prompt, first, single) in enumerate(asked):
            valid = bool(reading.valid[row])
            own = int((reading.logits[row, first] >= best[n]).sum())
            rank = at_least[n] - own + 1 if valid else logits.shape[1]
            self.rows.append(
                {
                    "fact": prompt.fact.id,
                    "relation": prompt.fact.relation,
                    "popularity": prompt.fact.popularity,
                    "protocol": self.name,
                    "template": prompt.template,
                    "correct": rank <= 1,
                    "correct_at_5": rank <= 5,
                    "correct_at_10": rank <= 10,
                    "rank": rank,
                    "score": float(best[n] - reading.log_norm[row]) if valid else math.nan,
                    "predicted_token": predicted[n] if valid else -1,
                    "single_token": single,
                    "chance": len(first) / logits.shape[1],
                    "valid": valid,
                }
            )
