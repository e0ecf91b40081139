"""The GPTQ checkpoint format: rounded matrices as packed whole numbers, readable with plain transformers.

For a matrix of (outputs, inputs) with `groups` groups and `bits` bits, all packed into int32 words without gaps, the
first number in the lowest bits (32 numbers of 3 bits take 3 words):

    qweight  int32 (inputs * bits / 32, outputs)    q, packed along the inputs
    qzeros   int32 (groups, outputs * bits / 32)    zero points, packed along the outputs; format `gptq` (version 1)
                                                    holds zero - 1, and `gptq_v2` zero
    scales   float16 (groups, outputs)
    g_idx    int32 (inputs,)                        the group of each input

weight = scale * (q - zero), as in `report.Grid`. Version 1 is read by every program; it has no room for a zero point
of 0, and version 2 is written where one occurs. A folder holds one number of bits and one group size; the packed
modules, which can be any set, are named by `block_name_to_quantize` and `modules_in_block_to_quantize`. transformers
reads such a folder through optimum and gptqmodel.
"""

import contextlib
import io
import logging
import os
import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import torch

from kc_utils import __version__
from kc_utils.compression import encodings
from kc_utils.compression.report import Grid
from kc_utils.errors import BadRequest, MissingData, listed

PACKAGES = ("optimum", "gptqmodel")
INSTALL = "pip install -c constraints.txt optimum && pip install -c constraints.txt --no-build-isolation gptqmodel"

WORD = 32  # bits; inputs and outputs of a matrix must be whole words of numbers
GROUPS = (16, 32, 64, 128, 256, 512, 1024)  # that gptqmodel's plain kernel reads, besides all inputs
UNREADABLE = ("gpt2", "t5")  # transformers 5.23 initializes their matrices by name, and packed ones have none
PLAIN = "gptq_torch"  # gptqmodel's kernel in plain torch, for any shape and device


def packed(
    state: Mapping[str, torch.Tensor], grids: Mapping[str, Grid], model_type: str | None = None
) -> tuple[dict[str, torch.Tensor], dict[str, object]]:
    """Pack the rounded matrices of a model's state; returns it with the `quantization_config` of its config.json.

    state: a model's `state_dict()`; grids: by parameter name (`Outcome.storage` of gptq and rtn), of weights stored as
    (outputs, inputs) or, in a Conv1D, as (inputs, outputs); model_type: of the model's config. Other tensors of the
    state are passed on as they are.

    Raises BadRequest for what the format cannot hold (different bits or groups, sizes that are not multiples of 32,
    weights that are not on their grid any more), and for models that transformers cannot load from it.
    """
    if model_type in UNREADABLE:
        raise BadRequest(
            f"GPTQ format: transformers cannot load packed weights of {model_type}, whose initial values it draws "
            "although the file holds them; write the model unpacked"
        )
    if not grids:
        raise BadRequest("GPTQ format: no matrix has a grid; round some with gptq@... or rtn@...")
    bits = _only({g.bits for g in grids.values()}, "numbers of bits")
    group, ordered = _grouping(grids)
    first = all(bool((g.zero >= 1).all()) for g in grids.values())
    tensors = dict(state)
    for name, grid in grids.items():
        if name not in state:
            raise BadRequest(f"GPTQ format: {name} has a grid but is not in the model's state")
        tensors |= {f"{name.removesuffix('.weight')}.{part}": t for part, t in _parts(name, state, grid, first).items()}
        del tensors[name]
    modules = [name.removesuffix(".weight") for name in grids]
    blocks, inside = _where(modules, [n.removesuffix(".weight") for n, t in state.items() if t.dim() == 2])
    config = {
        "quant_method": "gptq", "bits": bits, "group_size": group, "desc_act": ordered,
        "sym": all(g.sym for g in grids.values()), "true_sequential": True,
        "format": "gptq" if first else "gptq_v2", "checkpoint_format": "gptq" if first else "gptq_v2",
        "block_name_to_quantize": blocks, "modules_in_block_to_quantize": [inside],
        "meta": {"quantizer": [f"kc_utils:{__version__}"]},
    }  # fmt: skip
    if bits == 4 and not _fast(grids, group):
        config["backend"] = PLAIN  # the kernel that it takes otherwise fails at the first call
    return tensors, config


def pack(numbers: np.ndarray, bits: int) -> np.ndarray:
    """int32 (rows * bits / 32, columns) of whole numbers below 2**bits, (rows, columns) with rows a multiple of 32."""
    words = encodings.pack(np.ascontiguousarray(numbers.T), bits).view("<i4")
    return np.ascontiguousarray(words.reshape(numbers.shape[1], -1).T.astype(np.int32))


