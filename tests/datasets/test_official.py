"""Real data sets: official layouts and label files, ids, words, splits, and what is said of wrong files."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import real_data
import scipy.io
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from infoclip_lite.cli import data_command
from infoclip_lite.core.words import check_names, synonyms_of
from infoclip_lite.datasets import Collage, build_dataset, read_image
from infoclip_lite.datasets.base import known_as
from infoclip_lite.datasets.fetching.files import data_root
from infoclip_lite.datasets.fetching.verify import survey, verify_dataset
from infoclip_lite.datasets.official import classes as vocabulary
from infoclip_lite.datasets.official.ade20k import read_full_labels, read_index
from infoclip_lite.datasets.official.classes import COCO_STUFF_UNSEEN, VOC_UNSEEN, class_table
from infoclip_lite.datasets.pictures import lookup_table
from infoclip_lite.datasets.registry import downloadable

pytestmark = pytest.mark.filterwarnings("ignore:.*the official .* split has")
DATASETS = downloadable()
WRITERS: dict[str, Callable[[Path], None]] = {
    "voc": real_data.write_voc,
    "coco_stuff": real_data.write_coco,
    "pascal_context": real_data.write_context,
    "ade20k": real_data.write_ade150,
    "ade20k_full": real_data.write_ade_full,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All data sets, small. Shared: tests only read it."""
    folder = tmp_path_factory.mktemp("data")
    for write in WRITERS.values():
        write(folder)
    return folder


def stripes(mask: torch.Tensor, count: int) -> list[int]:
    """The one label of each of `count` upright stripes."""
    found = [part.unique().tolist() for part in mask.chunk(count, dim=1)]
    assert all(len(labels) == 1 for labels in found)
    return [labels[0] for labels in found]


MASKS = {
    "coco_stuff": [0, 11, 170, 255],  # raw 12 follows the gap at 11, raw 181 is the last
    "coco_stuff_zss": [0, 11, 170, 255],
    "voc_zss": [255, 255, 0, 19],
    "pas20": [255, 255, 0, 19],
    "pas20b": [20, 255, 0, 19],
    "pc59": [0, 49, 255, 255],  # "table" of labels.txt is diningtable
    "pc60": [0, 49, 59, 59],  # all else is background
    "pc459": [1, 396, 458, 0],
    "a150": [255, 0, 149],
    "a847": [65535, 0, 846, 65535],
}


@pytest.mark.parametrize("name", DATASETS)
def test_labels_of_the_official_files_become_class_ids(root: Path, name: str) -> None:
    dataset = build_dataset(name, "val", root)
    sample = dataset[0]
    assert stripes(sample.mask, len(MASKS[name])) == MASKS[name]
    assert sample.mask.dtype == torch.int64 and sample.mask.shape == (24, 32)
    assert sample.image.dtype == torch.float32 and torch.equal(sample.image, read_image(sample.path))
    assert dataset.ignore == (65535 if len(dataset.names) > 254 else 255)
    assert dataset.split == "val"


@pytest.mark.parametrize("name", DATASETS)
def test_names_words_and_owners_fit(root: Path, name: str) -> None:
    dataset = build_dataset(name, "val", root)
    counts = {"pas20": 20, "pas20b": 21, "voc_zss": 20, "a150": 150, "a847": 847}
    counts |= {"pc59": 59, "pc60": 60, "pc459": 459}
    assert len(dataset.names) == counts.get(name, 171) == len(set(dataset.names))
    assert len(dataset.words) == len(dataset.owners) and max(dataset.owners) == len(dataset.names) - 1
    check_names(list(dict.fromkeys(dataset.words)))
    if name != "pas20b":
        assert list(dataset.owners) == list(range(len(dataset.names)))
    assert name == "a847" or len(set(dataset.words)) == len(dataset.words)


def test_ten_classes_share_their_word_with_an_earlier_one(root: Path) -> None:
    dataset = build_dataset("a847", "val", root)
    assert dataset.words == class_table("ade847").words and len(set(dataset.words)) == 837
    bags = [i for i, word in enumerate(dataset.words) if word == "bag"]
    assert len(bags) == 3 and dataset.names[bags[1]].startswith("bag, ")


def test_a_list_of_pictures_of_ones_own_takes_the_place_of_the_official_one(root: Path) -> None:
    stem = Path(build_dataset("pc459", "val", root)[0].path).stem
    (root / "VOCdevkit" / "VOC2010" / "fewer.txt").write_text(f"{stem}\n")
    fewer = build_dataset("pc459", "val", root, listed="fewer.txt")
    assert len(fewer) == 1 and Path(fewer[0].path).stem == stem
    with pytest.raises(FileNotFoundError, match=r"no .*none\.txt; get it with"):
        build_dataset("pc459", "val", root, listed="none.txt")


