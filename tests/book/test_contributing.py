"""The worked examples of the contribution guide, carried out as they are written in a copy of the package."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from kc_utils.study.cells import CODE
from tests.conftest import ROOT

PAGE = (ROOT / "book" / "contributing.md").read_text(encoding="utf-8")
BLOCK = re.compile(
    r"^```(?:python|yaml)\n# ((?:kc_utils|tests)/[\w./]+)(?:, (at the end|below [^\n]+))?\n(.*?)^```$", re.M | re.S
)
EXAMPLES = dict(re.findall(r"^## (Add a .+?)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S))

MODEL = """
import torch, transformers, huggingface_hub
from pathlib import Path
from kc_utils.models.loading import load
from kc_utils.models.registry import resolve
from kc_utils.models.scopes import scopes
from tests.trained import byte_level

entry = resolve("pythia-70m")
assert (entry.family, entry.ran_here, len(entry.revision)) == ("decoder", False, 40)
config = transformers.GPTNeoXConfig(vocab_size=1200, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                                    num_attention_heads=4)
model = transformers.GPTNeoXForCausalLM(config)
model.save_pretrained("snapshot")
byte_level().save_pretrained("snapshot")
wanted = []
def fetched(*what, **how):
    wanted.append((what[0], how["revision"]))
    return "snapshot"
huggingface_hub.snapshot_download = fetched
counts = scopes(load("pythia-70m")).set_index("scope")["weights"]
assert wanted == [(entry.address, entry.revision)]
assert counts["all"] == 2 * (4 * 32 * 32 + 2 * 32 * 64) and counts["head"] == 1200 * 32
"""
CODE_OF_EVERY_CELL = f"from kc_utils.study.code import code_hash; print(code_hash({CODE}))"


def blocks(text):
    """(path, where in the file or "" for a new one, text) of every block of a page that says where it belongs."""
    return BLOCK.findall(text)


def write(folder, examples):
    """The blocks of these examples, each written where it says."""
    for path, where, text in (block for example in examples for block in blocks(example)):
        file = folder / path
        if not where:
            assert not file.exists(), f"{path} is no new file"
            file.write_text(text, encoding="utf-8")
            continue
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        at = len(lines)
        if where != "at the end":
            (at,) = (n + 1 for n, line in enumerate(lines) if where.removeprefix("below ") in line)
        file.write_text("".join([*lines[:at], text, *lines[at:]]), encoding="utf-8")


def copied(folder):
    """The package, its facts and the tests, without the checkpoints of the lab."""
    for name in ("kc_utils", "kc_lab", "data", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("checkpoints", "__pycache__"))
    return folder


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    folder = copied(tmp_path_factory.mktemp("extended"))
    write(folder, EXAMPLES.values())
    return folder


@pytest.fixture
def python(tmp_path):
    """Run Python in an empty folder with a copy of the package before the real one; gives what it printed."""

    def run(folder, *arguments):
        environment = os.environ | {
            "PYTHONPATH": str(folder), "KC_CACHE": str(tmp_path / "cache"), "KC_RESULTS": str(tmp_path / "results"),
            "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore",
        }  # fmt: skip
        command = [sys.executable, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
        assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]
        return done.stdout

    return run


AND_THEN = """
import pytest
from kc_utils.cli import main
assert pytest.main({test}) == 0
main()
"""


def test_every_block_of_the_examples_says_where_it_belongs():
    assert list(EXAMPLES) == ["Add a model", "Add a method", "Add a probe"]
    assert sum(len(blocks(text)) for text in EXAMPLES.values()) == len(re.findall(r"^```(?:python|yaml)$", PAGE, re.M))


def test_the_model_the_test_of_the_method_and_the_facts_work(extended, python, trained):
    """In one process, as each takes seconds to start; the last line is what `kc eval` says."""
    test = ["-q", "-p", "no:cacheprovider", str(extended / "tests" / "compression" / "test_largest.py")]
    wanted = ("--recipe", "largest@all=0.3", "--facts", "planets", "--alternatives", "all", "--protocol", "rank")
    *_, line = python(extended, "-c", MODEL + AND_THEN.format(test=test), "eval", trained.id, *wanted, "--json").splitlines()
    answer = json.loads(line)
    assert (answer["facts"], answer["recipe"], answer["n"]) == ("planets", "largest@all=0.3", 15)
    assert answer["sparsity"] == pytest.approx(0.3, abs=1e-3)
    assert answer["chance"] == pytest.approx((7 / 8 + 8 / 2) / 15), "seven facts have eight answers, eight have two"


@pytest.mark.parametrize("title", ["Add a model", "Add a method", "Add a probe"])
def test_what_is_new_leaves_other_results_valid(title, tmp_path_factory, python):
    folder = copied(tmp_path_factory.mktemp("renewed"))
    before = python(folder, "-c", CODE_OF_EVERY_CELL)
    write(folder, [EXAMPLES[title]])
    assert python(folder, "-c", CODE_OF_EVERY_CELL) == before
