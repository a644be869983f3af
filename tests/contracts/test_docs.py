"""The site is built without a warning, read without network, and says what the code says."""

from __future__ import annotations

import base64
import html
import importlib
import inspect
import json
import re
import struct
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from infoclip_lite.clip.readouts import READ_OUTS
from infoclip_lite.datasets import DATASETS
from infoclip_lite.datasets.fetching.download import SOURCES
from infoclip_lite.evaluation import PROTOCOLS
from infoclip_lite.training.recipe import list_recipes

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
STEMS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
pytest.importorskip("sphinx", reason="the docs extra is not installed")


class Page(HTMLParser):
    """What a page loads, where it leads, and what can be led to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.pictures: list[dict[str, str | None]] = []
        self.formulas = 0
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.anchors |= {value for key in ("id", "name") if (value := given.get(key))}
        self.formulas += tag == "math"
        if tag == "a" and given.get("href"):
            self.links.append(given["href"] or "")
        if tag == "link" and given.get("rel") not in ("canonical", "search", "index", "next", "prev"):
            self.loads.append(given.get("href") or "")
        if tag in ("script", "img", "iframe", "source", "video", "audio", "embed") and given.get("src"):
            self.loads.append(given["src"] or "")
        if tag == "img":
            self.pictures.append(given)


def part(name: str) -> ModuleType:
    """A module of the site's sources."""
    sys.path.insert(0, str(DOCS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(DOCS))


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    return part("generate")


@pytest.fixture(scope="module")
def pack() -> ModuleType:
    return part("pack")


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Page]:
    return {
        path.relative_to(site).as_posix(): Page(path)
        for path in site.rglob("*.html")
        if "_static" not in path.parts
    }


def test_every_page_is_there(pages: dict[str, Page]) -> None:
    promised = {"index", "teach", "glossary", "notation", "architecture", "add_your_own", "api", "datasheet"}
    promised |= {"generated/commands", *(f"notebooks/{stem}" for stem in STEMS)}
    assert {f"{name}.html" for name in promised} <= set(pages)


