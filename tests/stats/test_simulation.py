"""The whole pipeline on made-up rows with known truth: how often verdicts err, intervals hold the truth, losses are found.

A share is refused where fewer than one in a hundred simulations of this length would show it at its limit. The full table
is `benchmarks/verdicts.py`.
"""

import pandas as pd
import pytest
from scipy import stats

from benchmarks.verdicts import COLUMNS, FILE, family, ledger, shares
from kc_utils.stats.decision import LEAST, LEVEL, MARGIN


def measured(kind, loss, n=200, models=1, sd=0, samples=100) -> dict[str, dict]:
    return {line["measure"]: line for line in shares((kind, loss, n, 4, models, sd), samples)}


def at_most(line: dict, limit: float = LEVEL) -> bool:
    count = round(line["share"] * line["samples"])
    return stats.binomtest(count, int(line["samples"]), limit, alternative="greater").pvalue > 0.01


@pytest.mark.parametrize("loss", [0, 100 * MARGIN])
def test_a_family_is_rarely_called_clear_or_equal_wrongly(loss):
    found = measured(family, loss, n=500)
    assert at_most(found[f"{'equal' if loss else 'clear'}, any of 8"]), found
    assert 0.92 < found["interval of retention holds the truth"]["share"] < 0.985


@pytest.mark.parametrize(("models", "sd", "loss"), [(1, 0, 0), (1, 0, 100 * LEAST), (3, 10, 0), (6, 10, 100 * LEAST)])
def test_the_ledger_rarely_errs_and_its_intervals_allow_for_other_models(models, sd, loss):
    found = measured(ledger, loss, models=models, sd=sd, samples=90)
    for wrong in ("against", "against, of two") if loss else ("for", "for, of two"):
        assert at_most(found[wrong]), found
    held = found["interval of the effect holds the truth"]
    assert at_most({**held, "share": 1 - held["share"]}), found


def test_a_loss_is_found_more_often_the_larger_it_is_and_the_more_facts_there_are():
    power = {(n, x): measured(family, x, n, samples=20)["clear, of 8"]["share"] for n in (200, 1000) for x in (2, 10)}
    assert power[200, 2] < power[200, 10] < power[1000, 10]
    assert power[200, 2] < 0.05 < 0.5 < power[1000, 10]


def test_the_table_of_the_book_keeps_to_the_limits():
    table = pd.read_csv(FILE)
    assert list(table) == COLUMNS
    assert set(table["models"]) == {1, 3, 6, 18}
    of = lambda name, rows: table[table["measure"].eq(name) & rows]  # noqa: E731
    wrong = [
        *(of(f"clear, any {of_them}", table["loss"] == 0) for of_them in ("of 8", "of 400", "mean")),
        *(of(f"equal, any {of_them}", table["loss"] > 2) for of_them in ("of 8", "mean")),
    ]
    wrong += [of(f"for{two}", table["loss"] == 0) for two in ("", ", of two")]
    wrong += [of(f"against{two}", table["loss"] >= 100 * LEAST) for two in ("", ", of two")]
    for lines in wrong:
        assert len(lines) >= (1 if "mean" in str(lines["measure"]) else 3)
        assert lines["share"].mean() <= LEVEL
        assert all(at_most(line) for line in lines.to_dict("records"))
    held = table[table["measure"].str.contains("holds the truth")]
    assert held.groupby(["measure", "models"])["share"].mean().between(0.93, 0.97).all()
