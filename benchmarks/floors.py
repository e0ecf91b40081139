"""How often does the right answer win in a statement about somebody else? Chance is 1/k only where the answers are alike.

    KC_DATA=... OMP_NUM_THREADS=1 .venv/bin/python benchmarks/floors.py [--model smollm2-135m] [--recipe magnitude@all=0.5]

`rank` and its control `rank-other` on the same facts, with wrong answers that are drawn and with balanced sets, k candidates
each, uncompressed and compressed. All are computed together and share what they have in common. Prints Markdown and writes
results/simulations/floors.csv: one line for each source (and relation of MANY facts), recipe and design, with the share of
right answers and its 95 % interval, facts drawn again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace

import pandas as pd
from spent import now

from kc_utils.compression.apply import apply
from kc_utils.compression.recipe import Recipe
from kc_utils.models.loading import Loaded, load
from kc_utils.places import project_dir
from kc_utils.probing.probe import CONTROL
from kc_utils.probing.protocols import Rank, collect
from kc_utils.probing.queries import about_others, queries_of
from kc_utils.probing.scorers import SCORERS
from kc_utils.probing.sources import load_source
from kc_utils.stats.compare import retention
from kc_utils.stats.intervals import clustered_wilson

LIMITS = {"worldfacts": 529, "lama:google_re": 90, "lama:trex": 123, "bear": 120}
DESIGNS = [("drawn", 3), ("sets", 3), ("drawn", 5), ("sets", 5)]
MANY, ALL = 10, "all"
KEYS = ["source", "relation", "candidates", "k", "recipe"]
BOTH = {"rank": "own", CONTROL: "other"}


def rows_of(loaded: Loaded, source: str, limit: int) -> Iterator[pd.DataFrame]:
    """Yield the rows that `evaluate` gives for each relation, with columns source, candidates and k."""
    scorer = SCORERS[loaded.entry.family](loaded.tokenizer)
    predictor, whole = scorer.predictor(loaded.model), load_source(source)
    for own in whole.sample(limit).by_relation().values():
        found = {}
        for candidates, k in DESIGNS:
            facts = replace(whole, facts=tuple(own))
            facts = facts.in_sets(k) if candidates == "sets" else facts
            queries = queries_of(facts, 1)
            others = about_others(queries, facts, whole, k - 1, 0)
            for name, asked in (("rank", queries), (CONTROL, others)):
                found[candidates, k, name] = Rank(asked, scorer, facts, k - 1, 0, name=name)
        collect(predictor, found.values())
        for (candidates, k, _), rank in found.items():
            yield pd.DataFrame(rank.rows).assign(source=source, candidates=candidates, k=k)


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """One line for each source, relation of MANY facts, design and recipe: n facts, mean chance, and of `rank` (own) and
    `rank-other` (other) the share of right answers with its interval."""
    sizes = rows.groupby(["source", "relation"])["fact"].transform("nunique")
    lines = []
    for values, part in pd.concat([rows.assign(relation=ALL), rows[sizes >= MANY]]).groupby(KEYS, sort=False):
        line = dict(zip(KEYS, values, strict=True))
        for protocol, name in BOTH.items():
            asked = part[part["protocol"] == protocol]
            low, high = clustered_wilson(asked["correct"].to_numpy(), pd.factorize(asked["fact"])[0])
            line |= {f"n_{name}": asked["fact"].nunique(), f"chance_{name}": asked["chance"].mean()}
            line |= {name: asked["correct"].mean(), f"{name}_low": low, f"{name}_high": high}
        lines.append(line)
    return pd.DataFrame(lines)


def kept(own: pd.Series, floor: pd.Series) -> float:
    """The share of what the uncompressed model knows above a floor that the compressed one keeps above its own."""
    before, after = (own - floor).to_numpy()
    return retention(after, before, 0.0)


def summary(found: pd.DataFrame, relation: str | None = None) -> pd.DataFrame:
    """For print: uncompressed → compressed, of the sources, or of the relations of one."""
    chosen = found[found["relation"] == ALL] if relation is None else found[found["source"] == relation]
    lines = []
    for values, pair in chosen.groupby(KEYS[:-1], sort=False):
        low, high = pair[["other_low", "other_high"]].iloc[0]
        both = {name: " → ".join(f"{value:.2f}" for value in pair[name]) for name in BOTH.values()}
        line = dict(zip(KEYS, values, strict=False)) | {"facts": pair["n_own"].iloc[0]}
        line |= {"chance": f"{pair['chance_own'].iloc[0]:.3f}", "right": both["own"]}
        line |= {"wrong subject, right": f"{both['other']} ({low:.2f} to {high:.2f})"}
        floors = {"kept above chance": "chance_own", "kept above wrong subject": "other"}
        lines.append(line | {name: f"{100 * kept(pair['own'], pair[floor]):.0f} %" for name, floor in floors.items()})
    return pd.DataFrame(lines)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", default="smollm2-135m")
    options.add_argument("--recipe", default="magnitude@all=0.5")
    chosen = options.parse_args()
    start, rows = now(), []
    for recipe in ("none", chosen.recipe):
        loaded = load(chosen.model)
        apply(loaded.model, Recipe.parse(recipe), tokenizer=loaded.tokenizer)
        rows += [part.assign(recipe=recipe) for item in LIMITS.items() for part in rows_of(loaded, *item)]
    found = table(pd.concat(rows, ignore_index=True))
    out = project_dir() / "results/simulations/floors.csv"
    out.parent.mkdir(parents=True, exist_ok=True)
    found.round(3).to_csv(out, index=False)
    print(f"{chosen.model}, uncompressed → `{chosen.recipe}`, {now() - start} seconds\n")
    print(summary(found).drop(columns="relation").to_markdown(index=False), "\n")
    of_three = found[found["k"] == 3]
    print(summary(of_three, "worldfacts").drop(columns=["source", "k"]).to_markdown(index=False))


if __name__ == "__main__":
    main()
