"""Results made for tests of the ledger: how many of 200 facts are right, by recipe and protocol."""

import numpy as np
import pandas as pd

from kc_utils.probing.probe import Probe
from kc_utils.study.cells import Cell
from kc_utils.study.record import CellResult

N, CHANCE = 200, 0.2
PROBE = Probe(facts="worldfacts", limit=N, protocols=("rank", "openbook"))


def rows(right, protocol="rank", popularity=True) -> pd.DataFrame:
    """right: how many of N facts, every second one of them head, or which ones as booleans."""
    correct = np.arange(N) < right if np.ndim(right) == 0 else np.asarray(right, bool)
    return pd.DataFrame(
        {
            "protocol": protocol, "fact": [f"f{i:03}" for i in range(N)], "template": 0, "relation": "capital",
            "correct": correct, "chance": CHANCE, "valid": True, "score": -1.0,
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


def results(by_recipe: dict, model="smollm2-135m", probe=PROBE, reports: dict | None = None) -> dict[Cell, CellResult]:
    """by_recipe: recipe -> rows, or how many of N facts are right from memory."""
    found = {}
    for recipe, given in by_recipe.items():
        frame = rows(given) if np.ndim(given) == 0 and not isinstance(given, pd.DataFrame) else given
        report = {
            "sparsity": 0.5,
            "weights_touched": 2_000_000,
            "weights_model": 100,
            **(reports or {}).get(recipe, {}),
        }
        found[Cell(model, recipe, probe)] = CellResult(recipe, frame, report, {})
    return found
