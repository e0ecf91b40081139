"""What a method returns, and the report that is measured after the last step from the weights that the model uses."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import torch
from torch import nn

from kc_utils.compression.encodings import FLOAT_BITS, encode
from kc_utils.models.scopes import Matrix
from kc_utils.models.stored import Quantized, quantized

SCALE_BITS = 16  # of a float16
INDEX_BITS = 32  # checkpoints keep the group of each input as an int32 where groups are not consecutive inputs


@dataclass(frozen=True)
class Grid:
    """The grid that a matrix (outputs, inputs) was rounded to: weight = scale * (q - zero), 0 <= q < 2**bits.

    scale: float32 (outputs, groups), each value exact in float16; zero: uint8 (outputs, groups), whole numbers below
    2**bits; group_of: int32 (inputs,), the column of `scale` and `zero` that an input belongs to; sym: zero is
    2**(bits - 1) everywhere and need not be stored; ordered: groups are not consecutive inputs, so that `group_of` is
    stored. Where the whole matrix shares a scale, (1, 1) stands for all rows.
    """

    bits: int
    scale: torch.Tensor
    zero: torch.Tensor
    group_of: torch.Tensor
    sym: bool
    ordered: bool = False

    @property
    def value_bits(self) -> int:
        """Bits of one weight."""
        return self.bits

    @property
    def groups(self) -> int:
        """How many sets of weights have a scale of their own."""
        return self.scale.numel()

    @property
    def overhead_bits(self) -> int:
        """Bits of all scales, zero points and, where they are stored, groups of the inputs."""
        each = SCALE_BITS + (0 if self.sym else self.bits)
        return self.groups * each + (INDEX_BITS * len(self.group_of) if self.ordered else 0)

    def integers(self, weight: torch.Tensor) -> torch.Tensor:
        """q as uint8 (outputs, inputs), from a weight that lies on the grid."""
        scale, zero = self.scale[:, self.group_of], self.zero[:, self.group_of].float()
        return (weight.float() / scale).round_().add_(zero).clamp_(0, 2**self.bits - 1).to(torch.uint8)

    def weight(self, integers: torch.Tensor) -> torch.Tensor:
        """The float32 weight of whole numbers q (outputs, inputs)."""
        return (integers.float() - self.zero[:, self.group_of].float()) * self.scale[:, self.group_of]


@dataclass(frozen=True)
class Outcome:
    """What a method returns; `apply.py` checks it against the weights.

    zeros_expected: zeros that the step's matrices must hold now; storage: by matrix name, how a library keeps what was
    quantized, or the grid that it was rounded to; calibration: sha256 of the text that the method read.
    """

    zeros_expected: int = 0
    storage: dict[str, Grid | Quantized] = field(default_factory=dict)
    calibration: str | None = None


@dataclass(frozen=True)
class StepReport:
    """One step, measured right after it.

    weights: in the step's matrices; zeros: zero weights there; sparsity: zeros / weights; bits: of one quantized value;
    groups: how many groups of weights share a scale; seconds: of the step; calibration: sha256 of the text that the
    method read, if any.
    """

    step: str
    method: str
    scope: str
    matrices: int
    weights: int
    zeros: int
    sparsity: float
    bits: int | None
    groups: int | None
    seconds: float
    calibration: str | None = None


@dataclass(frozen=True)
class MatrixReport:
    """One touched matrix. encoding: in which it takes the fewest bytes, see `encodings.py`; nbytes: written so, with its
    scales and zero points."""

    name: str
    role: str
    part: str
    layer: int | None
    numel: int
    zeros: int
    encoding: str
    nbytes: int


@dataclass(frozen=True)
class Report:
    """Counts of weights and bytes for a recipe on a model.

    recipe: canonical text; steps, per_matrix: see `StepReport`, `MatrixReport` (the matrices that any step touched);
    weights_model: all elements of all parameters of the model that the recipe leaves, biases and norms included, each
    shared parameter once; a head that the recipe untied counts beside the embedding;
    weights_touched: elements of the touched matrices; touched_fraction: weights_touched / weights_model;
    zeros, sparsity: zero weights of the touched matrices, and their share of weights_touched; of a quantized matrix
    those that the model computes with; sparsity_model: zero elements of all parameters / weights_model;
    bits_per_weight: bits of the touched matrices / weights_touched, each in the encoding that takes the fewest bytes,
    written for real; what is not quantized takes 16 bits a value. None when nothing was touched;
    encodings: how many touched matrices are in each;
    bytes_uncompressed: the model as it was, 16 bits an element; bytes_compressed: the touched matrices as above, the
    rest in 16 bits; compression_ratio: the first / the second;
    grids: of the matrices that were rounded, by name; not part of `to_dict`.
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
    bytes_uncompressed: int
    bytes_compressed: int
    compression_ratio: float
    steps: tuple[StepReport, ...]
    per_matrix: tuple[MatrixReport, ...]
    grids: Mapping[str, Grid] = field(default_factory=dict, compare=False, repr=False)

    def to_dict(self) -> dict:
        """The report as plain lists, dicts, numbers and texts."""
        plain = asdict(replace(self, grids={}))
        del plain["grids"]
        return {**plain, "steps": list(plain["steps"]), "per_matrix": list(plain["per_matrix"])}


