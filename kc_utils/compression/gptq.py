"""GPTQ: weights are put on a grid of 2**bits values, column by column, and what is left makes up for each error.

Idea (Frantar et al. 2023, arXiv 2210.17323): of a matrix W with inputs X seen on calibration text, round one column
after the other to the grid of `rtn`, and after each change the columns not yet rounded by

    (w - rounded) / [H^-1]_jj * [H^-1]_j,:        H = 2 X X^T / tokens + damp * mean(diag(H)) * I

which keeps W X close to what it was. Blocks are done in order, each with the inputs that the rounded ones before it
give (inside a block: query, key and value; output; up and gate; down). This is optimum's GPTQQuantizer on gptqmodel,
with its defaults: groups of 128, a symmetric grid, damp 0.1. Columns are taken in the order of their groups' largest
diag(H), and inside a group likewise (Gafni et al. 2025, arXiv 2505.14638); with `desc_act=true` in the order of
diag(H) alone, each group being 128 consecutive ones of that order; with `group=channel` as they come. An input that
no calibration token activates has its weights set to zero, as in the paper's code.

Weights stay in float32: this measures what rounding does to a model, not how fast packed weights run. One thread is
used, because a column's work is too small to share: two threads took ten times as long on a busy machine.
"""

import contextlib
import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from kc_utils.compression import calibration, gptq_library
from kc_utils.compression.outcome import Grid, Outcome, Storage
from kc_utils.compression.recipe import Step
from kc_utils.compression.rtn import SCALE_BITS
from kc_utils.errors import BadModel, BadRequest, BadResult, listed
from kc_utils.models.scopes import Matrix

INDEX_BITS = 32  # the checkpoint format keeps the group of each input as an int32 where groups are not consecutive
STAGES = (
    ("attention.query", "attention.key", "attention.value", "attention.qkv"),
    ("attention.output",),
    ("feed_forward.up", "feed_forward.gate", "feed_forward.gate_up"),
    ("feed_forward.down",),
)
_IN_BLOCK = re.compile(r"(?P<blocks>.+?)\.(?P<layer>\d+)\.(?P<module>.+)\.weight")


@dataclass(frozen=True)
class Blocks:
    """Consecutive blocks of one ModuleList in which the same modules are rounded.

    path: of the ModuleList; first, last: layers, both included; stages: module names inside a block, in the order in
    which they are rounded.
    """

    path: str
    first: int
    last: int
    stages: tuple[tuple[str, ...], ...]


def check(matrices: Sequence[Matrix], step: Step, model: nn.Module, tokenizer) -> None:
    """BadRequest or BadModel for what GPTQ cannot do here; called before any weight is changed."""
    gptq_library.require()
    here = f"recipe step {step}"
    if step.options["group"] == "tensor":
        raise BadRequest(f"{here}: GPTQ rounds neuron by neuron; write group=channel or a number")
    if step.options["damp"] == 0:
        raise BadRequest(f"{here}: damp=0 leaves the Hessian without an inverse; write a share such as 0.1")
    for m in matrices:
        if m.layer is None:
            raise BadRequest(
                f"{here}: {m.name} is in no block, and GPTQ walks through blocks; round it with rtn@{m.role}, or "
                "choose a scope inside the blocks such as all (with preset=consistent)"
            )
        if type(m.module).__name__ != "Conv1D" and type(m.module) is not nn.Linear:
            raise BadRequest(f"{here}: {m.name} is in a {type(m.module).__name__}; GPTQ rounds nn.Linear and Conv1D")
        if m.weight.dtype != torch.float32 or m.weight.device.type != "cpu":
            raise BadRequest(
                f"{here}: {m.name} is {m.weight.dtype} on {m.weight.device}; load the model as float32 on the CPU"
            )
    if tokenizer is None:
        raise BadRequest(f"{here}: GPTQ reads calibration text; give apply() the model's tokenizer")
    first = calibration.examples(model, tokenizer, step.options["samples"])[0]
    for path in dict.fromkeys(part.path for part in parts(matrices)):
        chained(model, path, first)


