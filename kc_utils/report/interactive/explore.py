"""The fact explorer: pick a relation and a recipe, and see which facts survived, were lost, or appeared."""

import pandas as pd

from kc_utils.probing.sources import facts as facts_of
from kc_utils.report.interactive import page
from kc_utils.report.tables import markdown_table
from kc_utils.stats.names import CLOSED_BOOK, model_name, short_protocol

SHOWN = ("worldfacts", "lab")
"""Sources whose facts may be shown: those built by this project."""
NOTHING = "No facts whose text may be shown here were evaluated under a recipe.\n"


def explore_page(rows: pd.DataFrame) -> tuple[str, str]:
    """A fragment in HTML, with script and data, and one in Markdown: how many facts each recipe lost and gained."""
    found = [] if rows.empty else fates(rows)
    if not found:
        return f"<p>{NOTHING.strip()}</p>\n", NOTHING
    most = max(found, key=lambda one: len(one["facts"]))
    return page("explore", found), table(most)


def fates(rows: pd.DataFrame) -> list[dict]:
    """What became of every fact, for each model and closed-book question: `facts`, triples of relation, subject and answer,
    and `right`: recipe -> a text of `1` for a correct answer to the first template and `0` for another, fact by fact.

    rows: of `kc.results` or `kc.evaluate`. Language models come first, and the largest sample of a model.
    """
    own = [source for source in rows["facts"].unique() if source.partition(":")[0] in SHOWN]
    rows = rows[rows["protocol"].isin(CLOSED_BOOK) & rows["facts"].isin(own)]
    found: dict[tuple, dict] = {}
    for (model, source, protocol, _), part in rows.groupby(["model", "facts", "protocol", "probe"], sort=False, observed=True):
        first = part.sort_values("template", kind="stable").drop_duplicates(["recipe", "fact"])
        correct = first.pivot(index="fact", columns="recipe", values="correct").dropna()
        if "none" not in correct or correct.shape[1] < 2:
            continue
        known = facts_of(source).set_index("id")
        known = known[known.index.isin(correct.index)]
        triples = tuple((r.relation.replace("_", " "), r.subject, r.answers[0]) for r in known.itertuples())
        key = (model_name(model), f"{source}, {short_protocol(protocol)}, {len(known)} facts", triples)
        digits = correct.loc[known.index].astype(int).astype(str)
        right = {recipe: "".join(digits[recipe]) for recipe in digits}
        found.setdefault(key, {}).update(right)
    whole = [{"model": m, "question": q, "facts": facts, "right": right} for (m, q, facts), right in found.items()]
    return sorted(whole, key=lambda one: (one["model"].startswith("lab:"), one["model"], -len(one["facts"])))


def table(one: dict) -> str:
    """Facts kept, lost and gained under each recipe, of one question."""
    before, rows = one["right"]["none"], []
    for recipe, after in one["right"].items():
        if recipe != "none":
            pairs = list(zip(before, after, strict=True))
            counts = {"survived": "11", "lost": "10", "appeared": "01"}
            rows.append({"recipe": f"`{recipe}`", **{name: pairs.count(tuple(key)) for name, key in counts.items()}})
    return f"`{one['model']}`, {one['question']}:\n\n{markdown_table(rows)}\n"
