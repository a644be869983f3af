"""What was tried, how often, and what came of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from infoclip_lite.core.environment import environment

_T = TypeVar("_T")


@dataclass
class Tally:
    """What was tried, how often, and what came of it.

    Attributes:
        often: whether everything is tried as often as the table is to say.
        found: what -> (outcome -> times).
        seconds: what -> time since it was first tried.
    """

    often: bool
    found: dict[str, Counter[str]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    _begun: dict[str, float] = field(default_factory=dict)

    def note(self, what: str, outcome: str) -> None:
        """One more try."""
        begun = self._begun.setdefault(what, time.perf_counter())
        self.found.setdefault(what, Counter())[outcome] += 1
        self.seconds[what] = time.perf_counter() - begun

    def tried(
        self, what: str, do: Callable[[], _T], refusals: tuple[type[Exception], ...] = (ValueError, OSError)
    ) -> _T | None:
        """The result; None where it was refused in words. Any other error is a defect, and fails the test."""
        try:
            result = do()
        except refusals as error:
            assert str(error).strip(), f"{type(error).__name__} without a word"
            self.note(what, "refused in words")
            return None
        self.note(what, "accepted")
        return result

    def page(self) -> str:
        """The page, as Markdown."""
        rows = [
            f"| {what} | {outcomes.total():,} | {_listed(outcomes)} | {self.seconds[what]:.0f} |"
            for what, outcomes in self.found.items()
        ]
        where = ", ".join(f"{key} {value}" for key, value in environment().items() if key not in ("threads",))
        return "\n".join(
            [
                "# Reliability",
                "",
                "What was done to the program, how often, and what came of it. `make reliability` does it "
                "again and writes this page, but only if nothing ended in a traceback, in other numbers than",
                "an undisturbed run, or in a file outside its folder. `make test` does a little of each.",
                "",
                "| what | times | what came of it | seconds |",
                "|---|---|---|---|",
                *rows,
                "",
                f"Measured on: {where}.",
                "",
            ]
        )


def _listed(outcomes: Counter[str]) -> str:
    return ", ".join(f"{times:,} {outcome}" for outcome, times in sorted(outcomes.items()))
