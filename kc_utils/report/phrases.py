"""Numbers, intervals and verdicts in words: what a sentence that compares is made of, and what a table shows.

A loss is called clear where `kc_utils.stats.compare` calls it so; nothing here decides anything.
"""

import math
from collections.abc import Sequence

import pandas as pd
from IPython.display import Markdown

from kc_utils.stats.decision import LEAST, LEVEL, MARGIN
from kc_utils.stats.names import METHOD_NAMES, SCOPE_NAMES, TASK, protocols_in_order, short_protocol

NBSP = "\u00a0"
QUERIED = {
    "cloze": "as the likeliest token of the whole vocabulary",
    "rank": "in the closed-set ranking",
    "openbook": "in the closed-set ranking with the fact stated first",
    "openbook-cloze": "as the likeliest token of the whole vocabulary with the fact stated first",
    "generate": "in free generation",
}
FLAT = 1.05
"""A perplexity up to this many times that of the uncompressed model is called flat."""


def whole(value: float) -> str:
    """Write a fraction in whole per cent without the sign of per cent: `63`, `−12`, never `-0`."""
    return f"{round(100 * value)}".replace("-", "\u2212")


def number(value: float) -> str:
    """Write a number with one decimal, with two where it is small; `undefined` where it is not finite."""
    if not math.isfinite(value):
        return "undefined"
    text = f"{value:.1f}" if abs(value) >= 0.95 or value == 0 else f"{value:.2f}"
    return ("0.0" if float(text) == 0 else text).replace("-", "\u2212")


def percent(value: float | None) -> str:
    """Write a fraction in whole per cent: `63 %`."""
    return "undefined" if value is None or math.isnan(value) else f"{whole(value)}{NBSP}%"


def interval(low: float, high: float) -> str:
    """Write an interval of fractions: `57 to 68 %`."""
    return "interval undefined" if math.isnan(low) else f"{whole(low)} to {whole(high)}{NBSP}%"


def chance(value: float) -> str:
    """Write a chance level: `25.0 %`, `below 0.1 %`, `none`."""
    return "none" if value == 0 else f"below 0.1{NBSP}%" if value < 0.001 else f"{100 * value:.1f}{NBSP}%"


