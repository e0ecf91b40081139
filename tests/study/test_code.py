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
        for cached in (code._tree, code._imports, code._module_hash):
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


SAME = [
    ("About.", "Else."),
    ("What g does.", "No."),
    ('    """What C is."""\n\n', ""),
    ("# why", "# not"),
    ("f(a) + 1", "f( a )  +  1"),
]
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
    [
        "import kc_utils.rooms.inner",
        "import kc_utils.rooms.inner as i",
        "from kc_utils.rooms import inner",
        "from kc_utils.rooms.inner import f",
        "def g():\n    from kc_utils.rooms.inner import f\n    return f",
    ],
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


def test_the_gate_to_the_lab_is_not_followed(package, monkeypatch):
    """Its facts and weights are hashed themselves; its instruments are named."""
    package("lab.py", "from kc_utils.world import f")
    package("world.py", "def f(): return 1")
    package("outer.py", "from kc_utils.lab import f")
    assert code.import_closure(["kc_utils.outer"]) == {"kc_utils.outer"}
    assert code.import_closure(["kc_utils.lab"]) == {"kc_utils.lab", "kc_utils.world"}


def test_rows_of_a_table_matter_to_those_who_use_them(package, monkeypatch):
    monkeypatch.setattr(code, "TABLES", {"kc_utils.outer": "ROWS"})
    package("outer.py", "x = 1\nROWS: dict = {'a': 1}\n")
    before = code.code_hash(["kc_utils.outer"])
    package("outer.py", "x = 1\nROWS: dict = {'a': 1, 'b': 2}\n")
    assert code.code_hash(["kc_utils.outer"]) == before
    package("outer.py", "x = 2\nROWS: dict = {'a': 1}\n")
    assert code.code_hash(["kc_utils.outer"]) != before


@pytest.mark.parametrize("module", code.TABLES)
def test_tables_are_where_they_are_said_to_be(module):
    name = code.TABLES[module]
    assert code.file_of(module) is not None
    assert any(code._is_table(node, name) for node in code._tree(module).body)


def test_a_module_that_is_not_there(package):
    with pytest.raises(ModuleNotFoundError, match=r"kc_utils\.absent"):
        code.code_hash(["kc_utils.absent"])


METHODS = {
    "magnitude@all=0.5": {"magnitude"},
    "random@all=0.5": {"pruning", "magnitude"},  # random pruning zeroes the smallest of random keys as magnitude does
    "rows-l1@head=0.2": {"pruning", "magnitude"},
    "2:4@all": {"pruning", "magnitude"},
    "int8@all": {"int8"},
    "magnitude@all=0.5+rtn@all=4": {"magnitude", "rtn"},
}


@pytest.mark.parametrize("recipe", METHODS)
def test_a_recipe_depends_on_its_own_methods_and_no_other(recipe):
    closure = code.import_closure((*CODE, *modules_of(Recipe.parse(recipe))))
    methods = set().union(*METHODS.values())
    assert {name for name in methods if f"kc_utils.compression.{name}" in closure} == METHODS[recipe]


def test_a_result_depends_on_all_that_makes_it_and_not_on_pages():
    closure = code.import_closure(CODE)
    needed = {"compression.apply", "compression.report", "probing.probe", "probing.causal", "models.loading"}
    assert {f"kc_utils.{name}" for name in needed} <= closure
    assert not any(name.startswith(("kc_utils.stats", "kc_utils.report", "kc_utils.cli")) for name in closure)
