"""Everything public on another device than the CPU, without a GPU: fake tensors know where they are, and
refuse to be mixed.

What this cannot see: values (nothing is computed), backward passes and optimizers (fake CUDA has none on a
CPU build), and index tensors on another device than what they index, which pass unseen here; those are looked
at by reading.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from fake_devices import CUDA, fake_machine, moved_in, pictures
from torch import nn

from infoclip_lite import DenseCLIP
from infoclip_lite.clip.readouts import READ_OUTS
from infoclip_lite.segmentors import SEGMENTORS, AggregationConfig, build_segmentor
from infoclip_lite.segmentors.points import PointEncoder, PointSegmentor, ProjectedCLIP, encoder
from infoclip_lite.training import build, finetuning, points
from infoclip_lite.training.points import Lesson, Lessons, PointTraining
from infoclip_lite.training.recipe import FineTuneRecipe, PointsRecipe, list_recipes, load_recipe

RECIPES = [name for name in list_recipes() if isinstance(load_recipe(name), FineTuneRecipe)]
OF_POINTS = [name for name in list_recipes() if isinstance(load_recipe(name), PointsRecipe)]


def test_fake_devices_do_refuse_to_mix() -> None:
    """The control: what a forgotten `.to(device)` looks like here."""
    layer = nn.Linear(3, 3)
    with fake_machine() as mode, pytest.raises(RuntimeError, match="device"):
        moved_in(layer, mode)(pictures(mode, 2, 3))


def test_clip_takes_pictures_and_words_to_its_device(tiny: DenseCLIP) -> None:
    with fake_machine() as mode, torch.no_grad():
        clip = moved_in(tiny, mode)
        images = pictures(mode, 2, 3, 40, 24)
        found = [
            clip.encode_image(images),
            *clip.encode_each(images, list(READ_OUTS), clip.encode_text(["cow", "grass"])),
        ]
        found += [*clip.encode_both(images, ("value", "sclip")), *clip.hidden_states(images)]
        assert {each.device for each in found} == {CUDA}


@pytest.mark.parametrize("name", SEGMENTORS)
def test_segmentors_take_pictures_to_their_device(name: str, make_tiny: Callable[..., DenseCLIP]) -> None:
    body = {"width": 32, "weights": None}
    options = {"catseg": {"size": AggregationConfig(**SMALL)}, "chimera": body, "clip_teacher": body}
    options["zsseg"] = {**body, "queries": 4, "prompts": 2}
    with torch.no_grad():
        built = build_segmentor(
            {"name": name, **options.get(name, {})}, make_tiny(layers=6), "a photo of a {}"
        )
    with fake_machine() as mode, torch.no_grad():
        segmentor = moved_in(built, mode)
        text = segmentor.encode_text(["cow", "grass", "sky"])
        logits = segmentor(pictures(mode, 1, 3, 64, 64), text)
        assert logits.device == CUDA and logits.shape == (1, 3, 64, 64)
        segmentor.prepare(pictures(mode, 2, 3, 64, 64).to(CUDA))


SMALL = {
    "hidden": 16,
    "layers": 1,
    "heads": 2,
    "window": 4,
    "text_width": 8,
    "appearance_width": 8,
    "guidance_blocks": (0,),
    "guidance_channels": (8,),
    "guidance_width": (4,),
    "decoder_channels": (16,),
    "class_tokens": 2,
}


def stand_in(make_tiny: Callable[..., DenseCLIP]) -> Callable[..., DenseCLIP]:
    """As deep as the papers' models, so that their heads fit, and very thin."""
    return lambda name, *_: make_tiny(
        layers=24 if "-L-" in name else 12, patch_size=32 if "-B-32" in name else 16
    )


