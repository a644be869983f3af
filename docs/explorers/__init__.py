"""The explorers of the book's pages: what JavaScript modules draw, and the numbers that they draw.

Every number comes from a report, or from the function that the notebook's own explorer calls, or is computed
in the page from the notebook's samples; a page has none that a notebook does not have.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from infoclip_lite.core.reports import JsonObject

from . import grams, pictures, playground, stored

PAGE = Path(__file__).parent / "page"
# Beside the site's other static files; from a page of a notebook.
PLACE = "../_static/explorers"
# What a notebook calls -> what the page shows in its place.
INSTEAD_OF = {
    "explore_similarity": "similarity",
    "explore_training": "training",
    "explore_information": "information",
    "explore_renyi": "renyi",
    "explore_objective": "objective",
    "explore_selection": "selection",
}
# What a notebook calls -> what the page shows below its figure: there is no explorer in the notebook.
BELOW = {"plot_ranking": "leaderboard"}
# Said to those for whom nothing moves; the figure is in the next cell.
STILL = (
    "Here the page has an explorer. It needs JavaScript, and a server that sends the page (such as "
    "python -m http.server): a browser runs no modules from a file on disk. The notebook has it in "
    "JupyterLab, and the figure shows one of its positions."
)


def instead_of(source: str) -> str | None:
    """HTML of the explorer that a page shows in place of a cell's live one, or None.

    Args:
        source: of the cell.
    """
    return _holder(_called(source, INSTEAD_OF))


def below(source: str) -> str | None:
    """HTML of the explorer that a page shows below a cell's figure, or None.

    Args:
        source: of the cell.
    """
    return _holder(_called(source, BELOW))


def _called(source: str, table: dict[str, str]) -> str | None:
    return next((name for call, name in table.items() if re.search(rf"\b{call}\(", source)), None)


def _holder(name: str | None) -> str | None:
    if name is None:
        return None
    script = f'<script type="module" src="{PLACE}/start.js"></script>'
    return f'<div class="explorer" data-explorer="{name}"><p>{STILL}</p></div>{script}'


def write_all(folder: Path, kept: Path) -> None:
    """Write modules, style, pictures and numbers of all explorers.

    Args:
        folder: where they are served from.
        kept: where what is slow to compute is kept between two builds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(PAGE.iterdir()):
        shutil.copyfile(path, folder / path.name)
    _write(folder, "similarity", pictures.similarity(folder))
    _write(folder, "selection", pictures.selection(folder))
    _write(folder, "information", playground.information(kept))
    _write(folder, "renyi", grams.renyi())
    _write(folder, "training", stored.training())
    _write(folder, "objective", stored.objective())
    _write(folder, "leaderboard", stored.leaderboard())


def _write(folder: Path, name: str, content: JsonObject) -> None:
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    (folder / f"{name}.json").write_text(text, "utf-8")
