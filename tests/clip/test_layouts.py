"""The next open_clip: its attention is a module of its own, and some functions are gone."""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import infoclip_lite
from infoclip_lite import DenseCLIP
from infoclip_lite.clip.readouts import READ_OUTS
from infoclip_lite.clip.templates import COLLAGE_TEMPLATES

PACKAGE = Path(infoclip_lite.__file__).parent
# What the face of open_clip's main offers of all that was ever used here (version 4.2.0.dev0, read in its
# __init__.py): load_openai_model and trace_model are no longer among it.
NEXT = {
    "create_model",
    "create_model_and_transforms",
    "get_tokenizer",
    "list_models",
    "add_model_config",
    "get_model_config",
    "load_checkpoint",
    "list_pretrained",
    "list_pretrained_tags_by_model",
    "get_pretrained_cfg",
    "download_pretrained",
    "SimpleTokenizer",
    "OPENAI_DATASET_MEAN",
    "OPENAI_DATASET_STD",
    "OPENAI_IMAGENET_TEMPLATES",
    "SIMPLE_IMAGENET_TEMPLATES",
    "IMAGENET_CLASSNAMES",
}


class NextAttention(nn.Module):
    """Attention as open_clip's main has it: a module of its own with the old names of weights; (N, L, D)
    in, (N, L, D) out.
    """

    def __init__(self, old: nn.MultiheadAttention) -> None:
        super().__init__()
        self.num_heads = old.num_heads
        self.in_proj_weight, self.in_proj_bias = old.in_proj_weight, old.in_proj_bias
        self.out_proj = nn.Linear(old.embed_dim, old.embed_dim)
        self.out_proj.load_state_dict(old.out_proj.state_dict())
        # Its options, as they are left out.
        self.ln_q = self.ln_k = self.ln_inner = nn.Identity()
        self.logit_scale: Tensor | None = None
        self.head_scale: Tensor | None = None

    def forward(self, x: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        by_head = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for part in F.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, -1)
        )
        mixed = F.scaled_dot_product_attention(*by_head, attn_mask=attn_mask)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class NextBlock(nn.Module):
    """A residual block of open_clip's main."""

    def __init__(self, old: nn.Module) -> None:
        super().__init__()
        self.ln_1, self.ls_1, self.ln_2, self.mlp, self.ls_2 = (
            getattr(old, name) for name in ("ln_1", "ls_1", "ln_2", "mlp", "ls_2")
        )
        self.attn = NextAttention(old.attn)

    def forward(
        self, q_x: Tensor, k_x: None = None, v_x: None = None, attn_mask: Tensor | None = None
    ) -> Tensor:
        x = q_x + self.ls_1(self.attn(self.ln_1(q_x), attn_mask))
        return x + self.ls_2(self.mlp(self.ln_2(x)))


def in_next_layout(clip: DenseCLIP) -> DenseCLIP:
    """The same weights in the next version's blocks."""
    model = copy.deepcopy(clip.model)
    for tower in (model.visual.transformer, model.transformer):
        tower.resblocks = nn.ModuleList(map(NextBlock, tower.resblocks))
    return DenseCLIP(
        model,
        clip.tokenizer,
        mean=clip.mean.flatten().tolist(),
        std=clip.std.flatten().tolist(),
        templates=COLLAGE_TEMPLATES,
    ).eval()


@pytest.fixture(scope="module")
def next_tiny(tiny: DenseCLIP) -> DenseCLIP:
    if not getattr(tiny.visual.transformer, "batch_first", False):
        pytest.skip("this open_clip hands its blocks (L, N, D)")
    return in_next_layout(tiny)


@torch.no_grad()
def test_features_are_equal_in_the_next_layout(tiny: DenseCLIP, next_tiny: DenseCLIP) -> None:
    torch.manual_seed(0)
    images = torch.rand(2, 3, 40, 24)
    words = tiny.encode_text(["cow", "grass"])
    torch.testing.assert_close(next_tiny.encode_text(["cow", "grass"]), words)
    torch.testing.assert_close(next_tiny.encode_image(images), tiny.encode_image(images))
    for ours, theirs in zip(
        next_tiny.encode_each(images, list(READ_OUTS), words),
        tiny.encode_each(images, list(READ_OUTS), words),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


@torch.no_grad()
def test_our_blocks_are_the_next_layouts_own(next_tiny: DenseCLIP) -> None:
    """What the blocks themselves compute: not only that two ways of reading their weights agree."""
    images = torch.rand(2, 3, 32, 32)
    states = next_tiny.hidden_states(images)
    for block, entering, leaving in zip(next_tiny.blocks, states, states[1:], strict=True):
        torch.testing.assert_close(block(entering), leaving)


def changed(clip: DenseCLIP, change: Callable[[nn.Module], None]) -> nn.Module:
    model = copy.deepcopy(clip.model)
    change(model.visual.transformer.resblocks[1])
    return model


def split(block: nn.Module) -> None:
    block.attn.in_proj_weight = None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (split, r"attention NextAttention without queries, keys and values in one in_proj_weight \(block 1"),
        (lambda block: setattr(block.attn, "ln_q", nn.LayerNorm(16)), "attention with ln_q"),
        (lambda block: setattr(block.attn, "head_scale", torch.ones(3, 1, 1)), "attention with head_scale"),
        (lambda block: setattr(block, "ln_attn", nn.LayerNorm(48)), "attention with ln_attn"),
        (lambda block: setattr(block.attn, "num_heads", 5), r"in_proj_weight \(144, 48\) and 5 heads"),
        (lambda block: delattr(block, "ln_2"), "a block without ln_2"),
    ],
)
def test_what_is_not_computed_here_is_refused_by_name(
    next_tiny: DenseCLIP, change: Callable[[nn.Module], None], said: str
) -> None:
    with pytest.raises(ValueError, match=f"{said}.*which is not computed here; expected open_clip's ViT"):
        DenseCLIP(changed(next_tiny, change), next_tiny.tokenizer, mean=[0.5] * 3, std=[0.5] * 3)


def used_names() -> set[str]:
    """Every `open_clip.NAME` of the package."""
    found: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                found |= {node.attr} if node.value.id == "open_clip" else set()
    return found


def test_nothing_is_used_that_the_next_version_lacks() -> None:
    assert used_names() and used_names() <= NEXT
    every = "".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    # Its defaults are others in every version: intermediate states come from a pass of our own.
    assert "forward_intermediates" not in every and "load_openai_model" not in every
