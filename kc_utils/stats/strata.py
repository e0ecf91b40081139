"""Models and sources of facts side by side, by each protocol: the rows that a finding is read off, curves of what is kept of
each, their mean, and comparisons that a claim of the ledger makes, seen from both sides.

Lab models that differ in their seed make one curve, whose interval speaks of other seeds; every other interval of a curve
speaks of other facts.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pandas as pd
from scipy.stats import norm

from kc_utils.errors import BadRequest
from kc_utils.places import project_dir
from kc_utils.stats.claims import AGAINST, FOR, UNDECIDED, Part, part_of, parts_of, read_ledger
from kc_utils.stats.compare import beside, compare, judged
from kc_utils.stats.decision import LEVEL, PROTOCOLS
from kc_utils.stats.evidence import LAB, LANGUAGE, Effect, Evidence, Stratum, by_kind, kept, together
from kc_utils.stats.names import TASK, lab_parts, recipe_fields, short_protocol
from kc_utils.stats.rule import Rule
from kc_utils.stats.seeds import clear_over_seeds, over_seeds, shared_questions
from kc_utils.study.rows import files_at_hand, results, short_hash

SAMPLE = ["origin", "probe"]
CONTROL = "static_retention"
ALIKE = "alike"


def at_hand(recipes: Sequence[str], protocols: Sequence[str] = PROTOCOLS) -> pd.DataFrame:
    """Return `results` of recipes, names or patterns, and without compression; an empty table where there are none."""
    try:
        return results(recipes=["none", *recipes], protocols=protocols)
    except BadRequest:
        return pd.DataFrame(columns=["model", "recipe", "protocol", "facts", "probe", "origin"])


def tests_at_hand() -> pd.DataFrame:
    """Return every test against the uncompressed model at hand, whichever page shows it: model, protocol, probe and recipe."""
    found = set()
    for _, file in files_at_hand():
        probe = file.shared["probe"]
        protocols = [*(probe["protocols"] if probe["facts"] else ()), *(TASK + task for task in probe["tasks"])]
        found |= {(file.model, p, short_hash(probe), r) for p in protocols for r in file.cells if r != "none"}
    return pd.DataFrame(sorted(found), columns=["model", "protocol", "probe", "recipe"])


def in_family(table: pd.DataFrame) -> pd.DataFrame:
    """Judge a table of `compare`, corrected for all tests at hand of a model and protocol (Bonferroni): alike on every page."""
    keys, tested = [table["model"], table["protocol"]], table["p"].where(table["recipe"] != table["against"])
    shown, found = tested.groupby(keys).transform("count"), tests_at_hand().value_counts(["model", "protocol"])
    many = [max(1, n, found.get(key, 0)) for n, key in zip(shown, zip(*keys, strict=True), strict=True)]
    return table.assign(**judged(table, tested, LEVEL / pd.Series(many, table.index)))


def from_memory(rows: pd.DataFrame, recipes: str, least: int = 1) -> pd.DataFrame:
    """Keep one sample of each model, source and protocol: queries from memory, uncompressed and under some recipes.

    rows: of `at_hand`; recipes: a regular expression that whole recipes match, of which a sample must have `least`. Samples
    are chosen as `Evidence.of_knowledge` does, by the most of these recipes. A model that does not clearly beat chance
    uncompressed has nothing to keep and is left out.
    """
    rows = rows[rows["recipe"].eq("none") | rows["recipe"].astype(str).str.fullmatch(recipes)]
    evidence, many = Evidence(rows), lambda s: (len(s.recipes) - 1) * (len(s.recipes) > least)
    strata = [(s, protocol) for protocol in PROTOCOLS for s in evidence.of_knowledge(protocol, many)]
    parts = [s.rows[s.rows["protocol"] == protocol] for s, protocol in strata if s.knows(protocol)]
    return pd.concat(parts, ignore_index=True) if parts else rows.iloc[:0]


def in_lab(table: pd.DataFrame) -> pd.Series:
    """Return where the model of a row is one of the lab's."""
    known = {model: lab_parts(model) is not None for model in table["model"].unique()}
    return table["model"].map(known).astype(bool)


