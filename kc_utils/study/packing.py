"""Rows of many evaluations as one small Parquet file with its provenance inside, readable by any Parquet reader.

Scores take most of the room. They are rounded to multiples of 1/128 of a nat and kept as 32-bit floats, which leaves most of
their bits zero; bytes of equal significance are stored side by side (BYTE_STREAM_SPLIT) and compressed. Right and wrong are
stored as they were found, before any rounding.
"""

import io
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from kc_utils.errors import MissingData

STEP = 1 / 128
"""Nats. Scores, margins and candidates' scores are multiples of it."""
SCORES = ("score", "margin")
LIST = "scores"
ABOUT = b"kc"
"""Key of the provenance (JSON) in the file's metadata."""


def rounded(frame: pd.DataFrame) -> pd.DataFrame:
    """Round scores to multiples of STEP."""
    frame = frame.copy()
    for name in SCORES:
        if name in frame:
            frame[name] = _to_grid(frame[name].to_numpy(float))
    if LIST in frame:
        frame[LIST] = [None if values is None or np.ndim(values) == 0 else _to_grid(values) for values in frame[LIST]]
    return frame


def packed(frame: pd.DataFrame, about: dict, exact: bool = False) -> bytes:
    """Return a Parquet file of these rows with `about` in its metadata. Text is dictionary-encoded, everything compressed.

    exact: keep scores as they are, without those of single candidates, and compress fast: for this machine alone.
    """
    frame = frame.drop(columns=LIST, errors="ignore") if exact else rounded(frame)
    table = pa.Table.from_pandas(frame, preserve_index=False)
    kinds = {} if exact else {**dict.fromkeys(SCORES, pa.float32()), LIST: pa.list_(pa.float32())}
    table = table.cast(pa.schema([f.with_type(kinds.get(f.name, f.type)) for f in table.schema], table.schema.metadata))
    split = [f"{name}.list.element" if name == LIST else name for name in (*SCORES, LIST) if name in table.column_names]
    texts = [f.name for f in table.schema if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)]
    texts += [name for name in ("popularity", "chance") if name in table.column_names]
    buffer = io.BytesIO()
    options = {"use_dictionary": texts, "use_byte_stream_split": split, "write_statistics": False}
    options |= {"compression": "zstd", "compression_level": 3 if exact else 19}
    with pq.ParquetWriter(buffer, table.schema, **options) as writer:
        writer.write_table(table, row_group_size=2**22)
        writer.add_key_value_metadata({ABOUT: json.dumps(about, allow_nan=False, ensure_ascii=False)})
    return buffer.getvalue()


def about(content: bytes, name: str) -> dict:
    """Return the provenance inside a packed file. Raises MissingData for a file that is none; `name` says which."""
    try:
        return json.loads(pq.read_metadata(pa.BufferReader(content)).metadata[ABOUT])
    except (pa.ArrowException, KeyError, ValueError, TypeError, OSError) as error:
        raise _no_rows(name, error) from error


def unpacked(content: bytes, name: str) -> pd.DataFrame:
    """Return the rows of a packed file, with the types that they had. Raises MissingData for a file that is none."""
    try:
        frame = pq.read_table(pa.BufferReader(content)).to_pandas()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _no_rows(name, error) from error
    frame = frame.astype({column: float for column in SCORES if column in frame})
    if LIST in frame:
        frame[LIST] = [None if values is None else np.asarray(values, float) for values in frame[LIST]]
    return frame


def _no_rows(name: str, error: Exception) -> MissingData:
    return MissingData(f"{name} is not a file of recorded rows ({' '.join(str(error).split())[:100]})")


def _to_grid(values) -> np.ndarray:
    return np.round(np.asarray(values, float) / STEP) * STEP
