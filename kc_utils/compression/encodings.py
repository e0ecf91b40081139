"""The bytes of a matrix on disk, in the encoding that takes the fewest: written for real, then counted.

A pruned matrix stored as plain numbers is as large as before. What sparsity saves depends on how zeros are written:

    dense     every value
    bitmask   one bit for each weight, zero or not, then the values that are not ("sparse-bitmask")
    rows      one bit for each output neuron, then the values of the neurons that are not all zero
    N:M       the N values of each M consecutive inputs, and for each its position among the M (2 bits for 2:4): the layout
              that NVIDIA's sparse tensor cores read (Mishra et al. 2021, arXiv 2104.08378). 2:4 takes what a bitmask
              takes, and 4:8 more: such patterns are there for speed

A value takes the bits of its quantization, packed without gaps, else 16 (bfloat16: what models are deployed in,
whatever precision they are computed in here).
"""

from dataclasses import dataclass

import numpy as np

FLOAT_BITS = 16
PATTERNS = ((1, 4), (2, 4), (1, 8), (2, 8), (4, 8), (1, 16), (2, 16), (4, 16), (8, 16))  # kept of M


@dataclass(frozen=True)
class Encoded:
    """A matrix as written. encoding: see above; arrays: what is written, by name; nbytes: of all of them."""

    encoding: str
    arrays: dict[str, np.ndarray]

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.arrays.values())


def encode(codes: np.ndarray, kept: np.ndarray, bits: int) -> Encoded:
    """Write a matrix in the smallest encoding.

    codes: uint8 or uint16 (outputs, inputs), each below 2**bits; kept: bool (outputs, inputs), where the weight is not
    zero; bits: 1 to 8, or 16. Scales and zero points are not part of it.
    """
    outputs, inputs = codes.shape
    n, left, row_kept = codes.size, int(np.count_nonzero(kept)), kept.any(axis=1)
    sizes = {"dense": _bytes(n * bits)}
    pattern = _pattern(kept, left)
    if pattern:
        some, of = pattern
        sizes[f"{some}:{of}"] = _bytes(n // of * some * bits) + _bytes(n // of * some * _index_bits(of))
    sizes["bitmask"] = _bytes(n) + _bytes(left * bits)
    sizes["rows"] = _bytes(outputs) + _bytes(int(row_kept.sum()) * inputs * bits)
    best = min(sizes, key=sizes.get)  # the first of equal ones
    if best == "dense":
        arrays = {"values": pack(codes, bits)}
    elif best == "bitmask":
        arrays = {"kept": np.packbits(kept, bitorder="little"), "values": pack(codes[kept], bits)}
    elif best == "rows":
        arrays = {"kept": np.packbits(row_kept, bitorder="little"), "values": pack(codes[row_kept], bits)}
    else:
        positions = np.argsort(~kept.reshape(-1, of), axis=1, kind="stable")[:, :some]
        values = np.take_along_axis(codes.reshape(-1, of), positions, axis=1)
        arrays = {"positions": pack(positions.astype(np.uint8), _index_bits(of)), "values": pack(values, bits)}
    return Encoded(best, arrays)


def pack(values: np.ndarray, bits: int) -> np.ndarray:
    """Whole numbers below 2**bits without gaps, lowest bits first: uint8 (ceil(size * bits / 8),)."""
    flat = values.reshape(-1)
    if bits == 16:
        return flat.astype("<u2", copy=False).view(np.uint8)
    if bits == 8:
        return flat.astype(np.uint8, copy=False)
    total = _bytes(flat.size * bits)
    if flat.size % 8:
        flat = np.concatenate([flat, np.zeros(-flat.size % 8, flat.dtype)])
    eights = flat.reshape(-1, 8)  # eight values of `bits` bits are `bits` bytes
    numbers = np.zeros(len(eights), np.uint64)
    for position in range(8):
        numbers |= eights[:, position].astype(np.uint64) << np.uint64(bits * position)
    return numbers.astype("<u8").view(np.uint8).reshape(-1, 8)[:, :bits].reshape(-1)[:total]


def _pattern(kept: np.ndarray, left: int) -> tuple[int, int] | None:
    """The sparsest pattern N:M that the kept weights follow along the inputs, if any."""
    if 2 * left > kept.size:
        return None  # no pattern keeps more than half
    widths = [m for m in (4, 8, 16) if kept.shape[1] % m == 0]
    most = {m: kept.reshape(-1, m).sum(axis=1, dtype=np.uint8).max(initial=0) for m in widths}
    return min((p for p in PATTERNS if most.get(p[1], p[1]) <= p[0]), key=lambda p: p[0] / p[1], default=None)


def _index_bits(of: int) -> int:
    return (of - 1).bit_length()


def _bytes(bits: int) -> int:
    return -(-bits // 8)