def _parts(name: str, state: Mapping[str, torch.Tensor], grid: Grid, first: bool) -> dict[str, torch.Tensor]:
    inputs = len(grid.group_of)
    rows = _rows(name, state[name], grid)
    outputs = len(rows)
    if inputs % WORD or outputs % WORD:
        raise BadRequest(
            f"GPTQ format: {name} is {outputs} x {inputs}; both must be multiples of {WORD}, keep it out of the scope"
        )
    scale, zero = grid.scale.expand(outputs, -1), grid.zero.expand(outputs, -1)
    return {
        "qweight": torch.from_numpy(pack(grid.integers(rows).t().numpy(), grid.bits)),
        "qzeros": torch.from_numpy(pack(zero.numpy() - np.uint8(first), grid.bits)).t().contiguous(),
        "scales": scale.t().half().contiguous(),
        "g_idx": grid.group_of.to(torch.int32),
    }


def _rows(name: str, weight: torch.Tensor, grid: Grid) -> torch.Tensor:
    """The weight as (outputs, inputs), whichever way its module keeps it: only one of the two lies on the grid."""
    for rows in (weight.detach(), weight.detach().t()):
        fits = rows.shape[1] == len(grid.group_of) and grid.scale.shape[0] in (1, len(rows))
        if fits and torch.equal(grid.weight(grid.integers(rows)), rows.float()):
            return rows
    raise BadRequest(f"GPTQ format: {name} is not on the grid that it was rounded to, so a later step changed it; round last")


def _grouping(grids: Mapping[str, Grid]) -> tuple[int, bool]:
    """The group size of the format (-1: all inputs), and whether groups are other than consecutive inputs."""
    grouped = [grid for grid in grids.values() if int(grid.group_of.max()) > 0]
    if not grouped:
        return -1, False
    size = _only({int(torch.bincount(grid.group_of).max()) for grid in grouped}, "group sizes")
    whole = [n for n, g in grids.items() if int(g.group_of.max()) == 0 and len(g.group_of) > size]
    if whole:
        raise BadRequest(
            f"GPTQ format: groups of {size} inputs, and all inputs of {listed(whole, 3)}; write one group= in the recipe"
        )
    if size not in GROUPS:
        raise BadRequest(f"GPTQ format: groups of {size} inputs; kernels read {listed(GROUPS)} or group=channel")
    return size, any(grid.ordered for grid in grouped)


def _fast(grids: Mapping[str, Grid], group: int) -> bool:
    """Whether torch's 4-bit kernel for CPUs, which gptqmodel takes by itself, can compute with all matrices."""
    return group in (-1, 32, 64, 128) and all(len(g.group_of) % group == 0 for g in grids.values())


def _only(found: Iterable[int], what: str) -> int:
    values = sorted(found)
    if len(values) > 1:
        raise BadRequest(f"GPTQ format: {what} {listed(values)}; the format holds one, write one in the recipe")
    return values[0]


def _where(modules: list[str], every: list[str]) -> tuple[str, list[str]]:
    """Prefix of the blocks, and names of the packed modules, as optimum compares them: by their beginning and end.

    Names inside a block where these are enough, as other programs expect; else whole names.
    """
    paths = [re.fullmatch(r"(.+?)\.\d+\.(.+)", name) for name in modules]
    if all(paths):
        blocks, inside = {p[1] for p in paths}, list(dict.fromkeys(p[2] for p in paths))
        if len(blocks) == 1:
            prefix = next(iter(blocks))
            hit = {name for name in every if name.startswith(prefix) and name.endswith(tuple(inside))}
            if hit == set(modules):
                return prefix, inside
    return "", modules


@cache
def import_readers() -> None:
    """Import optimum and gptqmodel quietly, before transformers does it to read a packed folder.

    Importing gptqmodel 7.6 prints a banner and warnings of kernels that a CPU cannot use, sets the root logger to print
    everything, and changes environment variables, among them the folder of the model hub's cache (`HF_HOME`). Raises
    MissingData, with the command that installs them, when they are missing or do not import.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise MissingData(
            f"packed GPTQ weights are read by {' and '.join(missing)}, not installed here; run, with torch there: {INSTALL}"
        )
    import_module("transformers")  # reads the hub's folders before gptqmodel moves them
    with quiet():
        try:
            import_module("optimum.gptq")
            import_module("gptqmodel")
        except ImportError as error:
            raise MissingData(f"GPTQ format: optimum or gptqmodel does not import ({error}); run: {INSTALL}") from error


@contextlib.contextmanager
def quiet():
    """Nothing printed inside shows; loggers and environment are as before after it."""
    root = logging.getLogger()
    level, handlers, environment, disabled = root.level, root.handlers[:], os.environ.copy(), root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            if find_spec("logbar"):
                import_module("logbar").LogBar.shared().setLevel("ERROR")
            yield
    finally:
        logging.disable(disabled)
        root.setLevel(level)
        root.handlers[:] = handlers
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
        logging.getLogger("optimum").setLevel(logging.WARNING)
