"""Lessons: sources that are well formed, solutions that run and show what they are said to, chapters that have both parts."""

import contextlib
import io
import re
import time

import pytest
import yaml

from kc_utils.errors import BadRequest
from kc_utils.report import teaching
from kc_utils.report.printing import chromium
from tests.book.test_prose import bibliography_keys, cited, glossary_terms, linked_terms
from tests.browsing import browsing
from tests.conftest import ROOT

BOOK = ROOT / "book"
MINUTE = 60  # seconds that a solution may take on two cores
LESSONS = {file.stem: teaching.read(file) for file in sorted((BOOK / "teaching").glob("*.yaml"))}
EXERCISES = [
    pytest.param(exercise, id=f"{name}-{number}")
    for name, lesson in LESSONS.items()
    for number, exercise in enumerate(lesson.exercises, 1)
]


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("exercise", EXERCISES)
def test_a_solution_runs_and_shows_what_its_answer_says(exercise, results, in_project):
    said, begin = io.StringIO(), time.process_time()
    with contextlib.redirect_stdout(said):
        exec(compile(exercise.code, "solution", "exec"), {"__name__": "solution"})
    assert time.process_time() - begin < MINUTE, "of this process: what else runs here does not count"
    for pattern in exercise.shows:
        assert re.search(pattern, said.getvalue(), re.M), f"{pattern!r} is not in:\n{said.getvalue()}"


@pytest.mark.parametrize("exercise", EXERCISES)
def test_a_solution_does_not_hold_what_it_shows(exercise):
    """A pattern that finds the words of a print, and not what was computed, would check nothing."""
    assert not [pattern for pattern in exercise.shows if re.search(pattern, exercise.code, re.M)]
    assert not re.search(r"smollm|path:", exercise.code)  # small models alone fit into a minute


def chapter_of(name: str):
    chapter = name.replace("finding_", "findings/") if name.startswith("finding_") else f"techniques/{name}"
    return BOOK / f"{chapter}.md"


def test_every_finding_and_every_technique_has_a_lesson():
    findings = {f"finding_{file.stem}" for file in (BOOK / "findings").glob("*.md")}
    techniques = {file.stem for file in (BOOK / "techniques").glob("*.md")}
    assert findings | techniques == set(LESSONS) and (len(findings), len(techniques)) == (7, 8)


@pytest.mark.parametrize("name", LESSONS)
def test_links_citations_and_terms_of_a_lesson_lead_somewhere(name):
    text = teaching.before(LESSONS[name]) + teaching.after(LESSONS[name], name)
    targets = [target for target in re.findall(r"\]\(([^)#]+)\)", text) if "`" not in target]
    assert targets and all((chapter_of(name).parent / target).is_file() for target in targets), targets
    assert cited(text) <= set(bibliography_keys())
    listed = chapter_of(name).read_text(encoding="utf-8")
    for part in ("before", "after"):
        assert listed.count(f"```{{include}} ../results/teaching/{name}_{part}.md\n```") == 1
    assert all(key in listed for key in cited(text)), "a chapter lists the works that its own text cites"
    assert linked_terms(text) <= {term.casefold() for term in glossary_terms()}


def test_fragments_hold_questions_hints_solutions_and_a_quiz(in_project):
    found = teaching.fragments()
    assert set(found) == {f"teaching/{name}_{part}.md" for name in LESSONS for part in ("before", "after")}
    text, lesson = found["teaching/pruning_after.md"], LESSONS["pruning"]
    assert text.count("{dropdown} Solution") == text.count("```python") == len(lesson.exercises)
    assert text.count("<fieldset") == text.count("<details>") == len(lesson.quiz)
    assert lesson.exercises[0].code.strip() in text
    before = found["teaching/pruning_before.md"]
    assert "About 45 minutes" in before and "Key takeaways" in before and lesson.goal.strip() in before
    names = [name for text in found.values() for name in set(re.findall(r'name="(kc-quiz-[^"]+)"', text))]
    assert len(names) == len(set(names)) == sum(len(lesson.quiz) for lesson in LESSONS.values())


def given(**changed) -> dict:
    source = yaml.safe_load((BOOK / "teaching" / "finding_prune.yaml").read_text(encoding="utf-8"))
    return source | changed


def questions(*right: bool) -> list[dict]:
    return [{"question": "?", "choices": [{"text": "a", "right": yes, "why": "b"} for yes in right]}] * 3


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"minuets": 3}, "minuets"),
        ({"exercises": given()["exercises"][:2]}, "exercises"),
        ({"exercises": [e | {"shows": []} for e in given()["exercises"]]}, "shows"),
        ({"quiz": questions(True, True)}, "exactly one"),
        ({"teacher": "40 minutes: 10 for the figure, 20 for exercises."}, "are 30 minutes"),
        ({"minutes": 45}, "45 minutes"),
    ],
)
def test_a_source_that_is_not_well_formed_is_refused(tmp_path, changed, says):
    file = tmp_path / "odd.yaml"
    file.write_text(yaml.safe_dump(given(**changed)))
    with pytest.raises(BadRequest, match=rf"odd\.yaml: .*{says}"):
        teaching.read(file)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A page with a quiz, in the book's styles, and the same without its script."""
    if chromium() is None:
        pytest.skip("no Chromium here: install it, or name one in KC_CHROMIUM")
    folder = tmp_path_factory.mktemp("site")
    styles = "".join((BOOK / "_static" / name).read_text(encoding="utf-8") for name in ("book.css", "print.css"))
    raw = re.search(r"```\{raw\} html\n(.*?)\n```", teaching.after(LESSONS["pruning"], "pruning"), re.S)[1]
    for name, quiz in (("live", raw), ("still", re.sub(r"<script>.*?</script>", "", raw, flags=re.S))):
        page = f'<!doctype html><title>quiz</title><style>{styles}</style><main class="bd-article">{quiz}</main>'
        (folder / f"{name}.html").write_text(page, encoding="utf-8")
    with browsing(folder) as browser:
        yield browser


def test_a_quiz_answers_at_once_by_mouse_and_by_keys(site):
    with site.visit("live.html", from_file=True) as visit:
        question = visit.page.locator(".kc-quiz").first
        said = question.locator("[aria-live=polite]")
        assert said.inner_text() == "" and not question.locator("details").is_visible()
        question.get_by_label("The larger half of each matrix").check()
        assert said.inner_text() == "Not quite. That is per=layer."
        visit.page.keyboard.press("ArrowUp")
        assert said.inner_text() == "Right. Each row is ranked by itself."
        second = visit.page.locator(".kc-quiz").nth(1)
        second.locator("input").first.check()
        assert said.inner_text().startswith("Right.")  # each question has buttons of its own
        assert question.locator("input:checked").count() == second.locator("input:checked").count() == 1
        assert not visit.errors


def test_a_quiz_has_its_answers_on_paper_and_without_scripts(site):
    with site.visit("live.html") as visit:
        visit.page.emulate_media(media="print")
        answers = visit.page.locator(".kc-quiz details p")
        assert answers.count() == len(LESSONS["pruning"].quiz)
        assert all(answers.nth(i).is_visible() for i in range(answers.count()))
        assert not visit.page.locator(".kc-quiz-said").first.is_visible()
    with site.visit("still.html") as visit:
        answer = visit.page.locator(".kc-quiz details").first
        assert not answer.locator("p").is_visible()
        answer.locator("summary").click()
        assert answer.locator("p").inner_text().endswith("Each row is ranked by itself.")
