"""Weak supervision: words of whole pictures become masks, and the true ones are never read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import real_data
import torch
from masks import RECIPE, SEEN, named_while_training
from resume import assert_same_run, moved, same, stopped_and_gone_on, weights
from torch import Tensor

from infoclip_lite import DenseCLIP, train
from infoclip_lite.clip.clip_es import ClipES
from infoclip_lite.datasets import Collage, TrainingCrops, build_dataset
from infoclip_lite.datasets.base import ImageLevel
from infoclip_lite.datasets.pictures import Pictures
from infoclip_lite.training.build import build_task
from infoclip_lite.training.finetuning import FineTuning
from infoclip_lite.training.recipe import load_finetuning
from infoclip_lite.training.supervision import PseudoMasks, build_supervision, pseudo_masks
from infoclip_lite.training.supervision.base import before_cutting

QUICK: dict[str, Any] = {"iterations": 2, "dilations": [1, 2], "sure": 0.3}
SUPERVISION: dict[str, Any] = {"prompt": "a photo of a {}", "around": [], "settings": QUICK}


def collage(**options: Any) -> Collage:
    return Collage("train", 32, length=4, seed=3, **{"seen": SEEN, **options})


def masks_of(clip: DenseCLIP, data: Any = None, **options: Any) -> PseudoMasks:
    settings = ClipES(iterations=2, dilations=(1, 2), sure=0.0)
    plain = {"prompt": "a photo of a {}", "around": [], **options}
    return PseudoMasks(collage() if data is None else data, clip, settings, **plain)


class Beach(Pictures):
    """One picture that shows a cow, a ship that is unseen, and whatever stands behind them."""

    def __init__(
        self, names: tuple[str, ...] = ("cow", "ship", "bird"), words: tuple[int, ...] = (0, 1)
    ) -> None:
        super().__init__([("a.jpg", "a.png")], names, torch.zeros(1).numpy(), split="train", unseen=[1])
        self.told = words

    def image_level(self, index: int) -> ImageLevel:
        image = torch.rand(3, 24, 32, generator=torch.Generator().manual_seed(index))
        return ImageLevel(image, self.told, (), "a.jpg")


def test_masks_are_of_seen_words_that_the_picture_shows(tiny: DenseCLIP) -> None:
    data = collage()
    seen = set(range(len(data.names))) - set(data.unseen)
    for index, item in enumerate(masks_of(tiny, data)):
        if index == len(data):
            break
        shown = {data.names.index(noun) for noun in data[index].nouns} & seen
        assert item.mask.shape == (32, 32) and item.mask.dtype == torch.int64
        assert set(item.mask.unique().tolist()) <= {*shown, data.ignore}
        assert torch.equal(item.image, data[index].image)


def test_labels_are_those_of_clip_es_with_ids_of_the_data_set(tiny: DenseCLIP) -> None:
    names = ("cow", "ship", "bird", "background")
    got = masks_of(tiny, Beach(names, (0, 1, 2)))[0].mask
    text = tiny.encode_text(["cow", "bird"], ("a photo of a {}",))
    image = Beach().image_level(0).image
    labels = ClipES(iterations=2, dilations=(1, 2), sure=0.0).labels(tiny, image, text, text[:0])
    assert torch.equal(got, torch.tensor([0, 2, 3])[labels])
    ignored = masks_of(tiny, Beach(words=(0, 1, 2)))[0].mask
    assert torch.equal(ignored == 255, labels == 2), "without a class of that name background is ignored"


def test_what_is_not_sure_is_ignored_and_a_picture_of_unseen_words_alone_is_background(
    tiny: DenseCLIP,
) -> None:
    sure = masks_of(tiny, Beach())
    sure.options = ClipES(iterations=2, dilations=(1, 2), sure=0.999)
    assert (sure[0].mask == 255).any()
    assert (masks_of(tiny, Beach(words=(1,)))[0].mask == 255).all()
    names = ("cow", "ship", "background")
    assert (masks_of(tiny, Beach(names, ()))[0].mask == 2).all()


def test_words_are_called_as_the_recipe_says(tiny: DenseCLIP, monkeypatch: pytest.MonkeyPatch) -> None:
    with named_while_training() as named:
        masks_of(tiny, Beach(), called={"cow": "ox, cow"}, around=["sky", "ship", "bird"])
    assert named.prompts == ["a photo of a ox, cow", "a photo of a bird", "a photo of a sky"]
    with pytest.raises(ValueError, match="called names .'cat'.; expected classes"):
        masks_of(tiny, Beach(), called={"cat": "kitten"})
    many = Beach(tuple(f"thing {i}" for i in range(300)))
    with pytest.raises(ValueError, match="got 300 classes; expected at most 254"):
        masks_of(tiny, many)


def test_kept_labels_are_read_again_and_other_settings_are_kept_elsewhere(
    tiny: DenseCLIP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = masks_of(tiny, Beach(), folder=tmp_path)[0].mask
    again = masks_of(tiny, Beach(), folder=tmp_path)

    def refuse(*_: object) -> Tensor:
        raise AssertionError("labels were made twice")

    with monkeypatch.context() as patched:
        patched.setattr(ClipES, "labels", refuse)
        assert torch.equal(again[0].mask, made)
    masks_of(tiny, Beach(), folder=tmp_path, prompt="a picture of a {}")[0]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_reader_beside_a_gpu_says_what_to_do(tiny: DenseCLIP, monkeypatch: pytest.MonkeyPatch) -> None:
    data = masks_of(tiny, Beach())
    monkeypatch.setattr(pseudo_masks, "get_worker_info", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(OSError, match="workers: 0"):
        data[0]


def test_a_data_set_that_says_nothing_of_whole_pictures_is_refused(tiny: DenseCLIP) -> None:
    class Bare(Beach):
        image_level = None  # type: ignore[assignment]

    with pytest.raises(ValueError, match="Bare, which says nothing of whole pictures; expected a method"):
        masks_of(tiny, Bare())[0]


# Trainings.


@pytest.fixture
def recipe(tiny_checkpoint: Path) -> dict[str, Any]:
    return {
        **RECIPE,
        "base": "mini/clip-es",
        "clip": {"name": str(tiny_checkpoint)},
        "segmentor": {"name": "zero_shot", "read_outs": "value"},
        "tune": "image",
        "data": {**RECIPE["data"], "size": 32},
        "supervision": SUPERVISION,
        "optimizer": {"lr": 1.0e-3, "warmup": 1},
    }


def test_a_training_reads_no_mask_and_names_no_unseen_word(
    recipe: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    with named_while_training() as named:
        whole = train(recipe, progress=False)
    assert named.seen and not named.unseen
    assert whole.reference is not None and moved(whole.model.clip, weights(whole.reference))
    get = Collage.__getitem__

    def wrong(self: Collage, index: int) -> Any:
        scene = get(self, index)
        return scene._replace(mask=torch.full_like(scene.mask, -1))

    monkeypatch.setattr(Collage, "__getitem__", wrong)
    assert_same_run(train(recipe, progress=False), whole)


def test_labels_do_not_come_from_the_model_that_learns(recipe: dict) -> None:
    task, reference = build_task(load_finetuning(recipe))
    assert isinstance(task.dataset, PseudoMasks)
    assert task.dataset.clip is reference and not same(weights(task.module), {})
    assert task.segmentor.clip is not reference


def test_a_stopped_training_goes_on_bit_for_bit(recipe: dict, tmp_path: Path) -> None:
    recipe = {**recipe, "supervision": {**SUPERVISION, "folder": str(tmp_path / "kept")}}
    whole = train(recipe, progress=False)
    again = stopped_and_gone_on(
        FineTuning, 3, lambda: train(recipe, folder=tmp_path / "run", progress=False, save_every=2)
    )
    assert_same_run(again, whole)


def annotate(root: Path, names: dict[str, list[str]]) -> None:
    """VOC's annotations of some pictures; a person has a part with a name of its own."""
    folder = root / "VOCdevkit" / "VOC2012" / "Annotations"
    folder.mkdir(exist_ok=True)
    for stem, objects in names.items():
        part = "<part><name>head</name></part>"
        listed = "".join(f"<object><name>{each}</name>{part}</object>" for each in objects)
        (folder / f"{stem}.xml").write_text(f"<annotation>{listed}</annotation>")


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    real_data.write_voc(tmp_path)
    stems = ("2007_000032", "2007_000039", "2008_000002", "2008_000008")
    annotate(tmp_path, {stem: ["person", "tvmonitor", "person"] for stem in stems})
    return tmp_path