def run(model: nn.Module, matrices: Sequence[Matrix], step: Step, tokenizer) -> Outcome:
    """Round the matrices in place, with a progress bar on stderr.

    Raises BadResult when a Hessian is not finite or a rounded weight is not on its grid; weights are as before then.
    """
    solver = gptq_library.solver()
    samples, group = step.options["samples"], step.options["group"]
    settings = {"bits": step.amount, "group": -1 if group == "channel" else group}
    settings |= {name: step.options[name] for name in ("sym", "damp", "desc_act")}
    examples = calibration.examples(model, tokenizer, samples)
    pieces = parts(matrices)
    before = {m.name: m.module.weight.data for m in matrices}
    grids: dict[str, Grid] = {}
    with _one_thread(), _as_found(model, matrices), _reading_both_sides(model):
        pieces = [b for p in pieces for b in ([p] if chained(model, p.path, examples[0]) else _one_by_one(p))]
        total = sum(p.last - p.first + 1 for p in pieces)
        with tqdm(total=total, desc=str(step), unit="block", file=sys.stderr, disable=None) as bar:

            def progress(blocks):
                for block in blocks:
                    yield block
                    bar.update()

            try:
                for p in pieces:
                    blocks = model.get_submodule(p.path)[p.first : p.last + 1]
                    with _named(model, blocks) as name, _arguments_by_name(blocks):
                        found = solver.solve(model, name, [list(s) for s in p.stages], examples, progress, **settings)
                    grids |= {f"{p.path}.{p.first + at}.{module}.weight": grid for (at, module), grid in found.items()}
                return _put_back(matrices, before, grids, step)
            except BaseException as error:
                for m in matrices:
                    m.module.weight.data = before[m.name]
                if isinstance(error, ValueError | torch.linalg.LinAlgError):
                    raise BadResult(f"recipe step {step}: {error}") from error
                raise


def parts(matrices: Sequence[Matrix]) -> list[Blocks]:
    """The matrices as runs of blocks with the same modules, in the order of the model."""
    of_block: dict[tuple[str, int], dict[str, Matrix]] = {}
    for m in matrices:
        where = _IN_BLOCK.fullmatch(m.name)
        of_block.setdefault((where["blocks"], int(where["layer"])), {})[where["module"]] = m
    found: list[Blocks] = []
    for (path, layer), modules in of_block.items():
        stages = _stages(modules)
        last = found[-1] if found else None
        if last and (last.path, last.last, last.stages) == (path, layer - 1, stages):
            found[-1] = Blocks(path, last.first, layer, stages)
        else:
            found.append(Blocks(path, layer, layer, stages))
    return found


def _stages(modules: dict[str, Matrix]) -> tuple[tuple[str, ...], ...]:
    found = [
        tuple(name for name, m in modules.items() if (m.part == "cross") == cross and m.role in roles)
        for cross, some in ((False, STAGES[:2]), (True, STAGES[:2]), (False, STAGES[2:]))
        for roles in some
    ]
    return tuple(stage for stage in found if stage)


def _one_by_one(blocks: Blocks) -> list[Blocks]:
    return [Blocks(blocks.path, i, i, blocks.stages) for i in range(blocks.first, blocks.last + 1)]


@torch.no_grad()
def chained(model: nn.Module, path: str, example: dict[str, torch.Tensor]) -> bool:
    """Whether a block's output is all that the next block needs besides what the first block was given.

    Then one pass feeds all blocks. It does not hold where a block makes something for later ones (T5's position bias)
    or blocks differ (Gemma 3's local and global attention). Raises BadModel when `path` is no list of blocks that
    are each used once in a pass, a block's answer is not finite, or differs when it is called again.
    """
    blocks = model.get_submodule(path)
    if not isinstance(blocks, nn.ModuleList):
        raise BadModel(f"GPTQ walks through a list of blocks, and {path} is a {type(blocks).__name__}; use rtn")
    calls: dict[int, list] = {i: [] for i in range(len(blocks))}

    def keep(i):
        return lambda _, args, kwargs, output: calls[i].append((args, kwargs, _first(output)))

    with _as_found(model, ()), _arguments_by_name(blocks), contextlib.ExitStack() as hooks:
        hooks.enter_context(_reading_both_sides(model))
        model.eval()
        model.config.use_cache = False
        with contextlib.ExitStack() as watching:
            for i, block in enumerate(blocks):
                watching.callback(block.register_forward_hook(keep(i), with_kwargs=True).remove)
            model(**example)
        used = sorted({len(of_block) for of_block in calls.values()})
        if used != [1]:
            raise BadModel(
                f"GPTQ needs blocks that are used once in a pass; those of {path} are used {listed(used)} times "
                "(layers that share weights, as in ALBERT): use rtn"
            )
        chain, given = True, calls[0][0][1]
        for i, block in enumerate(blocks):
            (args, kwargs, output) = calls[i][0]
            if not output.isfinite().all():
                raise BadModel(f"{path}.{i} answers the calibration text with what is not a number; use rtn")
            if not torch.equal(_first(block(*args, **kwargs)), output):
                raise BadModel(f"{path}.{i} answers differently when it is called again; GPTQ cannot measure it")
            if i > 0:
                chain = chain and torch.equal(args[0], calls[i - 1][0][2]) and _same(block, args, given, output)
        return chain