def test_every_figure_of_a_notebook_is_on_its_page(pages: dict[str, Page], generate: ModuleType) -> None:
    for stem in STEMS:
        notebook = importlib.import_module("nbformat").read(
            ROOT / "notebooks" / f"{stem}.ipynb", as_version=4
        )
        outputs = [output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", [])]
        drawn = sum(
            generate.LIVE not in data and any(kind.startswith("image/") for kind in data) for data in outputs
        )
        assert (
            drawn
            and sum("_images/" in (p["src"] or "") for p in pages[f"notebooks/{stem}.html"].pictures) >= drawn
        ), stem


def test_every_figure_has_its_text_alternative(pages: dict[str, Page]) -> None:
    named = {
        (name, picture["src"])
        for name, page in pages.items()
        for picture in page.pictures
        if "_images/" in (picture["src"] or "")
        and (len(picture["alt"] or "") < 10 or (picture["alt"] or "").endswith((".png", ".svg")))
    }
    assert named == set()


def test_nothing_is_loaded_from_elsewhere(pages: dict[str, Page], site: Path) -> None:
    outside = {
        (name, load)
        for name, page in pages.items()
        for load in page.loads
        if re.match(r"(?:https?:)?//", load)
    }
    assert outside == set()
    styles = {
        path.name: re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//[^)]*", path.read_text())
        for path in site.rglob("*.css")
    }
    assert {name: found for name, found in styles.items() if found} == {}


def test_a_badge_becomes_a_link_of_text_and_a_live_widget_a_sentence(generate: ModuleType) -> None:
    badge = "[![Open in Colab](https://colab/badge.svg)](https://colab/a.ipynb)"
    widget = {
        "output_type": "display_data",
        "data": {generate.LIVE: {"model_id": "0"}, "text/plain": "VBox()"},
    }
    cells = [
        {"cell_type": "markdown", "source": [badge]},
        {"cell_type": "code", "source": [], "outputs": [widget]},
    ]
    words, code = generate.site_copy({"cells": cells})["cells"]
    assert words["source"] == "[Open in Colab](https://colab/a.ipynb)"
    assert list(code["outputs"][0]["data"]) == ["text/markdown"]


def test_a_page_keeps_a_figures_words_and_drops_what_is_for_the_tests(generate: ModuleType) -> None:
    wide = base64.b64encode(b"8 bytes.8 of IHD" + struct.pack(">II", 900, 300)).decode()
    output = {
        "output_type": "display_data",
        "data": {"image/png": wide},
        "metadata": {"image/png": {"alt": "Figure: a line that rises."}},
    }
    source = ["# NBVAL_IGNORE_OUTPUT\n", "plot()"]
    cell = {"cell_type": "code", "metadata": {}, "source": source, "outputs": [output]}
    (shown,) = generate.site_copy({"cells": [cell]})["cells"]
    assert shown["source"] == "plot()"
    assert shown["metadata"]["mystnb"]["image"] == {"alt": "Figure: a line that rises.", "classes": "wide"}


def test_an_explorer_stands_behind_the_caption_of_the_figure_it_belongs_to(generate: ModuleType) -> None:
    cells = [
        {"cell_type": "code", "id": "a", "metadata": {}, "source": "plot_ranking(board)", "outputs": []},
        {"cell_type": "markdown", "id": "b", "metadata": {}, "source": "*Figure: ranks.*\n\nIt says much."},
    ]
    plot, caption, explorer, rest = generate.site_copy({"cells": cells})["cells"]
    assert plot["outputs"] == [] and caption["source"] == "*Figure: ranks.*"
    assert 'data-explorer="leaderboard"' in explorer["outputs"][0]["data"]["text/html"]
    assert rest["source"] == "It says much."


def test_what_is_loaded_is_there(pages: dict[str, Page], site: Path) -> None:
    lost = {
        (name, load)
        for name, page in pages.items()
        for load in page.loads
        if not load.startswith(("data:", "#"))
        and not (site / name).parent.joinpath(load.split("?")[0]).exists()
    }
    assert lost == set()


def test_links_within_the_site_lead_somewhere(pages: dict[str, Page], site: Path) -> None:
    lost = set()
    for name, page in pages.items():
        for link in page.links:
            target, _, anchor = link.partition("#")
            # The explainer is built beside the book, with Node, and has tests of its own.
            if re.match(r"[a-z]+:", link) or link in ("#", "explainer/index.html"):
                continue
            path = ((site / name).parent / target).resolve() if target else site / name
            key = path.relative_to(site.resolve()).as_posix() if target else name
            if not path.exists() or (anchor and key in pages and anchor not in pages[key].anchors):
                lost.add((name, link))
    assert lost == set()


def test_formulas_are_drawn_by_the_browser(pages: dict[str, Page], site: Path) -> None:
    assert all(
        pages[name].formulas
        for name in ("notation.html", "glossary.html", "notebooks/04_from_distances_to_entropy.html")
    )
    formulas = re.compile(r"<math.*?</math>", re.DOTALL)
    # What the converter does not know it prints as it stands.
    unknown = [
        (name, found)
        for name in pages
        for formula in formulas.findall((site / name).read_text())
        for found in re.findall(r"\\\w+", re.sub(r"<[^>]+>", " ", formula))
    ]
    assert unknown == []
    scripts = re.compile(r"<script[^>]*(?:mathjax|katex)", re.IGNORECASE)
    assert [name for name in pages if scripts.search((site / name).read_text())] == []


def test_no_page_shows_a_dead_widget_or_a_path_of_this_machine(pages: dict[str, Page], site: Path) -> None:
    for name in pages:
        text = (site / name).read_text()
        assert "widget-view" not in text and "VBox(" not in text and str(ROOT) not in text, name


def test_every_mistake_still_raises_what_the_course_kit_says(generate: ModuleType) -> None:
    mistakes = generate.mistakes()
    assert len(mistakes) >= 15
    assert {m.code: type(generate.raised(m)) for m in mistakes} == {m.code: m.raises for m in mistakes}


def test_a_mistake_that_raises_nothing_is_found_out(generate: ModuleType) -> None:
    with pytest.raises(AssertionError, match="raises nothing"):
        generate.raised(generate.Mistake("len([])", lambda: len([]), ValueError, ""))


def test_course_kit_shows_each_message_and_each_time(site: Path, generate: ModuleType) -> None:
    page = " ".join(html.unescape(re.sub(r"<[^>]+>", "", (site / "teach.html").read_text())).split())
    said = [generate.in_a_cell(generate.raised(mistake)) for mistake in generate.mistakes()]
    assert [message for message in said if message not in page] == []
    listed = generate.in_a_cell(ValueError("got `x`; expected one of a, b, c, d, e, f, g, h, i\n and so on"))
    assert listed == "got 'x'; expected one of a, b, c, …, i and so on"
    page = (site / "teach.html").read_text()
    assert all(f'href="notebooks/{stem}.html"' in page for stem in STEMS)


def test_the_datasheet_counts_what_ships(pages: dict[str, Page], site: Path) -> None:
    manifest = json.loads((ROOT / "data" / "collage" / "manifest.json").read_text())
    page = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", (site / "datasheet.html").read_text())).split())
    assert f"{len(manifest['pictures']):,}" in page and str(len(manifest["textures"])) in page
    assert [noun for noun in manifest["nouns"] if noun not in page] == []
    assert {record["licence"] for record in manifest["pictures"]} <= set(page.split())
    for word in ("bus", "bicycle", "boat", "airplane", "motorcycle"):
        assert manifest["nouns"][word]["role"] == "captions", f"{word}: the datasheet says captions only"


def test_the_datasheet_follows_another_manifest(pack: ModuleType, tmp_path: Path) -> None:
    folder = ROOT / "data" / "collage"
    for name in ("photographs.json", "selection.json"):
        (tmp_path / name).write_text((folder / name).read_text())
    manifest = json.loads((folder / "manifest.json").read_text())
    horse = [r for r in manifest["pictures"] if r["noun"] == "horse" and r["split"] == "train"][:2]
    (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "pictures": horse}))
    parts = {path.split("_")[1].split(".")[0]: text for path, text in pack.parts(tmp_path).items()}
    learnt = len({record["instance"] for record in horse})
    assert f"| cut-outs | {len(horse)} | 0 | 0 | {len(horse)} |" in parts["counts"]
    assert re.search(rf"\| horse \(thin\) \| unseen \| .* \| {learnt} \| 0 \| 0 \|", parts["nouns"])
    assert "| `cc` | test | 0 | chair, " in parts["gaps"]


