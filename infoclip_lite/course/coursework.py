"""Student versions and an instructor's key, written from the notebooks, the only source of every exercise.

An exercise is a Markdown cell and the code cell after it, which carries the tag "exercise":

    ### Exercise 4.1 · Guess the entropy
    *difficulty ★☆☆ · importance ★★★ · 5 minutes*
    What to do ...
    <details><summary>Hint</summary> ... </details>
    <details><summary>Solution</summary> ```python ... ``` ... </details>

    def entropy_of(sizes):
        return ...

    check("4.1", entropy_of)
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.files import whole_file
from .links import handed_out

if TYPE_CHECKING:
    from nbformat import NotebookNode

TAG = "exercise"
# The form is strict on purpose: what is misspelt is refused rather than missing from a student's version.
_HEAD = re.compile(r"^### Exercise (?P<number>\d+\.\d+) · (?P<title>\S.*)$", re.MULTILINE)
_FACTS = re.compile(
    r"^\*difficulty (?P<difficulty>[★☆]{3}) · importance (?P<importance>[★☆]{3}) · "
    r"(?P<minutes>\d+) minutes\*$",
    re.MULTILINE,
)
_SOLUTION = re.compile(r"\n*<details>\s*<summary>Solution</summary>(?P<body>.*?)</details>\n?", re.DOTALL)
_CODE = re.compile(r"```python\n(?P<code>.*?)```", re.DOTALL)
_CHECK = re.compile(r"^check\(\"(?P<number>\d+\.\d+)\", .*\)$", re.MULTILINE)


@dataclass(frozen=True)
class Posed:
    """One exercise as a notebook poses it.

    Attributes:
        number, title: such as "4.1" and "Guess the entropy".
        difficulty, importance: 1 to 3.
        minutes: about how long it takes.
        stub: the code cell as a student meets it, the call of `check` included.
        solution: code that takes the stub's place, without the call of `check`.
        check: the line that calls `check`.
        place: index of the code cell in the notebook.
    """

    number: str
    title: str
    difficulty: int
    importance: int
    minutes: int
    stub: str
    solution: str
    check: str
    place: int


def read_exercises(notebook: NotebookNode) -> list[Posed]:
    """The exercises of a notebook in order.

    Args:
        notebook: as nbformat reads it (version 4).

    Raises:
        ValueError: an exercise without its heading, facts, hint, solution or check, or with two numbers.
    """
    posed = []
    for place, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "code" and TAG in cell["metadata"].get("tags", []):
            posed.append(_read_exercise(place, _text(notebook["cells"][place - 1]), _text(cell)))
    return posed


def _read_exercise(place: int, words: str, stub: str) -> Posed:
    """The exercise at a place, from its words and its code cell."""
    head, facts = _HEAD.search(words), _FACTS.search(words)
    solution, check = _SOLUTION.search(words), _CHECK.search(stub)
    code = _CODE.search(solution["body"]) if solution else None
    hinted = "<summary>Hint</summary>" in words
    # One message for all of them: whoever writes an exercise wants to see its whole form again.
    if not (head and facts and code and check and hinted) or check["number"] != head["number"]:
        raise ValueError(
            f"cell {place} is tagged {TAG!r} but is no exercise; expected before it "
            "'### Exercise N.M · title', a line '*difficulty ★☆☆ · importance ★☆☆ · 5 minutes*', "
            "a folded Hint and a folded Solution with ```python code, "
            'and in it a line check("N.M", ...) of the same number'
        )
    return Posed(
        number=head["number"],
        title=head["title"].strip(),
        difficulty=facts["difficulty"].count("★"),
        importance=facts["importance"].count("★"),
        minutes=int(facts["minutes"]),
        stub=stub,
        solution=code["code"].strip("\n"),
        check=check.group(),
        place=place,
    )


def student_version(notebook: NotebookNode) -> NotebookNode:
    """A copy without solutions; hints stay, and every exercise is a stub."""
    student = copy.deepcopy(notebook)
    for posed in read_exercises(notebook):
        words = student["cells"][posed.place - 1]
        words["source"] = _SOLUTION.sub("\n", _text(words)).rstrip("\n")
    return student


def instructor_key(notebook: NotebookNode) -> NotebookNode:
    """A copy in which every exercise is answered by its solution."""
    key = copy.deepcopy(notebook)
    for posed in read_exercises(notebook):
        cell = key["cells"][posed.place]
        cell["source"] = f"{posed.solution}\n\n\n{posed.check}"
        # The output is that of the stub, and no count says that the cell was run: it was not.
        cell["outputs"], cell["execution_count"] = [], None
    return key


def write_coursework(paths: Sequence[Path], folder: Path, repository: str | None = None) -> list[Path]:
    """Write folder/student/NAME and folder/key/NAME for each notebook.

    Either folder can be handed out by itself: links lead to its own notebooks or to GitHub, or are words.

    Args:
        paths: of the notebooks.
        folder: where the two folders are made.
        repository: OWNER/NAME on GitHub; see `handed_out`.

    Returns:
        The files that were written.

    Raises:
        ValueError: a notebook without exercises, what `read_exercises` says, or a repository that is not
            OWNER/NAME.
        ImportError: the `notebooks` extra is not installed.
    """
    try:
        import nbformat
    except ImportError as error:
        raise ImportError(
            "student versions need nbformat; install with `pip install -e .[notebooks]`"
        ) from error
    written = []
    beside = [path.name for path in paths]
    for path in paths:
        notebook = nbformat.read(path, as_version=4)
        if not read_exercises(notebook):
            raise ValueError(f"{path} has no exercises; expected code cells with the tag {TAG!r}")
        for cell in notebook["cells"]:
            if cell["cell_type"] == "markdown":
                cell["source"] = handed_out(_text(cell), beside, repository)
        versions = {"student": student_version(notebook), "key": instructor_key(notebook)}
        for kind, version in versions.items():
            target = folder / kind / path.name
            with whole_file(target) as scratch:
                nbformat.write(version, scratch)
            written.append(target)
    return written


def _text(cell: NotebookNode) -> str:
    # nbformat joins lines when it reads a file; a notebook that was made in memory may still hold a list.
    source = cell["source"]
    return source if isinstance(source, str) else "".join(source)
