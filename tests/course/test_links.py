"""What is handed out leads nowhere that is not there."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

from infoclip_lite.course.coursework import write_coursework
from infoclip_lite.course.links import RELEASE, handed_out, words_alone

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("repository", [None, "somebody/thing"])
def test_every_link_of_coursework_leads_into_its_folder_or_to_an_address(
    tmp_path: Path, repository: str | None
) -> None:
    chosen = NOTEBOOKS[:2]
    for path in write_coursework(chosen, tmp_path, repository):
        cells = nbformat.read(path, as_version=4).cells
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+\.(?:md|ipynb)[^)\s]*)\)", text)]
        lost = [link for link in links if "://" not in link and not (path.parent / link).exists()]
        assert links and lost == []
        assert ("somebody/thing" in text) == (repository is not None)


def test_a_page_of_the_project_is_named_or_led_to() -> None:
    text = "See [the card](../docs/model_card.md#use), [next](02_b.ipynb) and `f[0](x)`."
    alone = "See the card (`docs/model_card.md` in the project), [next](02_b.ipynb) and `f[0](x)`."
    assert handed_out(text, ["02_b.ipynb"]) == alone
    there = handed_out(text, [], "a/b")
    assert f"[the card](https://github.com/a/b/blob/{RELEASE}/docs/model_card.md#use)" in there
    assert f"[next](https://github.com/a/b/blob/{RELEASE}/notebooks/02_b.ipynb)" in there
    assert words_alone(text) == "See the card, next and `f[0](x)`."


def test_a_repository_that_is_none_is_refused_before_a_page_leads_there() -> None:
    with pytest.raises(ValueError, match="expected OWNER/NAME"):
        handed_out("[a](../docs/a.md)", [], "https://github.com/a/b")
