"""How aligned is it still? Measures of what fine-tuning keeps of a CLIP's image-text alignment.

Scenes are on the CPU, as a data set gives them; whatever is compared is brought to the model's device
first.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ..information import gram, linear_cka, renyi_mutual_information
from ..objectives import relation

if TYPE_CHECKING:
    from ..clip import DenseCLIP
    from ..datasets.base import Captioned

COVERED = 0.75  # fraction of a patch that one class must cover for the patch to count [O]
PICTURES = 32  # of the scenes suffice for layers and bits: both compare patches, hundreds each [O]


def retrieval(clip: DenseCLIP, scenes: Sequence[Captioned]) -> dict[str, float]:
    """Recall at 1 among the scenes given, in both directions.

    Returns:
        "image_to_text" and "text_to_image": fractions of scenes whose own caption (image) comes first.
    """
    images = clip.encode_image(_images(scenes))
    captions = clip.encode_prompts([scene.caption for scene in scenes])
    cosines = images @ captions.T
    return {"image_to_text": _recall(cosines).item(), "text_to_image": _recall(cosines.T).item()}


def noun_recognition(clip: DenseCLIP, scenes: Sequence[Captioned], names: Sequence[str]) -> float:
    """Mean over words of the average precision of "is it in the picture?", from the global embedding.

    Words that are in none of the scenes are left out; chance is the fraction of scenes a word is in.

    Raises:
        ValueError: none of the words is in any of the scenes.
    """
    return mean_average_precision(
        clip.encode_image(_images(scenes)) @ clip.encode_text(names).T, scenes, names
    )


def mean_average_precision(scores: Tensor, scenes: Sequence[Captioned], names: Sequence[str]) -> float:
    """Mean over words of the average precision of "is it in the picture?".

    Args:
        scores: (scenes, words), how much each scene looks like each word.
        scenes: whose `nouns` are the truth.
        names: the words; those that are in none of the scenes are left out.

    Raises:
        ValueError: none of the words is in any of the scenes.
    """
    from sklearn.metrics import average_precision_score  # here: it takes longer to import than to use

    scores = scores.float().cpu()
    precisions = []
    for column, name in enumerate(names):
        present = [name in scene.nouns for scene in scenes]
        # average precision of a word that is nowhere is not defined
        if any(present):
            precisions.append(average_precision_score(present, scores[:, column].numpy()))
    if not precisions:
        raise ValueError(
            f"none of {list(names)[:5]} is in the {len(scenes)} scenes; expected words that occur"
        )
    return float(sum(precisions) / len(precisions))


def cosine_margin(
    clip: DenseCLIP,
    scenes: Sequence[Captioned],
    names: Sequence[str],
    read_out: str = "value",
    only: Sequence[int] | None = None,
) -> float:
    """Mean over patches of cos(patch, right word) - the largest cos(patch, wrong word).

    Above zero the patch is labelled right. A patch counts if one class covers at least three quarters of it.

    Args:
        clip: the model.
        scenes: with masks that index `names`.
        names: the words that compete.
        read_out: the dense read-out.
        only: class ids whose patches count; None counts all.
    """
    margins, labels, cover = patch_margins(clip, scenes, names, read_out)
    counted = cover >= COVERED
    if only is not None:
        counted &= torch.isin(labels, torch.tensor(list(only), device=labels.device))
    return margins[counted].mean().item()


def patch_margins(
    clip: DenseCLIP, scenes: Sequence[Captioned], names: Sequence[str], read_out: str = "value"
) -> tuple[Tensor, Tensor, Tensor]:
    """What `cosine_margin` is the mean of.

    Args:
        clip, scenes, names, read_out: as for `cosine_margin`.

    Returns:
        Of each patch, (B, h, w) on the model's device: its margin; the class that covers most of it;
        the fraction of the patch that this class covers.
    """
    dense = clip.encode_dense(_images(scenes), read_out)
    cosines = torch.einsum("bdhw,cd->bchw", dense, clip.encode_text(names))
    masks = torch.stack([scene.mask for scene in scenes]).to(cosines.device)
    classes = F.one_hot(masks, len(names)).movedim(-1, 1).float()
    cover, label = F.adaptive_avg_pool2d(classes, (dense.shape[2], dense.shape[3])).max(1)
    right = cosines.gather(1, label[:, None])[:, 0]
    # the right word out of the race, the best of the others
    wrong = cosines.scatter(1, label[:, None], -torch.inf).amax(1)
    return right - wrong, label, cover


def layer_alignment(clip: DenseCLIP, reference: DenseCLIP, images: Tensor) -> list[float]:
    """CKA of the tokens of two models of one architecture: of the embedding, then of each block.

    Args:
        clip, reference: the fine-tuned and the pretrained model.
        images: (B, 3, H, W) floats in [0, 1].
    """
    pairs = zip(clip.hidden_states(images), reference.hidden_states(images), strict=True)
    return [linear_cka(a.flatten(0, 1), b.to(a.device).flatten(0, 1)).item() for a, b in pairs]


def relation_bits(
    clip: DenseCLIP, reference: DenseCLIP, images: Tensor, names: Sequence[str], read_out: str = "value"
) -> float:
    """Bits that the cosines of patches and words share with the pretrained model's, beyond chance.

    I_2 of the linear Gram matrices over patches, less its exact mean under random pairing of the
    patches, averaged over pictures [O]: InfoCLIP's measure of transfer without any learnt part, so that
    every way of fine-tuning can be asked the same.

    Args:
        clip, reference: the fine-tuned and the pretrained model.
        images: (B, 3, H, W) floats in [0, 1].
        names: the words.
        read_out: the dense read-out.
    """
    grams = []
    for model in (clip, reference):
        dense = model.encode_dense(images, read_out).flatten(2).mT
        cosines = relation(dense, model.encode_text(names))
        # centred: what all patches share says nothing of which patch belongs to which
        grams.append(gram(cosines - cosines.mean(1, keepdim=True), normalize=True))
    own, pretrained = grams
    bits = renyi_mutual_information(own, pretrained.to(own.device), correction="permutation")
    return bits.mean().item()


class Probes:
    """All probes of models that were tuned from one, on the same scenes.

    Args:
        reference: the pretrained model.
        scenes: with masks that index `names`, and captions.
        names: the words.
        unseen: class ids of unseen nouns.
        read_out: the dense read-out.
    """

    def __init__(
        self,
        reference: DenseCLIP,
        scenes: Sequence[Captioned],
        names: Sequence[str],
        unseen: Sequence[int],
        read_out: str,
    ) -> None:
        self.scenes, self.names, self.unseen, self.read_out = scenes, names, unseen, read_out
        self.images = _images(scenes)
        # The reference does not change while others are tuned, and is looked at once.
        self.reference = _Once(reference, self.images, read_out)

    @torch.inference_mode()
    def __call__(self, clip: DenseCLIP) -> dict[str, float]:
        """All probes of a model, by name; `cka_0` is of the embedding, `cka_k` of block k."""
        own: DenseCLIP = _Once(clip, self.images, self.read_out)  # type: ignore[assignment]
        reference: DenseCLIP = self.reference  # type: ignore[assignment]
        scenes, names, read_out = self.scenes, self.names, self.read_out
        images = self.images[:PICTURES]
        layers = layer_alignment(own, reference, images)
        return {
            **retrieval(own, scenes),
            "noun_recognition": noun_recognition(own, scenes, names),
            "margin": cosine_margin(own, scenes, names, read_out),
            "margin_unseen": cosine_margin(own, scenes, names, read_out, only=self.unseen),
            "relation_bits": relation_bits(own, reference, images, names, read_out),
            **{f"cka_{layer}": value for layer, value in enumerate(layers)},
        }


class _Once:
    """A CLIP that looks at some pictures once, however often and about whatever probes ask it: of each kind
    of answer, those about the first pictures.
    """

    def __init__(self, clip: DenseCLIP, images: Tensor, read_out: str) -> None:
        self.clip, self.images, self.read_out = clip, images, read_out
        self._words: dict[tuple[str, ...], Tensor] = {}

    @cached_property
    def _answers(self) -> tuple[Tensor, Tensor, list[Tensor]]:
        tower = self.clip.tower(self.images)
        patches = F.normalize(self.clip.read(tower, self.read_out), dim=-1)
        states = [state[:PICTURES] for state in (*tower.states, tower.leaving)]
        return self.clip.project(tower.leaving[:, 0]), patches.mT.unflatten(2, tower.grid), states

    def encode_image(self, images: Tensor) -> Tensor:
        return self._answers[0][: len(images)]

    def encode_dense(self, images: Tensor, read_out: str) -> Tensor:
        return self._answers[1][: len(images)]

    def hidden_states(self, images: Tensor) -> list[Tensor]:
        return self._answers[2]

    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        return self.clip.encode_prompts(prompts)

    def encode_text(self, names: Sequence[str]) -> Tensor:
        key = tuple(names)
        if key not in self._words:
            self._words[key] = self.clip.encode_text(names)
        return self._words[key]


def probe(
    clip: DenseCLIP,
    reference: DenseCLIP,
    scenes: Sequence[Captioned],
    names: Sequence[str],
    unseen: Sequence[int],
    read_out: str,
) -> dict[str, float]:
    """All `Probes` of one model, by name."""
    return Probes(reference, scenes, names, unseen, read_out)(clip)


def _images(scenes: Sequence[Captioned]) -> Tensor:
    return torch.stack([scene.image for scene in scenes])


def _recall(cosines: Tensor) -> Tensor:
    """The fraction of rows whose largest cosine is the one on the diagonal."""
    own = torch.arange(len(cosines), device=cosines.device)
    return (cosines.argmax(1) == own).float().mean()
