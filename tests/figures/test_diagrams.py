"""Diagrams: readable as pictures and without them, the same at every run, and true to the code they draw."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from functools import cache
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import pytest
import torch
from PIL import ImageFont
from torch import Tensor

from infoclip_lite import DenseCLIP
from infoclip_lite.clip.blocks import feed_forward, project_out, project_qkv, similarity
from infoclip_lite.clip.clip_es import ClipES
from infoclip_lite.clip.readouts import READ_OUTS
from infoclip_lite.clip.readouts.naclip import neighbourhood
from infoclip_lite.clip.tower import TowerPass
from infoclip_lite.figures.diagrams import DIAGRAMS, diagram
from infoclip_lite.figures.diagrams.canvas import ARROWS, INK, ROLES, WIDTH, Canvas
from infoclip_lite.figures.diagrams.clip import VARIATIONS, Variation
from infoclip_lite.figures.diagrams.lessons import LESSONS, PACL_TRAINS, POINTS_TRAINS, ZSS_TRAINS
from infoclip_lite.figures.diagrams.masks import SPLIT_TRAINS
from infoclip_lite.figures.diagrams.masks import TRAINS as TRAINED
from infoclip_lite.figures.diagrams.objectives import SIDE, SMALLEST, TRAINS
from infoclip_lite.figures.diagrams.readouts import FAMILY
from infoclip_lite.figures.diagrams.segmentors import HEAD, PARTS
from infoclip_lite.figures.diagrams.words import CASCADE_TRAINS, CLSCLIP_TRAINS
from infoclip_lite.objectives import (
    Batch,
    InfoCLIPObjective,
    SelectiveDenseDistillation,
    SelectiveGlobalDistillation,
    View,
    positions_kept,
)
from infoclip_lite.objectives.chimera import select
from infoclip_lite.segmentors import (
    PACL,
    CascadeSegmentor,
    ChimeraSeg,
    CLIPTeacher,
    ClsCLIP,
    CostAggregationSegmentor,
    SplitMatching,
    ZSSeg,
)
from infoclip_lite.segmentors.cascade import groups_of_blocks
from infoclip_lite.segmentors.clsclip import early_blocks
from infoclip_lite.segmentors.points import PointEncoder
from infoclip_lite.training.recipe import PointsRecipe, load_recipe

SVG = "{http://www.w3.org/2000/svg}"
NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
every = pytest.mark.parametrize("name", DIAGRAMS)


class Rect(NamedTuple):
    left: float
    top: float
    right: float
    bottom: float

    def shrunk(self, by: float) -> Rect:
        return Rect(self.left + by, self.top + by, self.right - by, self.bottom - by)

    def meets(self, other: Rect) -> bool:
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom

    def holds(self, other: Rect) -> bool:
        across = self.left <= other.left and other.right <= self.right
        return across and self.top <= other.top and other.bottom <= self.bottom


def read(name: str) -> ET.Element:
    return ET.fromstring(diagram(name).svg)


def rect_of(element: ET.Element) -> Rect:
    x, y, width, height = (float(element.attrib[key]) for key in ("x", "y", "width", "height"))
    return Rect(x, y, x + width, y + height)


@cache
def letters(size: int, bold: bool) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, the widest of the fonts that a drawing asks for."""
    return ImageFont.truetype(str(FONTS / f"DejaVuSans{'-Bold' if bold else ''}.ttf"), size)


def text_rect(element: ET.Element, head: ET.Element) -> Rect:
    """What a label does not say of its look, the head of the file does."""
    look = {**head.attrib, **element.attrib}
    size, bold = int(look["font-size"]), "font-weight" in look
    width = letters(size, bold).getlength(element.text or "")
    for span in element:
        width += letters(int(span.get("font-size", size)), bold).getlength(span.text or "")
        width += letters(size, bold).getlength(span.tail or "")
    x, y = float(element.attrib["x"]), float(element.attrib["y"])
    left = x - width * {"start": 0.0, "middle": 0.5, "end": 1.0}[look["text-anchor"]]
    return Rect(left, y - 0.75 * size, left + width, y + 0.25 * size)


