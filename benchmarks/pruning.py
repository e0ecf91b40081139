"""Global magnitude pruning against torch.nn.utils.prune: time, extra peak memory, equality of masks, in one run.

    OMP_NUM_THREADS=2 .venv/bin/python benchmarks/pruning.py [--model DIR] [--scope all] [--sparsity 0.5]

Without --model a randomly initialised Llama of SmolLM2-135M's shape is used (seeded). kc_utils and torch prune in a
process each. Extra peak memory is how far the process's resident set (VmHWM in /proc/self/status) rose above what was
resident when pruning began: before it the mark is reset (`5` into /proc/self/clear_refs) and freed memory given back to
the system. Masks of all pruned matrices are compared by number of zeros, largest pruned magnitude, and SHA-256 of their
bits; once as they are, and once without the weights whose magnitude equals that of the cut: of several such weights
torch takes any, kc_utils the first by position. Prints a Markdown table; leaves with an error when a bar is missed.
"""

import argparse
import ctypes
import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
FASTER, SHARE = 25, 0.2  # bars: times faster than torch, and extra memory as a share of the model


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


def measure(who: str, folder: str | None, scope: str, sparsity: float) -> dict:
    """One measurement, in this process: seconds, processor seconds, extra peak bytes, digests of the masks."""
    import torch
    from torch.nn.utils import prune

    from kc_utils.compression.magnitude import prune_smallest
    from kc_utils.models.scopes import select

    model = load(folder)
    for parameter in model.parameters():  # out of the mapped file, whose pages would be copied inside the clock
        parameter.data = parameter.data.clone()
    matrices = select(model, scope)
    originals = [m.weight.clone() for m in matrices]
    n = sum(w.numel() for w in originals)
    torch.histc(torch.ones(9), 3)  # start torch's threads outside the clock
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before, began = resident("VmRSS"), (time.perf_counter(), time.process_time())
    if who == "kc_utils":
        prune_smallest([m.weight for m in matrices], round(sparsity * n))
    else:
        pairs = [(m.module, "weight") for m in matrices]
        prune.global_unstructured(pairs, pruning_method=prune.L1Unstructured, amount=sparsity)
        for module, name in pairs:
            prune.remove(module, name)
    seconds, processor = time.perf_counter() - began[0], time.process_time() - began[1]
    extra = resident("VmHWM") - before
    pruned = [m.module.weight.detach() for m in matrices]
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    times = {"seconds": seconds, "processor": processor, "extra": extra, "weights": n, "model_bytes": size}
    return times | describe(pruned, originals)


def describe(tensors, originals) -> dict:
    """Zeros, largest pruned magnitude, digests of the mask with and without weights of that magnitude."""
    import numpy as np

    cut = max(float(o[t == 0].abs().max()) for t, o in zip(tensors, originals, strict=True) if (t == 0).any())
    whole, clear = hashlib.sha256(), hashlib.sha256()
    for tensor, original in zip(tensors, originals, strict=True):
        kept = (tensor != 0).numpy()
        whole.update(np.packbits(kept).tobytes())
        clear.update(np.packbits(kept | (original.abs() == cut).numpy()).tobytes())
    zeros = sum(int((t == 0).sum()) for t in tensors)
    return {"zeros": zeros, "cut": cut, "whole": whole.hexdigest(), "clear": clear.hexdigest()}


def in_process(who: str, args) -> dict:
    command = [sys.executable, __file__, "--measure", who, "--scope", args.scope, "--sparsity", str(args.sparsity)]
    command += ["--model", args.model] if args.model else []
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"{who}: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="folder of a decoder; default: random weights of SmolLM2-135M's shape")
    parser.add_argument("--scope", default="all")
    parser.add_argument("--sparsity", type=float, default=0.5)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure, args.model, args.scope, args.sparsity)))
        return

    import torch

    ours, theirs = in_process("kc_utils", args), in_process("torch", args)
    size = ours["model_bytes"]
    print(
        f"{Path(args.model).name if args.model else 'random Llama of the shape of SmolLM2-135M'}, sparsity "
        f"{args.sparsity}, {ours['weights'] / 1e6:.1f} M weights pruned of {size / 1e6:.0f} MB, torch "
        f"{torch.__version__}, {torch.get_num_threads()} threads\n"
    )
    print("| | kc_utils | torch.nn.utils.prune | ratio | bar |\n|---|--:|--:|--:|--:|")
    faster = {what: theirs[what] / ours[what] for what in ("seconds", "processor")}
    for what, label in (("seconds", "time"), ("processor", "processor time")):
        bar = f"{FASTER} times" if what == "processor" else ""
        print(f"| {label} | {ours[what]:.2f} s | {theirs[what]:.1f} s | {faster[what]:.0f} times faster | {bar} |")
    print(
        f"| extra peak memory | {ours['extra'] / 1e6:.0f} MB ({ours['extra'] / size:.1%} of the model) | "
        f"{theirs['extra'] / 1e6:.0f} MB ({theirs['extra'] / size:.0%}) | "
        f"{theirs['extra'] / max(ours['extra'], 1):.0f} times less | under {SHARE:.0%} |"
    )
    equal = all(ours[key] == theirs[key] for key in ("zeros", "cut", "clear"))
    said = {True: "yes", False: "no"}
    print(f"| masks equal, ties at the cut set apart | {said[equal]} | | | yes |")
    print(f"| masks equal bit for bit | {said[ours['whole'] == theirs['whole']]} | | | |")
    if not (equal and faster["processor"] >= FASTER and ours["extra"] < SHARE * size):
        raise SystemExit("a bar is missed")


if __name__ == "__main__":
    main()
