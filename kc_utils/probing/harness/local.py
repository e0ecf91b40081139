"""BoolQ, PIQA and WinoGrande from their authors' files, with the field names that lm-eval's task files use."""

from __future__ import annotations

from collections.abc import Callable

from kc_utils.errors import MissingData, listed
from kc_utils.probing.files import data_file, read_jsonl

BOOLQ = "harness/boolq/val.jsonl"
PIQA, PIQA_LABELS = "harness/piqa/valid.jsonl", "harness/piqa/valid-labels.lst"
WINOGRANDE = "harness/winogrande/dev.jsonl"


def boolq() -> list[dict]:
    """Passage, question and label (1 for yes). The authors' files call the label `answer`, SuperGLUE's `label`."""
    docs = []
    for number, record in enumerate(_records(BOOLQ, "passage", "question"), start=1):
        label = record.get("label", record.get("answer"))
        if label not in (False, True):
            raise _damaged(BOOLQ, number, f"its label or answer is {label!r}, not true or false")
        docs.append({"passage": record["passage"], "question": record["question"], "label": int(label)})
    return docs


def piqa() -> list[dict]:
    """Goal, two solutions and the position of the right one, which the authors keep in a file of its own."""
    records = _records(PIQA, "goal", "sol1", "sol2")
    labels = data_file(PIQA_LABELS).read_text(encoding="utf-8").split()
    if len(labels) != len(records):
        raise MissingData(
            f"{data_file(PIQA)} holds {len(records)} items and {data_file(PIQA_LABELS)} {len(labels)} labels; "
            "fetch both files again"
        )
    for number, label in enumerate(labels, start=1):
        if label not in ("0", "1"):
            raise _damaged(PIQA_LABELS, number, f"its label is {label!r}, not 0 or 1")
    fields = ("goal", "sol1", "sol2")
    return [{f: r[f] for f in fields} | {"label": int(label)} for r, label in zip(records, labels, strict=True)]


def winogrande() -> list[dict]:
    """A sentence with a gap `_`, two options and the number of the right one, "1" or "2"."""
    docs = []
    fields = ("sentence", "option1", "option2", "answer")
    for number, record in enumerate(_records(WINOGRANDE, *fields), start=1):
        if record["answer"] not in ("1", "2") or "_" not in record["sentence"]:
            raise _damaged(WINOGRANDE, number, "its answer is not 1 or 2, or its sentence has no gap _")
        docs.append({field: record[field] for field in fields})
    return docs


LOCAL: dict[str, tuple[str, Callable[[], list[dict]]]] = {
    "boolq": ("super_glue/boolq", boolq),
    "piqa": ("piqa", piqa),
    "winogrande": ("winogrande", winogrande),
}
"""Task name -> the folder of its task file within lm-eval, and its items."""

FILES = {"boolq": (BOOLQ,), "piqa": (PIQA, PIQA_LABELS), "winogrande": (WINOGRANDE,)}
"""Task name -> the data files that hold its items."""


def _records(name: str, *fields: str) -> list[dict]:
    """The records of a JSONL file, each with these fields as text. Raises MissingData for one that is cut off."""
    records = read_jsonl(data_file(name))
    for number, record in enumerate(records, start=1):
        lacking = [field for field in fields if not isinstance(record.get(field), str)]
        if lacking:
            raise _damaged(name, number, f"it lacks {listed(lacking)}")
    return records


def _damaged(name: str, number: int, reason: str) -> MissingData:
    return MissingData(f"{data_file(name)}, line {number}: {reason}; fetch the file again")
