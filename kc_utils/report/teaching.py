"""What makes a chapter a lesson: prerequisites, takeaways, exercises with solutions that run, a quiz, a note for the teacher.

Each chapter has one source, `book/teaching/NAME.yaml`, and gets two fragments from it, for its beginning and its end. Tests run
the code of every solution and look for the numbers that its answer states.
"""

import html
import re
from functools import cache
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from kc_utils.errors import BadRequest
from kc_utils.places import project_dir
from kc_utils.report.interactive import source
from kc_utils.report.tables import template


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Exercise(_Strict):
    """question, hint, answer: Markdown; code: Python that runs by itself in less than a minute; shows: regular expressions,
    each found in what it prints."""

    title: str
    question: str
    hint: str | None = None
    answer: str
    code: str
    shows: tuple[str, ...] = Field(min_length=1)


class Choice(_Strict):
    """text: plain, with `code` in backticks; why: said when it is chosen."""

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
    """minutes: of the chapter in class, as the teacher's note parts them; goal: what one can do at the end; prerequisites,
    takeaways: Markdown, a line each; teacher: Markdown that begins "45 minutes: 10 for ..., 35 for ..."."""

    minutes: int = Field(ge=5, le=180)
    goal: str
    prerequisites: tuple[str, ...] = Field(min_length=1)
    takeaways: tuple[str, ...] = Field(min_length=3, max_length=5)
    exercises: tuple[Exercise, ...] = Field(min_length=3)
    quiz: tuple[Question, ...] = Field(min_length=3, max_length=5)
    teacher: str

    @model_validator(mode="after")
    def _time_adds_up(self):
        parts = sum(int(n) for n in re.findall(r"\b(\d+)\s+for\b", self.teacher))
        if not self.teacher.startswith(f"{self.minutes} minutes: ") or parts != self.minutes:
            raise ValueError(
                f"the note for the teacher must begin '{self.minutes} minutes: ' and part them ('10 for ...'); its parts "
                f"are {parts} minutes"
            )
        return self


def read(file: Path) -> Lesson:
    """A lesson from its source. Raises BadRequest for one that is not well formed."""
    try:
        return Lesson(**yaml.safe_load(file.read_text(encoding="utf-8")))
    except (yaml.YAMLError, ValidationError, TypeError) as error:
        raise BadRequest(f"{file.name}: {' '.join(str(error).split())}") from error


def fragments() -> dict[str, str]:
    """`teaching/NAME_before.md` and `teaching/NAME_after.md` of every lesson, for `book/results/`."""
    found = {}
    for file in sorted((project_dir() / "book" / "teaching").glob("*.yaml")):
        lesson = read(file)
        found[f"teaching/{file.stem}_before.md"] = before(lesson)
        found[f"teaching/{file.stem}_after.md"] = after(lesson, file.stem)
    return found


def before(lesson: Lesson) -> str:
    return _template().before(lesson)


def after(lesson: Lesson, name: str) -> str:
    """The end of a chapter. A quiz says why at once; without scripts, and in print, its right answers are in parts to unfold.

    name: of the lesson, so that buttons of several chapters on one page stay apart.
    """
    return _template().after(lesson, name, source("quiz.js"))


@cache
def _template():
    """The two macros of `teaching.md`; `inline` is a filter for plain text with `code` in backticks."""
    inline = lambda text: re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text.strip()))  # noqa: E731
    return template("teaching.md", inline=inline).module
