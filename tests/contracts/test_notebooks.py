"""Notebooks are stored executed, in order, without errors, small, and built alike."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from infoclip_lite.course.notebooks import navigation

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PROMISED = tuple(f"{n:02d}" for n in range(16))
LARGEST = 300_000
LONGEST = 30
WIDEST = 110  # letters, as in the package
SECTIONS = ("What you will learn", "Prerequisites", "Time", "Exercises", "Summary", "References")
MACHINE = re.compile(r"(?<![\w.])/(?:work|root|home|tmp|Users|mnt)/|[A-Z]:\\\\")
OURSELVES = re.compile(r"\b(?:TODO|FIXME|XXX|lorem ipsum|issue #?\d+|pull request)\b", re.IGNORECASE)
PLACEHOLDER = re.compile(r"\b(?:EXPL|ALT|SUMMARY)_[A-Z_]+\b")


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def text(value: str | list[str]) -> str:
    return value if isinstance(value, str) else "".join(value)


def cells(path: Path, kind: str) -> list[dict]:
    return [cell for cell in read(path)["cells"] if cell["cell_type"] == kind]


def prose(path: Path) -> str:
    return "\n\n".join(text(cell["source"]) for cell in cells(path, "markdown"))


def outputs(path: Path) -> list[dict]:
    return [output for cell in cells(path, "code") for output in cell["outputs"]]


every = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)


def test_the_promised_notebooks_are_there() -> None:
    assert [p.name[:2] for p in NOTEBOOKS] == sorted({p.name[:2] for p in NOTEBOOKS}), "numbers are unique"
    assert set(PROMISED) <= {p.name[:2] for p in NOTEBOOKS}


@every
def test_every_code_cell_was_executed_in_order(path: Path) -> None:
    """Output comparison skips cells without a count, so a missing one would go unseen."""
    counts = [cell["execution_count"] for cell in cells(path, "code")]
    assert counts and counts == list(range(1, len(counts) + 1))
    assert all(text(cell["source"]).strip() for cell in cells(path, "code")), "no empty cells"


@every
def test_results_carry_the_count_of_their_cell(path: Path) -> None:
    for cell in cells(path, "code"):
        counts = {
            output["execution_count"]
            for output in cell["outputs"]
            if output["output_type"] == "execute_result"
        }
        assert counts <= {cell["execution_count"]}


@every
def test_no_error_and_nothing_on_stderr(path: Path) -> None:
    assert [o for o in outputs(path) if o["output_type"] == "error" or o.get("name") == "stderr"] == []


@every
def test_something_is_printed_and_something_is_drawn(path: Path) -> None:
    kinds = {kind for output in outputs(path) for kind in output.get("data", {})}
    assert any(o["output_type"] == "stream" for o in outputs(path)) and any(
        kind.startswith("image/") for kind in kinds
    )


@every
def test_file_is_small(path: Path) -> None:
    assert path.stat().st_size < LARGEST


@every
def test_no_widget_state_is_stored(path: Path) -> None:
    notebook = read(path)
    assert "widgets" not in notebook["metadata"]
    assert not any("widget-state" in kind for output in outputs(path) for kind in output.get("data", {}))


@every
def test_format_is_current_with_cell_ids_and_a_plain_kernel(path: Path) -> None:
    notebook = read(path)
    assert (notebook["nbformat"], notebook["nbformat_minor"] >= 5) == (4, True)
    identities = [cell["id"] for cell in notebook["cells"]]
    assert len(set(identities)) == len(identities)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"


@every
def test_page_opens_with_a_title_and_a_question(path: Path) -> None:
    first = read(path)["cells"][0]
    lines = [line for line in text(first["source"]).splitlines() if line.strip()]
    assert first["cell_type"] == "markdown" and re.match(r"# \S", lines[0])
    assert re.search(r"\*{1,2}[^*]+\?\*{1,2}", text(first["source"])), "a question in italics or bold"


@every
def test_page_has_every_part_in_order(path: Path) -> None:
    page = prose(path)
    places = []
    for section in SECTIONS:
        found = re.search(rf"^(?:#+ |\*\*){re.escape(section)}", page, re.MULTILINE)
        assert found, f"no part {section!r}"
        places.append(found.start())
    assert places == sorted(places)
    assert len(re.findall(r"^# ", re.sub(r"```.*?```", "", page, flags=re.DOTALL), re.MULTILINE)) == 1, (
        "one title"
    )


@every
def test_a_box_says_how_we_know_before_the_exercises(path: Path) -> None:
    """What is a paper's, what is code's, and what is ours: once, and where a reader meets it."""
    page = prose(path)
    boxes = [found.start() for found in re.finditer(r"^(?:> )?\*\*How we know\.\*\*", page, re.MULTILINE)]
    assert len(boxes) == 1 and boxes[0] < page.index("## Exercises")


@every
def test_time_is_given_in_numbers(path: Path) -> None:
    assert re.search(r"\*\*Time\*\*.*\d+\s*(?:seconds|minutes?|s\b|min\b)", prose(path), re.DOTALL)


@every
def test_reader_predicts_before_running_and_exercises_have_solutions(path: Path) -> None:
    page = prose(path)
    exercises = page[re.search(r"^#+ Exercises", page, re.MULTILINE).start() :]
    assert re.search(r"predict", page[: page.index("Exercises")], re.IGNORECASE)
    assert exercises.count("<summary>Solution") >= 2
    assert exercises.count("<details>") == exercises.count("</details>")


@every
def test_code_cells_are_short(path: Path) -> None:
    long = {cell["execution_count"]: text(cell["source"]).count("\n") + 1 for cell in cells(path, "code")}
    assert {count: lines for count, lines in long.items() if lines >= LONGEST} == {}


@every
def test_lines_of_code_have_room_on_a_page(path: Path) -> None:
    lines = [line for cell in cells(path, "code") for line in text(cell["source"]).split("\n")]
    assert [line for line in lines if len(line) > WIDEST] == []


@every
def test_no_path_of_the_machine_it_was_made_on(path: Path) -> None:
    parts = [text(cell["source"]) for cell in read(path)["cells"]]
    for output in outputs(path):
        parts.append(text(output.get("text", "")))
        parts += [
            text(value) for kind, value in output.get("data", {}).items() if not kind.startswith("image/")
        ]
    assert [found.group() for part in parts for found in MACHINE.finditer(part)] == []


@every
def test_project_speaks_of_itself_alone_and_is_finished(path: Path) -> None:
    sources = "\n".join(text(cell["source"]) for cell in read(path)["cells"])
    assert [
        found.group() for pattern in (OURSELVES, PLACEHOLDER) for found in pattern.finditer(sources)
    ] == []


@every
def test_links_between_notebooks_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+\.ipynb)\)", prose(path))
    assert [link for link in links if not (path.parent / link).exists()] == []


@every
def test_chapters_lead_to_their_neighbours_and_papers_to_arxiv(path: Path) -> None:
    parts = [text(cell["source"]) for cell in read(path)["cells"] if cell["cell_type"] == "markdown"]
    line = navigation(path)
    assert line.count(".ipynb") == (1 if path in (NOTEBOOKS[0], NOTEBOOKS[-1]) else 2)
    assert parts[0].endswith(line) and parts[-1].endswith(line)
    plain = [found for part in parts for found in re.findall(r"(?<!\[)\barXiv:? ?\d{4}\.\d{4,5}", part)]
    assert plain == [], "run `infoclip-lite notebooks run`, which links them"


@every
def test_figures_have_words_beside_them(path: Path) -> None:
    """Every picture is followed by prose, where a reader who cannot see it learns what it shows."""
    notebook = read(path)["cells"]
    for index, cell in enumerate(notebook):
        drawn = cell["cell_type"] == "code" and any(
            k.startswith("image/") for o in cell["outputs"] for k in o.get("data", {})
        )
        if drawn:
            assert any(later["cell_type"] == "markdown" for later in notebook[index + 1 :]), cell[
                "execution_count"
            ]
