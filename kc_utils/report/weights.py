"""A weight matrix as a picture, before and after a recipe."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LinearSegmentedColormap

from kc_utils.report.drawing import Picture, theme

SIGNED = LinearSegmentedColormap.from_list("signed", ["#0173b2", "#ffffff", "#de8f05"])
"""Blue below zero, orange above, white at zero."""


def matrix(panels: Mapping, caption: str = "", rows: int = 24, columns: int = 32, name: str = "matrix") -> Picture:
    """Draw the upper left corner of matrices (outputs, inputs) beside each other; zeros are white.

    panels: tensors or models (of `load`, `compress`) by title. Of models, the first matrix that differs is shown.

    >>> matrix({"before": lm, "after": compress(lm, "magnitude@all=0.5")})
    """
    which = ""
    if hasattr(next(iter(panels.values())), "model"):
        which, panels = first_changed(panels)
    panels = {title: w.detach().float().cpu().numpy() for title, w in panels.items()}
    corners = {title: w[:rows, :columns] for title, w in panels.items()}
    first = next(iter(corners.values()))
    largest = max(float(np.quantile(np.abs(w), 0.99)) for w in corners.values())
    theme()
    size = (4.6 * len(panels), 0.9 + 4.2 * first.shape[0] / first.shape[1])
    fig, axes = plt.subplots(1, len(panels), figsize=size, squeeze=False, layout="constrained")
    for ax, (title, corner) in zip(axes[0], corners.items(), strict=True):
        shown = ax.imshow(corner, cmap=SIGNED, vmin=-largest, vmax=largest, interpolation="nearest")
        ax.set_title(title)
        ax.grid(False)
        ax.set_xlabel("input")
        ax.set_ylabel("output" if ax is axes[0, 0] else "")
    fig.colorbar(shown, ax=axes, shrink=0.8, label="weight")
    shape = " x ".join(map(str, next(iter(panels.values())).shape))
    what = caption or f"One matrix{f', `{which}`' if which else ''}: {', '.join(panels)}"
    alt = f"{what}. " + ". ".join(in_words(title, w) for title, w in panels.items()) + "."
    size = f"The first {first.shape[0]} outputs and {first.shape[1]} inputs of {shape}; white is zero."
    return Picture(fig, f"{what}. {size}", alt, name)


def in_words(title: str, weight: np.ndarray) -> str:
    """A matrix for readers who cannot see it: its zeros, its largest weight, its distinct values."""
    values = len(np.unique(weight[0]))
    return (
        f"{title}: {100 * (weight == 0).mean():.1f} % of {weight.size:,} weights are zero, the largest magnitude is "
        f"{np.abs(weight).max():.3g}, the first row holds {values} distinct values"
    )


def first_changed(models: Mapping) -> tuple[str, dict]:
    """The name of the first matrix in which models of one shape differ, and its weights (outputs, inputs) by title.

    Weights that a library keeps as integers are read as the model computes with them.
    """
    from kc_utils.models.scopes import matrices

    found = {title: {m.name: m for m in matrices(lm.model)} for title, lm in models.items()}
    one, *others = found.values()
    for key, matrix_ in one.items():
        same = [o[key].values for o in others if key in o]
        if any(v.shape == matrix_.values.shape and not v.equal(matrix_.values) for v in same):
            return key.removesuffix(".weight"), {title: o[key].values for title, o in found.items()}
    key = next(iter(one))
    return key.removesuffix(".weight"), {title: o[key].values for title, o in found.items()}
