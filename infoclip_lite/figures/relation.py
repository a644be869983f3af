"""The relation of one word and the picture, before and after: teacher, LPAM, plain fine-tuning, InfoCLIP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..clip import DenseCLIP
from ..core.files import data_dir, whole_file
from ..datasets.collage import Collage
from ..objectives import relation
from ..studies.repair import BEST, variants
from ..training.recipe import FineTuneRecipe
from ..training.run import Run, train

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLDER = Path("runs/infoclip_picture")
_LARGE = 0.2  # of the picture: a smaller object has too few patches for its map to be read by eye


@dataclass(frozen=True)
class WordView:
    """One word on one scene, in several views.

    Attributes:
        image: (3, H, W) floats in [0, 1].
        word: an unseen noun that is on it.
        truth: (H, W) bool, the pixels that show it.
        maps: title of a view -> (h, w) relation of each patch and the word.
    """

    image: np.ndarray
    word: str
    truth: np.ndarray
    maps: dict[str, np.ndarray] = field(default_factory=dict)

    def standardised(self, title: str) -> np.ndarray:
        """(H, W) the map at the picture's size, mean 0 and deviation 1, so that views can be compared."""
        values = np.asarray(self.maps[title], dtype=np.float32)
        values = (values - values.mean()) / max(float(values.std()), 1e-6)
        height, width = self.truth.shape
        return np.asarray(Image.fromarray(values).resize((width, height), Image.Resampling.BICUBIC))

    def precision(self, title: str) -> float:
        """How well the map ranks the word's pixels above the others: average precision, 1 is perfect.

        Chance is the fraction of the picture that shows the word.
        """
        from sklearn.metrics import average_precision_score

        return float(average_precision_score(self.truth.ravel(), self.standardised(title).ravel()))


def infoclip_picture(out: Path | None = None, *, folder: Path = FOLDER) -> Path:
    """Four views of a word: teacher without and with LPAM, student after plain tuning and after InfoCLIP.

    Two trainings of the study of the repair: every weight, seed 0, without an objective and with the best
    reading of InfoCLIP.

    Args:
        out: where the picture is written; data/reports/infoclip.jpg by default.
        folder: where runs are kept.
    """
    plain, ours = (
        train(variants()[f"full: {method}"].load(0), folder=folder / method.replace(", ", "-"))
        for method in ("plain", BEST["full"])
    )
    figure = relation_figure(relation_views(plain, ours))
    target = out or data_dir() / "reports" / "infoclip.jpg"
    with whole_file(target) as scratch:
        figure.savefig(scratch, format="jpeg", dpi=100, bbox_inches="tight", pil_kwargs={"quality": 75})
    return target


def relation_views(plain: Run, ours: Run, *, count: int = 3, size: int = 96) -> list[WordView]:
    """The first scenes of new instances whose largest unseen noun covers a fifth, one scene for each noun.

    Args:
        plain, ours: finished runs; `ours` with an LPAM.
        count: number of scenes.
        size: of the scenes in pixels; larger than in training, for the eye.

    Raises:
        ValueError: `ours` was trained without an LPAM.
    """
    lpam = getattr(ours.objective, "lpam", None)
    recipe, teacher = ours.recipe, ours.reference
    if lpam is None or teacher is None or not isinstance(recipe, FineTuneRecipe):
        raise ValueError(f"the run of {recipe.name!r} has no LPAM; expected one with objective infoclip")
    views: tuple[tuple[str, DenseCLIP, nn.Module | None], ...] = (
        ("teacher", teacher, None),
        ("teacher, through LPAM", teacher, lpam),
        ("student, plain", plain.model.clip, None),
        ("student, InfoCLIP", ours.model.clip, None),
    )
    # Few and large objects: what the map of a word shows has to be seen in three centimetres.
    scenes = Collage(
        "test", size, seed=1, length=400, objects=(1, 2), scale=(0.5, 0.8), seen=recipe.data.get("seen")
    )
    found: list[WordView] = []
    for scene in (scenes[index] for index in range(len(scenes))):
        fractions = {i: (scene.mask == i).float().mean().item() for i in scenes.unseen}
        label = max(fractions, key=lambda i: fractions[i])
        word = scenes.names[label]
        if fractions[label] < _LARGE or word in [view.word for view in found]:
            continue
        view = WordView(scene.image.numpy(), word, (scene.mask == label).numpy())
        for title, clip, through in views:
            view.maps[title] = _map(clip, through, scene.image, scenes.names, label)
        found.append(view)
        if len(found) == count:
            break
    return found


@torch.inference_mode()
def _map(
    clip: DenseCLIP,
    through: nn.Module | None,
    image: Tensor,
    names: Sequence[str],
    label: int,
) -> np.ndarray:
    """(h, w) relation of each patch and one word, less that of an average word."""
    dense = clip.encode_dense(image[None].to(clip.device), "value")
    text = clip.encode_text(names, ("a photo of a {}",))
    patches = dense.flatten(2).mT
    maps = relation(patches, text) if through is None else through(patches, text)
    # The word against all words: what a patch has in common with every word says nothing about this one.
    own = maps[0, :, label] - maps[0].mean(-1)
    return own.unflatten(0, dense.shape[2:]).cpu().numpy()


def relation_figure(views: Sequence[WordView], *, height: float = 2.1) -> Figure:
    """The map of one word on one scene in several views, a scene a row; the word's outline is drawn in white.

    Beside each title stands the map's average precision; see `WordView.precision`.

    Args:
        views: one a row, all with the same titles.
        height: of a row in inches.
    """
    import matplotlib.pyplot as plt

    titles = list(views[0].maps)
    columns = len(titles) + 1
    size = (height * columns, (height + 0.25) * len(views))
    figure, axes = plt.subplots(len(views), columns, figsize=size, squeeze=False, layout="constrained")
    for line, view in zip(axes, views, strict=True):
        line[0].imshow(view.image.transpose(1, 2, 0))
        line[0].set_title(f'"{view.word}"', fontsize=11)
        for axis, title in zip(line[1:], titles, strict=True):
            axis.imshow(view.standardised(title), cmap="inferno", vmin=-2, vmax=3)
            axis.contour(view.truth, [0.5], colors="white", linewidths=0.8)
            axis.set_title(f"{title}: {view.precision(title):.2f}", fontsize=9)
        for axis in line:
            axis.axis("off")
    return figure
