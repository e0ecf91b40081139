"""Global magnitude pruning against torch.nn.utils.prune: time, extra peak memory, equality of masks, in one run.

    .venv/bin/python benchmarks/pruning.py [--model DIR] [--scope all] [--one]

Without --model a randomly initialised Llama of SmolLM2-135M's shape is used (seeded). Every measurement is made in a
process of its own. Extra peak memory is how far the process's resident set (VmHWM in /proc/self/status) rose above what
was resident when pruning began; the mark is reset before every pruning (`5` into /proc/self/clear_refs). torch is run
for one sparsity in one process and for nine in another, each from the unpruned weights, which are copied back outside
the clock. Masks of all pruned matrices are compared by number of zeros, largest magnitude pruned, and SHA-256 of their
bits; once as they are, and once without the weights whose magnitude equals that of the cut: of several such weights
torch takes any, kc_utils takes the first, and among 106 M float32 numbers there are several more often than not.
Prints a Markdown table.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
NINE = [i / 10 for i in range(1, 10)]


def load(folder: str | None):
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, logging

    logging.set_verbosity_error()
    if folder:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3,
        vocab_size=49152, tie_word_embeddings=True,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def resident(field: str) -> int:
    """Bytes of a line of /proc/self/status: VmRSS now, VmHWM at its highest."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise SystemExit("this benchmark reads /proc/self/status: run it on Linux")


