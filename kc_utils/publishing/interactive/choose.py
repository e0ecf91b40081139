"""The practitioner's page: an interactive chart of knowledge kept against size, and a table beside it for print."""

from __future__ import annotations

import json

import pandas as pd
from plotly.offline import get_plotlyjs

from kc_utils.analysis.findings import percent
from kc_utils.analysis.frontier import offers
from kc_utils.publishing.fragments import Results
from kc_utils.publishing.interactive.parts import data, scripts
from kc_utils.publishing.tables import markdown_table

NOTHING = "No facts were asked of enough versions of a model for a choice among them.\n"
_CONTROLS = """<div id="kc-choose" class="kc-choose" hidden>
<form onsubmit="return false">
<label>Model <select name="model"></select></label>
<label>Facts asked <select name="question"></select></label>
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
    return html(frame), table(frame)


def html(frame: pd.DataFrame) -> str:
    """Controls, Plotly, the data and the script, in one piece."""
    rows = json.loads(frame.to_json(orient="records", double_precision=5))
    plotly = f"<script>{get_plotlyjs()}</script>\n"
    return _CONTROLS + data("kc-choose-data", rows) + plotly + scripts("choose")


def table(frame: pd.DataFrame) -> str:
    """The versions that none beats, of each model and question, from the largest to the smallest."""
    parts = []
    for (model, question), part in frame[frame["frontier"]].groupby(["model", "question"], sort=False):
        rows = [
            {
                "recipe": f"`{r.recipe}`" if r.recipe != "none" else "none",
                "size (MB)": f"{r.megabytes:.3g}",
                "knowledge kept": percent(r.kept),
                "95 % interval": f"{percent(r.low)} to {percent(r.high)}",
            }
            for r in part.sort_values("megabytes", ascending=False).itertuples()
        ]
        parts.append(f"`{model}`, {question}:\n\n{markdown_table(rows)}\n")
    return "\n".join(parts)
