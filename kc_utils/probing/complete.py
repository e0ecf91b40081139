"""Complete one prompt: the pieces that a model of any family finds likeliest at the gap, with their probabilities."""

from __future__ import annotations

import pandas as pd
import torch

from kc_utils.errors import BadRequest, BadResult, listed
from kc_utils.models.loading import Loaded
from kc_utils.probing.facts import Fact
from kc_utils.probing.queries import Query
from kc_utils.probing.scorers import SCORERS

GAPS = ("[MASK]", "<mask>", "<extra_id_0>", "___", "[Y]")
"""The marks of a gap in a prompt, for every family; a tokenizer's own mask token is one, too."""


def complete(lm: Loaded, prompt: str, top: int = 5) -> pd.DataFrame:
    """The `top` likeliest pieces at the gap of a prompt, likeliest first; columns `piece` and `probability`.

    The gap is where the prompt says `[MASK]`, `___` or the tokenizer's own mask or sentinel, else at its end.

        decoder          the next piece after the prompt, read behind the begin-of-sequence token, as all facts are scored;
                         nothing but a full stop may follow the gap
        encoder          the piece in place of one mask
        encoder-decoder  the first piece of the answer, after the sentinel that stands for the gap

    A piece is a token as text, without the space before it; white space alone is shown escaped (`\\n`), a piece that
    continues a word as the tokenizer writes it (`##ing`). Probabilities are the softmax of the logits over the whole
    vocabulary, in float32.

    Raises BadRequest for an empty prompt, several gaps, text after a decoder's gap, or `top` below 1; BadResult where the
    model's logits are not numbers.

    >>> import kc_utils as kc
    >>> kc.complete(kc.load("smollm2-135m"), "The capital of France is", top=3)["piece"].tolist()
    ['Paris', 'the', 'not']
    """
    if top < 1:
        raise BadRequest(f"top must be at least 1, got {top}")
    scorer = SCORERS[lm.entry.family](lm.tokenizer)
    given = scorer.gap(_query(prompt, lm))
    # plain forward pass: trees are of no use for one prompt
    (logits,) = scorer.predictor(lm.model, trees=False).logits([given])
    if not torch.isfinite(logits.log_norm[0]):
        raise BadResult(f"{lm.entry.id}: the logits after {prompt!r} are not numbers, the model predicts nothing")
    probabilities = torch.softmax(logits.values[0], dim=-1)
    best = torch.topk(probabilities, min(top, len(probabilities)))
    pieces = [_piece(lm.tokenizer, token) for token in best.indices.tolist()]
    return pd.DataFrame({"piece": pieces, "probability": best.values.tolist()})


def _query(prompt: str, lm: Loaded) -> Query:
    """The prompt as a statement with the gap `[Y]`."""
    text = prompt
    for mark in (*GAPS, lm.tokenizer.mask_token):
        text = text.replace(mark, "[Y]") if mark else text
    if not text.replace("[Y]", "").strip():
        raise BadRequest("the prompt is empty: write the beginning of a statement, such as 'The capital of France is'")
    if text.count("[Y]") > 1:
        raise BadRequest(f"the prompt {prompt!r} has several gaps: leave one ({listed(GAPS)})")
    query = Query(Fact("prompt", "prompt", "", ()), 0, text if "[Y]" in text else f"{text.rstrip()} [Y]")
    if lm.entry.family == "decoder" and not query.ends_with_answer:
        raise BadRequest(
            f"{lm.entry.id} is a decoder and reads from the left: end the prompt {prompt!r} where the answer belongs"
        )
    return query


def _piece(tokenizer, token: int) -> str:
    text = tokenizer.decode([token])
    return text.strip() or text.encode("unicode_escape").decode("ascii") or tokenizer.convert_ids_to_tokens(token)
