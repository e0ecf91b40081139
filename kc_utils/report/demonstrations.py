"""What the chapters on techniques show: matrices, figures and tables, each with words for who cannot see it.

All is shown as HTML, so that a chapter looks alike in the book and when it is opened as a notebook.
"""

import base64
from collections.abc import Mapping, Sequence
from html import escape

import matplotlib.pyplot as plt
import pandas as pd
import torch
from IPython.display import HTML, Markdown, display

from kc_utils.compression.encodings import Encoded, encode
from kc_utils.report.drawing import png, theme
from kc_utils.report.weights import heatmaps, in_words

__all__ = ["error", "figure", "matrices", "plt", "say", "table", "theme", "written"]


def figure(fig: plt.Figure, caption: str, alt: str) -> None:
    """Show a figure with a caption and an alternative text, and close it."""
    display(
        HTML(
            f'<figure class="align-center"><img src="data:image/png;base64,{base64.b64encode(png(fig)).decode()}" '
            f'alt="{escape(alt)}" style="width: {round(96 * fig.get_figwidth())}px"><figcaption><p>{escape(caption)}</p>'
            "</figcaption></figure>"
        )
    )


def matrices(panels: Mapping[str, torch.Tensor], caption: str, columns: int = 2) -> None:
    """Show matrices (outputs, inputs) of one shape by their titles; zeros are left white and marked with a dot."""
    panels = {title: matrix.numpy() for title, matrix in panels.items()}
    fig = heatmaps(panels, columns, 3.5, numbers=True)
    figure(fig, caption, " ".join(in_words(title, matrix) for title, matrix in panels.items()))


def table(rows: Sequence[Mapping], caption: str) -> None:
    """Show rows as a table with a caption; the first one's keys are the header, the first column names the row."""
    name = next(iter(rows[0]))
    frame = pd.DataFrame(rows, dtype=object).astype(str).set_index(name).rename_axis(index=None, columns=name)
    with pd.option_context("display.max_colwidth", None):
        html = frame.to_html(border=0, justify="left", classes="table kc-numbers")
    captioned = html.replace("<thead>", f"<caption>{escape(caption)}</caption><thead>", 1)
    display(HTML(f'<div class="kc-scroll">{captioned}</div>'))


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
