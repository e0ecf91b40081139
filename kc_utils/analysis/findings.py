"""What we see, in sentences: every number and every comparison is computed from the rows.

A difference is called clear only when McNemar's exact test on the same facts, corrected by Holm's method over the
recipes of the page, falls below 0.05.
"""

from __future__ import annotations

import math

import pandas as pd

from kc_utils.analysis.summary import PROTOCOL_NAMES, SCOPE_NAMES

LEVEL = 0.05
ASKED = {"cloze": "as the likeliest next token", "rank": "in the closed-set ranking"}


NBSP = "\u00a0"


def whole(value: float) -> str:
    """A fraction in whole per cent, without its sign of per cent: `63`, `−12`, never `-0`."""
    number = round(100 * value)
    return f"{number}".replace("-", "\u2212")


def percent(value: float) -> str:
    return "undefined" if value is None or math.isnan(value) else f"{whole(value)}{NBSP}%"


def interval(low: float, high: float) -> str:
    return "interval undefined" if math.isnan(low) else f"{whole(low)} to {whole(high)}{NBSP}%"


def chance_text(chance: float) -> str:
    return f"below 0.1{NBSP}%" if chance < 0.001 else f"{100 * chance:.1f}{NBSP}%"


def baseline_sentence(summary: pd.DataFrame, protocol: str) -> str:
    line = summary[(summary["recipe"] == "none") & (summary["protocol"] == protocol)].iloc[0]
    return (
        f"Uncompressed, {line['model']} gives the right answer {ASKED[protocol]} for **{percent(line['accuracy'])}** of "
        f"{line['n']} facts (95 % interval {interval(line['low'], line['high'])}; chance {chance_text(line['chance'])})."
    )


def kept(line: pd.Series) -> str:
    """Retention of one recipe with its interval, and the answers that changed."""
    between = f"({interval(line['retention_low'], line['retention_high'])})"
    much = (
        f"keeps {percent(line['retention'])} of what was known above chance {between}"
        if line["retention"] > 0
        else f"keeps nothing of what was known above chance (retention {percent(line['retention'])} {between})"
    )
    return f"{much}; {percent(line['lost'])} of all answers turn wrong and {percent(line['gained'])} turn right"


def clearly_worse(line: pd.Series) -> bool:
    return bool(line["p_holm"] < LEVEL and line["accuracy"] < line["baseline_accuracy"])


def loss_by_group(
    summary: pd.DataFrame, protocol: str, group: str, names: dict, amount: str, unit: str, harsher: str = "up"
) -> list[str]:
    """For each group: the mildest amount with a clear loss, and what is left there and at the harshest amount.

    amount: the column that says how much, written with `unit`, fractions in per cent; harsher: whether more of it (`up`)
    or less of it (`down`) compresses more."""
    sentences = []
    frame = summary[(summary["recipe"] != "none") & (summary["protocol"] == protocol)]
    for value, lines in frame.groupby(group, sort=False, observed=True):
        lines = lines.sort_values(amount, ascending=harsher == "up")
        name = names.get(value, value)
        clear = lines[[clearly_worse(line) for _, line in lines.iterrows()]]
        if clear.empty:
            tested = ", ".join(_amount(a, unit) for a in lines[amount])
            sentences.append(f"**{name}**: no clear loss at any amount tested ({tested}).")
            continue
        first, last = clear.iloc[0], lines.iloc[-1]
        text = f"**{name}**: the loss is first clear at {_amount(first[amount], unit)}, where the model {kept(first)}."
        if last[amount] != first[amount]:
            text += f" At {_amount(last[amount], unit)} it keeps {percent(last['retention'])}."
        sentences.append(text)
    return sentences


def lines_of(summary: pd.DataFrame, protocol: str) -> list[str]:
    """One sentence for each recipe of the frame."""
    lines = summary[(summary["recipe"] != "none") & (summary["protocol"] == protocol)]
    return [
        f"`{line['recipe']}` {kept(line)}: a {'clear loss' if clearly_worse(line) else 'difference that may be chance'}."
        for _, line in lines.iterrows()
    ]


def _amount(value: float, unit: str) -> str:
    return f"{100 * value:g}{NBSP}{unit}" if unit.startswith("%") else f"{value:g}{NBSP}{unit}"


def scope_contrast(summary: pd.DataFrame, protocol: str, scopes=("attention", "feed_forward")) -> str:
    """Two scopes at equal sparsity: where one keeps more with intervals apart, and where the page cannot tell."""
    frame = summary[(summary["protocol"] == protocol) & (summary["steps"] == 1) & summary["scope"].isin(scopes)]
    better: dict[str, list[str]] = {}
    ratios = []
    for amount, lines in frame.groupby("pruned"):
        if len(lines) != 2 or not amount:
            continue
        low, high = (line for _, line in lines.sort_values("accuracy").iterrows())
        winner = SCOPE_NAMES[high["scope"]] if low["high"] < high["low"] else ""
        better.setdefault(winner, []).append(f"{100 * amount:g}")
        removed = lines.set_index("scope")["weights_removed"]
        ratios.append(removed[scopes[1]] / removed[scopes[0]])
    if not better:
        return ""
    parts = [
        f"pruning {name} leaves more right answers at {_series(amounts)}{NBSP}%"
        for name, amounts in better.items()
        if name
    ]
    if "" in better:
        parts.append(f"the intervals overlap, so this page cannot tell the two apart, at {_series(better[''])}{NBSP}%")
    return (
        f"{PROTOCOL_NAMES[protocol].partition(':')[0]}, {SCOPE_NAMES[scopes[0]]} against {SCOPE_NAMES[scopes[1]]} at equal "
        f"sparsity: {'; '.join(parts)}. At equal sparsity {SCOPE_NAMES[scopes[1]]} loses {sum(ratios) / len(ratios):.1f} times "
        "as many weights."
    )


def _series(amounts: list[str]) -> str:
    return amounts[0] if len(amounts) == 1 else ", ".join(amounts[:-1]) + " and " + amounts[-1]


def head_and_tail_sentence(halves: pd.DataFrame, recipe: str, protocol: str) -> str:
    """How the popular and the less popular half of the facts fare under one recipe."""
    frame = halves[halves["protocol"] == protocol].set_index(["recipe", "half"])
    try:
        pairs = {half: (frame.loc[("none", half)], frame.loc[(recipe, half)]) for half in ("head", "tail")}
    except KeyError:
        return ""
    words = {half: f"{percent(a['accuracy'])} to {percent(b['accuracy'])}" for half, (a, b) in pairs.items()}
    n = {half: a["n"] for half, (a, _) in pairs.items()}
    return (
        f"Under `{recipe}` the better-known half of the facts (n = {n['head']}) goes from {words['head']}, the other half "
        f"(n = {n['tail']}) from {words['tail']}."
    )


def combination_sentences(summary: pd.DataFrame, protocol: str) -> list[str]:
    """For each pruned-then-quantized recipe: what it keeps, beside what either step alone keeps."""
    frame = summary[summary["protocol"] == protocol].set_index("recipe")
    sentences = []
    for recipe, line in frame[frame["steps"] == 2].iterrows():
        first, second = recipe.split("+")
        if first in frame.index and second in frame.index:
            sentences.append(
                f"`{recipe}` keeps {percent(line['retention'])} ({interval(line['retention_low'], line['retention_high'])}); "
                f"`{first}` alone keeps {percent(frame.loc[first, 'retention'])}, `{second}` alone "
                f"{percent(frame.loc[second, 'retention'])}."
            )
    return sentences
