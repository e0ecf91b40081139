"""The practitioner's page: an interactive chart of knowledge kept against size, and a table beside it for print."""

from __future__ import annotations

import json
import math

import pandas as pd
from plotly.offline import get_plotlyjs

from kc_utils.stats.findings import percent
from kc_utils.stats.frontier import offers
from kc_utils.report.fragments import Results
from kc_utils.report.interactive.parts import data, scripts
from kc_utils.report.markdown import markdown_table
from kc_utils.study import speeds

NOTHING = "No facts were asked of enough versions of a model for a choice among them.\n"
_CONTROLS = """<div id="kc-choose" class="kc-choose" hidden>
<form onsubmit="return false">
<label>Model <select name="model"></select></label>
<label>Facts asked <select name="question"></select></label>
<label>Against <select name="axis"></select></label>
<label>Budget (MB) <input name="budget" type="number" min="0" step="1" inputmode="decimal"></label>
</form>
<div class="kc-answer" aria-live="polite"></div>
<div class="kc-plot" role="img" aria-label="Knowledge kept in per cent against the size of the model in megabytes, one point
for each compressed version; the table below has the same versions that none beats"></div>
</div>
"""


def choose_page(*origins: Results) -> tuple[str, str]:
    """A fragment in HTML, with script and data, and one in Markdown, a table of the versions that none beats."""
    frame = offers(*origins)
    if frame.empty:
        return f"<p>{NOTHING.strip()}</p>\n", NOTHING
    frame, measured = with_times(frame)
    return html(frame), table(frame) + measured


def with_times(frame: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The frame with `reading` and `writing`, times as multiples of the uncompressed model's (NaN where no kernel was
    measured), and how they were measured, in a sentence for each model."""
    found = {model: speeds.recorded(model) for model in dict.fromkeys(frame["model"])}
    times = [
        found[m].of(recipe) if found[m] else None for m, recipe in zip(frame["model"], frame["recipe"], strict=True)
    ]
    frame = frame.assign(**{name: [t[name] if t else math.nan for t in times] for name in ("reading", "writing")})
    told = [
        f"Times of `{model}` are multiples of the uncompressed model's in 32-bit numbers: reading {s.what}, and writing one "
        f"token at a time, on {s.processor}, {s.threads} thread{'s' * (s.threads > 1)}, {s.day}. Versions without a time are "
        "computed here by their meaning and not by a kernel."
        for model, s in found.items()
        if s
    ]
    return frame, "".join(f"\n{text}\n" for text in told)


def html(frame: pd.DataFrame) -> str:
    """Controls, Plotly, the data and the script, in one piece."""
    rows = json.loads(frame.to_json(orient="records", double_precision=5))
    plotly = f"<script>{get_plotlyjs()}</script>\n"
    return _CONTROLS + data("kc-choose-data", rows) + plotly + scripts("choose")


def table(frame: pd.DataFrame) -> str:
    """The versions that none beats, model by model and question by question, from the largest to the smallest."""
    parts = []
    best = frame[frame["frontier"]]
    for model, own in best.groupby("model", sort=False):
        parts.append(f"### {model}\n")
        for question, part in own.groupby("question", sort=False):
            timed = part["reading"].notna().any()
            rows = [
                {
                    "recipe": f"`{r.recipe}`" if r.recipe != "none" else "none",
                    "size (MB)": f"{r.megabytes:.3g}",
                    "knowledge kept": percent(r.kept),
                    "95 % interval": f"{percent(r.low)} to {percent(r.high)}",
                }
                | ({"time to read, write": _times(r)} if timed else {})
                for r in part.sort_values("megabytes", ascending=False).itertuples()
            ]
            parts.append(f"**{question}**\n\n{markdown_table(rows)}\n")
    return "\n".join(parts)


def _times(line) -> str:
    return "" if math.isnan(line.reading) else f"{line.reading:.2f}, {line.writing:.2f}"
