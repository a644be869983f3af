"""From names and files to what is evaluated: models, trainings, checkpoints; data sets, folders, words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import real_data
import torch
from PIL import Image

from infoclip_lite import load_clip
from infoclip_lite.cli import main
from infoclip_lite.commands.evaluate import chosen_data, subject
from infoclip_lite.datasets import Collage
from infoclip_lite.evaluation import get_protocol
from infoclip_lite.segmentors import CostAggregationSegmentor, ZeroShotSegmentor
from infoclip_lite.segmentors.catseg.official_weights import to_official
from infoclip_lite.training.build import build_segmentor
from infoclip_lite.training.recipe import load_finetuning


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint by the official names, of the head that mini/catseg begins with."""
    path = tmp_path_factory.mktemp("official") / "model.pth"
    with torch.random.fork_rng():
        torch.manual_seed(7)
        segmentor = build_segmentor(load_finetuning("mini/catseg"))
    assert isinstance(segmentor, CostAggregationSegmentor)
    with torch.no_grad():
        segmentor.clip.visual.conv1.weight.mul_(1.01)  # CLIP was tuned too
    torch.save({"model": to_official(segmentor), "iteration": 80000}, path)
    return path


@pytest.fixture(scope="module")
def birds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures of one's own, with masks, and no file of names."""
    root = tmp_path_factory.mktemp("birds")
    for kind in ("photos", "marks"):
        (root / kind).mkdir()
    for number in range(3):
        mask = np.zeros((48, 64), np.uint8)
        mask[:, 32:] = number % 2
        Image.fromarray(np.full((48, 64, 3), 60 * number, np.uint8)).save(root / "photos" / f"{number}.png")
        Image.fromarray(mask).save(root / "marks" / f"{number}.png")
    return root


def test_an_official_checkpoint_fills_the_recipes_segmentor(official: Path) -> None:
    found = subject(recipe="mini/catseg", weights=official)
    assert isinstance(found, CostAggregationSegmentor) and not found.training
    wanted = torch.load(official, weights_only=True)["model"]
    assert all(torch.equal(value.cpu(), wanted[name]) for name, value in to_official(found).items())
    assert found.clip.name.endswith("/model.pth"), "the report says which weights they were"


