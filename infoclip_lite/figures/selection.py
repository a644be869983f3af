"""Which positions Chimera-Seg learns from: `compute_selection` finds them, `plot_selection` draws them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..clip import DenseCLIP
from ..datasets import Collage
from ..datasets.collage import stuff
from ..objectives.chimera import Schedule, positions_kept, select

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class SelectionView:
    """What `compute_selection` found on one scene, on CLIP's grid of h x w patches.

    Attributes:
        image: (3, H, W) floats in [0, 1].
        objects: (h, w) share of each patch's pixels that show a noun, 0 .. 1; the rest is background.
        outline: (H, W) bool, the pixels that show a noun.
        similarity: (h, w) cosine between the picture's CLS embedding and the patch's.
        kept: (h, w) bool, the `count` positions most similar to CLS.
        count: K.
        progress: share of the training that is over, 0 .. 1.
        on_objects: share of the kept patches' area that shows a noun.
        chance: the same of all patches, which is what K patches drawn at random show on average.
    """

    image: Tensor
    objects: Tensor
    outline: Tensor
    similarity: Tensor
    kept: Tensor
    count: int
    progress: float
    on_objects: float
    chance: float


@torch.no_grad()
def compute_selection(
    clip: DenseCLIP,
    scene: int = 0,
    progress: float = 0.0,
    *,
    schedule: Schedule = "cosine",
    smallest: int = 16,
    read_outs: Sequence[str] | None = None,
    size: int = 64,
) -> SelectionView:
    """Which patches of a validation scene resemble CLS most, and how many are kept at this progress.

    Args:
        clip: the frozen teacher.
        scene: index of a scene of Collage's "val".
        progress: share of the training that is over, 0 .. 1.
        schedule, smallest: of K; see `objectives.positions_kept` (2506.22032, our reading [I]).
        read_outs: one or several, which are averaged as in training; None takes the model's own.
        size: side of the scene in pixels, a multiple of CLIP's patch.

    Raises:
        ValueError: an unknown schedule or read-out, a progress outside 0 .. 1, a size that is no multiple
            of the patch, more positions to keep than there are, or no read-out.
        IndexError: a scene that the split does not have.
    """
    chosen = clip.read_outs if read_outs is None else read_outs
    if size % clip.patch_size or not chosen:
        wanted = f"a multiple of {clip.patch_size} pixels and at least one name"
        raise ValueError(f"got size={size} and read_outs={read_outs!r}; expected {wanted}")
    scenes = Collage("val", size=size)
    image, mask, *_ = scenes[scene]
    # What has a shape of its own is a noun; grass and sky are where it stands.
    outline = torch.tensor([name not in stuff() for name in scenes.names])[mask]
    batch = image[None].to(clip.device)
    summary, maps = clip.encode_both(batch, chosen)
    dense = maps.flatten(2).mT
    side = size // clip.patch_size
    count = positions_kept(progress, side * side, smallest, schedule)
    kept = torch.zeros(side * side, dtype=torch.bool)
    kept[select(summary, dense, count)[0].cpu()] = True
    objects = F.avg_pool2d(outline[None].float(), clip.patch_size)[0]
    return SelectionView(
        image=image,
        objects=objects,
        outline=outline,
        similarity=(dense[0] @ summary[0]).cpu().unflatten(0, (side, side)),
        kept=kept.unflatten(0, (side, side)),
        count=count,
        progress=progress,
        on_objects=float(objects.flatten()[kept].mean()),
        chance=float(objects.mean()),
    )


def plot_selection(*views: SelectionView, height: float = 2.0) -> Figure:
    """The scene, its similarity to CLS, and for each view the picture with only the kept patches in colour.

    Objects are outlined in white; under each title stands how much of the kept area shows objects.

    Args:
        views: of one scene, at one or several points of a training.
        height: of a panel in inches.

    Raises:
        ValueError: no view.
    """
    if not views:
        raise ValueError("got no view; expected what compute_selection gives, once or more")
    first = views[0]
    side = first.image.shape[-1]
    size = (height * (len(views) + 2.4), height + 0.5)
    figure, axes = plt.subplots(1, len(views) + 2, figsize=size, layout="constrained")
    picture = first.image.permute(1, 2, 0).numpy()
    axes[0].imshow(picture)
    axes[0].set_title(f"scene\n{first.chance:.0%} objects", fontsize=9)
    drawn = axes[1].imshow(first.similarity.numpy(), cmap="viridis", extent=(0, side, side, 0))
    axes[1].set_title("similarity\nto CLS", fontsize=9)
    figure.colorbar(drawn, ax=axes[1], label="cosine", shrink=0.7)
    for axis, view in zip(axes[2:], views, strict=True):
        patch = side // view.kept.shape[0]
        full = view.kept.numpy().repeat(patch, 0).repeat(patch, 1)[..., None]
        # What is left out stays visible as a pale grey picture: one sees what was not chosen.
        axis.imshow(np.where(full, picture, 0.75 + 0.15 * picture.mean(-1, keepdims=True)))
        kept = f"K = {view.count}\n{view.on_objects:.0%} objects"
        axis.set_title(f"progress {view.progress:g}: {kept}", fontsize=9)
    for axis in axes:
        if first.outline.any() and not first.outline.all():
            axis.contour(first.outline.numpy(), [0.5], colors="white", linewidths=0.9)
        axis.axis("off")
    return figure
