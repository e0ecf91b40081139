"""Closed-set ranking on BEAR beside lm-pub-quiz, its authors' own implementation: the same answers, in how much less time?

    KC_DATA=... .venv/bin/python benchmarks/bear.py [--model smollm2-135m] [--facts 1200] [--batch 32]
    KC_DATA=... .venv/bin/python benchmarks/bear.py --model splade-bert-tiny

Both run in this process, one after the other, on the same frozen sample and template 1, and rank every answer of a
relation's answer space by the (pseudo-)log-likelihood of the whole statement. lm-pub-quiz gets the batch size named,
instead of its default of 1. A plain forward pass in batches of one shape says what a token costs. Seconds are
given by the clock and of the processor, all threads together, which other work on the machine lengthens less; the ratios
are of the latter.
"""

from __future__ import annotations

import argparse
import logging
from contextlib import suppress

import torch
from lm_pub_quiz import Evaluator
from spent import Spent, now

from kc_utils.models.loading import Loaded, load
from kc_utils.probing.evaluate import evaluate
from kc_utils.probing.facts import FactSet
from kc_utils.probing.probe import Probe
from kc_utils.probing.scorers import SCORERS


def theirs(loaded: Loaded, facts: FactSet, batch: int) -> tuple[dict[str, str], Spent, int]:
    """The best answer to each fact by lm-pub-quiz, seconds, and tokens of the statements it computed."""
    kind = {"decoder": "CLM", "encoder": "MLM"}[loaded.entry.family]
    tokenizer = loaded.tokenizer
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    if kind == "CLM":
        with suppress(AttributeError):
            tokenizer.add_bos_token = False  # lm-pub-quiz turns it on and back, and some tokenizers lack it
    evaluator = Evaluator.from_model(loaded.model, model_type=kind, tokenizer=tokenizer, device="cpu")
    best, tokens, start = {}, 0, now()
    for fact in facts.facts:
        relation = facts.relations[fact.relation]
        scores = evaluator.evaluate_instance(
            template=relation.templates[0],
            answers=list(relation.answer_space),
            subject=fact.subject,
            reduction="sum",
            batch_size=batch,
        )
        best[fact.id] = relation.answer_space[max(range(len(scores)), key=scores.__getitem__)]
    seconds = now() - start
    for fact in facts.facts:  # counted afterwards, off the clock
        relation = facts.relations[fact.relation]
        texts = [evaluator.replace_placeholders(template=relation.templates[0], subject=fact.subject, answer=a)[0]
                 for a in relation.answer_space]  # fmt: skip
        lengths = [len(ids) for ids in tokenizer(texts, add_special_tokens=kind == "MLM").input_ids]
        tokens += sum(n * (n - 2) for n in lengths) if kind == "MLM" else sum(lengths) + len(lengths)
    return best, seconds, tokens


def ours(loaded: Loaded, probe: Probe, facts: FactSet) -> tuple[dict[str, str], Spent, int]:
    """The same by this study."""
    start = now()
    answers = evaluate(loaded.model, loaded.tokenizer, loaded.entry.family, probe)
    seconds = now() - start
    chosen = answers.rows.set_index("fact")["chosen"]
    best = {}
    for fact in facts.facts:
        candidates = (fact.answers[0], *facts.alternatives(fact, "all"))
        best[fact.id] = candidates[chosen[fact.id]] if chosen[fact.id] >= 0 else ""
    return best, seconds, answers.tokens_computed


def needed(loaded: Loaded, facts: FactSet) -> int:
    """Tokens when each statement's part before the answer is computed once a fact (decoders)."""
    from kc_utils.probing.prefix_tree import common_length
    from kc_utils.probing.queries import queries_of

    scorer, total = SCORERS[loaded.entry.family](loaded.tokenizer), 0
    for query in queries_of(facts, 1):
        before = scorer.gap(query)
        answers = facts.relations[query.fact.relation].answer_space
        statements = [terms[-1][0] for terms in scorer.terms(query, answers)]
        shared = min(common_length(s, before) for s in statements)
        total += shared + sum(len(s) + 1 - shared for s in statements)
    return total


@torch.inference_mode()
def plain(loaded: Loaded, scores: bool, rows: int = 8, width: int = 128, times: int = 6) -> float:
    """Processor seconds a token of the model's body alone, or with the scores of every token, batch after batch of one shape,
    at best."""
    body = loaded.model if scores else loaded.model.base_model
    tokens = torch.randint(0, loaded.model.get_input_embeddings().weight.shape[0], (rows, width))
    seconds = []
    for _ in range(times):
        start = now()
        body(input_ids=tokens)
        seconds.append((now() - start).processor)
    return min(seconds) / tokens.numel()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", default="smollm2-135m")
    options.add_argument("--facts", type=int, default=1200)
    options.add_argument("--batch", type=int, default=32)
    chosen = options.parse_args()
    logging.getLogger("lm_pub_quiz").setLevel(logging.ERROR)

    loaded = load(chosen.model)
    probe = Probe(facts="bear", limit=chosen.facts, protocols=("rank",), templates=1, alternatives="all")
    facts = probe.factset()
    mine, my_seconds, my_tokens = ours(loaded, probe, facts)
    body_seconds, token_seconds = plain(loaded, False), plain(loaded, True)
    best, seconds, tokens = theirs(loaded, facts, chosen.batch)
    same = sum(mine[f.id] == best[f.id] for f in facts.facts)
    right = {name: sum(found[f.id] == f.answers[0] for f in facts.facts) for name, found in (("m", mine), ("t", best))}

    print(f"{len(facts)} facts in {len(facts.by_relation())} relations of BEAR, template 1, {chosen.model}, "
          f"{torch.get_num_threads()} threads\n")  # fmt: skip
    print("| quantity | this study | lm-pub-quiz |\n|---|---|---|")
    print(f"| accuracy | {right['m'] / len(facts):.4f} | {right['t'] / len(facts):.4f} |")
    print(f"| same best answer | {same} of {len(facts)} ({100 * same / len(facts):.2f} %) | |")
    print(f"| tokens computed | {my_tokens:,} | {tokens:,} without padding |")
    if loaded.entry.family == "decoder":
        print(f"| tokens needed, what precedes the answer once a fact | {needed(loaded, facts):,} | |")
    print(f"| seconds | {my_seconds} | {seconds} |")
    print(f"| times faster | {seconds.processor / my_seconds.processor:.1f} | 1 |")
    for what, spent in (("without scores", body_seconds), ("with scores at every token", token_seconds)):
        share = my_seconds.processor / my_tokens / spent
        print(f"| time a token, of a plain forward pass's {what} | {share:.2f} | |")


if __name__ == "__main__":
    main()
