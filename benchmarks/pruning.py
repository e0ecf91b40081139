"""Global magnitude pruning against torch.nn.utils.prune: time, extra peak memory, equality of masks, in one run.

    .venv/bin/python benchmarks/pruning.py [--model DIR] [--scope all] [--torch-once | --one]

Without --model a randomly initialised Llama of SmolLM2-135M's shape is used (seeded). Every measurement is made in a
process of its own. Extra peak memory is how far the process's resident set (VmHWM in /proc/self/status) rose above what
was resident when pruning began; before every pruning the mark is reset (`5` into /proc/self/clear_refs) and what was
freed is given back to the system, so that loading and comparing masks leave nothing that would be counted, or hide what
is. kc_utils and torch are run for one sparsity in one process and for nine in another; torch each time from the
unpruned weights, which are copied back outside the clock, and with --torch-once for one sparsity only, whose time is
multiplied by nine. kc_utils prunes to nine sparsities by `magnitude.sweep`, each state in the model after the other.
The yardstick is all weights of the model written to a safetensors file and read back, with the system's cache warm; a
stricter one is a copy of them in memory. Masks of all pruned matrices are compared by number of zeros, largest
magnitude pruned, and SHA-256 of their bits; once as they are, and once without the weights whose magnitude equals that
of the cut: of several such weights torch takes any, kc_utils takes the first, and among 106 M float32 numbers there are
several more often than not.
Prints a Markdown table.
"""

import argparse
import ctypes
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
TIMES = ("seconds", "processor", "disk", "memory")  # what of a measurement is said at once
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


class Clock:
    """Seconds, processor seconds of all threads, and the highest resident set, over several stretches of work."""

    def __init__(self):
        self.seconds = self.processor = 0.0
        ctypes.CDLL(None).malloc_trim(0)
        self.before = self.peak = resident("VmRSS")

    def start(self) -> None:
        """Freed memory goes back to the system, and the mark of the highest resident set to what is resident now."""
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        self._began = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        self.seconds += time.perf_counter() - self._began[0]
        self.processor += time.process_time() - self._began[1]
        self.peak = max(self.peak, resident("VmHWM"))


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
    clock, masks = Clock(), {}

    if what.startswith("kc"):
        clock.start()
        for sparsity, _ in magnitude.sweep(matrices, sparsities):
            clock.stop()
            masks[sparsity] = describe(weights, saved)
            clock.start()
    elif what.startswith("torch"):
        from torch.nn.utils import prune

        pairs = [(m.module, "weight") for m in matrices]
        for sparsity in sparsities:
            clock.start()
            prune.global_unstructured(pairs, pruning_method=prune.L1Unstructured, amount=sparsity)
            for module, name in pairs:
                prune.remove(module, name)
            clock.stop()
            masks[sparsity] = describe((m.module.weight.detach() for m in matrices), saved)
            for m, original in zip(matrices, saved, strict=True):
                m.module.weight.data.copy_(original)
    elif what == "yardsticks":
        return yardsticks(model)
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    times = {"seconds": clock.seconds, "processor": clock.processor, "extra": clock.peak - clock.before}
    return {**times, "masks": masks, "weights": n, "model_bytes": size}


def yardsticks(model) -> dict:
    """Seconds to write and read all weights through a file, and to copy them in memory; each the better of three."""
    import torch
    from safetensors.torch import load_file, save_file

    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    copies = {name: torch.empty_like(weight) for name, weight in weights.items()}
    disk, memory = [], []
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as place:
        for _ in range(3):
            begin = time.perf_counter()
            save_file(weights, f"{place}/w.safetensors")
            for name, weight in load_file(f"{place}/w.safetensors").items():
                copies[name].copy_(weight)  # the file is mapped: reading happens here
            disk.append(time.perf_counter() - begin)
            begin = time.perf_counter()
            for name, weight in weights.items():
                copies[name].copy_(weight)
            memory.append(time.perf_counter() - begin)
    return {"disk": min(disk), "memory": min(memory)}


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
    parser.add_argument("--torch-once", action="store_true", help="torch for one sparsity only, times nine")
    parser.add_argument("--one", action="store_true", help="one sparsity only; nine take torch minutes")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure, args.model, args.scope)))
        return

    import torch

    wanted = ["yardsticks", "kc one", "torch one", "kc nine", "torch nine"]
    if args.one:
        wanted = wanted[:3]
    elif args.torch_once:
        wanted = wanted[:4]
    results = {}
    for what in wanted:
        results[what] = in_process(what, args)
        said = {key: f"{value:.2f} s" for key, value in results[what].items() if key in TIMES}
        print(f"{what}: {', '.join(f'{key} {value}' for key, value in said.items())}", file=sys.stderr)
    one, yardstick = results["kc one"], results["yardsticks"]
    size, touched = one["model_bytes"], one["weights"]
    print(
        f"{args.model or 'random Llama of the shape of SmolLM2-135M'}, {touched / 1e6:.1f} M weights pruned of "
        f"{size / 1e6:.0f} MB, torch {torch.__version__}, {torch.get_num_threads()} threads\n"
    )
    print("| | kc_utils | torch.nn.utils.prune | ratio |\n|---|--:|--:|--:|")
    labels = {"one": "one sparsity (0.5)", "nine": "nine sparsities (0.1 to 0.9)"}
    compared, masks = [count for count in labels if f"kc {count}" in results], []
    for count in compared:
        ours, theirs, label = results[f"kc {count}"], results.get(f"torch {count}"), labels[count]
        seconds, note = (theirs["seconds"], "") if theirs else (9 * results["torch one"]["seconds"], ", 9 times one")
        ratio = seconds / ours["seconds"]
        print(f"| {label} | {ours['seconds']:.2f} s | {seconds:.1f} s{note} | {ratio:.0f} times faster |")
        busy = theirs["processor"] if theirs else 9 * results["torch one"]["processor"]
        ratio = busy / ours["processor"]
        print(f"| its processor time | {ours['processor']:.2f} s | {busy:.1f} s{note} | {ratio:.0f} times less |")
    for count in compared:
        ours, theirs = results[f"kc {count}"], results.get(f"torch {count}", results["torch one"])
        note = "" if f"torch {count}" in results else ", for one"
        print(
            f"| extra peak memory, {count} | {ours['extra'] / 1e6:.0f} MB ({ours['extra'] / size:.1%} of the model) | "
            f"{theirs['extra'] / 1e6:.0f} MB ({theirs['extra'] / size:.0%}){note} | "
            f"{theirs['extra'] / max(ours['extra'], 1):.0f} times less |"
        )
        masks += [(ours["masks"][s], m) for s, m in theirs["masks"].items() if s in ours["masks"]]
    apart = sum(all(a[key] == b[key] for key in ("zeros", "cut", "clear")) for a, b in masks)
    equal = sum(a["whole"] == b["whole"] for a, b in masks)
    print(f"| masks equal, ties at the cut set apart | {apart} of {len(masks)} | | (bit for bit: {equal}) |")
    for what, label in (
        ("disk", "all weights to a safetensors file and back"),
        ("memory", "all weights copied in memory"),
    ):
        ratio = one["seconds"] / yardstick[what]
        print(f"| {label} | {yardstick[what]:.3f} s | | pruning to one sparsity takes {ratio:.1f} times that |")
    if apart != len(masks):
        raise SystemExit("the masks differ")


if __name__ == "__main__":
    main()
