"""Is GPTQ better than rounding to nearest on the same grid, and on which calibration text?

    KC_DATA=... OMP_NUM_THREADS=1 .venv/bin/python benchmarks/gptq_rtn.py [--bits 3] [--only nearest whole]

Rounds all matrices of a model's blocks on one grid (groups of 128, symmetric, the defaults of `gptq`) to nearest, by GPTQ on
calibration texts that differ in kind, length and cut, and by gptqmodel on the same windows. Texts: `whole`, what a recipe reads
by default; `essays`, a third of its paragraphs, all of one kind; either of them `apart`, each paragraph by itself behind the
token that opens a text instead of in windows; `wikitext`, as many windows of the text that is scored, from token 100,000 on,
none of them scored. Perplexity is that of WikiText-2's first tokens, in windows that do not overlap; knowledge is the share of
right answers to the facts of `PROBE`.

Prints Markdown and writes results/simulations/gptq_rtn.csv line by line; lines that are there already are kept.
"""

from __future__ import annotations

import argparse
import os
import tempfile

import pandas as pd
import torch
from spent import now
from torch.nn.utils.rnn import pad_sequence

from kc_utils.compression import calibration, gptq, rtn
from kc_utils.compression.gptq_format import import_readers
from kc_utils.models.loading import Loaded, load
from kc_utils.models.scopes import Matrix, select
from kc_utils.places import project_dir
from kc_utils.probing.evaluate import evaluate
from kc_utils.probing.perplexity import load_text, perplexity, score_text
from kc_utils.probing.probe import Probe

FILE = project_dir() / "results/simulations/gptq_rtn.csv"
GROUP, DAMP, SCORED, STRIDE, UNSCORED = 128, 0.1, 4096, 1024, 100_000
KEYS = ["model", "bits", "rounding", "text"]
RUNS = [
    ("nearest", ""), ("GPTQ", "whole"), ("GPTQ", "essays apart"), ("GPTQ", "wikitext"), ("GPTQ", "essays"),
    ("GPTQ", "whole apart"), ("gptqmodel", "whole"),
]  # fmt: skip
PROBE = Probe(
    relations=("borders", "capital", "capital_of", "city_country", "city_state", "continent", "currency", "demonym",
               "element_symbol", "official_language", "state_capital", "symbol_element"),
    limit=504, protocols=("cloze", "rank"), alternatives=2,
)  # fmt: skip
"""The facts of which the model knows more than chance, as in the study of a laptop."""


def text_of(loaded: Loaded, name: str) -> dict[str, torch.Tensor]:
    """Return the model's arguments for a calibration text."""
    whole = calibration.batch(loaded.model, loaded.tokenizer, len(calibration.paragraphs()))
    if name == "whole":
        return whole
    parts, start = calibration.paragraphs()[2::3] if "essays" in name else calibration.paragraphs(), loaded.tokenizer.bos_token_id
    if "apart" in name:
        rows = [torch.tensor([start, *loaded.tokenizer(part)["input_ids"]]) for part in parts]
    else:
        text = load_text("wikitext2") if name == "wikitext" else "\n\n".join(parts)
        tokens = torch.tensor(loaded.tokenizer(text, verbose=False)["input_ids"])[UNSCORED * (name == "wikitext") :]
        rows = list(tokens.split(whole["input_ids"].shape[1])[: len(whole["input_ids"])])
    real = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    return {"input_ids": pad_sequence(rows, batch_first=True), "attention_mask": real}


@torch.no_grad()
def by_gptq(loaded: Loaded, bits: int, text: dict[str, torch.Tensor]) -> None:
    """Round the blocks in place, as a recipe's step does."""
    latest = [None, None]

    def visit(matrix: Matrix, x: torch.Tensor) -> None:
        if latest[0] is not x:
            latest[:] = x, gptq.columns_of(x.t() @ x / len(x), GROUP, DAMP)
        matrix.rows.copy_(gptq.solve(matrix.rows, latest[1], bits, True)[0])

    calibration.walk(loaded.model, select(loaded.model, "all"), text, visit)


def by_gptqmodel(loaded: Loaded, bits: int, text: dict[str, torch.Tensor]) -> None:
    """Let gptqmodel round a copy of the model on the same windows, and take its weights."""
    os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")  # it wants two, and takes one on a machine of two cores
    import_readers()
    from gptqmodel import BACKEND, GPTQModel, QuantizeConfig
    from gptqmodel.nn_modules.qlinear.torch import TorchLinear

    rows = [ids[real.bool()].tolist() for ids, real in zip(text["input_ids"], text["attention_mask"], strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        loaded.model.save_pretrained(folder)
        loaded.tokenizer.save_pretrained(folder)
        config = QuantizeConfig(bits=bits, group_size=GROUP, sym=True, damp_percent=DAMP, device="cpu")
        theirs = GPTQModel.load(folder, config, backend=BACKEND.TORCH)
        theirs.quantize([{"input_ids": r, "attention_mask": [1] * len(r)} for r in rows], batch_size=1, backend=BACKEND.TORCH)
        theirs.save(f"{folder}/packed")
        theirs = GPTQModel.load(f"{folder}/packed", device="cpu", backend=BACKEND.TORCH)
    for name, module in theirs.model.named_modules():
        if isinstance(module, TorchLinear):
            loaded.model.get_submodule(name).weight.data.copy_(module.dequantize_weight().t())


def measured(loaded: Loaded) -> dict:
    """Return perplexity and knowledge of the model as it is now."""
    scored = score_text(loaded.model, loaded.tokenizer, load_text("wikitext2"), SCORED, stride=STRIDE)
    rows = evaluate(loaded.model, loaded.tokenizer, "decoder", PROBE).rows
    right = rows.groupby("protocol")["correct"].mean().round(4)
    return {"scored": SCORED, "perplexity": round(perplexity(scored)["token_perplexity"], 2), "facts": PROBE.limit, **right}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", default="smollm2-135m")
    options.add_argument("--bits", type=int, nargs="+", default=[3, 4])
    options.add_argument("--only", nargs="+", help="names of texts, none, nearest or gptqmodel")
    chosen = options.parse_args()
    for bits, rounding, text in [(16, "none", ""), *((bits, *run) for run in RUNS for bits in chosen.bits)]:
        table = pd.read_csv(FILE, keep_default_na=False) if FILE.exists() else pd.DataFrame(columns=KEYS)
        line = dict(zip(KEYS, (chosen.model, bits, rounding, text), strict=True))
        done = (table[KEYS].astype(str) == pd.Series(line).astype(str)).all(axis=1).any()
        if done or (chosen.only and not {text if rounding == "GPTQ" else rounding} & set(chosen.only)):
            continue
        start, loaded = now(), load(chosen.model)
        line |= {"windows": 0, "tokens": 0}
        if rounding == "nearest":
            for matrix in select(loaded.model, "all"):
                rtn.quantize_(matrix.rows, bits, GROUP, True)
        elif text:
            read = text_of(loaded, text)
            line |= {"windows": len(read["input_ids"]), "tokens": int(read["attention_mask"].sum())}
            (by_gptq if rounding == "GPTQ" else by_gptqmodel)(loaded, bits, read)
        added = pd.DataFrame([line | measured(loaded)])
        FILE.parent.mkdir(parents=True, exist_ok=True)
        (pd.concat([table, added]) if len(table) else added).to_csv(FILE, index=False)
        print(f"{line}, {now() - start} seconds", flush=True)
    print(pd.read_csv(FILE, keep_default_na=False).to_markdown(index=False))


if __name__ == "__main__":
    main()
