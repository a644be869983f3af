"""MaskCLIP's own read-out against its formula, one patch at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from infoclip_lite import DenseCLIP
from infoclip_lite.clip.blocks import standard_block


def test_each_patch_attends_to_itself_alone_and_the_rest_of_the_block_stays(
    make_tiny: Callable[..., DenseCLIP],
) -> None:
    """A patch that can look at nothing but itself: the block as trained on that one token."""
    clip = make_tiny().requires_grad_(False)
    images = torch.rand(2, 3, 24, 32, generator=torch.Generator().manual_seed(0))
    entering = clip.tower(images).entering[:, 1:]
    alone = standard_block(clip.blocks[-1], entering.flatten(0, 1)[:, None])[:, 0]  # sequences of one token
    wanted = F.normalize(clip.visual.ln_post(alone) @ clip.visual.proj, dim=-1).view(2, 12, -1)
    got = clip.encode_dense(images, "maskclip").flatten(2).mT
    assert torch.allclose(got, wanted, atol=1e-5)
    assert not torch.allclose(got, clip.encode_dense(images, "value").flatten(2).mT, atol=1e-2)