def curves(rows: pd.DataFrame) -> pd.DataFrame:
    """Compare every recipe with the uncompressed model: one line per panel, line, protocol and recipe, from mild to strong.

    rows: of `from_memory`. A language model is a panel with a line for each source; a size of lab models is a panel with a
    line for each family, the mean over seeds. Columns beside those of `compare`: panel, line, whose (as in `averages`), seeds.
    """
    parts, lab = [], in_lab(rows)
    if len(language := rows[~lab]):
        table = with_static(in_family(compare(language))).assign(seeds=1)
        parts.append(table.assign(panel=table["model"], line=table["facts"], whose=whose(table["model"])))
    if lab.any():
        singles = in_family(lab_singles(rows[lab])).astype({"clear": float})
        means = over_seeds(singles, ["retention", "clear", CONTROL], ["panel", "line", "protocol", "recipe"])
        found = judged(means, 1.0, LEVEL) | {"clear": clear_over_seeds(means) & means["clear"].eq(1)}  # in every model
        parts.append(means.assign(**found, whose=whose(rows.loc[lab, "model"])))
    if not parts:
        return pd.DataFrame()
    columns = list(dict.fromkeys(column for part in parts for column in part))
    filled = [part.dropna(axis="columns", how="all") for part in parts]
    table = pd.concat(filled, ignore_index=True).reindex(columns=columns)
    base = table["recipe"] == "none"
    table.loc[base, ["retention", "retention_low", "retention_high"]] = 1.0
    table["clear"] = table["clear"].astype(bool) & ~base
    return mild_first(table)


def mild_first(table: pd.DataFrame) -> pd.DataFrame:
    """Sort recipes from mild to strong, those of ranking first."""
    order = {"protocol": PROTOCOLS.index, "pruned": lambda x: x or 0, "bits": lambda b: 99 if pd.isna(b) else -b}
    key = lambda column: column.map(order[column.name]).astype(float)  # noqa: E731
    return table.sort_values(list(order), key=key, kind="stable", ignore_index=True)


def lab_singles(rows: pd.DataFrame) -> pd.DataFrame:
    """Compare each lab model on the questions that all models of its size answered by a protocol: a line of `compare` for each
    recipe, with panel (the size), line (the family) and seed."""
    found, parts = [], {model: lab_parts(model) for model in rows["model"].unique()}
    for (size, _), group in rows.groupby([rows["model"].map(lambda m: parts[m][1]), "protocol"], sort=False):
        samples = group.groupby(SAMPLE, sort=False, observed=True).agg(models=("model", "nunique"), many=("recipe", "nunique"))
        origin, probe = samples.sort_values(["models", "many"], ascending=False, kind="stable").index[0]
        table = compare(shared_questions(group[(group["origin"] == origin) & (group["probe"] == probe)]))
        line, seed = ([parts[m][i] for m in table["model"]] for i in (0, 2))
        found.append(table.assign(panel=f"lab, {size} models", line=line, seed=seed))
    return with_static(pd.concat(found, ignore_index=True))


def static_controls() -> pd.DataFrame:
    """Return the table of benchmarks/static.py, one line for each model and probe with ranking; none without the file."""
    file = project_dir() / "results" / "simulations" / "static.csv"
    shares = [f"{name}{end}" for name in ("n", "chance", "rank", "static") for end in ("", "_apart")]
    columns = ["model", "facts", "probe", *shares, "rank_low", "static_low", "both"]
    return pd.read_csv(file) if file.is_file() else pd.DataFrame(columns=columns)


def with_static(table: pd.DataFrame) -> pd.DataFrame:
    """Add to lines of ranking what word embeddings alone get right, static and static_retention; missing where not known."""
    known = static_controls().set_index(["model", "probe"])["static"].to_dict()
    names = zip(table["model"], table["probe"], table["protocol"], table["baseline_accuracy"], table["chance"], strict=True)
    found = [beside(known.get((m, p), math.nan) if by == "rank" else math.nan, base, c) for m, p, by, base, c in names]
    return table.assign(**pd.DataFrame(found, table.index, dtype=float))


def static_of(strata: Iterable[Stratum], protocol: str) -> float:
    """Return static_retention averaged over the strata of each model, then over models; missing where one is not known."""
    found = []
    for s in strata:
        of = s.answers(protocol)
        base = {"baseline_accuracy": of.right[of.recipes["none"]].mean(), "chance": of.chance.mean()}
        found.append({"model": s.model, "probe": s.rows["probe"].iloc[0], "protocol": protocol, **base})
    by_model = with_static(pd.DataFrame(found)).groupby("model")[CONTROL].agg(lambda values: values.mean(skipna=False))
    return float(by_model.mean(skipna=False))


