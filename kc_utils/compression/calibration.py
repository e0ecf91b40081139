"""What a model reads while GPTQ rounds it: the first paragraphs of `calibration_text.py`, as token numbers."""

import hashlib
from functools import cache

import torch
from torch import nn

from kc_utils.compression.calibration_text import TEXT
from kc_utils.errors import BadRequest

LONGEST = 512  # tokens of a paragraph that are read
MASKED = slice(3, None, 7)  # about one token in seven, as in the pre-training of masked models


@cache
def paragraphs() -> tuple[str, ...]:
    """The whole text, each paragraph on one line."""
    return tuple(" ".join(paragraph.split()) for paragraph in TEXT.strip().split("\n\n"))


def texts(samples: int) -> tuple[str, ...]:
    """The first so many paragraphs. Raises BadRequest when there are not so many."""
    if samples > len(paragraphs()):
        raise BadRequest(f"samples={samples}: the calibration text has {len(paragraphs())} paragraphs; write fewer")
    return paragraphs()[:samples]


def sha256(samples: int) -> str:
    """Hash of what `texts` gives, in hexadecimal: results of different texts are not to be mixed."""
    return hashlib.sha256("\n".join(texts(samples)).encode()).hexdigest()


def examples(model: nn.Module, tokenizer, samples: int) -> list[dict[str, torch.Tensor]]:
    """`input_ids` and `attention_mask` of each paragraph, int64 (1, tokens), cut where the model's positions end.

    A model that predicts masked tokens gets every seventh token masked; a decoder gets each paragraph behind its
    begin-of-sequence token, as it is asked later: that token draws much attention, and a model that was rounded without
    having seen it is another one behind it. Raises BadRequest when the tokenizer gives
    nothing, or numbers that the model has no embedding for.
    """
    tokens = [tokenizer(text, truncation=True, max_length=_longest(model))["input_ids"] for text in texts(samples)]
    start = getattr(tokenizer, "bos_token_id", None)
    if (
        all(tokens)
        and start is not None
        and getattr(tokenizer, "mask_token_id", None) is None
        and not _both_sides(model)
    ):
        tokens = [t if t[:1] == [start] else [start, *t][: _longest(model)] for t in tokens]
    known = model.get_input_embeddings().num_embeddings
    if not all(tokens) or max(max(t) for t in tokens) >= known:
        raise BadRequest(
            f"the tokenizer does not fit the model, which has {known} token embeddings; give the model's own tokenizer"
        )
    found = []
    for numbers in tokens:
        ids = torch.tensor([numbers])
        mask = getattr(tokenizer, "mask_token_id", None)
        if mask is not None and not _both_sides(model) and ids.shape[1] > 4:
            ids[:, :-1][:, MASKED] = mask  # the last one often ends the sentence
        found.append({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    return found


def _both_sides(model: nn.Module) -> bool:
    return bool(getattr(model.config, "is_encoder_decoder", False))


def _longest(model: nn.Module) -> int:
    config = model.config
    positions = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None) or LONGEST
    return max(1, min(LONGEST, positions - 2))  # RoBERTa's positions begin at 2
