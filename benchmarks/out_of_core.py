"""Pruning a model larger than the memory: extra memory, time against plainly reading and writing, time to find scopes.

    .venv/bin/python benchmarks/out_of_core.py [--layers 6] [--shard-gb 1.5] [--recipe magnitude@all=0.5] [--dir DIR]

A folder with the widths of Llama-2-7B (4096, 11008, 32,000 tokens, 32 layers) is written in float16, with as many layers
as asked for, pruned into another folder beside it in a process of its own, and both are removed. Its weights are one
block of normal numbers, repeated with another scale and offset in each tensor: cheap to make, and the cut lies among
different magnitudes as in a real model. Extra memory is how far that process's resident set rose (VmHWM in
/proc/self/status) above what was resident when pruning began. The yardstick copies the same files in pieces of 16 MB,
through a buffer as a program has to that looks at them. What 32 layers would take is calculated from what was measured.
"""

import argparse
import json
import os
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
LAYERS = 32
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008,
    "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32000, "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5, "tie_word_embeddings": False, "dtype": "float16", "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def shapes(config: dict) -> dict[str, tuple[int, ...]]:
    width, inner, vocabulary = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    rows = {"model.embed_tokens.weight": (vocabulary, width)}
    for layer in range(config["num_hidden_layers"]):
        here = f"model.layers.{layer}."
        rows |= {f"{here}self_attn.{name}_proj.weight": (width, width) for name in "qkvo"}
        rows |= {f"{here}mlp.{name}_proj.weight": (inner, width) for name in ("gate", "up")}
        rows[f"{here}mlp.down_proj.weight"] = (width, inner)
        rows |= {f"{here}{name}_layernorm.weight": (width,) for name in ("input", "post_attention")}
    return rows | {"model.norm.weight": (width,), "lm_head.weight": (vocabulary, width)}


def make_folder(folder: Path, config: dict, shard: int) -> None:
    """Write a Llama's folder in shards of at most `shard` bytes (a larger tensor alone), tensor by tensor."""
    import numpy as np

    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    block = np.random.default_rng(0).standard_normal(1 << 22, np.float32)
    groups, size = [[]], 0
    for number, (name, shape) in enumerate(shapes(config).items()):
        nbytes = 2 * int(np.prod(shape))
        if size and size + nbytes > shard:
            groups.append([])
            size = 0
        size += nbytes
        groups[-1].append((number, name, shape, nbytes))
    files = {f"model-{i + 1:05}-of-{len(groups):05}.safetensors": group for i, group in enumerate(groups)}
    for file, group in files.items():
        header, place = {"__metadata__": {"format": "pt"}}, 0
        for _, name, shape, nbytes in group:
            header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [place, place := place + nbytes]}
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with (folder / file).open("wb") as out:
            out.write(struct.pack("<Q", len(text)) + text)
            for number, _, _, nbytes in group:
                values = np.roll(block * (0.01 + 0.03 * (number * 0.618 % 1)), 997 * number).astype(np.float16)
                for start in range(0, nbytes, values.nbytes):
                    out.write(values[: (nbytes - start) // 2])
    weight_map = {name: file for file, group in files.items() for _, name, _, _ in group}
    total = sum(nbytes for group in groups for *_, nbytes in group)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def resident(field: str) -> int:
    """Bytes of a line of /proc/self/status: VmRSS now, VmHWM at its highest."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise SystemExit("this benchmark reads /proc/self/status: run it on Linux")


def measure_pruning(source: Path, recipe: str, target: Path) -> dict:
    """In this process: seconds and extra peak bytes, and the sparsity that was reached."""
    import torch

    from kc_utils.compression.out_of_core import prune_folder
    from kc_utils.compression.recipe import Recipe

    torch.histc(torch.ones(9), 3)  # start torch's threads outside the clock
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    begin, busy = time.perf_counter(), time.process_time()
    report = prune_folder(source, Recipe.parse(recipe), target)
    times = {"seconds": time.perf_counter() - begin, "processor": time.process_time() - busy}
    return times | {"extra": resident("VmHWM") - before, "sparsity": report["sparsity"]}


def measure_scopes() -> dict:
    """Seconds to build 32 layers on the meta device, and to select every scope of them."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from kc_utils.models.scopes import scopes_of, select

    begin = time.perf_counter()
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**CONFIG, num_hidden_layers=LAYERS))
    built = time.perf_counter()
    names = [row.scope for row in scopes_of(model) if row.selectable]
    counted = {name: sum(m.numel for m in select(model, name)) for name in names}
    done = time.perf_counter()
    return {"build": built - begin, "select": done - built, "scopes": len(names), "all": counted["all"]}


