"""Official CAT-Seg checkpoints: the table of their names and shapes, by rule, fits our segmentor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import open_clip
import pytest
import torch
from open_clip.model import CLIP
from torch import Tensor

from infoclip_lite import DenseCLIP
from infoclip_lite.segmentors import AggregationConfig, CostAggregationSegmentor
from infoclip_lite.segmentors.catseg.official_weights import from_official, load_official, to_official

MakeTiny = Callable[..., DenseCLIP]
Shapes = dict[str, tuple[int, ...]]
SMALL = AggregationConfig(
    hidden=16,
    heads=2,
    window=2,
    text_width=8,
    appearance_width=12,
    guidance_blocks=(0, 0),
    guidance_channels=(16, 8),
    guidance_width=(4, 8),
    decoder_channels=(32, 16),
    class_tokens=6,
)
PREDICTOR = "sem_seg_head.predictor."


def linear(name: str, inside: int, outside: int) -> Shapes:
    return {f"{name}.weight": (outside, inside), f"{name}.bias": (outside,)}


def norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def clip_blocks(name: str, width: int, count: int) -> Shapes:
    """OpenAI's residual blocks, with q, k and v apart and their biases together, as CAT-Seg has them."""
    table: Shapes = {}
    for n in range(count):
        block = f"{name}.resblocks.{n}"
        table |= {f"{block}.attn.{part}_proj_weight": (width, width) for part in "qkv"}
        table |= {
            f"{block}.attn.in_proj_bias": (3 * width,),
            **linear(f"{block}.attn.out_proj", width, width),
        }
        table |= norm(f"{block}.ln_1", width) | norm(f"{block}.ln_2", width)
        table |= linear(f"{block}.mlp.c_fc", width, 4 * width) | linear(
            f"{block}.mlp.c_proj", 4 * width, width
        )
    return table


