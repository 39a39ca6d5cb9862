"""Exercises: a question, the author's answer, and a computation by other means that the build holds it to.

question = '...'     Markdown
answer = 42.0        a number, or the place of the right one of `choices`, from 1
choices = [...]      Markdown, for questions without a number
check = '...'        code over the cells' names whose value is the answer
tolerance = 1e-3     relative, of the reader's number and of the check's; 1e-3 without
solution = '...'     Markdown
"""

import math
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

FIELDS = ("question", "answer", "check", "solution")


@dataclass(frozen=True)
class Exercise:
    """One exercise, its answer checked."""

    question: str
    answer: float
    tolerance: float
    solution: str
    choices: tuple[str, ...] = ()


def read(text: str, value: Callable[[str], Any]) -> Exercise:
    """The exercise; value(code) evaluates over the chapter's names.

    Raises:
      ValueError: a field is missing, or the answer is not what the check computes.
    """
    try:
        said = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(str(error)) from None
    for field in FIELDS:
        if field not in said:
            raise ValueError(f"expected {field}")
    choices, tolerance = tuple(said.get("choices", ())), float(said.get("tolerance", 1e-3))
    answer, computed = float(said["answer"]), float(value(said["check"]))
    allowed = 0.0 if choices else tolerance * (abs(answer) or 1.0)
    if not math.isfinite(computed) or abs(answer - computed) > allowed:
        raise ValueError(f"the answer is {answer:g}, the check computes {computed:.10g}")
    return Exercise(said["question"], answer, tolerance, said["solution"], choices)
