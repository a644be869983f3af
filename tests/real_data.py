"""Small trees of the official layouts, with their quirks: what the tests of the real data sets read."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image

from infoclip_lite.datasets.official.classes import class_table

HEIGHT, WIDTH = 24, 32


def photo(path: Path, shape: tuple[int, int] = (HEIGHT, WIDTH), seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, *path.stem.encode()])
    Image.fromarray(rng.integers(0, 256, (*shape, 3), dtype=np.uint8)).save(path, quality=95)


def labels(values: list[int], shape: tuple[int, int] = (HEIGHT, WIDTH), dtype: type = np.uint8) -> np.ndarray:
    """Upright stripes of equal width, one for each value."""
    columns = np.arange(shape[1]) * len(values) // shape[1]
    return np.broadcast_to(np.array(values, dtype)[columns], shape).copy()


def palette_png(path: Path, array: np.ndarray) -> None:
    """A PNG of mode P in VOC's colours, as VOC's labels are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(array, mode="P")
    picture.putpalette([(i * 37 + c * 85) % 256 for i in range(256) for c in range(3)])
    picture.save(path)


def grey_png(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def write_voc(root: Path) -> None:
    """Two pictures of train, one of val, and of SBD: one of val (to be left out), one of train (to be left
    out), two more.
    """
    voc, sbd = root / "VOCdevkit" / "VOC2012", root / "benchmark_RELEASE" / "dataset"
    lists = voc / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2007_000032\n2007_000039\n")
    (lists / "val.txt").write_text("2007_000033\n")
    for stem in ("2007_000032", "2007_000039", "2007_000033", "2008_000002", "2008_000008"):
        photo(voc / "JPEGImages" / f"{stem}.jpg")
    for stem in ("2007_000032", "2007_000039", "2007_000033"):
        palette_png(voc / "SegmentationClass" / f"{stem}.png", labels([0, 255, 1, 20]))
    (sbd / "cls").mkdir(parents=True)
    (sbd / "train.txt").write_text("2008_000008\n2007_000033\n")
    (sbd / "val.txt").write_text("2008_000002\n2007_000032\n")
    for stem in ("2007_000032", "2007_000033", "2008_000002", "2008_000008"):
        cell = np.zeros(
            (1, 1), dtype=[("Boundaries", object), ("Segmentation", object), ("CategoriesPresent", object)]
        )
        cell["Segmentation"][0, 0], cell["Boundaries"][0, 0], cell["CategoriesPresent"][0, 0] = (
            labels([0, 16]),
            0,
            16,
        )
        scipy.io.savemat(sbd / "cls" / f"{stem}.mat", {"GTcls": cell})


def write_coco(root: Path, stripes: dict[str, list[int]] | None = None) -> None:
    """Three pictures of train, two of val."""
    stems = {"000000000009": "train2017", "000000000025": "train2017", "000000000030": "train2017"}
    stems |= {"000000000139": "val2017", "000000000285": "val2017"}
    for stem, split in stems.items():
        photo(root / "coco-stuff" / "images" / split / f"{stem}.jpg")
        values = (stripes or {}).get(stem, [0, 12, 181, 255])
        grey_png(root / "coco-stuff" / "annotations" / split / f"{stem}.png", labels(values))


def context_names() -> list[str]:
    """459 names in which the 59 stand where labels.txt has them."""
    table = class_table("pc59")
    names = [f"thing{i}" for i in range(1, 460)]
    for label, name in zip(table.labels, table.names, strict=True):
        names[label - 1] = "table" if name == "diningtable" else name
    return names


def write_context(root: Path) -> None:
    """One picture of train, two of val; .mat files with LabelMap in 1..459."""
    voc = root / "VOCdevkit" / "VOC2010"
    lists = voc / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2008_000007\n")
    (lists / "val.txt").write_text("2008_000002\n2008_000003\n")
    (voc / "trainval").mkdir()
    for stem in ("2008_000007", "2008_000002", "2008_000003"):
        photo(voc / "JPEGImages" / f"{stem}.jpg")
        scipy.io.savemat(
            voc / "trainval" / f"{stem}.mat", {"LabelMap": labels([2, 397, 459, 1], dtype=np.uint16)}
        )
    (voc / "labels.txt").write_text("".join(f"{i}: {name}\n" for i, name in enumerate(context_names(), 1)))


def write_ade150(root: Path) -> None:
    """One picture of train, two of val."""
    ade = root / "ADEChallengeData2016"
    scenes = {
        "ADE_train_00000001": "training",
        "ADE_val_00000001": "validation",
        "ADE_val_00000002": "validation",
    }
    for stem, folder in scenes.items():
        photo(ade / "images" / folder / f"{stem}.jpg")
        grey_png(ade / "annotations" / folder / f"{stem}.png", labels([0, 1, 150]))
    (ade / "sceneCategories.txt").write_text("".join(f"{stem} airport_terminal\n" for stem in scenes))


def full_png(path: Path, classes: np.ndarray) -> None:
    """The colours of the full release: R = class // 256 * 10, G = class % 256, B = the instance."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colours = np.stack(
        [classes // 256 * 10, classes % 256, np.arange(classes.size).reshape(classes.shape) % 256], -1
    )
    Image.fromarray(colours.astype(np.uint8)).save(path)


def write_ade_full(root: Path, shape: tuple[int, int] = (HEIGHT, WIDTH)) -> None:
    """One picture of train, one of val, two folders deep, and the index as a pickle with NumPy arrays."""
    ade, folders = root / "ADE20K_2021_17_01", []
    names = ["ADE_train_00000001.jpg", "ADE_val_00000001.jpg"]
    for name in names:
        part = "training" if "train" in name else "validation"
        folders.append(f"ADE20K_2021_17_01/images/ADE/{part}/urban/street")
        photo(root / folders[-1] / name, shape)
        full_png(root / folders[-1] / f"{name[:-4]}_seg.png", labels([0, 2978, 3148, 1], shape, np.int64))
    index = {
        "filename": names,
        "folder": folders,
        "objectPresence": np.arange(4),
        "objectnames": ["-"] * 3688,
    }
    (ade / "index_ade20k.pkl").write_bytes(pickle.dumps(index))