def test_a_data_set_knows_its_name(root: Path) -> None:
    assert {name: known_as(build_dataset(name, "val", root)) for name in DATASETS} == {n: n for n in DATASETS}
    assert known_as(Collage("test", length=1)) == ""


def test_background_is_every_word_of_context_that_is_no_class(root: Path) -> None:
    dataset = build_dataset("pas20b", "val", root)
    assert dataset.words[:20] == class_table("voc").words and list(dataset.owners[:20]) == list(range(20))
    assert set(dataset.words) == set(class_table("pc59").words) and len(dataset.words) == 59
    assert set(dataset.owners[20:]) == {20} and dataset.names[20] == "background"


@pytest.mark.parametrize(
    ("name", "unseen"),
    [("voc_zss", VOC_UNSEEN), ("coco_stuff_zss", COCO_STUFF_UNSEEN), ("pas20", ()), ("a150", ())],
)
def test_unseen_classes(root: Path, name: str, unseen: tuple[str, ...]) -> None:
    dataset = build_dataset(name, "val", root)
    assert {dataset.names[i] for i in dataset.unseen} == set(unseen) and len(dataset.unseen) == len(unseen)


def test_unseen_ids_are_those_of_the_protocols(root: Path) -> None:
    assert build_dataset("voc_zss", "val", root).unseen == (15, 16, 17, 18, 19)
    assert sorted(build_dataset("coco_stuff_zss", "val", root).unseen) == [
        *(19, 23, 28, 29, 36, 51, 76, 88, 94, 112, 133, 136, 137, 157, 160)
    ]


def test_folds_of_pascal_5i_divide_the_classes(root: Path) -> None:
    folds = [build_dataset("voc_zss", "val", root, fold=fold).unseen for fold in range(4)]
    assert folds == [(0, 1, 2, 3, 4), (5, 6, 7, 8, 9), (10, 11, 12, 13, 14), (15, 16, 17, 18, 19)]
    with pytest.raises(ValueError, match=r"fold is 4; expected one of PASCAL-5i's 0 \.\. 3"):
        build_dataset("voc_zss", "val", root, fold=4)


def test_training_labels_of_unseen_classes_are_left_to_the_training(root: Path) -> None:
    masks = [sample.mask for sample in map(build_dataset("voc_zss", "train", root).__getitem__, range(4))]
    assert any((mask == 15).any() for mask in masks)  # SBD's 16, pottedplant


def test_trainaug_is_voc_and_sbd_without_val(root: Path) -> None:
    dataset = build_dataset("pas20", "train", root)
    stems = [Path(picture).stem for picture, _ in dataset.files]
    assert stems == ["2007_000032", "2007_000039", "2008_000002", "2008_000008"]
    assert [Path(file).suffix for _, file in dataset.files] == [
        ".png",
        ".png",
        ".mat",
        ".mat",
    ]  # VOC's own labels where there are any
    assert stripes(dataset[0].mask, 4) == [255, 255, 0, 19]
    assert stripes(dataset[3].mask, 2) == [255, 15]


def test_voc_without_sbd_is_its_own_pictures_and_says_so(tmp_path: Path) -> None:
    real_data.write_voc(tmp_path)
    shutil.rmtree(tmp_path / "benchmark_RELEASE")
    dataset = build_dataset("voc_zss", "train", tmp_path, sbd=False)
    assert [Path(picture).stem for picture, _ in dataset.files] == ["2007_000032", "2007_000039"]
    assert dataset.split == "train without SBD" and dataset.describe()["split"] == "train without SBD"
    assert build_dataset("voc_zss", "val", tmp_path, sbd=False).split == "val"
    with pytest.raises(FileNotFoundError, match="benchmark_RELEASE.*infoclip-lite data download voc"):
        build_dataset("voc_zss", "train", tmp_path)


def test_coco_label_table_skips_the_eleven_ids_that_were_never_labelled() -> None:
    labels = class_table("coco_stuff").labels
    assert sorted(set(range(182)) - set(labels)) == [11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90]
    assert list(labels) == sorted(labels) and labels[-1] == 181


