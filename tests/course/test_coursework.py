"""Student versions, the key, and what is stamped into a notebook when it is executed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from infoclip_lite.course.coursework import instructor_key, read_exercises, student_version, write_coursework
from infoclip_lite.course.exercises import Wrong, check, exercise, judge
from infoclip_lite.course.exercises.compare import (
    Case,
    Unanswered,
    close,
    close_each,
    number,
    same_tensor,
    tensor,
    varies,
)
from infoclip_lite.course.notebooks import (
    RELEASE,
    execute,
    stamp_alt_texts,
    stamp_launch,
    stamp_links,
    stamp_time,
)

POSED = """### Exercise 99.1 · Add
*difficulty ★☆☆ · importance ★★★ · 5 minutes*

Add them.

<details><summary>Hint</summary>

A plus sign.
</details>
<details><summary>Solution</summary>

```python
def add(a, b):
    return a + b
```

That is all.

</details>"""
STUB = 'def add(a, b):\n    return ...\n\n\ncheck("99.1", add)'


@exercise("99.1", "Sums are easy.")
def add(answer: Any) -> None:
    close(
        answer(2, 3),
        5,
        what="two and three",
        tolerance=0.1,
        traps=[(6, "that is the product")],
        otherwise="add",
    )


def notebook(words: str = POSED, stub: str = STUB) -> Any:
    title = new_markdown_cell(
        "# Title\n\n*A question?*\n\n**What you will learn**: x\n\n**Time**: ages to run on two "
        "cores, a while to read."
    )
    cells = [
        title,
        new_code_cell("1 + 1"),
        new_markdown_cell(words),
        new_code_cell(stub, metadata={"tags": ["exercise"]}),
    ]
    return new_notebook(cells=[*cells, new_markdown_cell("## Summary")])


def test_an_exercise_is_read_whole() -> None:
    (posed,) = read_exercises(notebook())
    assert (posed.number, posed.title, posed.difficulty, posed.importance, posed.minutes) == (
        "99.1",
        "Add",
        1,
        3,
        5,
    )
    assert (
        posed.solution == "def add(a, b):\n    return a + b"
        and posed.check == 'check("99.1", add)'
        and posed.place == 3
    )


@pytest.mark.parametrize(
    ("words", "stub"),
    [
        (POSED.replace("### Exercise 99.1 · Add", "### Add"), STUB),
        (POSED.replace("★☆☆", "easy"), STUB),
        (POSED.replace("Hint", "Help"), STUB),
        (POSED.replace("```python", "```"), STUB),
        (POSED, STUB.replace("99.1", "99.2")),
        (POSED, STUB.replace("check(", "print(")),
    ],
)
def test_an_exercise_that_lacks_something_is_refused(words: str, stub: str) -> None:
    with pytest.raises(ValueError, match="tagged 'exercise' but is no exercise; expected before it"):
        read_exercises(notebook(words, stub))


def test_students_get_hints_and_no_solution_and_the_key_has_it_in_the_stubs_place(tmp_path: Path) -> None:
    source = notebook()
    student, key = student_version(source), instructor_key(source)
    assert (
        "Hint" in student.cells[2].source
        and "Solution" not in student.cells[2].source
        and "a + b" not in nbformat.writes(student)
    )
    assert student.cells[3].source == STUB and source == notebook() | {"cells": source["cells"]}
    assert key.cells[3].source == 'def add(a, b):\n    return a + b\n\n\ncheck("99.1", add)'
    nbformat.write(source, tmp_path / "99.ipynb")
    written = write_coursework([tmp_path / "99.ipynb"], tmp_path / "out")
    assert [str(path.relative_to(tmp_path / "out")) for path in written] == [
        "student/99.ipynb",
        "key/99.ipynb",
    ]
    assert sorted(os.listdir(tmp_path / "out")) == ["key", "student"]


def test_a_notebook_without_exercises_is_refused(tmp_path: Path) -> None:
    nbformat.write(new_notebook(), tmp_path / "a.ipynb")
    with pytest.raises(ValueError, match="has no exercises"):
        write_coursework([tmp_path / "a.ipynb"], tmp_path / "out")


def test_the_verdict_explains(capsys: pytest.CaptureFixture[str]) -> None:
    check("99.1", lambda a, b: a + b)
    assert capsys.readouterr().out == "Exercise 99.1: right. Sums are easy.\n"
    product = judge("99.1", lambda a, b: a * b).text
    assert (
        "got       6.0" in product
        and "expected  5.0" in product
        and "perhaps   that is the product" in product
    )
    assert "perhaps   add" in judge("99.1", lambda a, b: 7).text
    assert (
        "ZeroDivisionError" in judge("99.1", lambda a, b: a / 0).text
        and "a / 0" in judge("99.1", lambda a, b: a / 0).text
    )
    for stub in (..., None, lambda a, b: ..., lambda a, b: None):
        found = judge("99.1", stub)
        assert not found.passed and "not answered yet" in found.text


def test_an_unknown_exercise_names_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"no exercise '4\.77'; expected 4\.1, 4\.2"):
        check("4.77", 1)
    with pytest.raises(ValueError, match="chapter.place"):
        check("seven", 1)


def test_comparisons_say_what_is_wrong() -> None:
    with pytest.raises(Wrong, match="is a list; expected one number"):
        number([1, 2])
    with pytest.raises(Wrong, match=r"shape \(2,\); expected shape \(3,\)"):
        tensor([1, 2], (3,), what="it", perhaps="?")
    close(float("5"), 5, what="it", tolerance=0.0)
    with pytest.raises(Wrong):
        close(float("nan"), 5, what="it", tolerance=0.1)


@pytest.mark.parametrize(
    "values",
    [
        (1, 1, 1.0),
        ("a", "a"),
        ((3, 1), [3, 1]),
        (torch.zeros(2, 3), torch.zeros(2, 3)),
        (torch.ones(2), torch.ones(4)),
        ({"a"}, {"a"}),
    ],
    ids=repr,
)
def test_an_answer_that_never_changes_is_told_that_it_looks_at_nothing(values: tuple[object, ...]) -> None:
    with pytest.raises(Wrong, match="does not look at what it is given"):
        varies(values, what="it")


def test_answers_that_change_and_those_that_are_not_there_yet_are_told_apart() -> None:
    for values in ((1, 2), ("a", "b"), (torch.zeros(2), torch.ones(2)), (torch.eye(2), torch.eye(3)), (1,)):
        varies(values, what="it")
    with pytest.raises(Unanswered):
        varies([1, ...], what="it")


def test_several_cases_are_compared_one_by_one_and_never_as_a_constant() -> None:
    close_each([Case("a", 1.0, 1.0), Case("b", 201.0, 200.0)], tolerance=0.01, relative=True)
    with pytest.raises(Wrong, match="201.00 for b; expected 200.00; perhaps a trap"):
        close_each([Case("a", 1.0, 1.0), Case("b", 201, 200.0, [(201.0, "a trap")])], tolerance=0.01)
    with pytest.raises(Wrong, match="does not look"):
        close_each([Case("a", 1.0, 1.0), Case("b", 1.0, 2.0)], tolerance=5.0)


def test_a_tensor_is_compared_entry_by_entry_and_its_mistake_named() -> None:
    truth, options = torch.tensor([1.0, 2.0]), {"what": "it", "shape": "two numbers"}
    same_tensor([1.0, 2.0], truth, **options)
    with pytest.raises(Wrong, match="up to 2 away.*perhaps halved"):
        same_tensor(truth * 2, truth, traps=[(torch.zeros(3), "no"), (truth * 2, "halved")], **options)
    with pytest.raises(Wrong, match=r"shape \(3,\).*two numbers"):
        same_tensor(torch.zeros(3), truth, **options)
    with pytest.raises(Wrong, match="look at the hint"):
        same_tensor(truth + 1, truth, **options)


def test_launch_is_stamped_once_and_replaced() -> None:
    book = notebook()
    stamp_launch(book, "99_x.ipynb", "somebody/thing")
    first = book.cells[0].source
    stamp_launch(book, "99_x.ipynb", "somebody/thing")
    assert (
        book.cells[0].source == first
        and first.split("\n\n")[1] == "*A question?*"
        and first.count("colab-badge") == 1
    )
    assert (
        f"github/somebody/thing/blob/{RELEASE}/notebooks/99_x.ipynb" in first
        and f"gh/somebody/thing/{RELEASE}?labpath" in first
    )
    stamp_launch(book, "99_x.ipynb", "other/thing")
    setup = [cell for cell in book.cells if "setup" in cell.metadata.get("tags", [])]
    assert "somebody" not in nbformat.writes(book) and len(setup) == 1 and book.cells[1] is setup[0]
    assert f"git+https://github.com/other/thing@{RELEASE}" in setup[0].source


@pytest.mark.parametrize("repository", ["", "name", "a/b/c", "a b/c", "https://github.com/a/b"])
def test_a_repository_that_is_none_is_refused(repository: str) -> None:
    with pytest.raises(ValueError, match="expected OWNER/NAME"):
        stamp_launch(notebook(), "x.ipynb", repository)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(1.0, "5 seconds"), (33.0, "35 seconds"), (90.0, "1.5 minutes"), (121.0, "2 minutes")],
)
def test_time_is_stamped_where_the_header_has_it(seconds: float, said: str) -> None:
    book = notebook()
    stamp_time(book, seconds)
    assert f"**Time**: {said} to run on two cores, a while to read." in book.cells[0].source
    book.cells[0].source = "# Title"
    with pytest.raises(ValueError, match="to run"):
        stamp_time(book, seconds)


def test_pictures_get_the_caption_that_follows() -> None:
    book = notebook()
    picture = new_output("display_data", data={"image/png": "x"})
    book.cells[1].outputs = [picture]
    book.cells[2].source = "*Figure: a line\nthat rises.*\n\nText."
    stamp_alt_texts(book)
    assert book.cells[1].outputs[0].metadata["image/png"]["alt"] == "Figure: a line that rises."


def test_chapters_lead_to_their_neighbours_and_papers_are_links(tmp_path: Path) -> None:
    names = {"00_a.ipynb": "00. First", "01_b.ipynb": "01. Second", "02_c.ipynb": "02. Third"}
    for name, title in names.items():
        cells = [
            new_markdown_cell(f"# {title}\n\nText."),
            new_markdown_cell("## References\n\n- X, arXiv 1905.00414."),
        ]
        nbformat.write(new_notebook(cells=cells), tmp_path / name)
    path = tmp_path / "01_b.ipynb"
    book = nbformat.read(path, 4)
    for _ in range(2):  # a second stamp changes nothing
        stamp_links(book, path)
        line = "**Chapters**: ← [00. First](00_a.ipynb) · [02. Third](02_c.ipynb) →"
        assert book.cells[0].source == f"# 01. Second\n\nText.\n\n{line}"
        paper = "- X, [arXiv 1905.00414](https://arxiv.org/abs/1905.00414)."
        assert book.cells[1].source == f"## References\n\n{paper}\n\n{line}"
    (tmp_path / "02_c.ipynb").unlink()
    stamp_links(book, path)
    assert book.cells[0].source.endswith("**Chapters**: ← [00. First](00_a.ipynb)")


def test_execution_stamps_and_leaves_a_failing_notebook_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.ipynb"
    book = new_notebook(cells=[notebook().cells[0], new_code_cell("print(40 + 2)")])
    nbformat.write(book, path)
    assert list(execute([path])) == ["a.ipynb"]
    done = nbformat.read(path, 4)
    assert done.cells[1].outputs[0].text == "42\n" and "5 seconds to run" in done.cells[0].source
    book.cells[1].source = "1 / 0"
    nbformat.write(book, path)
    before = path.read_bytes()
    with pytest.raises(Exception, match="ZeroDivisionError"):
        execute([path])
    assert path.read_bytes() == before
