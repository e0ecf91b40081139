from kc_utils.study.record import CellResult  # noqa: F401
