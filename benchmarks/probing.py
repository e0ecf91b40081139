"""Probing speed: how near it comes to the processor's matrix-product rate, and how much sharing prefixes saves.

    .venv/bin/python benchmarks/probing.py [--model smollm2-135m] [--facts 300] [--alternatives 4]

Everything is measured in one process, one after the other, each the best of `--repeat` runs. Floating-point operations
count two per weight for the block matrices of every token that is not padding, and for the final layer of every
context;  attention itself is left out, so that the rate is a lower bound.
"""

import argparse
import time

import torch

from kc_utils.models.loading import load
from kc_utils.models.scopes import select
from kc_utils.probing.causal import NextToken
from kc_utils.probing.evaluate import evaluate
from kc_utils.probing.prefix_tree import grow
from kc_utils.probing.probe import Probe
from kc_utils.probing.protocols import Cloze, Rank
from kc_utils.probing.queries import queries_of
from kc_utils.probing.scorers import CausalScorer


def best(work, repeat: int) -> float:
    """Seconds of the fastest of `repeat` runs."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def matmul_rate(repeat: int, size: int = 2048) -> float:
    """float32 operations per second of a square matrix product."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    return 2 * size**3 / best(lambda: a @ b, max(repeat, 5))


@torch.inference_mode()
def one_by_one(model, contexts) -> None:
    """Plain transformers: every context alone, logits at its last token only."""
    for context in contexts:
        model(input_ids=torch.tensor([context]), logits_to_keep=1)


@torch.inference_mode()
def padded(model, contexts, rows: int = 32) -> None:
    """Plain transformers in batches padded to the longest context of the batch, in the order given, all logits."""
    for start in range(0, len(contexts), rows):
        part = contexts[start : start + rows]
        width = max(map(len, part))
        tokens = torch.tensor([list(c) + [0] * (width - len(c)) for c in part])
        mask = torch.tensor([[1] * len(c) + [0] * (width - len(c)) for c in part])
        model(input_ids=tokens, attention_mask=mask)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", default="smollm2-135m")
    options.add_argument("--facts", type=int, default=300)
    options.add_argument("--alternatives", type=int, default=4)
    options.add_argument("--repeat", type=int, default=2)
    options.add_argument("--plain", type=int, default=40, help="contexts that the plain loops are timed on")
    chosen = options.parse_args()

    loaded = load(chosen.model)
    model = loaded.model
    probe = Probe(limit=chosen.facts, alternatives=chosen.alternatives)
    facts = probe.factset()
    scorer = CausalScorer(loaded.tokenizer)
    cloze = Cloze(queries_of(facts, 1, left_to_right=True), scorer, loaded.tokenizer)
    rank = Rank(queries_of(facts, 1), scorer, facts, chosen.alternatives, 0)
    contexts = list(dict.fromkeys(cloze.inputs + rank.inputs))
    whole = sum(map(len, contexts))
    nodes = sum(map(len, grow(contexts, NextToken(model).max_nodes)))
    body = 2 * sum(m.numel for m in select(model, "all"))
    head = 2 * model.get_output_embeddings().weight.numel()

    rate = matmul_rate(chosen.repeat)
    seconds = best(lambda: evaluate(model, loaded.tokenizer, "decoder", probe), chosen.repeat)
    forward = best(lambda: [None for _ in NextToken(model).logits(contexts)], chosen.repeat)
    few = contexts[:: max(1, len(contexts) // chosen.plain)]
    scale = whole / sum(map(len, few))
    alone = best(lambda: one_by_one(model, few), 1) * scale
    batches = best(lambda: padded(model, few), 1) * scale
    done = nodes * body + len(contexts) * head

    print(f"{len(facts)} facts, cloze and rank with {chosen.alternatives} alternatives, {chosen.model}, "
          f"{torch.get_num_threads()} threads\n")  # fmt: skip
    print("| quantity | value |\n|---|---|")
    print(f"| tokens of all contexts, whole | {whole:,} |")
    print(f"| tokens computed, shared prefixes once | {nodes:,} ({whole / nodes:.1f} times fewer) |")
    print(f"| float32 matrix product | {rate / 1e9:.0f} GFLOP/s |")
    print(f"| probing, model only | {done / forward / 1e9:.0f} GFLOP/s, {100 * done / forward / rate:.0f} % of it |")
    everything = done / seconds
    print(f"| probing, with queries and rows | {everything / 1e9:.0f} GFLOP/s, {100 * everything / rate:.0f} % of it |")
    print(f"| against contexts one by one | {alone / seconds:.1f} times faster |")
    print(f"| against padded batches of 32 | {batches / seconds:.1f} times faster |")


if __name__ == "__main__":
    main()
