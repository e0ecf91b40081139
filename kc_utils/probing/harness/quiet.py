"""lm-eval without its remarks and repetitions: it logs every step, draws a bar for each task's prompts, and compiles
the template of a task again for each of its items, which takes most of the time of rendering them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from importlib import import_module
from types import ModuleType

import numpy as np

from kc_utils.errors import MissingData


def lm_eval(name: str) -> ModuleType:
    """A module of lm-eval, e.g. `lm_eval("api.task")`. Raises MissingData where the package is absent."""
    try:
        return import_module(f"lm_eval.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "lm_eval":
            raise
        raise MissingData(
            "harness tasks need the package lm-eval: pip install -c constraints.txt '.[harness]'"
        ) from error


@contextmanager
def quietly() -> Iterator[None]:
    """Inside, lm-eval speaks of errors alone, draws no bars of its own and compiles a template once, and numpy lets its
    arg-max of NaN pass."""
    logger, task = logging.getLogger("lm_eval"), lm_eval("api.task")
    level, bar, templates = logger.level, task.tqdm, lm_eval("utils").env
    compiled = templates.from_string
    logger.setLevel(logging.ERROR)
    task.tqdm = partial(bar, disable=True)
    templates.from_string = lru_cache(maxsize=256)(compiled)
    try:
        with np.errstate(all="ignore"):
            yield
    finally:
        task.tqdm = bar
        templates.from_string = compiled
        logger.setLevel(level)
