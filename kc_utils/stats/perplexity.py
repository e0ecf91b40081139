"""Perplexity of a compressed model beside the uncompressed one, on the same windows of the same text."""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from kc_utils.errors import BadRequest, BadResult
from kc_utils.stats.bootstrap import mean_interval
from kc_utils.stats.intervals import NAN
from kc_utils.stats.items import refuse_missing, sample_of
from kc_utils.stats.names import recipe_fields
from kc_utils.study.rows import REPORTED

NEEDS = ("nll", "tokens", "bytes", "window", "relation", "valid")


def perplexity(rows: pd.DataFrame) -> pd.DataFrame:
    """Compare the perplexity of texts under every recipe with that of the uncompressed model.

    rows: of `evaluate(..., text="wikitext2")` or `results`; questions are passed over. Returns one line per model, recipe
    and text (and facts, probe, where the rows name them): n windows and their tokens; perplexity per token and
    baseline_perplexity; bits_per_byte, comparable between tokenizers; ratio to the uncompressed model, 1 nothing lost,
    with ratio_low and ratio_high (95 %); block, how many neighbouring windows are drawn together; invalid, windows of which
    one model's scores are not numbers: perplexity is then infinite; the fields of the recipe and its report. Empty where
    no text was read.

    The interval is that of a studentised bootstrap of the log-ratio (extra nats by token), windows drawn with both
    models' values. Windows of one article resemble each other: the cube root of their number is drawn together (Hall,
    Horowitz and Jing 1995). Raises BadRequest where models read other windows or the uncompressed one is missing, BadResult
    for windows without tokens or with a negative sum of surprise.

    >>> rows = evaluate("smollm2-135m", "rtn@all=3", facts=None, text="wikitext2", text_tokens=512)  # doctest: +SKIP
    >>> perplexity(rows)[["recipe", "perplexity", "ratio"]]
    """
    refuse_missing(rows, ["model", "recipe", "protocol"])
    rows, lines = rows[rows["protocol"] == "perplexity"], []
    keys = sample_of(rows)
    for values, part in rows.groupby([*keys, "relation"], sort=False, observed=True, dropna=False) if len(rows) else ():
        refuse_missing(part, NEEDS)
        windows = dict(iter(part.groupby("recipe", sort=False, observed=True)))
        if "none" not in windows:
            raise BadRequest(f"{values[0]}: the uncompressed model was not evaluated on {values[-1]}; evaluate it, too")
        named = dict(zip([*keys, "text"], values, strict=True))
        for recipe, own in windows.items():
            shown = {name: own[name].iloc[0] if name in own else math.nan for name in REPORTED}
            lines.append(named | recipe_fields(recipe) | compared_windows(own, windows["none"]) | shown)
    return pd.DataFrame(lines)


def compared_windows(rows: pd.DataFrame, baseline: pd.DataFrame, seed: int = 0) -> Mapping[str, float]:
    """Return the numbers of one line, from the windows of one text under a recipe and without compression.

    rows: columns nll (nats, summed over a window), tokens, bytes, window, valid.
    """
    after, before = (frame.sort_values("window", kind="stable") for frame in (rows, baseline))
    for name in ("window", "tokens", "bytes"):
        if len(after) != len(before) or (after[name].to_numpy() != before[name].to_numpy()).any():
            raise BadRequest(f"{name} of the two models differ: read the text with one tokenizer and one stride")
    if after["window"].duplicated().any():
        raise BadRequest("a window is there twice: give the rows of one probe")
    tokens, nll, base = (x.to_numpy(float) for x in (after["tokens"], after["nll"], before["nll"]))
    total, size = tokens.sum(), float(after["bytes"].sum())
    if not total > 0 or not size > 0 or (tokens < 0).any():
        raise BadResult("the windows hold no tokens or no bytes: read a longer text")
    if (nll < 0).any() or (base < 0).any():
        raise BadResult("a window has a negative surprise, which no probability gives: evaluate the model again")
    valid = [f["valid"].to_numpy(bool) & np.isfinite(v) for f, v in ((after, nll), (before, base))]
    sums = [v.sum() if fine.all() else math.inf for v, fine in zip((nll, base), valid, strict=True)]
    whole, block = all(v.all() for v in valid), max(1, round(len(nll) ** (1 / 3)))
    apart = mean_interval(nll - base, np.arange(len(nll)) // block, seed, tokens) if whole else NAN
    ratio = (sums[0] - sums[1]) / total if valid[1].all() else math.nan
    nats = {"perplexity": sums[0] / total, "baseline_perplexity": sums[1] / total}
    nats |= {"ratio": ratio, "ratio_low": apart[0], "ratio_high": apart[1]}
    with np.errstate(over="ignore"):  # beyond any number: infinite
        shown = {name: float(np.exp(value)) for name, value in nats.items()}
    bits, invalid = sums[0] / size / math.log(2), int((~(valid[0] & valid[1])).sum())
    return {"n": len(nll), "tokens": int(total), **shown, "bits_per_byte": bits, "block": block, "invalid": invalid}
