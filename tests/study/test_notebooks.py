"""The notebook templates: valid, stripped, and with the parameters that the checks know."""

import nbformat
import pytest
from papermill.inspection import inspect_notebook
from pydantic import ValidationError

from kc_utils.errors import BadRequest, BadResult, KCError
from kc_lab import cards as lab_models
from kc_utils.models.registry import resolve
from kc_utils.study import lab_grids, notebooks
from kc_utils.study.grids import ANY, FAMILY_PREFIXES, LAB, TECHNIQUES, parameters, split_template, takes
from tests.conftest import ROOT

FILES = sorted((ROOT / "notebooks").glob("*.ipynb"))

pytestmark = pytest.mark.usefixtures("in_project")


def name(file):
    return file.stem


def test_there_is_one_for_every_family_and_technique():
    of_one = {f"{family}_{t}" for family in FAMILY_PREFIXES for t in TECHNIQUES}
    assert of_one | {f"{LAB}_{t}" for t in lab_grids.TECHNIQUES} == {f.stem for f in FILES}


@pytest.mark.parametrize("file", FILES, ids=name)
def test_valid_stripped_and_tagged(file):
    book = nbformat.read(file, as_version=4)
    nbformat.validate(book)
    code = [c for c in book.cells if c.cell_type == "code"]
    assert all(c.outputs == [] and c.execution_count is None for c in code)
    assert sum("parameters" in c.metadata.get("tags", []) for c in code) == 1
    assert len({c.id for c in book.cells}) == len(book.cells)
    assert book.cells[0].source.startswith("# ")
    text = "\n".join(c.source for c in book.cells if c.cell_type == "markdown")
    for part in ("**Question.**", "**Prerequisites.**", "## Method", "## What we see", "## Limits", "## Exercises"):
        assert part in text, part


@pytest.mark.parametrize("file", FILES, ids=name)
def test_parameters_are_typed_commented_and_those_of_the_check(file):
    """What `papermill --help-notebook` reads, against the pydantic model of the technique."""
    found = inspect_notebook(str(file))
    fields = takes(file.stem).model_fields
    assert set(found) == set(fields)
    for parameter in found.values():
        assert parameter["help"], parameter["name"]
        assert parameter["inferred_type_name"] in ("str", "int", "float", "bool", "list"), parameter["name"]


@pytest.mark.parametrize("file", FILES, ids=name)
def test_defaults_are_possible(file):
    declared = notebooks.declared_parameters(file.stem)
    if split_template(file.stem)[0] == ANY and not lab_models.names():
        pytest.skip("no checkpoints of the lab here; `kc lab train --all` makes them")
    checked = parameters(file.stem, **declared)
    assert all(resolve(model).family == split_template(file.stem)[0] for model in checked.asked_models) or (
        split_template(file.stem)[0] == ANY
    )
    assert len(checked.cells()) > 1


@pytest.mark.parametrize("file", FILES, ids=name)
def test_every_default_is_checked(file):
    """A value of the wrong kind is refused for each parameter, so that none is passed on unread."""
    technique = takes(file.stem)
    declared = notebooks.declared_parameters(file.stem)
    for parameter in declared:
        with pytest.raises(ValidationError):
            technique(**declared | {parameter: {"not": "a value"}})


def test_unknown_parameters_and_notebooks_are_refused():
    with pytest.raises(BadRequest, match="decoder_pruning has no parameter sparsitys; it takes model, scopes"):
        notebooks.merged_parameters("decoder_pruning", {"sparsitys": [0.1]})
    with pytest.raises(BadRequest, match="no notebook 'decoder_magic' in notebooks/: there are decoder_final_layer"):
        notebooks.template_file("decoder_magic")


@pytest.fixture
def template(tmp_path, monkeypatch):
    """A project with a single notebook of the given code; returns the notebook's name."""
    (tmp_path / "studies").mkdir()
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "_config.yml").write_text("")
    monkeypatch.chdir(tmp_path)
    notebooks.declared_parameters.cache_clear()

    def write(*sources, tag="parameters"):
        book = nbformat.v4.new_notebook(metadata=nbformat.read(FILES[0], as_version=4).metadata)
        book.cells = [nbformat.v4.new_code_cell(source) for source in sources]
        book.cells[0].metadata["tags"] = [tag]
        nbformat.write(book, tmp_path / "notebooks" / "own.ipynb")
        return "own"

    yield write
    notebooks.declared_parameters.cache_clear()


def test_a_notebook_without_parameters_or_with_a_computed_default(template):
    with pytest.raises(BadRequest, match="no cell tagged `parameters`"):
        notebooks.declared_parameters(template("x = 1", tag="other"))
    with pytest.raises(BadRequest, match="not a plain value"):
        notebooks.declared_parameters(template("x: int = len('a')  # computed"))


def test_parameters_reach_the_notebook(template, tmp_path):
    output = tmp_path / "out" / "done.ipynb"
    notebooks.execute(template("x: int = 1  # a number", "print('x is', x)"), {"x": 7}, output)
    book = nbformat.read(output, as_version=4)
    assert "x is 7" in book.cells[-1].outputs[0].text
    assert [p.name for p in output.parent.iterdir()] == ["done.ipynb"]


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (
            "from kc_utils.errors import BadResult; raise BadResult('did less than it said')",
            KCError,
            "^did less than it said$",
        ),
        ("raise ValueError('a defect')", BadResult, "ValueError: a defect .*failed.ipynb"),
    ],
)
def test_a_notebook_that_fails_leaves_no_output_and_says_why(template, tmp_path, source, error, message):
    output = tmp_path / "out" / "done.ipynb"
    with pytest.raises(error, match=message):
        notebooks.execute(template("x: int = 1  # a number", source), {}, output)
    assert not output.exists()
    assert nbformat.read(tmp_path / "out" / "done.failed.ipynb", as_version=4).cells
    notebooks.execute(template("x: int = 1  # a number", "x"), {}, output)
    assert [p.name for p in output.parent.iterdir()] == ["done.ipynb"]