def measure(
    recipe: str,
    model: nn.Module,
    touched: Sequence[Matrix],
    storage: Mapping[str, Grid | Quantized],
    steps: Sequence[StepReport],
    elements_before: int,
) -> Report:
    """Count the model as it is now. touched: its matrices as they are now; storage: of the quantized ones, by name;
    elements_before: of the model that the recipe was applied to."""
    rows = tuple(_matrix_report(m, storage.get(m.name)) for m in touched)
    weights, zeros, nbytes = (sum(getattr(m, of) for m in rows) for of in ("numel", "zeros", "nbytes"))
    known = {m.name: m.zeros for m in rows}
    total = total_zeros = 0
    for name, tensor in _tensors(model):
        total += tensor.numel()
        total_zeros += known[name] if name in known else count_zeros(tensor)
    before, after = elements_before * FLOAT_BITS // 8, (total - weights) * FLOAT_BITS // 8 + nbytes
    return Report(
        recipe=recipe,
        weights_model=total,
        weights_touched=weights,
        touched_fraction=weights / total,
        zeros=zeros,
        sparsity=zeros / weights if weights else 0.0,
        sparsity_model=total_zeros / total,
        bits_per_weight=8 * nbytes / weights if weights else None,
        encodings={e: sum(m.encoding == e for m in rows) for e in sorted({m.encoding for m in rows})},
        bytes_uncompressed=before,
        bytes_compressed=after,
        compression_ratio=before / after,
        steps=tuple(steps),
        per_matrix=rows,
        grids={name: held for name, held in storage.items() if isinstance(held, Grid)},
    )


def elements(model: nn.Module) -> int:
    """Elements of all parameters, each shared one once."""
    return sum(tensor.numel() for _, tensor in _tensors(model))


def _tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """(name, values) of all parameters and quantized matrices, each shared one once."""
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
            yield f"{path}.{name}", tensor.detach()


def count_zeros(tensor: torch.Tensor) -> int:
    """Elements that are zero."""
    return tensor.numel() - int(np.count_nonzero((tensor != 0).numpy()))  # much faster than torch.count_nonzero


def _matrix_report(matrix: Matrix, stored: Grid | Quantized | None) -> MatrixReport:
    """The matrix in its smallest encoding, with its scales and zero points."""
    values = matrix.values
    kept = (values != 0).numpy()
    if stored is None:
        codes, bits = values.contiguous().bfloat16().view(torch.int16).numpy().view(np.uint16), FLOAT_BITS
    else:
        codes = (stored.integers(values) if isinstance(stored, Grid) else stored.codes()).numpy()
        bits = stored.value_bits
    encoded = encode(codes, kept, bits)
    nbytes = encoded.nbytes + (-(-stored.overhead_bits // 8) if stored else 0)
    zeros = kept.size - int(np.count_nonzero(kept))
    return MatrixReport(matrix.name, matrix.role, matrix.part, matrix.layer, matrix.numel, zeros, encoded.encoding, nbytes)
