"""Tables of pages and notebooks: a comparison with all its numbers, and what was run, on what, of which models."""

from __future__ import annotations

import pandas as pd
from IPython.display import HTML

from kc_utils.report.phrases import interval, p_value, whole
from kc_utils.stats.names import short_protocol


def show_table(table: pd.DataFrame) -> HTML:
    """Show a table of `compare` with all its numbers, one line per recipe and protocol, fractions in per cent.

    >>> show_table(compare(rows))
    """
    shown = pd.DataFrame(
        {"recipe": table["recipe"], "protocol": table["protocol"].map(short_protocol), "n": table["n"]}
    )
    shares = {"correct": ("accuracy", "low", "high"), "retention": ("retention", "retention_low", "retention_high")}
    for name, columns in shares.items():
        shown[f"{name}, %"] = [_with_interval(*values) for values in zip(*(table[c] for c in columns), strict=True)]
    shown["lost, %"], shown["gained, %"] = table["lost"].map(whole), table["gained"].map(whole)
    shown["p (Holm)"] = table["p_holm"].map(p_value)
    shown["touched, %"], shown["zeros, %"] = (_written(100 * table[c], 1) for c in ("touched_fraction", "sparsity"))
    shown["bits a weight"], shown["compression ratio"] = (
        _written(table[c], 2) for c in ("bits_per_weight", "compression_ratio")
    )
    return HTML(f'<div class="kc-scroll">{shown.to_html(index=False, border=0, classes="dataframe kc-table")}</div>')


def _with_interval(middle: float, low: float, high: float) -> str:
    if pd.isna(middle):
        return ""
    return whole(middle) + ("" if pd.isna(low) else f" ({interval(low, high)[:-2]})")


def _written(values: pd.Series, digits: int) -> list[str]:
    return ["" if pd.isna(value) else f"{value:.{digits}f}" for value in values]