def averages(rows: pd.DataFrame, recipes: Iterable[str]) -> pd.DataFrame:
    """Average what models keep over their sources of facts, then over the models of a kind, as the ledger does.

    rows: of `from_memory`. Of each kind and protocol, recipes that half of the strata have are used, and strata that have all of
    these, so that every recipe stands on the same ones. One line per kind, protocol and recipe, from mild to strong, after one of
    the uncompressed models: whose, panel (whose, by which protocol), retention with *_low and *_high (`together`), clear, equal
    and visible as `compare` defines them (p of the normal distribution with the interval's error, corrected for all recipes at
    hand), strata, n, static_retention, removed (share of all weights set to zero) and the fields of the recipe.
    """
    evidence, recipes, lines, tests = Evidence(rows), list(dict.fromkeys(recipes)), [], tests_at_hand()
    names = {kind: whose(s.model for s in group) for kind, group in by_kind(evidence.strata)}
    for protocol in PROTOCOLS:
        strata = evidence.of_knowledge(protocol, lambda s: len(s.recipes & set(recipes)))
        for kind, group in by_kind(strata):
            shared = [r for r in recipes if 2 * sum(r in s.recipes for s in group) >= len(group)]
            group = [s for s in group if set(shared) <= s.recipes]
            found = [(s, kept(s, shared, protocol)) for s in group]
            named = {"whose": names[kind], "protocol": protocol, "panel": f"{names[kind]}, {short_protocol(protocol)}"}
            own = tests[tests["protocol"].eq(protocol) & tests["model"].isin([s.model for s in group])]
            named |= {"strata": len(group), "n": sum(k.n for _, k in found)}
            named |= {CONTROL: static_of(group, protocol)}
            named |= {"level": LEVEL / max(own["recipe"].nunique(), len(shared), 1)}
            whole = dict.fromkeys(("retention", "retention_low", "retention_high"), 1.0)
            lines.append(named | recipe_fields("none") | whole | {"removed": 0.0})
            for r in shared:
                each = [Effect.of(s, k.n, (), k.at[r], draws=k.draws[r], effective=k.effective) for s, k in found]
                middle, low, high = together(each)
                removed = sum(s.report(r, "sparsity") * s.report(r, "touched_fraction") for s in group) / len(group)
                line = {"retention": middle, "retention_low": low, "retention_high": high, "removed": removed}
                lines.append(named | recipe_fields(r) | line)
    if not lines:
        return pd.DataFrame()
    table = pd.DataFrame(lines)
    value, low, high = (table[f"retention{end}"] for end in ("", "_low", "_high"))
    error = ((high - low) / 3.92).clip(lower=1e-9).where(table["recipe"] != "none")
    p = pd.Series(2 * norm.sf((1 - value).abs() / error), table.index)
    found = judged(table, p, table.pop("level"))
    return mild_first(table.assign(**found | {"clear": found["clear"] & (high < 1)}))


def whose(models: Iterable[str]) -> str:
    """Name models of one kind: up to two by their names, more by their number."""
    models = list(dict.fromkeys(models))
    return " and ".join(models) if len(models) < 3 else f"{len(models)} {LAB if lab_parts(models[0]) else LANGUAGE}"


def rule_of(claim: str) -> Rule:
    """Return the rule that decides a claim of the ledger, by its id."""
    ledger = read_ledger(project_dir() / "book" / "claims.yaml")
    return next(c.decided_by for c in ledger.claims if c.id == claim)


def one_sided(rule: Rule, evidence: Evidence) -> list[Part]:
    """Return what a rule's rows show, by kind of models and protocol, in that order."""
    return sorted(parts_of(rule, evidence), key=lambda part: part.kind == LAB)


def two_sided(rule: Rule, evidence: Evidence) -> list[Part]:
    """Decide a comparison from both sides (`one_sided`).

    rule: one whose line is 0. The side of a part is FOR where its rows are for the claim, AGAINST where they are for the contrary
    claim (not merely against this one), ALIKE where they exclude a difference that matters, else UNDECIDED.
    """
    found, sides = [], {(FOR, AGAINST): FOR, (AGAINST, FOR): AGAINST, (AGAINST, AGAINST): ALIKE}
    for part in one_sided(rule, evidence):
        turned = [replace(e, effect=-e.effect, low=-e.high, high=-e.low, draws=None if e.draws is None else -e.draws)
                  for e in part.strata]  # fmt: skip
        contrary = part_of(rule, part.kind, part.protocol, turned)
        side = sides.get((part.side, contrary.side), UNDECIDED)
        found.append(replace(part, side=side, disagree=max(part.disagree, contrary.disagree)))
    return found