def test_tables_agree_with_each_other() -> None:
    """Facts that must hold across independent tables: a slip of one line would break them."""
    coco = dict(zip(class_table("coco_stuff").names, class_table("coco_stuff").labels, strict=True))
    assert [coco[n] + 1 for n in ("person", "stop sign", "toothbrush", "banner", "wood")] == [
        1,
        13,
        90,
        92,
        182,
    ]  # COCO's category ids
    voc, context, ade = (class_table(n) for n in ("voc", "pc59", "ade847"))
    assert set(voc.words) <= set(context.words) and list(voc.words) == sorted(voc.words)
    lines = (Path(vocabulary.__file__).parent / "names" / "ade847.txt").read_text().splitlines()
    rows = sorted(
        (int(label), words.lower()) for label, words in (line.split("\t") for line in lines if line[0] != "#")
    )
    ordered = [
        words for label, words in rows if label <= 3100
    ]  # ADE20K numbered its words in alphabetical order, later ones at the end
    assert (
        ordered == sorted(ordered)
        and len(ordered) > 800
        and [label for label, _ in rows] == sorted(ade.labels)
    )
    small = class_table("ade150")
    assert list(small.labels) == list(range(1, 151)) and len(set(small.words) & set(ade.words)) > 140


@pytest.mark.parametrize("name", ["voc", "coco_stuff", "pc59", "ade150", "ade847"])
def test_words_can_be_encoded(name: str) -> None:
    table = class_table(name)
    check_names(table.synonyms)
    if name != "ade847":  # nine of its words stand for two classes or more, as in the papers' lists
        check_names(table.words)
        assert [synonyms_of(group)[0] for group in table.synonyms] == list(table.words)
    assert any(len(synonyms_of(group)) > 1 for group in table.synonyms)


def test_synonyms_take_the_place_of_words(root: Path) -> None:
    plain, rich = (build_dataset("pas20", "val", root, synonyms=s) for s in (False, True))
    assert plain.words[0] == "aeroplane" and rich.words[0] == "aeroplane, airplane"
    assert plain.names == rich.names and plain.owners == rich.owners


@given(st.integers(0, 25), st.integers(0, 255), st.integers(0, 9))
def test_colours_of_the_full_release_are_sixteen_bits(
    tmp_path_factory: pytest.TempPathFactory, high: int, low: int, rest: int
) -> None:
    """The last digit of R says nothing of the class."""
    path = tmp_path_factory.mktemp("full") / "x_seg.png"
    red = min(255, high * 10 + rest)
    Image.fromarray(np.full((3, 5, 3), (red, low, 77), np.uint8)).save(path)
    assert (read_full_labels(str(path)) == red // 10 * 256 + low).all()


def test_full_release_is_reduced_to_a_shorter_side_of_512(tmp_path: Path) -> None:
    real_data.write_ade_full(tmp_path, (600, 910))
    small, full = (
        build_dataset("a847", "val", tmp_path)[0],
        build_dataset("a847", "val", tmp_path, shorter=None)[0],
    )
    assert small.mask.shape == (512, 777) == small.image.shape[1:] and full.mask.shape == (600, 910)
    assert set(small.mask.unique().tolist()) == {0, 846, 65535}  # no label is mixed from its neighbours
    real_data.write_ade_full(tmp_path, (900, 600))
    assert build_dataset("a847", "val", tmp_path)[0].mask.shape == (768, 512)


class _Harmful:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("harm"),))


def test_a_table_of_labels_is_as_long_as_the_largest_needs() -> None:
    assert len(lookup_table({0: 0, 7: 1}, [255], 255)) == 256
    assert len(lookup_table({0: 0, 300: 1}, [65535], 65535)) == 65536
    table = lookup_table({0: 0, 300: 1}, [9], 65535)
    assert (len(table), table[300], table[9], table[8]) == (301, 1, 65535, -1)


def test_index_that_would_run_code_is_refused_unrun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    real_data.write_ade_full(tmp_path)
    index = tmp_path / "ADE20K_2021_17_01" / "index_ade20k.pkl"
    index.write_bytes(pickle.dumps({"filename": [_Harmful()], "folder": ["x"]}))
    with pytest.raises(ValueError, match="index of the official release"):
        read_index(tmp_path)
    assert not (tmp_path / "harm").exists()
    index.write_bytes(b"\x80\x04nonsense")
    with pytest.raises(ValueError, match="index of the official release"):
        read_index(tmp_path)


