import pandas as pd
import pytest

from kc_utils.probing.probe import Probe
from kc_utils.study.cells import Cell
from kc_utils.study.store import CellResult

N = 40
RIGHT = {  # of 40 facts, right answers by recipe; those right are always the most popular ones
    "none": 30,
    "magnitude@attention=0.3": 29,
    "magnitude@attention=0.6": 14,
    "magnitude@feed_forward=0.3": 12,
    "magnitude@feed_forward=0.6": 2,
    "rtn@all=4": 30,
    "magnitude@all=0.3+rtn@all=4": 20,
}
REPORT = {
    "touched_fraction": 0.8,
    "sparsity": 0.5,
    "weights_touched": 2_000_000,
    "bits_per_weight": 4.5,
    "compression_ratio": 2.5,
}


def rows_of(right: int, protocol: str) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "protocol": protocol, "fact": [f"f{i:02}" for i in range(N)], "template": 0,
            "relation": ["capital", "currency"] * (N // 2), "correct": [i < right for i in range(N)],
            "chance": 0.2 if protocol == "rank" else 0.0001,
            "popularity": [float(N - i) for i in range(N)], "valid": True,
        }
    )  # fmt: skip


@pytest.fixture(scope="session")
def evaluated() -> dict[Cell, CellResult]:
    """Results with known counts, as `study.evaluate` would return them."""
    probe = Probe(limit=N)
    return {
        Cell("smollm2-135m", recipe, probe): CellResult(
            recipe,
            pd.concat([rows_of(right, "rank"), rows_of(max(right - 5, 0), "cloze")], ignore_index=True),
            {} if recipe == "none" else REPORT,
            {},
        )
        for recipe, right in RIGHT.items()
    }
