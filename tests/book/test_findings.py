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
from kc_lab.world import ABOUT_PEOPLE
from kc_utils.errors import BadRequest
from kc_utils.report import demonstrations
from kc_utils.report.sphinx import code_cells
from kc_utils.stats import strata
from tests.conftest import ROOT
from tests.stats import claimed

CHAPTERS = sorted(file.stem for file in (ROOT / "book" / "findings").glob("*.md"))
RIGHT = {
    "none": 160, "magnitude@all=0.1": 158, "magnitude@all=0.2": 140, "magnitude@all=0.3": 120, "magnitude@all=0.5": 60,
    "magnitude@attention=0.2": 130, "magnitude@attention=0.3": 100, "magnitude@feed_forward=0.2": 158,
    "magnitude@feed_forward=0.3": 150, "magnitude@all=0.2+int8@all": 140, "magnitude@all=0.2+rtn@all=4": 100,
    "int8@all": 160, "rtn@all=4": 130, "rtn@all=3": 60,
}  # fmt: skip
LAB = [f"lab:{family}-small-s{seed}" for family in ("encoder", "decoder") for seed in (1, 2, 3)]


def answers(right=RIGHT, model="smollm2-135m", facts="worldfacts", protocol="rank", **columns):
    """Rows of one model: of 200 facts those of the widest margins are right; every second one is of the popular half."""
    amounts = {r: float((re.findall(r"@\w+=(0\.\d)", r) or [0])[0]) for r in right}
    reports = {"sparsity": amounts, "weights_removed": {"none": 0.0}, "bits_per_weight": 16.0}
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

        monkeypatch.setattr(strata, "results", results)
        monkeypatch.setattr(myst_nb, "glue", lambda name, value, display=True: glued.update({name: value}))
        for module in (IPython.display, demonstrations):
            monkeypatch.setattr(module, "display", lambda *objects: shown.extend(o.data for o in objects))
        space = {}
        for cell in code_cells((ROOT / "book" / "findings" / f"{name}.md").read_text(encoding="utf-8")):
            exec(compile(cell, name, "exec"), space)
        said = {key: getattr(value, "data", value).replace("\u00a0", " ") for key, value in glued.items()}
        return said, "".join(shown)

    return run


@pytest.mark.parametrize("name", CHAPTERS)
def test_every_chapter_answers_from_rows_and_without_any(run, name):
    rows = [answers(), windows({r: 2.0 for r in RIGHT if "@all=0" in r or r == "none"})]
    for model in LAB:  # seeds that differ a little
        right = {r: n - int(model[-1]) * (r != "none") for r, n in RIGHT.items()}
        rows.append(answers(right, model, "lab", "cloze", chance=0.01))
    glued, shown = run(name, rows)
    assert "No data" not in glued[f"{name}_answer"] and "nan" not in glued[f"{name}_answer"]
    assert shown.count("<figure") >= 1 and "<table" in shown and "nan" not in re.sub(r'base64,[^"]+', "", shown)
    text = (ROOT / "book" / "findings" / f"{name}.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\{glue:text\}`(\w+)`", text)) | {f"{name}_answer"} == set(glued)
    glued, shown = run(name, [])
    assert glued[f"{name}_answer"].startswith("**No data.**") and not shown


def test_the_start_page_joins_pruning_and_quantization(run):
    glued, shown = run("../intro", [answers(model="lab:decoder-small-s1"), answers(), answers(origin="record of x")])
    assert shown.count("<figure") == 2 and "Correct" not in shown and "smollm2-135m still knows" in shown
    assert "all layers: 100 at 0, 98 at 10" in shown and "nan" not in re.sub(r'base64,[^"]+', "", shown)
    assert glued["landing"].count("Uncompressed, smollm2-135m") == 1
    assert all(f"first clear at {amount}" in glued["landing"] for amount in ("20 % sparsity", "4 bits"))
    for rows in ([], [answers({"none": 160, "rtn@all=4": 130})]):
        glued, shown = run("../intro", rows)
        assert glued["landing"].startswith("No rows at hand have both techniques") and not shown


def test_the_page_on_load_states_what_the_recorded_rows_hold(run, monkeypatch):
    glued, shown = run("../background/load", [])
    said = glued["load_answer"]
    for recipe in ("magnitude@all=0.3", "rtn@all=3"):
        for model, load in (("lab:decoder-small-s1", 1), ("lab:decoder-small-x8-s1", 8)):
            rows = kc.results("lab-load", models=model, recipes=["none", recipe], protocols="rank")
            rows = rows[rows["relation"].isin(ABOUT_PEOPLE)]
            right, chance = rows.groupby("recipe")["correct"].mean(), rows["chance"].mean()
            kept = (right[recipe] - chance) / (right["none"] - chance)
            assert re.search(rf"{round(100 * kept)} % \([^)]*\)[^.;]* at load {load}", said)
    assert (shown.count("<figure"), shown.count("<table")) == (2, 3) and "nan" not in re.sub(r'base64,[^"]+', "", shown)
    changed = re.findall(r"- \[[^]]+\]\(claim-[\w-]+\): (.+)\.$", glued["load_changes"], re.M)
    assert f"{len(changed)} have another verdict" in said
    assert all(len(set(re.findall(r"([a-z][a-z ]+) at load", line))) > 1 for line in changed)
    assert not kc.results(models="lab:*", facts="lab", recipes="none")["model"].str.contains("-x").any()
    monkeypatch.setattr(kc, "results", Mock(side_effect=BadRequest("none")))
    glued, shown = run("../background/load", [])
    assert glued["load_answer"].startswith("**No data.**") and not shown


