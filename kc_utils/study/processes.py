"""Processes beside this one, started afresh: torch's threads do not survive a fork."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager


@contextmanager
def processes(count: int, threads: int | None = None) -> Iterator[ProcessPoolExecutor]:
    """A pool of so many processes, each computing with so many threads of torch. They end when this process does, however
    it ends; what they were at is lost."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=context, initializer=_begin, initargs=(threads,)) as pool:
        yield pool


def _begin(threads: int | None) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
