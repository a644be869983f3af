"""CLIP-ES (2212.09506): from the words that a picture shows to the pixels that show them, without training.

    softmax-GradCAM of the last block -> class-aware attention affinity -> labels where they are sure

Constants are those of the authors' code [C]. Their DenseCRF is replaced by mean-field steps over the
neighbours that PAMR weighs [O], so that no further library is needed and 0.95 is still a chance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.labels import IGNORE
from ..core.lookup import find
from .blocks import ResidualBlock, attend, feed_forward, project_out, project_qkv
from .depth import at_depth
from .model import DenseCLIP
from .readouts.cliper import balanced
from .refinements.pamr import Pamr, affinity
from .tower import TowerPass

PROMPT = "a clean origami {}."  # [C]
# What stands around things, for VOC [C]. Words that are classes of the data set are to be left out.
BACKGROUND = (
    *("ground", "land", "grass", "tree", "building", "wall", "sky", "lake", "water", "river", "sea"),
    *("railway", "railroad", "keyboard", "helmet", "cloud", "house", "mountain", "ocean", "road", "rock"),
    *("street", "valley", "bridge", "sign"),
)
FIRST = 4 / 11  # of the blocks whose attention counts: the last eight of twelve [C]
_SHARP = 20.0  # of cosines between patches [O]
_TINY = 1e-7  # below which a map is empty [C]


class Maps(NamedTuple):
    """How CLIP-ES comes to labels, for K words of a picture.

    Attributes:
        cams: (K, h, w) softmax-GradCAM, 0 .. 1 each.
        spread: (K, h, w) the same after the class-aware affinity.
        chances: (K + 1, H, W) of each word and, last, of the background; one in sum.
    """

    cams: Tensor
    spread: Tensor
    chances: Tensor

    def labels(self, sure: float) -> Tensor:
        """The confidence-guided part: what is not sure does not count.

        Args:
            sure: the least chance that a label has.

        Returns:
            (H, W) int64: the place of a word, K for the background, `IGNORE` where nothing is sure.
        """
        chance, label = self.chances.max(0)
        return label.masked_fill(chance < sure, IGNORE)


@dataclass(frozen=True)
class ClipES:
    """The settings of CLIP-ES.

    Attributes:
        near: what the affinity is made of: "attention" of the last blocks [C], or "dense", cosines of patches
            [O], for a tower whose attention is not local.
        box: share of its largest value above which a CAM is taken for the thing; whose bounding boxes are
            where the affinity may spread from [C].
        sure: the least chance that a label has [C].
        weight: of neighbours against a pixel's own map; DenseCRF's two kernels weigh 3 and 4 [C], which are
            added here [O].
        iterations: of mean field [C].
        dilations: distances of the neighbours in pixels, PAMR's own.

    Raises:
        ValueError: an unknown affinity, a share or chance outside 0 .. 1, a negative weight, or what `Pamr`
            refuses.
    """

    near: Literal["attention", "dense"] = "attention"
    box: float = 0.4
    sure: float = 0.95
    weight: float = 7.0
    iterations: int = 10
    dilations: tuple[int, ...] = (1, 2, 4, 8, 12, 24)

    def __post_init__(self) -> None:
        find(_NEAR, self.near, "affinity")
        for name, value in {"box": self.box, "sure": self.sure}.items():
            if not 0 <= value < 1:
                raise ValueError(f"{name} is {value}; expected 0 .. 1, less than 1")
        if not self.weight >= 0:
            raise ValueError(f"weight is {self.weight}; expected 0 or more")
        Pamr(iterations=self.iterations, dilations=tuple(self.dilations))  # refuses what it cannot do

    def maps(self, clip: DenseCLIP, image: Tensor, words: Tensor, around: Tensor) -> Maps:
        """CAMs, and what becomes of them.

        Args:
            clip: the frozen model.
            image: (3, H, W) floats in [0, 1].
            words: (K, D) unit vectors of the words that the picture shows; none at all is background alone.
            around: (n, D) unit vectors of words of the background.

        Returns:
            The maps, on the model's device.
        """
        image = image.to(clip.device)
        with torch.no_grad():
            tower = clip.tower(image[None], keep=True)
            near = balanced_affinity(_NEAR[self.near](clip, tower))
        cams = softmax_gradcam(clip, tower, words.to(clip.device), around.to(clip.device))
        spread = class_aware(cams, near, self.box)
        return Maps(cams, spread, self._chances(spread, image))

    def labels(self, clip: DenseCLIP, image: Tensor, words: Tensor, around: Tensor) -> Tensor:
        """Pseudo labels of a picture, as `maps` and `Maps.labels`.

        Args:
            clip, image, words, around: as for `maps`.

        Returns:
            (H, W) int64: the place of a word, K for the background, `IGNORE` where nothing is sure.
        """
        return self.maps(clip, image, words, around).labels(self.sure)

    def _chances(self, spread: Tensor, image: Tensor) -> Tensor:
        """(K + 1, H, W): maps at the picture's size, the background, and mean field."""
        size = (image.shape[1], image.shape[2])
        # A picture without words is background, and nothing but.
        if not len(spread):
            return spread.new_ones(1, *size)
        large = F.interpolate(spread[None], size, mode="bilinear", align_corners=False)[0]
        # What no word claims is background [C].
        maps = torch.cat([large, 1 - large.amax(0, keepdim=True)])
        return mean_field(maps / maps.sum(0), image, self)


