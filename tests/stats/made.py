"""Rows made for tests, with known properties."""

import numpy as np
import pandas as pd


def frame(correct, chance=0.1, protocol="rank", relation="r", popularity=None, fact=None, template=0, **columns):
    """Rows of one protocol: right or wrong as given, each row a fact of its own unless `fact` says otherwise."""
    n = len(correct)
    return pd.DataFrame(
        {
            "protocol": protocol, "relation": relation, "fact": [f"f{i:05}" for i in range(n)] if fact is None else fact,
            "template": template, "correct": np.asarray(correct, bool), "chance": chance, "valid": True,
            "popularity": popularity if popularity is not None else np.arange(n, dtype=float), **columns,
        }
    )  # fmt: skip


def templates(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    """The same rows, each queried with so many templates and answered alike."""
    return pd.concat([rows.assign(template=t) for t in range(count)], ignore_index=True)


def study(by_recipe: dict, model="smollm2-135m", **columns) -> pd.DataFrame:
    """Rows of `evaluate`: recipe -> which facts are right, or a frame. `none` is the uncompressed model."""
    parts = []
    for recipe, given in by_recipe.items():
        rows = given if isinstance(given, pd.DataFrame) else frame(given, **columns)
        parts.append(rows.assign(model=model, recipe=recipe))
    return pd.concat(parts, ignore_index=True)
