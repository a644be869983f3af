"""PASCAL VOC 2012 with the further training labels of SBD: PAS-20, PAS-20b, zero-shot 15/5, PASCAL-5i.

VOCtrainval_11-May-2012.tar, and for training benchmark.tgz (SBD):

    root/VOCdevkit/VOC2012/{JPEGImages,SegmentationClass,ImageSets/Segmentation}
    root/benchmark_RELEASE/dataset/{cls,train.txt,val.txt}

Words of whole pictures, for trainings without masks, are those of root/VOCdevkit/VOC2012/Annotations, which
the same archive has for every picture.

VOC's labels are palette PNGs: 0 background, 1..20 classes, 255 the border of objects and what is hard to
tell. SBD's are .mat files without a border.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from ...core.labels import IGNORE
from ..fetching.files import check_files, read_list, split_of
from ..pictures import Pictures, decoded, lookup_table, read_png
from .classes import VOC_UNSEEN, class_table

BACKGROUND = 20


def pascal_voc(
    root: Path,
    split: str,
    *,
    background: bool = False,
    zero_shot: bool = False,
    fold: int | None = None,
    synonyms: bool = False,
    others: bool = True,
    sbd: bool = True,
) -> Pictures:
    """VOC 2012: 1,449 pictures of val, or 10,582 of train (VOC's own 1,464, and SBD's that are not in val).

    Args:
        root: folder of the data sets.
        split: "train" or "val".
        background: False ignores background (PAS-20). True makes it class 20 (PAS-20b): beside the 20 names
            the 39 other names of PC-59 are encoded, and each of them counts as background.
        zero_shot: marks the five unseen classes of the 15/5 split.
        fold: marks those of a fold of PASCAL-5i in their place: 0 .. 3, of five classes each in VOC's order.
            PASCAL-5i trains on pictures without them and asks for one class at a time; here their pixels are
            ignored in training, and all classes compete [O].
        synonyms: encode synonyms beside the names that the papers encode.
        others: False encodes the word "background" and not those 39 names, for a model that was trained to
            say it.
        sbd: False trains on VOC's own 1,464, without SBD's download; the split is then called "train without
            SBD", for the papers' numbers are from 10,582.

    Raises:
        FileNotFoundError: files are missing; says which, and how to get them.
        ValueError: unknown split, or a fold that is none.
    """
    if fold is not None and fold not in range(4):
        raise ValueError(f"fold is {fold}; expected one of PASCAL-5i's 0 .. 3")
    few = split_of(split) == "train" and not sbd
    files = _own(root, split) if few or split == "val" else _train(root)
    check_files(files, "voc", root)
    table = class_table("voc")
    names, words = list(table.names), list(table.synonyms if synonyms else table.words)
    labels = {label: i for i, label in enumerate(table.labels)}
    if background:
        # The words of PC-59 that are no class of VOC stand for what lies behind: grass, sky, wall.
        names.append("background")
        labels[0] = BACKGROUND
        named = class_table("pc59").words if others else ["background"]
        words += [word for word in named if word not in table.words]
    return Pictures(
        files,
        names,
        lookup_table(labels, [255] if background else [0, 255], IGNORE),
        split="train without SBD" if few else split,
        unseen=_unseen(table.names, zero_shot, fold),
        words=words,
        owners=[min(i, BACKGROUND) for i in range(len(words))],
        read=read_voc_labels,
        shown=read_voc_objects,
    )


def _unseen(names: Sequence[str], zero_shot: bool, fold: int | None) -> list[int]:
    """Class ids that are not learnt from."""
    if fold is not None:
        return list(range(5 * fold, 5 * fold + 5))
    return [names.index(name) for name in VOC_UNSEEN] if zero_shot else []


def _own(root: Path, which: str) -> list[tuple[str, str]]:
    voc = root / "VOCdevkit" / "VOC2012"
    stems = read_list(voc / "ImageSets" / "Segmentation" / f"{which}.txt", "voc", root)
    return [(f"{voc}/JPEGImages/{stem}.jpg", f"{voc}/SegmentationClass/{stem}.png") for stem in stems]


def _train(root: Path) -> list[tuple[str, str]]:
    """VOC's finer labels where there are any; SBD's pictures are all among VOC's."""
    files = _own(root, "train")
    own = {Path(picture).stem for picture, _ in (*files, *_own(root, "val"))}
    sbd = root / "benchmark_RELEASE" / "dataset"
    stems = {stem for which in ("train", "val") for stem in read_list(sbd / f"{which}.txt", "voc", root)}
    photos = root / "VOCdevkit" / "VOC2012" / "JPEGImages"
    return [*files, *((f"{photos}/{stem}.jpg", f"{sbd}/cls/{stem}.mat") for stem in sorted(stems - own))]


def read_voc_labels(path: str) -> np.ndarray:
    """(H, W) uint8 of a VOC palette PNG or an SBD .mat."""
    if path.endswith(".mat"):
        import scipy.io  # here: it takes long to load, and pictures without .mat files need none of it

        return scipy.io.loadmat(path, variable_names=["GTcls"])["GTcls"][0]["Segmentation"][0]
    return read_png(path)


def read_voc_objects(path: str) -> list[str]:
    """The names of the objects of a picture of VOC, as its annotation lists them, difficult ones too [C].

    Args:
        path: of the picture, .../JPEGImages/NAME.jpg.

    Raises:
        FileNotFoundError: no annotation beside it.
        DamagedFile: it is no XML.
    """
    picture = Path(path)
    annotation = picture.parent.parent / "Annotations" / f"{picture.stem}.xml"
    if not annotation.is_file():
        raise FileNotFoundError(
            f"no {annotation}; expected what VOCtrainval_11-May-2012.tar has: unpack its Annotations too"
        )
    objects = decoded(lambda file: ElementTree.parse(file).findall("object"), str(annotation))
    # The name of the object alone: parts of persons (head, hand, foot) have names of their own inside.
    return [str(each.findtext("name")) for each in objects]
