"""Which items are asked: tasks of lm-eval by name, three of them from local files, worldfacts as one more.

BoolQ (Clark et al. 2019), PIQA (Bisk et al. 2020) and WinoGrande (Sakaguchi et al. 2020) are read from the files that
`data_file` finds; lm-eval's own task files say how they are asked. Any other task, and these three where their files are
absent and KC_DATA is not set, get their data from the model hub, as lm-eval does.
"""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from kc_utils.errors import BadRequest, MissingData, listed
from kc_utils.probing.harness.local import LOCAL
from kc_utils.probing.harness.quiet import lm_eval, quietly
from kc_utils.probing.harness.worldfacts import ALTERNATIVES, NAME, worldfacts_task


@dataclass
class Chosen:
    """A task of lm-eval and the positions of the items that are asked, ascending."""

    name: str
    task: object
    items: list[int]

    def item_id(self, position: int, doc: dict) -> str:
        """A stable name: task and position in its data, e.g. `boolq/17`; a fact of worldfacts has its own."""
        return str(doc["fact"]) if self.name == NAME else f"{self.name}/{position}"

    def requests(self) -> list:
        """lm-eval's requests, freshly rendered; examples, where there are any, are drawn by the task's seed."""
        self.task.build_all_requests(samples=self.items)
        return self.task.instances


def choose(tasks: Sequence[str], limit: int | None, seed: int, fewshot: int) -> list[Chosen]:
    """The tasks by name (a group of lm-eval gives each of its own), at most `limit` items of each, drawn by the seed and
    the items' positions alone.

    Raises BadRequest for unknown names and for tasks that are neither multiple choice nor one answer given its context,
    MissingData where data or lm-eval are absent.
    """
    if isinstance(tasks, str) or not tasks:
        raise BadRequest(f"tasks must be a list of names such as {listed(LOCAL)}, got {tasks!r}")
    if limit is not None and limit < 1:
        raise BadRequest(f"limit must be at least 1, got {limit}")
    if fewshot < 0:
        raise BadRequest(f"fewshot must be 0 or more, got {fewshot}")
    chosen: dict[str, Chosen] = {}
    with quietly():
        for name in dict.fromkeys(tasks):
            for task in _load(name, limit, seed):
                _check(task)
                task.set_config(key="num_fewshot", value=fewshot)
                task.set_fewshot_seed(seed)
                chosen[task.task_name] = Chosen(
                    task.task_name, task, sample(task.task_name, len(task.eval_docs), limit, seed)
                )
    return list(chosen.values())


def sample(name: str, size: int, limit: int | None, seed: int) -> list[int]:
    """`limit` of `size` positions, ascending; a smaller limit is part of a larger one."""
    if limit is None or limit >= size:
        return list(range(size))
    order = sorted(range(size), key=lambda i: hashlib.sha256(f"{seed}/{name}/{i}".encode()).hexdigest())
    return sorted(order[:limit])


def _load(name: str, limit: int | None, seed: int) -> Iterator:
    """The lm-eval tasks of a name."""
    if name == NAME:
        yield worldfacts_task(limit, ALTERNATIVES, seed)
        return
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
        near = difflib.get_close_matches(name, manager.all_tasks, n=5) or [*LOCAL, NAME]
        raise BadRequest(f"lm-eval has no task {name!r}; near it are {listed(near)}")
    try:
        loaded = manager.load([name])
    except Exception as error:  # the hub client's own kinds, OSError, and those of data sets' scripts
        reason = " ".join(str(error).split())[:200]
        raise MissingData(
            f"the data of task {name} could not be had from the model hub ({reason}); go online"
            + (f", or put the files of {name} under KC_DATA" if name in LOCAL else "")
        ) from error
    yield from loaded["tasks"].values()


def _from_docs(name: str, folder: str, docs: list[dict]):
    """lm-eval's task over these items. They stay in memory: no file, cache or network is involved.

    Examples for few-shot prompts come from the same items, never the one asked.
    """
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
        raise BadRequest(f"task {task.task_name} is of kind {task.OUTPUT_TYPE}, which is not asked here; {advice}")
    if callable(task.config.process_results):
        raise BadRequest(f"task {task.task_name} scores its items in a way of its own, not as right or wrong")
