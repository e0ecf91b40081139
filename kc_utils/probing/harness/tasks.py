"""Which items are evaluated: tasks of lm-eval by name, three of them from local files.

BoolQ (Clark et al. 2019), PIQA (Bisk et al. 2020) and WinoGrande (Sakaguchi et al. 2020) are read from the files that
`data_file` finds; lm-eval's own task files state the prompts. Any other task, and these three where their files are absent
and KC_DATA is not set, get their data from the model hub, as lm-eval does.
"""

from __future__ import annotations

import difflib
import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np

from kc_utils.errors import BadRequest, MissingData, listed
from kc_utils.probing.harness.local import LOCAL


def lm_eval(name: str) -> ModuleType:
    """A module of lm-eval, e.g. `lm_eval("api.task")`. Raises MissingData where the package is absent."""
    try:
        return import_module(f"lm_eval.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "lm_eval":
            raise
        raise MissingData("harness tasks need the package lm-eval: pip install -c constraints.txt '.[harness]'") from error


@contextmanager
def quietly() -> Iterator[None]:
    """Within the block, lm-eval logs errors alone, and numpy lets its arg-max of NaN pass."""
    lm_eval("api.task")  # importing it sets the level of its logger
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with np.errstate(all="ignore"):
            yield
    finally:
        logger.setLevel(level)


@dataclass
class Chosen:
    """A task of lm-eval and the positions of its items that are evaluated, ascending."""

    name: str
    task: object
    items: list[int]

    def item_id(self, position: int, doc: dict) -> str:
        """A stable name: task and position in its data, e.g. `boolq/17`; a fact of worldfacts has its own."""
        return str(doc["fact"]) if self.name == "worldfacts" else f"{self.name}/{position}"

    def requests(self) -> list:
        """lm-eval's requests, freshly rendered."""
        self.task.build_all_requests(samples=self.items)
        return self.task.instances


def choose(tasks: Sequence[str], limit: int | None, seed: int) -> list[Chosen]:
    """The tasks by name (a group of lm-eval gives each of its own), at most `limit` items of each, drawn by the seed and
    the items' positions alone.

    Raises BadRequest for unknown names and for tasks that are neither multiple choice nor one answer given its context,
    MissingData where data or lm-eval are absent.
    """
    if isinstance(tasks, str) or not tasks:
        raise BadRequest(f"tasks must be a list of names such as {listed(LOCAL)}, got {tasks!r}")
    if limit is not None and limit < 1:
        raise BadRequest(f"limit must be at least 1, got {limit}")
    chosen: dict[str, Chosen] = {}
    with quietly():
        for name in dict.fromkeys(tasks):
            for task in _load(name):
                _check(task)
                task.set_config(key="num_fewshot", value=0)
                items = sample(task.task_name, len(task.eval_docs), limit, seed)
                chosen[task.task_name] = Chosen(task.task_name, task, items)
    return list(chosen.values())


def sample(name: str, size: int, limit: int | None, seed: int) -> list[int]:
    """`limit` of `size` positions, ascending; a smaller limit is part of a larger one."""
    if limit is None or limit >= size:
        return list(range(size))
    order = sorted(range(size), key=lambda i: hashlib.sha256(f"{seed}/{name}/{i}".encode()).hexdigest())
    return sorted(order[:limit])


def _load(name: str) -> Iterator:
    """The lm-eval tasks of a name."""
    if name in LOCAL:
        folder, docs = LOCAL[name]
        try:
            docs = docs()
        except MissingData:
            if os.environ.get("KC_DATA"):
                raise  # whoever names a data folder wants its files, and no network
        else:
            yield _from_docs(name, folder, docs)
            return
    manager = _all_tasks()
    if name not in manager.all_tasks:
        near = difflib.get_close_matches(name, manager.all_tasks, n=5) or LOCAL
        raise BadRequest(f"lm-eval has no task {name!r}; near it are {listed(near)}")
    try:
        loaded = manager.load([name])
    except Exception as error:  # the hub client's own kinds, OSError, and those of data sets' scripts
        reason = " ".join(str(error).split())[:200]
        raise MissingData(
            f"the data of task {name} could not be fetched from the model hub ({reason}); go online"
            + (f", or put the files of {name} under KC_DATA" if name in LOCAL else "")
        ) from error
    yield from loaded["tasks"].values()


def _from_docs(name: str, folder: str, docs: list[dict]):
    """lm-eval's task over these items. They stay in memory: no file, cache or network is involved."""
    from datasets import Dataset

    home = Path(lm_eval("tasks").__file__).parent / folder
    manager = lm_eval("tasks").TaskManager(include_defaults=False, include_path=[str(home)])
    override = {"custom_dataset": lambda **_: {"validation": Dataset.from_list(docs)}, "training_split": None}
    # a group of one is lm-eval's way to change settings of a task it knows
    return manager.load({"group": f"local {name}", "task": [{"task": name, **override}]})["tasks"][name]


@cache
def _all_tasks():
    """lm-eval's index of all its task files: some 20 seconds."""
    return lm_eval("tasks").TaskManager()


def _check(task) -> None:
    if task.OUTPUT_TYPE not in ("multiple_choice", "loglikelihood"):
        advice = "use perplexity instead" if task.OUTPUT_TYPE == "loglikelihood_rolling" else "choose another task"
        raise BadRequest(f"task {task.task_name} is of kind {task.OUTPUT_TYPE}, which is not evaluated here; {advice}")
    if callable(task.config.process_results):
        raise BadRequest(f"task {task.task_name} scores its items in a way of its own, not as right or wrong")
