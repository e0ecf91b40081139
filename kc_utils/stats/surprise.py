"""Perplexity of a compressed model against the uncompressed one, on the same windows of the same text."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from kc_utils.stats.bootstrap import mean_interval
from kc_utils.stats.intervals import NAN
from kc_utils.stats.items import in_order, paired
from kc_utils.errors import BadRequest, BadResult


@dataclass(frozen=True)
class Surprise:
    """Of n windows; intervals are 95 %.

    perplexity, baseline_perplexity   per token: the exponential of the mean negative log-likelihood
    bits_per_byte                     of the text, which is comparable between tokenizers
    ratio                             perplexity over that of the uncompressed model; 1 nothing lost
    extra_bits_per_byte               the same as a difference of bits per byte; 0 nothing lost
    block                             neighbouring windows that are drawn together
    invalid                           windows of which one model's scores are not numbers: all is then infinite
    """

    n: int
    tokens: int
    perplexity: float
    baseline_perplexity: float
    bits_per_byte: float
    baseline_bits_per_byte: float
    ratio: float
    ratio_ci95: tuple[float, float]
    extra_bits_per_byte: float
    extra_bits_per_byte_ci95: tuple[float, float]
    block: int
    invalid: int

    def to_dict(self) -> dict:
        return asdict(self)


def compare_surprise(rows: pd.DataFrame, baseline: pd.DataFrame, seed: int = 0, block: int | None = None) -> Surprise:
    """Compare the windows of two models that read the same text with the same tokenizer.

    rows    columns nll (nats, summed), tokens, bytes, window, relation (the text's name), valid: see `knowledge.perplexity`
    block   how many windows in a row are drawn together, since windows of one article resemble each other; by default the
            cube root of their number (Hall, Horowitz and Jing 1995)

    The interval is that of a studentised bootstrap of the log-ratio (extra nats by token), windows drawn with both models'
    surprise at them. Raises BadRequest for other windows or texts, BadResult for rows without tokens or with a surprise
    below 0.
    """
    needs = ["nll", "tokens", "bytes", "window", "relation", "valid"]
    rows, baseline = in_order(rows, needs), in_order(baseline, needs)
    joined = paired(rows, baseline, ["nll", "tokens", "bytes", "valid"])
    joined = joined.sort_values(["relation", "window"], kind="stable").reset_index(drop=True)
    for unit in ("tokens", "bytes"):
        if (joined[unit] != joined[f"{unit}_baseline"]).any():
            raise BadRequest(
                f"the windows do not hold the same {unit} in both frames: read the text with one tokenizer and one stride"
            )
    tokens, size = int(joined["tokens"].sum()), int(joined["bytes"].sum())
    if tokens < 1 or size < 1 or (joined["tokens"] < 0).any():
        raise BadResult("the windows hold no tokens or no bytes: read a longer text")
    after, before = joined["nll"].to_numpy(float), joined["nll_baseline"].to_numpy(float)
    if (after < 0).any() or (before < 0).any():
        raise BadResult("a window has a negative surprise, which no probability gives: evaluate the cell again")
    block = block or max(1, round(len(joined) ** (1 / 3)))
    if not 1 <= block <= len(joined):
        raise BadRequest(f"blocks of {block} windows are impossible with {len(joined)} windows")
    valid = [
        (joined[c].astype(bool) & np.isfinite(nll)).all() for c, nll in (("valid", after), ("valid_baseline", before))
    ]
    totals = [float(nll.sum()) if ok else math.inf for nll, ok in zip((after, before), valid, strict=True)]
    by_token, by_byte = NAN, NAN
    if all(valid):
        together = _blocks(joined, block)
        by_token = mean_interval(after - before, together, seed, joined["tokens"].to_numpy(float))
        by_byte = mean_interval(after - before, together, seed, joined["bytes"].to_numpy(float))
    bits = [total / size / math.log(2) for total in totals]
    whole = all(valid)
    return Surprise(
        n=len(joined),
        tokens=tokens,
        perplexity=_exp(totals[0] / tokens),
        baseline_perplexity=_exp(totals[1] / tokens),
        bits_per_byte=bits[0],
        baseline_bits_per_byte=bits[1],
        ratio=_exp((totals[0] - totals[1]) / tokens) if valid[1] else math.nan,
        ratio_ci95=(_exp(by_token[0]), _exp(by_token[1])) if whole else NAN,
        extra_bits_per_byte=bits[0] - bits[1] if valid[1] else math.nan,
        extra_bits_per_byte_ci95=(by_byte[0] / math.log(2), by_byte[1] / math.log(2)),
        block=block,
        invalid=int((~(joined["valid"].astype(bool) & joined["valid_baseline"].astype(bool))).sum()),
    )


def _blocks(joined: pd.DataFrame, block: int) -> np.ndarray:
    """A number for each window, the same for `block` neighbours of one text."""
    place = joined.groupby("relation").cumcount() // block
    return joined.assign(place=place).groupby(["relation", "place"]).ngroup().to_numpy()


def _exp(value: float) -> float:
    return value if math.isnan(value) else math.exp(value) if value < 700 else math.inf