def texts(drawing: ET.Element) -> dict[str, Rect]:
    """By what they say, and a number for those that say the same."""
    found = list(drawing.iter(f"{SVG}text"))
    return {
        f"{i}: {''.join(element.itertext())}": text_rect(element, drawing) for i, element in enumerate(found)
    }


def boxes(drawing: ET.Element) -> list[Rect]:
    return [rect_of(group[0]) for group in drawing.iter(f"{SVG}g") if group.get("class") == "box"]


def solid_boxes(drawing: ET.Element) -> list[Rect]:
    """Boxes that no line may run through; it may through what is left out."""
    groups = [group for group in drawing.iter(f"{SVG}g") if group.get("class") == "box"]
    return [rect_of(group[0]) for group in groups if "stroke-dasharray" not in group[0].attrib]


def lines(drawing: ET.Element) -> Iterator[Rect]:
    """Pieces of arrows, each as thin as a rectangle can be; all are level or upright."""
    for way in drawing.iter(f"{SVG}polyline"):
        points = [tuple(map(float, point.split(","))) for point in way.attrib["points"].split()]
        for (x, y), (u, v) in pairwise(points):
            assert x == u or y == v, f"a slanting line at {x}, {y}"
            yield Rect(min(x, u) - 0.1, min(y, v) - 0.1, max(x, u) + 0.1, max(y, v) + 0.1)


@every
def test_a_diagram_is_xml_with_a_title_and_a_description(name: str) -> None:
    drawing, drawn = read(name), diagram(name)
    title, told = drawing.find(f"{SVG}title"), drawing.find(f"{SVG}desc")
    assert title is not None and title.text == drawn.title and drawn.title
    assert told is not None and told.text == drawn.alt and len(drawn.alt.split()) > 30
    assert drawing.attrib["role"] == "img"
    assert drawing.attrib["aria-labelledby"].split() == [title.attrib["id"], told.attrib["id"]]
    assert drawing.attrib["viewBox"] == f"0 0 {WIDTH} {DIAGRAMS[name].height}"


def test_identifiers_are_of_one_diagram_alone() -> None:
    """Several drawings may stand in one page of HTML."""
    found = [
        element.attrib["id"] for name in DIAGRAMS for element in read(name).iter() if "id" in element.attrib
    ]
    assert len(found) == len(set(found)) == 2 * len(DIAGRAMS)


@every
def test_a_diagram_needs_nothing_from_elsewhere(name: str) -> None:
    svg = diagram(name).svg
    assert svg.count("http") == 1 and not re.search(r"<(?:image|use|style|script|foreignObject)\b|url\(", svg)


@every
def test_two_calls_draw_the_same(name: str) -> None:
    assert diagram(name) == diagram(name) and len(diagram(name).svg) < 25_000


@every
def test_a_card_lies_under_everything_and_ink_can_be_read_on_it(name: str) -> None:
    """So that the page below may be dark."""
    drawing = read(name)
    card = next(element for element in drawing if element.tag == f"{SVG}rect")
    assert rect_of(card).shrunk(-1).holds(Rect(0, 0, WIDTH, DIAGRAMS[name].height))
    assert card is drawing[2], "first behind title and description"
    fills = {rect.attrib["fill"] for rect in drawing.iter(f"{SVG}rect")} - {"none"}
    assert drawing.attrib["fill"] == INK and not any(
        "fill" in text.attrib for text in drawing.iter(f"{SVG}text")
    )
    assert all(contrast(INK, fill) >= 7 for fill in fills)


