"""How recall grows while a model reads: evaluates the saved states of trainings on real sentences.

    KC_DATA=... .venv/bin/python benchmarks/learning.py [--states FOLDER] [--points 12]

Run it beside `kc lab train --world wikipedia --all`: whenever a training has come a part further, its weights of that moment
are evaluated; with --states, copies of such states. Writes results/simulations/learning.csv: one line for each family, seed,
step and kind of fact, with passes over the texts, the share of right answers by cloze in the first template (with its 95 %
interval), and in the one that training held out.
"""

import argparse
import time
from pathlib import Path

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open

from kc_lab import packing, wikipedia
from kc_lab.cards import of_kinds
from kc_lab.models import fresh
from kc_lab.tokenizer import as_transformers
from kc_lab.training import Lesson, of_world, saved_at
from kc_utils.places import project_dir
from kc_utils.probing.evaluate import evaluate
from kc_utils.probing.probe import Probe
from kc_utils.stats.intervals import wilson

LIMIT = 300
OUT = project_dir() / "results/simulations/learning.csv"


def recall(model: torch.nn.Module, family: str) -> list[dict]:
    """Return one line for each kind of fact."""
    tokenizer = as_transformers(wikipedia.build())
    found, lines = of_kinds(lambda **probe: evaluate(model, tokenizer, family, Probe(**probe)).rows, LIMIT), []
    for kind in wikipedia.KINDS:
        first, held = (found[name]["correct"] for name in (kind, f"{kind}_held_out"))
        low, high = wilson(int(first.sum()), len(first))
        lines.append({"kind": kind, "n": len(first), "right": first.mean(), "low": low, "high": high, "held_out": held.mean()})
    return lines


def at(file: Path, lesson: Lesson) -> tuple[int, int, torch.nn.Module]:
    """Return the step of a saved state, how many there are, and the model of that moment."""
    model = fresh(lesson.family, lesson.size, lesson.seed)
    with safe_open(file, "pt") as saved, torch.no_grad():
        marks = saved.metadata()
        for name, parameter in model.named_parameters():
            parameter.copy_(saved.get_tensor(f"model.{name}"))
    return int(marks["step"]), int(marks.get("total") or marks["course"].rpartition("/")[2]), model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--states", type=Path)
    parser.add_argument("--points", type=int, default=12)
    given = parser.parse_args()
    found = pd.read_csv(OUT).to_dict("records") if OUT.is_file() else []
    done = {(line["family"], line["seed"], line["step"]) for line in found}
    while True:
        for lesson in of_world("wikipedia"):
            kept = [saved_at(lesson)] if given.states is None else sorted(given.states.glob(f"{lesson.name}-*.safetensors"))
            for file in filter(Path.is_file, kept):
                try:
                    step, steps, model = at(file, lesson)
                except (OSError, SafetensorError):  # the training has just ended
                    continue
                before = [s for family, seed, s in done if (family, seed) == (lesson.family, lesson.seed)]
                if (given.states is None and step - max(before, default=0) < steps / given.points) or step in before:
                    continue
                done.add((lesson.family, lesson.seed, step))
                named = {"family": lesson.family, "seed": lesson.seed, "step": step, "passes": packing.PASSES * step / steps}
                found += [named | line for line in recall(model, lesson.family)]
                print(pd.DataFrame(found[-3:]).round(3).to_string(index=False), flush=True)
                table = pd.DataFrame(found).sort_values(["family", "seed", "step"], kind="stable")
                table.round(4).to_csv(OUT, index=False)
        if given.states is not None:
            return
        time.sleep(20)


if __name__ == "__main__":
    main()