def softmax_gradcam(clip: DenseCLIP, tower: TowerPass, words: Tensor, around: Tensor) -> Tensor:
    """Softmax-GradCAM at the input of the last block's attention [C].

    S = softmax(scale cos(mean of patches, words and background)); w_c = mean over patches of dS_c / dA;
    CAM_c = ReLU(sum over channels of w_c A), 0 .. 1. The softmax is what lets words compete: without it the
    gradient of one asks nothing of the others.

    Args:
        clip: the model that the pass is of.
        tower: the pass of one picture; its blocks need no gradient.
        words: (K, D) unit vectors.
        around: (n, D) unit vectors.

    Returns:
        (K, h, w) float32, without gradient.
    """
    block, entering = tower.last, tower.entering.detach()
    grid, all_words = tower.grid, torch.cat([words, around]).float()
    if not len(words):
        return entering.new_zeros(0, *grid, dtype=torch.float32)
    with torch.enable_grad():
        normed = block.ln_1(entering).detach().requires_grad_()
        # The block on tokens whose norm was taken already: it is there that the gradient is wanted.
        plain = cast(ResidualBlock, SimpleNamespace(attn=block.attn, ln_1=_same))
        mixed = project_out(block, attend(*project_qkv(plain, normed)))
        leaving = feed_forward(block, entering + mixed)
        # The mean of the patches and not CLS: through CLS the patches would hardly have a gradient [C].
        pooled = clip.visual.ln_post(leaving)[:, 1:].mean(1) @ clip.visual.proj
        logits = clip.logit_scale.float() * F.normalize(pooled.float(), dim=-1) @ all_words.T
        chances = logits.softmax(-1)[0, : len(words)]
        gradients = [torch.autograd.grad(each, normed, retain_graph=True)[0] for each in chances]
    weights = torch.cat(gradients)[:, 1:].mean(1)  # (K, W)
    cams = (normed.detach()[0, 1:] @ weights.T).T.clamp(min=0)
    return min_max(cams.float()).unflatten(1, grid)


def attention_between(clip: DenseCLIP, tower: TowerPass) -> Tensor:
    """The mean attention of patches to patches, over heads and over the last eight of twelve blocks [C].

    In a tower of another depth they are those as deep in it [O].

    Args:
        clip: not used.
        tower: the pass of one picture.

    Returns:
        (N, N) float32.
    """
    blocks = len(tower.blocks)
    maps = [tower.attention(index)[0].mean(0) for index in range(at_depth(FIRST, blocks), blocks)]
    return torch.stack(maps).mean(0)[1:, 1:].float()


