"""Time of a forward pass after each quantization by a library, relative to float32, side by side in one run.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/quantized_forward.py [--model DIR] [--rows 8] [--tokens 128] [--record MODEL]

Without --model a randomly initialised Llama of SmolLM2-135M's shape is used (seeded). Each recipe is applied to a copy
of the model; then the copy and the float32 model take turns on the same tokens, and the medians are compared, so that
load from elsewhere meets both: `reading` so many rows of so many tokens, and `writing`, one token at a time. `error` is
the norm of the change of all scores by the norm of the scores. Prints a Markdown table. With --record the ratios are kept
in results/reference/speed.json as those of MODEL, an id of `kc models`, for the book's page that chooses a compression.
"""

import argparse
import copy
import json
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from pruning import load
from tqdm import tqdm

from kc_utils.compression.apply import apply
from kc_utils.compression.recipe import Recipe
from kc_utils.places import project_dir, reference_dir, write_text
from kc_utils.study import provenance
from kc_utils.study.speeds import FILE

RECIPES = (
    "magnitude@all=0.5",
    "int8@all,engine=torch,per=tensor",
    "int8@all",
    "int8-weight@all",
    "int4-weight@all",
    "nf4@all",
    "llm-int8@all",
)


@torch.inference_mode()
def seconds(model, tokens) -> float:
    begin = time.perf_counter()
    model(input_ids=tokens)
    return time.perf_counter() - begin


@torch.inference_mode()
def error(model, plain, tokens) -> float:
    wanted = plain(input_ids=tokens[:1]).logits
    return float((model(input_ids=tokens[:1]).logits - wanted).norm() / wanted.norm())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="folder of a decoder")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--recipes", nargs="+", default=RECIPES)
    parser.add_argument("--record", metavar="MODEL", help="keep the ratios in results/reference/speed.json")
    given = parser.parse_args()
    plain = load(given.model)
    torch.manual_seed(0)
    tokens = torch.randint(1, plain.config.vocab_size, (given.rows, given.tokens))
    name = Path(given.model).name if given.model else "random weights in the shape of smollm2-135m"
    print(f"{name}, {given.rows} x {given.tokens} tokens, torch {torch.__version__}, {torch.get_num_threads()} threads\n")
    print("| recipe | reading / float32 | writing / float32 | bits per weight | error |\n|---|--:|--:|--:|--:|")
    ratios = {}
    for recipe in tqdm(given.recipes, file=sys.stderr):
        model = copy.deepcopy(plain)
        report = apply(model, Recipe.parse(recipe))
        reading, writing = (ratio(model, plain, part, given.repeats) for part in (tokens, tokens[:1, :1]))
        ratios[recipe] = {"reading": round(reading, 3), "writing": round(writing, 3)}
        change = error(model, plain, tokens)
        row = f"| `{recipe}` | {reading:.2f} | {writing:.2f} | {report.bits_per_weight:.2f} | {change:.3f} |"
        print(row, flush=True)
    if given.record:
        record(given.record, ratios, f"{given.rows} x {given.tokens} tokens")


def record(model: str, ratios: dict[str, dict[str, float]], what: str) -> None:
    """Keep the ratios of a model among the results of record. Raises BadRequest outside of a checkout."""
    file = (reference_dir() or project_dir()) / FILE
    kept = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    made = {"processor": provenance.hardware()["processor"], "threads": torch.get_num_threads()}
    versions = provenance.versions(("torch", "transformers", "torchao", "bitsandbytes"))
    kept[model] = {"ratios": ratios, "what": what, **made, "day": provenance.now()[:10], "versions": versions}
    write_text(file, json.dumps(kept, indent=1) + "\n")


def ratio(model, plain, tokens, repeats: int) -> float:
    """Median time of the compressed model over that of the other, which take turns."""
    seconds(model, tokens)  # both warm
    seconds(plain, tokens)
    repeats = repeats if tokens.numel() > 1 else 10 * repeats
    turns = [(seconds(plain, tokens), seconds(model, tokens)) for _ in range(repeats)]
    base, took = (statistics.median(t) for t in zip(*turns, strict=True))
    return took / base


if __name__ == "__main__":
    main()
