"""The hash of code: what makes a result is in it, comments, layout and pages are not."""

import pytest

from kc_utils.compression.recipe import Recipe, modules_of
from kc_utils.study import code
from kc_utils.study.cells import CODE


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package named kc_utils in a folder of its own; call it to (re)write a module."""
    root = tmp_path / "kc_utils"
    root.mkdir()
    monkeypatch.setattr(code, "ROOT", root)

    def forget():
        for cached in (code._tree, code._imports, code._module_hash, code._hash_of):
            cached.cache_clear()

    def write(name, text):
        file = root / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        forget()

    forget()
    write("__init__.py", "")
    yield write
    monkeypatch.undo()
    forget()


ORIGINAL = '''
"""About."""
from kc_utils.inner import f


class C:
    """What C is."""

    x = 1


def g(a):
    """What g does."""
    # why
    return f(a) + 1
'''


SAME = [("About.", "Else."), ('    """What C is."""\n\n', ""), ("# why", "# not"), ("f(a) + 1", "f( a )  +  1")]
OTHER = [("+ 1", "+ 2"), ("x = 1", "x = 1.0"), ("def g(a)", "def g(a=0)"), ("return f(a) + 1", 'return "f"')]


@pytest.mark.parametrize(("before", "after"), SAME + OTHER)
def test_code_matters_and_comments_docstrings_and_layout_do_not(package, before, after):
    package("inner.py", "def f(a): return a")
    package("outer.py", ORIGINAL)
    first, rewritten = code.code_hash(["kc_utils.outer"]), ORIGINAL.replace(before, after)
    assert rewritten != ORIGINAL
    package("outer.py", rewritten)
    assert (code.code_hash(["kc_utils.outer"]) == first) == ((before, after) in SAME)


@pytest.mark.parametrize(
    "line",
    ["import kc_utils.rooms.inner", "from kc_utils.rooms import inner", "def g():\n    from kc_utils.rooms.inner import f"],
)
def test_what_is_imported_matters_however_it_is_imported(package, line):
    package("rooms/__init__.py", "")
    package("rooms/deep.py", "y = 1")
    package("rooms/inner.py", "from kc_utils.rooms.deep import y\ndef f(): return y")
    package("rooms/unused.py", "z = 1")
    package("outer.py", f"import json, torch\n{line}\n")
    assert {"kc_utils.outer", "kc_utils.rooms.inner", "kc_utils.rooms.deep"} <= code.import_closure(["kc_utils.outer"])
    before = code.code_hash(["kc_utils.outer"])
    package("rooms/unused.py", "z = 2")
    assert code.code_hash(["kc_utils.outer"]) == before
    package("rooms/deep.py", "y = 2")
    assert code.code_hash(["kc_utils.outer"]) != before


def test_a_result_depends_on_all_that_makes_it_and_not_on_pages():
    closure = code.import_closure(CODE)
    needed = {"compression.apply", "compression.report", "probing.probe", "probing.causal", "models.loading"}
    assert {f"kc_utils.{name}" for name in needed} <= closure
    assert not any(name.startswith(("kc_utils.stats", "kc_utils.report", "kc_utils.cli", "kc_lab")) for name in closure)


@pytest.mark.parametrize(
    ("recipe", "methods"), [("random@all=0.5", {"pruning", "magnitude"}), ("magnitude@all=0.5+int8@all", {"int8", "magnitude"})]
)
def test_a_recipe_depends_on_its_own_methods_and_no_other(recipe, methods):
    closure = code.import_closure((*CODE, *modules_of(Recipe.parse(recipe))))
    assert {m for m in ("magnitude", "pruning", "int8", "rtn") if f"kc_utils.compression.{m}" in closure} == methods