def test_words_of_voc_are_those_of_its_annotations(voc: Path) -> None:
    data = build_dataset("pas20b", "train", voc, others=False)
    known = data.image_level(0)  # type: ignore[attr-defined]
    assert known.words == (14, 19) and known.captions == ()
    assert data.words[-1] == "background" and len(data.words) == len(data.names) == 21
    annotate(voc, {"2007_000032": []})
    assert data.image_level(0).words == ()  # type: ignore[attr-defined]
    (voc / "VOCdevkit" / "VOC2012" / "Annotations" / "2007_000032.xml").write_text("<annotation>")
    with pytest.raises(ValueError, match=r"2007_000032\.xml cannot be decoded"):
        data.image_level(0)  # type: ignore[attr-defined]
    (voc / "VOCdevkit" / "VOC2012" / "Annotations" / "2007_000032.xml").unlink()
    with pytest.raises(FileNotFoundError, match="unpack its Annotations"):
        data.image_level(0)  # type: ignore[attr-defined]


def test_masks_are_made_of_whole_pictures_and_cut_afterwards_and_no_label_file_is_opened(
    voc: Path, tiny: DenseCLIP, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = build_dataset("pas20b", "train", voc, others=False)

    def refuse(path: str) -> Any:
        raise AssertionError(f"{path} was opened")

    monkeypatch.setattr(data, "read", refuse)
    plain = TrainingCrops(data, 16)
    crops = before_cutting(plain, lambda whole: masks_of(tiny, whole))
    assert isinstance(crops, TrainingCrops) and crops.describe() != plain.describe()
    for index in range(4):
        mask = crops[index].mask
        assert mask.shape == (16, 16) and set(mask.unique().tolist()) <= {14, 19, 20, 255}
    with pytest.raises(ValueError, match="was opened"):  # as of any file that cannot be decoded
        plain[0]


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"name": "clip-es"}, "did you mean 'clip_es'"),
        ({"name": "clip_es", "promt": "a {}"}, "did you mean 'prompt'"),
        ({"name": "clip_es", "settings": {"sure": 2.0}}, "sure is 2.0; expected 0"),
        ({"name": "clip_es", "settings": {"boxes": 0.4}}, "did you mean 'box'"),
    ],
)
def test_wrong_sections_say_what_was_expected(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_supervision(section)
