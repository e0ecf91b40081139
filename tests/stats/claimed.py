"""Claims and rows made for tests of the ledger: how many of 200 facts are right, by recipe and protocol."""

import numpy as np
import pandas as pd

from kc_utils.stats.claims import Claim, Decision, Part, decide
from kc_utils.stats.evidence import LANGUAGE, Evidence

N, CHANCE = 200, 0.2
ALL, ATTENTION, FEED = "magnitude@all=0.5", "magnitude@attention=0.5", "magnitude@feed_forward=0.5"
GOOD, BAD = {"none": 160, ALL: 20, ATTENTION: 150, FEED: 150}, {"none": 160, ALL: 120, ATTENTION: 70, FEED: 70}
REPORT = {"weights_removed": 1e6, "sparsity": 0.5, "touched_fraction": 0.5, "bytes_compressed": 200.0}
REPORT |= {"bits_per_weight": np.nan, "compression_ratio": 1.0}


def rows(right, protocol="rank", popularity=True) -> pd.DataFrame:
    """right: how many of N facts, every second one of them head, or which ones as booleans."""
    correct = np.arange(N) < right if np.ndim(right) == 0 else np.asarray(right, bool)
    return pd.DataFrame(
        {
            "protocol": protocol, "fact": [f"f{i:03}" for i in range(N)], "template": 0, "relation": "capital",
            "correct": correct, "chance": 0.5 if protocol == "openbook" else CHANCE, "valid": True, "score": -1.0,
            "popularity": [float(i % 2) * 1000 + i if popularity else None for i in range(N)],
        }
    )  # fmt: skip


def windows(nats: float, count: int = 30) -> pd.DataFrame:
    """Windows of a text, with so many nats a token."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "protocol": "perplexity", "fact": [f"w{i:02}" for i in range(count)], "template": 0, "relation": "wikitext2",
            "window": range(count), "nll": 100 * nats * rng.uniform(0.99, 1.01, count), "tokens": 100, "bytes": 400,
            "words": 80, "valid": True, "score": -nats,
        }
    )  # fmt: skip


def results(by_recipe: dict, model="smollm2-135m", facts="worldfacts", probe="p", origin="here", **reports) -> pd.DataFrame:
    """Rows as `kc.results` gives them. by_recipe: recipe -> rows, or how many of N facts are right from memory; reports: of all
    recipes, or by recipe."""
    parts = []
    for recipe, given in by_recipe.items():
        frame = given if isinstance(given, pd.DataFrame) else rows(given)
        own = {k: v.get(recipe, REPORT[k]) if isinstance(v, dict) else v for k, v in {**REPORT, **reports}.items()}
        named = {"model": model, "recipe": recipe, "facts": facts, "probe": probe, "origin": origin}
        parts.append(frame.assign(**named, **own))
    return pd.concat(parts, ignore_index=True)


def claim(**rule) -> Claim:
    return Claim(id="c", title="C", statement="It is so.", source="namburi2023", known_from="secondary", decided_by=rule)


def less(worse=ALL, better=(ATTENTION, FEED)) -> Claim:
    return claim(kind="keeps less", worse=worse, better=list(better), amounts=[0.5])


def decided(made: Claim, *frames: pd.DataFrame) -> Decision:
    return decide(made, Evidence(pd.concat(frames, ignore_index=True)))


def part(decision: Decision, protocol="rank", kind=LANGUAGE) -> Part:
    (found,) = [p for p in decision.of(kind) if p.protocol == protocol]
    return found


def spread(right: int) -> np.ndarray:
    """Which facts are right, in another order than that of their numbers, the same for all."""
    return np.random.default_rng(0).permutation(N) < right


def both_ways(right: dict, cloze: dict, **columns) -> pd.DataFrame:
    """Results by ranking and by cloze."""
    made = {r: pd.concat([rows(right[r]), rows(cloze[r], "cloze")], ignore_index=True) for r in right}
    return results(made, **columns)
