import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kc_utils.probing.prefix_tree import as_batch, grow

SEQUENCES = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=9).map(tuple), min_size=1, max_size=25)


def walk(branch, node):
    """The tokens from the root down to a node."""
    path = []
    while node >= 0:
        path.append(branch.tokens[node])
        node = branch.parents[node]
    return tuple(reversed(path))


@given(SEQUENCES, st.integers(1, 12))
def test_every_sequence_can_be_read_back(sequences, max_nodes):
    branches = grow(sequences, max_nodes)
    read = {index: walk(branch, node) for branch in branches for index, node in branch.ends}
    assert read == dict(enumerate(sequences))
    assert sum(len(b.ends) for b in branches) == len(sequences), "no sequence ends twice"


@given(SEQUENCES, st.integers(1, 12))
def test_sizes(sequences, max_nodes):
    branches = grow(sequences, max_nodes)
    for branch in branches:
        longest = max(branch.depths) + 1
        assert len(branch) <= max_nodes or longest > max_nodes, "only a longer sequence may have a larger tree"
        assert len(branch) <= max(max_nodes, 2 * longest)
        # within one tree each prefix is one node
        nodes = [walk(branch, node) for node in range(len(branch))]
        assert len(set(nodes)) == len(nodes)
    prefixes = {s[:n] for s in sequences for n in range(1, len(s) + 1)}
    assert {walk(b, n) for b in branches for n in range(len(b))} == prefixes


def test_a_tree_is_cut_where_it_shares_least():
    """Five questions of 30 tokens, each with two answers of 5: none is computed twice, though the third does not fit."""
    questions = [tuple(range(100 * n, 100 * n + 30)) for n in range(5)]
    sequences = [question + answer for question in questions for answer in ((1,) * 5, (2,) * 5)]
    branches = grow(sequences, max_nodes=115)  # two questions and one answer of the third
    assert [len(b) for b in branches] == [80, 80, 40]


def test_long_sequences_that_begin_alike_share_a_tree():
    """A long passage and its answers, each read at every token: the passage is computed once."""
    passage = tuple(range(100))
    answers = [passage + answer[:end] for answer in ((200, 201, 202), (300, 301, 302)) for end in range(4)]
    (branch,) = grow(answers, max_nodes=10)
    assert len(branch) == 106
    many = [passage + (number,) * 10 for number in range(200, 240)]
    branches = grow(many, max_nodes=10)
    assert max(map(len, branches)) <= 220
    assert sum(map(len, branches)) <= 40 * 10 + 4 * 100, "the passage once for about ten answers"


@given(SEQUENCES)
def test_one_large_tree_has_a_node_for_each_distinct_prefix(sequences):
    (branch,) = grow(sequences, max_nodes=10_000)
    prefixes = {s[:n] for s in sequences for n in range(1, len(s) + 1)}
    assert len(branch) == len(prefixes)
    assert branch.depths == [len(walk(branch, node)) - 1 for node in range(len(branch))]


@given(SEQUENCES, st.integers(1, 12))
def test_a_node_sees_its_ancestors_and_itself_alone(sequences, max_nodes):
    branches = grow(sequences, max_nodes)
    tokens, positions, visible = as_batch(branches, pad_token=9)
    width = max(len(b) for b in branches)
    assert tokens.shape == positions.shape == (len(branches), width)
    assert visible.shape == (len(branches), width, width)
    for row, branch in enumerate(branches):
        for i in range(width):
            ancestors = {i}
            node = branch.parents[i] if i < len(branch) else -1
            while node >= 0:
                ancestors.add(node)
                node = branch.parents[node]
            assert set(torch.nonzero(visible[row, i]).flatten().tolist()) == ancestors
            assert tokens[row, i] == (branch.tokens[i] if i < len(branch) else 9)
            assert positions[row, i] == (len(ancestors) - 1 if i < len(branch) else 0)


def test_an_empty_sequence_is_refused():
    with pytest.raises(ValueError, match="empty sequence"):
        grow([(1, 2), ()])


def test_nothing_grows_from_nothing():
    assert grow([]) == []