def copy(source: Path, target: Path) -> float:
    """Seconds to read and write the weight files."""
    target.mkdir()
    buffer = memoryview(bytearray(16 << 20))
    begin = time.perf_counter()
    for file in sorted(source.glob("*.safetensors")):
        with file.open("rb") as read, (target / file.name).open("wb") as write:
            while size := read.readinto(buffer):
                write.write(buffer[:size])
    return time.perf_counter() - begin


def remove(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


def in_process(*arguments) -> dict:
    done = subprocess.run([sys.executable, __file__, *map(str, arguments)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    if done.returncode:
        raise SystemExit(done.returncode)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=6, help="of the 32 of Llama-2-7B; 0.4 GB each, twice on the disk")
    parser.add_argument("--shard-gb", type=float, default=1.5)
    parser.add_argument("--recipe", default="magnitude@all=0.5")
    parser.add_argument("--dir", help="where the folders are made and removed; default: the system's temporary folder")
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        what, *rest = args.measure
        found = measure_scopes() if what == "scopes" else measure_pruning(Path(rest[0]), args.recipe, Path(rest[1]))
        print(json.dumps(found))
        return

    import torch

    from kc_utils.compression.out_of_core import BUFFER

    with tempfile.TemporaryDirectory(dir=args.dir or os.environ.get("TMPDIR"), prefix="out-of-core-") as place:
        source, target, copied = (Path(place) / name for name in ("source", "target", "copied"))
        make_folder(source, CONFIG | {"num_hidden_layers": args.layers}, int(args.shard_gb * 1e9))
        files = sorted(f.stat().st_size for f in source.glob("*.safetensors"))
        size, shard = sum(files), files[-1]
        os.sync()
        seconds = []
        for _ in range(2):  # the first copy finds the files in the cache as the pruning does; the better one counts
            seconds.append(copy(source, copied))
            remove(copied)
            os.sync()
        plain = min(seconds)
        pruned = in_process("--recipe", args.recipe, "--measure", "prune", source, target)
    scopes = in_process("--measure", "scopes")
    weights = sum(1 for _ in files)
    whole = size / 2 + (LAYERS - args.layers) * scopes["all"] / LAYERS
    times = whole * 2 / size
    print(
        f"{args.recipe} on {args.layers} layers of Llama-2-7B's shape in float16, torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads\n\n| quantity | value |\n|---|--:|"
    )
    rows = {
        "weight files": f"{weights} of up to {shard / 1e9:.2f} GB, {size / 1e9:.2f} GB in all",
        "sparsity reached": f"{pruned['sparsity']:.6f}",
        "extra peak memory": f"{pruned['extra'] / 1e6:.0f} MB, {pruned['extra'] / shard:.2f} of the largest file",
        f"allowed: 1.2 times the largest file and {BUFFER >> 20} MB": f"{(1.2 * shard + BUFFER) / 1e6:.0f} MB",
        "pruning": f"{pruned['seconds']:.1f} s, {pruned['processor']:.1f} s of processor time",
        "reading and writing the same files": f"{plain:.1f} s, pruning takes {pruned['seconds'] / plain:.1f} times that",
        "32 layers, calculated": f"{whole * 2 / 1e9:.1f} GB, {pruned['seconds'] * times:.0f} s, the same extra memory",
        "building 32 layers on the meta device": f"{scopes['build']:.2f} s",
        f"selecting each of its {scopes['scopes']} scopes": f"{scopes['select']:.2f} s",
    }
    for label, value in rows.items():
        print(f"| {label} | {value} |")
    if pruned["extra"] > 1.2 * shard + BUFFER:
        raise SystemExit("more memory than allowed")
    if scopes["build"] + scopes["select"] > 2:
        raise SystemExit("scopes took more than 2 seconds")


if __name__ == "__main__":
    main()
