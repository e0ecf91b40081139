"""How often does the right answer win in a statement about somebody else? Chance is 1/k only where the answers are alike.

    KC_DATA=... OMP_NUM_THREADS=1 .venv/bin/python benchmarks/floors.py [--model smollm2-135m] [--recipe magnitude@all=0.5]

`rank` and its control `rank-other` on the same facts, with wrong answers that are drawn and with balanced sets, k candidates
each, uncompressed and compressed. All are computed together and share what they have in common. Prints Markdown and writes
results/simulations/floors.csv: one line for each source (and relation of MANY facts), recipe and design, with the share of
right answers and its 95 % interval, facts drawn again.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import replace

import pandas as pd
from spent import now

from kc_utils.compression.apply import apply
from kc_utils.compression.recipe import Recipe
from kc_utils.models.loading import Loaded, load
from kc_utils.places import project_dir
from kc_utils.probing.facts import FactSet
from kc_utils.probing.probe import CONTROL
from kc_utils.probing.protocols import Rank, collect
from kc_utils.probing.queries import about_others, queries_of
from kc_utils.probing.scorers import SCORERS
from kc_utils.probing.sources import load_source
from kc_utils.stats.compare import compare
from kc_utils.stats.intervals import clustered_wilson

LIMITS = {"worldfacts": 529, "lama:google_re": 90, "lama:trex": 120, "bear": 120}
DESIGNS = [("drawn", 3), ("sets", 3), ("drawn", 5), ("sets", 5)]
EACH, MANY, ALL = 10, 20, "all"
KEYS = ["source", "relation", "candidates", "k", "recipe"]
BOTH = {"rank": "own", CONTROL: "other"}


def sampled(whole: FactSet, limit: int) -> FactSet:
    """A frozen sample of so many facts; of a source with many relations every n-th of them, so that each gives about EACH."""
    names = sorted(whole.by_relation())
    return whole.only(names[:: math.ceil(len(names) * EACH / limit)]).sample(limit)


def rows_of(loaded: Loaded, source: str, limit: int) -> Iterator[pd.DataFrame]:
    """Yield the rows that `evaluate` gives for each relation, with columns source, candidates and k."""
    scorer = SCORERS[loaded.entry.family](loaded.tokenizer)
    predictor, whole = scorer.predictor(loaded.model), load_source(source)
    for own in sampled(whole, limit).by_relation().values():
        found = {}
        for candidates, k in DESIGNS:
            facts = replace(whole, facts=tuple(own))
            facts = facts.in_sets(k) if candidates == "sets" else facts
            queries = queries_of(facts, 1)
            others = about_others(queries, facts, whole, k - 1, 0)
            for name, own_or_other in (("rank", queries), (CONTROL, others)):
                found[candidates, k, name] = Rank(own_or_other, scorer, facts, k - 1, 0, name=name)
        collect(predictor, found.values())
        for (candidates, k, _), rank in found.items():
            frame = pd.DataFrame(rank.rows).drop(columns="popularity", errors="ignore")
            yield frame.assign(source=source, candidates=candidates, k=k)


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """One line for each source, relation of MANY facts, design and recipe: n facts, mean chance, and of `rank` (own) and
    `rank-other` (other) the share of right answers with its interval."""
    sizes = rows.groupby(["source", "relation"])["fact"].transform("nunique")
    lines = []
    for values, part in pd.concat([rows.assign(relation=ALL), rows[sizes >= MANY]]).groupby(KEYS, sort=False):
        line = dict(zip(KEYS, values, strict=True))
        for protocol, name in BOTH.items():
            scored = part[part["protocol"] == protocol]
            low, high = clustered_wilson(scored["correct"].to_numpy(), pd.factorize(scored["fact"])[0])
            line |= {f"n_{name}": scored["fact"].nunique(), f"chance_{name}": scored["chance"].mean()}
            line |= {name: scored["correct"].mean(), f"{name}_low": low, f"{name}_high": high}
        lines.append(line)
    return pd.DataFrame(lines)


def kept(rows: pd.DataFrame) -> dict[tuple, str]:
    """What the compressed model keeps above chance of each source and design by `rank`, in words with its interval."""
    own = rows[rows["protocol"] == "rank"]
    probe = own["candidates"] + own["k"].astype(str)
    compared = compare(own.assign(model="", facts=own["source"], probe=probe)).query("recipe != 'none'")
    return {
        (line.facts, line.probe): f"{line.retention:.2f} ({line.retention_low:.2f} to {line.retention_high:.2f})"
        for line in compared.itertuples()
    }


def shown(lines: pd.DataFrame) -> pd.DataFrame:
    """Return lines of `table` for print: uncompressed → compressed, with the interval of the uncompressed floor."""
    found = []
    for values, pair in lines.groupby(KEYS[:-1], sort=False):
        own, other = (" → ".join(f"{value:.2f}" for value in pair[name]) for name in BOTH.values())
        first = pair.iloc[0]
        other += f" ({first['other_low']:.2f} to {first['other_high']:.2f})"
        line = dict(zip(KEYS, values, strict=False)) | {"facts": first["n_own"], "chance": f"{first['chance_own']:.3f}"}
        found.append(line | {"right": own, "right about others": other})
    return pd.DataFrame(found)


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
    report(pd.concat(rows, ignore_index=True), f"{chosen.model}, uncompressed → `{chosen.recipe}`, {now() - start} seconds")


def report(rows: pd.DataFrame, title: str) -> None:
    """Write the table, and print it: sources, then the relations of worldfacts."""
    found, out = table(rows), project_dir() / "results/simulations/floors.csv"
    out.parent.mkdir(parents=True, exist_ok=True)
    found.round(3).to_csv(out, index=False)
    sources, kept_of = shown(found[found["relation"] == ALL]), kept(rows)
    sources["kept above chance"] = [kept_of[x.source, f"{x.candidates}{x.k}"] for x in sources.itertuples()]
    relations = found[(found["source"] == "worldfacts") & (found["relation"] != ALL) & (found["k"] == 3)]
    for part in (sources.drop(columns="relation"), shown(relations).drop(columns=["source", "k"])):
        print(f"{title}\n\n{part.to_markdown(index=False)}\n")


if __name__ == "__main__":
    main()