def likeness_between(clip: DenseCLIP, tower: TowerPass) -> Tensor:
    """softmax(20 cos) of the value read-out's patches [O].

    Args:
        clip: the model that the pass is of.
        tower: the pass of one picture.

    Returns:
        (N, N) float32.
    """
    patches = clip.read_each(tower, ["value"])[0][0].flatten(1)  # (D, N)
    return (_SHARP * patches.T @ patches).softmax(-1)


# What the affinity of a recipe is made of.
_NEAR: dict[str, Callable[[DenseCLIP, TowerPass], Tensor]] = {
    "attention": attention_between,
    "dense": likeness_between,
}


def balanced_affinity(near: Tensor) -> Tensor:
    """Columns and rows divided by their sums, three times; made symmetric; squared [C].

    Args:
        near: (N, N), not negative.

    Returns:
        (N, N).
    """
    for _ in range(3):
        near = balanced(near)
    near = (near + near.T) / 2
    return near @ near


def class_aware(cams: Tensor, near: Tensor, box: float) -> Tensor:
    """CAMs spread along an affinity, from within the boxes of what each takes for its thing [C].

    Args:
        cams: (K, h, w), 0 .. 1.
        near: (N, N), N = h w.
        box: the value above which a CAM is inside.

    Returns:
        (K, h, w) float32, 0 .. 1 each; zero where a CAM is zero.
    """
    inside = torch.stack([boxes(cam > box) for cam in cams]) if len(cams) else cams
    # A patch takes from those inside a box: columns are masked, not rows.
    spread = (cams * inside).flatten(1) @ near.T
    return min_max(spread).view_as(cams)


def boxes(inside: Tensor) -> Tensor:
    """The bounding boxes of the connected parts of a mask, corners touching too, filled.

    The code's boxes end a row and a column early at the picture's border [C]; these do not [O].

    Args:
        inside: (h, w) bool.

    Returns:
        (h, w) float32, one in a box.
    """
    from scipy import ndimage  # here: who names the room need not wait for it

    parts, _ = ndimage.label(inside.cpu().numpy(), structure=[[1] * 3] * 3)
    filled = torch.zeros(inside.shape, device=inside.device)
    for rows, columns in ndimage.find_objects(parts):
        filled[rows, columns] = 1
    return filled


def mean_field(chances: Tensor, image: Tensor, settings: ClipES) -> Tensor:
    """Q = softmax(log P + weight x mean of the neighbours' Q), some times over; Q begins as P [O].

    DenseCRF's inference with other neighbours: those at PAMR's distances, weighed by PAMR's affinity, which
    sums to one as DenseCRF's normalised kernels do.

    Args:
        chances: (C, H, W), one in sum.
        image: (3, H, W) floats in [0, 1].
        settings: weight, iterations and dilations.

    Returns:
        (C, H, W), one in sum.
    """
    own = chances.clamp(min=_TINY).log()[None]
    step = Pamr(iterations=1, dilations=tuple(settings.dilations))
    weights = affinity(image[None], step.dilations)
    field = chances[None]
    for _ in range(settings.iterations):
        field = (own + settings.weight * step.spread(field, weights)).softmax(1)
    return field[0]


def min_max(maps: Tensor) -> Tensor:
    """Rows (K, N) from 0 to 1; one that is the same everywhere is zero."""
    low = maps.amin(-1, keepdim=True)
    return (maps - low) / ((maps - low).amax(-1, keepdim=True) + _TINY)


def words_around(names: Sequence[str], background: Sequence[str] = BACKGROUND) -> list[str]:
    """Background words that are no class of a data set, in no spelling.

    Args:
        names: of the classes, unseen ones too.
        background: to choose from.

    >>> words_around(["tree", "road sign", "sky|heaven"], ("tree", "sky", "sign", "Wall"))
    ['sign', 'Wall']
    """
    taken = {part.strip().lower() for name in names for part in name.replace("|", ",").split(",")}
    return [word for word in background if word.lower() not in taken]


def _same(tokens: Tensor) -> Tensor:
    return tokens
