"""optimum's GPTQ, told to use the grids of this study and to leave the model's modules in place.

Hessian, order of columns, damping, inverse and the update of the columns not yet rounded are gptqmodel's; the walk
through the blocks is optimum's. Import this through `gptq_library.solver()`, which keeps the libraries quiet.
"""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar
from unittest import mock

import torch
from gptqmodel.quantization.config import QuantizeConfig
from gptqmodel.quantization.gptq import GPTQ, SharedHessianFactorCache
from gptqmodel.quantization.quantizer import Quantizer
from optimum.gptq import GPTQQuantizer
from optimum.gptq import quantizer as optimum_quantizer
from torch import nn

from kc_utils.compression.outcome import Grid
from kc_utils.compression.rtn import grid_of


class _Scale(Quantizer):
    """The grid of `rtn`: a scale that float16 holds exactly, so that errors are fed back from what will be stored.

    gptqmodel's own, in float32, is rounded to float16 only when packed; and its symmetric grid of a group without
    negative weights spans half of them, so that the largest are cut off (seen in pruned models with small groups).
    """

    def find_params(self, x: torch.Tensor, weight: bool = False) -> None:
        self.scale, self.zero = (p.to(x.device) for p in grid_of(x.cpu(), self.qcfg.bits, self.qcfg.sym))


class _Enough(Exception):
    """All modules that are being measured have read this text; what the block computes after them is not needed."""


class _Columns(GPTQ):
    """One matrix. Those that read the same input, such as query, key and value, share one Hessian and its inverse."""

    stage: ClassVar[list["_Columns"]]  # those that are measured in the same passes over the text

    def __init__(self, module: nn.Module, qcfg: QuantizeConfig | None = None) -> None:
        super().__init__(module, qcfg)
        self.leader: _Columns | None = None  # whose Hessian this one's input goes into
        self.latest: torch.Tensor | None = None  # held, so that no other tensor can have its address
        self.stage.append(self)

    def create_quantizer(self, name: str) -> Quantizer:
        return _Scale(qcfg=self.qcfg, name=name)

    def add_batch(self, inp: torch.Tensor, out: torch.Tensor, batch_index: int | None = None) -> None:
        leader = next((c for c in self.stage if c.latest is not None and _same(c.latest, inp)), self)
        if self.leader not in (None, leader):
            raise ValueError("matrices that read the same input in one text do not in another")
        self.leader, self.latest = leader, inp
        if leader is self:
            super().add_batch(inp, out, batch_index)
        if all(c.latest is not None for c in self.stage):
            for c in self.stage:
                c.latest = None
            raise _Enough

    def fasterquant(self, *args, **kwargs):
        for follower in self.stage:  # all at once: rounding a matrix uses up its Hessian
            leader = follower.leader
            if leader not in (None, follower):
                cache = leader._shared_hessian_cache or SharedHessianFactorCache(0, str(id(leader)))
                leader.attach_shared_hessian_cache(cache)
                follower.adopt_hessian_from(leader)
                follower.attach_shared_hessian_cache(cache)
            follower.leader = None
        return super().fasterquant(*args, **kwargs)

    def free(self) -> None:
        self.stage.remove(self)
        super().free()


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return (a.data_ptr(), a.shape, a.stride()) == (b.data_ptr(), b.shape, b.stride())


@contextlib.contextmanager
def _stopping_early(blocks: nn.ModuleList) -> Iterator[None]:
    """A block that is called to measure some of its modules stops after the last of them."""

    def wrapped(forward):
        @functools.wraps(forward)
        def until_enough(*args, **kwargs):
            with contextlib.suppress(_Enough):
                return forward(*args, **kwargs)

        return until_enough

    for block in blocks:
        block.forward = wrapped(block.forward)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward


class _Blocks(GPTQQuantizer):
    """Rounds, and hands over scales and zero points instead of packing and replacing modules."""

    found: dict[str, tuple]

    def pack_model(self, model: nn.Module, quantizers: dict[str, tuple]) -> None:
        self.found = quantizers

    def post_init_model(self, model: nn.Module) -> nn.Module:
        return model


def solve(
    model: nn.Module,
    blocks: str,
    stages: list[list[str]],
    examples: list[dict[str, torch.Tensor]],
    progress: Callable[[Iterable], Iterable],
    *,
    bits: int,
    group: int,
    sym: bool,
    damp: float,
    desc_act: bool,
) -> dict[tuple[int, str], Grid]:
    """Round the modules of `stages` in each block of the ModuleList that `blocks` names, in place.

    stages: module names inside a block; those of one stage are rounded from the same pass over the examples, those of
    the next see the rounded ones before. group: inputs that share a scale, -1 for all; progress: wraps the blocks.
    Gives the grid of each (place in the list, module name). Raises ValueError when a Hessian cannot be used.
    """
    optimum = _Blocks(
        bits, examples, group_size=group, damp_percent=damp, desc_act=desc_act, sym=sym,
        act_group_aware=group > 0 and not desc_act, model_seqlen=1,  # only of texts that optimum would fetch
        block_name_to_quantize=blocks, module_name_preceding_first_block=[], modules_in_block_to_quantize=stages,
    )  # fmt: skip
    optimum.quantizeConfig.fallback = None  # would round to nearest, without a word, where an input is not a number

    def bar(iterable, leave=True, **_):
        return progress(iterable) if leave else iterable

    columns = type("Columns", (_Columns,), {"stage": []})
    patched = mock.patch.multiple(optimum_quantizer, GPTQ=columns, tqdm=bar)
    with patched, _stopping_early(model.get_submodule(blocks)):
        optimum.quantize_model(model)
    grids = {}
    for path, (_, scale, zero, group_of) in optimum.found.items():
        place, name = path.removeprefix(blocks + ".").split(".", 1)
        parts = (scale.float().cpu(), zero.to(torch.uint8).cpu(), group_of.to(torch.int32).cpu())
        grids[int(place), name] = Grid(bits, *parts, sym)
    return grids
