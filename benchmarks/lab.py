"""Throughput of training on real sentences, in parts of the rate of plain matrix products, by turns in one run.

    OMP_NUM_THREADS=1 KC_DATA=... .venv/bin/python benchmarks/lab.py [--steps 6]

For each family: processor time of whole steps (inputs, both passes, the optimizer), and the floating-point operations of
the same step as torch counts them, those of matrix products alone. Beside each step stands a product of the shape of the model's
widest one, in the same 16 bits. Prints a Markdown table of medians; `waste` is the share of padded tokens among all computed.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from kc_lab import packing, wikipedia
from kc_lab.cards import WIKIPEDIA
from kc_lab.models import fresh
from kc_lab.training import Lesson, optimizer_of
from kc_utils.models.registry import FAMILIES

PRODUCTS = 20


def product_rate(tokens: int, width: int) -> float:
    """Operations a second of processor time of a product in 16 bits, as many rows as a step has tokens."""
    tokens = torch.randn(tokens, width, dtype=torch.bfloat16)
    weights = torch.randn(width, 4 * width, dtype=torch.bfloat16)
    begin = time.process_time()
    for _ in range(PRODUCTS):
        tokens @ weights
    return PRODUCTS * 2 * tokens.numel() * 4 * width / (time.process_time() - begin)


def waste(family: str, course: packing.Sentences) -> float:
    """The share of padding among the tokens of a step's inputs and, where there are two sides, outputs."""
    if family != "encoder-decoder":
        return 0.0
    inputs = packing.OBJECTIVES[family](course.packed.batch(0), np.random.default_rng(0))
    pad = inputs["input_ids"] == wikipedia.build().token_to_id("<pad>")
    sides = pad, inputs["labels"] == packing.NOTHING
    return sum(int(side.sum()) for side in sides) / sum(side.numel() for side in sides)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=6)
    given = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, rows of {packing.LENGTH} tokens\n")
    print("| family | parameters | tokens/s | GFLOP/s | of the product's | waste |\n|---|--:|--:|--:|--:|--:|")
    for family in FAMILIES:
        lesson = Lesson(family, WIKIPEDIA, 1)
        model = fresh(family, WIKIPEDIA, 1).train()
        course = packing.Sentences(lesson, model)
        optimizer = optimizer_of(lesson, model)
        with FlopCounterMode(display=False) as counter:
            course.backward(model, 0, course.steps)
        tokens, seconds, shares = packing.ROWS[family] * packing.LENGTH, [], []
        for step in range(1, given.steps + 1):
            rate, begin = product_rate(tokens, model.config.hidden_size), time.process_time()
            optimizer.zero_grad(set_to_none=True)
            course.backward(model, step, course.steps)
            optimizer.step()
            seconds.append(time.process_time() - begin)
            shares.append(counter.get_total_flops() / seconds[-1] / rate)
        second = statistics.median(seconds)
        parameters = sum(p.numel() for p in model.parameters())
        print(
            f"| {family} | {parameters:,} | {tokens / second:,.0f} | {counter.get_total_flops() / second / 1e9:.0f} | "
            f"{100 * statistics.median(shares):.0f} % | {100 * waste(family, course):.1f} % |",
            flush=True,
        )


if __name__ == "__main__":
    main()
