"""Next-token logits of a decoder after many contexts, each shared prefix computed once."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence

import torch

from kc_utils.probing.logits import Logits, check_length
from kc_utils.probing.prefix_tree import as_batch, grow

Context = tuple[int, ...]


class NextToken:
    """Computes next-token logits of a decoder. An input is a context: a tuple of tokens.

    model         a causal language model of transformers in evaluation mode
    max_nodes     tokens in one tree (one row of a batch); a longer context has a longer row
    batch_tokens  tokens in one forward pass
    rows          contexts whose logits are held at a time
    trees         whether the model takes trees; None to find out

    Trees need a model that takes a four-dimensional mask and explicit positions. The first call checks this against the
    plain forward pass, and falls back to plain padded batches. The answer belongs to the architecture: call `takes_trees`
    before the model is compressed, since logits of int8 (torch.ao) depend on the batch and prove nothing.
    """

    def __init__(self, model, max_nodes: int = 128, batch_tokens: int = 1024, rows: int = 256, trees: bool | None = None):
        self.model, self.max_nodes, self.batch_tokens, self.rows = model, max_nodes, batch_tokens, rows
        self.tokens_computed = 0
        self._trees_work = trees

    def takes_trees(self) -> bool:
        """Whether the model's logits in a tree are those of its plain forward pass, tried once on a few short contexts."""
        if self._trees_work is None:
            self._trees_work = self._check_trees()
        return self._trees_work

    @torch.inference_mode()
    def logits(self, inputs: Sequence[Context]) -> Iterator[Logits]:
        """Yield logits that together cover every context."""
        contexts = list(inputs)
        if not contexts:
            return
        check_length(self.model, max(map(len, contexts)))
        hidden_states = self._tree_states if self.takes_trees() else self._padded_states
        for indices, states in hidden_states(contexts):
            for start in range(0, len(indices), self.rows):
                part = slice(start, start + self.rows)
                logits = states[part] if not self._trees_work else self._head(states[part])
                yield Logits.of(indices[part], logits)

    def _tree_states(self, contexts: Sequence[Context]) -> Iterator[tuple[list[int], torch.Tensor]]:
        """Last hidden states [n, width] at the end of each context, tree by tree."""
        branches = grow(contexts, self.max_nodes)
        branches.sort(key=len, reverse=True)
        for batch in self._batches(branches, len, self.max_nodes):
            tokens, positions, visible = (t.to(self.model.device) for t in as_batch(batch, pad_token=0))
            mask = torch.zeros(visible.shape, dtype=self.model.dtype, device=visible.device)
            mask.masked_fill_(~visible, torch.finfo(mask.dtype).min)
            output = self.model.base_model(
                input_ids=tokens, position_ids=positions, attention_mask=mask[:, None], use_cache=False
            )
            self.tokens_computed += tokens.numel()
            ends = [(row, node, index) for row, branch in enumerate(batch) for index, node in branch.ends]
            at_rows, at_nodes, indices = (list(x) for x in zip(*ends, strict=True))
            yield indices, output.last_hidden_state[at_rows, at_nodes]

    def _padded_states(self, contexts: Sequence[Context]) -> Iterator[tuple[list[int], torch.Tensor]]:
        """Logits [n, vocabulary] at the end of each context from plain batches, padded on the right, longest first.

        A context that begins another one is taken from that one's row.
        """
        chains = sorted(_chains(contexts), key=lambda chain: -len(contexts[chain[-1]]))
        for part in self._batches(chains, lambda chain: len(contexts[chain[-1]])):
            width = len(contexts[part[0][-1]])
            tokens = torch.zeros((len(part), width), dtype=torch.long)
            mask = torch.zeros((len(part), width), dtype=torch.long)
            for row, chain in enumerate(part):
                longest = contexts[chain[-1]]
                tokens[row, : len(longest)] = torch.tensor(longest)
                mask[row, : len(longest)] = 1
            logits = self.model(
                input_ids=tokens.to(self.model.device), attention_mask=mask.to(self.model.device), use_cache=False
            ).logits
            self.tokens_computed += tokens.numel()
            read = [(row, index) for row, chain in enumerate(part) for index in chain]
            indices = [index for _, index in read]
            yield indices, logits[[row for row, _ in read], [len(contexts[index]) - 1 for index in indices]]

    def _batches(self, rows: list, width: Callable[..., int], least: int = 1) -> Iterator[list]:
        """Rows, widest first, in batches of at most `batch_tokens` tokens, a row of fewer than `least` counted as so many.

        A batch ends before a row that would be more than a third padding.
        """
        start = 0
        while start < len(rows):
            widest = width(rows[start])
            batch = rows[start : start + max(1, self.batch_tokens // max(least, widest))]
            batch = [row for row in batch if 3 * width(row) >= 2 * widest]
            start += len(batch)
            yield batch

    def _head(self, states: torch.Tensor) -> torch.Tensor:
        logits = self.model.get_output_embeddings()(states)
        cap = getattr(self.model.config, "final_logit_softcapping", None)
        return logits if not cap else cap * torch.tanh(logits / cap)

    @torch.inference_mode()
    def _check_trees(self) -> bool:
        """Whether the tree gives the plain forward pass's log-probabilities: on a long context, where a sliding window shows,
        on another that parts from it, where a wrong mask does, and on their beginning."""
        size = self.model.get_input_embeddings().weight.shape[0]
        long = tuple(13 * n * n % size for n in range(15))
        sample = [long[:6], long, long[:5] + tuple(n % size for n in range(6, 12))]
        counted = self.tokens_computed
        plain = dict(self._gathered(self._padded_states(sample), torch.nn.Identity()))
        try:
            tree = dict(self._gathered(self._tree_states(sample), self._head))
        except (TypeError, RuntimeError, ValueError, IndexError):
            tree = {}
        self.tokens_computed = counted
        if not all(torch.isfinite(row).all() for row in plain.values()):
            return bool(tree)  # a broken model proves nothing about trees
        worst = max((float((plain[i] - tree[i]).abs().max()) for i in plain if i in tree), default=float("inf"))
        if len(tree) == len(plain) and worst < (1e-2 if self.model.dtype == torch.float32 else 0.5):
            return True
        warnings.warn(
            f"{type(self.model).__name__} does not take trees of tokens (off by {worst:.2g}); each statement is computed "
            "on its own, which is slower and gives the same scores",
            stacklevel=2,
        )
        return False

    @staticmethod
    def _gathered(states: Iterator[tuple[list[int], torch.Tensor]], head) -> Iterator[tuple[int, torch.Tensor]]:
        for indices, rows in states:
            yield from zip(indices, torch.log_softmax(head(rows).float(), dim=-1), strict=True)


def _chains(contexts: Sequence[Context]) -> list[list[int]]:
    """Indices of the contexts, in lists of which each context begins with the one before it."""
    chains: list[list[int]] = []
    previous: Context | None = None
    for index in sorted(range(len(contexts)), key=lambda i: contexts[i]):
        context = contexts[index]
        if previous is not None and context[: len(previous)] == previous:
            chains[-1].append(index)
        else:
            chains.append([index])
        previous = context
    return chains
