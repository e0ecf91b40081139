"""Products of int8 matrices on processors that have no instructions for them: exact, and nearly as fast as in float32.

`torch._int_mm`, on which torchao's dynamic int8 rests, multiplies number by number where a processor has neither AVX512-VNNI nor
AMX: some twenty times as long as the same product in float32. Here the whole numbers are multiplied as float32, in slices of
the inner dimension so short that every sum, in whatever order, is a whole number that float32 holds exactly: products of two
numbers of 8 bits are at most 2^14 in size, so that 1024 of them stay within 2^24. Slices are added as int32. The result is that
of `torch._int_mm`, bit for bit.
"""

from __future__ import annotations

import torch

SLICE = 1024
"""Inputs whose products are summed in float32."""


def exact_product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """a (M, K) int8 times b (K, N) int8: (M, N) int32, exactly."""
    total = None
    for start in range(0, a.shape[1], SLICE):
        part = (a[:, start : start + SLICE].float() @ b[start : start + SLICE].float()).to(torch.int32)
        total = part if total is None else total.add_(part)
    return total


def scaled_product(a: torch.Tensor, b: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """The exact product in the dtype of `scales` (M, 1), times these: what torchao's own function of a CPU returns."""
    return exact_product(a, b).to(scales.dtype) * scales


def install() -> bool:
    """Make torchao use `scaled_product` where this processor has no instructions for int8. Returns whether it does."""
    from torchao.kernel import intmm

    if intmm._cpu_is_vnni_supported() or intmm._cpu_is_amx_tile_supported():
        return False
    intmm._int_scaled_matmul_cpu = scaled_product
    return True
