"""Weight matrices as pictures: the corner of a large one before and after a recipe, or all numbers of small ones."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LinearSegmentedColormap

from kc_utils.report.drawing import FAINT, INK, Picture, theme

SIGNED = LinearSegmentedColormap.from_list("signed", ["#0173b2", "#ffffff", "#de8f05"])
"""Blue below zero, orange above, white at zero."""
CORNER = np.s_[:24, :32]
"""Outputs and inputs of a large matrix that are drawn."""


def matrix(panels: Mapping, caption: str = "") -> Picture:
    """Draw the upper left corner of matrices (outputs, inputs) beside each other, `CORNER` of them; zeros are white.

    panels: tensors or models (of `load`, `compress`) by title. Of models, the first matrix that differs is shown.

    >>> matrix({"before": lm, "after": compress(lm, "magnitude@all=0.5")})
    """
    which = ""
    if hasattr(next(iter(panels.values())), "model"):
        which, panels = first_changed(panels)
    panels = {title: w.detach().float().cpu().numpy() for title, w in panels.items()}
    corners = {title: w[CORNER] for title, w in panels.items()}
    fig = heatmaps(corners, len(corners), 4.6)
    fig.colorbar(fig.axes[0].images[0], ax=fig.axes, shrink=0.8, label="weight")
    outputs, inputs = next(iter(corners.values())).shape
    shape = " x ".join(map(str, next(iter(panels.values())).shape))
    what = caption or f"One matrix{f', `{which}`' if which else ''}: {', '.join(panels)}"
    alt = f"{what}. " + " ".join(in_words(title, w) for title, w in panels.items())
    size = f"The first {outputs} outputs and {inputs} inputs of {shape}; white is zero."
    return Picture(fig, f"{what}. {size}", alt, "matrix")


def heatmaps(panels: Mapping[str, np.ndarray], across: int, inches: float, numbers: bool = False) -> plt.Figure:
    """Draw matrices of one shape, `across` in a row, each `inches` wide; with `numbers`, zeros are marked with a dot."""
    theme()
    down, (outputs, inputs) = -(-len(panels) // across), next(iter(panels.values())).shape
    size = (inches * across, (inches * outputs / inputs + 0.6) * down)
    fig, axes = plt.subplots(down, across, figsize=size, squeeze=False, layout="constrained")
    largest = max(float(np.quantile(np.abs(w), 1 if numbers else 0.99)) for w in panels.values())
    for ax in axes.flat[len(panels) :]:
        ax.remove()
    for number, (ax, (title, weight)) in enumerate(zip(axes.flat, panels.items(), strict=False)):
        pale = 0.45 if numbers else 1  # numbers stand on it
        ax.imshow(weight, cmap=SIGNED, vmin=-largest, vmax=largest, interpolation="nearest", alpha=pale)
        ax.set_title(title)
        ax.grid(False)
        ax.set_xlabel("input" if number >= len(panels) - across else "")
        ax.set_ylabel("output" if number % across == 0 else "")
        if numbers:
            ax.set_xticks(range(inputs), range(1, inputs + 1))
            ax.set_yticks(range(outputs), range(1, outputs + 1))
        for (i, j), value in np.ndenumerate(weight) if numbers else ():
            text = "•" if value == 0 else f"{value:.2f}".replace("-", "\u2212")
            text = ax.text(j, i, text, ha="center", va="center", fontsize=8.5, color=FAINT if value == 0 else INK)
            text.set_in_layout(False)  # inside the axes: measuring each one takes most of the time of a figure
    return fig


def in_words(title: str, weight: np.ndarray) -> str:
    """A matrix for readers who cannot see it: its zeros, its largest weight, and its distinct values or, if small, all."""
    values = f"The first row holds {len(np.unique(weight[0]))} distinct values"
    if weight.size <= 256:
        values = "Rows: " + "; ".join(", ".join("0" if v == 0 else f"{v:.2f}" for v in row) for row in weight[:16])
    return (
        f"{title}: {100 * (weight == 0).mean():.1f} % of {weight.size:,} weights are zero, the largest magnitude is "
        f"{np.abs(weight).max():.3g}. {values}."
    )


def first_changed(models: Mapping) -> tuple[str, dict]:
    """The name of the first matrix in which models of one shape differ, and its weights (outputs, inputs) by title.

    Weights that a library keeps as integers are read as the model computes with them.
    """
    from kc_utils.models.scopes import matrices

    found = {title: {m.name: m for m in matrices(lm.model)} for title, lm in models.items()}
    one, *others = found.values()
    differ = lambda a, b: a.shape == b.shape and not b.equal(a)  # noqa: E731
    changed = (key for key in one if any(differ(one[key].values, o[key].values) for o in others if key in o))
    key = next(changed, next(iter(one)))
    return key.removesuffix(".weight"), {title: of[key].values for title, of in found.items()}
