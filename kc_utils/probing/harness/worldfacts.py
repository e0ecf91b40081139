"""worldfacts as a task of lm-eval: the questions of the `rank` protocol, for any model that lm-eval can evaluate.

from lm_eval import simple_evaluate
simple_evaluate(model="hf", model_args="pretrained=...", tasks=[worldfacts_task(limit=300)])
"""

from __future__ import annotations

import random

from kc_utils.probing.facts import FactSet
from kc_utils.probing.harness.quiet import lm_eval, quietly
from kc_utils.probing.questions import ask_about
from kc_utils.probing.sources import load_source

NAME = "worldfacts"
ALTERNATIVES = 9


def worldfacts_task(limit: int | None = None, alternatives: int = ALTERNATIVES, seed: int = 0, begin: str = ""):
    """A multiple-choice task of lm-eval with the facts, statements and wrong answers that `Probe(facts="worldfacts",
    protocols=("rank",), limit=..., alternatives=..., seed=...)` asks a decoder.

    begin  stands before each statement. `rank` puts the begin-of-sequence token there, which lm-eval does only for
           tokenizers that add it by themselves: for the others, name its text (`tokenizer.bos_token`) to have its scores.

    The order of the answers is drawn by seed and fact id, so that the right one stands anywhere: lm-eval takes the first
    of equal scores, which `rank` counts as wrong. Raises MissingData where lm-eval or the facts are absent.
    """
    docs = questions(load_source(NAME).sample(limit, seed), alternatives, seed, begin)
    with quietly():
        from datasets import Dataset

        config = {
            "task": NAME,
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
        return lm_eval("api.task").ConfigurableTask(config=config)


def questions(facts: FactSet, alternatives: int, seed: int, begin: str = "") -> list[dict]:
    """One record per fact that has wrong answers: id, relation, the statement up to its gap, the rest of it with each
    answer in the gap, position of the right one."""
    docs = []
    for question in ask_about(facts, 1):
        fact, lead = question.fact, question.lead.rstrip()
        others = facts.alternatives(fact, alternatives, seed)
        if not others:
            continue
        answers = [fact.answers[0], *others]
        random.Random(f"{seed}/{fact.id}/order").shuffle(answers)
        docs.append(
            {
                "fact": fact.id,
                "relation": fact.relation,
                "prompt": begin + lead,
                "choices": [question.stated(answer)[len(lead) :] for answer in answers],
                "right": answers.index(fact.answers[0]),
            }
        )
    return docs
