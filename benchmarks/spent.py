"""Seconds by the clock and of the processor: other work on a machine lengthens the latter less, so that ratios use it."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Spent:
    """Seconds by the clock, and of the processor, all threads of this process together."""

    clock: float
    processor: float

    def __sub__(self, other: Spent) -> Spent:
        return Spent(self.clock - other.clock, self.processor - other.processor)

    def __str__(self) -> str:
        return f"{self.clock:.1f} ({self.processor:.1f} of the processor)"


def now() -> Spent:
    return Spent(time.perf_counter(), time.process_time())
