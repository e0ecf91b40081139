"""The chapters of findings: their answers follow the rows, whichever way these turn, and need no rows at all."""

import re
from fnmatch import fnmatchcase
from unittest.mock import Mock

import IPython.display
import myst_nb
import numpy as np
import pandas as pd
import pytest

import kc_utils as kc
from kc_lab import readers
from kc_utils.errors import BadRequest
from kc_utils.report import demonstrations
from kc_utils.report.sphinx import code_cells
from kc_utils.stats import strata
from kc_utils.study import record
from kc_utils.study.rows import results as recorded
from tests.conftest import ROOT
from tests.stats import claimed

CHAPTERS = sorted(file.stem for file in (ROOT / "book" / "findings").glob("*.md"))
RIGHT = {
    "none": 160, "magnitude@all=0.1": 158, "magnitude@all=0.2": 140, "magnitude@all=0.3": 120, "magnitude@all=0.5": 60,
    "magnitude@attention=0.2": 130, "magnitude@attention=0.3": 100, "magnitude@feed_forward=0.2": 158,
    "magnitude@feed_forward=0.3": 150, "magnitude@all=0.2+int8@all": 140, "magnitude@all=0.2+rtn@all=4": 100,
    "int8@all": 160, "rtn@all=4": 130, "rtn@all=3": 60, "magnitude@head=0.1": 100, "random@head=0.1": 150,
    "random-rows@head=0.1": 100,
}  # fmt: skip
LAB = [f"lab:{family}-small-s{seed}" for family in ("encoder", "decoder") for seed in (1, 2, 3)]


def answers(right=RIGHT, model="smollm2-135m", facts="worldfacts", protocol="rank", **columns):
    """Rows of one model: of 200 facts those of the widest margins are right; every second one is of the popular half."""
    amounts = {r: float((re.findall(r"@\w+=(0\.\d)", r) or [0])[0]) for r in right}
    sizes = {r: 1e6 * (3 if "feed_forward" in r else 4 if "@all" in r else 1) for r in right}
    removed = {r: amounts[r] * sizes[r] for r in right}
    reports = {"sparsity": amounts, "weights_removed": removed, "bits_per_weight": 16.0}
    rows = claimed.results(right, model, facts, **reports).assign(protocol=protocol)
    place = rows.groupby("recipe", sort=False).cumcount()
    return rows.assign(margin=np.where(rows["correct"], (claimed.N - place) / 50, -1.0)).assign(**columns)


def windows(nll):
    """Rows of a text in ten windows; nll: by recipe, nats a token."""
    named = {"model": "smollm2-135m", "facts": "sometext", "probe": "t", "origin": "here"}
    return pd.concat(claimed.windows(x, 10).assign(recipe=r, **named) for r, x in nll.items())


@pytest.fixture
def run(monkeypatch):
    """Execute a chapter on rows; returns what it glues, texts by name, and the HTML that it shows."""

    def run(name, rows):
        glued, shown = {}, []

        def results(recipes=(), protocols=()):
            fits = lambda recipe: any(fnmatchcase(recipe, pattern) for pattern in recipes)  # noqa: E731
            fine = [f[f["protocol"].isin(protocols) & f["recipe"].map(fits)] for f in rows]
            if not sum(map(len, fine)):
                raise BadRequest("no finished evaluation fits")
            return pd.concat(fine, ignore_index=True)

        def read(*study, **chosen):
            if not rows:
                raise BadRequest("no finished evaluation fits")
            return recorded(*study, **chosen)

        monkeypatch.setattr(strata, "results", results)
        monkeypatch.setattr(readers, "results", read)
        monkeypatch.setattr(myst_nb, "glue", lambda name, value, display=True: glued.update({name: value}))
        for module in (IPython.display, demonstrations):
            monkeypatch.setattr(module, "display", lambda *objects: shown.extend(o.data for o in objects))
        space = {}
        for cell in code_cells((ROOT / "book" / "findings" / f"{name}.md").read_text(encoding="utf-8")):
            exec(compile(cell, name, "exec"), space)
        said = {key: getattr(value, "data", value).replace("\u00a0", " ") for key, value in glued.items()}
        return said, "".join(shown)

    return run


def kept_by(protocol, text):
    """The shares that a text says a protocol keeps."""
    return [int(x) for x in re.findall(rf"(\d+) % \([^)]*\) by {protocol}", text)]