def start_clock() -> float:
    """The time, with the mark of the highest resident set put back to what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")
    return time.perf_counter()


def describe(tensors, originals) -> dict:
    """Zeros, largest magnitude that went, digests of the mask with and without weights of that magnitude."""
    import numpy as np

    tensors = list(tensors)
    cut = max(float(o[t == 0].abs().max()) for t, o in zip(tensors, originals, strict=True))
    whole, clear = hashlib.sha256(), hashlib.sha256()
    for tensor, original in zip(tensors, originals, strict=True):
        kept = (tensor != 0).numpy()
        whole.update(np.packbits(kept).tobytes())
        clear.update(np.packbits(kept | (original.abs() == cut).numpy()).tobytes())
    zeros = sum(int((t == 0).sum()) for t in tensors)
    return {"zeros": zeros, "cut": cut, "whole": whole.hexdigest(), "clear": clear.hexdigest()}


def measure(what: str, folder: str | None, scope: str) -> dict:
    """One measurement, in this process: seconds, extra peak bytes, digests of the masks by sparsity."""
    import torch

    from kc_utils.compression import magnitude
    from kc_utils.models.scopes import select

    model = load(folder)
    for parameter in model.parameters():  # out of the mapped file, whose pages would be copied inside the clock
        parameter.data = parameter.data.clone()
    matrices = select(model, scope)
    weights = [m.weight for m in matrices]
    n = sum(w.numel() for w in weights)
    sparsities = NINE if what.endswith("nine") else [0.5]
    saved = [w.clone() for w in weights] if what.startswith(("kc", "torch")) else []
    torch.histc(torch.ones(9), 3)  # start torch's threads outside the clock
    before, seconds, masks = resident("VmRSS"), 0.0, {}
    peak = before

    if what.startswith("kc"):
        begin = start_clock()
        for sparsity, _ in magnitude.sweep(matrices, sparsities):
            seconds += time.perf_counter() - begin
            peak = max(peak, resident("VmHWM"))
            masks[sparsity] = describe(weights, saved)
            begin = start_clock()
    elif what.startswith("torch"):
        from torch.nn.utils import prune

        pairs = [(m.module, "weight") for m in matrices]
        for sparsity in sparsities:
            begin = start_clock()
            prune.global_unstructured(pairs, pruning_method=prune.L1Unstructured, amount=sparsity)
            for module, name in pairs:
                prune.remove(module, name)
            seconds += time.perf_counter() - begin
            peak = max(peak, resident("VmHWM"))
            masks[sparsity] = describe((m.module.weight.detach() for m in matrices), saved)
            for m, original in zip(matrices, saved, strict=True):
                m.module.weight.data.copy_(original)
    elif what == "memory":  # read every weight once and write it once, in memory
        begin = time.perf_counter()
        for w in weights:
            w.mul_(1.0)
        seconds = time.perf_counter() - begin
    elif what == "disk":  # the same through a safetensors file, cached by the system: written, then read
        from safetensors.torch import load_file, save_file

        with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as place:
            begin = time.perf_counter()
            save_file({m.name: w for m, w in zip(matrices, weights, strict=True)}, f"{place}/w.safetensors")
            loaded = load_file(f"{place}/w.safetensors")
            sum(float(w.sum()) for w in loaded.values())  # it is mapped: reading happens here
            seconds = time.perf_counter() - begin
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    return {"seconds": seconds, "extra": peak - before, "masks": masks, "weights": n, "model_bytes": size}


def in_process(what: str, args) -> dict:
    command = [sys.executable, __file__, "--measure", what, "--scope", args.scope]
    command += ["--model", args.model] if args.model else []
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"{what}: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="folder of a decoder; default: random weights of SmolLM2-135M's shape")
    parser.add_argument("--scope", default="all")
    parser.add_argument("--one", action="store_true", help="one sparsity only; nine take torch minutes")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure, args.model, args.scope)))
        return

    import torch

    results = {}
    counts = {"one": "one sparsity (0.5)", "nine": "nine sparsities (0.1 to 0.9)"}
    if args.one:
        del counts["nine"]
    for what in ("memory", "disk", *(f"{who} {count}" for who in ("kc", "torch") for count in counts)):
        results[what] = in_process(what, args)
        print(f"{what}: {results[what]['seconds']:.2f} s", file=sys.stderr)
    one = results["kc one"]
    size, touched = one["model_bytes"], one["weights"]
    print(
        f"{args.model or 'random Llama of the shape of SmolLM2-135M'}, {touched / 1e6:.1f} M weights pruned of "
        f"{size / 1e6:.0f} MB, torch {torch.__version__}, {torch.get_num_threads()} threads\n"
    )
    print("| | kc_utils | torch.nn.utils.prune | ratio |\n|---|--:|--:|--:|")
    for what, label in counts.items():
        ours, theirs = results[f"kc {what}"], results[f"torch {what}"]
        ratio = theirs["seconds"] / ours["seconds"]
        print(f"| {label} | {ours['seconds']:.2f} s | {theirs['seconds']:.1f} s | {ratio:.0f} times faster |")
    for what in counts:
        ours, theirs = results[f"kc {what}"], results[f"torch {what}"]
        print(
            f"| extra peak memory, {what} | {ours['extra'] / 1e6:.0f} MB ({ours['extra'] / size:.1%} of the model) | "
            f"{theirs['extra'] / 1e6:.0f} MB ({theirs['extra'] / size:.0%}) | "
            f"{theirs['extra'] / max(ours['extra'], 1):.0f} times less |"
        )
    pairs = [
        (results[f"kc {w}"]["masks"][s], m) for w in counts for s, m in results[f"torch {w}"]["masks"].items()
    ]
    apart = sum(all(a[key] == b[key] for key in ("zeros", "cut", "clear")) for a, b in pairs)
    equal = sum(a["whole"] == b["whole"] for a, b in pairs)
    print(f"| masks equal, ties at the cut set apart | {apart} of {len(pairs)} | | (bit for bit: {equal}) |")
    for what, label in (
        ("memory", "reading and writing the weights once, in memory"),
        ("disk", "the same through a safetensors file"),
    ):
        spent = results[what]["seconds"]
        print(f"| {label} | {spent:.3f} s | | pruning takes {one['seconds'] / spent:.1f} times that |")
    if apart != len(pairs):
        raise SystemExit("the masks differ")


if __name__ == "__main__":
    main()
