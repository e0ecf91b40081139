"""What a recipe did to a model, measured after its last step from the weights that the model really uses."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import nn

from kc_utils.compression.chunks import in_threads, row_blocks
from kc_utils.compression.outcome import Storage
from kc_utils.models.scopes import Matrix
from kc_utils.models.stored import quantized


@dataclass(frozen=True)
class StepReport:
    """One step, measured right after it.

    weights: in the step's matrices; zeros: zero weights there; sparsity: zeros / weights; bits: of one quantized value;
    levels: the most distinct values in a group that shares a scale; groups: how many such groups; seconds: of the step;
    calibration: sha256 of the text that the method read, if any.
    """

    step: str
    method: str
    scope: str
    matrices: int
    weights: int
    zeros: int
    sparsity: float
    bits: int | None
    levels: int | None
    groups: int | None
    seconds: float
    calibration: str | None = None


@dataclass(frozen=True)
class MatrixReport:
    """One touched matrix. encoding: how it takes the fewest bits, see `Report`; bits: of the whole matrix in it."""

    name: str
    role: str
    part: str
    layer: int | None
    numel: int
    zeros: int
    encoding: str
    bits: int


@dataclass(frozen=True)
class Report:
    """Counts of weights and bits for a recipe on a model.

    recipe: canonical text; steps, per_matrix: see `StepReport`, `MatrixReport` (the matrices that any step touched);
    weights_model: all elements of all parameters of the model that the recipe leaves, biases and norms included, each
    shared parameter once; a head that the recipe untied counts beside the embedding;
    weights_touched: elements of the touched matrices; touched_fraction: weights_touched / weights_model;
    zeros, sparsity: zero weights of the touched matrices, and their share of weights_touched; of a quantized matrix
    those that the model computes with; sparsity_model: zero elements of all parameters / weights_model;
    bits_per_weight: bits of the touched matrices / weights_touched, each matrix in the encoding that takes the fewest:
    `dense` (every value), `bitmask` (one bit for each weight, and the values that are not zero), `rows` (one bit for
    each output neuron, and the values of those that are not all zero); scales and zero points are counted in all three,
    a value takes the bits of its dtype or of its quantization. None when nothing was touched;
    encodings: how many touched matrices are in each.
    """

    recipe: str
    weights_model: int
    weights_touched: int
    touched_fraction: float
    zeros: int
    sparsity: float
    sparsity_model: float
    bits_per_weight: float | None
    encodings: dict[str, int]
    steps: tuple[StepReport, ...]
    per_matrix: tuple[MatrixReport, ...]

    def to_dict(self) -> dict:
        """The report as plain lists, dicts, numbers and texts."""
        plain = asdict(self)
        return {**plain, "steps": list(plain["steps"]), "per_matrix": list(plain["per_matrix"])}


def measure(
    recipe: str,
    model: nn.Module,
    touched: Sequence[Matrix],
    storage: Mapping[str, Storage],
    steps: Sequence[StepReport],
) -> Report:
    """Count the model as it is now. touched: its matrices as they are now; storage: of the quantized ones, by name."""
    rows = tuple(_matrix_report(m, storage.get(m.name)) for m in touched)
    weights, zeros = sum(m.numel for m in rows), sum(m.zeros for m in rows)
    total, total_zeros = _count_model(model, {m.name: r.zeros for m, r in zip(touched, rows, strict=True)})
    return Report(
        recipe=recipe,
        weights_model=total,
        weights_touched=weights,
        touched_fraction=weights / total,
        zeros=zeros,
        sparsity=zeros / weights if weights else 0.0,
        sparsity_model=total_zeros / total,
        bits_per_weight=sum(m.bits for m in rows) / weights if weights else None,
        encodings={e: n for e in ("dense", "bitmask", "rows") if (n := sum(m.encoding == e for m in rows))},
        steps=tuple(steps),
        per_matrix=rows,
    )


def count_zeros(matrix: Matrix) -> int:
    """Zero weights of a matrix as the model computes with it."""
    return _zeros(matrix.values)


def _matrix_report(matrix: Matrix, storage: Storage | None) -> MatrixReport:
    values = matrix.values
    zeros = _zeros(values)
    rows_left = _rows_left(values) if zeros >= matrix.inputs else matrix.outputs
    kept = matrix.quantized or storage  # both say bits of a value and of scales
    value_bits, overhead = (kept.value_bits, kept.overhead_bits) if kept else (values.element_size() * 8, 0)
    sizes = {
        "dense": matrix.numel * value_bits + overhead,
        "bitmask": matrix.numel + (matrix.numel - zeros) * value_bits + overhead,
        "rows": matrix.outputs + rows_left * matrix.inputs * value_bits + overhead,
    }
    encoding = min(sizes, key=sizes.get)  # the first of equal ones
    return MatrixReport(
        matrix.name, matrix.role, matrix.part, matrix.layer, matrix.numel, zeros, encoding, sizes[encoding]
    )


def _count_model(model: nn.Module, counted: Mapping[str, int]) -> tuple[int, int]:
    """(elements, zeros) of all parameters and quantized matrices; counted: zeros known already, by name."""
    total = zeros = 0
    seen: set[int] = set()
    for path, module in model.named_modules():
        tensors = dict(module._parameters)
        if held := quantized(module):
            tensors |= {"weight": held.weight(), "bias": held.bias}
        for name, tensor in tensors.items():
            if tensor is None or id(tensor) in seen:
                continue
            if isinstance(tensor, nn.Parameter):  # a quantized weight is a copy here, and its id is soon another's
                seen.add(id(tensor))
            known = counted.get(f"{path}.{name}")
            total += tensor.numel()
            zeros += _zeros(tensor.detach()) if known is None else known
    return total, zeros


def _zeros(tensor: torch.Tensor) -> int:
    # numpy counts the bits of a mask some thirty times faster than torch.count_nonzero counts floats
    rows = tensor if tensor.dim() == 2 else tensor.reshape(1, -1)
    counts = in_threads(lambda part: sum(np.count_nonzero((block != 0).numpy()) for block in part), row_blocks(rows))
    return int(tensor.numel() - sum(counts))


def _rows_left(weight: torch.Tensor) -> int:
    """How many rows of (outputs, inputs) are not all zero."""
    left = in_threads(lambda part: sum((block != 0).numpy().any(axis=1).sum() for block in part), row_blocks(weight))
    return int(sum(left))
