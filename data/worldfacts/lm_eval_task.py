"""worldfacts as a task of lm-eval, for any model that lm-eval can evaluate. From this folder:

import lm_eval
from lm_eval_task import worldfacts_task

lm_eval.simple_evaluate(model="hf", model_args="pretrained=...", tasks=[worldfacts_task(limit=300)])
"""

from __future__ import annotations

import random

from datasets import Dataset
from lm_eval.api.task import ConfigurableTask

from kc_utils.probing.queries import queries_of
from kc_utils.probing.sources import load_source


def worldfacts_task(limit: int | None = None, alternatives: int = 9, seed: int = 0, begin: str = ""):
    """The multiple-choice task, with the facts, statements and wrong answers of `Probe(facts="worldfacts",
    protocols=("rank",), limit=..., alternatives=..., seed=...)` on a decoder.

    begin  stands before each statement. `rank` puts the begin-of-sequence token there, which lm-eval does only for
           tokenizers that add it by themselves: for the others, name its text (`tokenizer.bos_token`) to have its scores.

    The order of the answers is drawn by seed and fact id, so that the right one has any position: lm-eval takes the first
    of equal scores, which `rank` counts as wrong.
    """
    facts, docs = load_source("worldfacts").sample(limit, seed), []
    for query in queries_of(facts, 1):
        fact, lead = query.fact, query.lead.rstrip()
        others = facts.alternatives(fact, alternatives, seed)
        if others:
            answers = [fact.answers[0], *others]
            random.Random(f"{seed}/{fact.id}/order").shuffle(answers)
            choices = [query.stated(answer)[len(lead) :] for answer in answers]
            docs.append({"fact": fact.id, "relation": fact.relation, "prompt": begin + lead, "choices": choices,
                         "right": answers.index(fact.answers[0])})  # fmt: skip
    config = {
        "task": "worldfacts",
        "custom_dataset": lambda **_: {"test": Dataset.from_list(docs)},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "prompt",
        "doc_to_choice": "choices",
        "doc_to_target": "right",
        "target_delimiter": "",  # the choices bring their space
        "num_fewshot": 0,
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"version": 1.0},
    }
    return ConfigurableTask(config=config)
