from kc_utils.study.engine import processes  # noqa: F401