def test_times_are_those_of_the_headers(generate: ModuleType, tmp_path: Path) -> None:
    words = "# 04. A title\\n\\n**Time**: 75 seconds to run on two cores, half an hour to read."
    (tmp_path / "04_a.ipynb").write_text(f'{{"cells": [{{"cell_type": "markdown", "source": ["{words}"]}}]}}')
    assert "| [04 A title](notebooks/04_a.ipynb) | 75 seconds | half an hour |" in generate.times_table(
        tmp_path
    )
    (tmp_path / "05_b.ipynb").write_text('{"cells": [{"cell_type": "markdown", "source": ["# No time"]}]}')
    with pytest.raises(ValueError, match="05_b"):
        generate.times_table(tmp_path)


def test_hours_of_a_study_are_those_of_its_runs(generate: ModuleType, tmp_path: Path) -> None:
    times = {"a/x-0": {"train": 3000, "score": 600}, "a/grid/x-1": 1800, "b/1": None, "c/1": None, "c/2": 720}
    for name, seconds in times.items():
        path = tmp_path / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({} if seconds is None else {"seconds": seconds}))
    rows = ["| `a` | 2 | 1.5 |", "| `b` | 1 | not noted |", "| `c` | 2 | at least 0.2 |"]
    assert generate.studies_part(tmp_path).splitlines()[2:] == rows


