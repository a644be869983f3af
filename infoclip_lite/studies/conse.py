"""ConSE, a control without any training: convex combination of semantic embeddings (1312.5650).

An ImageNet classifier's probabilities times the sentence embeddings of its classes' names give an image
embedding in the space of words, and so a score for any word. What a small CLIP adds to that is what its
captions taught it. Here EfficientNet-Lite0 and all-MiniLM-L6-v2, whose weights come with two packages.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ..clip.stem import MEAN, STD, lite0_weights
from ..core.reports import JsonObject, write_report
from ..datasets.collage import Collage, all_nouns, photographs
from ..evaluation.metrics import SegmentationMetrics
from ..evaluation.probes import mean_average_precision
from ..training.class_teacher import class_names
from ..training.sentence_encoder import embed_words
from .rows import SPLITS

if TYPE_CHECKING:
    from timm.models import EfficientNet

_TEMPLATES = ("a photo of a {}",)
_SIDE = 224  # pixels that the classifier was trained at


@cache
def classifier() -> EfficientNet:
    """EfficientNet-Lite0 with its 1,000 ImageNet classes, frozen.

    Raises:
        FileNotFoundError: the package with the weights is not installed.
    """
    from timm.models.efficientnet import tf_efficientnet_lite0  # here: seconds to load

    given = lite0_weights().values()
    model = tf_efficientnet_lite0(pretrained=False)
    # The names are others, the order and the shapes the same; a slip is an error of load_state_dict.
    model.load_state_dict(dict(zip(model.state_dict(), given, strict=True)))
    return model.eval().requires_grad_(False)


def conse_text(names: Sequence[str]) -> Tensor:
    """Words in the space of sentences: (C, 384) unit vectors.

    Raises:
        FileNotFoundError: the package with the sentence encoder is not installed.
    """
    return embed_words(names, _TEMPLATES)


@cache
def _class_words() -> Tensor:
    return conse_text(class_names())


@torch.no_grad()
def conse_image(images: Tensor, *, top: int = 1000) -> Tensor:
    """One embedding for each image.

    Args:
        images: (B, 3, H, W) floats in [0, 1]; about 224 pixels a side is what the classifier knows.
        top: how many of the most probable classes are combined; the paper's T.

    Returns:
        (B, 384) unit vectors.

    Raises:
        ValueError: `top` is not 1 .. 1000.
        FileNotFoundError: a package with weights is not installed.
    """
    return _combine(classifier()(_normalised(images)), top)


@torch.no_grad()
def conse_dense(images: Tensor, *, top: int = 1000) -> Tensor:
    """One embedding for each cell of 32 pixels: the classifier applied at every place.

    Args:
        images: (B, 3, H, W) floats in [0, 1].
        top: as for `conse_image`.

    Returns:
        (B, 384, h, w) unit vectors, h = ceil(H / 32).

    Raises:
        ValueError: `top` is not 1 .. 1000.
        FileNotFoundError: a package with weights is not installed.
    """
    features = classifier().forward_features(_normalised(images))
    logits = classifier().get_classifier()(features.movedim(1, -1))  # (B, h, w, 1000)
    return _combine(logits, top).movedim(-1, 1)


def _normalised(images: Tensor) -> Tensor:
    return (images - MEAN) / STD


def _combine(logits: Tensor, top: int) -> Tensor:
    """Logits (..., 1000) to unit vectors (..., 384): names of classes, as much of each as it is probable."""
    if not 1 <= top <= logits.shape[-1]:
        raise ValueError(f"top is {top}; expected 1 .. {logits.shape[-1]}, the classes of the classifier")
    probable, classes = logits.softmax(-1).topk(top, dim=-1)
    weights = torch.zeros_like(logits).scatter(-1, classes, probable)
    return F.normalize(weights @ _class_words(), dim=-1)


def fitted(image: Tensor) -> Tensor:
    """An image (3, H, W) at the size that the classifier knows: its shorter side 224 pixels."""
    scale = _SIDE / min(image.shape[-2:])
    size = [max(_SIDE, round(side * scale)) for side in image.shape[-2:]]
    return F.interpolate(image[None], size, mode="bilinear", antialias=True)[0].clamp(0, 1)


def recognition(
    photographs: Iterable[tuple[Tensor, str]], nouns: Sequence[str], *, top: int = 1000
) -> dict[str, float]:
    """How often the nearest of all nouns is the right one.

    Args:
        photographs: pairs of an image (3, H, W), floats in [0, 1], and its noun.
        nouns: that compete.
        top: as for `conse_image`.

    Returns:
        Fractions {"micro", "macro"}: of photographs, and the mean over nouns of each noun's fraction.

    Raises:
        ValueError: no photographs.
    """
    text, hits = conse_text(nouns), defaultdict[str, list[bool]](list)
    for image, noun in photographs:
        guess = nouns[int((text @ conse_image(fitted(image)[None], top=top)[0]).argmax())]
        hits[noun].append(guess == noun)
    if not hits:
        raise ValueError("got no photographs; expected at least one")
    every = [hit for of_noun in hits.values() for hit in of_noun]
    return {
        "micro": sum(every) / len(every),
        "macro": sum(sum(of_noun) / len(of_noun) for of_noun in hits.values()) / len(hits),
    }


def conse(*, scenes: int = 400, out: Path | None = None) -> JsonObject:
    """The control on what collage-mini's card is measured on; written as conse.json.

    Returns:
        {"photographs": {"top1", "micro"}, "noun_recognition": {split: mAP}, "dense": {split: metrics},
        "scenes"}; fractions.
    """
    content: JsonObject = {"noun_recognition": {}, "dense": {}, "scenes": scenes}
    found = recognition(((each.image(_SIDE), each.noun) for each in photographs()), all_nouns())
    content["photographs"] = {"top1": found["macro"], "micro": found["micro"]}
    for split in SPLITS:
        data = Collage(split, length=scenes)
        text = conse_text(data.names)
        counts = SegmentationMetrics(len(data.names), data.unseen, groups=data.class_groups)
        scores = []
        rendered = [data[index] for index in range(scenes)]
        for scene in rendered:
            image = fitted(scene.image)[None]
            scores.append(text @ conse_image(image)[0])
            cosines = torch.einsum("cd,bdhw->bchw", text, conse_dense(image))
            large = F.interpolate(cosines, scene.mask.shape, mode="bilinear", align_corners=False)
            counts.update(large.argmax(1)[0], scene.mask)
        content["dense"][split] = counts.compute()
        nouns = [*data.class_groups["seen"], *data.class_groups["unseen"]]
        asked = torch.stack(scores)[:, nouns]
        content["noun_recognition"][split] = mean_average_precision(
            asked, rendered, [data.names[i] for i in nouns]
        )
    return write_report("conse", content, out)
