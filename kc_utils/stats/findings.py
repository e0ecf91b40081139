"""What we see, in sentences: every number and every comparison is computed from the rows.

A difference is called clear only when McNemar's exact test on the same facts, corrected by Holm's method over the
recipes of the page, falls below 0.05.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from kc_utils.stats.names import METHOD_NAMES, SCOPE_NAMES, TASK, protocol_name, short_protocol

LEVEL = 0.05
FLAT = 1.05
"""A perplexity up to so many times that of the uncompressed model is called flat."""
ASKED = {
    "cloze": "as the likeliest token of the whole vocabulary",
    "rank": "in the closed-set ranking",
    "openbook": "in the closed-set ranking with the fact stated first",
    "openbook-cloze": "as the likeliest token of the whole vocabulary, the fact stated first",
    "generate": "when it answers freely",
}
NBSP = "\u00a0"


def whole(value: float) -> str:
    """A fraction in whole per cent, without its sign of per cent: `63`, `−12`, never `-0`."""
    number = round(100 * value)
    return f"{number}".replace("-", "\u2212")


def number(value: float) -> str:
    """One decimal, two where it is small; a minus sign that reads as one."""
    if not math.isfinite(value):
        return "undefined"
    text = f"{value:.1f}" if abs(value) >= 0.95 or value == 0 else f"{value:.2f}"
    return ("0.0" if float(text) == 0 else text).replace("-", "\u2212")


def decimals(value: float) -> str:
    """A fraction in per cent as `number` writes it, for one that is told beside a limit."""
    return number(100 * value)


def percent(value: float) -> str:
    return "undefined" if value is None or math.isnan(value) else f"{whole(value)}{NBSP}%"


def interval(low: float, high: float) -> str:
    return "interval undefined" if math.isnan(low) else f"{whole(low)} to {whole(high)}{NBSP}%"


def chance_text(chance: float) -> str:
    if chance == 0:
        return "none"
    return f"below 0.1{NBSP}%" if chance < 0.001 else f"{100 * chance:.1f}{NBSP}%"


def baseline_sentence(summary: pd.DataFrame, protocol: str) -> str:
    line = summary[(summary["recipe"] == "none") & (summary["protocol"] == protocol)].iloc[0]
    return (
        f"Uncompressed, {line['model']} gives the right answer {asked(protocol)} for **{percent(line['accuracy'])}** of "
        f"{questions(line)} (95 % interval {interval(line['low'], line['high'])}; chance {chance_text(line['chance'])})."
    )


def questions(line: pd.Series) -> str:
    """What was asked, counted: `40 facts`, `120 questions about 40 facts`, `40 items` of a task."""
    if line["protocol"].startswith(TASK):
        return f"{line['n']} items"
    if line["n"] == line["clusters"]:
        return f"{line['n']} facts"
    return f"{line['n']} questions about {line['clusters']} facts"


def asked(protocol: str) -> str:
    """How a protocol asks, as a part of a sentence."""
    return ASKED.get(protocol, f"in {short_protocol(protocol)}")


def kept(line: pd.Series) -> str:
    """Retention of one recipe with its interval, and the answers that changed."""
    changed = f"{percent(line['lost'])} of all answers turn wrong and {percent(line['gained'])} turn right"
    if math.isnan(line["retention"]):
        return f"knew nothing above chance before, so that nothing can be said of what it keeps; {changed}"
    between = f"({interval(line['retention_low'], line['retention_high'])})"
    much = (
        f"keeps {percent(line['retention'])} of what was known above chance {between}"
        if line["retention"] > 0
        else f"keeps nothing of what was known above chance (retention {percent(line['retention'])} {between})"
    )
    return f"{much}; {changed}"


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
    return [f"`{line['recipe']}` {_verdict(line)}." for _, line in lines.iterrows()]


def _verdict(line: pd.Series) -> str:
    if not line["lost"] + line["gained"]:
        return "changes no answer from right to wrong or back"
    return f"{kept(line)}: a {'clear loss' if clearly_worse(line) else 'difference that may be chance'}"


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
        f"pruning {name} leaves more right answers at {series(amounts)}{NBSP}%"
        for name, amounts in better.items()
        if name
    ]
    if "" in better:
        parts.append(f"the intervals overlap, so this page cannot tell the two apart, at {series(better[''])}{NBSP}%")
    return (
        f"{protocol_name(protocol).partition(':')[0]}, {SCOPE_NAMES[scopes[0]]} against {SCOPE_NAMES[scopes[1]]} at equal "
        f"sparsity: {'; '.join(parts)}. At equal sparsity {SCOPE_NAMES[scopes[1]]} loses {sum(ratios) / len(ratios):.1f} times "
        "as many weights."
    )


def series(parts: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


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


def smallest_without_clear_loss(summary: pd.DataFrame, protocol: str) -> str:
    """Of the recipes that lose nothing clearly, the one whose model takes the fewest bytes."""
    lines = summary[(summary["recipe"] != "none") & (summary["protocol"] == protocol)]
    lines = lines[lines["compression_ratio"].notna()]
    if lines.empty:
        return ""
    fine = lines[[not clearly_worse(line) for _, line in lines.iterrows()]]
    name = protocol_name(protocol).partition(":")[0]
    if fine.empty:
        return f"{name}: every recipe on this page loses clearly."
    best = fine.sort_values("compression_ratio", kind="stable").iloc[-1]
    alone = "it is" if len(fine) == 1 else "the smallest model among them is that of"
    return (
        f"{name}: {len(fine)} of {len(lines)} recipes lose nothing clearly; {alone} `{best['recipe']}`, "
        f"{best['compression_ratio']:.2f} times smaller than the uncompressed one at 16{NBSP}bits a value."
    )


def duel_sentences(duels: pd.DataFrame, protocol: str) -> list[str]:
    """For each pair of recipes: who has more right answers, and whether that is clear."""
    sentences = []
    for _, line in duels[duels["protocol"] == protocol].iterrows():
        first = METHOD_NAMES.get(line["method"], line["method"])
        rival = METHOD_NAMES.get(line["rival"].partition("@")[0], line["rival"])
        if not line["only_first"] + line["only_rival"]:
            verdict = "not one answer differs in being right"
        elif line["p_holm"] < LEVEL:
            better = first if line["accuracy"] > line["rival_accuracy"] else rival
            verdict = f"a clear difference, in favour of {better}"
        else:
            verdict = "a difference that may be chance"
        scope = SCOPE_NAMES.get(line["scope"], line["scope"])
        sentences.append(
            f"**{scope}, {line['bits']:g}{NBSP}bits**: {percent(line['accuracy'])} right by {first}, "
            f"{percent(line['rival_accuracy'])} by {rival}; {percent(line['only_first'])} of all answers are right under "
            f"{first} alone, {percent(line['only_rival'])} under {rival} alone: {verdict}."
        )
    return sentences


def surprise_sentences(summary: pd.DataFrame, surprises: pd.DataFrame, protocol: str) -> list[str]:
    """Perplexity beside recall: what it is without compression, and whether it shows the losses of facts."""
    base = surprises[surprises["recipe"] == "none"].iloc[0]
    sentences = [
        f"Uncompressed, the perplexity of {base['text']} is {base['perplexity']:.1f} per token "
        f"({base['bits_per_byte']:.2f} bits per byte; {base['tokens']:,} tokens in {base['n']} windows)."
    ]
    lines = summary[(summary["protocol"] == protocol) & (summary["recipe"] != "none")]
    clear = lines[[clearly_worse(line) for _, line in lines.iterrows()]]
    beside = surprises.set_index("recipe")
    if clear.empty:
        return [*sentences, f"No recipe of this page loses facts clearly {asked(protocol)}."]
    flat = [r for r in clear["recipe"] if beside.loc[r, "ratio"] <= FLAT]
    sentences.append(
        f"Of {len(clear)} recipes that clearly lose facts {asked(protocol)}, {len(flat)} raise perplexity by no more than "
        f"{percent(FLAT - 1)}."
    )
    mildest = clear.sort_values("accuracy", ascending=False, kind="stable").iloc[0]
    line = beside.loc[mildest["recipe"]]
    return [
        *sentences,
        f"Under `{mildest['recipe']}`, the mildest clear loss, the model {kept(mildest)}; {_raised(line)}.",
    ]


def _raised(line: pd.Series) -> str:
    if not math.isfinite(line["ratio"]):
        return "its perplexity is endless, as its scores are not all numbers"
    between = (
        "interval undefined"
        if math.isnan(line["ratio_low"])
        else f"{line['ratio_low']:.2f} to {line['ratio_high']:.2f}"
    )
    return f"its perplexity is {line['ratio']:.2f} times the uncompressed one ({between})"


def fate_sentence(fates: pd.DataFrame, recipe: str) -> str:
    """Forgotten or broken, under one recipe. Empty where the run asked no open-book twins."""
    lines = fates[fates["recipe"] == recipe].set_index("fate") if len(fates) else fates
    if lines.empty:
        return ""
    words = {
        fate: f"{percent(lines.loc[fate, 'share'])} ({interval(lines.loc[fate, 'low'], lines.loc[fate, 'high'])})"
        for fate in ("forgotten", "broken", "misread")
    }
    first = lines.iloc[0]
    text = (
        f"Under `{recipe}`, of the {first['n']} questions that the uncompressed model answers both from memory and when the "
        f"fact is stated, {words['forgotten']} are forgotten, {words['broken']} broken and {words['misread']} misread."
    )
    if math.isnan(first["gap"]):
        return text
    low, high = first["gap_low"], first["gap_high"]
    if low > 0:
        verdict = "knowledge suffers more than reading"
    elif high < 0:
        verdict = "reading suffers more than knowledge"
    else:
        verdict = "this page cannot tell whether knowledge or reading suffers more"
    return (
        f"{text} Retention when stated less retention from memory is {whole(first['gap'])} points "
        f"({interval(low, high).removesuffix(NBSP + '%')}): {verdict}."
    )


def agreement_sentence(agreements: pd.DataFrame, recipe: str, protocol: str) -> str:
    """How often two wordings of a fact get one answer, before and after."""
    lines = agreements[agreements["protocol"] == protocol].set_index("recipe") if len(agreements) else agreements
    if recipe not in lines.index:
        return ""
    line = lines.loc[recipe]
    return (
        f"{protocol_name(protocol).partition(':')[0]}: two wordings of a fact get the same answer in "
        f"{percent(line['baseline_value'])} of all pairs before, in {percent(line['value'])} "
        f"({interval(line['low'], line['high'])}) under `{recipe}` ({line['facts']} facts)."
    )
