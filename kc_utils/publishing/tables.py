"""Tables as Markdown."""

from __future__ import annotations


def markdown_table(rows: list[dict]) -> str:
    """A Markdown table; the first row's keys are the header."""
    header = list(rows[0])
    cell = lambda value: str(value).replace("|", "\\|").replace("\n", " ")  # noqa: E731
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(cell(row[k]) for k in header) + " |" for row in rows]
    return "\n".join(lines)
