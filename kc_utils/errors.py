"""The one kind of error that a user can act on.

Every message says what was wrong, where, and what to do. The command line prints it as one line and leaves with
`exit_code`; anything else that is raised is a defect and keeps its traceback.
"""


class KCError(Exception):
    """A request cannot be met, and the message says what to do about it."""

    exit_code = 2


class BadRequest(KCError):
    """An unknown or impossible parameter: model, scope, method, amount, relation, study key."""


class MissingData(KCError):
    """A file, package or download that is needed is absent, truncated or not the one that was frozen."""

    exit_code = 3


class BadModel(KCError):
    """A model whose weights or architecture cannot be worked on (NaN, unknown matrices, unsafe format)."""

    exit_code = 4


class BadResult(KCError):
    """A step did less than its recipe or a score is not a number: no result is better than one that looks fine."""

    exit_code = 5


def listed(names, limit: int = 12) -> str:
    """`a, b, c` for an error message, cut after `limit` names."""
    names = [str(n) for n in names]
    tail = f", ... ({len(names) - limit} more)" if len(names) > limit else ""
    return ", ".join(names[:limit]) + tail


def explain(error, of) -> str:
    """Put pydantic's first complaint in one line: where, what, and what was given. of: the model that was validated."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "value"
    if first["type"] == "extra_forbidden":
        return f"unknown parameter {where!r}; it takes {listed(of.model_fields, 30)}"
    if first["type"] == "missing":
        return f"parameter {where!r} is missing"
    return f"{where}: {first['msg']} (got {first.get('input')!r})"
