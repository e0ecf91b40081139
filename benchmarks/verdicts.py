"""How often the book's verdicts are wrong: made-up rows with known truth go through the functions that decide on its pages.

    .venv/bin/python benchmarks/verdicts.py [--samples 400] [--processes 2]

A model knows half of n facts and guesses the others among k. A recipe takes each known fact with one probability and gives
each unknown one with another, so that the truth is a loss of so many points of knowledge and answers turn both ways even where
nothing is lost. Models differ in the true loss by a normal component; which facts are known and taken hangs together between
models. Prints the table as Markdown and writes `results/simulations/verdicts.csv`.
"""

import argparse
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import kc_utils as kc  # noqa: E402
from kc_utils.report.tables import markdown_table  # noqa: E402
from kc_utils.stats.claims import AGAINST, FOR, Claim, decide  # noqa: E402
from kc_utils.stats.compare import judged, retention  # noqa: E402
from kc_utils.stats.decision import FACTS, LEAST, LEVEL, MARGIN  # noqa: E402
from kc_utils.stats.evidence import Evidence  # noqa: E402
from kc_utils.stats.intervals import mcnemar  # noqa: E402
from kc_utils.stats.strata import averages  # noqa: E402

FILE = ROOT / "results" / "simulations" / "verdicts.csv"
KNOWS, CHURN, AGAIN = 0.5, 0.05, 0.7  # share known; of them turned where nothing is lost; guesses that stay as they are
TOGETHER = 0.5  # correlation between models of what facts are known and taken
BOOK = 400  # tests of one model by one protocol, about as many as the record holds
FAMILY = [f"magnitude@all={amount / 100:g}" for amount in range(10, 90, 10)]
WORSE, BETTER = "magnitude@all=0.5", ("magnitude@attention=0.5", "magnitude@feed_forward=0.5")
COLUMNS = ["measure", "models", "model_sd", "loss", "n", "k", "samples", "share"]


def answers(rng, losses: dict[str, float], n: int, k: int, models: int = 1, sd: float = 0.0) -> dict[str, np.ndarray]:
    """Return right answers, (models, n), without compression and under each recipe.

    losses: recipe -> true points of knowledge lost, on average over models; sd: of models around that, under the first recipe.
    """

    def below(share):
        """(models, n): whether a normal number that facts and models share lies below the quantile of a share."""
        latent = np.sqrt(TOGETHER) * rng.normal(size=n) + np.sqrt(1 - TOGETHER) * rng.normal(size=(models, n))
        return latent < stats.norm.ppf(share)

    known, guess = below(KNOWS), rng.random((models, n)) < 1 / k
    right = {"none": known | guess}
    for i, (recipe, loss) in enumerate(losses.items()):
        own = (loss + (sd * rng.normal(size=(models, 1)) if i == 0 else 0)) / 100  # a gain where it is below 0
        taken, given = CHURN + np.maximum(own, 0), (CHURN + np.maximum(-own, 0)) * KNOWS / (1 - KNOWS)
        after = np.where(known, ~below(taken), below(given))
        anew = np.where(~known & (rng.random((models, n)) < AGAIN), guess, rng.random((models, n)) < 1 / k)
        right[recipe] = after | anew
    return right


def rows(rng, losses, n, k, models=1, sd=0.0, protocol="rank", facts="f") -> pd.DataFrame:
    """Return `answers` as rows, of one source of facts."""
    right = answers(rng, losses, n, k, models, sd)
    many = len(right)
    made = {
        "model": np.tile(np.repeat([f"m{m:02}" for m in range(models)], n), many),
        "recipe": np.repeat(list(right), models * n), "fact": np.tile(np.arange(n), models * many),
        "correct": np.concatenate([r.ravel() for r in right.values()]),
    }  # fmt: skip
    same = {"protocol": protocol, "template": 0, "relation": "r", "chance": 1 / k, "facts": facts, "probe": "p", "origin": "o"}
    return pd.DataFrame(made | same)


def claim(better=BETTER, **rule) -> Claim:
    rule = rule or {"kind": "keeps less", "worse": WORSE, "better": better, "amounts": [0.5]}
    return Claim(id="c", title="", statement="", source="", known_from="code", decided_by=rule)


def family(rng, loss: float, n: int, k: int) -> dict[str, float]:
    """Eight recipes of one model that lose the same: whether any of them, and what share, is called a clear loss or equal, by a
    notebook that knows these eight alone and by a chapter, which corrects for BOOK tests."""
    table = kc.compare(rows(rng, dict.fromkeys(FAMILY, loss), n, k)).query("recipe != 'none'")
    truth = 1 - loss / 100
    return {
        "clear, any of 8": table["clear"].any(), "equal, any of 8": table["equal"].any(),
        "clear, of 8": table["clear"].mean(), "equal": table["equal"].mean(),
        f"clear, of {BOOK}": judged(table, table["p"], LEVEL / BOOK)["clear"].mean(),
        "interval of retention holds the truth": table["retention_low"].le(truth).mul(table["retention_high"].ge(truth)).mean(),
    }  # fmt: skip