def first_query(cost: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """A matching of the right shape, where the true one would be."""
    return torch.zeros(valid.shape, dtype=torch.int64, device=cost.device)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipes_loss_is_computed_where_its_model_is(
    name: str, make_tiny: Callable[..., DenseCLIP], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The segmentor, its objective and its teacher, built as `train` builds them; pictures come from the
    CPU.
    """
    recipe = load_recipe(name, steps=2, batch=2, data={"name": "collage", "size": 64})
    assert isinstance(recipe, FineTuneRecipe)
    side = 64 if name.startswith("mini/") else 512  # a paper's positions are counted for its size
    if not name.startswith("mini/"):
        monkeypatch.setattr(build, "load_clip", stand_in(make_tiny))
    if "weights" in recipe.segmentor and side == 512:
        recipe.segmentor["weights"] = None
    supervision = recipe.supervision or {}
    supervision.pop("called", None)  # of classes that Collage does not have
    # Which query answers for which mask, and how many masks there are, are values: nobody computes them here.
    for module in ("zsseg", "split_matching"):
        monkeypatch.setattr(f"infoclip_lite.segmentors.{module}.assign", first_query)
    monkeypatch.setattr("infoclip_lite.segmentors.queries.targets.most", lambda counts: 2)
    task, _ = build.build_task(recipe)
    monkeypatch.setattr(
        finetuning, "autocast", lambda *_: torch.no_grad()
    )  # fake CUDA has no autocast on a CPU build
    images, masks = torch.rand(2, 3, side, side), torch.zeros(2, side, side, dtype=torch.long)
    told = (["a fish", "the sky"], torch.eye(2).bool())
    with fake_machine() as mode:
        there = moved_in(task, mode)
        assert {p.device for p in there.module.parameters()} == {CUDA} and there.segmentor.clip.device == CUDA
        labels = told if supervision.get("name") == "captions" else (mode.from_tensor(masks),)
        terms = there.loss(0, (mode.from_tensor(images), *labels))
        assert {value.device for value in terms.values()} == {CUDA} and "total" in terms


@pytest.fixture
def no_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which points, cells and pictures are chosen are values: nobody computes them here."""
    monkeypatch.setattr(encoder, "check_cloud", lambda *_: None)
    monkeypatch.setattr(encoder, "grid_means", lambda points, cell: points[:5])
    monkeypatch.setattr(points, "thinned", lambda own, generator: own)
    monkeypatch.setattr(points, "augmented", lambda points, colours, generator: (points, colours))
    monkeypatch.setattr(torch, "randint", lambda high, size, generator: 0)
    monkeypatch.setattr(points, "pool", lambda points, visible: points.mean(0))


@pytest.mark.usefixtures("no_values")
@pytest.mark.parametrize("name", OF_POINTS)
def test_a_loss_of_points_is_computed_where_its_model_is(name: str, tiny: DenseCLIP) -> None:
    recipe, text = load_recipe(name, batch=2), tiny.encode_text(["chair", "floor", "desk"])
    assert isinstance(recipe, PointsRecipe)
    labels, width = torch.tensor([0, 1, -1, 0, 1, -1]), text.shape[1]
    cloud, visible = torch.rand(6, 3), torch.ones(2, 6, dtype=torch.bool)
    lesson = Lesson(cloud, cloud, labels, labels, torch.rand(6, width), visible, torch.rand(2, width))
    task = PointTraining(recipe, Lessons([lesson, lesson], text, [0, 1], tiny.logit_scale, {}))
    with fake_machine() as mode:
        there = moved_in(task, mode)
        terms = there.loss(0, (0, 1))
        assert {value.device for value in terms.values()} == {CUDA}
        assert set(terms) == {"labels", "local", "global", "pseudo", "total"}


@pytest.mark.usefixtures("no_values")
def test_who_labels_points_takes_clouds_and_pictures_to_its_device(tiny: DenseCLIP) -> None:
    text, cloud = tiny.encode_text(["chair", "floor"]), torch.rand(6, 3)
    built = PointSegmentor(PointEncoder(text.shape[1], width=8), tiny.logit_scale)
    pixels, visible = torch.rand(2, 6, 2), torch.ones(2, 6, dtype=torch.bool)
    with fake_machine() as mode, torch.no_grad():
        segmentor, clip = moved_in(built, mode), moved_in(tiny, mode)
        points_here, words = mode.from_tensor(cloud), mode.from_tensor(text)
        assert segmentor(points_here, points_here, words).device == CUDA
        here = (pictures(mode, 2, 3, 64, 64), mode.from_tensor(pixels), mode.from_tensor(visible))
        assert {each.device for each in ProjectedCLIP(clip).look(*here)} == {CUDA}
