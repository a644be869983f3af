"""Where the official files are, and how they come into their places."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ...core.files import whole_file
from ...core.lookup import nearest
from ..registry import DATASETS, downloadable
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
        size: in bytes, where somebody says it.
        size_from: who says it, and how sure that is. A file of another size is told of, and taken.
    """

    urls: tuple[str, ...]
    name: str
    digest: str
    into: str
    makes: tuple[str, ...]
    size: int | None = None
    size_from: str = ""


@dataclass(frozen=True)
class Source:
    """What a data set is made of.

    Attributes:
        archives: its files.
        addresses: where the addresses stand, and how sure that is.
        digests: who publishes the digests.
        by_hand: what to do where a server wants a registration, or is gone.
        limits: of unpacking.
    """

    archives: tuple[Archive, ...]
    addresses: str
    digests: str = "none published"
    by_hand: str = ""
    limits: Limits = LIMITS


_TFDS = "[C] TensorFlow Datasets, url_checksums"


def _voc(year: str, day: str, md5: str, size: int | None = None, size_from: str = "") -> Archive:
    name, folder = f"VOCtrainval_{day}-May-{year}.tar", f"VOCdevkit/VOC{year}"
    servers = ("https://thor.robots.ox.ac.uk", "http://host.robots.ox.ac.uk")  # the newer one first
    urls = tuple(f"{server}/pascal/VOC/voc{year}/{name}" for server in servers)
    makes = (f"{folder}/JPEGImages", f"{folder}/ImageSets")
    return Archive(urls, name, f"md5:{md5}", ".", makes, size, size_from)


