"""A small study of the tiny decoder, computed once and recorded: what tests of the record and of verifying start from."""

import shutil

import pytest

from kc_utils.models import registry
from kc_utils.study import recording
from kc_utils.study.cells import Cell
from kc_utils.study.store import evaluate
from tests.trained import PROBE

RECIPES = ("none", "magnitude@all=0.5", "rtn@all=3")


class Small:
    """Enough of a study to record it."""

    name, title = "small", "A small study"

    def __init__(self, cells):
        self.cells = cells


@pytest.fixture(scope="module")
def registered(trained_as):
    """The tiny decoder under a name of its own: what lies in a folder is not recorded."""
    entry = registry.ModelEntry(id="tiny-decoder", family="decoder", source=f"path:{trained_as('decoder').folder}")
    registry.registry()["tiny-decoder"] = entry
    yield "tiny-decoder"
    del registry.registry()["tiny-decoder"]


@pytest.fixture(scope="module")
def computed(registered, tmp_path_factory):
    """A store that holds every recipe, and the results."""
    folder = tmp_path_factory.mktemp("computed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KC_RESULTS", str(folder))
        cells = [Cell.of(registered, recipe, PROBE) for recipe in RECIPES]
        return folder, evaluate(cells)


@pytest.fixture
def study(computed, results, tmp_path, monkeypatch):
    """Recipes of which nothing is finished, and a record of this test's own."""
    monkeypatch.setenv("KC_REFERENCE", str(tmp_path / "reference"))
    return Small(list(computed[1]))


@pytest.fixture
def evaluated(study, computed, results):
    shutil.copytree(computed[0], results)
    return computed[1]


@pytest.fixture
def recorded(study, evaluated, monkeypatch, tmp_path):
    """The study on a machine that computed nothing and has its record."""
    recording.record_study(study)
    monkeypatch.setenv("KC_RESULTS", str(tmp_path / "elsewhere"))
    return study


def file(tmp_path):
    return tmp_path / "reference" / "small" / "tiny-decoder" / "worldfacts.parquet"
