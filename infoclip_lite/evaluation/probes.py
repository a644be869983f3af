"""How aligned is it still? Measures of what fine-tuning keeps of a CLIP's image-text alignment."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..clip import DenseCLIP
from ..datasets.collage import Scene
from ..information import gram, renyi_mutual_information
from ..objectives import relation


def retrieval(clip: DenseCLIP, scenes: Sequence[Scene]) -> dict[str, float]:
    """Recall at 1 among the scenes given, in both directions.

    Returns:
        "image_to_text" and "text_to_image": shares of scenes whose own caption (image) comes first.
    """
    images = clip.encode_image(torch.stack([scene.image for scene in scenes]))
    captions = clip.encode_prompts([scene.caption for scene in scenes])
    cosines, own = images @ captions.T, torch.arange(len(scenes))
    return {
        "image_to_text": (cosines.argmax(1).cpu() == own).float().mean().item(),
        "text_to_image": (cosines.argmax(0).cpu() == own).float().mean().item(),
    }


def noun_recognition(clip: DenseCLIP, scenes: Sequence[Scene], names: Sequence[str]) -> float:
    """Mean over words of the average precision of "is it in the picture?", from the global embedding.

    Words that are in none of the scenes are left out; chance is the share of scenes a word is in.
    """
    from sklearn.metrics import average_precision_score

    images = clip.encode_image(torch.stack([scene.image for scene in scenes]))
    scores = (images @ clip.encode_text(names).T).float().cpu().numpy()
    precisions = []
    for column, name in enumerate(names):
        present = [name in scene.nouns for scene in scenes]
        if any(present):
            precisions.append(average_precision_score(present, scores[:, column]))
    if not precisions:
        raise ValueError(f"none of {list(names)[:5]} is in the {len(scenes)} scenes; expected words that occur")
    return float(sum(precisions) / len(precisions))


def cosine_margin(
    clip: DenseCLIP, scenes: Sequence[Scene], names: Sequence[str], attention: str = "value", only: Sequence[int] | None = None
) -> float:
    """Mean over patches of cos(patch, right word) - the largest cos(patch, wrong word): above zero is right.

    A patch counts if one class covers at least three quarters of it.

    Args:
        clip: the model.
        scenes: with masks that index `names`.
        names: the words that compete.
        attention: the dense read-out.
        only: class ids whose patches count; None counts all.
    """
    dense = clip.encode_dense(torch.stack([scene.image for scene in scenes]), attention)
    cosines = torch.einsum("bdhw,cd->bchw", dense, clip.encode_text(names))
    masks = torch.stack([scene.mask for scene in scenes])
    share = F.adaptive_avg_pool2d(F.one_hot(masks, len(names)).movedim(-1, 1).float(), (dense.shape[2], dense.shape[3])).to(cosines.device)
    cover, label = share.max(1)
    right = cosines.gather(1, label[:, None])[:, 0]
    wrong = cosines.scatter(1, label[:, None], -torch.inf).amax(1)
    counted = cover >= 0.75
    if only is not None:
        counted &= torch.isin(label, torch.tensor(list(only), device=label.device))
    return (right - wrong)[counted].mean().item()


def centred_kernel_alignment(x: Tensor, y: Tensor) -> float:
    """Linear CKA of two sets of features of the same n samples: 1 where they agree up to rotation and scale.

    Source: Kornblith et al. 2019 (1905.00414), equation for linear kernels in feature space.

    Args:
        x, y: (n, d1) and (n, d2).
    """
    x, y = (v.double() - v.double().mean(0) for v in (x, y))
    return ((y.T @ x).norm() ** 2 / ((x.T @ x).norm() * (y.T @ y).norm())).item()


def layer_alignment(clip: DenseCLIP, reference: DenseCLIP, images: Tensor) -> list[float]:
    """CKA of the tokens of two models of one architecture: one number for the embedding and for each block.

    Args:
        clip, reference: the fine-tuned and the pretrained model.
        images: (B, 3, H, W) floats in [0, 1].
    """
    pairs = zip(clip.hidden_states(images), reference.hidden_states(images), strict=True)
    return [centred_kernel_alignment(a.flatten(0, 1), b.flatten(0, 1)) for a, b in pairs]


def relation_bits(clip: DenseCLIP, reference: DenseCLIP, images: Tensor, names: Sequence[str], attention: str = "value") -> float:
    """Bits that the map of cosines between patches and words shares with the pretrained model's, beyond what chance would share.

    I_2 of the linear Gram matrices over patches, less its exact mean under random pairing of the patches, averaged over pictures [O]:
    InfoCLIP's measure of transfer without any learnt part, so that every way of fine-tuning can be asked the same.

    Args:
        clip, reference: the fine-tuned and the pretrained model.
        images: (B, 3, H, W) floats in [0, 1].
        names: the words.
        attention: the dense read-out.
    """
    maps = [relation(m.encode_dense(images, attention).flatten(2).mT, m.encode_text(names)) for m in (clip, reference)]
    grams = [gram(m - m.mean(1, keepdim=True), normalize=True) for m in maps]  # centred: what all patches share says nothing
    return renyi_mutual_information(grams[0], grams[1], correction="permutation").mean().item()


@torch.inference_mode()
def probe(
    clip: DenseCLIP, reference: DenseCLIP, scenes: Sequence[Scene], names: Sequence[str], unseen: Sequence[int], attention: str
) -> dict[str, float]:
    """All probes on the same scenes, by name; `cka_0` is the embedding, `cka_k` the output of block k."""
    images = torch.stack([scene.image for scene in scenes])
    recall = retrieval(clip, scenes)
    layers = layer_alignment(clip, reference, images[:32])
    return {
        **recall,
        "noun_recognition": noun_recognition(clip, scenes, names),
        "margin": cosine_margin(clip, scenes, names, attention),
        "margin_unseen": cosine_margin(clip, scenes, names, attention, only=unseen),
        "relation_bits": relation_bits(clip, reference, images[:32], names, attention),
        **{f"cka_{layer}": value for layer, value in enumerate(layers)},
    }
