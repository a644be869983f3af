"""Plans for a course, their minutes made from the times that the chapters themselves state."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
# What a chapter's header says; a notebook's run is measured and stamped, its reading is estimated.
_STATED = re.compile(r"\*\*Time\*\*: (?P<run>.*?) to run.*?, (?:and )?(?P<read>[\w -]+?) to read", re.DOTALL)
_MINUTES = {"fifteen": 15, "twenty": 20, "twenty-five": 25, "thirty": 30, "forty": 40}
_PHRASES = {"half an hour": 30, "three quarters of an hour": 45, "an hour": 60}
_EXERCISE = re.compile(r"^### Exercise (\d+\.\d+) .*\n\*difficulty .* (\d+) minutes\*$", re.MULTILINE)
_SECTION = re.compile(r"^## (.+)$", re.MULTILINE)
# Ours: this much of the time on notebooks is kept for predictions said aloud, questions, and a slow machine.
TALK = 1 / 4


@dataclass(frozen=True)
class Part:
    """What is done in one go.

    Attributes:
        what: in words.
        chapter: its number, such as "01"; empty for a break or a discussion.
        sections: first and last number of those that are read; None for all.
        exercises: numbers of those that are done in class.
        minutes: for what is no chapter.
    """

    what: str
    chapter: str = ""
    sections: tuple[int, int] | None = None
    exercises: tuple[str, ...] = ()
    minutes: int = 0


BREAK = Part("Break", minutes=10)
PLANS: dict[str, tuple[int, tuple[Part, ...]]] = {
    "two hours": (
        120,
        (
            Part("A picture, a sentence, your own words; what is missing", "00", (2, 6)),
            Part("Patches, the CLS token, the value path", "01", (1, 6)),
            BREAK,
            Part("Fine-tune, and watch words go", "02", (1, 3)),
            Part("Discussion: the first three questions below", minutes=10),
        ),
    ),
    "half a day": (
        240,
        (
            Part("A picture, a sentence, your own words; what is missing", "00", (2, 6)),
            Part("Patches, the CLS token, the value path", "01", (1, 6)),
            Part("What fine-tuning forgets", "02", (1, 3)),
            BREAK,
            Part("Four numbers, exact truths, guessing games", "03", (1, 4)),
            Part("From distances to entropy; alike in both", "04", (1, 4), ("4.1",)),
            BREAK,
            Part("The relation, and what a sample is", "05", (1, 4)),
            Part("The contest: every way to stay aligned", "07", (3, 5)),
            Part("Discussion: reading a paper that leaves things open", minutes=10),
        ),
    ),
}
# Eight sessions of 90 minutes. What is not done in class is read and solved at home.
SESSION = 90
WEEKS: tuple[tuple[str, tuple[Part, ...], tuple[Part, ...]], ...] = (
    (
        "read dense features from a ViT by hand and compare read-outs fairly",
        (Part("", "00"), Part("", "01", (1, 4))),
        (Part("", "01", (5, 9)), Part("", "02", (1, 4), ("2.1",))),
    ),
    (
        "test an estimator against known truth; derive the entropy at order 2",
        (Part("", "03", exercises=("3.1",)),),
        (Part("", "04", exercises=("4.1",)),),
    ),
    (
        "write both losses of InfoCLIP, find what the paper leaves open, judge the ablation",
        (Part("", "05", exercises=("5.1",)), Part("", "06", (1, 4), ("6.2",))),
        (Part("", "07", exercises=("7.2",)), Part("", "08", (5, 6))),
    ),
    (
        "build a model of parts, say what is paper and what is reading, defend a comparison",
        (
            Part("", "09", (1, 7), ("9.2",)),
            Part("", "11", (5, 6)),
        ),
        (Part("", "10", (2, 6)), Part("", "12", (3, 3)), Part("", "14", (1, 3), ("14.1",))),
    ),
)


def minutes_of(words: str) -> float:
    """Minutes that a header's words mean.

    Raises:
        ValueError: other words than headers use.

    >>> minutes_of("45 seconds"), minutes_of("4.9 minutes"), minutes_of("twenty-five minutes")
    (0.75, 4.9, 25)
    """
    said = " ".join(words.split())
    if said in _PHRASES:
        return _PHRASES[said]
    number, _, unit = said.rpartition(" ")
    if number in _MINUTES and unit == "minutes":
        return _MINUTES[number]
    if re.fullmatch(r"[\d.]+", number) and unit in ("seconds", "minutes"):
        return float(number) / (60 if unit == "seconds" else 1)
    raise ValueError(f"got {said!r}; expected a time as chapters state it, such as 'half an hour'")


@dataclass(frozen=True)
class Chapter:
    """What a chapter says of itself.

    Attributes:
        file, title: of the notebook.
        run, read: minutes; of the whole chapter.
        words: how many each numbered section has.
        exercises: minutes of each, by number.
    """

    file: str
    title: str
    run: float
    read: float
    words: dict[int, int]
    exercises: dict[str, int]


def chapter(number: str, folder: Path = NOTEBOOKS) -> Chapter:
    """The chapter of a number.

    Raises:
        ValueError: no such chapter, or a header that states no time.
    """
    paths = sorted(folder.glob(f"{number}_*.ipynb"))
    if not paths:
        raise ValueError(f"no chapter {number} in {folder}; expected a notebook {number}_*.ipynb")
    cells = json.loads(paths[0].read_text(encoding="utf-8"))["cells"]
    texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    stated = _STATED.search(texts[0])
    if stated is None:
        raise ValueError(f"{paths[0].name}: its header states no '**Time**: ... to run ..., ... to read'")
    whole = "\n\n".join(texts)
    return Chapter(
        file=paths[0].name,
        title=texts[0].splitlines()[0].removeprefix("# "),
        run=minutes_of(stated["run"]),
        read=minutes_of(stated["read"]),
        words=_words(whole),
        exercises={one: int(minutes) for one, minutes in _EXERCISE.findall(whole)},
    )


def _words(text: str) -> dict[int, int]:
    """Words of each numbered section; what has no number, such as "Play", goes with the one before."""
    counts: dict[int, int] = {}
    here = 0
    heads = list(_SECTION.finditer(text))
    for head, after in zip(heads, [*heads[1:], None], strict=True):
        if head[1] in ("Exercises", "Summary", "References"):
            break
        number = re.match(r"\d+", head[1])
        here = int(number.group()) if number else here
        part = text[head.start() : after.start() if after else len(text)]
        counts[here] = counts.get(here, 0) + len(part.split())
    return counts


def needed(part: Part, folder: Path = NOTEBOOKS) -> float:
    """Minutes that a part takes: its notebook's run, its share of the reading, its exercises.

    The run is the whole notebook's, whichever sections are read: in class it is run from top to bottom.

    Raises:
        ValueError: a section or an exercise that the chapter does not have.
    """
    if not part.chapter:
        return part.minutes
    told = chapter(part.chapter, folder)
    first, last = part.sections or (min(told.words), max(told.words))
    lost = {first, last} - set(told.words)
    absent = set(part.exercises) - set(told.exercises)
    if lost or absent:
        raise ValueError(
            f"{told.file} has no {', '.join(map(str, [*lost, *absent]))}; "
            f"expected sections {sorted(told.words)}, exercises {sorted(told.exercises)}"
        )
    read = sum(count for section, count in told.words.items() if first <= section <= last)
    share = read / sum(told.words.values())
    return told.run + share * told.read + sum(told.exercises[one] for one in part.exercises)


def talk(minutes: int, parts: tuple[Part, ...], folder: Path = NOTEBOOKS) -> tuple[float, float]:
    """(minutes that are left for talk, minutes on notebooks) of a session."""
    on_notebooks = sum(needed(part, folder) for part in parts if part.chapter)
    others = sum(part.minutes for part in parts if not part.chapter)
    return minutes - others - on_notebooks, on_notebooks


def plan_table(name: str, folder: Path = NOTEBOOKS) -> str:
    """Markdown: when what is done. The minutes that are left over are dealt out in proportion."""
    minutes, parts = PLANS[name]
    left, on_notebooks = talk(minutes, parts, folder)
    lines = ["| minutes | what | notebook | run, read, solve |", "|---|---|---|---|"]
    clock = 0.0
    for part in parts:
        need = needed(part, folder)
        begins = 5 * round(clock / 5)
        clock += need * (1 + left / on_notebooks) if part.chapter else need
        when = f"{begins} to {5 * round(clock / 5)}"
        alone = f"{math.ceil(need)}" if part.chapter else ""
        lines.append(f"| {when} | {part.what} | {_where(part, folder)} | {alone} |")
    lines.append(f"\nThe notebooks alone take {round(on_notebooks)} minutes (each row is rounded up). ")
    lines[-1] += f"{round(left)} minutes are left for predictions, questions and slow machines."
    return "\n".join(lines) + "\n"


def weeks_table(folder: Path = NOTEBOOKS) -> str:
    """Markdown: the four weeks, with the minutes that each session's notebooks take."""
    lines = [
        "| week | objectives: a student can ... | first session | second session | at home |",
        "|---|---|---|---|---|",
    ]
    for week, (objective, *sessions) in enumerate(WEEKS, 1):
        cells = []
        for parts in sessions:
            _, on_notebooks = talk(SESSION, parts, folder)
            chapters = "; ".join(_where(part, folder) for part in parts)
            cells.append(f"{chapters}: {math.ceil(on_notebooks)} minutes")
        lines.append(f"| {week} | {objective} | {' | '.join(cells)} | {_home(sessions, folder)} |")
    return "\n".join(lines) + "\n"


def _home(sessions: list[tuple[Part, ...]], folder: Path) -> str:
    """The exercises of a week's chapters that were not done in class, and how long they take."""
    parts = [part for parts in sessions for part in parts]
    done = {one for part in parts for one in part.exercises}
    numbers = sorted({part.chapter for part in parts})
    minutes = sum(
        minutes
        for number in numbers
        for one, minutes in chapter(number, folder).exercises.items()
        if one not in done
    )
    return f"exercises of {numbers[0]} to {numbers[-1]}: {minutes / 60:.1f} hours"


def _where(part: Part, folder: Path) -> str:
    if not part.chapter:
        return ""
    link = f"[{part.chapter}](notebooks/{chapter(part.chapter, folder).file})"
    sections = f", sections {part.sections[0]} to {part.sections[1]}" if part.sections else ""
    solved = f", exercise {', '.join(part.exercises)}" if part.exercises else ""
    return link + sections + solved


def parts() -> dict[str, str]:
    """The generated parts of the course kit, by the file's name."""
    return {
        "generated/two_hours.part.md": plan_table("two hours"),
        "generated/half_a_day.part.md": plan_table("half a day"),
        "generated/weeks.part.md": weeks_table(),
    }
