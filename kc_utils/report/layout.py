"""How the recipes of a technique are laid out in a figure: what stands on the horizontal axis, what has a colour."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pandas as pd

from kc_utils.stats.names import METHOD_NAMES, SCOPE_NAMES, UNQUANTIZED, in_order_of_precision, protocols_in_order


@dataclass(frozen=True)
class View:
    """Columns of a frame laid out by `laid_out`.

    x, hue, row   the horizontal axis with its `xlabel`, what a colour stands for, one row of panels each (or None)
    starts        columns whose combinations are lines: the uncompressed model is the first point of each
    joined        whether points of a line are joined
    """

    x: str
    xlabel: str
    hue: str
    starts: tuple[str, ...]
    row: str | None = None
    joined: bool = True


BYTES = "compression ratio of the whole model"
VIEWS = {
    "pruning": View("percent", "weights of the scope set to zero (%)", "scope_name", ("scope",)),
    "quantization": View(
        "precision", "how the weights of the scope are stored", "scope_name", ("scope",), joined=False
    ),
    "pruning_then_quantization": View(
        "percent", "weights set to zero first (%)", "precision_name", ("scope",), "scope_name"
    ),
    "final_layer": View("percent", "weights of the final layer set to zero (%)", "method_name", ("method",)),
    "gptq": View("bits_name", "bits of a weight of the scope", "method_name", ("scope", "method"), "scope_name"),
}
BY_METHOD = {"hue": "method_name", "starts": ("scope", "method"), "row": "scope_name", "joined": True}


def bytes_view(technique: str) -> View:
    """The view with the compression ratio of the whole model on the horizontal axis."""
    by_method = BY_METHOD if technique == "quantization" else {}
    return replace(VIEWS[technique], x="compression_ratio", xlabel=BYTES, **by_method)


def bits_view(technique: str) -> View:
    """The view with the bits per weight of the scope on the horizontal axis."""
    by_method = BY_METHOD if technique == "quantization" else {}
    xlabel = "bits per weight of the scope, scales included"
    return replace(VIEWS[technique], x="bits_per_weight", xlabel=xlabel, **by_method)


def laid_out(frame: pd.DataFrame, view: View) -> pd.DataFrame:
    """Lines of a summary (or of any frame with its columns of recipes) in drawing order, with a start for every line.

    Adds percent (pruned), millions (of weights removed), names for scope, method, precision and bits; `precision` and
    `bits_name` become ordered categoricals of falling precision.
    """
    is_base = frame["recipe"] == "none"
    base, rest = frame[is_base], frame[~is_base]
    lines = rest[list(view.starts)].drop_duplicates().to_dict("records") if view.starts else [{}]
    return with_axes(pd.concat([*(base.assign(**line) for line in lines), rest], ignore_index=True))


def with_axes(frame: pd.DataFrame) -> pd.DataFrame:
    """The columns that `laid_out` adds, and its order: by protocol, falling precision and rising sparsity."""
    bits = [UNQUANTIZED if pd.isna(b) else f"{b:g} bits" for b in frame["bits"]]
    falling = sorted(
        set(bits), key=lambda name: (name != UNQUANTIZED, -float(name.split()[0]) if name[0].isdigit() else 0)
    )
    frame = frame.assign(
        scope_name=frame["scope"].map(lambda v: SCOPE_NAMES.get(v, v)),
        method_name=frame["method"].map(lambda v: METHOD_NAMES.get(v, v)),
        precision_name=frame["precision"],
        precision=in_order_of_precision(frame["precision"]),
        bits_name=pd.Categorical(bits, falling, ordered=True),
        percent=100 * frame["pruned"].astype(float),
    )
    order = ["precision", "pruned"]
    if "weights_removed" in frame:
        frame = frame.assign(millions=frame["weights_removed"].astype(float) / 1e6)
    if "protocol" in frame:
        known = protocols_in_order(frame["protocol"])
        frame = frame.assign(_place=frame["protocol"].map(known.index))
        order = ["_place", *order]
    return frame.sort_values(order, kind="stable").drop(columns="_place", errors="ignore").reset_index(drop=True)
