"""A folder of one's own: what is paired, named, split and ignored, and what is said of wrong files."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import real_data
import torch
from PIL import Image

from infoclip_lite import evaluate, load_clip
from infoclip_lite.datasets import Folder, Pictures, Segmented, build_data, held_out_data, training_data
from infoclip_lite.datasets.registry import downloadable
from infoclip_lite.segmentors import ZeroShotSegmentor

NAMES = ["gull", "heron", "sand"]
STEMS = ["a", "b", "c", "d", "e", "f"]


def write(root: Path, masks: Mapping[str, list[int]] | None = None, names: str = "\n".join(NAMES)) -> Path:
    """Six pictures with stripes of labels; 255 does not count."""
    for stem, values in (masks or {stem: [0, 1, 2, 255] for stem in STEMS}).items():
        real_data.photo(root / "images" / f"{stem}.jpg")
        real_data.grey_png(root / "masks" / f"{stem}.png", real_data.labels(values))
    (root / "names.txt").write_text(names + "\n", encoding="utf-8")
    return root


def grey16(path: Path, values: list[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(real_data.labels(values, dtype=np.uint16)).save(path)
    assert Image.open(path).mode.startswith("I")


def stripes(dataset: Segmented, index: int = 0) -> list[int]:
    mask = dataset[index].mask
    found = [part.unique().tolist() for part in mask.chunk(4, dim=1)]
    assert mask.dtype == torch.int64 and all(len(labels) == 1 for labels in found)
    return [labels[0] for labels in found]


def stems(dataset: Folder) -> list[str]:
    return [Path(picture).stem for picture, _ in dataset.files]


def test_pictures_and_masks_are_paired_by_their_stems(tmp_path: Path) -> None:
    dataset = Folder(write(tmp_path), unseen=["heron"])
    assert isinstance(dataset, Pictures) and isinstance(dataset, Segmented) and len(dataset) == 6
    assert (dataset.names, dataset.unseen, dataset.ignore, dataset.split) == (tuple(NAMES), (1,), 255, "all")
    assert (dataset.words, dataset.owners) == (tuple(NAMES), (0, 1, 2))
    assert [(Path(a).name, Path(b).name) for a, b in dataset.files] == [
        (f"{s}.jpg", f"{s}.png") for s in STEMS
    ]
    sample = dataset[1]
    assert (
        sample.image.shape == (3, 24, 32)
        and sample.path.endswith("b.jpg")
        and stripes(dataset, 1) == [0, 1, 2, 255]
    )
    assert json.loads(json.dumps(dataset.describe())) == dataset.describe()


@pytest.mark.parametrize("suffix", [".jpeg", ".JPG", ".webp", ".bmp", ".tif", ".png"])
def test_pictures_may_be_of_other_kinds(tmp_path: Path, suffix: str) -> None:
    write(tmp_path, {"a": [0, 1, 2, 255]})
    Image.open(tmp_path / "images/a.jpg").save(tmp_path / f"images/b.c{suffix}")
    shutil.copy(tmp_path / "masks/a.png", tmp_path / "masks/b.c.png")
    assert len(Folder(tmp_path)) == 2


def test_suffixes_of_masks_may_be_written_large(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "masks/a.png").rename(tmp_path / "masks/a.PNG")
    assert stripes(Folder(tmp_path)) == [0, 1, 2, 255]


def test_hidden_files_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path)
    for name in ("images/.DS_Store", "images/._a.jpg", "masks/._a.png"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "images/.thumbs").mkdir()
    shutil.copy(tmp_path / "images/a.jpg", tmp_path / "images/.thumbs/z.jpg")
    assert len(Folder(tmp_path)) == 6


def test_folders_may_be_called_otherwise_and_lie_in_each_other(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "images").rename(tmp_path / "photos")
    (tmp_path / "masks").rename(tmp_path / "photos/truth")
    assert len(Folder(tmp_path, images="photos", labels="photos/truth")) == 6
    assert len(Folder(tmp_path / "photos", images=".", labels="truth", names=NAMES)) == 6
    assert (
        len(
            Folder(
                "/",
                images=tmp_path / "photos",
                labels=tmp_path / "photos/truth",
                names=tmp_path / "names.txt",
            )
        )
        == 6
    )


def test_palette_masks_are_read_by_their_places_in_the_palette(tmp_path: Path) -> None:
    write(tmp_path)
    real_data.palette_png(tmp_path / "masks/a.png", real_data.labels([2, 0, 255, 1]))
    assert stripes(Folder(tmp_path)) == [2, 0, 255, 1]


def test_black_and_white_masks_have_the_labels_0_and_1(tmp_path: Path) -> None:
    write(tmp_path)
    Image.fromarray(real_data.labels([0, 1, 1, 0]) > 0).save(tmp_path / "masks/a.png")
    assert Image.open(tmp_path / "masks/a.png").mode == "1" and stripes(Folder(tmp_path)) == [0, 1, 1, 0]


def test_masks_of_sixteen_bits_and_more_than_254_classes(tmp_path: Path) -> None:
    write(tmp_path)
    grey16(tmp_path / "masks/a.png", [0, 255, 1, 65535])
    assert stripes(Folder(tmp_path)) == [0, 255, 1, 255]
    many = [f"class {i}" for i in range(300)]
    grey16(tmp_path / "masks/b.png", [0, 255, 299, 65535])
    dataset = Folder(tmp_path, names=many)
    assert dataset.ignore == 65535 and stripes(dataset, 1) == [0, 255, 299, 65535]
    assert stripes(Folder(tmp_path, names=many[:255]), 0) == [0, 65535, 1, 65535]


def test_names_may_carry_their_labels(tmp_path: Path) -> None:
    write(tmp_path, {"a": [7]}, "7\tgull\n300\theron|egret\n255\tsand")
    grey16(tmp_path / "masks/a.png", [7, 300, 255, 65535])
    dataset = Folder(tmp_path, unseen=["heron"])
    assert (dataset.names, dataset.words, dataset.unseen) == (
        ("gull", "heron", "sand"),
        ("gull", "heron|egret", "sand"),
        (1,),
    )
    assert stripes(dataset) == [0, 1, 2, 255]
    assert Folder(tmp_path, unseen=["heron|egret", "heron"]).unseen == (1,)


def test_other_labels_may_be_ignored(tmp_path: Path) -> None:
    write(tmp_path, {"a": [0, 1, 2, 9]}, "1\tgull\n2\theron")
    assert stripes(Folder(tmp_path, ignored=[0, 9])) == [255, 0, 1, 255]
    assert Folder(tmp_path, ignored=[0, 9]).describe() != Folder(tmp_path, ignored=[0]).describe()


def test_names_of_other_systems_are_read(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "names.txt").write_bytes("\ufeffgull\r\nheron\r\nf\u00f6hrde\r\n\r\n".encode())
    assert Folder(tmp_path).names == ("gull", "heron", "f\u00f6hrde")


def test_subfolders_are_splits(tmp_path: Path) -> None:
    write(tmp_path, {s: [0, 1, 2, 255] for s in ("train/a", "train/x/b", "val/a", "extra/c")})
    assert [len(Folder(tmp_path, split)) for split in ("train", "val", "extra", "all")] == [2, 1, 1, 4]
    assert Folder(tmp_path, "train").files[1][1].endswith("masks/train/x/b.png")
    with pytest.raises(ValueError, match=r"unknown split 'vall'; did you mean 'val'\?"):
        Folder(tmp_path, "vall")


def test_lists_are_splits(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "train.txt").write_text("c\n\na.jpg\n")
    (tmp_path / "val.txt").write_text("b\n")
    lists = {"train": "train.txt", "val": "val.txt"}
    assert stems(Folder(tmp_path, "train", lists=lists)) == ["c", "a"] and stems(
        Folder(tmp_path, "val", lists=lists)
    ) == ["b"]
    with pytest.raises(ValueError, match="unknown split 'test'; expected one of train, val, all"):
        Folder(tmp_path, "test", lists=lists)


def test_a_share_is_drawn_by_the_stems_alone(tmp_path: Path) -> None:
    write(tmp_path, {f"{i:03}": [0, 1, 2, 255] for i in range(40)})
    val = stems(Folder(tmp_path, "val", val_fraction=0.25))
    train = stems(Folder(tmp_path, "train", val_fraction=0.25))
    assert sorted(train + val) == stems(Folder(tmp_path)) and 4 <= len(val) <= 16
    assert set(val) <= set(stems(Folder(tmp_path, "val", val_fraction=0.5)))
    write(tmp_path, {f"{i:03}": [0, 1, 2, 255] for i in range(40, 60)})
    assert set(val) <= set(stems(Folder(tmp_path, "val", val_fraction=0.25)))
    assert not set(train) & set(stems(Folder(tmp_path, "val", val_fraction=0.25)))


def test_a_folder_comes_from_a_recipe_and_is_cropped(tmp_path: Path) -> None:
    write(tmp_path)
    section = {
        "name": "folder",
        "root": str(tmp_path),
        "images": "images",
        "labels": "masks",
        "names": "names.txt",
        "unseen": ["heron"],
        "val_fraction": 0.5,
        "size": 16,
        "skip_corrupt": True,
    }
    crops, held_out = training_data(section, seed=0, length=9), held_out_data(section, "val", 9)
    assert crops[0].mask.shape == (16, 16) and crops.unseen == held_out.unseen == (1,)
    assert len(crops) + len(held_out) == 6
    assert len(build_data({"name": "folder", "root": tmp_path}, "all")) == 6
    assert "folder" not in downloadable()
    with pytest.raises(ValueError, match="root of data set 'folder' is None; expected a folder"):
        build_data({"name": "folder"}, "all")
    with pytest.raises(ValueError, match="unknown key 'image' in data set 'folder'; did you mean 'images'"):
        build_data({"name": "folder", "root": tmp_path, "image": "x"}, "all")


def test_a_folder_is_evaluated_as_it_is(tmp_path: Path) -> None:
    names = ["duck", "penguin", "sand"]  # words that the small CLIP knows
    dataset = Folder(
        write(tmp_path, {"a": [0, 1, 2, 255], "b": [0, 0, 2, 2]}), names=names, unseen=["penguin"]
    )
    report = evaluate(ZeroShotSegmentor(load_clip("collage-mini"), ("value",)), dataset)
    assert set(report.per_class) == set(names) and 0 <= report.metrics["mIoU_unseen"] <= 1


def test_damaged_pictures_are_skipped_and_wrong_masks_are_not(tmp_path: Path) -> None:
    write(tmp_path, {"a": [0, 1, 2, 255], "b": [0, 1, 2, 255]})
    broken = tmp_path / "images/b.jpg"
    broken.write_bytes(broken.read_bytes()[:200])
    crops = training_data(
        {"name": "folder", "root": tmp_path, "val_fraction": 0.01, "skip_corrupt": True}, seed=0, length=1
    )
    with pytest.warns(UserWarning, match=r"b\.jpg"):
        assert len([crops[i] for i in range(4)]) == 4
    Image.new("RGB", (32, 24), (200, 0, 0)).save(tmp_path / "masks/a.png")
    with pytest.raises(ValueError, match="one label a pixel"):
        crops[0], crops[1]


def test_a_missing_mask_is_named(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "masks/c.png").rename(tmp_path / "masks/c.bmp")
    said = r"1 of 6 pictures have no mask, such as .*images/c\.jpg; expected .*masks/c\.png; c\.bmp is no PNG"
    with pytest.raises(FileNotFoundError, match=said):
        Folder(tmp_path)


def test_a_mask_without_picture_is_warned_of(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "images/c.jpg").unlink()
    with pytest.warns(UserWarning, match=r"1 masks have no picture, such as .*masks/c\.png"):
        assert len(Folder(tmp_path)) == 5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (tmp_path / "val.txt").write_text("b\n")
        write(tmp_path)
        Folder(tmp_path, "val", lists={"val": "val.txt"})


def test_a_mask_of_another_size_is_named_with_both_sizes(tmp_path: Path) -> None:
    write(tmp_path)
    real_data.grey_png(tmp_path / "masks/a.png", real_data.labels([0], (24, 31)))
    with pytest.raises(
        ValueError, match=r"a\.jpg is \(24, 32\), its labels .*a\.png are \(24, 31\); expected the same size$"
    ):
        Folder(tmp_path)[0]
    real_data.grey_png(tmp_path / "masks/a.png", real_data.labels([0], (32, 24)))
    with pytest.raises(ValueError, match="turned by its EXIF tag"):
        Folder(tmp_path)[0]


def test_a_mask_in_colours_says_what_to_do(tmp_path: Path) -> None:
    write(tmp_path)
    colours = np.zeros((24, 32, 3), np.uint8)
    colours[:, 16:] = (255, 128, 0)
    Image.fromarray(colours).save(tmp_path / "masks/a.png")
    colours_said = r"2 colours, such as \(0, 0, 0\), \(255, 128, 0\), .*convert it to a palette or grey PNG"
    said = rf"a\.png holds uint8 of shape \(24, 32, 3\).*{colours_said}"
    with pytest.raises(ValueError, match=said):
        Folder(tmp_path)[0]
    Image.fromarray(np.repeat(real_data.labels([0, 1])[..., None], 3, axis=2)).save(tmp_path / "masks/a.png")
    with pytest.raises(ValueError, match="its channels are equal, so keep one of them"):
        Folder(tmp_path)[0]
    Image.fromarray(real_data.labels([0, 1])).convert("LA").save(tmp_path / "masks/a.png")
    with pytest.raises(ValueError, match=r"shape \(24, 32, 2\).*one label a pixel"):
        Folder(tmp_path)[0]


@pytest.mark.parametrize(("bits", "wrong"), [(8, 3), (8, 254), (16, 256), (16, 65534)])
def test_labels_out_of_range_are_named(tmp_path: Path, bits: int, wrong: int) -> None:
    write(tmp_path)
    path = tmp_path / "masks/a.png"
    if bits == 8:
        real_data.grey_png(path, real_data.labels([0, wrong]))
    else:
        grey16(path, [0, wrong])
    expected = r"labels of the 3 names of .*names\.txt, 0 \.\. 2, or 255 or 65535 .*`ignored`"
    said = rf"a\.png has the labels \[{wrong}\]; expected {expected}"
    with pytest.raises(ValueError, match=said):
        Folder(tmp_path)[0]


def test_fewer_names_than_labels_are_told(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"has the labels \[2\]; expected labels of the 2 names of the given names, 0 \.\. 1"
    ):
        Folder(write(tmp_path), names=NAMES[:2])[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gull\n\nsand", r"names\.txt is blank in line 2"),
        ("gull\nheron\ngull", "got gull more than once"),
        ("gull\nheron\nHeron", "got heron more than once"),
        ("gull|heron\nheron", "got heron more than once"),
        ("0\t \n1\theron", "blank word"),
        ("0\tgull\nheron", r"says 'heron' in line 2; expected LABEL<tab>NAME"),
        ("0\tgull\nx\theron", r"says 'x\\theron' in line 2"),
        ("0\tgull\n65536\theron", "in line 2; expected LABEL"),
        ("0\tgull\n-1\theron", "in line 2; expected LABEL"),
        ("0\tgull\n0\theron", "has label 0 twice, the second time in line 2"),
        ("", "got no words"),
    ],
)
def test_names_that_cannot_be_used_are_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Folder(write(tmp_path, names=text))


def test_given_names_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(ValueError, match="blank word"):
        Folder(tmp_path, names=["gull", " "])
    with pytest.raises(ValueError, match="names has False, a bool; expected texts"):
        Folder(tmp_path, names=["gull", False])
    with pytest.raises(
        FileNotFoundError, match=r"no .*birds\.txt; expected a text file with one class name a line"
    ):
        Folder(tmp_path, names="birds.txt")
    (tmp_path / "names.txt").write_bytes(b"gull\n\xe9gret\n")
    with pytest.raises(ValueError, match=r"names\.txt is no UTF-8"):
        Folder(tmp_path)


def test_unseen_names_that_are_none_are_refused_with_the_nearest(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(
        ValueError, match="unseen names 'herron', which is none of the 3 classes; did you mean 'heron'"
    ):
        Folder(tmp_path, unseen=["herron"])
    with pytest.raises(
        ValueError, match=r"unseen is the text 'heron'; expected a list of names, such as \['heron'\]"
    ):
        Folder(tmp_path, unseen="heron")


def test_no_picture_at_all_is_said(tmp_path: Path) -> None:
    write(tmp_path)
    for path in (tmp_path / "images").iterdir():
        path.rename(path.with_suffix(".gif"))
    with pytest.raises(FileNotFoundError, match=r"no picture in .*images; expected files that end in \.jpg"):
        Folder(tmp_path)
    shutil.rmtree(tmp_path / "masks")
    with pytest.raises(FileNotFoundError, match="no folder .*masks; expected one: say `images` and `labels`"):
        Folder(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Folder(tmp_path / "nowhere", names=NAMES)


def test_two_pictures_for_one_mask_are_refused(tmp_path: Path) -> None:
    write(tmp_path)
    Image.open(tmp_path / "images/a.jpg").save(tmp_path / "images/a.png")
    with pytest.raises(ValueError, match=r"has a\.jpg and a\.png; expected one picture for the mask a\.png"):
        Folder(tmp_path)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"split": "train"},
            r"unknown split 'train'; expected one of all \(splits are folders of .*, or drawn",
        ),
        ({"split": "test", "val_fraction": 0.2}, "unknown split 'test'; expected one of train, val, all"),
        ({"split": "val", "val_fraction": 1.5}, "val_fraction is 1.5; expected a share above 0 and below 1"),
        ({"split": "val", "val_fraction": 1e-9}, "no picture of .* is in split 'val'"),
        (
            {"split": "val", "val_fraction": 0.2, "lists": {"val": "val.txt"}},
            "lists and val_fraction; expected one",
        ),
        (
            {"split": "val", "lists": {"val": "val.txt"}},
            r"no .*val\.txt; expected a text file with one picture a line",
        ),
        ({"split": "val", "lists": {"val": "empty.txt"}}, r"empty\.txt names no picture"),
        (
            {"split": "val", "lists": {"val": "gone.txt"}},
            "names 1 of 2 pictures that are not there, such as z",
        ),
        ({"split": "val", "lists": {"val": "twice.txt"}}, "names a 2 times"),
        ({"split": "val", "lists": ["val.txt"]}, "lists is .*; expected a text file for each split"),
        ({"ignored": [0]}, r"ignored has \[0\], which are labels of classes"),
        ({"ignored": [70000]}, r"ignored has \[70000\]; expected labels of 0 \.\. 65535"),
    ],
)
def test_options_that_cannot_be_are_refused(tmp_path: Path, options: dict[str, object], said: str) -> None:
    write(tmp_path)
    for name, text in (("empty", "\n"), ("gone", "a\nz\n"), ("twice", "a\nb\na.jpg\n")):
        (tmp_path / f"{name}.txt").write_text(text)
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        Folder(tmp_path, **options)
