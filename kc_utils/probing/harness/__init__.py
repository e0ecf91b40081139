"""Tasks of lm-eval (EleutherAI's LM Evaluation Harness) asked of a model in memory, one row per item.

Prompts, answers and what counts as right are lm-eval's own, and its evaluator runs the tasks. What differs is who answers
its requests (`readers`: shared beginnings are computed once, nothing is saved and loaded again) and how a model that says
nothing is counted: lm-eval takes the first of equal scores, so that NaN everywhere is 100 % right where the right answer
stands first. Here a tie or a score that is not a number is a failure.
"""

from kc_utils.probing.harness.ask import ask_tasks, check_family, gold_balance, items_hash
from kc_utils.probing.harness.tasks import LOCAL

__all__ = ["LOCAL", "ask_tasks", "check_family", "gold_balance", "items_hash"]
