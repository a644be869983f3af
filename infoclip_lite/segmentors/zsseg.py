"""ZSSeg, or SimSeg (2112.14757): masks of no class from a trained network, and CLIP that looks at each.

    body -> mask queries -> what each mask is of, twice:
        by the query (trained)      cosine of its embedding and the words, or of "no object"
        by CLIP (frozen)            the mask cut out of the picture, its CLS and the words
    -> geometric ensemble -> sum_q p_q(c) sigmoid(mask_q)

Mechanism and constants are those of the official code [C]. Ours [O]: the body is one of
segmentation_models_pytorch, with its own decoder for pixels and a mean of them for queries; prompts are
learnt beside the masks, on crops of the true masks, where the authors learn them in a training of its own;
the prompts serve both branches, as on COCO-Stuff; on VOC the authors' masks meet "a sculpture of a {}.".
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..clip import DenseCLIP
from ..clip.prompts import LearnedPrompt
from ..core.words import synonyms_of
from .base import Encoded, Segmentor, Target, count, enlarged
from .chimera import Body, Weights
from .known_words import KnowsWords
from .queries import (
    MaskDecoder,
    Masks,
    assign,
    class_loss,
    class_masks,
    crops,
    dice_cost,
    drawn_masks_loss,
    focal_cost,
    semantic_map,
)

CLASS, FOCAL, DICE = 1.0, 20.0, 1.0  # weights of losses and of costs [C]
NO_OBJECT = 0.1  # weight of queries without a mask [C]
_HIDDEN = 1024  # of the class head [C]
_INSIDE = 0.5  # probability above which a pixel is in the mask that CLIP is shown [C]


class ZSSeg(KnowsWords, Segmentor):
    """Mask queries on a trained body, and frozen CLIP on what they cut out.

    Args:
        clip: the model; it stays frozen.
        templates: the prompt that class names are put in where none is learnt.
        architecture, encoder, weights, width, tuned: of the body; see `Body`.
        queries, layers, heads, pool: of the decoder; see `MaskDecoder`.
        prompts: learnt vectors before each word (16 [C]); 0 learns none.
        ending: what stands behind a word in a learnt prompt.
        ensemble: w, how much the trained branch weighs for seen words and CLIP for unseen ones (0.8 on
            COCO-Stuff, 0.7 on VOC [C]); 0 leaves CLIP's crops out.

    Raises:
        ValueError: an ensemble outside 0 .. 1, or what body, decoder and prompt refuse.
    """

    tunable = False  # CLIP stays frozen [P]

    def __init__(
        self,
        clip: DenseCLIP,
        templates: Sequence[str] = ("a photo of a {}",),
        *,
        architecture: str = "FPN",
        encoder: str = "tu-tf_efficientnet_lite0",
        weights: Weights | None = "package",
        width: int = 256,
        tuned: bool = True,
        queries: int = 100,
        layers: int = 6,
        heads: int = 8,
        pool: int = 4,
        prompts: int = 16,
        ending: str = ".",
        ensemble: float = 0.7,
    ) -> None:
        super().__init__()
        if not 0 <= ensemble <= 1:
            raise ValueError(f"ensemble is {ensemble}; expected 0 (masks alone) .. 1")
        if prompts < 0:
            raise ValueError(f"prompts is {prompts}; expected 0 (the template) or more")
        self.clip, self.templates, self.weights = clip, tuple(templates), weights
        self.read_outs = ("vanilla",)
        self.ensemble = ensemble
        self.prompt = LearnedPrompt(clip, prompts, ending) if prompts else None
        self.learns_words = self.prompt is not None
        self.body = Body(architecture, encoder, weights, width, tuned)
        self.decoder = MaskDecoder(
            self.body.channels, width=width, queries=queries, layers=layers, heads=heads, pool=pool
        )
        self.classes = nn.Sequential(nn.Linear(width, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, clip.embed_dim))
        self.nothing = nn.Parameter(0.02 * torch.randn(1, clip.embed_dim))  # "no object"

    @property
    def family(self) -> str:
        """The paper's name."""
        return "ZSSeg"

    # What training knew: the ensemble trusts the query for these words, and CLIP for others.

    def encode_text(self, names: Sequence[str], templates: Sequence[str] | None = None) -> Tensor:
        """Words behind the learnt prompt, and whether training knew them.

        Args:
            names: C words or phrases; of synonyms ("ox|cow") the mean.
            templates: not used where a prompt is learnt.

        Returns:
            (C, D + 1) float32: unit vectors, and behind each 1 if training labelled the word, else 0.

        Raises:
            ValueError: as `DenseCLIP.encode_text`.
        """
        words = [synonyms_of(name) for name in names]
        if self.prompt is None:
            text = super().encode_text(names, templates)
        else:
            each = self.prompt(self.clip, [word for group in words for word in group])
            means = [part.mean(0) for part in each.split([len(group) for group in words])]
            text = F.normalize(torch.stack(means), dim=-1)
        return torch.cat([text, self.flags(names, text)], 1)

    # From pictures to maps.

    def encode(self, images: Tensor) -> Encoded:
        """Queries that have looked at pictures.

        Args:
            images: (B, 3, H, W) floats in [0, 1].

        Returns:
            As `dense` (B, D, h, w) the mean of the queries' embeddings by their masks, as coarse as what
            queries look at; as `more` queries (L, B, Q, W) after each layer, mask features (B, W, h', w'),
            and the pictures, out of which CLIP's crops are cut.

        Raises:
            ValueError: sides that do not fit the body.
        """
        images = images.to(self.clip.device)
        queries, pixels = self.decoder(self.body(images))
        # No loss of this segmentor looks at it: nothing is kept for a gradient.
        with torch.no_grad():
            last = queries[-1].detach()  # a view made here would still say that it wants a gradient
            masks = self.decoder.draw(last, self.decoder.pool(pixels)).sigmoid()
            said = self.classes(last).float()
            dense = F.normalize(torch.einsum("bqd,bqhw->bdhw", said, masks), dim=1)
        return Encoded(dense, (queries, pixels, images))

    def said(self, queries: Tensor, words: Tensor) -> Tensor:
        """What queries say they are of: cosines times CLIP's logit scale.

        Args:
            queries: (..., Q, W).
            words: (C, D) unit vectors.

        Returns:
            (..., Q, C + 1) logits, "no object" last.
        """
        answers = F.normalize(self.classes(queries).float(), dim=-1)
        every = torch.cat([words, F.normalize(self.nothing, dim=-1)])
        return self.clip.logit_scale.float() * answers @ every.T

    def decode(self, encoded: Encoded, text: Tensor, *, pooling: int | None = None) -> Tensor:
        """What is where: every query's answer, as far as its mask reaches.

        Args:
            encoded: of `encode`.
            text: (C, D + 1) of `encode_text`.
            pooling: not used.

        Returns:
            (B, C, h, w), 0 or more, what `semantic_map` gives.

        Raises:
            ValueError: text of another width.
        """
        words, seen = self._parts(text)
        queries, pixels, images = encoded.more
        masks = self.decoder.draw(queries[-1], pixels)
        probabilities = self.said(queries[-1], words).softmax(-1)[..., :-1]
        if self.ensemble:
            inside = enlarged(masks, images.shape[-2:]).sigmoid() > _INSIDE
            regions, there = self.look(images, inside, words)
            # Of an empty mask CLIP says nothing, and 1 leaves the product to the query [I].
            regions = torch.where(there[..., None], regions.softmax(-1), 1.0)
            probabilities = geometric_ensemble(probabilities, regions, seen, self.ensemble)
        return semantic_map(probabilities, masks)

    @torch.no_grad()
    def regions(self, images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """CLIP's CLS of each mask's crop.

        Args:
            images: (B, 3, H, W) floats in [0, 1].
            masks: (B, Q, H, W) bool.

        Returns:
            (B, Q, D) unit vectors, and (B, Q) bool, whether there was anything in the mask.
        """
        side = self.clip.patch_size * self.clip.visual.grid_size[0]
        cut, there = crops(images, masks, side, self.clip.mean)
        return self.clip.encode_image(cut.flatten(0, 1)).unflatten(0, there.shape), there

    def look(self, images: Tensor, masks: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, Q, C) of CLIP for each mask's crop, and (B, Q), whether there was anything in it.

        Args:
            images: (B, 3, H, W) floats in [0, 1].
            masks: (B, Q, H, W) bool.
            words: (C, D) unit vectors.
        """
        found, there = self.regions(images, masks)
        return self.clip.logit_scale.float() * found @ words.T, there

    def _parts(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """(C, D) unit vectors and (C,) bool, whether training knew the word."""
        if text.ndim != 2 or text.shape[1] != self.clip.embed_dim + 1:
            raise ValueError(
                f"got text {tuple(text.shape)}; expected (C, {self.clip.embed_dim + 1}) of `encode_text`: "
                "unit vectors, and behind each whether training knew the word"
            )
        return text[:, :-1], text[:, -1] > 0.5

    # What it learns from.

    def loss(self, encoded: Encoded, text: Tensor, target: Target) -> dict[str, Tensor]:
        """Class, focal and Dice loss of matched queries, summed over layers; and the prompt's.

        Ignored pixels are outside of every mask, as in the official code [C]. Where a batch is divided, every
        part counts its own masks.

        Args:
            encoded: of `encode`.
            text: (C, D + 1) of the trained words, with a gradient if a prompt is learnt.
            target: what is known of the pixels.

        Returns:
            {"class", "focal", "dice", "total"}, and "prompt" if one is learnt; total = class + 20 focal +
            1 dice + prompt.
        """
        words, _ = self._parts(text)
        queries, pixels, images = encoded.more
        wanted = class_masks(target.labels, len(words))
        # The prompt learns from CLIP's crops alone: masks must not pull words towards themselves [O].
        layers = [self._layer(layer, pixels, words.detach(), wanted) for layer in queries]
        terms = {name: torch.stack([each[name] for each in layers]).sum() for name in layers[0]}
        total = CLASS * terms["class"] + FOCAL * terms["focal"] + DICE * terms["dice"]
        if self.prompt is None:
            return {**terms, "total": total}
        prompt = self._prompt_loss(images, words, wanted)
        return {**terms, "prompt": prompt, "total": total + prompt}

    def _layer(self, queries: Tensor, pixels: Tensor, words: Tensor, wanted: Masks) -> dict[str, Tensor]:
        """The loss of one layer's answers."""
        logits, masks = self.said(queries, words), self.decoder.draw(queries, pixels)
        match = assign(matching_cost(logits, masks, wanted), wanted.valid)
        focal, dice = drawn_masks_loss(masks, wanted, match)
        return {"class": class_loss(logits, wanted.ids, match, NO_OBJECT), "focal": focal, "dice": dice}

    def _prompt_loss(self, images: Tensor, words: Tensor, wanted: Masks) -> Tensor:
        """Cross-entropy of the true masks' crops among the words, in nats a mask; zero if there is none."""
        logits, _ = self.look(images, wanted.masks.bool(), words)
        nats = F.cross_entropy(logits.flatten(0, 1), wanted.ids.flatten(), reduction="none")
        valid = wanted.valid.flatten()
        return (nats * valid).sum() / valid.sum().clamp(min=1)

    def pretrained(self) -> list[nn.Parameter]:
        """The body's encoder, if it came with weights."""
        return [p for p in self.body.encoder.parameters() if p.requires_grad] if self.weights else []

    def stages(self) -> list[nn.Module]:
        """The layers of the decoder."""
        return list(self.decoder.layers)

    def weights_at_inference(self) -> dict[str, int]:
        """By part: "body", "head" (decoder and classes), and CLIP's "image tower", which looks at crops."""
        parts = {"body": count(self.body.parameters()), "head": count(self.decoder.parameters())}
        parts["head"] += count(self.classes.parameters()) + self.nothing.numel()
        return {**parts, "image tower": count(self.clip.visual.parameters())} if self.ensemble else parts


@torch.no_grad()
def matching_cost(logits: Tensor, masks: Tensor, wanted: Masks) -> Tensor:
    """What it would cost if a query answered for a mask: 20 focal + 1 Dice - 1 probability of its class [C].

    Args:
        logits: (B, Q, C + 1).
        masks: (B, Q, h, w) logits.
        wanted: the masks; they are compared at the size of what is drawn, as in MaskFormer's code [S].

    Returns:
        (B, Q, K).
    """
    ids = wanted.ids[:, None].expand(-1, logits.shape[1], -1)
    right = logits.softmax(-1).gather(2, ids)
    small = wanted.at((masks.shape[2], masks.shape[3]))
    return FOCAL * focal_cost(masks, small) + DICE * dice_cost(masks, small) - CLASS * right


def geometric_ensemble(trained: Tensor, clip: Tensor, seen: Tensor, weight: float) -> Tensor:
    """Two opinions on what a mask is of, multiplied with exponents [C].

    p = p_trained^w p_clip^(1 - w) for words that training knew, p_trained^(1 - w) p_clip^w for the others.

    Args:
        trained, clip: (B, Q, C) probabilities.
        seen: (C,) bool.
        weight: w, 0 .. 1.

    Returns:
        (B, Q, C), which do not sum to one.
    """
    exponent = torch.where(seen, weight, 1 - weight)
    return trained**exponent * clip ** (1 - exponent)
