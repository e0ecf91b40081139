import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kc_utils.compression.encodings import Encoded, encode


def unpacked(packed: np.ndarray, bits: int, count: int) -> list[int]:
    """The numbers of a bit string, read bit by bit as one large whole number."""
    number = int.from_bytes(packed.tobytes(), "little")
    return [(number >> (bits * i)) & ((1 << bits) - 1) for i in range(count)]


def decoded(encoded: Encoded, shape: tuple[int, int], bits: int) -> np.ndarray:
    """The codes of the kept weights, 0 elsewhere, from what was written alone."""
    outputs, inputs = shape
    flat = [0] * (outputs * inputs)
    arrays = encoded.arrays
    if encoded.encoding == "dense":
        flat = unpacked(arrays["values"], bits, len(flat))
    elif encoded.encoding == "bitmask":
        at = [i for i, bit in enumerate(unpacked(arrays["kept"], 1, len(flat))) if bit]
        for i, value in zip(at, unpacked(arrays["values"], bits, len(at)), strict=True):
            flat[i] = value
    elif encoded.encoding == "rows":
        rows = [r for r, bit in enumerate(unpacked(arrays["kept"], 1, outputs)) if bit]
        values = unpacked(arrays["values"], bits, len(rows) * inputs)
        for n, row in enumerate(rows):
            flat[row * inputs : (row + 1) * inputs] = values[n * inputs : (n + 1) * inputs]
    else:
        some, of = map(int, encoded.encoding.split(":"))
        count = len(flat) // of * some
        positions = unpacked(arrays["positions"], {4: 2, 8: 3, 16: 4}[of], count)
        for n, (position, value) in enumerate(zip(positions, unpacked(arrays["values"], bits, count), strict=True)):
            flat[n // some * of + position] = value
    return np.array(flat).reshape(shape)


@given(
    st.sampled_from([2, 3, 4, 8, 16]),
    st.sampled_from([(3, 5), (4, 16), (1, 8), (6, 4)]),
    st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]),
    st.integers(0, 99),
)
def test_what_is_written_decodes_to_the_matrix(bits, shape, sparsity, seed):
    random = np.random.default_rng(seed)
    codes = random.integers(0, 2**bits, shape).astype(np.uint16)
    kept = random.random(shape) >= sparsity
    encoded = encode(codes, kept, bits)
    found = decoded(encoded, shape, bits)
    assert (found[kept] == codes[kept]).all()
    plain = -(-codes.size * bits // 8)
    if encoded.encoding == "dense":
        assert encoded.nbytes == plain
    else:
        assert encoded.nbytes < plain
        assert (found[~kept & (found != codes)] == 0).all()
