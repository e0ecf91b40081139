"""Figures that a person can understand alone: axes with units, 95 % intervals, the uncompressed model, chance.

Every function returns a `Picture`, which a notebook shows as PNG with caption, label and alternative text.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

import matplotlib.pyplot as plt
import pandas as pd

from kc_utils.report import figures

PAGE_INCHES = 9.8  # width of a figure that fills the page


@dataclass(frozen=True)
class Picture:
    """A figure with its caption, its label in the book (`name`) and its content in words (`alt`)."""

    figure: plt.Figure
    caption: str
    alt: str
    name: str

    @property
    def axes(self) -> list[plt.Axes]:
        return self.figure.axes

    def _repr_mimebundle_(self, include=None, exclude=None):
        width = min(100, round(100 * self.figure.get_figwidth() / PAGE_INCHES))
        about = {"name": self.name, "caption": self.caption, "alt": self.alt, "width": f"{width}%"}
        png = base64.b64encode(figures.png(self.figure)).decode()
        return {"image/png": png, "text/plain": self.alt}, {"kc": about}


def curve(table: pd.DataFrame, x: str, y: str = "accuracy", hue: str = "scope", col: str = "protocol", caption: str = "", name: str | None = None) -> Picture:
    """Draw one line per value of `hue` against `x`, with 95 % intervals, one panel per value of `col`."""
    low, high = ("low", "high") if y == "accuracy" else (f"{y}_low", f"{y}_high")
    levels = {"accuracy": ("baseline_accuracy", "chance")}.get(y, (None, None))
    frame = table[table["recipe"] != "none"]
    fig = figures.panels(frame, x=x, hue=hue, xlabel=x, ylabel=f"{y} (%)", column=col, y=y, low=low, high=high, reference=levels[0], chance=levels[1])
    what = caption or f"{y} by {x}"
    return Picture(fig, what, figures.describe(frame, x, hue, what, column=col, y=y), name or f"{y}-{x}".replace("_", "-"))
