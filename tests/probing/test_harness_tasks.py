"""The items of harness tasks: from which files, their prompts, their names."""

import json
from types import SimpleNamespace

import pytest

from kc_utils.errors import BadRequest, MissingData
from kc_utils.probing.harness import tasks as tasks_module
from kc_utils.probing.harness.evaluate import fingerprint
from kc_utils.probing.harness.tasks import choose, sample
from tests.probing.invented_tasks import TASKS, tasks, write_data


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("KC_DATA", str(write_data(tmp_path / "data")))
    monkeypatch.setenv("KC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tasks_module, "_all_tasks", FewTasks)
    return tmp_path / "data" / "harness"


class FewTasks:
    """lm-eval's index, of which the whole takes 20 seconds to read; its data are not at hand."""

    all_tasks = ("boolq", "winogrande", "wikitext")

    def load(self, names):
        raise ConnectionError("no route to hub")


def test_prompts_and_right_answers_are_lm_evals_own(data):
    boolq, piqa, winogrande = choose(TASKS, None, 0)
    record = json.loads((data / "boolq/val.jsonl").read_text().splitlines()[3])
    requests = boolq.requests()[6:8]
    assert [r.args for r in requests] == [
        (f"{record['passage']}\nQuestion: {record['question']}?\nAnswer:", answer) for answer in (" no", " yes")
    ]
    assert boolq.task.doc_to_target(requests[0].doc) == int(record["answer"]) == 1
    record = json.loads((data / "piqa/valid.jsonl").read_text().splitlines()[2])
    assert [r.args for r in piqa.requests()[4:6]] == [
        (f"Question: {record['goal']}\nAnswer:", f" {record[solution]}") for solution in ("sol1", "sol2")
    ]
    record = json.loads((data / "winogrande/dev.jsonl").read_text().splitlines()[5])
    before, after = record["sentence"].split("_")
    assert [r.args for r in winogrande.requests()[10:12]] == [
        (before + record[option], f" {after.strip()}") for option in ("option1", "option2")
    ]
    assert winogrande.task.doc_to_text(winogrande.task.eval_docs[5]) == int(record["answer"]) - 1


def test_the_sample_is_frozen():
    few, more = sample("boolq", 1000, 20, 0), sample("boolq", 1000, 50, 0)
    assert len(few) == 20 and few == sorted(few) and set(few) < set(more)
    assert few != sample("boolq", 1000, 20, 1) and few != sample("piqa", 1000, 20, 0)
    assert sample("boolq", 7, None, 0) == sample("boolq", 7, 9, 0) == list(range(7))


def test_an_item_is_named_by_its_index_in_the_data():
    (chosen,) = choose(["boolq"], 4, 0)
    assert {r.doc_id for r in chosen.requests()} == {0, 1, 2, 3}, "lm-eval counts within the sample"
    assert [chosen.item_id(n, {}) for n in chosen.items] == [f"boolq/{n}" for n in sample("boolq", 12, 4, 0)]


def test_the_hash_names_all_a_result_depends_on(data):
    of = lambda *names, limit=6, seed=0: fingerprint(tasks(names, limit, seed))  # noqa: E731
    hashes = [of("boolq", "piqa"), of("boolq"), of("boolq", "piqa", limit=5), of("boolq", "piqa", seed=1)]
    assert hashes[0] == of("boolq", "piqa") and len(hashes[0]) == 64
    labels = data / "piqa/valid-labels.lst"
    labels.write_text(labels.read_text().replace("0", "1"))
    assert len({*hashes, of("boolq", "piqa")}) == 5


BOOLQ = '{"question": "a", "passage": "b", "answer": %s}\n'
WINOGRANDE = '{"sentence": "%s", "option1": "b", "option2": "c", "answer": "%s"}\n'


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("boolq/val.jsonl", BOOLQ % "true" + '{"questi', "line 2: no JSON"),
        ("boolq/val.jsonl", BOOLQ.replace("passage", "text") % "true", "line 1: it lacks passage"),
        ("boolq/val.jsonl", BOOLQ % "null", "line 1: its label or answer is None"),
        ("boolq/val.jsonl", BOOLQ % '"true"', "label or answer is 'true'"),
        ("boolq/val.jsonl", "\n", "is empty"),
        ("boolq/val.jsonl", "[1]\n", "no JSON object"),
        ("boolq/val.jsonl", BOOLQ % '"\udcff"', "cannot be read"),
        ("piqa/valid-labels.lst", "0\n1\n", "holds 12 items and .* 2 labels"),
        ("piqa/valid-labels.lst", "0 1 " * 5 + "0 2", "its label is '2'"),
        ("winogrande/dev.jsonl", WINOGRANDE % ("a _", 3), "answer is not"),
        ("winogrande/dev.jsonl", WINOGRANDE % ("a", 1), "no gap"),
    ],
)
def test_damaged_files_are_refused(data, name, text, message):
    (data / name).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(MissingData, match=message):
        choose([name.split("/")[0]], None, 0)


def test_the_hub_is_tried_where_no_data_folder_is_named(data, monkeypatch):
    (data / "winogrande/dev.jsonl").unlink()
    with pytest.raises(MissingData, match=r"no harness/winogrande/dev.jsonl under"):
        choose(["winogrande"], None, 0)
    monkeypatch.delenv("KC_DATA")
    with pytest.raises(MissingData, match="data of task winogrande .*no route to hub.* KC_DATA"):
        choose(["winogrande"], None, 0)


def test_impossible_requests():
    for names, limit, says in (
        ([], None, "must be a list of names"),
        ("boolq", None, "must be a list of names"),
        (["winogrand"], None, "no task 'winogrand'; near it are winogrande"),
        (["boolq"], 0, "limit must be at least 1"),
    ):
        with pytest.raises(BadRequest, match=says):
            choose(names, limit, 0)


def test_tasks_of_another_kind_are_refused():
    for kind, scoring, says in (
        ("generate_until", None, "of kind generate_until, which is not evaluated"),
        ("loglikelihood_rolling", None, "use perplexity instead"),
        ("multiple_choice", lambda doc, results: {}, "in a way of its own"),
    ):
        task = SimpleNamespace(task_name="other", OUTPUT_TYPE=kind, config=SimpleNamespace(process_results=scoring))
        with pytest.raises(BadRequest, match=says):
            tasks_module._check(task)