@pytest.mark.parametrize("name", CHAPTERS)
def test_every_chapter_answers_from_rows_and_without_any(run, name):
    rows = [answers(), answers(protocol="cloze", chance=0.0), windows({r: 2.0 for r in RIGHT if "head" not in r})]
    for model in LAB:  # seeds that differ a little
        right = {r: n - int(model[-1]) * (r != "none") for r, n in RIGHT.items()}
        rows.append(answers(right, model, "lab", "cloze", chance=0.01))
    glued, shown = run(name, rows)
    answer = glued[f"{name}_answer"]
    assert "No data" not in answer and "nan" not in answer and "language models" not in answer
    assert "by cloze" in answer and ("by ranking" in answer or name == "families"), "lab models are queried by cloze here"
    assert ("smollm2-135m: Its weights come from" in answer) == (name != "families"), "what its results have to carry"
    assert shown.count("<figure") >= 1 and "<table" in shown and "nan" not in re.sub(r'base64,[^"]+', "", shown)
    judged = set(re.findall(r"\d \([^()]+ to [^()]+; (clear|equal|\d+)\)", shown))
    assert ({"clear", "equal"} <= judged) == (name in ("bits", "families", "prune", "warning")), judged
    text = (ROOT / "book" / "findings" / f"{name}.md").read_text(encoding="utf-8")
    assert {*re.findall(r"\{glue:text\}`(\w+)`", text), *re.findall(r"\{glue:md\} (\w+)", text)} == set(glued)
    assert all("No data" not in value and "nan" not in value for value in glued.values())
    glued, shown = run(name, [])
    assert glued[f"{name}_answer"].startswith("**No data.**") and not shown


def test_the_start_page_joins_techniques_and_protocols(run):
    strict = answers(RIGHT | {"int8@all": 120}, protocol="cloze", chance=0.0)
    glued, shown = run("../intro", [answers(model="lab:decoder-small-s1"), answers(), strict])
    assert shown.count("<figure") == 2 and "smollm2-135m still knows" in shown
    assert "nan" not in re.sub(r'base64,[^"]+', "", shown)
    line = next(line for line in glued["landing"].splitlines() if "int8" in line)
    assert "it depends on how the model is queried" in line
    assert kept_by("ranking", line) == [100] and kept_by("cloze", line) == [75]
    assert "Its weights come from a file that stores them in 4 bits" in glued["landing"]
    for rows in ([], [answers({"none": 160, "rtn@all=4": 130})]):
        glued, shown = run("../intro", rows)
        assert glued["landing"].startswith("No rows at hand have both techniques") and not shown


def test_the_page_on_load_counts_the_verdicts_that_it_lists(run, monkeypatch):
    glued, shown = run("../background/load", [])
    assert "nan" not in re.sub(r'base64,[^"]+', "", shown)
    for name, loads in (("equal_changes", r"at [\d.]+ bits"), ("load_changes", r"at load \d")):
        changed = re.findall(r"- \[[^]]+\]\(claim-[\w-]+\): (.+)\.$", glued[name], re.M)
        sides = [set(re.findall(rf"([a-z][a-z ]+) {loads}", line)) for line in changed]
        turned = [line for line, found in zip(changed, sides, strict=True)
                  if found & {"holds", "consistent"} and found & {"does not hold", "speaks against it"}]  # fmt: skip
        assert all(len(found) > 1 for found in sides) and turned == [line for line in changed if "**changes sign**" in line]
        counted = f"{len(changed)} have another verdict at another load, and {len(turned)} change"
        assert counted in glued["load_answer"] or not changed
    assert glued["load_changes"].startswith("- [")
    assert not kc.results(models="lab:*", facts="lab", recipes="none")["model"].str.contains("-x|-tiny").any()
    monkeypatch.setattr(kc, "results", Mock(side_effect=BadRequest("none")))
    glued, shown = run("../background/load", [])
    assert glued["load_answer"].startswith("**No data.**") and not shown


@pytest.mark.skipif("lab-capacity" not in record.studies(), reason="not recorded here: kc record lab-capacity")
def test_the_page_on_load_shows_what_the_recorded_rows_hold(run):
    """Shares of the page's table against those of the rows, counted anew."""
    shown = run("../background/load", [])[1].replace("\u00a0", " ")
    assert (shown.count("<figure"), shown.count("<table")) == (1, 4)
    for family, load in (("decoder", ""), ("decoder", "-x3"), ("encoder", ""), ("encoder-decoder", "-x3")):
        for recipe, name in (("magnitude@all=0.3", "30 % of all weights pruned"), ("rtn@all=3", "all weights rounded to 3 bits")):
            rows = kc.results("lab-capacity", models=f"lab:{family}-tiny{load}-s1", recipes=["none", recipe], protocols="rank")
            right, chance = rows.groupby("recipe")["correct"].mean(), rows["chance"].mean()
            kept = round(100 * (right[recipe] - chance) / (right["none"] - chance))
            line = re.search(rf"<th>{name}</th>\s*<td>rank[^<]*</td>\s*<td>{family}</td>(.*?)</tr>", shown, re.S)
            cells = re.findall(r"<td>(.*?)</td>", line[1])
            assert cells[load == "-x3"].startswith(f"{kept} % ("), (family, load, recipe)


