"""`kc` as a user runs it: JSON that can be read, and one line on standard error for what cannot be done."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kc_utils import places
from tests.conftest import ROOT

KEYS = {
    "n", "accuracy", "ci95", "chance", "baseline_accuracy", "retention", "recipe", "touched_fraction", "sparsity",
}  # fmt: skip


def read(answer):
    """Rows that a command printed."""
    code, out, err = answer
    assert code == 0, err
    return json.loads(out)


def test_models_and_facts(kc):
    rows = {row["model"]: row for row in read(kc("models", "--json"))}
    assert rows["smollm2-135m"]["run here"] is True and rows["smollm2-135m"]["notes"]
    assert {"family", "source", "licence"} <= set(rows["bert-base-uncased"])
    assert "smollm2-135m" in kc("models")[1]
    rows = [row for row in read(kc("facts", "--json")) if row["facts"] == "worldfacts"]
    assert len(rows) >= 12 and sum(row["n"] for row in rows) >= 2000
    assert all(row["templates"] >= 3 for row in rows)


def test_inspect_counts_the_matrices_of_a_model(kc, trained):
    rows = {row["scope"]: row for row in read(kc("inspect", trained.id, "--json"))}
    assert rows["all"]["weights"] == rows["attention"]["weights"] + rows["feed_forward"]["weights"]
    assert rows["feed_forward"]["weights"] == 2 * 3 * 64 * 128


def test_plan_of_a_study(kc):
    rows = read(kc("study", "plan", "smoke", "--json"))
    assert {"run", "model", "recipe", "questions", "done", "estimate_s"} <= set(rows[0])
    assert len({(row["model"], row["recipe"]) for row in rows}) == len(rows)
    assert f"{len(rows)} evaluations, {len(rows)} to compute" in kc("study", "plan", "smoke")[1]


def test_plan_for_a_card(kc):
    (line,) = read(kc("study", "plan", "smoke", "--gpu", "h100", "--json"))
    assert (line["model"], line["fits"], line["evaluations"]) == ("smollm2-135m", True, 10)
    assert "An estimate from arithmetic, not a measurement" in kc("study", "plan", "smoke", "--gpu", "h100")[1]
    code, _, err = kc("study", "plan", "smoke", "--gpu", "abacus")
    assert code == 2
    assert err.startswith("kc: no card 'abacus' in the table")


def test_complete_shows_the_likeliest_pieces(kc, trained):
    arguments = ("complete", trained.id, "The capital of France is", "--top", "3", "--json")
    rows = read(kc(*arguments))
    shares = [row["probability"] for row in rows]
    assert len(rows) == 3 and shares == sorted(shares, reverse=True)
    assert read(kc(*arguments, "--recipe", "magnitude@all=0.9")) != rows
    code, out, _ = kc("complete", trained.id, "The capital of France is")
    assert code == 0 and out.split()[:2] == ["piece", "probability"]


@pytest.mark.parametrize("protocol", ["rank", "cloze"])
def test_eval_of_a_model_that_knows_its_facts(kc, trained, protocol):
    arguments = ("eval", trained.id, "--relations", "capital", "--limit", "30", "--alternatives", "4")
    code, out, _ = kc(*arguments, "--recipe", "magnitude@all=.90", "--protocol", protocol, "--json")
    assert code == 0
    (line,) = out.splitlines()
    answer = json.loads(line)
    assert set(answer) >= KEYS
    assert (answer["n"], answer["recipe"]) == (30, "magnitude@all=0.9")
    assert answer["accuracy"] < answer["baseline_accuracy"] >= 0.9
    assert answer["ci95"][0] <= answer["accuracy"] <= answer["ci95"][1]
    assert answer["sparsity"] == pytest.approx(0.9, abs=1e-3)
    assert 0 < answer["touched_fraction"] < 1
    expected = (answer["accuracy"] - answer["chance"]) / (answer["baseline_accuracy"] - answer["chance"])
    assert answer["retention"] == pytest.approx(expected)
    assert answer["chance"] == pytest.approx(0.2) if protocol == "rank" else answer["chance"] < 0.01


def test_eval_by_every_template_and_of_how_they_agree(kc, trained):
    arguments = ("eval", trained.id, "--relations", "capital", "--limit", "5")
    answer = read(kc(*arguments, "--templates", "all", "--json"))
    assert (answer["recipe"], answer["retention"], answer["n"]) == ("none", 1.0, 20)
    assert [row["template"] for row in answer["by_template"]] == [0, 1, 2, 3]
    assert "accuracy" in kc(*arguments)[1]
    answer = read(kc(*arguments, "--protocol", "consistency", "--json"))
    assert (answer["protocol"], answer["n"]) == ("rank", 20)
    found = answer["consistency"]
    assert 0 <= found["low"] <= found["value"] <= found["high"] <= 1
    assert (found["facts"], found["baseline_value"]) == (5, found["value"])


def test_eval_of_a_text(kc, trained, tmp_path):
    text = tmp_path / "capitals.txt"
    text.write_text("The capital of France is Paris. " * 20)
    answer = read(kc("eval", trained.id, "--text", str(text), "--recipe", "rtn@all=2", "--json"))
    assert "facts" not in answer
    found = answer["perplexity"]
    assert found["perplexity"] > 1
    assert found["ratio"] == pytest.approx(found["perplexity"] / found["baseline_perplexity"])
    assert found["ratio"] != 1


def test_compress_to_a_folder_that_can_be_evaluated(kc, trained, tmp_path):
    out = tmp_path / "half"
    report = read(kc("compress", trained.id, "--recipe", "magnitude@all=0.5", "--out", str(out), "--json"))
    assert report["sparsity"] == 0.5
    assert json.loads((out / "compression.json").read_text())["recipe"] == "magnitude@all=0.5"
    arguments = ("--relations", "capital", "--limit", "10", "--json")
    of_folder = read(kc("eval", f"path:{out}", *arguments))
    in_memory = read(kc("eval", trained.id, "--recipe", "magnitude@all=0.5", *arguments))
    assert of_folder["accuracy"] == in_memory["accuracy"]


EVAL = ("eval", "MODEL", "--relations", "capital", "--limit", "5")
BAD = {
    "unknown model": ("eval", "gpt-5"),
    "sparsity 1.0": (*EVAL, "--recipe", "magnitude@all=1.0"),
    "unknown relation": ("eval", "MODEL", "--relations", "flavour"),
    "limit 0": ("eval", "MODEL", "--limit", "0"),
    "limit a word": ("eval", "MODEL", "--limit", "few"),
    "an encoder that should speak": ("eval", "bert-base-uncased", "--limit", "5", "--protocol", "generate"),
    "compress without a folder": ("compress", "MODEL", "--recipe", "none"),
    "a command that is not there": ("evaluate", "MODEL"),
    "an option that is not there": ("eval", "MODEL", "--sparsity", "0.5"),
    "no model named": ("eval",),
    "unknown study": ("study", "plan", "nowhere"),
    "missing study file": ("study", "plan", "/nowhere/study.yaml"),
    "nothing to complete": ("complete", "MODEL", " "),
    "cores 0": ("study", "run", "smoke", "--cores", "0"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_done_is_one_line(kc, trained, results, name):
    code, out, err = kc(*(trained.id if a == "MODEL" else a for a in BAD[name]))
    assert code not in (0, None) and out == ""
    assert len(err.splitlines()) == 1 and err.startswith("kc: "), err
    assert not list(results.glob("cells/*/*"))


def test_a_defect_keeps_its_traceback_and_an_interruption_is_none(kc, monkeypatch):
    def stopped(error):
        raise error

    monkeypatch.setattr("kc_utils.models.registry.registry", lambda: stopped(RuntimeError("a defect")))
    with pytest.raises(RuntimeError, match="a defect"):
        kc("models")
    monkeypatch.setattr("kc_utils.models.registry.registry", lambda: stopped(KeyboardInterrupt()))
    code, _, err = kc("models")
    assert (code, err.count("\n")) == (130, 1)


def test_the_command_works_outside_of_a_checkout(kc, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert kc("models", "--json")[0] == 0
    assert kc("study", "plan", "smoke")[0] == 0, "the checkout of the package stands in"
    monkeypatch.setattr("kc_utils.places.PACKAGE", tmp_path)
    code, _, err = kc("study", "plan", "smoke")
    assert (code, err.count("\n")) == (2, 1)
    assert "not inside a checkout" in err


HELP = [("--help",), *((name, "--help") for name in ("models", "facts", "inspect", "complete", "eval", "compress", "book", "pdf",
        "verify", "record", "lab", "study")), *(("study", name, "--help") for name in
        ("plan", "run", "compute", "push", "pull"))]  # fmt: skip


@pytest.mark.parametrize("arguments", HELP, ids=" ".join)
def test_help_is_in_the_words_of_the_field(kc, arguments):
    code, out, _ = kc(*arguments)
    assert not code and "Usage: " in out
    assert not re.search(r"\b(ask|asked|told|wordings?|cells?)\b", out), out


def test_it_is_installed_as_kc(environment):
    command = Path(sys.executable).with_name("kc")
    done = subprocess.run([command, "eval", "gpt-5"], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("kc: unknown model 'gpt-5'")


def test_cores_are_counted_where_the_system_does_not_tell(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert places.cores() >= 1