def test_where_a_loss_begins_follows_the_rows(run):
    said = lambda right: run("prune", [answers(right)])[0]["prune_answer"]  # noqa: E731
    assert "lost clearly from 20 % (worldfacts) sparsity on" in said(RIGHT)
    assert "Half of the knowledge is gone at about 37 % (worldfacts)" in said(RIGHT)
    assert "lost clearly from 30 % (worldfacts) sparsity on" in said(RIGHT | {"magnitude@all=0.2": 159})
    same = said(dict.fromkeys(RIGHT, 160))
    assert same.startswith("No loss of `smollm2-135m` is clear") and "More than half of the knowledge is left" in same


def test_bits_and_second_steps_are_stated_by_name(run):
    bits = run("bits", [answers()])[0]["bits_answer"]
    assert "first lost clearly at RTN 4 bits (1 of 1 curves)" in bits and "in four bits keeps 75 %" in bits
    assert "at int8 dynamic (1 of 1 curves)" in run("bits", [answers(RIGHT | {"int8@all": 100})])[0]["bits_answer"]
    both = run("both", [answers()])[0]["both_answer"]
    assert "`int8@all` costs another 0.0 points" in both and "is little, below 5 points" in both
    assert "`rtn@all=4` costs another 33.3 points" in both and "is more than 5 points" in both


def test_attention_and_feed_forward_change_places_with_the_rows(run):
    said = run("where", [answers()])[0]["where_answer"]
    assert "attention is the more delicate part" in said
    assert "Of 2 comparisons at one sparsity, 2 show clearly more correct answers after pruning feed-forward" in said
    swap = {"attention": "feed_forward", "feed_forward": "attention"}
    turned = {re.sub(r"@(attention|feed_forward)", lambda m: f"@{swap[m[1]]}", r): n for r, n in RIGHT.items()}
    assert "feed-forward is the more delicate part" in run("where", [answers(turned)])[0]["where_answer"]
    alike = {r: 120 if "attention" in r or "feed_forward" in r else n for r, n in RIGHT.items()}
    assert "it is undecided which part" in run("where", [answers(alike)])[0]["where_answer"]


def test_margins_and_halves_follow_the_rows(run):
    said = run("first", [answers()])[0]["first_answer"]
    assert "The margin foretells a loss" in said and "undecided" in said, "popular and unpopular facts are lost alike"
    rows = answers()
    rows["margin"] = -rows["margin"]
    assert "The margin does not foretell a loss here" in run("first", [rows])[0]["first_answer"]
    rows = answers().assign(popularity=lambda f: f["fact"].str[1:].astype(int))  # the unpopular are lost last
    assert "lesser known facts are relatively better kept" in run("first", [rows])[0]["first_answer"]


def test_a_flat_perplexity_does_not_hide_a_loss(run):
    amounts = [r for r in RIGHT if re.fullmatch(r"none|magnitude@all=0\.\d", r)]
    flat = run("warning", [answers(), windows(dict.fromkeys(amounts, 2.0))])[0]["warning_answer"]
    assert "stays within 5 % up to 50 % sparsity, where up to 83.3 points (" in flat
    risen = {r: 2.0 if r == "none" else 3.0 for r in amounts}
    risen = run("warning", [answers(), windows(risen)])[0]["warning_answer"]
    assert "risen by more than 5 % at every sparsity tested" in risen
    known = {"none": 160, "magnitude@all=0.1": 158, "magnitude@all=0.2": 100}
    tasks = [answers(known, protocol="harness", relation="piqa", facts="piqa"),
             answers(dict.fromkeys(known, 40), protocol="harness", relation="boolq", facts="boolq")]  # fmt: skip
    said = run("warning", [answers(), *tasks])[0]["warning_answer"]
    assert "The score of piqa falls clearly at 20 % sparsity." in said
    assert "hardly beats chance on boolq: nothing can be lost there" in said


def test_the_order_of_families_is_stated_only_where_seeds_decide_it(run):
    def lab(encoder, decoder):
        count = lambda m: (encoder if "encoder" in m else decoder) + int(m[-1])  # noqa: E731
        return [answers({"none": 195, "magnitude@all=0.3": count(m)}, m, "lab", "cloze", chance=0.01) for m in LAB]

    assert "the encoder loses first" in run("families", lab(100, 150))[0]["families_answer"]
    assert "it is undecided which family loses first" in run("families", lab(120, 120))[0]["families_answer"]
    assert "No family loses facts clearly" in run("families", lab(194, 194))[0]["families_answer"]