def test_context_names_come_from_the_official_file(root: Path, tmp_path: Path) -> None:
    assert list(build_dataset("pc459", "val", root).names) == real_data.context_names()
    real_data.write_context(tmp_path)
    names = tmp_path / "VOCdevkit" / "VOC2010" / "labels.txt"
    names.write_text("\n".join(names.read_text().splitlines()[:-1]))
    with pytest.raises(ValueError, match="458 names; expected 459"):
        build_dataset("pc59", "val", tmp_path)


ABSENT = {
    "voc": ["VOCdevkit/VOC2012/JPEGImages/2008_000008.jpg", "benchmark_RELEASE/dataset/cls/2008_000002.mat"],
    "coco_stuff": [
        "coco-stuff/images/train2017/000000000025.jpg",
        "coco-stuff/annotations/train2017/000000000030.png",
    ],
    "pascal_context": ["VOCdevkit/VOC2010/trainval/2008_000007.mat", "VOCdevkit/VOC2010/labels.txt"],
    "ade20k": [
        "ADEChallengeData2016/images/training/ADE_train_00000001.jpg",
        "ADEChallengeData2016/sceneCategories.txt",
    ],
    "ade20k_full": [
        "ADE20K_2021_17_01/images/ADE/training/urban/street/ADE_train_00000001_seg.png",
        "ADE20K_2021_17_01/index_ade20k.pkl",
    ],
}


@pytest.mark.parametrize(
    ("source", "lost"), [(source, path) for source, paths in ABSENT.items() for path in paths]
)
def test_half_extracted_set_says_what_is_missing_and_how_to_get_it(
    tmp_path: Path, source: str, lost: str
) -> None:
    WRITERS[source](tmp_path)
    name = next(key for key, value in DATASETS.items() if value.source == source)
    build_dataset(name, "train", tmp_path)
    (tmp_path / lost).unlink()
    with pytest.raises(
        FileNotFoundError, match=f"{Path(lost).name}.*infoclip-lite data download {source} --root {tmp_path}"
    ):
        build_dataset(name, "train", tmp_path)


@pytest.mark.parametrize("name", DATASETS)
def test_missing_set_says_which_command_gets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("INFOCLIP_LITE_DATA", str(tmp_path / "nothing"))
    with pytest.raises(
        FileNotFoundError, match=f"nothing.*`infoclip-lite data download {DATASETS[name].source}`"
    ):
        build_dataset(name, "val")


def test_root_is_the_argument_then_the_variable_then_the_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("INFOCLIP_LITE_DATA", str(tmp_path))
    assert data_root("/x") == Path("/x") and data_root() == tmp_path
    monkeypatch.delenv("INFOCLIP_LITE_DATA")
    assert data_root() == Path.home() / ".cache" / "infoclip_lite" / "data"


def test_fewer_pictures_than_official_are_said(tmp_path: Path) -> None:
    real_data.write_coco(tmp_path)
    with pytest.warns(UserWarning, match="has 2 pictures; the official val split has 5000"):
        build_dataset("coco_stuff", "val", tmp_path)


@pytest.mark.parametrize(
    ("name", "path", "write", "wrong"),
    [
        ("coco_stuff", "coco-stuff/annotations/val2017/000000000139.png", real_data.grey_png, 182),
        ("pas20", "VOCdevkit/VOC2012/SegmentationClass/2007_000033.png", real_data.palette_png, 21),
        ("a150", "ADEChallengeData2016/annotations/validation/ADE_val_00000001.png", real_data.grey_png, 151),
    ],
)
def test_wrong_labels_are_named(tmp_path: Path, name: str, path: str, write: Callable, wrong: int) -> None:
    WRITERS[DATASETS[name].source](tmp_path)
    write(tmp_path / path, real_data.labels([0, 1, wrong]))
    dataset = build_dataset(name, "val", tmp_path)
    with pytest.raises(ValueError, match=rf"{Path(path).name} has the labels \[{wrong}\]"):
        dataset[0]


def test_labels_beyond_459_or_in_colour_or_of_another_size_are_refused(tmp_path: Path) -> None:
    real_data.write_context(tmp_path)
    mat = tmp_path / "VOCdevkit/VOC2010/trainval/2008_000002.mat"
    scipy.io.savemat(mat, {"LabelMap": real_data.labels([1, 460], dtype=np.uint16)})
    with pytest.raises(ValueError, match=r"labels \[460\]"):
        build_dataset("pc459", "val", tmp_path)[0]
    real_data.write_ade150(tmp_path)
    png = tmp_path / "ADEChallengeData2016/annotations/validation/ADE_val_00000001.png"
    Image.new("RGB", (32, 24)).save(png)
    with pytest.raises(ValueError, match="one label a pixel"):
        build_dataset("a150", "val", tmp_path)[0]
    real_data.grey_png(png, real_data.labels([1], (24, 31)))
    with pytest.raises(ValueError, match=r"\(24, 32\).*\(24, 31\).*same size"):
        build_dataset("a150", "val", tmp_path)[0]


