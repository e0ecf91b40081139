"""Tables and figures as MyST Markdown."""

from __future__ import annotations

NBSP = "\u00a0"


def markdown_table(rows: list[dict]) -> str:
    """A Markdown table; the first row's keys are the header."""
    header = list(rows[0])
    cell = lambda value: str(value).replace("|", "\\|").replace("\n", " ")  # noqa: E731
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(cell(row[k]) for k in header) + " |" for row in rows]
    return "\n".join(lines)


def figure(name: str, label: str, caption: str, alt: str) -> str:
    """A figure of a page, from a picture under `book/results/`."""
    alt = alt.replace("\n", " ").replace(NBSP, " ")
    return f"```{{figure}} /results/{name}\n:name: {label}\n:alt: {alt}\n:width: 100%\n\n{caption}\n```\n"
