import sys
from pathlib import Path

from hypothesis import settings

sys.path.insert(
    0, str(Path(__file__).resolve().parents[2])
)  # so that `tests.models.architectures` is found by `pytest`
settings.register_profile("shared machine", deadline=None)  # one slow example says nothing here
settings.load_profile("shared machine")