@pytest.mark.parametrize("file", ["images/val2017/000000000139.jpg", "annotations/val2017/000000000139.png"])
def test_truncated_file_is_named(tmp_path: Path, file: str) -> None:
    real_data.write_coco(tmp_path)
    path = tmp_path / "coco-stuff" / file
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=f"{path} cannot be decoded"):
        build_dataset("coco_stuff", "val", tmp_path)[0]


def test_pictures_are_not_turned_by_their_exif_tag(tmp_path: Path) -> None:
    real_data.write_coco(tmp_path)
    path = tmp_path / "coco-stuff/images/val2017/000000000139.jpg"
    tag = Image.Exif()
    tag[0x0112] = 6
    Image.open(path).save(path, exif=tag, quality=95)
    assert build_dataset("coco_stuff", "val", tmp_path)[0].image.shape == (3, 24, 32)


def test_unknown_names_and_splits_are_refused_with_a_hint(root: Path) -> None:
    with pytest.raises(ValueError, match="did you mean 'coco_stuff'"):
        build_dataset("coco-stuff", "val", root)
    with pytest.raises(ValueError, match="did you mean 'collage'"):
        build_dataset("colage", "val", root)
    with pytest.raises(ValueError, match="expected one of collage"):
        build_dataset("zzz", "val", root)
    for name in DATASETS:
        with pytest.raises(ValueError, match="unknown split 'test'.*'val'"):
            build_dataset(name, "test", root)


def test_collage_needs_no_root() -> None:
    dataset = build_dataset("collage", "test", size=32, length=3)
    assert isinstance(dataset, Collage) and dataset[0].image.shape == (3, 32, 32)


def test_verify_counts_and_reads(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    findings = {(f.dataset, f.split): f for f in verify_dataset("voc", root, sample=0)}
    assert set(findings) == {(n, s) for n in ("voc_zss", "pas20", "pas20b") for s in ("train", "val")}
    val = findings["pas20", "val"]
    assert (val.pictures, val.official, val.checked, val.classes, val.ignored) == (1, 1449, 1, "2 of 20", 0.5)
    assert val.problems == ["1 pictures; expected 1,449"]
    monkeypatch.setitem(DATASETS["a150"].official, "val", 2)
    assert [f.problems for f in verify_dataset("a150", root) if f.split == "val"] == [[]]


def test_verify_finds_every_broken_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    real_data.write_coco(tmp_path, {"000000000139": [0, 200]})
    photo = tmp_path / "coco-stuff/images/val2017/000000000285.jpg"
    photo.write_bytes(photo.read_bytes()[:200])
    finding = next(
        f for f in verify_dataset("coco_stuff", tmp_path) if f.split == "val" and f.dataset == "coco_stuff"
    )
    assert (
        len(finding.problems) == 3
        and "[200]" in finding.problems[1]
        and "000000000285.jpg cannot be decoded" in finding.problems[2]
    )
    with pytest.raises(ValueError, match="coco_stuff is not what it should be"):
        data_command("verify", "coco_stuff", root=tmp_path)
    assert "000000000285.jpg cannot be decoded" in capsys.readouterr().out


def test_verify_names_the_first_ten_missing_files_and_the_command_that_mends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    real_data.write_coco(tmp_path)
    photos = tmp_path / "coco-stuff/images/val2017"
    for number in range(12):
        grey = tmp_path / f"coco-stuff/annotations/val2017/{number:012d}.png"
        grey.write_bytes(b"")
    with pytest.raises(
        ValueError, match=f"`infoclip-lite data download coco_stuff --root {tmp_path} --again`"
    ):
        data_command("verify", "coco_stuff_zss", root=tmp_path)
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("coco_stuff_zss val: ")]
    assert said[0] == f"coco_stuff_zss val: no {photos / '000000000000.jpg'}"
    assert len(said) == 11 and said[-1] == "coco_stuff_zss val: and 2 more"


def test_survey_says_what_is_there(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert all(f.pictures for f in survey(root)) and not any(f.pictures for f in survey(tmp_path))
    data_command("list", root=root)
    table = capsys.readouterr().out
    assert str(root) in table and all(name in table for name in DATASETS)
