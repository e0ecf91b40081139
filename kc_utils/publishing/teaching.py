"""What makes a chapter a lesson: prerequisites, takeaways, exercises with solutions that run, a quiz, a note for the teacher.

Each chapter has one source, `book/teaching/NAME.yaml`. It is written as two fragments, for the beginning and the end of the
chapter. Solutions are code: tests run every one and look for what it is said to show, so that no number of an answer is taken
on trust. What they print is not stored.
"""

from __future__ import annotations

import html
from functools import cache
from importlib import resources
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from kc_utils.errors import BadRequest
from kc_utils.places import project_dir


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Exercise(_Strict):
    """question, answer: Markdown; code: Python that runs by itself in less than a minute; shows: regular expressions, each
    found in what it prints."""

    title: str
    question: str
    answer: str
    code: str
    shows: tuple[str, ...] = Field(min_length=1)


class Choice(_Strict):
    """why: said when it is chosen."""

    text: str
    right: bool = False
    why: str


class Question(_Strict):
    question: str
    choices: tuple[Choice, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _one_is_right(self):
        if sum(choice.right for choice in self.choices) != 1:
            raise ValueError("exactly one choice of a question is right")
        return self


class Lesson(_Strict):
    """minutes: of the chapter with its exercises; prerequisites, takeaways: Markdown, a line each; teacher: Markdown."""

    minutes: int = Field(ge=5, le=180)
    prerequisites: tuple[str, ...] = Field(min_length=1)
    takeaways: tuple[str, ...] = Field(min_length=2)
    exercises: tuple[Exercise, ...] = Field(min_length=3)
    quiz: tuple[Question, ...] = Field(min_length=2)
    teacher: str


def folder() -> Path:
    return project_dir() / "book" / "teaching"


def lessons() -> dict[str, Lesson]:
    """Every lesson by the name of its source."""
    return {file.stem: read(file) for file in sorted(folder().glob("*.yaml"))}


def read(file: Path) -> Lesson:
    """A lesson from its source. Raises BadRequest for one that is not well formed."""
    try:
        return Lesson(**yaml.safe_load(file.read_text(encoding="utf-8")))
    except (yaml.YAMLError, ValidationError, TypeError) as error:
        raise BadRequest(f"{file.name}: {' '.join(str(error).split())}") from error


def fragments() -> dict[str, str]:
    """`teaching/NAME_before.md` and `teaching/NAME_after.md` of every lesson, for `book/results/`."""
    found = {}
    for name, lesson in lessons().items():
        found[f"teaching/{name}_before.md"] = before(lesson)
        found[f"teaching/{name}_after.md"] = after(lesson)
    return found


def before(lesson: Lesson) -> str:
    wanted = "\n".join(f"- {line}" for line in lesson.prerequisites)
    kept = "\n".join(f"- {line}" for line in lesson.takeaways)
    return (
        f"```{{admonition}} Before you begin\n:class: tip\nAbout {lesson.minutes} minutes with exercises. You should know:\n\n"
        f"{wanted}\n```\n\n```{{admonition}} Key takeaways\n:class: note\n{kept}\n```\n"
    )


def after(lesson: Lesson) -> str:
    parts = ["## Exercises\n"]
    parts += [_exercise(number, exercise) for number, exercise in enumerate(lesson.exercises, 1)]
    parts += ["## Quiz\n", _quiz(lesson.quiz)]
    parts.append(f"````{{admonition}} For the teacher\n:class: tip\n{lesson.teacher.strip()}\n````\n")
    return "\n".join(parts)


def _exercise(number: int, exercise: Exercise) -> str:
    return (
        f"**{number}. {exercise.title}.** {exercise.question.strip()}\n\n````{{dropdown}} Solution\n{exercise.answer.strip()}\n\n"
        f"```python\n{exercise.code.strip()}\n```\n````\n"
    )


def _quiz(questions: tuple[Question, ...]) -> str:
    """Radio buttons that say why at once; without scripts, and in print, a list with the answers folded."""
    told = []
    for number, question in enumerate(questions, 1):
        choices = "".join(
            f'<label><input type="radio" name="kc-quiz-{number}" data-right="{str(c.right).lower()}" '
            f'data-why="{html.escape(c.why, quote=True)}"> {html.escape(c.text)}</label>'
            for c in question.choices
        )
        right = next(c for c in question.choices if c.right)
        told.append(
            f'<fieldset class="kc-quiz"><legend>{number}. {html.escape(question.question)}</legend>{choices}'
            f'<p class="kc-quiz-told" aria-live="polite"></p>'
            f"<noscript><details><summary>Answer</summary>{html.escape(right.text)}: {html.escape(right.why)}</details>"
            "</noscript></fieldset>"
        )
    return f"```{{raw}} html\n{chr(10).join(told)}\n<script>{_script()}</script>\n```\n"


@cache
def _script() -> str:
    file = resources.files("kc_utils.publishing.interactive").joinpath("quiz.js")
    return file.read_text(encoding="utf-8")