def contrast(a: str, b: str) -> float:
    """As the WCAG has it, 1 to 21."""

    def luminance(colour: str) -> float:
        shares = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
        return sum(weight * s for weight, s in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@every
def test_letters_are_large_enough(name: str) -> None:
    sizes = {
        int(element.attrib["font-size"]) for element in read(name).iter() if "font-size" in element.attrib
    }
    assert min(sizes) >= 12


@every
def test_all_text_is_inside_and_no_two_overlap(name: str) -> None:
    drawing = read(name)
    found = texts(drawing)
    inside = Rect(8, 8, WIDTH - 8, DIAGRAMS[name].height - 8)
    assert [label for label, rect in found.items() if not inside.holds(rect)] == []
    assert [(a, b) for (a, p), (b, q) in combinations(found.items(), 2) if p.meets(q)] == []


@every
def test_a_label_is_in_its_box_or_in_none(name: str) -> None:
    drawing = read(name)
    cut = [
        label
        for label, rect in texts(drawing).items()
        for box in boxes(drawing)
        if rect.meets(box) and not box.shrunk(2).holds(rect)
    ]
    assert cut == []


@every
def test_boxes_do_not_overlap_and_no_line_crosses_a_box_or_a_label(name: str) -> None:
    drawing = read(name)
    assert not any(a.meets(b) for a, b in combinations(boxes(drawing), 2))
    for line in lines(drawing):
        assert not any(line.meets(box.shrunk(1)) for box in solid_boxes(drawing)), line
        assert [label for label, rect in texts(drawing).items() if line.meets(rect)] == [], line


@every
def test_a_legend_says_what_every_colour_means(name: str) -> None:
    """Loss and text say it themselves; a box that is only computed is the card's white."""
    drawing = read(name)
    said = [
        label.split(": ", 1)[1]
        for label, rect in texts(drawing).items()
        if rect.top > DIAGRAMS[name].height - 35
    ]
    fills = {group[0].attrib["fill"] for group in drawing.iter(f"{SVG}g") if group.get("class") == "box"}
    for role in ("frozen", "trained"):
        assert (ROLES[role].fill not in fills) or any(role in words for words in said), said
    kinds = {
        group.attrib["class"].split()[1]
        for group in drawing.iter(f"{SVG}g")
        if "arrow" in group.attrib["class"]
    }
    assert kinds <= set(ARROWS) and ("gradient" not in kinds or "gradient comes back" in said)


def test_a_name_that_is_not_known_gets_a_hint() -> None:
    with pytest.raises(ValueError, match="did you mean 'towers'"):
        diagram("tower")
    with pytest.raises(ValueError, match="expected one of towers, block, read_outs, catseg"):
        diagram("x")


def test_a_notebook_shows_the_drawing_and_words_where_it_cannot() -> None:
    drawn = diagram("infoclip")
    assert drawn._repr_svg_() == drawn.svg.strip() and drawn.svg.startswith("<svg ")
    assert repr(drawn) == f"{drawn.title}: {drawn.alt}"


def test_letters_too_small_to_read_are_refused() -> None:
    with pytest.raises(ValueError, match="11 pixels.*expected 12"):
        Canvas("x", 40).text((10, 10), "small", font=11)


def test_signs_of_xml_and_indices_are_set() -> None:
    canvas = Canvas("x", 40)
    canvas.text((10, 20), "a < b_{T} & c")
    svg = canvas.svg('"quoted" & <odd>', "told")
    label = next(ET.fromstring(svg).iter(f"{SVG}text"))
    assert "".join(label.itertext()) == "a < bT & c"
    assert [(span.get("dy"), span.text) for span in label] == [("3", "T"), ("-3", " & c")]


# What the drawings say of the code.


def by_the_line(tower: TowerPass, line: Variation) -> Tensor:
    """A read-out made of what a line of the drawing says."""
    block, tokens = tower.last, tower.entering
    q, k, v = project_qkv(block, tokens)
    logits = {"qk": (q, k), "qq": (q, q), "kk": (k, k), "kk+near": (k, k)}
    mixed = torch.zeros_like(v) if line.weighs else v
    for name in line.weighs:
        near = neighbourhood(tower.grid, k) if name.endswith("near") else 0.0
        mixed = mixed + (similarity(*logits[name]) + near).softmax(-1) @ v
    out = project_out(block, mixed)
    if line.residual:
        out = out + (tokens if line.residual == "x" else tokens[:, :1])
    return (feed_forward(block, out) if line.feed_forward else out)[:, 1:]


@pytest.mark.parametrize("line", VARIATIONS, ids=lambda line: line.name)
def test_each_line_of_the_block_is_its_read_out(line: Variation, tiny: DenseCLIP) -> None:
    tower = tiny.tower(torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    with torch.no_grad():
        assert torch.allclose(by_the_line(tower, line), READ_OUTS[line.name](tower), atol=1e-5)


def test_the_block_names_the_read_outs_of_its_chapter() -> None:
    page = (NOTEBOOKS / "01_from_global_to_dense.ipynb").read_text()
    table = set(re.findall(r'"\| `(\w+)` \|', page))
    assert {line.name for line in VARIATIONS} == table


def test_the_family_has_every_read_out_and_says_which_look_at_earlier_blocks(mini: DenseCLIP) -> None:
    assert {member.name for member in FAMILY} == set(READ_OUTS)
    tower = mini.tower(torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    # A tower of nothing but the last block: who looks no further says the same.
    alone = TowerPass(tower.entering, tower.grid, tower.blocks[-1:])
    for member in FAMILY:
        with torch.no_grad():
            same = torch.allclose(READ_OUTS[member.name](tower), READ_OUTS[member.name](alone), atol=1e-5)
        assert same == (not member.earlier), member.name


def test_the_family_keeps_what_the_block_keeps() -> None:
    kept = {line.name: (line.residual is not None, line.feed_forward) for line in VARIATIONS}
    drawn = {member.name: (bool(member.residual), member.forward) for member in FAMILY}
    assert {name: drawn[name] for name in kept} == kept


def test_the_towers_are_those_of_collage_mini(mini: DenseCLIP) -> None:
    said = {label.split(": ", 1)[1] for label in texts(read("towers"))}
    stem, blocks = mini.visual.conv1, len(mini.blocks)
    assert {f"1 to {blocks - 1}", f"text tower, {len(mini.text_blocks)} blocks"} <= said
    assert {"112 a patch", f"last layer: {stem.deep.weight.shape[0]}"} <= said and not stem.thawed
    assert stem.middle.weight.shape[0] == 112 and {"96 x 96"} <= said


def test_cat_seg_has_the_parts_that_are_drawn(tiny: DenseCLIP) -> None:
    made = {
        name
        for name, _ in CostAggregationSegmentor(
            tiny, size=_small(), read_out="value"
        ).aggregator.named_children()
    }
    assert set(PARTS) == made
    said = " ".join(label.split(": ", 1)[1] for label in texts(read("catseg")))
    assert [part for part in PARTS.values() if part not in said] == []


def _small() -> object:
    from dataclasses import replace

    from infoclip_lite.segmentors.catseg.model import MINI

    return replace(MINI, guidance_blocks=(0,))


def test_chimera_freezes_what_is_drawn_frozen(tiny: DenseCLIP) -> None:
    model = ChimeraSeg(tiny, encoder="resnet18", weights=None, width=32)
    frozen = {name for name, part in _head_parts(model).items() if not any(p.requires_grad for p in part)}
    assert frozen == {name for name, role in HEAD.items() if role == "frozen"}
    assert set(_head_parts(model)) == set(HEAD)


def _head_parts(model: ChimeraSeg) -> dict[str, list[torch.nn.Parameter]]:
    head = model.head
    return {
        "adapter": [*head.adapter.parameters(), *head.norm.parameters(), head.cls],
        "last block": list(head.blocks.parameters()),
        "ln_post": list(head.ln_post.parameters()),
        "proj": [head.proj],
    }


BODY: dict[str, Any] = {"encoder": "tu-mobilenetv3_small_050", "weights": None, "width": 32}
# Small ones of what is drawn, and what each drawing calls the parts that learn.
MADE: dict[str, tuple[Callable[[DenseCLIP], torch.nn.Module], dict[str, str]]] = {
    "zsseg": (
        lambda clip: ZSSeg(clip, **BODY, queries=3, layers=1, heads=2, prompts=2, ending=""),
        TRAINED,
    ),
    "split_matching": (
        lambda clip: SplitMatching(clip, seen=2, candidates=2, width=32, layers=1, heads=2, scales=(2,)),
        SPLIT_TRAINS,
    ),
    "cascade": (
        lambda clip: CascadeSegmentor(clip, groups=2, prompts=2, layers=1, heads=2),
        CASCADE_TRAINS,
    ),
    "clip_zss": (lambda clip: CLIPTeacher(clip, **BODY, heads=2, scales=(2,)), ZSS_TRAINS),
    "clsclip": (lambda clip: ClsCLIP(clip, width=16, layers=1, heads=2), CLSCLIP_TRAINS),
    "pacl": (PACL, PACL_TRAINS),
    "points": (lambda clip: PointEncoder(clip.embed_dim, width=8), POINTS_TRAINS),
}


def drawn_as(role: str, name: str) -> list[str]:
    """What the boxes of a role say, a box each."""
    return [
        " ".join("".join(text.itertext()) for text in box.iter(f"{SVG}text"))
        for box in read(name).iter(f"{SVG}g")
        if box.get("class") == "box" and box[0].attrib["fill"] == ROLES[role].fill
    ]


@pytest.mark.parametrize("name", MADE)
def test_what_is_drawn_trained_learns_and_nothing_else(name: str, tiny: DenseCLIP) -> None:
    make, trains = MADE[name]
    learning = {part.split(".")[0] for part, weight in make(tiny).named_parameters() if weight.requires_grad}
    assert learning - {"nothing"} == set(trains), "and the vector of no object"
    orange = re.findall(r"\w+", " ".join(drawn_as("trained", name)))
    assert set(orange) == set(re.findall(r"\w+", " ".join(trains.values())))


def test_words_enter_the_tower_at_the_blocks_that_are_drawn() -> None:
    groups, asked = groups_of_blocks(6, 3), early_blocks(6)
    named = {f"block{'s' * (len(group) > 1)} {', '.join(map(str, group))}" for group in groups}
    assert named | {"blocks 0, 1", "block 5"} == set(drawn_as("frozen", "cascade")) - {"ln_post, projection"}
    assert drawn_as("frozen", "clsclip") == [
        "block 0",
        *(f"block {block}" for block in asked),
        f"blocks {asked[-1] + 1} to 5",
    ]
    assert drawn_as("trained", "clsclip").count("linear map") == len(asked)


def test_clip_es_is_drawn_as_sure_as_it_is_and_trains_a_segmentor_alone() -> None:
    assert f"labels that are {ClipES().sure} sure" in drawn_as("data", "clip_es")
    assert drawn_as("trained", "clip_es") == ["any segmentor"]


def test_points_have_the_lessons_of_their_recipe() -> None:
    assert drawn_as("loss", "points") == list(LESSONS.values())
    recipe = load_recipe("mini/points")
    assert isinstance(recipe, PointsRecipe)
    weights = {"labels": recipe.labels, "local": recipe.local_alignment}
    weights |= {"global": recipe.global_alignment, "pseudo": recipe.pseudo_labels}
    assert set(LESSONS) == {name for name, weight in weights.items() if weight}


def test_gradients_of_infoclip_arrive_where_the_drawing_has_them() -> None:
    assert {*TRAINS, "total"} == set(_terms()[0])
    for term, whom in TRAINS.items():
        terms, arrived = _terms()
        terms[term].backward()
        assert {
            name for name, leaf in arrived.items() if leaf.grad is not None and leaf.grad.abs().sum() > 0
        } == set(whom)


def _terms() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Terms of the objective, and the leaves that a gradient may arrive at."""
    generator = torch.Generator().manual_seed(0)
    leaves = {
        who: torch.randn(4, 9, 16, generator=generator).requires_grad_() for who in ("teacher", "student")
    }
    words = torch.randn(5, 16, generator=generator)
    objective = InfoCLIPObjective(16)
    views = {who: View(dense, words, torch.tensor(10.0)) for who, dense in leaves.items()}
    return objective(Batch.of(**views)), {**leaves, "LPAM": objective.lpam.query.weight}


def test_positions_that_are_kept_are_counted_as_the_objective_counts() -> None:
    said = [label.split(": ", 1)[1] for label in texts(read("global_to_local"))]
    counts = [int(found[1]) for label in said if (found := re.search(r"K = (\d+)", label))]
    total = SIDE**2
    assert counts == [total, *(positions_kept(p, total, SMALLEST) for p in (0.0, 0.5, 1.0))]
    assert SelectiveGlobalDistillation(4).smallest == SMALLEST
    drawn = [path.attrib["d"].count("M") for path in read("global_to_local").iter(f"{SVG}path")]
    assert drawn == [n for count in counts for n in (total - count, count) if n]


def test_selected_lessons_reach_the_student_at_the_kept_positions_and_nobody_else() -> None:
    """As the arrows of a gradient have it: none comes to the teacher, chooser or not."""
    generator = torch.Generator().manual_seed(0)
    image, taught, compared, learnt = (
        torch.randn(*shape, generator=generator).requires_grad_()
        for shape in ((2, 8), (2, 9, 8), (2, 9, 8), (2, 9, 8))
    )
    SelectiveDenseDistillation(smallest=4)(image, taught, learnt, 1.0, compared=compared)["dense"].backward()
    assert image.grad is taught.grad is compared.grad is None
    reached = learnt.grad.abs().sum(-1) > 0
    kept = torch.zeros(2, 9, dtype=torch.bool).scatter_(1, select(image, compared, 4), True)
    assert torch.equal(reached, kept)


# What the notebooks have of them.


def shown() -> Iterator[tuple[str, str, dict, str]]:
    """(notebook, diagram, its output, the text below) of every cell that shows one."""
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        cells = json.loads(path.read_text())["cells"]
        for cell, below in pairwise(cells):
            called = re.fullmatch(r'diagram\("(\w+)"\)', "".join(cell["source"]))
            if called:
                yield path.name, called[1], cell["outputs"][0], "".join(below["source"])


def test_every_diagram_is_in_its_chapter_once() -> None:
    assert {name: page[:2] for page, name, _, _ in shown()} == {
        "towers": "01",
        "block": "01",
        "read_outs": "11",
        "infoclip": "05",
        "catseg": "07",
        "chimera": "09",
        "global_to_local": "09",
        "selected_lessons": "10",
        "zsseg": "12",
        "split_matching": "12",
        "cascade": "12",
        "clip_zss": "12",
        "clsclip": "12",
        "pacl": "12",
        "clip_es": "12",
        "points": "13",
    }
    assert len(list(shown())) == len(DIAGRAMS)


def test_notebooks_store_the_diagrams_that_the_code_draws() -> None:
    """Here in a second: the notebooks themselves are run and compared elsewhere."""
    for page, name, output, below in shown():
        drawn = diagram(name)
        assert "".join(output["data"]["image/svg+xml"]) == drawn.svg, page
        assert "".join(output["data"]["text/plain"]) == repr(drawn), page
        assert below.startswith(f"*Figure: {drawn.alt}*"), page
        assert output["metadata"]["image/svg+xml"]["alt"] == f"Figure: {drawn.alt}", page
