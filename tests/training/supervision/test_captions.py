"""Learning from captions alone: which sentence, which pictures it is true of, and what learns from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import real_data
import torch
from masks import RECIPE, pictures
from resume import assert_same_run, moved, same, stopped_and_gone_on, weights

from infoclip_lite import DenseCLIP, train
from infoclip_lite.datasets import Collage, TrainingCrops, build_dataset
from infoclip_lite.segmentors import PACL
from infoclip_lite.segmentors.pacl import text_pooled_cosines
from infoclip_lite.training.build import build_task
from infoclip_lite.training.recipe import MachineSection, load_finetuning
from infoclip_lite.training.supervision import Captions, CaptionTuning, build_supervision
from infoclip_lite.training.supervision.base import Unmasked
from infoclip_lite.training.supervision.captions import Nouns, Told, ToldScenes, matching, shortened

PROMPTS = ["a photo of a {}", "a picture of a {}"]


class Sayings(Collage):
    """Small pictures with captions of one's own, two for the second."""

    captions = (
        ("a cow on grass",),
        ("Two dogs, and a fire hydrant!", "a dog"),
        ("nothing that anybody knows",),
        ("the grass",),
    )

    def __getitem__(self, index: int) -> Any:
        return Unmasked(pictures(3, 16, 16, seed=index), torch.zeros(16, 16).long(), "", self.captions[index])


def told(share: float, **options: Any) -> ToldScenes:
    data = Sayings("train", 16, length=4)
    nouns = Nouns(["cow", "grass", "dog", "fire", "fire hydrant"])
    return ToldScenes(data, nouns, prompts=PROMPTS, share=share, seed=options.get("seed", 0))


def test_nouns_are_found_the_longest_first_in_plurals_and_under_each_of_their_names() -> None:
    nouns = Nouns(["fire", "fire hydrant", "dog", "TV|television", "sofa, couch", "glasses", "photo"])
    assert nouns.of("A photo of two Dogs by a fire hydrant; fire!") == ["dog", "fire hydrant", "fire"]
    assert nouns.of("glasses on couches, a couch and a television") == ["glasses", "couch", "television"]
    assert nouns.of("") == nouns.of("42 ...") == []


def test_a_sentence_is_a_caption_or_one_of_its_nouns_in_a_prompt() -> None:
    whole, alone = told(0.0), told(1.0)
    assert [whole[i].sentence for i in (0, 2, 3)] == [Sayings.captions[i][0] for i in (0, 2, 3)]
    assert whole[0].named == {"cow", "grass"} and whole[1].known == {"dog", "fire hydrant"}
    first = alone[0]
    (noun,) = first.named
    assert noun in ("cow", "grass") and first.sentence in {prompt.format(noun) for prompt in PROMPTS}
    assert alone[2].sentence == Sayings.captions[2][0], "a caption without known nouns is told as it is"
    assert alone[2].named == frozenset()


def test_sentences_depend_on_seed_and_number_alone() -> None:
    assert [told(0.5)[i].sentence for i in range(4)] == [told(0.5)[i].sentence for i in range(4)]
    drawn = {tuple(told(0.5, seed=seed)[i].sentence for i in range(4)) for seed in range(8)}
    assert len(drawn) > 1


def test_a_sentence_is_true_of_every_picture_whose_captions_name_its_nouns() -> None:
    items = [told(0.0)[i] for i in range(4)]
    got = matching(items)
    wanted = torch.eye(4).bool()
    wanted[0, 3] = True  # "the grass" is true of the cow on grass, not the other way round
    assert torch.equal(got, wanted)
    twice = [items[2], items[2]._replace(mask=items[0].mask), items[0]]
    assert matching(twice)[:2, :2].all() and matching(twice).sum() == 5, "the same sentence"


def test_a_picture_without_a_caption_is_named() -> None:
    data = told(0.5)
    data.scenes.captions = ((), *Sayings.captions[1:])  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="has no caption; expected one for every picture"):
        data[0]


def test_long_sentences_lose_their_end(tiny: DenseCLIP) -> None:
    sentence = " ".join(["grass"] * 60)
    short = shortened(tiny, sentence)
    assert short == " ".join(["grass"] * 30), "begin and end of a sentence are tokens too"
    assert shortened(tiny, "a cow") == "a cow"


# The training.


@pytest.fixture
def recipe(tiny_checkpoint: Path) -> dict[str, Any]:
    return {
        **RECIPE,
        "base": "mini/pacl",
        "clip": {"name": str(tiny_checkpoint)},
        "batch": 4,
        "data": {**RECIPE["data"], "size": 32},
        "optimizer": {"head_lr": 3.0e-3, "warmup": 1},
    }


def test_the_loss_is_info_nce_of_all_pairs_in_which_true_ones_share_the_target(recipe: dict) -> None:
    task, reference = build_task(load_finetuning(recipe))
    batch = next(iter(task.batches(0, 1)))
    images, sentences, matches = batch
    assert isinstance(task, CaptionTuning) and isinstance(task.dataset, ToldScenes)
    got = task.loss(0, batch)["total"]
    with torch.no_grad():
        text = reference.encode_prompts(sentences)
        dense = task.segmentor.encode(images).dense.flatten(2).mT
        logits = reference.logit_scale * text_pooled_cosines(dense, text)
        nats = 0.0
        for table, true in ((logits, matches), (logits.T, matches.T)):
            for row, right in zip(table.softmax(1), true, strict=True):
                nats -= float(row[right].log().mean()) / len(table) / 2
    assert got.item() == pytest.approx(nats, rel=1e-4)
    got.backward()
    with_gradient = {name for name, p in task.module.named_parameters() if p.grad is not None}
    assert {name.split(".")[0] for name in with_gradient} == {"straight", "bent"}


