"""Time of a forward pass after each quantization by a library, relative to float32, side by side in one run.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/quantized_forward.py [--model DIR] [--rows 8] [--tokens 128]

Without --model a randomly initialised Llama of SmolLM2-135M's shape is used (seeded). Each recipe is applied to a copy
of the model; then the copy and the float32 model take turns on the same tokens, and the medians are compared, so that
load from elsewhere meets both. `error` is the norm of the change of all scores by the norm of the scores. Prints a
Markdown table.
"""

import argparse
import copy
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

RECIPES = (
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
    given = parser.parse_args()
    plain = load(given.model)
    torch.manual_seed(0)
    tokens = torch.randint(1, plain.config.vocab_size, (given.rows, given.tokens))
    name = Path(given.model).name if given.model else "random weights in the shape of smollm2-135m"
    print(
        f"{name}, {given.rows} x {given.tokens} tokens, torch {torch.__version__}, {torch.get_num_threads()} threads\n"
    )
    print("| recipe | time / float32 | time | bits per weight | error |\n|---|--:|--:|--:|--:|")
    for recipe in tqdm(given.recipes, file=sys.stderr):
        model = copy.deepcopy(plain)
        report = apply(model, Recipe.parse(recipe))
        seconds(model, tokens)  # both warm
        seconds(plain, tokens)
        turns = [(seconds(plain, tokens), seconds(model, tokens)) for _ in range(given.repeats)]
        base, took = (statistics.median(t) for t in zip(*turns, strict=True))
        change = error(model, plain, tokens)
        row = f"| `{recipe}` | {took / base:.2f} | {took:.2f} s | {report.bits_per_weight:.2f} | {change:.3f} |"
        print(row, flush=True)


if __name__ == "__main__":
    main()
