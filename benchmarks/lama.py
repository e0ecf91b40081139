"""Cloze on LAMA beside a plain loop: the same hits, in how much less time?

    KC_DATA=... .venv/bin/python benchmarks/lama.py [--model smollm2-135m] [--facts 300] [--batch 16]
    KC_DATA=... .venv/bin/python benchmarks/lama.py --model splade-bert-tiny --facts 3000

The plain loop does what the code of Namburi et al. (2023) does: it pads every prompt to 128 tokens and scores the whole
vocabulary at every position, in batches of `--batch`. Both score the same frozen sample of T-REx and of Google-RE in this
process, one after the other. Seconds are given by the clock and of the processor, all threads together, which other work
on the machine lengthens less; ratios are of the latter.
"""

from __future__ import annotations

import argparse

import torch
from spent import Spent, now

from kc_utils.models.loading import Loaded, load
from kc_utils.probing.evaluate import evaluate
from kc_utils.probing.facts import FactSet
from kc_utils.probing.probe import Probe
from kc_utils.probing.queries import Query, queries_of

WIDTH = 128


def prompts_of(loaded: Loaded, queries: list[Query]) -> tuple[list[list[int]], list[set[int]]]:
    """Token ids of each prompt, and the first token of each right answer, by plain use of the tokenizer. A token of white
    space alone is no answer: in an alias that begins with one, such as `ireland`, it says nothing yet."""
    tokenizer, found, right = loaded.tokenizer, [], []
    for query in queries:
        answer = query.fact.answers[0]
        if loaded.entry.family == "encoder":
            found.append(tokenizer(query.text.replace("[Y]", tokenizer.mask_token)).input_ids)
            right.append({tokenizer(a, add_special_tokens=False).input_ids[0] for a in query.fact.accepted
                          if len(tokenizer(a, add_special_tokens=False).input_ids) == 1})  # fmt: skip
        else:
            before = tokenizer.bos_token + query.text.partition("[Y]")[0].rstrip()
            found.append(tokenizer(before, add_special_tokens=False).input_ids)
            whole = (tokenizer(f"{before} {a}", add_special_tokens=False).input_ids for a in query.fact.accepted)
            first = {ids[len(found[-1])] for ids in whole}
            right.append({token for token in first if tokenizer.decode([token]).strip()})
        assert answer in query.fact.accepted
    return found, right


@torch.inference_mode()
def plain_loop(loaded: Loaded, queries: list[Query], batch: int) -> tuple[dict[str, tuple[bool, bool]], Spent]:
    """Hits at 1 and at 5 of each fact, and seconds."""
    start = now()
    prompts, right = prompts_of(loaded, queries)
    tokenizer, hits = loaded.tokenizer, {}
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    for begin in range(0, len(prompts), batch):
        part = prompts[begin : begin + batch]
        tokens = torch.tensor([ids + [pad] * (WIDTH - len(ids)) for ids in part])
        mask = torch.tensor([[1] * len(ids) + [0] * (WIDTH - len(ids)) for ids in part])
        logits = loaded.model(input_ids=tokens, attention_mask=mask).logits
        for row, ids in enumerate(part):
            at = ids.index(tokenizer.mask_token_id) if loaded.entry.family == "encoder" else len(ids) - 1
            best = logits[row, at].topk(5).indices.tolist()
            wanted = right[begin + row]
            hits[queries[begin + row].fact.id] = (best[0] in wanted, bool(wanted & set(best)))
    return hits, now() - start


def compare(loaded: Loaded, source: str, limit: int, batch: int) -> None:
    probe = Probe(facts=source, limit=limit, protocols=("cloze",), templates=1)
    start = now()
    answers = evaluate(loaded.model, loaded.tokenizer, loaded.entry.family, probe)
    mine_seconds = now() - start
    mine = {r.fact: (bool(r.correct), bool(r.correct_at_5)) for r in answers.rows.itertuples()}
    facts: FactSet = probe.factset()
    queries = [q for q in queries_of(facts, 1, loaded.entry.family == "decoder") if q.fact.id in mine]
    theirs, seconds = plain_loop(loaded, queries, batch)
    same = sum(mine[fact] == theirs[fact] for fact in theirs)
    at = [100 * sum(hit[k] for hit in mine.values()) / len(mine) for k in (0, 1)]
    print(f"| {source} | {len(mine)} of {len(facts)} | {at[0]:.2f} | {at[1]:.2f} | {same} | {answers.tokens_computed:,} | "
          f"{len(mine) * WIDTH:,} | {mine_seconds} | {seconds} | {seconds.processor / mine_seconds.processor:.1f} |")  # fmt: skip


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", default="smollm2-135m")
    options.add_argument("--facts", type=int, default=300)
    options.add_argument("--batch", type=int, default=16)
    chosen = options.parse_args()
    loaded = load(chosen.model)
    for source in ("lama:trex", "lama:google_re"):  # files and first calls are not timed
        probe = Probe(facts=source, limit=8, protocols=("cloze",))
        evaluate(loaded.model, loaded.tokenizer, loaded.entry.family, probe)
    print(f"{chosen.model}, {torch.get_num_threads()} threads, batches of {chosen.batch} in the plain loop\n")
    print("| source | facts scored | hits at 1, % | at 5, % | same hits | tokens computed | of the loop | seconds | "
          "of the loop | times faster |\n|---|---|---|---|---|---|---|---|---|---|")  # fmt: skip
    for source in ("lama:trex", "lama:google_re"):
        compare(loaded, source, chosen.facts, chosen.batch)


if __name__ == "__main__":
    main()
