"""Where the official files are, and how they come into their places."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torchvision.datasets import SBDataset
from torchvision.datasets.voc import DATASET_YEAR_DICT

from ...core.files import whole_file
from ..registry import DATASETS, entry
from .fetch import check_digest, fetch, hash_file
from .files import data_root
from .unpack import LIMITS, Limits, unpack


@dataclass(frozen=True)
class Archive:
    """One file of a publisher.

    Attributes:
        urls: addresses, tried in order; none where one must register.
        name: of the file.
        digest: "md5:...", "sha1:..." or "sha256:..."; "" where nobody publishes one.
        into: folder below the root that it is unpacked in, or copied to if it is no archive.
        makes: what is there afterwards, below the root.
    """

    urls: tuple[str, ...]
    name: str
    digest: str
    into: str
    makes: tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """What a data set is made of.

    Attributes:
        archives: its files.
        digests: who publishes the digests.
        by_hand: what to do where a server wants a registration, or is gone.
        limits: of unpacking.
    """

    archives: tuple[Archive, ...]
    digests: str = "none published"
    by_hand: str = ""
    limits: Limits = LIMITS


def _voc(year: str) -> Archive:
    known = DATASET_YEAR_DICT[year]
    older = f"http://host.robots.ox.ac.uk/pascal/VOC/voc{year}/{known['filename']}"
    makes = (f"{known['base_dir']}/JPEGImages", f"{known['base_dir']}/ImageSets")
    return Archive((known["url"], older), known["filename"], f"md5:{known['md5']}", ".", makes)


_COCO = "http://images.cocodataset.org/zips"
_CONTEXT = "https://roozbehm.info/pascal-context"
SOURCES: dict[str, Source] = {
    "voc": Source(
        (
            _voc("2012"),
            Archive((SBDataset.url,), SBDataset.filename, f"md5:{SBDataset.md5}", ".", ("benchmark_RELEASE/dataset/cls",)),
        ),
        "torchvision",
        "If the server of Oxford or Berkeley is gone, any mirror will do: the MD5 is checked.",
    ),
    "coco_stuff": Source(
        (
            Archive(
                (f"{_COCO}/train2017.zip",),
                "train2017.zip",
                "sha256:69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929",
                "coco-stuff/images",
                ("coco-stuff/images/train2017",),
            ),
            Archive(
                (f"{_COCO}/val2017.zip",),
                "val2017.zip",
                "sha256:4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
                "coco-stuff/images",
                ("coco-stuff/images/val2017",),
            ),
            Archive(
                ("http://calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset/stuffthingmaps_trainval2017.zip",),
                "stuffthingmaps_trainval2017.zip",
                "",
                "coco-stuff/annotations",
                ("coco-stuff/annotations/train2017", "coco-stuff/annotations/val2017"),
            ),
        ),
        "TensorFlow Datasets, for the pictures",
        "The label maps are also linked from github.com/nightrome/cocostuff.",
    ),
    "pascal_context": Source(
        (
            _voc("2010"),
            Archive(
                (f"{_CONTEXT}/trainval.tar.gz", "https://www.cs.stanford.edu/~roozbeh/pascal-context/trainval.tar.gz"),
                "trainval.tar.gz",
                "",
                "VOCdevkit/VOC2010",
                ("VOCdevkit/VOC2010/trainval",),
            ),
            Archive(
                (f"{_CONTEXT}/labels.txt", "https://www.cs.stanford.edu/~roozbeh/pascal-context/labels.txt"),
                "labels.txt",
                "",
                "VOCdevkit/VOC2010",
                ("VOCdevkit/VOC2010/labels.txt",),
            ),
        ),
        "torchvision, for the pictures",
        "trainval.tar.gz and labels.txt are linked from www.cs.stanford.edu/~roozbeh/pascal-context.",
    ),
    "ade20k": Source(
        (
            Archive(
                ("http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",),
                "ADEChallengeData2016.zip",
                "sha1:219e1696abb36c8ba3a3afe7fb2f4b4606a897c7",
                ".",
                ("ADEChallengeData2016/images", "ADEChallengeData2016/annotations", "ADEChallengeData2016/sceneCategories.txt"),
            ),
        ),
        "GluonCV",
    ),
    "ade20k_full": Source(
        (
            Archive(
                (),
                "ADE20K_2021_17_01.zip",
                "",
                ".",
                ("ADE20K_2021_17_01/images/ADE", "ADE20K_2021_17_01/index_ade20k.pkl"),
            ),
        ),
        by_hand="The full release needs a registration: ask at groups.csail.mit.edu/vision/datasets/ADE20K/request_data, "
        "which mails you the address of version 2021_17_01.",
    ),
}


def download(
    name: str, root: str | Path | None = None, *, tries: int = 5, progress: bool = False, say: Callable[[str], None] = print
) -> None:
    """Fetch and unpack the files of a data set; the same call goes on where an earlier one stopped.

    Args:
        name: of `SOURCES`, or a data set of `DATASETS` (pas20 comes from voc).
        root: folder of the data sets; see `build_dataset`.
        tries: connections in a row that may fail.
        progress: show bars.
        say: told of every step.

    Raises:
        ValueError: no such data set, a wrong digest, or an archive that is not safe to unpack.
        FileNotFoundError: the file must be got by hand; says how, and where to put it.
        OSError: no server can be reached, or the disk has not enough free space.
    """
    name, place = source_of(name), data_root(root)
    source, kept = SOURCES[name], data_root(root) / "archives"
    for archive in source.archives:
        record = kept / f"{archive.name}.json"
        if record.is_file() and all((place / path).exists() for path in archive.makes):
            say(f"{archive.name}: is there")
            continue
        path = kept / archive.name
        if path.is_file():
            check_digest(path, archive.digest)
        else:
            _obtain(archive, path, source, tries, progress)
        sha256 = hash_file(path)
        say(f"{archive.name}: {path.stat().st_size:,} bytes, SHA-256 {sha256}")
        say(
            f"  checked against {archive.digest} ({source.digests})" if archive.digest else "  no digest is published; this one is recorded"
        )
        _place(archive, path, place, source.limits, say)
        with whole_file(record) as scratch:
            known = {"urls": archive.urls, "sha256": sha256, "published": archive.digest or None, "bytes": path.stat().st_size}
            scratch.write_text(json.dumps(known, indent=1) + "\n")
    say(f"look at it with `infoclip-lite data verify {name}`; the archives in {kept} are no longer needed")


def source_of(name: str) -> str:
    """The name of the source of a data set.

    Raises:
        ValueError: no such data set.
    """
    if name == "collage":
        raise ValueError(f"collage ships with the package; expected one of {', '.join([*SOURCES, *DATASETS])}")
    return name if name in SOURCES else entry(name).source


def datasets_of(name: str) -> list[str]:
    """The data sets that a name stands for: itself, or all that come from a source."""
    return [name] if name in DATASETS else [key for key, value in DATASETS.items() if value.source == source_of(name)]


def _obtain(archive: Archive, path: Path, source: Source, tries: int, progress: bool) -> None:
    by_hand = f"{source.by_hand} Put it at {path} and run this again.".strip()
    if not archive.urls:
        raise FileNotFoundError(f"{archive.name} cannot be fetched by a program. {by_hand}")
    told: list[str] = []
    for url in archive.urls:
        try:
            return fetch(url, path, archive.digest, tries=tries, progress=progress)
        except OSError as error:
            if error.errno is not None:  # of this machine, such as a full disk: no other server helps
                raise
            told.append(str(error))
    raise OSError(f"{'; '.join(told)}. {by_hand}")


def _place(archive: Archive, path: Path, root: Path, limits: Limits, say: Callable[[str], None]) -> None:
    target = root / archive.into
    if path.suffix == ".txt":
        target.mkdir(parents=True, exist_ok=True)
        with whole_file(target / path.name) as scratch:
            scratch.write_bytes(path.read_bytes())
    else:
        say(f"  {unpack(path, target, limits):,} files unpacked in {target}")
    absent = [made for made in archive.makes if not (root / made).exists()]
    if absent:
        raise ValueError(f"{path} was unpacked, but {', '.join(absent)} is not there; expected the official archive")