def official(width: int, blocks: int, patch: int, side: int, text_width: int, joint: int) -> Shapes:
    """Every weight of a checkpoint: ViT of `width`, 12 blocks of text, head of configs/vit{b,l}_*.yaml."""
    clip = f"{PREDICTOR}clip_model"
    table = clip_blocks(f"{clip}.visual.transformer", width, blocks) | clip_blocks(
        f"{clip}.transformer", text_width, 12
    )
    table |= {
        f"{clip}.logit_scale": (),
        f"{clip}.positional_embedding": (77, text_width),
        f"{clip}.text_projection": (text_width, joint),
        f"{clip}.token_embedding.weight": (49408, text_width),
        f"{clip}.visual.class_embedding": (width,),
        f"{clip}.visual.positional_embedding": ((side // patch) ** 2 + 1, width),
        f"{clip}.visual.proj": (width, joint),
        f"{clip}.visual.conv1.weight": (width, 3, patch, patch),
    }
    table |= (
        norm(f"{clip}.ln_final", text_width)
        | norm(f"{clip}.visual.ln_pre", width)
        | norm(f"{clip}.visual.ln_post", width)
    )
    table |= {"upsample1.weight": (width, 256, 2, 2), "upsample1.bias": (256,)}
    table |= {"upsample2.weight": (width, 128, 4, 4), "upsample2.bias": (128,)}
    head, hidden, guidance = f"{PREDICTOR}transformer", 128, 128
    table |= {f"{head}.conv1.weight": (hidden, 1, 7, 7), f"{head}.conv1.bias": (hidden,)}
    table |= {
        f"{head}.guidance_projection.0.weight": (guidance, joint, 3, 3),
        f"{head}.guidance_projection.0.bias": (guidance,),
    }
    table |= linear(f"{head}.text_guidance_projection.0", joint, guidance)
    for i, (channels, projected) in enumerate(((256, 32), (128, 16))):
        name = f"{head}.decoder_guidance_projection.{i}.0"
        table |= {f"{name}.weight": (projected, channels, 3, 3), f"{name}.bias": (projected,)}
    for layer in (f"{head}.layers.{n}" for n in range(2)):
        table |= norm(f"{layer}.swin_block.guidance_norm", guidance)
        for block in (f"{layer}.swin_block.block_{i}" for i in (1, 2)):
            table |= norm(f"{block}.norm1", hidden) | norm(f"{block}.norm2", hidden)
            table |= linear(f"{block}.attn.q", hidden + guidance, hidden) | linear(
                f"{block}.attn.k", hidden + guidance, hidden
            )
            table |= linear(f"{block}.attn.v", hidden, hidden) | linear(f"{block}.attn.proj", hidden, hidden)
            table |= linear(f"{block}.mlp.fc1", hidden, 4 * hidden) | linear(
                f"{block}.mlp.fc2", 4 * hidden, hidden
            )
        words = f"{layer}.attention"
        table |= norm(f"{words}.norm1", hidden) | norm(f"{words}.norm2", hidden)
        table |= linear(f"{words}.attention.q", hidden + guidance, hidden) | linear(
            f"{words}.attention.k", hidden + guidance, hidden
        )
        table |= linear(f"{words}.attention.v", hidden, hidden)
        table |= linear(f"{words}.MLP.0", hidden, 4 * hidden) | linear(f"{words}.MLP.2", 4 * hidden, hidden)
        table |= {f"{words}.padding_tokens": (1, 1, hidden), f"{words}.padding_guidance": (1, 1, guidance)}
    for up, inside, outside, guide in (("decoder1", 128, 64, 32), ("decoder2", 64, 32, 16)):
        conv = f"{head}.{up}.conv.double_conv"
        table |= {
            f"{head}.{up}.up.weight": (inside, inside - guide, 2, 2),
            f"{head}.{up}.up.bias": (inside - guide,),
        }
        table |= {f"{conv}.0.weight": (outside, inside, 3, 3), f"{conv}.3.weight": (outside, outside, 3, 3)}
        table |= norm(f"{conv}.1", outside) | norm(f"{conv}.4", outside)
    return table | {f"{head}.head.weight": (1, 32, 3, 3), f"{head}.head.bias": (1,)}


OFFICIAL = {
    "vit_b": ("ViT-B-16-quickgelu", official(768, 12, 16, 224, 512, 512)),
    "vit_l": ("ViT-L-14-336-quickgelu", official(1024, 24, 14, 336, 768, 768)),
}


def empty_segmentor(size: str) -> CostAggregationSegmentor:
    """Of full size and without memory."""
    config = open_clip.get_model_config(OFFICIAL[size][0])
    with torch.device("meta"):
        return CostAggregationSegmentor(
            DenseCLIP(CLIP(**config), None, mean=(0.5,) * 3, std=(0.25,) * 3), size=size
        )


def empty_state(size: str) -> dict[str, Tensor]:
    return {name: torch.empty(shape, device="meta") for name, shape in OFFICIAL[size][1].items()}


@pytest.mark.parametrize("size", OFFICIAL)
def test_an_official_checkpoint_fills_every_weight_in_both_sizes(size: str) -> None:
    segmentor = empty_segmentor(size)
    filled = from_official(empty_state(size), segmentor)
    assert {n: tuple(v.shape) for n, v in filled.items()} == {
        n: tuple(v.shape) for n, v in segmentor.state_dict().items()
    }


@pytest.mark.parametrize("size", OFFICIAL)
def test_our_weights_under_official_names_are_an_official_checkpoint(size: str) -> None:
    assert {n: tuple(v.shape) for n, v in to_official(empty_segmentor(size)).items()} == OFFICIAL[size][1]


def test_a_checkpoint_of_the_other_size_says_which_model_it_wants() -> None:
    hint = "of another architecture: .*'vit_b' goes with ViT-B-16-quickgelu, 'vit_l' with ViT-L-14-336"
    for size, other in (("vit_b", "vit_l"), ("vit_l", "vit_b")):
        with pytest.raises(ValueError, match=hint):
            from_official(empty_state(other), empty_segmentor(size))


@pytest.fixture
def segmentor(make_tiny: MakeTiny) -> CostAggregationSegmentor:
    """Small, with a value of its own in every weight."""
    torch.manual_seed(0)
    segmentor = CostAggregationSegmentor(make_tiny(), size=SMALL).eval().requires_grad_(False)
    for parameter in segmentor.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    return segmentor


def test_there_and_back_is_bit_equal(segmentor: CostAggregationSegmentor) -> None:
    back, wanted = from_official(to_official(segmentor), segmentor), segmentor.state_dict()
    assert back.keys() == wanted.keys() and all(torch.equal(back[name], wanted[name]) for name in wanted)


def test_weights_of_one_shape_are_not_mistaken_for_each_other(segmentor: CostAggregationSegmentor) -> None:
    state = to_official(segmentor)
    head, aggregator, visual = f"{PREDICTOR}transformer", segmentor.aggregator, segmentor.clip.blocks[1].attn
    spatial, classes = aggregator.spatial[1].blocks, aggregator.classes[0]
    pairs = {
        f"{head}.layers.1.swin_block.block_1.norm1.weight": spatial[0].norm_1.weight,
        f"{head}.layers.1.swin_block.block_1.norm2.weight": spatial[0].norm_2.weight,
        f"{head}.layers.1.swin_block.block_1.attn.q.weight": spatial[0].q.weight,
        f"{head}.layers.1.swin_block.block_2.attn.q.weight": spatial[1].q.weight,
        f"{head}.layers.1.swin_block.block_2.attn.k.weight": spatial[1].k.weight,
        f"{head}.layers.1.swin_block.block_2.attn.v.weight": spatial[1].v.weight,
        f"{head}.layers.1.swin_block.block_2.attn.proj.weight": spatial[1].out.weight,
        f"{head}.layers.1.swin_block.block_2.mlp.fc1.bias": spatial[1].mlp[0].bias,
        f"{head}.layers.0.attention.attention.q.bias": classes.q.bias,
        f"{head}.layers.0.attention.attention.k.bias": classes.k.bias,
        f"{head}.layers.0.attention.attention.v.bias": classes.v.bias,
        f"{head}.layers.0.attention.norm1.bias": classes.norm_1.bias,
        f"{head}.layers.0.attention.padding_tokens": classes.filler[None, None],
        f"{head}.layers.0.attention.padding_guidance": classes.filler_word[None, None],
        f"{head}.decoder1.conv.double_conv.1.weight": aggregator.decoder[0].norm_1.weight,
        f"{head}.decoder1.conv.double_conv.4.weight": aggregator.decoder[0].norm_2.weight,
        f"{head}.decoder1.conv.double_conv.3.weight": aggregator.decoder[0].conv_2.weight,
        f"{PREDICTOR}clip_model.visual.transformer.resblocks.1.attn.q_proj_weight": visual.in_proj_weight[
            :48
        ],
        f"{PREDICTOR}clip_model.visual.transformer.resblocks.1.attn.k_proj_weight": visual.in_proj_weight[
            48:96
        ],
        f"{PREDICTOR}clip_model.visual.transformer.resblocks.1.attn.v_proj_weight": visual.in_proj_weight[
            96:
        ],
        f"{PREDICTOR}clip_model.transformer.resblocks.0.ln_2.weight": segmentor.clip.text_blocks[
            0
        ].ln_2.weight,
    }
    for name, weight in pairs.items():
        assert torch.equal(state[name], weight), name


def blank(segmentor: CostAggregationSegmentor, make_tiny: MakeTiny) -> CostAggregationSegmentor:
    return CostAggregationSegmentor(make_tiny(seed=7), size=segmentor.config)


def equal(a: CostAggregationSegmentor, b: CostAggregationSegmentor) -> bool:
    return all(torch.equal(value, b.state_dict()[name]) for name, value in a.state_dict().items())


@pytest.mark.parametrize("wrapped", [True, False], ids=["model", "plain"])
def test_a_file_is_read(
    segmentor: CostAggregationSegmentor, make_tiny: MakeTiny, tmp_path: Path, wrapped: bool
) -> None:
    """Detectron2 keeps the weights under "model", with what it needs to go on training beside them."""
    state, other = to_official(segmentor), blank(segmentor, make_tiny)
    torch.save(
        {"model": state, "iteration": 79999, "scheduler": {"last_epoch": 3}} if wrapped else state,
        tmp_path / "catseg.pth",
    )
    assert not equal(other, segmentor)
    assert load_official(other, tmp_path / "catseg.pth") is other and equal(other, segmentor)


def test_buffers_of_the_official_code_are_passed_over(
    segmentor: CostAggregationSegmentor, make_tiny: MakeTiny, tmp_path: Path
) -> None:
    state, other = to_official(segmentor), blank(segmentor, make_tiny)
    state[f"{PREDICTOR}transformer.layers.0.swin_block.block_2.attn_mask"] = torch.zeros(4, 144, 144)
    state |= {
        name: torch.zeros(3, 1, 1)
        for name in ("pixel_mean", "pixel_std", "clip_pixel_mean", "clip_pixel_std")
    }
    torch.save({"model": state}, tmp_path / "catseg.pth")
    assert equal(load_official(other, tmp_path / "catseg.pth"), segmentor)


@pytest.mark.parametrize(
    "name",
    [
        f"{PREDICTOR}transformer.layers.1.swin_block.block_2.attn.q.weight",
        f"{PREDICTOR}clip_model.visual.transformer.resblocks.0.attn.k_proj_weight",
        f"{PREDICTOR}clip_model.visual.transformer.resblocks.0.attn.q_proj_weight",
        "upsample2.bias",
    ],
)
def test_a_missing_weight_is_told(segmentor: CostAggregationSegmentor, name: str) -> None:
    state = to_official(segmentor)
    del state[name]
    with pytest.raises(
        ValueError, match=r"another architecture: 1 weights missing.*\(no (aggregator|clip|upsample)\."
    ):
        from_official(state, segmentor)


@pytest.mark.parametrize(
    "name",
    ["backbone.conv1.weight", "upsample3.weight", f"{PREDICTOR}transformer.layers.9.attention.norm1.weight"],
)
def test_an_unknown_weight_is_named(segmentor: CostAggregationSegmentor, name: str) -> None:
    with pytest.raises(ValueError, match=f"0 weights missing, 1 unknown.*unknown {name}"):
        from_official({**to_official(segmentor), name: torch.zeros(3)}, segmentor)


@pytest.mark.parametrize("part", ["q", "k"])
def test_a_weight_of_another_shape_is_named_with_both_shapes(
    segmentor: CostAggregationSegmentor, part: str
) -> None:
    name = f"{PREDICTOR}transformer.layers.0.swin_block.block_1.attn.{part}.weight"
    with pytest.raises(
        ValueError, match=rf"1 of another shape.*blocks\.0\.{part}\.weight is \(3, 4\), expected \(16, 28\)"
    ):
        from_official({**to_official(segmentor), name: torch.zeros(3, 4)}, segmentor)


def test_another_number_of_layers_is_refused(
    segmentor: CostAggregationSegmentor, make_tiny: MakeTiny
) -> None:
    deeper = CostAggregationSegmentor(make_tiny(), size=replace(SMALL, layers=3))
    with pytest.raises(ValueError, match="weights missing, 0 unknown"):
        from_official(to_official(segmentor), deeper)
    with pytest.raises(ValueError, match="0 weights missing"):
        from_official(to_official(deeper), segmentor)


def test_a_refused_checkpoint_changes_nothing(
    segmentor: CostAggregationSegmentor, make_tiny: MakeTiny, tmp_path: Path
) -> None:
    state, other, before = to_official(segmentor), blank(segmentor, make_tiny), blank(segmentor, make_tiny)
    before.load_state_dict(other.state_dict())
    state["upsample2.bias"] = torch.zeros(5)
    torch.save({"model": state}, tmp_path / "catseg.pth")
    with pytest.raises(ValueError, match="another shape"):
        load_official(other, tmp_path / "catseg.pth")
    assert equal(other, before)


def test_a_missing_file_is_told(segmentor: CostAggregationSegmentor, tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match="no checkpoint .*nothing.pth; expected a file from CAT-Seg's model zoo"
    ):
        load_official(segmentor, tmp_path / "nothing.pth")


def test_a_truncated_file_is_told(segmentor: CostAggregationSegmentor, tmp_path: Path) -> None:
    path = tmp_path / "catseg.pth"
    torch.save({"model": to_official(segmentor)}, path)
    for content in (path.read_bytes()[: path.stat().st_size // 2], b"", b"<html>not found</html>"):
        path.write_bytes(content)
        with pytest.raises(
            ValueError, match=r"catseg.pth cannot be read as a checkpoint .*truncated or another kind of file"
        ):
            load_official(segmentor, path)


@pytest.mark.parametrize(
    "content", [{}, {"model": {}}, {"weights": torch.zeros(2)}], ids=["empty", "empty model", "other"]
)
def test_a_file_of_another_model_is_refused(
    segmentor: CostAggregationSegmentor, tmp_path: Path, content: object
) -> None:
    torch.save(content, tmp_path / "catseg.pth")
    with pytest.raises(ValueError, match="another architecture"):
        load_official(segmentor, tmp_path / "catseg.pth")


@pytest.mark.parametrize(
    "content", [[1, 2], {"model": 3}, {"model": {"a": "text"}}, {1: torch.zeros(2)}], ids=str
)
def test_a_file_that_holds_no_state_dict_is_refused(
    segmentor: CostAggregationSegmentor, tmp_path: Path, content: object
) -> None:
    torch.save(content, tmp_path / "catseg.pth")
    with pytest.raises(ValueError, match="holds no state dict; expected tensors by name"):
        load_official(segmentor, tmp_path / "catseg.pth")