def test_help_of_every_command_is_on_the_page(site: Path) -> None:
    from infoclip_lite.cli import COMMANDS

    page = (site / "generated" / "commands.html").read_text()
    assert all(f"usage: infoclip-lite {name} " in page for name in COMMANDS)


def find(dotted: str) -> Any:
    """What a name below infoclip_lite stands for."""
    thing: Any = importlib.import_module("infoclip_lite")
    for part in dotted.split("."):
        if isinstance(thing, ModuleType) and not hasattr(thing, part):
            importlib.import_module(f"{thing.__name__}.{part}")
        thing = getattr(thing, part)
    return thing


def test_every_name_in_the_notation_table_is_in_the_package() -> None:
    rows = [
        line.split(" | ")
        for line in (DOCS / "notation.md").read_text().splitlines()
        if re.match(r"\| (?!symbol)", line)
    ]
    assert len(rows) > 35
    for row in rows:
        symbol, _, tag, code, chapter = (cell.strip(" |") for cell in row)
        assert re.fullmatch(r"\[[PSNIO]\](?:, \[[PSNIO]\])*", tag), symbol
        assert all(number in {stem[:2] for stem in STEMS} for number in chapter.split(", ")), symbol
        name, arguments = re.fullmatch(r"`([\w.]+)(?:\((.*)\))?`", code).groups()
        thing = find(name)
        assert not arguments or set(arguments.split(", ")) <= set(inspect.signature(thing).parameters), code


def test_notation_names_every_symbol_of_both_papers() -> None:
    page = (DOCS / "notation.md").read_text()
    symbols = (
        r"D_V D_L R^T R^S \alpha \circ \lambda_1 \lambda_2 L_c L_d G_{VLR} CSH SGD SAM R_K \hat "
        r"K_{min} \gamma hIoU"
    )
    assert [symbol for symbol in symbols.split() if symbol not in page] == []


def test_every_public_name_has_an_entry(site: Path) -> None:
    page = (site / "api.html").read_text()
    assert "~infoclip_lite" not in page, "a signature that Sphinx could not parse"
    faces = ("", ".clip", ".datasets", ".evaluation", ".information", ".objectives", ".segmentors")
    for module in faces:
        names = importlib.import_module(f"infoclip_lite{module}").__all__
        lost = [name for name in names if not re.search(rf'id="infoclip_lite[\w.]*\.{name}"', page)]
        assert lost == [], module


def test_every_read_out_has_an_entry(site: Path) -> None:
    page = (site / "api.html").read_text()
    lost = [name for name in READ_OUTS if f'id="infoclip_lite.clip.readouts.{name}.{name}"' not in page]
    assert lost == []


def test_every_read_out_has_our_own_score_beside_the_reported_one(generate: ModuleType) -> None:
    report = json.loads((ROOT / "data" / "reports" / "training_free.json").read_text())
    part = generate.training_free_part()
    for name in READ_OUTS:
        row = re.search(rf"^\| `{name}` \|.*$", part, re.MULTILINE)
        assert row, name
        for key in ("mIoU_seen", "mIoU_unseen", "mIoU_stuff"):
            assert f"| {100 * report['rows'][name]['test'][key]['mean']:.1f} ± " in row.group(), (name, key)


def test_commands_name_recipes_data_sets_and_protocols_that_exist() -> None:
    pages = (ROOT / "docs" / "reproduce.md").read_text() + (ROOT / "README.md").read_text()
    recipes = set(re.findall(r"\b((?:paper|mini)/[\w-]+)", pages))
    assert len(recipes) >= 6 and recipes <= set(list_recipes())
    named = set(re.findall(r"--dataset (\w+)", pages)) | set(
        re.findall(r"data (?:download|verify) (\w+)", pages)
    )
    assert named <= {*DATASETS, *SOURCES} and set(re.findall(r"--protocol ([\w-]+)", pages)) <= set(PROTOCOLS)