def test_an_official_checkpoint_is_evaluated_from_the_command_line(
    official: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report.json"
    main(
        ["evaluate", "--recipe", "mini/catseg", "--weights", str(official), "--limit", "2", "--out", str(out)]
    )
    assert "mIoU" in capsys.readouterr().out
    details = json.loads(out.read_text())["details"]
    assert details["model"].endswith("/model.pth") and details["scenes"] == 2
    assert (tmp_path / "report.md").is_file() and not (tmp_path / "report.parts").exists()


def test_pretrained_weights_are_not_fetched_for_a_checkpoint_that_has_its_own(
    official: Path, offline: list[str], tmp_path: Path
) -> None:
    recipe = tmp_path / "paper.yaml"
    recipe.write_text("base: mini/catseg\nclip: {name: ViT-B-32, pretrained: openai}\n")
    with pytest.raises(
        OSError, match="Network is unreachable"
    ):  # the model is built, the tag is not asked for
        subject(recipe=recipe, weights=official)
    assert offline == ["ViT-B-32"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("nope.pth", None, "no checkpoint .*nope.pth; expected a file from CAT-Seg's model zoo"),
        ("text.pth", b"not a pickle", "text.pth"),
        (
            "other.pth",
            {"model": {"backbone.weight": torch.zeros(2)}},
            "is of another architecture.*unknown backbone.weight",
        ),
        ("bare.pth", {"weights": torch.zeros(2)}, "is of another architecture.*unknown weights"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(
    name: str, content: object, said: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        subject(recipe="mini/catseg", weights=path)


def test_a_segmentor_without_official_checkpoints_says_so(official: Path) -> None:
    with pytest.raises(
        ValueError, match="for ZeroShotSegmentor, of which no official checkpoints are known.*CAT-Seg"
    ):
        subject(recipe="mini/plain", weights=official)


def test_weights_need_a_recipe_and_a_recipe_names_its_own_model(official: Path) -> None:
    with pytest.raises(ValueError, match="got weights without a recipe"):
        subject(weights=official)
    with pytest.raises(ValueError, match="got a folder without a recipe"):
        subject(folder=Path("runs"))
    with pytest.raises(ValueError, match="got a recipe and a model"):
        subject("collage-mini", recipe="mini/catseg")
    with pytest.raises(ValueError, match="is a recipe for pretraining"):
        subject(recipe="mini/pretrain", weights=official)


def test_a_model_has_its_own_read_outs_unless_others_are_named() -> None:
    # Those of the checkpoint, which were chosen on validation scenes.
    assert subject().read_outs == load_clip().read_outs
    assert subject(read_outs=["naclip"]).read_outs == ("naclip",)


def test_collage_is_the_default_with_the_recipes_size_and_seen_nouns() -> None:
    plain = chosen_data()
    assert isinstance(plain.dataset, Collage)
    assert (plain.dataset.split, len(plain.dataset), plain.limit, plain.protocol, plain.drawn) == (
        "test",
        200,
        200,
        "whole",
        True,
    )
    few = chosen_data(recipe="mini/demo", limit=5)
    assert isinstance(few.dataset, Collage)
    assert len(few.dataset) == 5 and len(few.dataset.unseen) == 42 and few.dataset.split == "test"
    large = chosen_data({"name": "collage"}, recipe="paper/catseg-vitb16")
    assert isinstance(large.dataset, Collage)
    assert large.dataset.size == 384 and large.protocol == "catseg"


def test_scenes_of_a_limit_are_the_first_of_all() -> None:
    few, many = chosen_data(limit=2).dataset, chosen_data().dataset
    assert torch.equal(few[1].mask, many[1].mask)


def test_a_recipe_is_chosen_data_what_it_learns_from(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"infoclip-lite data download coco_stuff"):
        chosen_data({"root": str(tmp_path)}, recipe="paper/catseg-vitb16")


def test_a_folder_of_ones_own_is_evaluated_from_the_command_line(
    birds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "birds.json"
    where = ["--root", str(birds), "--images", "photos", "--labels", "marks", "--out", str(out)]
    main(["evaluate", "--dataset", "folder", *where, "--names", "chicken, grass", "--unseen", "chicken"])
    assert "mIoU_unseen" in capsys.readouterr().out
    report = json.loads(out.read_text())
    assert report["details"]["scenes"] == 3 and report["details"]["split"] == "all"
    assert (tmp_path / "birds.parts").is_dir(), "what is counted is kept, so that the same command goes on"


def test_scores_are_refined_from_the_command_line(
    birds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--root", str(birds), "--images", "photos", "--labels", "marks", "--names", "chicken, grass"]
    out = tmp_path / "birds.json"
    main(["evaluate", "--dataset", "folder", *where, "--refine", "pamr", "--out", str(out)])
    refined = json.loads(out.read_text())["details"]["protocol"]["refine"]
    assert refined == {"name": "pamr", "iterations": 10, "dilations": [8, 16]}
    with pytest.raises(SystemExit):
        main(["evaluate", "--dataset", "folder", *where, "--refine", "pmar"])
    assert "unknown refinement 'pmar'; did you mean 'pamr'" in capsys.readouterr().err


def test_a_protocol_without_a_name_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", "--dataset", "collage", "--limit", "1", "--protocol", ""])
    said = capsys.readouterr().err.strip()
    assert stopped.value.code == 2 and "unknown protocol ''; expected one of whole, catseg" in said
    assert "\n" not in said and "Traceback" not in said


def test_options_of_a_folder_are_refused_for_other_data(birds: Path) -> None:
    with pytest.raises(ValueError, match="unknown key 'images'"):
        chosen_data({"name": "collage", "images": "photos"})


def test_a_folder_that_was_learnt_from_is_chosen_data_its_held_out_part(birds: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "birds.yaml"
    data = {"name": "folder", "root": str(birds), "names": ["chicken", "grass"], "val_fraction": 0.4}
    data |= {"images": "photos", "labels": "marks"}
    recipe.write_text(f"base: mini/plain\nname: birds\ndata: {json.dumps(data)}\n")  # JSON is YAML
    assert chosen_data(recipe=recipe).dataset.split == "val"
    assert len(chosen_data(recipe=recipe).dataset) < 3 == len(chosen_data(recipe=recipe, split="all").dataset)


@pytest.mark.parametrize(
    ("name", "text"), [("words.txt", "hen, chicken\ngrass\n"), ("words.json", '["hen, chicken", "grass"]')]
)
def test_other_words_are_encoded_in_place_of_the_names(
    name: str, text: str, birds: Path, tmp_path: Path
) -> None:
    words = tmp_path / name
    words.write_text(text)
    folder = {
        "name": "folder",
        "root": str(birds),
        "images": "photos",
        "labels": "marks",
        "names": ["chicken", "grass"],
    }
    found = chosen_data(folder, words=words).dataset
    assert (found.names, found.words) == (("chicken", "grass"), ("hen, chicken", "grass"))


def test_words_that_do_not_fit_are_refused_with_the_files_name(tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("cow\n")
    with pytest.raises(ValueError, match=r"words\.txt: got 1 words for 63 classes"):
        chosen_data(words=words)


def test_what_is_wrong_with_words_is_said_before_a_model_is_loaded(
    birds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infoclip_lite.commands.evaluate.subject", None)
    where = ["--root", str(birds), "--images", "photos", "--labels", "marks", "--names", "chicken, grass"]
    words = tmp_path / "words.txt"
    for text, said in (
        (
            "hen\nHen\n",
            "got 'Hen' for the classes 'chicken' and 'grass'; expected each word in one class",
        ),
        ("hen\n\ngrass\n", "words.txt is blank in line 2 of 3"),
        ("hen\n", "words.txt: got 1 words for 2 classes"),
    ):
        words.write_text(text)
        with pytest.raises(SystemExit):
            main(["evaluate", "--dataset", "folder", *where, "--words", str(words)])
        assert said in capsys.readouterr().err


def test_the_protocol_is_the_data_sets_and_the_cache_is_where_it_was_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_data.write_voc(tmp_path)
    asked: dict[str, object] = {}

    def told(model: object, dataset: object, **options: object) -> None:
        asked.update(options, model=model)
        raise ValueError("enough")

    monkeypatch.setattr("infoclip_lite.evaluation.evaluate", told)
    with pytest.raises(SystemExit):
        main(
            [
                *("evaluate", "--dataset", "pas20", "--root", str(tmp_path)),
                *("--protocol", "naclip", "--text-cache", "kept"),
            ]
        )
    assert asked["protocol"] == get_protocol("naclip", "pas20") != get_protocol("naclip")
    assert asked["text_cache"] == "kept"
    # Only of a model that nobody trains are embeddings kept.
    assert isinstance(asked["model"], ZeroShotSegmentor)
    assert not any(weight.requires_grad for weight in asked["model"].parameters())
