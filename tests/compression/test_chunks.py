import pytest

from kc_utils.compression.chunks import each_in_threads


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_results_are_in_the_order_of_the_pieces(count):
    assert each_in_threads(lambda piece: piece * piece, range(count)) == [i * i for i in range(count)]
