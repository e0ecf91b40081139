"""GPTQ: round column by column to a grid of 2**bits values, while the columns that are left make up for the error.

Idea (Frantar et al. 2023, arXiv 2210.17323): of a matrix W with inputs X seen on calibration text, round one column
after the other to the grid of `rtn`, and after each change the columns not yet rounded by

    -(w - rounded) / U_jj * U_j,:        U^T U = H^-1,  H = X^T X / tokens + damp * mean(diag(H)) * I

which keeps W X close to what it was. The walk of `calibration.py` gives the inputs, so that each matrix is rounded with
the inputs that the rounded ones before it give. Defaults are those of optimum and gptqmodel: groups of 128, a symmetric
grid, damp 0.1. Columns are taken in the order of their groups' largest diag(H), and inside a group likewise (Gafni et
al. 2025, arXiv 2505.14638); with `desc_act=true` in the order of diag(H) alone, each group being 128 consecutive ones
of that order; with `group=channel` as they come. An input that no calibration token activates has its weights set to
zero, as in the paper's code. The grid's scale is one that float16 holds exactly, so that the errors that are made up
for are those of the weights as stored.

Weights stay in float32: this measures what rounding does to a model, not how fast packed weights run.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn
from tqdm import tqdm

from kc_utils.compression import calibration
from kc_utils.compression.linear import check_linear
from kc_utils.compression.recipe import Step
from kc_utils.compression.report import Grid, Outcome
from kc_utils.compression.rtn import grid_of
from kc_utils.errors import BadRequest, BadResult
from kc_utils.models.scopes import Matrix

BLOCK = 128  # columns after which the later ones are updated, all at once


def check(matrices: Sequence[Matrix], step: Step, model: nn.Module, tokenizer) -> None:
    """Raise BadRequest or BadModel for what GPTQ cannot do here; called before any weight is changed."""
    here = f"recipe step {step}"
    if step.options["damp"] == 0:
        raise BadRequest(f"{here}: damp=0 leaves the Hessian without an inverse; write a share such as 0.1")
    for m in matrices:
        if m.layer is None:
            raise BadRequest(
                f"{here}: {m.name} is in no block, and the calibration text is read by the blocks alone; round it with "
                f"rtn@{m.role}, or choose a scope inside the blocks such as all (with preset=consistent)"
            )
    check_linear(matrices, step, full=True)
    if tokenizer is None:
        raise BadRequest(f"{here}: GPTQ reads calibration text; give apply() the model's tokenizer")
    calibration.texts(step.options["samples"])
    calibration.walk(model, matrices, calibration.batch(model, tokenizer, 1), lambda matrix, inputs: None)


def run(model: nn.Module, matrices: Sequence[Matrix], step: Step, tokenizer) -> Outcome:
    """Round the matrices in place, with a progress bar on stderr.

    Raises BadResult when a Hessian has no inverse or a rounded weight is not finite; weights are as before then.
    """
    options = step.options
    text = calibration.batch(model, tokenizer, options["samples"], options["seed"])
    before: dict[str, torch.Tensor] = {}
    storage: dict[str, Grid] = {}
    latest = [None, None]  # inputs of the last matrix and their columns, which query, key and value share

    def visit(matrix: Matrix, inputs: torch.Tensor) -> None:
        if latest[0] is not inputs:
            hessian = inputs.t() @ inputs / len(inputs)
            latest[:] = inputs, columns_of(hessian, options["group"], options["damp"], options["desc_act"])
        rounded, grid = solve(matrix.rows, latest[1], step.amount, options["sym"])
        if not grid.scale.isfinite().all() or not rounded.isfinite().all():
            raise BadResult(f"recipe step {step}: {matrix.name} was rounded to what is not a number; use rtn")
        before[matrix.name] = matrix.weight.clone()
        matrix.rows.copy_(rounded)
        storage[matrix.name] = replace(grid, ordered=options["desc_act"])
        bar.update()

    try:
        with tqdm(total=len(matrices), desc=str(step), unit="matrix", file=sys.stderr, disable=None) as bar:
            calibration.walk(model, matrices, text, visit)
    except BaseException:
        for m in matrices:
            if m.name in before:
                m.weight.copy_(before[m.name])
        raise
    return Outcome(storage=storage, calibration=calibration.sha256(options["samples"], options["seed"]))


@dataclass(frozen=True)
class Columns:
    """What GPTQ knows about the inputs of a matrix.

    order: int64 (inputs,), which column is rounded first; width: columns that share a scale, consecutive in that order;
    label: the group's number in the grid, by its position in the order; upper: float32 (inputs, inputs), the factor U of
    the inverse Hessian in that order; dead: bool (inputs,), inputs that were always zero.
    """

    order: torch.Tensor
    width: int
    label: torch.Tensor
    upper: torch.Tensor
    dead: torch.Tensor


def columns_of(hessian: torch.Tensor, group: int | str, damp: float, desc_act: bool = False) -> Columns:
    """Order of the columns and factor of the inverse, from a Hessian (inputs, inputs), which is damped here.

    Raises BadResult when the damped Hessian has no inverse.
    """
    inputs = len(hessian)
    importance = hessian.diagonal().clone()
    dead = importance == 0
    importance[dead] = 1
    width = inputs if group == "channel" else group
    order = torch.arange(inputs)
    whole = inputs // width * width
    if desc_act:
        order = importance.argsort(descending=True, stable=True)
    elif group != "channel" and whole:  # whole groups by their most important input; a shorter one is last
        inside = importance[:whole].view(-1, width).sort(dim=1, descending=True, stable=True)
        first = inside.values[:, 0].argsort(descending=True, stable=True)
        order[:whole] = (inside.indices + torch.arange(0, whole, width).unsqueeze(1))[first].view(-1)
    starts = torch.arange(0, inputs, width)
    label = torch.arange(len(starts)) if desc_act else order[starts] // width
    damped = hessian.double() + torch.diag((importance - hessian.diagonal()).double())
    damped.diagonal().add_(damp * importance.double().mean())
    lower, failed = torch.linalg.cholesky_ex(damped[order][:, order])
    if not failed:
        upper, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
    if failed:
        raise BadResult("GPTQ: a Hessian of the calibration text has no inverse; write a larger damp=")
    return Columns(order, width, label, upper.float(), dead)


def solve(weight: torch.Tensor, columns: Columns, bits: int, sym: bool) -> tuple[torch.Tensor, Grid]:
    """The rounded float32 weight (outputs, inputs), and its grid; the weight itself is not changed."""
    order, width, upper = columns.order, columns.width, columns.upper
    left = weight.masked_fill(columns.dead, 0)[:, order].t().contiguous()  # (inputs, outputs): a column is contiguous
    inputs, outputs = left.shape
    groups = -(-inputs // width)
    scales, zeros = torch.empty(outputs, groups), torch.empty(outputs, groups)
    integers = torch.empty(inputs, outputs, dtype=torch.uint8)
    for start in range(0, inputs, BLOCK):
        stop = min(start + BLOCK, inputs)
        now, errors = left[start:stop].clone(), torch.empty(stop - start, outputs)
        for j in range(start, stop):
            if j % width == 0:  # a group's grid spans the weights as they were when its block of columns began
                at = columns.label[j // width]
                scale, zero = (p.flatten() for p in grid_of(left[j : j + width].t(), bits, sym))
                scales[:, at], zeros[:, at] = scale, zero
            column = now[j - start]
            q = (column / scale).round_().add_(zero).clamp_(0, 2**bits - 1)
            integers[j] = q
            errors[j - start] = column.sub(q.sub_(zero).mul_(scale)).div_(upper[j, j])
            now[j - start + 1 :].addr_(upper[j, j + 1 : stop], errors[j - start], alpha=-1)
        left[stop:].addmm_(upper[start:stop, stop:].t(), errors, alpha=-1)
    group_of = torch.empty(inputs, dtype=torch.int32)
    group_of[order] = columns.label[torch.arange(inputs) // width].to(torch.int32)
    grid = Grid(bits, scales, zeros.to(torch.uint8), group_of, sym)
    back = torch.empty_like(integers.t())
    back[:, order] = integers.t()
    return grid.weight(back), grid
