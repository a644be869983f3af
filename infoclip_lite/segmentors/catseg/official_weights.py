"""Official CAT-Seg checkpoints: their names for our weights, and back.

Names and shapes are those of the official code [S].

| official | here |
|---|---|
| `sem_seg_head.predictor.clip_model.` | `clip.model.`; `q_`, `k_`, `v_proj_weight` in one `in_proj_weight` |
| `sem_seg_head.predictor.transformer.` | `aggregator.` |
| `...conv1`, `...guidance_projection` | `...embed`, `...appearance` |
| `...text_guidance_projection` | `...words` |
| `...layers.N.swin_block.block_1`, `block_2` | `...spatial.N.blocks.0`, `1` |
| `...layers.N.attention` | `...classes.N`; `padding_tokens`, `padding_guidance` are `filler`, `filler_word` |
| `...decoder_guidance_projection.N`, `decoder1`, `decoder2` | `...guides.N`, `decoder.0`, `1` |
| `upsample1`, `upsample2` | `upsample.0`, `1` |
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor

from ...clip.loading import read_pickle
from .model import CostAggregationSegmentor

# CAT-Seg's copy of CLIP keeps q, k and v apart, so that two of them can be tuned; open_clip has one tensor.
_QKV = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
# Buffers that the official state carries along: the mask is made anew here, the means are CLIP's own.
_BUFFERS = ("pixel_mean", "pixel_std", "clip_pixel_mean", "clip_pixel_std")
# Official name -> ours, of the parts of a window block:
_BLOCK = {
    "norm1": "norm_1",
    "norm2": "norm_2",
    "attn.q": "q",
    "attn.k": "k",
    "attn.v": "v",
    "attn.proj": "out",
    "mlp.fc1": "mlp.0",
    "mlp.fc2": "mlp.2",
}
# of class aggregation:
_CLASSES = {
    "norm1": "norm_1",
    "norm2": "norm_2",
    "attention.q": "q",
    "attention.k": "k",
    "attention.v": "v",
    "MLP.0": "mlp.0",
    "MLP.2": "mlp.2",
    "padding_tokens": "filler",
    "padding_guidance": "filler_word",
}
# of a doubling:
_UP = {
    "up": "up",
    "conv.double_conv.0": "conv_1",
    "conv.double_conv.1": "norm_1",
    "conv.double_conv.3": "conv_2",
    "conv.double_conv.4": "norm_2",
}
# and of the top.
_TOP = {
    "conv1": "embed",
    "guidance_projection": "appearance",
    "text_guidance_projection": "words",
    "head": "head",
}


def _names(layers: int, ups: int) -> dict[str, str]:
    """Prefixes of official names -> prefixes of ours, for the head."""
    head = "sem_seg_head.predictor.transformer."
    table = {f"{head}{a}": f"aggregator.{b}" for a, b in _TOP.items()}
    for n in range(layers):
        layer = f"{head}layers.{n}"
        table[f"{layer}.swin_block.guidance_norm"] = f"aggregator.spatial.{n}.norm_guidance"
        for i in (0, 1):
            table |= {
                f"{layer}.swin_block.block_{i + 1}.{a}": f"aggregator.spatial.{n}.blocks.{i}.{b}"
                for a, b in _BLOCK.items()
            }
        table |= {f"{layer}.attention.{a}": f"aggregator.classes.{n}.{b}" for a, b in _CLASSES.items()}
    for i in range(ups):
        table[f"upsample{i + 1}"] = f"upsample.{i}"
        table[f"{head}decoder_guidance_projection.{i}"] = f"aggregator.guides.{i}"
        table |= {f"{head}decoder{i + 1}.{a}": f"aggregator.decoder.{i}.{b}" for a, b in _UP.items()}
    return table


def _rename(name: str, table: dict[str, str]) -> str | None:
    """`name` with its prefix (whole parts of it) replaced; None if no prefix is known."""
    parts = name.split(".")
    # The longest prefix first: `head` is a name of its own, and the beginning of others.
    for end in range(len(parts), 0, -1):
        prefix = ".".join(parts[:end])
        if prefix in table:
            return ".".join([table[prefix], *parts[end:]])
    return None


def from_official(state: dict[str, Tensor], segmentor: CostAggregationSegmentor) -> dict[str, Tensor]:
    """An official state dict under our names, for `segmentor.load_state_dict`.

    Args:
        state: by official names; buffers (attention masks, pixel means) are passed over.
        segmentor: built for the same size; it says how many layers there are.

    Returns:
        Every key of the segmentor's own state dict, in its shape.

    Raises:
        ValueError: weights are missing, left over, or of another shape; the first of each is named.
    """
    config = segmentor.config
    table = {
        **_names(config.layers, len(config.decoder_channels)),
        "sem_seg_head.predictor.clip_model": "clip.model",
    }
    renamed: dict[str, Tensor] = {}
    left = []
    for name, value in state.items():
        last = name.rpartition(".")[2]
        if name.endswith("attn_mask") or last in _BUFFERS:
            continue
        ours = _rename(name, table)
        if ours is None:
            left.append(name)
            continue
        # The official fillers are (1, 1, width).
        filler = ours.rpartition(".")[2] in ("filler", "filler_word")
        renamed[ours] = value.flatten() if filler else value
    for name in [n for n in renamed if n.endswith(_QKV[0])]:
        stem = name.removesuffix(_QKV[0])
        thirds = [renamed.pop(stem + part) for part in _QKV if stem + part in renamed]
        # Fewer than three: what is missing is named below, as in_proj_weight.
        if len(thirds) == len(_QKV):
            renamed[f"{stem}in_proj_weight"] = torch.cat(thirds)
    wanted = {name: tuple(value.shape) for name, value in segmentor.state_dict().items()}
    missing, extra = sorted(wanted.keys() - renamed.keys()), sorted(renamed.keys() - wanted.keys())
    shapes = [n for n in wanted if n in renamed and tuple(renamed[n].shape) != wanted[n]]
    if left or missing or extra or shapes:
        details = [f"no {n}" for n in missing[:1]] + [f"unknown {n}" for n in (left + extra)[:1]]
        details += [f"{n} is {tuple(renamed[n].shape)}, expected {wanted[n]}" for n in shapes[:1]]
        raise ValueError(
            f"the checkpoint is of another architecture: {len(missing)} weights missing, "
            f"{len(left) + len(extra)} unknown, {len(shapes)} of another shape ({'; '.join(details)}); "
            "hint: 'vit_b' goes with ViT-B-16-quickgelu, 'vit_l' with ViT-L-14-336-quickgelu"
        )
    return renamed


def to_official(segmentor: CostAggregationSegmentor) -> dict[str, Tensor]:
    """The segmentor's weights under the official names: the inverse of `from_official`.

    Args:
        segmentor: of any size.

    Returns:
        A state dict without the official buffers.
    """
    config = segmentor.config
    table = {ours: official for official, ours in _names(config.layers, len(config.decoder_channels)).items()}
    table["clip.model"] = "sem_seg_head.predictor.clip_model"
    state: dict[str, Tensor] = {}
    for name, value in segmentor.state_dict().items():
        official = str(_rename(name, table))
        if name.endswith("in_proj_weight"):
            for part, third in zip(_QKV, value.chunk(3), strict=True):
                state[official.replace("in_proj_weight", part)] = third
        elif re.search(r"\.padding_(tokens|guidance)$", official):
            state[official] = value[None, None]
        else:
            state[official] = value
    return state


def load_official(segmentor: CostAggregationSegmentor, path: str | Path) -> CostAggregationSegmentor:
    """Fill a segmentor with an official CAT-Seg checkpoint: a torch pickle with "model",
    read with weights_only.

    Args:
        segmentor: CostAggregationSegmentor(load_clip("ViT-B-16-quickgelu"), size="vit_b"),
            or the like for ViT-L.
        path: the file.

    Returns:
        The segmentor that was given.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that cannot be read, or is of another architecture.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no checkpoint {path}; expected a file from CAT-Seg's model zoo")
    segmentor.load_state_dict(from_official(read_pickle(Path(path), "model"), segmentor))
    return segmentor