def test_a_training_lowers_its_loss_leaves_clip_alone_and_reads_no_mask(
    recipe: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(recipe, steps=20, progress=False)
    totals = [record["total"] for record in whole.log]
    assert sum(totals[-5:]) < sum(totals[:5])
    assert whole.reference is not None and same(weights(whole.model.clip), weights(whole.reference))
    torch.manual_seed(1)
    changed = {name.split(".")[0] for name in moved(whole.model, weights(PACL(whole.reference)))}
    assert changed == {"straight", "bent"}
    get = Collage.__getitem__

    def wrong(self: Collage, index: int) -> Any:
        return get(self, index)._replace(mask=torch.full((32, 32), -1))

    monkeypatch.setattr(Collage, "__getitem__", wrong)
    assert_same_run(train(recipe, steps=20, progress=False), whole)


def test_a_stopped_training_goes_on_bit_for_bit(recipe: dict, tmp_path: Path) -> None:
    whole = train(recipe, progress=False)
    again = stopped_and_gone_on(
        CaptionTuning, 3, lambda: train(recipe, folder=tmp_path, progress=False, save_every=2)
    )
    assert_same_run(again, whole)


def test_captions_teach_any_segmentor_whose_patches_are_compared_with_words(recipe: dict) -> None:
    changes: dict[str, Any] = {"segmentor": {"name": "zero_shot"}, "tune": "image", "steps": 2}
    run = train(recipe, progress=False, **changes)
    assert run.reference is not None and moved(run.model.clip, weights(run.reference))
    wide: dict[str, Any] = {"name": "clsclip", "width": 16, "heads": 2}
    with pytest.raises(ValueError, match="patches of ClsCLIP are 48 wide, its CLIP's words 32"):
        train(recipe, progress=False, segmentor=wide)


def test_what_would_divide_a_batch_or_look_at_labels_is_refused(recipe: dict) -> None:
    with pytest.raises(ValueError, match="got a batch in parts"):
        build_task(load_finetuning(recipe, machine={"accumulate": 2}))
    with pytest.raises(ValueError, match="got an objective beside captions"):
        build_task(load_finetuning(recipe, objective={"name": "feature"}))
    assert MachineSection().accumulate == 1


# COCO's captions.


def write_captions(root: Path, captions: list[tuple[int, str]]) -> None:
    images = [{"id": number, "file_name": f"{number:012d}.jpg"} for number in (9, 25, 30)]
    told = [{"image_id": image, "id": i, "caption": text} for i, (image, text) in enumerate(captions)]
    path = root / "coco-stuff" / "annotations" / "captions_train2017.json"
    path.write_text(json.dumps({"images": images, "annotations": told}))


@pytest.mark.filterwarnings("ignore:.*the official .* split has")
def test_captions_of_coco_come_with_crops_and_no_label_file_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_data.write_coco(tmp_path)
    write_captions(
        tmp_path, [(9, " a cow \n on grass"), (9, "  "), (25, "a dog"), (30, "the sea"), (9, "a cow")]
    )
    data = build_dataset("coco_stuff", "train", tmp_path)
    assert data.image_level(0).captions == ("a cow on grass", "a cow")  # type: ignore[attr-defined]

    def refuse(path: str) -> Any:
        raise AssertionError(f"{path} was opened")

    monkeypatch.setattr(data, "read", refuse)
    clip: Any = None
    scenes = Captions(nouns=0.0).scenes(TrainingCrops(data, 16), clip, seed=0, workers=0)
    found = [scenes[i] for i in range(3)]
    assert all(isinstance(each, Told) and each.image.shape == (3, 16, 16) for each in found)
    said: set[Any] = {each.sentence for each in found}  # type: ignore[attr-defined]
    assert {"a dog", "the sea"} < said


@pytest.mark.filterwarnings("ignore:.*the official .* split has")
def test_captions_that_are_not_there_or_are_something_else_are_said(tmp_path: Path) -> None:
    real_data.write_coco(tmp_path)
    data: Any = build_dataset("coco_stuff", "train", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"captions_train2017\.json; get http"):
        data.image_level(0)
    (tmp_path / "coco-stuff" / "annotations" / "captions_train2017.json").write_text('{"images": []}')
    with pytest.raises(ValueError, match="holds no captions of COCO"):
        data.image_level(0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompts": []}, "expected one or more"),
        ({"prompts": ["a cow"]}, "with {} for the noun"),
        ({"nouns": 1.5}, "nouns is 1.5; expected a share"),
        ({"sharpness": 0.0}, "sharpness is 0.0; expected a number above 0"),
        ({"noun": 0.5}, "did you mean 'nouns'"),
    ],
)
def test_wrong_options_say_what_was_expected(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_supervision({"name": "captions", **options})
