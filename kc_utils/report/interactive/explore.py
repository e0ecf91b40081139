"""The fact explorer: pick a relation and a recipe, and see which facts survived, were lost, or appeared."""

from __future__ import annotations

from dataclasses import asdict

from kc_utils.stats.fates import Fates, fates
from kc_utils.report.fragments import Results
from kc_utils.report.interactive.parts import data, scripts
from kc_utils.report.markdown import markdown_table

NOTHING = "No facts whose text may be shown here were asked of a compressed model.\n"
_CONTROLS = """<div id="kc-explore" class="kc-choose" hidden>
<form onsubmit="return false">
<label>Model <select name="model"></select></label>
<label>Facts asked <select name="question"></select></label>
<label>Recipe <select name="recipe"></select></label>
<label>Relation <select name="relation"></select></label>
<label>Show <select name="fate"></select></label>
</form>
<div class="kc-answer" aria-live="polite"></div>
<div class="kc-scroll"><table><thead><tr><th>relation</th><th>subject</th><th>answer</th><th>under this recipe</th></tr></thead>
<tbody></tbody></table></div>
</div>
"""


def explore_page(results: Results) -> tuple[str, str]:
    """A fragment in HTML, with script and data, and one in Markdown: how many facts each recipe lost and gained."""
    found = fates(results)
    if not found:
        return f"<p>{NOTHING.strip()}</p>\n", NOTHING
    return _CONTROLS + data("kc-explore-data", [asdict(one) for one in found]) + scripts("explore"), table(
        max(found, key=lambda one: len(one.facts))
    )


def table(one: Fates) -> str:
    """Facts kept, lost and gained by each recipe, of one question."""
    before, rows = one.right["none"], []
    for recipe, after in one.right.items():
        if recipe != "none":
            pairs = list(zip(before, after, strict=True))
            counts = {"survived": "11", "lost": "10", "appeared": "01"}
            rows.append({"recipe": f"`{recipe}`", **{name: pairs.count(tuple(key)) for name, key in counts.items()}})
    return f"`{one.model}`, {one.question}:\n\n{markdown_table(rows)}\n"