# Addresses and MD5 of VOC and SBD are torchvision's, as a test sees to: to read them there would load torch.
_VOC_2012 = _voc(
    "2012", "11", "6cd6e144f989b92b3379bac3b3de84fd", 1_999_639_040, f"{_TFDS}/voc.txt, of a mirror's copy"
)
_VOC_2010 = _voc("2010", "03", "da459979d0c395079b5c75ee67908abb")
_BERKELEY = "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping"
_SBD = Archive(
    (f"{_BERKELEY}/semantic_contours/benchmark.tgz",),
    "benchmark.tgz",
    "md5:82b4d87ceb2ed10f6038a1cba92111cb",
    ".",
    ("benchmark_RELEASE/dataset/cls",),
)
_ADE20K = "groups.csail.mit.edu/vision/datasets/ADE20K/request_data"
_MAILED = "which mails you the address of version 2021_17_01."
_REGISTER = f"The full release needs a registration: ask at {_ADE20K}, {_MAILED}"
_CALVIN = "http://calvin.inf.ed.ac.uk/wp-content/uploads/data"
_COCO = "http://images.cocodataset.org/zips"
_CONTEXT = "https://roozbehm.info/pascal-context"
SOURCES: dict[str, Source] = {
    "voc": Source(
        (_VOC_2012, _SBD),
        "[C] torchvision, datasets/voc.py and sbd.py",
        "[C] torchvision",
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
                19_336_861_798,
                f"{_TFDS}/coco2017.txt",
            ),
            Archive(
                (f"{_COCO}/val2017.zip",),
                "val2017.zip",
                "sha256:4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
                "coco-stuff/images",
                ("coco-stuff/images/val2017",),
                815_585_330,
                f"{_TFDS}/coco2017.txt",
            ),
            Archive(
                (f"{_CALVIN}/cocostuffdataset/stuffthingmaps_trainval2017.zip",),
                "stuffthingmaps_trainval2017.zip",
                "",
                "coco-stuff/annotations",
                ("coco-stuff/annotations/train2017", "coco-stuff/annotations/val2017"),
                # "659 MB" there, which may be either kind of megabyte: for the free space alone.
                659 * 2**20,
                "[P] nightrome/cocostuff, README.md, to a megabyte",
            ),
        ),
        "[P] nightrome/cocostuff, README.md",
        "[C] TensorFlow Datasets, for the pictures",
        "The label maps are also linked from github.com/nightrome/cocostuff.",
    ),
    "pascal_context": Source(
        (
            _VOC_2010,
            Archive(
                (
                    f"{_CONTEXT}/trainval.tar.gz",
                    "https://www.cs.stanford.edu/~roozbeh/pascal-context/trainval.tar.gz",
                ),
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
        "[C] torchvision, for the pictures; of the labels from memory",
        "[C] torchvision, for the pictures",
        "trainval.tar.gz and labels.txt are linked from www.cs.stanford.edu/~roozbeh/pascal-context.",
    ),
    "ade20k": Source(
        (
            Archive(
                ("http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",),
                "ADEChallengeData2016.zip",
                "sha1:219e1696abb36c8ba3a3afe7fb2f4b4606a897c7",
                ".",
                (
                    "ADEChallengeData2016/images",
                    "ADEChallengeData2016/annotations",
                    "ADEChallengeData2016/sceneCategories.txt",
                ),
                967_382_037,
                f"{_TFDS}/ade20k.txt",
            ),
        ),
        "[C] GluonCV; mmsegmentation, dataset_prepare.md",
        "[C] GluonCV",
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
        "mailed to whoever registers",
        by_hand=_REGISTER,
    ),
}


def download(
    name: str,
    root: str | Path | None = None,
    *,
    again: bool = False,
    tries: int = 5,
    progress: bool = False,
    say: Callable[[str], None] = print,
) -> None:
    """Fetch and unpack the files of a data set; the same call goes on where an earlier one stopped.

    Args:
        name: of `SOURCES`, or a data set of `DATASETS` (pas20 comes from voc).
        root: folder of the data sets; see `build_dataset`.
        again: unpack what was unpacked before over what is there; a kept archive that is damaged is fetched
            anew.
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
        whole = record.is_file() and all((place / path).exists() for path in archive.makes)
        if whole and not again:
            say(f"{archive.name}: is there")
            continue
        path = kept / archive.name
        # An archive that is there already, perhaps got by hand, is checked like one that was fetched.
        if path.is_file() and not (again and archive.urls and _is_damaged(path, archive.digest)):
            check_digest(path, archive.digest)
        else:
            _obtain(archive, path, source, tries, progress)
        sha256 = hash_file(path)
        size = path.stat().st_size
        say(f"{archive.name}: {size:,} bytes, SHA-256 {sha256}")
        if archive.size is not None and size != archive.size:
            say(f"  note: {archive.size:,} bytes were expected ({archive.size_from})")
        if archive.digest:
            say(f"  checked against {archive.digest} ({source.digests})")
        else:
            say("  no digest is published; this one is recorded")
        _place(archive, path, place, source.limits, say)
        # Written last: a record says that its archive is unpacked, so that the next call passes it over.
        with whole_file(record) as scratch:
            known = {
                "urls": archive.urls,
                "sha256": sha256,
                "published": archive.digest or None,
                "bytes": size,
            }
            scratch.write_text(json.dumps(known, indent=1) + "\n")
    say(f"look at it with `infoclip-lite data verify {name}`; the archives in {kept} are no longer needed")


def _is_damaged(path: Path, digest: str) -> bool:
    """Whether a kept archive has another digest than the published one."""
    try:
        check_digest(path, digest)
    except ValueError:
        return True
    return False


def source_of(name: str) -> str:
    """The name of the source of a data set.

    Raises:
        ValueError: no such data set, or one that needs no download.
    """
    if name in SOURCES:
        return name
    known = downloadable()
    if name in known:
        return str(known[name].source)
    if name in DATASETS:
        raise ValueError(f"{name} needs no download; expected one of {', '.join([*SOURCES, *known])}")
    raise ValueError(f"unknown data set {name!r}; {nearest(name, [*SOURCES, *known])}")


def datasets_of(name: str) -> list[str]:
    """The data sets that a name stands for: itself, or all that come from a source."""
    known = downloadable()
    if name in known:
        return [name]
    source = source_of(name)
    return [key for key, entry in known.items() if entry.source == source]


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
        hint = "expected the official archive"
        raise ValueError(f"{path} was unpacked, but {', '.join(absent)} is not there; {hint}")
