"""The static-embedding control of ranking: how often does the right answer win by word embeddings alone, without a body?

An answer's score is the cosine of two means of input embeddings: of the answer's tokens, and of those of the subject, or of the
whole prompt without its gap. Both are tried with the embeddings as they are and with the mean of the vocabulary taken off, since
embeddings share a direction that says nothing (Mu and Viswanath 2018, "All-but-the-top"). The strongest of these four is the
control, on the same facts: a control that is weak by choice would flatter the body. It is so a little too strong, as the best
of four tries. Facts, candidates, ties and chance are those of `rank`. What is ranked rightly here may not be called knowledge of
the body, and no recipe takes it: all leave the input embeddings whole (a tied final layer is untied first).
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from torch.nn.functional import embedding_bag, normalize

from kc_utils.models.loading import Loaded
from kc_utils.probing.probe import Probe
from kc_utils.probing.protocols import Rank
from kc_utils.probing.queries import Query, queries_of

ASKED = {"subject": lambda query: query.fact.subject, "prompt": lambda query: query.text.replace("[Y]", "")}
VARIANTS = tuple(f"{table} {asked}" for table in ("raw", "centred") for asked in ASKED)


class Static(Rank):
    """`Rank` whose scores are cosines. units: of every text that is asked or answered, its vector of length 1."""

    def __init__(self, queries: Sequence[Query], facts, alternatives, seed: int, asked: str, units: dict[str, torch.Tensor]):
        super().__init__((), None, facts, alternatives, seed, name="static")
        for query in queries:
            if others := facts.alternatives(query.fact, alternatives, seed):
                answers = torch.stack([units[answer] for answer in (query.fact.answers[0], *others)])
                self._queries.append(query)
                self._scores.append((answers * units[ASKED[asked](query)]).sum(1).tolist())


def static(lm: Loaded, probe: Probe) -> pd.DataFrame:
    """Rank the facts of a probe by word embeddings alone: for each of VARIANTS, named in column variant, the rows of `rank`."""
    facts, rows = probe.factset(), []
    if probe.candidates == "sets":
        facts = facts.in_sets(probe.alternatives + 1, probe.seed)
    drawn = probe.alternatives, probe.seed
    queries = queries_of(facts, probe.templates)
    texts = {answer for q in queries for answer in (q.fact.answers[0], *facts.alternatives(q.fact, *drawn))}
    texts = sorted(texts.union(*({of(q) for q in queries} for of in ASKED.values())))
    for variant in VARIANTS:
        table, asked = variant.split()
        units = dict(zip(texts, unit_vectors(lm, texts, table == "centred"), strict=True))
        rows += [row | {"variant": variant} for row in Static(queries, facts, *drawn, asked, units).rows]
    return pd.DataFrame(rows)


def unit_vectors(lm: Loaded, texts: Sequence[str], centred: bool) -> torch.Tensor:
    """Mean embeddings of texts as they stand inside a sentence, of length 1, float64 (texts, width); 0 for a text without
    tokens. Tokens are summed in one order, so that texts of the same tokens are equal to the last bit and tie."""
    weight = lm.model.get_input_embeddings().weight.detach()
    encoded = lm.tokenizer([f" {text}" for text in texts], add_special_tokens=False).input_ids
    seen = {token: bool(lm.tokenizer.decode([token]).strip()) for ids in encoded for token in ids}
    encoded = [sorted(token for token in ids if seen[token]) for ids in encoded]
    starts = torch.tensor([0, *map(len, encoded)]).cumsum(0)[:-1]
    vectors = weight[[token for ids in encoded for token in ids]].double()
    vectors = vectors - weight.mean(0, dtype=torch.float64) if centred else vectors
    return normalize(embedding_bag(torch.arange(len(vectors)), vectors, starts, mode="mean"))


def strongest(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of that variant which is right most often."""
    return rows[rows["variant"] == rows.groupby("variant", sort=False)["correct"].mean().idxmax()]


def alone(lm: Loaded, rows: pd.DataFrame) -> pd.Series:
    """Return for every row of `kc.evaluate` whether the word embeddings alone rank the right answer first: 1 or 0, missing in
    rows of other protocols."""
    probe, ranked = Probe(**rows.attrs["probe"]), rows["protocol"] == "rank"
    if not ranked.any():
        return pd.Series(float("nan"), rows.index)
    right = strongest(static(lm, probe)).set_index(["fact", "template"])["correct"].astype(float)
    keys = pd.MultiIndex.from_frame(rows[["fact", "template"]])
    return pd.Series(right.reindex(keys).to_numpy(), rows.index).where(ranked)
