import shutil
from dataclasses import replace

import pytest

from kc_utils.compression import methods as methods_module
from kc_utils.compression.methods import METHODS, method
from kc_utils.errors import BadRequest, MissingData
from kc_utils.models.registry import resolve
from kc_utils.models.roles import ARCHITECTURES
from kc_utils.study import cells as cells_module
from kc_utils.study.cells import Cell
from tests.trained import PROBE


def test_recipes_that_say_the_same_are_one_cell(trained):
    same = ["magnitude@all=0.5", "magnitude@all=.50", " magnitude@all = 0.5", "magnitude@all=0.5,per=model"]
    assert len({Cell.of(trained.id, recipe, PROBE) for recipe in same}) == 1
    assert len({Cell.of(trained.id, recipe, PROBE).key for recipe in same}) == 1


def test_equal_cells_have_equal_keys_in_another_folder(trained, tmp_path):
    copy = shutil.copytree(trained.folder, tmp_path / "elsewhere")
    assert Cell.of(f"path:{copy}", "none", PROBE).key == Cell.of(trained.id, "none", PROBE).key


@pytest.mark.parametrize(
    "change",
    [
        {"relations": ("capital", "continent")},
        {"limit": 29},
        {"seed": 1},
        {"protocols": ("rank",)},
        {"templates": 2},
        {"templates": "all"},
        {"alternatives": 3},
    ],
    ids=str,
)
def test_every_field_of_a_probe_changes_the_key(trained, change):
    assert Cell.of(trained.id, "none", PROBE.model_copy(update=change)).key != Cell.of(trained.id, "none", PROBE).key


def test_recipe_and_model_change_the_key(trained, tmp_path):
    key = Cell.of(trained.id, "none", PROBE).key
    assert Cell.of(trained.id, "magnitude@all=0.5", PROBE).key != key
    assert Cell.of("smollm2-135m", "none", PROBE).key != key
    copy = shutil.copytree(trained.folder, tmp_path / "copy")
    for name in ("model.safetensors", "tokenizer.json"):
        content = bytearray((copy / name).read_bytes())
        content[-2] ^= 1
        (copy / name).write_bytes(content)
        changed = Cell.of(f"path:{copy}", "none", PROBE).key
        assert changed != key
        key = changed


@pytest.mark.parametrize("what", ["_facts_hash", "_code_of", "versions"])
def test_facts_code_and_versions_change_the_key(trained, monkeypatch, what):
    cell = Cell.of(trained.id, "none", PROBE)
    before = cell.key
    monkeypatch.setattr(cells_module, what, lambda *_: {"other": "value"})
    assert cell.key != before


def test_rows_of_tables_change_the_keys_of_those_who_use_them(trained, monkeypatch):
    recipes = ("rtn@all=4", "magnitude@all=0.5")
    before = {recipe: Cell.of(trained.id, recipe, PROBE).key for recipe in recipes}
    others = {**METHODS, "rtn": replace(METHODS["rtn"], last=True), "new": replace(METHODS["rtn"], name="new")}
    monkeypatch.setattr(methods_module, "METHODS", others)
    monkeypatch.setattr(cells_module, "ARCHITECTURES", {**ARCHITECTURES, "new": ARCHITECTURES["llama"]})
    for cached in (method, cells_module._code_of):
        cached.cache_clear()
    after = {recipe: Cell.of(trained.id, recipe, PROBE).key for recipe in recipes}
    kind = resolve(trained.id).architecture
    monkeypatch.setattr(cells_module, "ARCHITECTURES", {kind: "other roles"})
    cells_module._code_of.cache_clear()
    another = Cell.of(trained.id, recipes[1], PROBE).key
    for cached in (method, cells_module._code_of):
        cached.cache_clear()
    assert after[recipes[0]] != before[recipes[0]]
    assert after[recipes[1]] == before[recipes[1]] != another


def test_the_key_can_be_a_file_name(trained):
    key = Cell.of(trained.id, "none", PROBE).key
    assert len(key) == 24
    assert int(key, 16) >= 0


def test_what_is_unknown_is_refused_before_anything_runs(trained):
    for recipe in ("magnitude@all=1.0", "magnitude@everything=0.5", "prune@all=0.5", "rtn@all=5", ""):
        with pytest.raises(BadRequest):
            Cell.of(trained.id, recipe, PROBE)
    with pytest.raises(BadRequest, match="unknown model"):
        Cell.of("gpt-5", "none", PROBE)
    with pytest.raises(MissingData):
        Cell.of("path:/nowhere", "none", PROBE)
