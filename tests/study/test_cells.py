"""What an evaluation is named by: everything that its rows depend on changes its key, and nothing else does."""

import shutil
from dataclasses import replace

from kc_utils.compression import methods as methods_module
from kc_utils.compression.methods import METHODS, method
from kc_utils.models.registry import resolve
from kc_utils.models.roles import ARCHITECTURES
from kc_utils.study import cells as cells_module
from kc_utils.study.cells import Cell
from tests.trained import PROBE


def test_what_says_the_same_is_one_cell_in_any_folder(trained, tmp_path):
    same = ["magnitude@all=0.5", "magnitude@all=.50", " magnitude@all = 0.5", "magnitude@all=0.5,per=model"]
    assert len({Cell.of(trained.id, recipe, PROBE) for recipe in same}) == 1
    copy = shutil.copytree(trained.folder, tmp_path / "elsewhere")
    assert Cell.of(f"path:{copy}", "none", PROBE).key == Cell.of(trained.id, "none", PROBE).key


def test_every_field_of_a_probe_changes_the_key(trained):
    changes = {"limit": 29, "seed": 1, "protocols": ("rank",), "alternatives": 3, "candidates": "sets"}
    several = [("relations", ("capital", "continent")), ("templates", 2), ("templates", "all"), *changes.items()]
    probes = [PROBE, *(PROBE.model_copy(update={name: value}) for name, value in several)]
    assert len({Cell.of(trained.id, "none", probe).key for probe in probes}) == len(probes)


def test_recipe_model_facts_code_and_versions_change_the_key(trained, tmp_path, monkeypatch):
    key = Cell.of(trained.id, "none", PROBE).key
    for what in ("_facts_hash", "_code_of", "versions"):
        with monkeypatch.context() as patch:
            patch.setattr(cells_module, what, lambda *_: {"other": "value"})
            assert Cell.of(trained.id, "none", PROBE).key != key
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