def test_what_is_kept_follows_the_rows_of_each_protocol(run):
    said = lambda right: run("prune", [answers(right), answers(protocol="cloze", chance=0.0)])[0]["prune_answer"]  # noqa: E731
    line = lambda text, start: next(x for x in text.splitlines() if x.startswith(start))  # noqa: E731
    found = said(RIGHT)
    assert "half of it is gone at about 37 % sparsity" in found
    assert kept_by("ranking", line(found, "- 30 %")) == [67] and kept_by("cloze", line(found, "- 30 %")) == [75]
    assert "equal" in line(found, "- 10 %") and "depends" not in found
    same = said(dict.fromkeys(RIGHT, 160))
    assert "it depends" in line(same, "- 30 %") and "half of it is gone beyond 50 % by ranking" in same


def test_bits_and_second_steps_are_stated_by_name(run):
    bits = run("bits", [answers()])[0]["bits_answer"]
    assert "- `int8@all`: 100 %" in bits and "- `rtn@all=4`: 75 % (" in bits
    both = run("both", [answers()])[0]["both_answer"].splitlines()
    assert "`int8@all`" in both[0] and "little, below 5 points (0.0 points" in both[0]
    assert "`rtn@all=4`" in both[1] and "more than 5 points (33.3 points" in both[1]


def test_shares_and_numbers_of_weights_are_compared_apart(run):
    said = lambda right: run("where", [answers(right)])[0]["where_answer"].splitlines()[2:]  # noqa: E731
    share, number, head, control, *_ = said(RIGHT)
    assert "equal sparsity: attention is the more" in share and "numbers of weights: attention is the more" in number
    assert "it costs more than all other layers" in head and "whole rows cost more" in control
    mild = {"magnitude@feed_forward=0.2": 120, "magnitude@feed_forward=0.3": 60, "magnitude@attention=0.2": 150}
    share, number, _, _, budget, *_ = said(RIGHT | mild | {"magnitude@attention=0.3": 110})
    assert "feed-forward is the more delicate part" in share and "attention is the more delicate part" in number
    assert "the budget decides" in budget and "3.0 times as many weights" in budget
    alike = {r: 120 if "attention" in r or "feed_forward" in r else n for r, n in RIGHT.items()}
    assert "no difference that matters" in said(alike)[0]


def test_margins_and_halves_follow_the_rows(run):
    said = run("first", [answers()])[0]["first_answer"]
    assert "a wide margin protects" in said and "undecided (" in said, "both halves are lost alike"
    rows = answers()
    rows["margin"] = -rows["margin"]
    assert "a wide margin does not protect" in run("first", [rows])[0]["first_answer"]
    rows = answers().assign(popularity=lambda f: f["fact"].str[1:].astype(int))  # the unpopular are lost last
    assert "lesser known facts are relatively better kept" in run("first", [rows])[0]["first_answer"]
    other = answers(protocol="cloze").assign(popularity=lambda f: -f["fact"].str[1:].astype(int))
    assert "it depends on how the model is queried" in run("first", [rows, other])[0]["first_answer"]


def test_the_whole_curve_of_perplexity_is_read(run):
    amounts = [r for r in RIGHT if re.fullmatch(r"none|magnitude@all=0\.\d", r)]
    flat = run("warning", [answers(), windows(dict.fromkeys(amounts, 2.0))])[0]["warning_answer"]
    assert "At 50 % sparsity, the strongest, perplexity is 1 times as high: pruning keeps 17 %" in flat
    nats = {r: 2.0 + np.log(1 + 10 * float(r[-3:] if "=" in r else 0)) for r in amounts}  # twice as high at 10 %
    risen = run("warning", [answers(), answers(protocol="cloze", chance=0.0), windows(nats)])[0]["warning_answer"]
    twice = next(line for line in risen.splitlines() if "to 2 times" in line)
    assert kept_by("ranking", twice) == [98] and kept_by("cloze", twice) == [99]
    known = {"none": 160, "magnitude@all=0.1": 158, "magnitude@all=0.2": 100}
    tasks = [answers(known, protocol="harness", relation="piqa", facts="piqa"),
             answers(dict.fromkeys(known, 40), protocol="harness", relation="boolq", facts="boolq")]  # fmt: skip
    said = run("warning", [answers(), *tasks])[0]["warning_answer"]
    assert "piqa change by \u221230.0 points" in said and "at 20 % sparsity (a clear loss)" in said
    assert "does not clearly beat chance on boolq: nothing can be lost there" in said


def test_families_are_compared_at_fixed_amounts_with_pooled_seeds(run):
    def lab(encoder, decoder):
        count = lambda m: encoder if "encoder" in m else decoder  # noqa: E731 : three seeds with equal counts
        return [answers({"none": 195, "magnitude@all=0.3": count(m)}, m, "lab", "cloze", chance=0.01) for m in LAB]

    assert "The decoder keeps 25.9 points (" in run("families", lab(100, 150))[0]["families_answer"]
    assert "Undecided: 1 of 1 differences" in run("families", lab(120, 122))[0]["families_answer"]
