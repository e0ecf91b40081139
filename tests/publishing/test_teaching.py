"""Lessons: sources that are well formed, solutions that run and show what they are said to, chapters that have both parts."""

import contextlib
import io
import re

import pytest
import yaml

from kc_utils.errors import BadRequest
from kc_utils.publishing import teaching
from tests.conftest import ROOT

LESSONS = {file.stem: teaching.read(file) for file in sorted((ROOT / "book" / "teaching").glob("*.yaml"))}
EXERCISES = [
    pytest.param(exercise, id=f"{name}-{number}")
    for name, lesson in LESSONS.items()
    for number, exercise in enumerate(lesson.exercises, 1)
]


@pytest.mark.parametrize("exercise", EXERCISES)
def test_a_solution_runs_and_shows_what_its_answer_says(exercise, results, in_project):
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(exercise.code, "solution", "exec"), {"__name__": "solution"})
    for pattern in exercise.shows:
        assert re.search(pattern, said.getvalue(), re.M), f"{pattern!r} is not in:\n{said.getvalue()}"


@pytest.mark.parametrize("name", LESSONS)
def test_a_chapter_has_both_parts_of_its_lesson(name):
    chapter = ROOT / "book" / (name.replace("finding_", "findings/") if "finding_" in name else f"techniques/{name}")
    text = chapter.with_suffix(".md").read_text(encoding="utf-8")
    for part in ("before", "after"):
        assert f"{{include}} ../results/teaching/{name}_{part}.md" in text


def test_every_finding_and_every_technique_has_a_lesson():
    findings = {f"finding_{file.stem}" for file in (ROOT / "book" / "findings").glob("*.md")}
    techniques = {file.stem for file in (ROOT / "book" / "techniques").glob("*.md")}
    assert findings | techniques == set(LESSONS) and (len(findings), len(techniques)) == (7, 8)


@pytest.mark.parametrize("name", LESSONS)
def test_a_note_for_the_teacher_adds_up(name):
    lesson = LESSONS[name]
    assert re.match(rf"{lesson.minutes} minutes: ", lesson.teacher)
    parts = [int(n) for n in re.findall(r"\b(\d+)\s+for\b", lesson.teacher)]
    assert sum(parts) == lesson.minutes


def test_fragments_hold_questions_solutions_and_a_quiz(in_project):
    found = teaching.fragments()
    assert set(found) == {f"teaching/{name}_{part}.md" for name in LESSONS for part in ("before", "after")}
    text = found["teaching/finding_prune_after.md"]
    assert text.count("{dropdown} Solution") == len(LESSONS["finding_prune"].exercises)
    assert text.count("<fieldset") == len(LESSONS["finding_prune"].quiz) and "<script>" in text and "<noscript>" in text
    assert "For the teacher" in text
    assert "Key takeaways" in found["teaching/finding_prune_before.md"]


def given(**changed) -> dict:
    source = yaml.safe_load((ROOT / "book" / "teaching" / "finding_prune.yaml").read_text(encoding="utf-8"))
    return source | changed


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"minuets": 3}, "minuets"),
        ({"exercises": []}, "exercises"),
        (
            {"quiz": [{"question": "?", "choices": [{"text": "a", "why": "b"}, {"text": "c", "why": "d"}]}] * 2},
            "exactly one",
        ),
        ({"teacher": None}, "teacher"),
    ],
)
def test_a_source_that_is_not_well_formed_is_refused(tmp_path, changed, says):
    file = tmp_path / "odd.yaml"
    file.write_text(yaml.safe_dump(given(**changed)))
    with pytest.raises(BadRequest, match=rf"odd\.yaml: .*{says}"):
        teaching.read(file)
    file.write_text("- [")
    with pytest.raises(BadRequest, match=r"odd\.yaml"):
        teaching.read(file)
