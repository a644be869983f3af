"""The relation of one word and the picture, before and after: teacher, LPAM, plain fine-tuning, InfoCLIP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from matplotlib.figure import Figure
from pathlib import Path

import torch

from ..core.files import data_dir, whole_file
from ..datasets.collage import Collage
from ..objectives import relation
from ..studies.infoclip import _FULL, FOLDER
from ..training.run import Run, train


def infoclip_picture(out: Path | None = None, *, folder: Path = FOLDER) -> Path:
    """One word, four views of it: teacher before and after LPAM, student after plain fine-tuning of every weight and after InfoCLIP.

    The first test scenes are taken whose largest unseen noun covers a fifth of the picture, one scene for each of three nouns.

    Args:
        out: where the picture is written; data/reports/infoclip.jpg by default.
        folder: where runs are kept.
    """
    start = train("mini/head", folder=folder / "starts" / "mini-head-0")
    runs = {name: train(f"mini/{name}", folder=folder / "picture" / name, start=start, **_FULL) for name in ("catseg", "infoclip")}
    figure = relation_figure(*relation_views(runs["catseg"], runs["infoclip"]))
    target = out or data_dir() / "reports" / "infoclip.jpg"
    with whole_file(target) as scratch:
        figure.savefig(scratch, format="jpeg", dpi=80, bbox_inches="tight", pil_kwargs={"quality": 85})
    return target


def relation_views(plain: Run, ours: Run, *, count: int = 3, size: int = 96) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows for `relation_figure`: a scene, an unseen word, where it is, and the word's map in each view.

    Args:
        plain, ours: finished runs; `ours` with an LPAM.
        count: number of scenes.
        size: of the scenes in pixels; larger than in training, for the eye.

    Returns:
        Rows {"image", "word", "truth", "maps": {title: (h, w)}}, and the titles in order.

    Raises:
        ValueError: `ours` was trained without an LPAM.
    """
    if ours.objective is None or not hasattr(ours.objective, "lpam"):
        raise ValueError(f"the run of {ours.recipe.name!r} has no LPAM; expected one with objective infoclip")
    lpam: Any = ours.objective.lpam
    recipe = ours.recipe
    scenes = Collage("test", size, seed=1, length=400, objects=(1, 2), scale=(0.5, 0.8), seen=recipe.seen)  # type: ignore[union-attr]
    teacher: Any = ours.reference
    rows: list[dict[str, Any]] = []
    for index in range(len(scenes)):
        scene = scenes[index]
        shares = {i: (scene.mask == i).float().mean().item() for i in scenes.unseen}
        label = max(shares, key=lambda i: shares[i])
        if shares[label] < 0.2 or scenes.names[label] in [row["word"] for row in rows]:
            continue
        truth = (scene.mask == label).numpy()
        with torch.inference_mode():
            rows.append({"image": scene.image, "word": scenes.names[label], "truth": truth, "maps": {}})
            for title, clip, through in (
                ("teacher", teacher, None),
                ("teacher, through LPAM", teacher, lpam),
                ("student, plain", plain.model.clip, None),
                ("student, InfoCLIP", ours.model.clip, None),
            ):
                dense = clip.encode_dense(scene.image[None], "cls_value")
                text = clip.encode_text(scenes.names, ("a photo of a {}",))
                patches = dense.flatten(2).mT
                maps = relation(patches, text) if through is None else through(patches, text)
                own = maps[0, :, label] - maps[0].mean(-1)  # the word against all words
                rows[-1]["maps"][title] = own.unflatten(0, dense.shape[2:]).numpy()
        if len(rows) == count:
            break
    return rows, list(rows[0]["maps"])


def relation_figure(rows: Sequence[Mapping[str, Any]], titles: Sequence[str], *, height: float = 2.1) -> Figure:
    """The map of one word on one scene in several views, a scene a row; the word's outline is drawn in white.

    Each map is standardised (mean 0, deviation 1), so that views on different scales can be compared; under it stands how well it ranks the
    word's pixels above the others (average precision; 1 is perfect, the pixels' share is chance).

    Args:
        rows: {"image": (3, H, W) in [0, 1], "word", "truth": (H, W) bool, "maps": {title: (h, w)}}.
        titles: of the maps, in order.
        height: of a row in inches.
    """
    import matplotlib.pyplot as plt
    from sklearn.metrics import average_precision_score

    columns = len(titles) + 1
    figure, axes = plt.subplots(
        len(rows), columns, figsize=(height * columns, (height + 0.25) * len(rows)), squeeze=False, layout="constrained"
    )
    for line, row in zip(axes, rows, strict=True):
        truth = np.asarray(row["truth"])
        line[0].imshow(np.asarray(row["image"]).transpose(1, 2, 0))
        line[0].set_title(f'"{row["word"]}"', fontsize=11)
        for axis, title in zip(line[1:], titles, strict=True):
            values = np.asarray(row["maps"][title], dtype=np.float32)
            values = (values - values.mean()) / max(float(values.std()), 1e-6)
            full = np.asarray(Image.fromarray(values).resize(truth.shape[::-1], Image.Resampling.BICUBIC))
            axis.imshow(full, cmap="inferno", vmin=-2, vmax=3)
            axis.contour(truth, [0.5], colors="white", linewidths=0.8)
            axis.set_title(f"{title}: {average_precision_score(truth.ravel(), full.ravel()):.2f}", fontsize=9)
        for axis in line:
            axis.axis("off")
    return figure
