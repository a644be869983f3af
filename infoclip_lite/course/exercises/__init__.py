"""The exercises of the notebooks: `check("4.1", answer)` says whether an answer is right.

If it is not, it says what it got, what it expected, and what it suspects.

The text, hint and solution of an exercise stand in its notebook, their only source. Here is what an
answer has to do: one module a chapter, one function an exercise, found by its number.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TypeAlias

from .compare import Unanswered, Wrong

# Looks at one answer. Whether that is a function, a number or a list is the exercise's affair.
Judge: TypeAlias = Callable[..., None]

__all__ = ["Exercise", "Unanswered", "Verdict", "Wrong", "check", "exercise"]


@dataclass(frozen=True)
class Exercise:
    """What a correct answer to one exercise does.

    Attributes:
        number: chapter and place, such as "4.1".
        judge: looks at an answer; raises Wrong (or Unanswered) if it is not right.
        lesson: one sentence to take away, said when the answer is right.
    """

    number: str
    judge: Judge
    lesson: str


@dataclass(frozen=True)
class Verdict:
    """What `check` found.

    Attributes:
        passed: whether the answer is right.
        text: what is printed.
    """

    passed: bool
    text: str


_EXERCISES: dict[str, Exercise] = {}


def exercise(number: str, lesson: str) -> Callable[[Judge], Judge]:
    """Register the function below as the judge of an exercise.

    Args:
        number: chapter and place, such as "4.1".
        lesson: one sentence to take away, said when the answer is right.

    Raises:
        ValueError: a number that is taken.
    """

    def register(judge: Judge) -> Judge:
        known = _EXERCISES.get(number)
        if known is not None and (known.judge.__module__, known.judge.__qualname__) != (
            judge.__module__,
            judge.__qualname__,
        ):
            raise ValueError(f"exercise {number} is there twice; expected a number of its own")
        _EXERCISES[number] = Exercise(number, judge, lesson)
        return judge

    return register


def check(number: str, answer: object) -> None:
    """Judge an answer and print the verdict; `judge` returns it.

    Args:
        number: of the exercise, such as "4.1".
        answer: what the exercise asks for: a function, a number, a list; `...` is "not answered yet".

    Raises:
        ValueError: no such exercise.
    """
    print(judge(number, answer).text)


def judge(number: str, answer: object) -> Verdict:
    """The verdict on an answer; what an answer raises is part of the verdict, never an error of the notebook.

    Raises:
        ValueError: no such exercise.
    """
    found = find(number)
    unanswered = Verdict(
        False, f"Exercise {number}: not answered yet. Replace the ... above, then run this cell again."
    )
    if answer is ... or answer is None:
        return unanswered
    try:
        found.judge(answer)
    except (Unanswered, NotImplementedError):
        return unanswered
    except Wrong as wrong:
        return Verdict(False, _not_yet(number, wrong.got, wrong.expected, wrong.perhaps))
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        stopped = f"an answer that runs to its end; it stopped at: {frame.line or frame.name}"
        advice = "call it yourself on a small input in a cell of its own, and look at the shapes"
        return Verdict(False, _not_yet(number, f"{type(error).__name__}: {error}", stopped, advice))
    return Verdict(True, f"Exercise {number}: right. {found.lesson}")


def _not_yet(number: str, got: str, expected: str, perhaps: str) -> str:
    return f"Exercise {number}: not yet.\n  got       {got}\n  expected  {expected}\n  perhaps   {perhaps}"


def find(number: str) -> Exercise:
    """The exercise of that number.

    Raises:
        ValueError: no such exercise.
    """
    chapter = number.partition(".")[0]
    if chapter.isdigit():
        name = f"{__name__}.chapter{int(chapter):02d}"
        try:
            import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
    if number not in _EXERCISES:
        have = sorted(
            (n for n in _EXERCISES if n.partition(".")[0] == chapter),
            key=lambda n: [int(part) for part in n.split(".")],
        )
        raise ValueError(
            f"no exercise {number!r}; expected {', '.join(have) if have else 'chapter.place, such as 4.1'}"
        )
    return _EXERCISES[number]
