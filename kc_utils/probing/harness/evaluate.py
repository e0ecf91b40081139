"""Tasks of lm-eval (EleutherAI's LM Evaluation Harness) on a model in memory, one row per item.

Prompts, answers and what counts as right are lm-eval's own, and its evaluator runs the tasks. Two things differ: `readers`
answer its requests, and a tie or a score that is not a number is a failure. lm-eval takes the first of equal scores, so that
NaN everywhere is 100 % right where the right answer stands first.
"""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Sequence
from importlib.metadata import version

import numpy as np
import pandas as pd

from kc_utils.errors import BadRequest
from kc_utils.probing.harness.tasks import Chosen, choose, lm_eval, quietly
from kc_utils.probing.probe import Probe

PROTOCOL = "harness"
TIE = 1e-5
"""Nats. Equal scores summed in another order differ by less than this in float32; two that do are taken as equal."""


def check_family(family: str) -> None:
    """Raise BadRequest for a family that gives no continuation."""
    if family not in ("decoder", "encoder-decoder"):
        raise BadRequest(
            f"harness tasks score an answer as the continuation of a prompt, which a model of family {family} does not "
            "give: choose a decoder or an encoder-decoder"
        )


def measure(
    model, tokenizer, family: str, probe: Probe, trees: bool | None = None, recipe: str = "none", batch_size: int = 8
) -> pd.DataFrame:
    """One row per item of each of a probe's tasks (names of lm-eval's tasks or groups).

    trees       as in `NextToken`, for decoders
    batch_size  rows of one forward pass

    `correct` is lm-eval's `acc`, `correct_norm` its `acc_norm` (scores per character of the answer; missing where the task
    has none). `scores` are log-likelihoods in nats, `gold` and `chosen` positions among them, `margin` the right answer's
    lead over the best wrong one. Where the two highest scores are equal or one is not a number, the row is wrong and not
    valid, and a warning counts them. A task of one answer and no choice (LAMBADA) is right where each token of the answer
    is the likeliest.

    Raises BadRequest for unknown tasks and families, MissingData where data or lm-eval are absent.
    """
    check_family(family)
    chosen = choose(probe.tasks, probe.task_limit, probe.seed)
    table = table_of(run(make_reader(model, tokenizer, family, batch_size, trees), chosen))
    invalid = int((~table["valid"]).sum())
    if invalid:
        warnings.warn(
            f"{invalid} of {len(table)} items have scores that are not numbers, or two highest that are equal, and count "
            "as wrong answers",
            stacklevel=2,
        )
    return table


def fingerprint(probe: Probe) -> str:
    """SHA-256 of all that a result depends on beside the model: every prompt and answer of a probe's tasks as lm-eval
    renders them, which answer is right, and the version of lm-eval."""
    digest = hashlib.sha256(f"lm-eval {version('lm-eval')}\n".encode())
    for chosen in choose(probe.tasks, probe.task_limit, probe.seed):
        with quietly():
            for request in chosen.requests():
                right = right_answers(chosen.task, request.doc)
                record = [chosen.name, request.doc_id, request.idx, list(request.args), right]
                digest.update(json.dumps(record, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()


def make_reader(model, tokenizer, family: str, batch_size: int = 8, trees: bool | None = None):
    """The `lm_eval.api.model.LM` that answers lm-eval's requests for a model of this family."""
    lm_eval("api.model")  # states what to install
    from kc_utils.probing.harness.readers import READERS

    extra = {"trees": trees} if family == "decoder" else {}
    return READERS[family](model, tokenizer, batch_size=batch_size, **extra)


def run(reader, chosen: Sequence[Chosen]) -> list[tuple[Chosen, list[dict]]]:
    """The records that lm-eval's evaluator logs of each item, in order. `reader` may be any of lm-eval's models."""
    with quietly():
        tasks, samples = {c.name: c.task for c in chosen}, {c.name: c.items for c in chosen}
        results = lm_eval("evaluator").evaluate(reader, {"tasks": tasks}, samples=samples, bootstrap_iters=0)
    return [(c, sorted(results["samples"][c.name], key=lambda s: s["doc_id"])) for c in chosen]


def table_of(evaluated: Sequence[tuple[Chosen, list[dict]]]) -> pd.DataFrame:
    """The rows of what `run` gives."""
    table = pd.DataFrame([row for chosen, answers in evaluated for row in _rows(chosen, answers)])
    table["correct_norm"] = table["correct_norm"].astype("boolean")
    return table


def right_answers(task, doc: dict) -> list[int]:
    """Positions of an item's right answers among its choices, as lm-eval's scoring reads them; none for one answer
    without a choice."""
    if task.OUTPUT_TYPE != "multiple_choice":
        return []
    choices = task.doc_to_choice(doc)
    right = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
    right = right if isinstance(right, list) else [right]
    right = [choices.index(r) if isinstance(r, str) and r in choices else r for r in right]
    right = sorted(int(r) for r in right if not isinstance(r, str) and 0 <= int(r) < len(choices))
    if not right:
        raise BadRequest(f"task {task.task_name}: an item's right answer is not among its {len(choices)} choices")
    return right


def _rows(chosen: Chosen, answers: list[dict]) -> list[dict]:
    seen, rows = set(), []
    for answer in answers:
        if answer["doc_id"] in seen:
            continue  # lm-eval logs an item once for each of its filters
        seen.add(answer["doc_id"])
        doc = answer["doc"]
        head = {"fact": chosen.item_id(answer["doc_id"], doc), "relation": chosen.name, "popularity": None}
        head |= {"protocol": PROTOCOL, "template": 0}
        replies = [(float(ll), bool(greedy)) for ll, greedy in (r[0] for r in answer["resps"])]
        if chosen.task.OUTPUT_TYPE == "multiple_choice":
            choices = chosen.task.doc_to_choice(doc)
            scores = [ll for ll, _ in replies[: len(choices)]]  # some tasks request more, without context
            right = right_answers(chosen.task, doc)
            rows.append(head | multiple_choice(scores, right))
            if "acc_norm" in answer["metrics"]:
                per_character = [s / len(c) if c else math.nan for s, c in zip(scores, choices, strict=True)]
                rows[-1]["correct_norm"] = multiple_choice(per_character, right)["correct"]
        else:
            ((score, greedy),) = replies
            valid = math.isfinite(score)
            head |= {"correct": greedy and valid, "correct_norm": None, "score": score if valid else math.nan}
            head |= {"margin": math.nan, "chosen": -1, "gold": -1, "scores": [score], "chance": 0.0, "valid": valid}
            rows.append(head)
    return rows


def multiple_choice(scores: Sequence[float], right: Sequence[int]) -> dict:
    """Whether a right answer leads, by how much, and whether the scores are numbers without a tie."""
    values = np.asarray(scores, dtype=float)
    is_right = np.isin(np.arange(len(values)), right)
    finite = bool(np.isfinite(values).all())
    order = np.sort(values)[::-1]
    valid = finite and (len(values) == 1 or order[0] - order[1] > TIE)
    best = float(values[is_right].max()) if finite else math.nan
    wrong = values[~is_right]
    margin = best - float(wrong.max()) if finite and len(wrong) else math.nan
    found = {"correct": valid and bool(margin > TIE), "correct_norm": None, "score": best, "margin": margin}
    found |= {"chosen": int(values.argmax()) if valid else -1, "gold": min(right)}
    return found | {"scores": [float(v) for v in values], "chance": len(right) / len(values), "valid": valid}