def series(parts: Sequence[str]) -> str:
    """Join as in a sentence: `a`, `a and b`, `a, b and c`."""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def p_value(p: float) -> str:
    return "" if pd.isna(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def sample_size(line: pd.Series) -> str:
    """Write what an accuracy is a share of: `40 facts`, `120 queries about 40 facts`, `40 items` of a task."""
    n, facts = line["n"], line["clusters"]
    if str(line["protocol"]).startswith(TASK):
        return f"{n} items"
    return f"{n} facts" if n == facts else f"{n} queries about {facts} facts"


def sizes(table: pd.DataFrame) -> str:
    """Write the sample size of each protocol: `n = 500` where all are alike."""
    counts = table.drop_duplicates("protocol").set_index("protocol")["n"]
    if counts.nunique() == 1:
        return f"n = {counts.iloc[0]}"
    return ", ".join(f"n = {n} in {short_protocol(protocol)}" for protocol, n in counts.items())


def baseline(table: pd.DataFrame, protocol: str) -> str:
    """State the accuracy of the uncompressed model, with interval, sample size and chance."""
    line = table[(table["recipe"] == "none") & (table["protocol"] == protocol)].iloc[0]
    how = QUERIED.get(protocol, f"in {short_protocol(protocol)}")
    alone = (
        "" if pd.isna(line.get("static")) else f" Its word embeddings alone choose the right one for {percent(line['static'])}."
    )
    return (
        f"Uncompressed, {line['model']} gives the right answer {how} for **{percent(line['accuracy'])}** of "
        f"{sample_size(line)} (95 % interval {interval(line['low'], line['high'])}; chance {chance(line['chance'])}).{alone}"
    )


def kept(line: pd.Series) -> str:
    """State the retention of one recipe with its interval, and the answers that changed."""
    changed = f"{percent(line['lost'])} of all answers turn wrong and {percent(line['gained'])} turn right"
    if math.isnan(line["retention"]):
        return f"did not beat chance before, so that nothing can be said of what it keeps; {changed}"
    between = interval(line["retention_low"], line["retention_high"])
    return f"keeps {percent(line['retention'])} of what it knew above chance ({between}); {changed}"


def amount(line: pd.Series) -> str:
    """Write how much a recipe compresses: `50 % sparsity`, `4 bits`, or the recipe where it takes no amount."""
    if line["pruned"]:
        return f"{100 * line['pruned']:g}{NBSP}% sparsity"
    return f"{line['bits']:g}{NBSP}bits" if pd.notna(line["amount"]) else f"`{line['recipe']}`"


def named(value: str) -> str:
    """A scope, a method or a relation as a sentence names it."""
    return SCOPE_NAMES.get(value, METHOD_NAMES.get(value, str(value).replace("_", " ")))


def losses(table: pd.DataFrame, protocol: str, by: str = "scope") -> list[str]:
    """State, for each group of recipes, where a loss is first clear, what is kept there and at the strongest recipe.

    A group holds the recipes of one method and one value of `by`; a method without an amount is stated by itself.
    """
    lines = table[(table["recipe"] != "none") & (table["protocol"] == protocol)]
    found = []
    for keys, group in lines.groupby(list(dict.fromkeys([by, "method", "steps"])), sort=False, observed=True):
        group = group.sort_values(["pruned", "bits"], ascending=[True, False])
        if len(group) == 1 or keys[-1] > 1:
            found += [f"`{line['recipe']}` {verdict(line)}." for _, line in group.iterrows()]
            continue
        alone = by == "method" or lines["method"].nunique() == 1
        name = ", ".join(map(named, keys[: 1 if alone else 2]))
        clear, last = group[group["clear"]], group.iloc[-1]
        if clear.empty:
            tested = series([amount(x) for _, x in group.iterrows()])
            found.append(f"**{name}**: no clear loss at any amount tested ({tested}); {unseen(last)}.")
            continue
        first = clear.iloc[0]
        text = f"**{name}**: the loss is first clear at {amount(first)}, where the model {kept(first)}."
        if last["recipe"] != first["recipe"]:
            text += f" At {amount(last)} it keeps {percent(last['retention'])}."
        found.append(text)
    return found


def unseen(line: pd.Series) -> str:
    """State what "no clear loss" leaves open: equality within the margin, or the loss that these facts could have shown."""
    if line["equal"]:
        return f"at {amount(line)} the model equals the uncompressed one within {whole(MARGIN)} points"
    if math.isnan(line["visible"]):
        return "it did not beat chance before"
    return f"at {amount(line)} {seen(line['visible'])}"


def seen(visible: float) -> str:
    """State the smallest loss of knowledge that would most likely have shown; of few facts none would."""
    return f"one of {whole(visible)} points would have shown" if visible < 1 else "none would surely have shown"


def verdict(line: pd.Series) -> str:
    """State what one recipe costs, and whether the loss is clear."""
    if not line["lost"] + line["gained"]:
        return "changes no answer from right to wrong or back"
    return f"{kept(line)}: a {'clear loss' if line['clear'] else 'difference that may be chance'}"


def pair(line: pd.Series) -> str:
    """State how a recipe and its rival differ on the same facts (a line of `compare(rows, against={...})`)."""
    if not line["lost"] + line["gained"]:
        which = "not one answer differs in being right"
    elif line["p_holm"] < LEVEL and abs(line["difference"]) >= LEAST:
        better = line["recipe"] if line["difference"] > 0 else line["against"]
        which = f"a clear difference, in favour of `{better}`"
    else:
        which = "a difference that may be chance"
    return (
        f"`{line['recipe']}` against `{line['against']}`, {short_protocol(line['protocol'])}: "
        f"{percent(line['accuracy'])} against {percent(line['baseline_accuracy'])} right; {percent(line['gained'])} of all "
        f"answers are right under the first alone, "
        f"{percent(line['lost'])} under the second alone: {which}."
    )


def perplexities(table: pd.DataFrame) -> list[str]:
    """State the perplexity of the uncompressed model, under how many recipes it stays flat, and where it rises most."""
    base, rest = table[table["recipe"] == "none"].iloc[0], table[table["recipe"] != "none"]
    found = [
        f"Uncompressed, the perplexity of {base['text']} is {base['perplexity']:.1f} per token ({base['bits_per_byte']:.2f} "
        f"bits per byte; {base['tokens']:,} tokens in {base['n']} windows)."
    ]
    flat = rest[rest["ratio"] <= FLAT]
    found.append(f"It rises by no more than {percent(FLAT - 1)} under {len(flat)} of {len(rest)} recipes.")
    for _, line in rest.sort_values("ratio").tail(1).iterrows():
        if not math.isfinite(line["ratio"]):
            found.append(f"Under `{line['recipe']}` it is infinite, as the scores are not all numbers.")
            continue
        between = f"{line['ratio_low']:.2f} to {line['ratio_high']:.2f}"
        found.append(f"It rises most under `{line['recipe']}`: {line['ratio']:.2f} times the uncompressed one ({between}).")
    return found


def fates(table: pd.DataFrame) -> list[str]:
    """State for each recipe what became of the facts that were answered both from memory and when stated."""
    found = []
    for recipe, lines in table[table["recipe"] != "none"].groupby("recipe", sort=False):
        first, lines = lines.iloc[0], lines.set_index("fate")
        others = lines.drop(index="kept", errors="ignore").iterrows()
        parts = [f"{percent(x['share'])} ({interval(x['low'], x['high'])}) are {fate}" for fate, x in others]
        text = f"Under `{recipe}`, of {first['n']} facts answered both ways before, {series(parts)}."
        if not math.isnan(first["gap"]):
            low, high = first["gap_low"], first["gap_high"]
            which = (
                "knowledge suffers more than reading" if low > 0
                else "reading suffers more than knowledge" if high < 0
                else "undecided whether knowledge or reading suffers more"
            )  # fmt: skip
            gap = f"{whole(first['gap'])} points ({interval(low, high)[:-2]})"
            text += f" Retention when stated less retention from memory: {gap}, {which}."
        found.append(text)
    return found


def agreements(table: pd.DataFrame) -> list[str]:
    """State for each protocol how often two paraphrases get one answer, before and under the recipe with the least."""
    found = []
    for protocol, lines in table[table["recipe"] != "none"].groupby("protocol", sort=False):
        least = lines.sort_values("value", kind="stable").iloc[0]
        found.append(
            f"{short_protocol(protocol).capitalize()}: two paraphrases of a fact get the same answer in "
            f"{percent(least['baseline_value'])} of all pairs before, and least often under `{least['recipe']}`: "
            f"{percent(least['value'])} ({interval(least['low'], least['high'])}; {least['facts']} facts)."
        )
    return found


def state(table: pd.DataFrame, by: str | None = None) -> Markdown | None:
    """State in sentences what a table shows: of `compare`, with or without `against`, of `perplexity`, `fates`, `agreement`.

    by: the column whose values are stated one by one (`scope`, `method`). Returns None for an empty table.

    >>> state(compare(rows), by="scope")
    """
    if table.empty:
        return None
    if "perplexity" in table:
        found = perplexities(table)
    elif "fate" in table:
        found = fates(table)
    elif "baseline_value" in table:
        found = agreements(table)
    elif not set(table["against"]) <= {"none"}:
        found = [pair(line) for _, line in table[table["recipe"] != table["against"]].iterrows()]
    else:
        found = []
        for protocol in protocols_in_order(table["protocol"]):
            found += [baseline(table, protocol), *losses(table, protocol, by or "scope")]
    return Markdown("\n".join(f"- {text}" for text in found))
