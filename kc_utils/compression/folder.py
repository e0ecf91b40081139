"""Write a compressed model as a folder that plain transformers loads, and prove that it is the same model.

What is written depends on how the model stores its weights:

    dense     plain numbers; what is pruned is a zero, what is rounded lies on its grid (any recipe but those below)
    gptq      whole numbers packed into 32-bit words with scales and zero points, as GPTQ checkpoints have them
    library   what torchao or bitsandbytes keep, by transformers' own code for them

`compression.json` beside the weights holds the recipe and its report.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import nn

from kc_utils.compression import gptq_format, library_formats
from kc_utils.compression.apply import apply
from kc_utils.compression.recipe import Recipe
from kc_utils.compression.report import Report
from kc_utils.errors import BadRequest, BadResult, KCError
from kc_utils.models.loading import Loaded, read_folder
from kc_utils.places import complete_or_absent

FORMATS = ("auto", "dense", "gptq", "library")
RECORD = "compression.json"
TOKENS = 24  # looked at in each of two sentences when a folder is compared with its model
TOLERANCE = {"dense": 1e-4, "library": 1e-3, "gptq": 2e-2}  # of the largest score; GPTQ kernels compute in 16 bits


def save_compressed(
    loading: Callable[[], Loaded], recipe: Recipe, out: Path, form: str = "auto", made: Mapping | None = None
) -> dict:
    """Apply the recipe to the model that `loading` gives, and write it to `out`, which appears whole or not at all.

    made: what else to record, such as versions. Returns the report (`Report.to_dict`) with `format`, of the folder;
    `bytes_on_disk`, of its weight files; and `difference_after_reload`: the largest difference between the scores of
    the model in memory and of the folder loaded again, as a share of the largest score.

    Raises BadRequest when `out` holds files, or the format cannot hold the model; BadResult when the folder, loaded
    again by transformers alone, is another model; and what `apply` raises.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadRequest(f"{out} exists already and is not empty; choose another folder")
    if form not in FORMATS:
        raise BadRequest(f"unknown format {form!r}: choose {', '.join(FORMATS)}")
    loaded = loading()
    model = loaded.model
    report = apply(model, recipe, tokenizer=loaded.tokenizer)
    chosen = _format(model, report, form, loaded.entry.family)
    before = scores(model, loaded.entry.family)
    with complete_or_absent(out) as scratch:
        scratch.mkdir()
        _write(model, scratch, report, chosen)
        loaded.tokenizer.save_pretrained(scratch)
        with torch.compiler.set_stance("force_eager"):  # a kernel of gptqmodel would compile for minutes
            after = scores(read_folder(scratch, loaded.entry.family)[0].eval(), loaded.entry.family)
        difference = float((before - after).abs().max() / before.abs().max().clamp(min=1e-9))
        if not difference <= TOLERANCE[chosen]:
            raise BadResult(
                f"{recipe}: the folder in format {chosen}, loaded again, differs by {difference:.2g} of the largest "
                f"score; {TOLERANCE[chosen]:g} is allowed, nothing was written"
            )
        size = sum(file.stat().st_size for file in scratch.glob("*.safetensors"))
        found = report.to_dict() | {"format": chosen, "bytes_on_disk": size, "difference_after_reload": difference}
        record = {"model": loaded.entry.id, **found, "made": dict(made or {})}
        (scratch / RECORD).write_text(json.dumps(record, indent=1, allow_nan=False), encoding="utf-8")
    return found


@torch.inference_mode()
def scores(model: nn.Module, family: str) -> torch.Tensor:
    """The model's scores for two fixed rows of tokens, float32 (2, TOKENS, vocabulary)."""
    size = model.get_input_embeddings().weight.shape[0]
    tokens = (torch.arange(2 * TOKENS) ** 2 * 13 % (size - 1) + 1).view(2, TOKENS).to(model.device)
    extra = {"decoder_input_ids": tokens.flip(1)} if family == "encoder-decoder" else {}
    return model(input_ids=tokens, attention_mask=torch.ones_like(tokens), **extra).logits.float().cpu()


def _format(model: nn.Module, report: Report, form: str, family: str) -> str:
    """The format to write, for `auto` the smallest that holds the model."""
    by_library = library_formats.library_of(model) is not None
    if by_library or form == "library":
        if form not in ("auto", "library") or not by_library:
            raise BadRequest(f"{report.recipe} cannot be written as {form}: use auto")
        return "library"
    if form == "dense" or (form == "auto" and (family != "decoder" or not report.grids)):
        return "dense"
    try:
        gptq_format.import_readers()
        gptq_format.packed(model.state_dict(), report.grids, model.config.model_type)
    except KCError:
        if form == "gptq":
            raise
        return "dense"
    return "gptq"


def _write(model: nn.Module, folder: Path, report: Report, form: str) -> None:
    if form == "library":
        library_formats.write(model, folder)
    elif form == "gptq":
        state, settings = gptq_format.packed(model.state_dict(), report.grids, model.config.model_type)
        described = library_formats.with_config(model, settings)
        described.save_pretrained(folder, state_dict=state, save_original_format=False)
    else:
        model.save_pretrained(folder)
