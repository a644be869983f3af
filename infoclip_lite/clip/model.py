"""DenseCLIP: an open_clip model that also gives one embedding for each patch."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.hooks import RemovableHandle

from ..core.words import check_names, synonyms_of
from .blocks import attention_kernel, standard_block
from .layouts import unfit
from .readouts import check_read_outs, get_read_out
from .templates import SIMPLE_TEMPLATES
from .tower import RunBlock, TowerPass

if TYPE_CHECKING:
    from open_clip.model import CLIP
    from open_clip.transformer import VisionTransformer

PROMPTS = 512  # in one pass through the text tower
Positions = Literal["size", "factor"]


class Tokenizer(Protocol):
    """From sentences to token ids (n, context), filled up with zeros."""

    def __call__(self, texts: list[str], /) -> Tensor:
        """Token ids."""


class DenseCLIP(nn.Module):
    """CLIP with a dense read-out. Images are (B, 3, H, W) floats in [0, 1] of any size;
    it normalises them itself.

    Args:
        model: an open_clip model whose image tower is a ViT with a CLS token.
        tokenizer: its tokenizer, a callable from a list of strings to token ids (n, context).
        mean, std: the three channel means and deviations the model was trained with.
        name: what to call it in messages and reports.
        templates: prompts that `encode_text` averages over when it is given none.
        read_outs: the dense read-outs that suit this model best; several are averaged.
        known_tokens: ids of the tokens seen in pretraining; None means all of them.

    Attributes:
        block: how a residual block of the image tower is run, (block, tokens) -> tokens;
            `acceleration` may put another one here.
        positions: how position embeddings come to a grid of n patches that is not the one of training: to
            that "size", or by the "factor" (n + 0.1) / trained.
        gradient_hooks: those that a training has put on its weights; the next training takes them off.

    Raises:
        ValueError: the image tower is not a ViT with a CLS token.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Tokenizer,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        name: str = "clip",
        templates: Sequence[str] = SIMPLE_TEMPLATES,
        read_outs: Sequence[str] = ("sclip",),
        known_tokens: Tensor | None = None,
    ) -> None:
        super().__init__()
        reason = unfit(model)
        if reason is not None:
            raise ValueError(f"{name}: {reason}; expected open_clip's ViT pooled by its CLS token")
        self.model: CLIP = model
        self.tokenizer, self.name = tokenizer, name
        self.templates, self.read_outs = tuple(templates), tuple(read_outs)
        self.known_tokens = known_tokens
        self.block: RunBlock = standard_block
        self.positions: Positions = "size"
        self.gradient_hooks: list[RemovableHandle] = []
        self.mean: Tensor
        self.std: Tensor
        # Buffers, so that they move with the model; not in its state, whose keys are open_clip's own.
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    @property
    def visual(self) -> VisionTransformer:
        """The open_clip image tower."""
        return self.model.visual

    @property
    def blocks(self) -> nn.ModuleList:
        """The residual blocks of the image tower, first to last."""
        return self.visual.transformer.resblocks

    @property
    def text_blocks(self) -> nn.ModuleList:
        """The residual blocks of the text tower."""
        # open_clip's CLIP holds the parts of its text tower itself; its CustomTextCLIP has a module `text`.
        text = getattr(self.model, "text", self.model)
        return text.transformer.resblocks

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""
        return self.visual.conv1.kernel_size[0]

    @property
    def width(self) -> int:
        """Width of the image tower's tokens."""
        return self.visual.conv1.out_channels

    @property
    def embed_dim(self) -> int:
        """D, the width of the joint image-text space."""
        return self.visual.proj.shape[1]

    @property
    def logit_scale(self) -> Tensor:
        """The factor that CLIP's loss multiplies cosines with (a scalar, the inverse of its temperature)."""
        return self.model.logit_scale.exp()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.visual.conv1.weight.device

    def encode_image(self, images: Tensor) -> Tensor:
        """Global embedding of each image.

        Args:
            images: (B, 3, H, W) floats in [0, 1].

        Returns:
            (B, D) float32 unit vectors.

        Raises:
            ValueError: images of another shape.
        """
        return self.project(self.tower(images, keep=False).leaving[:, 0])

    def encode_dense(self, images: Tensor, read_out: str = "value") -> Tensor:
        """One embedding in the joint space for each patch.

        Args:
            images: (B, 3, H, W) floats in [0, 1].
            read_out: a name of `clip.readouts.READ_OUTS`.

        Returns:
            (B, D, h, w) float32 vectors of unit length along D; h and w are H and W in patches, rounded up.

        Raises:
            ValueError: unknown read-out, or images of another shape.
        """
        return self.encode_each(images, (read_out,))[0]

    def encode_each(
        self, images: Tensor, read_outs: Sequence[str], words: Tensor | None = None
    ) -> list[Tensor]:
        """The dense embeddings of several read-outs, from one pass through the tower.

        Args:
            images: (B, 3, H, W) floats in [0, 1].
            read_outs: names of `clip.readouts.READ_OUTS`.
            words: (C, D) unit vectors, for read-outs that look at words.

        Returns:
            For each read-out (B, D, h, w) float32, unit vectors along D.

        Raises:
            ValueError: no read-out or an unknown one, or images of another shape.
        """
        chosen = check_read_outs(read_outs)
        return self.read_each(self.tower(images, words, keep=len(chosen) > 1), chosen)

    def read_each(self, tower: TowerPass, read_outs: Sequence[str]) -> list[Tensor]:
        """The dense embeddings of several read-outs of one pass.

        Args:
            tower: a pass of this model.
            read_outs: names of `clip.readouts.READ_OUTS`.

        Returns:
            For each read-out (B, D, h, w) float32, unit vectors along D.

        Raises:
            ValueError: unknown read-out.
        """
        patches = [F.normalize(self.read(tower, name), dim=-1) for name in read_outs]  # (B, N, D) each
        return [each.mT.unflatten(2, tower.grid) for each in patches]

    def encode_both(
        self, images: Tensor, read_outs: Sequence[str], *, tower: TowerPass | None = None
    ) -> tuple[Tensor, Tensor]:
        """Global and dense embeddings from one pass through the tower.

        Args:
            images: (B, 3, H, W) floats in [0, 1].
            read_outs: whose embeddings are averaged.
            tower: these pictures' pass, where somebody else reads it too.

        Returns:
            (B, D) and (B, D, h, w) float32 unit vectors.

        Raises:
            ValueError: no read-out or an unknown one, or images of another shape.
        """
        chosen = check_read_outs(read_outs)
        if tower is None:
            tower = self.tower(images, keep=len(chosen) > 1)
        # Unit vectors before the mean, so that no read-out outweighs another by its length; and after it.
        dense = [F.normalize(self.read(tower, name), dim=-1) for name in chosen]
        mean = F.normalize(torch.stack(dense).mean(0), dim=-1)
        return self.project(tower.leaving[:, 0]), mean.mT.unflatten(2, tower.grid)

    def tower(self, images: Tensor, words: Tensor | None = None, *, keep: bool = True) -> TowerPass:
        """A pass through the image tower, for read-outs and for heads that look deeper.

        Args:
            images: (B, 3, H, W) floats in [0, 1].
            words: (C, D) unit vectors, for read-outs that look at words.
            keep: keep the tokens between all blocks; see `TowerPass`.

        Returns:
            The pass, of which no block has been run yet.

        Raises:
            ValueError: images of another shape.
        """
        tokens, grid = self.embed(images)
        return TowerPass(
            tokens,
            grid,
            self.blocks,
            run=self.block,
            project=self.project,
            words=words,
            images=images,
            keep=keep,
        )

    def read(self, tower: TowerPass, read_out: str) -> Tensor:
        """Patch embeddings of a read-out, before they are scaled to unit length.

        Args:
            tower: a pass of this model.
            read_out: a name of `clip.readouts.READ_OUTS`.

        Returns:
            (B, N, D) float32.

        Raises:
            ValueError: unknown read-out.
        """
        return self._joint(get_read_out(read_out)(tower))

    def hidden_states(self, images: Tensor) -> list[Tensor]:
        """Tokens after the embedding and after each block.

        Args:
            images: (B, 3, H, W) floats in [0, 1].

        Returns:
            len(blocks) + 1 tensors (B, 1 + N, W), CLS first.
        """
        tower = self.tower(images)
        return [*tower.states, tower.leaving]

    def encode_text(
        self,
        names: Sequence[str],
        templates: Sequence[str] | None = None,
        *,
        synonyms: Literal["mean", "none"] = "mean",
        ensemble: Literal["mean", "none"] = "mean",
    ) -> Tensor:
        """Embeddings of words, each averaged over prompt templates.

        Args:
            names: C words or phrases; "ox|cow" or "ox, cow" are synonyms of one class.
            templates: prompts with one {} for the word; None takes the model's own.
            synonyms: "mean" averages synonyms into one vector; "none" takes each name as it is written.
            ensemble: "mean" averages templates into one vector; "none" keeps them apart,
                as cost volumes want them.

        Returns:
            (C, D) float32 unit vectors, or (C, T, D) for T templates kept apart.

        Raises:
            ValueError: no names, blank or repeated ones, a template without {}, or a prompt
                longer than the context.
        """
        for option, value in (("synonyms", synonyms), ("ensemble", ensemble)):
            if value not in ("mean", "none"):
                raise ValueError(f'got {option}={value!r}; expected "mean" or "none"')
        names = check_names(names)
        templates = self.templates if templates is None else tuple(templates)
        if not templates or any("{}" not in t for t in templates):
            raise ValueError(
                f"got templates {templates!r}; expected at least one, each with {{}} where the word goes"
            )
        words = [synonyms_of(name) if synonyms == "mean" else [name] for name in names]
        # All prompts of all words at once, a word's templates next to each other: few large passes.
        prompts = [template.format(word) for group in words for word in group for template in templates]
        features = self.encode_prompts(prompts)
        sizes = [len(group) * len(templates) for group in words]
        means = []
        for part in features.split(sizes):
            by_template = part.view(-1, len(templates), part.shape[-1])  # (synonyms, T, D)
            means.append(by_template.mean((0, 1) if ensemble == "mean" else 0))
        # A mean of unit vectors, as in CLIP's own zero-shot classifier, and then of unit length again.
        return F.normalize(torch.stack(means), dim=-1)

    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        """Embeddings of whole sentences, as they are.

        Args:
            prompts: n sentences.

        Returns:
            (n, D) float32 unit vectors.

        Raises:
            ValueError: a sentence longer than the text tower's context.
        """
        return self.encode_tokens(self.tokenize(prompts))

    def encode_tokens(self, ids: Tensor, table: Tensor | None = None) -> Tensor:
        """Embeddings of sentences that are tokens already.

        Args:
            ids: (n, context) token ids, or fewer columns where all that is left out is filling.
            table: (tokens, W) embeddings that the ids are rows of, in place of the tower's own; a sentence
                ends at its highest id there too.

        Returns:
            (n, D) float32 unit vectors.
        """
        ids, tower = ids.to(self.device), _TextTower(self.model)
        # PROMPTS at a time: 847 words in 80 templates are 68 thousand, and more than fits a card at once.
        with attention_kernel(ids.device):
            parts = [tower.encode(part, table) for part in ids.split(PROMPTS)]
        return F.normalize(torch.cat(parts).float(), dim=-1)

    def tokenize(self, prompts: Sequence[str]) -> Tensor:
        """Token ids of sentences, as the text tower takes them.

        Args:
            prompts: n sentences.

        Returns:
            (n, longest) on the model's device; (n, context) where the text tower wants all of it.

        Raises:
            ValueError: no sentence, or one longer than the context, which open_clip would cut in silence.
        """
        if not prompts:
            raise ValueError("got no sentences; expected at least one")
        ids = self.tokenizer(list(prompts))
        # Tokenizers of text towers from the hub have no `encode`, and what they do is theirs.
        if hasattr(self.tokenizer, "encode"):
            longest = self._check_tokens(prompts, [self.tokenizer.encode(prompt) for prompt in prompts])
            if _reads_forward(self.model):
                # What stands behind the end of a sentence reaches nothing: a prompt fills a quarter of it.
                ids = ids[:, :longest]
        return ids.to(self.device)

    def _check_tokens(self, prompts: Sequence[str], tokens: Sequence[Sequence[int]]) -> int:
        """Refuse what is too long, and warn of words that the model never saw.

        Returns:
            The largest number of tokens.
        """
        # Python's numbers are looked at, not a device's, which would have to be waited for.
        context = getattr(self.model, "context_length", 77)
        lengths = [len(each) + 2 for each in tokens]  # begin and end of a sentence are tokens too
        longest = max(range(len(prompts)), key=lengths.__getitem__)
        if lengths[longest] > context:
            raise ValueError(
                f"{prompts[longest][:60]!r} is {lengths[longest]} tokens long; "
                f"{self.name} reads at most {context}: shorten it"
            )
        if self.known_tokens is not None:
            pairs = zip(prompts, tokens, strict=True)
            odd = [prompt for prompt, each in pairs if not self._known.issuperset(each)]
            if odd:
                warnings.warn(
                    f"{self.name} never learnt some of the words in {odd[:3]}: its answer means little",
                    stacklevel=5,
                )
        return lengths[longest]

    @property
    def known_tokens(self) -> Tensor | None:
        """Ids of the tokens seen in pretraining (n,); None means all of them."""
        return self._known_tokens

    @known_tokens.setter
    def known_tokens(self, ids: Tensor | None) -> None:
        self._known_tokens = ids
        # The same as a set on the CPU: every word that is encoded is looked up in it.
        self._known = frozenset() if ids is None else frozenset(ids.tolist())

    def embed(
        self, images: Tensor, keep: float = 1.0, generator: torch.Generator | None = None
    ) -> tuple[Tensor, tuple[int, int]]:
        """Tokens that enter the first block.

        Args:
            images: (B, 3, H, W) floats in [0, 1]; a side that is no multiple of the patch
                is stretched to the next one.
            keep: fraction of the patches to keep, chosen at random for each image;
                for pretraining (FLIP, 2212.00794).
            generator: source of that choice.

        Returns:
            Tokens (B, 1 + N, W), CLS first, and the grid (h, w) of the whole image.

        Raises:
            ValueError: images of another shape, or not floats.
        """
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise ValueError(
                f"got images of shape {tuple(images.shape)} and {images.dtype}; "
                "expected (B, 3, H, W) floats in [0, 1]"
            )
        visual, patch = self.visual, self.patch_size
        height, width = (-(-side // patch) * patch for side in images.shape[-2:])  # rounded up
        if (height, width) != tuple(images.shape[-2:]):
            images = F.interpolate(images, (height, width), mode="bilinear", align_corners=False)
        images = images.to(self.device)  # whoever computes brings the pictures along
        # In the buffers' own type, so that numbers are rounded to the weights' type once, at the end.
        images = (images.to(self.mean.dtype) - self.mean) / self.std
        patches = visual.conv1(images.to(visual.conv1.weight.dtype))
        return self.enter(patches, keep, generator), (patches.shape[2], patches.shape[3])

    def enter(self, patches: Tensor, keep: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """Tokens that enter the first block, from patch embeddings that were computed before.

        Args:
            patches: (B, W, h, w), what `visual.conv1` gives.
            keep, generator: as for `embed`.

        Returns:
            Tokens (B, 1 + N, W), CLS first.
        """
        position = self._position((patches.shape[2], patches.shape[3])).to(patches.dtype)
        patches = patches.flatten(2).transpose(1, 2) + position[1:]  # (B, N, W)
        if keep < 1:
            # After the positions were added: a patch that stays knows where it was.
            count = max(1, round(keep * patches.shape[1]))
            chance = torch.rand(patches.shape[:2], generator=generator, device=patches.device)
            chosen = chance.argsort(1)[:, :count]
            patches = patches.gather(1, chosen[..., None].expand(-1, -1, patches.shape[2]))
        cls = self.visual.class_embedding.to(patches.dtype) + position[0]
        return self.visual.ln_pre(torch.cat([cls.expand(len(patches), 1, -1), patches], 1))

    def project(self, tokens: Tensor) -> Tensor:
        """ln_post, projection to the joint space and unit length: (..., W) -> (..., D) float32."""
        return F.normalize(self._joint(tokens), dim=-1)

    def _joint(self, tokens: Tensor) -> Tensor:
        return (self.visual.ln_post(tokens) @ self.visual.proj).float()

    def _position(self, grid: tuple[int, int]) -> Tensor:
        """Position embedding (1 + h w, W), interpolated when the grid is not the one of training."""
        position = self.visual.positional_embedding
        trained = self.visual.grid_size
        if tuple(trained) == grid:
            return position
        # CLS has no place and keeps its own; the others are a picture (1, W, h, w). Bicubic has no
        # half-precision kernel on every device.
        square = position[1:].unflatten(0, tuple(trained)).permute(2, 0, 1)[None].float()
        square = _at_grid(square, grid, self.positions)
        return torch.cat([position[:1].float(), square[0].flatten(1).T])


def _at_grid(square: Tensor, grid: tuple[int, int], positions: Positions) -> Tensor:
    """(1, W, h, w) brought to a grid."""
    if positions == "factor":
        # As SCLIP and its kin do [S]: a tenth of a patch too much, so that rounding down cannot lose one.
        factors = tuple((n + 0.1) / trained for n, trained in zip(grid, square.shape[2:], strict=True))
        return F.interpolate(square, scale_factor=factors, mode="bicubic", align_corners=False)
    # As CAT-Seg [S] and MaskCLIP [S] do.
    return F.interpolate(square, grid, mode="bicubic", align_corners=False, antialias=False)


class _TextTower(nn.Module):
    """The text tower, for sentences that are shorter than its context too."""

    def __init__(self, model: CLIP) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        return self.model.encode_text(ids)

    def encode(self, ids: Tensor, table: Tensor | None = None) -> Tensor:
        """(n, L) to (n, D), L at most the context; ids are rows of `table`, or of the tower's own."""
        length = ids.shape[1]
        other: dict[str, Tensor] = {} if table is None else {"model.token_embedding.weight": table}
        if _reads_forward(self.model) and length < len(self.model.positional_embedding):
            other["model.positional_embedding"] = self.model.positional_embedding[:length]
            other["model.attn_mask"] = self.model.attn_mask[:length, :length]
        return functional_call(self, other, (ids,)) if other else self(ids)


def _reads_forward(model: nn.Module) -> bool:
    """Whether tokens of the text tower see only what stands before them, and the last is the sentence."""
    mask = getattr(model, "attn_mask", None)
    pooled = getattr(model, "text_pool_type", None)
    return isinstance(mask, Tensor) and pooled in ("argmax", "eos")