def whole(rng, loss: float, n: int, k: int) -> dict[str, float]:
    """All tests of one model by one protocol, as chapters correct them: whether any is called a clear loss."""
    right = {name: own[0] for name, own in answers(rng, dict.fromkeys(range(BOOK), loss), n, k).items()}
    before, facts = right.pop("none"), np.arange(n)
    kept = [retention(own.mean(), before.mean(), 1 / k) for own in right.values()]
    table = pd.DataFrame({"retention": kept, "retention_low": np.nan, "retention_high": np.nan})
    p = pd.Series([mcnemar(before, own, facts) for own in right.values()])
    return {f"clear, any of {BOOK}": judged(table, p, LEVEL / BOOK)["clear"].any()}


def means(rng, loss: float, n: int, k: int) -> dict[str, float]:
    """Eight recipes of one model, averaged over six sources: whether any mean is called a clear loss or equal."""
    made = [rows(rng, dict.fromkeys(FAMILY, loss), n, k, facts=f"f{i}") for i in range(6)]
    table = pd.concat(made, ignore_index=True).assign(sparsity=0.0, touched_fraction=1.0)
    table = averages(table, FAMILY).query("recipe != 'none'")
    return {f"{name}, any mean": table[name].any() for name in ("clear", "equal")}


def ledger(rng, loss: float, n: int, k: int, models: int, sd: float) -> dict[str, bool]:
    """A claim that a recipe keeps less than another, which loses nothing, and one that it keeps less than either of two."""
    evidence = Evidence(rows(rng, {WORSE: loss, **dict.fromkeys(BETTER, 0.0)}, n, k, models, sd))
    found = {}
    for name, better in (("", BETTER[:1]), (", of two", BETTER)):
        if parts := decide(claim(better), evidence).parts:
            (part,) = parts
            found |= {f"for{name}": part.side == FOR, f"against{name}": part.side == AGAINST}
            if not name:
                found |= {"interval of the effect holds the truth": part.low <= loss / 100 <= part.high}
                found |= {"strata that disagree": part.disagree > 0}
    return found


def reading(rng, loss: float, n: int, k: int, models: int, sd: float) -> dict[str, bool]:
    """A claim that reading outlives memory, where both lose the same."""
    losses = dict(zip(FAMILY, (loss / 2, loss, 2 * loss), strict=False))
    both = [rows(rng, losses, n, chance, models, sd, protocol) for protocol, chance in (("rank", k), ("openbook", 2))]
    made = claim(kind="reading survives better", recipe="magnitude@all={amount}", amounts=[0.1, 0.2, 0.3])
    parts = decide(made, Evidence(pd.concat(both, ignore_index=True))).parts
    return {"reading for, though both lose the same": any(part.side == FOR for part in parts)}


def shares(case: tuple, samples: int) -> list[dict]:
    """Simulate one case, of several models less often: a line for each measure. case: one of `cases`."""
    kind, loss, n, k, models, sd = case
    rng = np.random.default_rng([int(10 * value) for value in case[1:]])
    settings = case[1:] if kind in (ledger, reading) else case[1:4]
    found = pd.DataFrame([kind(rng, *settings) for _ in range(round(samples / models ** (1 / 6)))]).astype(float)
    named = {"models": models, "model_sd": sd, "loss": loss, "n": n, "k": k}
    return [{"measure": m, **named, "samples": found[m].count(), "share": round(found[m].mean(), 4)} for m in found]


def cases() -> list[tuple]:
    """What is simulated, loss, n, k, models, model_sd."""
    least, margin = 100 * LEAST, 100 * MARGIN
    found = [(ledger, loss, 200, 4, models, sd) for models, sd, loss in product((18, 6, 3), (0, 2, 5), (0, least, 5))]
    found += [(family, loss, n, 4, 1, 0) for n, loss in product((200, 500, 1000), (0, 1, 2, margin, 10))]
    found += [(whole, 0, n, 4, 1, 0) for n in (200, 500, 1000)]
    found += [(means, loss, 200, 4, 1, 0) for loss in (0, margin)]
    found += [(family, loss, 500, k, 1, 0) for k, loss in product((3, 10), (0, margin))]
    found += [(ledger, loss, n, 4, 1, 0) for n, loss in product((FACTS, 200, 500, 1000), (0, 1, least, 5, 10))]
    found += [(reading, 5, 400, 4, models, 0) for models in (1, 6)]
    found += [(ledger, loss, n, 4, 3, 2) for n, loss in product((200, 500, 1000), (0, least, 5, 10))]
    return list(dict.fromkeys(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=400, help="of one model; somewhat fewer of several")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    args = parser.parse_args()
    lines = []
    FILE.parent.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(args.processes) as pool:
        for some in pool.map(partial(shares, samples=args.samples), cases()):
            lines += some
            table = pd.DataFrame(lines)[COLUMNS].sort_values(COLUMNS[:-2], kind="stable")
            table.to_csv(FILE, index=False)
    print(markdown_table(table.to_dict("records")))


if __name__ == "__main__":
    main()
