"""Perplexity of a text: a decoder's surprise at each next token, in windows that slide over the text.

The windows are those of the guide "Perplexity of fixed-length models" of transformers: each is `max_length` tokens long and
begins `stride` tokens after the one before it; of a window only the tokens are scored that no window before it held, so that
every token but the first is scored once, after at least `max_length - stride` others where the text has them. (Windows that
do not overlap each lose their first token, as in the guide.) The text is scored as it stands in its file; the guide joins
WikiText's lines by blank ones first, which gives another number.

One row per window, so that an interval can be resampled; the metrics are functions of the rows. Perplexity can stay flat
while knowledge is lost (Jaiswal et al. 2024).
"""

from __future__ import annotations

import hashlib
import inspect
import math
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from kc_utils.errors import BadRequest, MissingData
from kc_utils.probing.files import data_file
from kc_utils.probing.logits import positions_of
from kc_utils.probing.probe import Probe

PROTOCOL = "perplexity"
TEXTS = {"wikitext2": "wikitext2/wiki.test.raw"}
"""Texts known by name: WikiText-2's raw test part (Merity et al. 2017)."""
LONGEST_WINDOW = 1024


def load_text(name: str) -> str:
    """A text by name (`wikitext2`) or path. Raises MissingData for an absent file, BadRequest for one that holds none."""
    path = data_file(TEXTS[name]) if name in TEXTS else Path(name).expanduser()
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise MissingData(f"no text {name!r}: name a file, or one of {', '.join(TEXTS)}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"{path} cannot be read as UTF-8 text ({type(error).__name__}): name another file") from error
    if not text.strip():
        raise BadRequest(f"{path} holds no text: name another file")
    return text


def check_family(family: str) -> None:
    """Raise BadRequest for a family that predicts no next token."""
    if family != "decoder":
        raise BadRequest(
            f"perplexity is the surprise at each next token of a text, which a model of family {family} does not predict "
            "from the left alone: choose a decoder"
        )


def measure(model, tokenizer, family: str, probe: Probe, trees=None, recipe: str = "none") -> pd.DataFrame:
    """The rows of a probe's text, see `score_text`."""
    check_family(family)
    return score_text(model, tokenizer, load_text(probe.text), probe.text_tokens, name=Path(probe.text).stem)


def fingerprint(probe: Probe) -> str:
    """SHA-256 of a probe's text, which a result depends on."""
    return hashlib.sha256(load_text(probe.text).encode()).hexdigest()


def score_text(
    model,
    tokenizer,
    text: str,
    limit_tokens: int | None = None,
    stride: int | None = None,
    max_length: int | None = None,
    name: str = "text",
) -> pd.DataFrame:
    """One row per window: `nll` (nats, summed), and how many `tokens`, `words` and `bytes` of the text it is spread over.

    limit_tokens  how many tokens of the text are scored, from its beginning; None for all
    max_length    tokens in a window; by default what the model takes, at most 1024
    stride        by how much windows are apart; by default half of `max_length`
    name          of the text, for the column `relation`

    A window whose scores are not all numbers has `nll` infinite and is not valid; a warning counts them.
    Raises BadRequest for a text of fewer than two tokens.
    """
    max_length = max_length or min(positions_of(model) or LONGEST_WINDOW, LONGEST_WINDOW)
    stride = stride or max(1, max_length // 2)
    tokens, edges = _encode(tokenizer, text, limit_tokens)
    if len(tokens) < 2:
        raise BadRequest("the text has fewer than two tokens, none of which follows another")
    table = pd.DataFrame(_windows(model, tokens, edges, text, max_length, stride, name))
    invalid = int((~table["valid"]).sum())
    if invalid:
        warnings.warn(
            f"{invalid} of {len(table)} windows have scores that are not numbers and count as infinitely surprising", stacklevel=2
        )
    return table


def perplexity(rows: pd.DataFrame) -> dict[str, float]:
    """Of all windows together: perplexity per token and per word, bits per byte. Infinite where a window is not valid."""
    nll = rows["nll"].sum() if rows["valid"].all() else math.inf
    per = {unit: nll / max(1, int(rows[unit].sum())) for unit in ("tokens", "words", "bytes")}
    with np.errstate(over="ignore"):
        token, word = (float(np.exp(per[unit])) for unit in ("tokens", "words"))
    return {"token_perplexity": token, "word_perplexity": word, "bits_per_byte": float(per["bytes"] / math.log(2))}


def _encode(tokenizer, text: str, limit: int | None) -> tuple[list[int], list[int]]:
    """Tokens of a text, and the character where each begins, then the one behind the last."""
    if not getattr(tokenizer, "is_fast", False):
        raise BadRequest("words and bytes are counted by the spans of tokens in the text, which needs a fast tokenizer")
    found = tokenizer(text, return_offsets_mapping=True, return_special_tokens_mask=True, verbose=False)
    tokens, starts, special = found.input_ids, [start for start, _ in found.offset_mapping], found.special_tokens_mask
    count = len(tokens)
    while count and special[count - 1]:  # an end-of-text token is no part of the text
        count -= 1
    edges = [*starts[:count], len(text)]
    count = min(count, limit or count)
    return list(tokens[:count]), edges[: count + 1]


@torch.inference_mode()
def _windows(model, tokens: list[int], edges: list[int], text: str, max_length: int, stride: int, name: str):
    size, scored_to = len(tokens), 1  # nothing stands before the first token
    with tqdm(total=size - 1, desc=PROTOCOL, unit="token", leave=False) as bar:
        for number, begin in enumerate(range(0, size, stride)):
            end = min(begin + max_length, size)
            scored = min(end - scored_to, end - begin - 1)  # nothing stands before a window's first token either
            if not scored:
                break
            nll = _surprise(model, tokens[begin:end], scored)
            first, last = edges[end - scored], edges[end]
            valid = math.isfinite(nll)
            row = {"fact": f"{name}/{begin:08d}", "relation": name, "popularity": None, "protocol": PROTOCOL, "template": 0}
            row |= {"window": number, "nll": nll if valid else math.inf, "tokens": scored}
            row |= {"words": _word_starts(text, first, last), "bytes": len(text[first:last].encode())}
            yield row | {"score": -nll / scored if valid else math.nan, "valid": valid}
            bar.update(end - scored_to)
            scored_to = end
            if end == size:
                break


def _surprise(model, window: list[int], scored: int) -> float:
    """Negative log-likelihood in nats of the last `scored` tokens of a window."""
    tokens = torch.tensor([window], device=model.device)
    # logits only at the scored positions, if the model has the option
    few = {"logits_to_keep": scored + 1} if "logits_to_keep" in inspect.signature(type(model).forward).parameters else {}
    logits = model(input_ids=tokens, use_cache=False, **few).logits[0, -(scored + 1) : -1]
    targets = tokens[0, -scored:]
    total = 0.0
    for start in range(0, scored, 256):  # in float32, a part at a time
        part = slice(start, start + 256)
        total += float(torch.nn.functional.cross_entropy(logits[part].float(), targets[part], reduction="sum"))
    return total


def _word_starts(text: str, first: int, last: int) -> int:
    """Words, parted by white space, that begin between two characters of the text."""
    return sum(not text[at].isspace() and (at == 0 or text[at - 1].isspace()) for at in range(first, last))
