"""Harness tasks: the project's reader against lm-eval's own `HFLM`, on the same items of the same files.

    KC_DATA=... .venv/bin/python benchmarks/harness.py [--model smollm2-135m] [--limit 60] [--batch-size 8]

Both answer the requests of the same lm-eval tasks in one process, one after the other, at the same number of rows in a
forward pass; each time is the best of `--repeat` runs. On a machine that others use too, `--threads 1 --processor-time`
counts the seconds this process had a processor instead of those that passed. Tokens are counted where they enter the
model, padding included.
"""

import argparse
import time

import torch

from kc_utils.models.loading import load
from kc_utils.probing.causal import NextToken
from kc_utils.probing.harness.evaluate import make_reader, run, table_of
from kc_utils.probing.harness.tasks import choose, lm_eval, quietly


class Tokens:
    """Counts the tokens that enter a model's embedding."""

    def __init__(self, model):
        self.count = 0
        model.get_input_embeddings().register_forward_pre_hook(self._add)

    def _add(self, _, inputs) -> None:
        self.count += inputs[0].numel()


def measured(makers, chosen, tokens: Tokens, repeat: int, clock):
    """Of each maker of a reader: answers, tokens and seconds of its fastest run. They take turns, so that a machine that
    is slow for a while is slow for all; each run has a reader of its own, which remembers nothing."""
    found = [[None, 0, float("inf")] for _ in makers]
    for _ in range(repeat):
        for result, make in zip(found, makers, strict=True):
            reader, tokens.count, start = make(), 0, clock()
            ((_, answers),) = run(reader, [chosen])
            result[:] = answers, tokens.count, min(result[2], clock() - start)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--tasks", nargs="+", default=["boolq", "piqa", "winogrande"])
    parser.add_argument("--limit", type=int, default=60, help="items of each task")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--threads", type=int, help="of torch; by default as many as it chooses")
    parser.add_argument("--processor-time", action="store_true")
    options = parser.parse_args()
    clock = time.process_time if options.processor_time else time.perf_counter
    if options.threads:
        torch.set_num_threads(options.threads)

    loaded = load(options.model)
    model, tokenizer, family = loaded.model, loaded.tokenizer, loaded.entry.family
    tokens = Tokens(model)

    def stock():
        backend = "seq2seq" if family == "encoder-decoder" else "causal"
        with quietly():
            hflm = lm_eval("models.huggingface").HFLM
            return hflm(pretrained=model, tokenizer=tokenizer, backend=backend, batch_size=options.batch_size)

    # found out once on the uncompressed model, as a study does, and known for all of its recipes
    trees = NextToken(model).takes_trees() if family == "decoder" else None

    def own():
        return make_reader(model, tokenizer, family, options.batch_size, trees)

    warm_up = choose(options.tasks[:1], 2, 1)
    run(stock(), warm_up), run(own(), warm_up)

    print(f"{options.model}, {options.limit} items of each task, {options.batch_size} rows in a forward pass, "
          f"{torch.get_num_threads()} threads\n")  # fmt: skip
    print("| task | items | right answer first | accuracy | tokens, lm-eval's HFLM | tokens, here | seconds, HFLM "
          "| seconds, here | ratio | largest difference of a log-likelihood | other answers |")  # fmt: skip
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    totals = [0.0, 0.0]
    for chosen in choose(options.tasks, options.limit, 0):
        (theirs, their_tokens, their_seconds), (ours, our_tokens, our_seconds) = measured(
            (stock, own), chosen, tokens, options.repeat, clock
        )
        totals = [totals[0] + their_seconds, totals[1] + our_seconds]
        left, right = table_of([(chosen, theirs)]), table_of([(chosen, ours)])
        pairs = zip(left["scores"].explode(), right["scores"].explode(), strict=True)
        worst = max(abs(a - b) for a, b in pairs)
        other = int((left["chosen"] != right["chosen"]).sum())
        first = (right["gold"] == 0).mean()
        print(f"| {chosen.name} | {len(right)} | {first:.0%} | {right['correct'].mean():.1%} | {their_tokens:,} "
              f"| {our_tokens:,} | {their_seconds:.1f} | {our_seconds:.1f} | {their_seconds / our_seconds:.2f} "
              f"| {worst:.1e} | {other} |", flush=True)  # fmt: skip
    print(f"\nAll tasks: {totals[0]:.1f} s against {totals[1]:.1f} s, {totals[0] / totals[1]:.2f} times faster")


if __name__ == "__main__":
    main()