def _same(block: nn.Module, args: tuple, kwargs: dict, output: torch.Tensor) -> bool:
    try:
        return torch.equal(_first(block(*args, **kwargs)), output)
    except (RuntimeError, TypeError, ValueError):  # arguments of another kind of block
        return False


def _first(output) -> torch.Tensor:
    return output[0] if isinstance(output, tuple) else output


def _put_back(matrices: Sequence[Matrix], before: dict, grids: dict[str, Grid], step: Step) -> Outcome:
    """Copy rounded weights to where the weights were, check them against their grids, and count."""
    storage, most, total, whole = {}, 0, 0, {}
    for m in matrices:
        rounded = m.module.weight.data
        rows = rounded.t() if m.transposed else rounded
        grid = grids.get(m.name)
        if grid is None or not torch.equal(grid.weight(whole.setdefault(m.name, grid.integers(rows))), rows):
            raise BadResult(f"recipe step {step}: {m.name} was not rounded to its grid")
        groups = grid.scale.numel()
        overhead = groups * (SCALE_BITS + (0 if grid.sym else grid.bits))
        overhead += INDEX_BITS * m.inputs if step.options["desc_act"] else 0
        storage[m.name] = Storage(grid.bits, overhead, grid)
        most, total = max(most, levels(whole.pop(m.name), grid)), total + groups
    for m in matrices:
        m.module.weight.data = before[m.name].copy_(m.module.weight.data)
    return Outcome(storage=storage, levels=most, groups=total, calibration=calibration.sha256(step.options["samples"]))


def levels(integers: torch.Tensor, grid: Grid) -> int:
    """The most distinct values in a group that shares a scale. integers: uint8 (outputs, inputs)."""
    most = 1
    for group in range(grid.scale.shape[1]):
        some = np.sort(integers[:, grid.group_of == group].numpy(), axis=1)
        most = max(most, 1 + int((some[:, 1:] != some[:, :-1]).sum(1).max()))
    return most


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def _as_found(model: nn.Module, matrices: Sequence[Matrix]) -> Iterator[None]:
    """What optimum notes on the model, its config and its modules is gone afterwards."""
    places = [model, model.config, *(m.module for m in matrices)]
    noted = [dict(vars(place)) for place in places]
    training = {module: module.training for module in model.modules()}
    model.config.use_cache = getattr(model.config, "use_cache", False)  # optimum reads it, encoders may lack it
    try:
        yield
    finally:
        for place, attributes in zip(places, noted, strict=True):
            vars(place).clear()
            vars(place).update(attributes)
        for module, mode in training.items():
            module.training = mode


@contextlib.contextmanager
def _named(model: nn.Module, blocks: nn.ModuleList) -> Iterator[str]:
    """A name under which optimum finds these blocks: it would round all those of a ModuleList otherwise."""
    model.add_module("_rounded_blocks", blocks)
    try:
        yield "_rounded_blocks"
    finally:
        del model._modules["_rounded_blocks"]


@contextlib.contextmanager
def _arguments_by_name(blocks: nn.ModuleList) -> Iterator[None]:
    """Blocks called with all but the first argument by name: optimum keeps the first one and those with names."""

    def rename(module, args, kwargs):
        names = list(inspect.signature(module.forward).parameters)
        return args[:1], {**dict(zip(names[1:], args[1:], strict=False)), **kwargs}

    hooks = [block.register_forward_pre_hook(rename, with_kwargs=True) for block in blocks]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextlib.contextmanager
def _reading_both_sides(model: nn.Module) -> Iterator[None]:
    """An encoder-decoder reads the text on its decoder's side too, shifted by one token."""
    if not getattr(model.config, "is_encoder_decoder", False):
        yield
        return

    def add(module, args, kwargs):
        shifted = module.prepare_decoder_input_ids_from_labels(kwargs["input_ids"])
        return args, {**kwargs, "decoder_input_ids": shifted, "use_cache": False}  # a cache would grow at every call

    hook = model.register_forward_pre_hook(add, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()
