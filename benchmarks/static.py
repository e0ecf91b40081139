"""How much of what a model ranks rightly do its word embeddings give alone, without a body?

    KC_DATA=... OMP_NUM_THREADS=1 .venv/bin/python benchmarks/static.py [--models smollm2-135m] [--studies laptop]

The static-embedding control (`kc_utils.probing.static`) beside `rank` of the uncompressed model, on the same facts and
candidates: of every model and probe of these studies with ranking, and of every lab model on the invented world. Rows of `rank`
are read from the store or the record, else computed. Prints Markdown and writes results/simulations/static.csv, whose lines of
other models are kept: one line for each model and probe, with shares of right answers and their 95 % intervals, facts drawn
again; `both`, the share of answers ranked rightly that the embeddings rank rightly, too; the same shares (`*_apart`) of facts
whose subject shares no word with the answer; and each of the four variants.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence

import pandas as pd

import kc_utils as kc
from kc_utils.errors import MissingData
from kc_utils.models.loading import Loaded
from kc_utils.models.registry import registry
from kc_utils.places import project_dir
from kc_utils.probing.facts import Fact
from kc_utils.probing.probe import Probe
from kc_utils.probing.static import static, strongest
from kc_utils.stats.intervals import clustered_wilson
from kc_utils.study.rows import fits, short_hash
from kc_utils.study.studyfile import load_study

OUT = project_dir() / "results" / "simulations" / "static.csv"
STUDIES = ("laptop", "benchmarks", "lab-load", "lab-wikipedia")
OF_APART = {"chance": "chance", "rank": "correct", "static": "correct_static"}
OF_WORLD = Probe(facts="lab", limit=400, protocols=("rank",), alternatives=4, candidates="sets")


def probes_of(studies: Sequence[str], models: Sequence[str]) -> dict[str, list[Probe]]:
    """The probes with ranking of each model."""
    of_world = (m for m in registry() if m.startswith("lab:") and "wikipedia" not in m)  # those were taught another one
    found = {m: {OF_WORLD: None} for m in of_world if fits(m, models)}
    for cell in (cell for name in studies for cell in load_study(name).cells):
        if cell.probe.facts and "rank" in cell.probe.protocols and fits(cell.model, models):
            found.setdefault(cell.model, {})[cell.probe] = None
    return {model: list(probes) for model, probes in found.items()}


def line_of(lm: Loaded, probe: Probe) -> dict:
    """The control of one model and probe beside its `rank`."""
    rows = kc.evaluate(lm.entry.id, [], **probe.model_dump()).query("protocol == 'rank'")
    every = static(lm, probe)
    found = rows.merge(strongest(every), on=["fact", "template"], suffixes=("", "_static"), validate="1:1")
    if not len(found) == len(rows) == len(every) / every["variant"].nunique():
        raise AssertionError(f"{lm.entry.id}, {probe.facts}: the control ranks other queries than `rank`")
    line = {"model": lm.entry.id, "facts": probe.facts, "probe": short_hash(probe.model_dump(mode="json"))}
    line |= {"n": len(found), "chance": found["chance"].mean()}
    for name, column in (("rank", "correct"), ("static", "correct_static")):
        low, high = clustered_wilson(found[column].to_numpy(), pd.factorize(found["fact"])[0])
        line |= {name: found[column].mean(), f"{name}_low": low, f"{name}_high": high}
    line |= {"both": found.loc[found["correct"], "correct_static"].mean(), "variant": found["variant"].iloc[0]}
    apart = found[~found["fact"].isin([fact.id for fact in probe.factset().facts if shares_a_word(fact)])]
    line |= {"n_apart": len(apart)} | {f"{name}_apart": apart[column].mean() for name, column in OF_APART.items()}
    return line | every.groupby("variant", sort=False)["correct"].mean().to_dict()


def shares_a_word(fact: Fact) -> bool:
    """Whether the subject has a word of the main answer, in any case."""
    subject, answer = (set(re.findall(r"\w+", text.casefold())) for text in (fact.subject, fact.answers[0]))
    return not subject.isdisjoint(answer)


def lines(wanted: dict[str, list[Probe]]) -> Iterator[dict]:
    """One line for each model and probe at hand, from each model loaded once."""
    for model, probes in wanted.items():
        try:
            lm = kc.load(model)
        except MissingData as error:
            print(error)
            continue
        yield from (line_of(lm, probe) for probe in probes)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--models", nargs="*", default=(), help="names or patterns; all by default")
    options.add_argument("--studies", nargs="*", default=STUDIES)
    chosen = options.parse_args()
    found = pd.DataFrame(lines(probes_of(chosen.studies, chosen.models))).round(4)
    if OUT.is_file():
        found = pd.concat([pd.read_csv(OUT), found]).drop_duplicates(["model", "probe"], keep="last")
    found.sort_values(["model", "facts", "probe"]).to_csv(OUT, index=False)
    print(found.drop(columns="probe").to_markdown(index=False))


if __name__ == "__main__":
    main()
