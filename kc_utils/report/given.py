"""What a notebook was given: its own variables, which must be parameters of its technique and nothing else."""

from __future__ import annotations

from kc_utils.errors import BadRequest, listed
from kc_utils.study import grids

PLAIN = (str, int, float, bool, list, tuple, type(None))


def given_in(template: str, variables: dict) -> dict:
    """The parameters among a notebook's variables (`globals()`).

    Raises BadRequest for a variable that is not a parameter, as papermill would only warn about it.
    """
    given = {
        name: value
        for name, value in variables.items()
        if not name.startswith("_") and isinstance(value, PLAIN) and name not in ("In", "Out")
    }
    known = grids.takes(template).model_fields
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise BadRequest(f"{template} has no parameter {listed(unknown)}; it takes {listed(known, 30)}")
    return given
