"""What the chapters on techniques show: matrices, figures and tables, each with words for who cannot see it.

All is shown as HTML, so that a chapter looks alike in the book and when it is opened as a notebook. Only matplotlib and
torch are imported: a chapter is executed whenever the book is built, and most of its time goes into imports.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape

import matplotlib

matplotlib.use("Agg", force=False)

import matplotlib.pyplot as plt
import torch
from IPython.display import HTML, Markdown, display
from matplotlib.colors import LinearSegmentedColormap

from kc_utils.compression.encodings import Encoded, encode

BLUE, ORANGE, GREEN, RED, PURPLE = "#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc"  # seaborn's "colorblind"
INK, FAINT = "#222222", "#767676"
_SIGNED = LinearSegmentedColormap.from_list("signed", ["#8cbfe0", "#ffffff", "#f6c777"])  # pale: numbers stand on it
PANEL = 3.5  # inches across a matrix


def theme() -> None:
    """White ground, faint grid, letters that survive a phone."""
    plt.rcParams.update(
        {
            "font.size": 11, "axes.titlesize": 11, "axes.titlelocation": "left", "axes.titleweight": "bold",
            "axes.edgecolor": "#bbbbbb", "axes.grid": True, "axes.axisbelow": True, "grid.color": "#e6e6e6",
            "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False,
            "axes.prop_cycle": matplotlib.cycler(color=[BLUE, ORANGE, GREEN, RED, PURPLE]),
        }
    )  # fmt: skip


def figure(fig: plt.Figure, caption: str, alt: str) -> None:
    """Show a figure with a caption and an alternative text, and close it."""
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=160, bbox_inches="tight", facecolor="white")
    plt.close(fig)
    picture = base64.b64encode(buffer.getvalue()).decode()
    width = round(96 * fig.get_figwidth())
    display(
        HTML(
            f'<figure class="align-center"><img src="data:image/png;base64,{picture}" alt="{escape(alt)}" '
            f'style="width: {width}px"><figcaption><p>{escape(caption)}</p></figcaption></figure>'
        )
    )


def matrices(panels: Mapping[str, torch.Tensor], caption: str, columns: int = 2) -> None:
    """Show matrices (outputs, inputs) of one shape by their titles; zeros are left white and marked with a dot."""
    theme()
    rows = -(-len(panels) // columns)
    outputs, inputs = next(iter(panels.values())).shape
    height = PANEL * outputs / inputs + 0.4
    fig, axes = plt.subplots(
        rows, columns, figsize=(PANEL * columns, height * rows), squeeze=False, layout="constrained"
    )
    largest = max(float(m.abs().max()) for m in panels.values())
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    for place, (ax, (title, matrix)) in enumerate(zip(axes.flat, panels.items(), strict=False)):
        ax.imshow(matrix.numpy(), cmap=_SIGNED, vmin=-largest, vmax=largest, aspect="equal")
        for (i, j), value in zip(torch.cartesian_prod(*map(torch.arange, matrix.shape)), matrix.flatten(), strict=True):
            text = "•" if value == 0 else f"{value:.2f}".replace("-", "\u2212")
            number = ax.text(j, i, text, ha="center", va="center", fontsize=8.5, color=FAINT if value == 0 else INK)
            number.set_in_layout(False)  # inside the axes: measuring each one takes most of the time of a figure
        ax.set_title(title)
        ax.set_xticks(range(inputs), range(1, inputs + 1), fontsize=8.5)
        ax.set_yticks(range(outputs), range(1, outputs + 1), fontsize=8.5)
        ax.tick_params(length=0)
        ax.grid(False)
        ax.set_xlabel("input" if place >= len(panels) - columns else "")
        ax.set_ylabel("output" if place % columns == 0 else "")
    figure(fig, caption, " ".join(in_words(title, matrix) for title, matrix in panels.items()))


def in_words(title: str, matrix: torch.Tensor) -> str:
    """A matrix for who cannot see it: its zeros, and its values row by row."""
    rows = "; ".join(", ".join("0" if v == 0 else f"{v:.2f}" for v in row.tolist()) for row in matrix)
    return f"{title}: {int((matrix == 0).sum())} of {matrix.numel()} weights are zero. Rows: {rows}."


def table(rows: Sequence[Mapping], caption: str) -> None:
    """Show rows as a table with a caption; the first one's keys are the header, the first column names the row."""
    header = "".join(f'<th scope="col">{escape(str(key))}</th>' for key in rows[0])
    body = []
    for row in rows:
        first, *rest = (escape(str(value)) for value in row.values())
        body.append(f'<tr><th scope="row">{first}</th>{"".join(f"<td>{value}</td>" for value in rest)}</tr>')
    display(
        HTML(
            f'<div class="kc-scroll"><table class="table kc-numbers"><caption>{escape(caption)}</caption>'
            f"<thead><tr>{header}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
        )
    )


def say(text: str) -> None:
    """Show a sentence with numbers that were just computed."""
    display(Markdown(text))


def written(weight: torch.Tensor) -> Encoded:
    """A matrix (outputs, inputs) as it would be stored in bfloat16, in the encoding that takes the fewest bytes."""
    halves = weight.detach().bfloat16().contiguous()
    return encode(halves.view(torch.int16).numpy().view("uint16"), (halves != 0).numpy(), 16)


def error(exact: torch.Tensor, now: torch.Tensor) -> float:
    """How far `now` is from `exact`: length of the difference over length of what it should be."""
    return float((now - exact).norm() / exact.norm())
