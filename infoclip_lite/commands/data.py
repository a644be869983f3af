"""infoclip-lite data: what there is, fetched, checked, rebuilt."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from ..core.files import data_dir
from ..core.reports import list_reports


def data_command(
    action: Annotated[Literal["list", "download", "verify", "rebuild"], tyro.conf.Positional],
    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")] = "collage",
    root: Path | None = None,
    sample: int = 200,
    sources: Path | None = None,
) -> None:
    """Data: what there is, fetch the real data sets, check them, rebuild Collage from its Debian packages.

    Args:
        action: list, download, verify or rebuild.
        name: collage (ships; its hashes are checked), or voc, coco_stuff, pascal_context, ade20k,
            ade20k_full, or one data set of `list`.
        root: folder of the real data sets; INFOCLIP_LITE_DATA, or ~/.cache/infoclip_lite/data, by default.
        sample: for verify, how many pictures of each split are read; 0 reads all.
        sources: for rebuild, a folder with the .deb files; without it they are fetched by apt-get.
    """
    if action == "list":
        _show(root)
    elif action == "download":
        from ..datasets.fetching.download import download

        download(name, root, progress=True)
    elif action == "verify" and name != "collage":
        _verify(name, root, sample)
    else:
        _collage(sources, again=action == "rebuild")


def _show(root: Path | None) -> None:
    """What ships, and what of the real data sets is here. Knows no picture, so that it needs no torch."""
    from ..datasets.collage import Collage
    from ..datasets.fetching.files import data_root
    from ..datasets.fetching.verify import survey, table
    from ..training.recipe import list_recipes

    scenes = Collage("test")
    print(f"collage       {len(scenes.names)} classes, {len(scenes.unseen)} of them unseen nouns")
    print(f"recipes       {', '.join(list_recipes())}")
    print(f"reports       {', '.join(list_reports())}")
    print(f"root          {data_root(root)}\n\n{table(survey(root), problems=False)}")


def _verify(name: str, root: Path | None, sample: int) -> None:
    from ..datasets.fetching.verify import table, verify_dataset

    findings = verify_dataset(name, root, sample=sample, progress=True)
    print(table(findings))
    # After the table, since the table says what is wrong; an error, so that a script stops here.
    if any(finding.problems for finding in findings):
        raise ValueError(f"{name} is not what it should be; see above")


def _collage(sources: Path | None, *, again: bool) -> None:
    from ..datasets.collage.pack import rebuild, verify

    folder = data_dir() / "collage"
    if again:
        rebuild(folder, sources)
    print(f"{verify(folder)} pictures in {folder}, every hash right")
