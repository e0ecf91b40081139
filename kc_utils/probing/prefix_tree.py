"""Many token sequences as one tree, so that a shared beginning is computed once.

Facts of one relation begin alike ("The capital of ..."), and all candidates follow the same statement. In a tree of the
sequences every node is one token, attends to its ancestors alone, and has its depth as its position: the tree attention of
speculative decoding (Miao et al. 2024, SpecInfer), used here to score rather than to draft.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch


@dataclass
class Branch:
    """A tree of at most `max_nodes` tokens that is computed as one row of a batch.

    tokens[i] is the token of node i, parents[i] its parent's index (-1 for a root), depths[i] its position.
    ends[j] is the (sequence, node) pair of the j-th sequence that ends inside this tree.
    """

    tokens: list[int]
    parents: list[int]
    depths: list[int]
    ends: list[tuple[int, int]]

    def __len__(self) -> int:
        return len(self.tokens)


def grow(sequences: Sequence[tuple[int, ...]], max_nodes: int = 128) -> list[Branch]:
    """Merge sequences into trees of at most `max_nodes` nodes, few of which repeat what another holds.

    In sorted order, where neighbours share the most, a tree takes sequences until one does not fit. It is then cut back
    to where the next tree has to repeat least for the size of this one: the inputs of one query stay together. A sequence
    longer than `max_nodes` gets a tree of up to twice its length, shared with those that begin alike. Repeated sequences
    end at the same node.
    """
    order = sorted(range(len(sequences)), key=lambda i: sequences[i])
    if order and not sequences[order[0]]:
        raise ValueError("an empty sequence has no last token")
    shared = [0, *(common_length(sequences[a], sequences[b]) for a, b in pairwise(order))]
    branches: list[Branch] = []
    start = 0
    while start < len(order):
        sizes = [len(sequences[order[start]])]  # of the tree that ends with each sequence
        end = start + 1
        while end < len(order):
            length = len(sequences[order[end]])
            room = max_nodes if length <= max_nodes or not shared[end] else 2 * length
            size = sizes[-1] + length - shared[end]
            if size > room:
                repeated = [shared[start + taken] / size for taken, size in enumerate(sizes, start=1)]
                end = start + 1 + min(range(len(sizes)), key=lambda taken: (repeated[taken], -taken))
                break
            sizes.append(size)
            end += 1
        branches.append(_tree(sequences, order[start:end], shared[start:end]))
        start = end
    return branches


def _tree(sequences: Sequence[tuple[int, ...]], order: list[int], shared: list[int]) -> Branch:
    """One tree of neighbours in sorted order; `shared[i]` tokens begin both the i-th and the one before it."""
    branch = Branch([], [], [], [])
    path: list[int] = []  # nodes of the sequence added last
    for index, common in zip(order, shared, strict=True):
        path = path[: common if branch.tokens else 0]
        for depth in range(len(path), len(sequences[index])):
            branch.tokens.append(sequences[index][depth])
            branch.parents.append(path[-1] if path else -1)
            branch.depths.append(depth)
            path.append(len(branch) - 1)
        branch.ends.append((index, path[-1]))
    return branch


def common_length(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    """How many tokens two sequences begin with in common."""
    return next((at for at, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def as_batch(branches: Sequence[Branch], pad_token: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Token ids [B, T], positions [B, T] and visibility [B, T, T] (True where row token i may see token j).

    Padding sees itself only, so that no row of the softmax is empty; nothing else sees padding.
    """
    width = max(len(b) for b in branches)
    tokens = torch.full((len(branches), width), pad_token, dtype=torch.long)
    positions = torch.zeros((len(branches), width), dtype=torch.long)
    visible = torch.eye(width, dtype=torch.bool).repeat(len(branches), 1, 1)
    for row, branch in enumerate(branches):
        tokens[row, : len(branch)] = torch.tensor(branch.tokens)
        positions[row, : len(branch)] = torch.tensor(branch.depths)
        for node, parent in enumerate(branch.parents):
            if parent >= 0:
                visible[row, node] |= visible[row, parent]
    return tokens, positions, visible
