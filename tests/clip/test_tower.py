"""One pass through the image tower: each block is run once, when it is asked for, and holds what the blocks
say by hand.
"""

from __future__ import annotations

import math
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from infoclip_lite import DenseCLIP
from infoclip_lite.clip import readouts
from infoclip_lite.clip.blocks import standard_block
from infoclip_lite.clip.readouts import READ_OUTS
from infoclip_lite.clip.tower import TowerPass
from infoclip_lite.segmentors import ZeroShotSegmentor

MakeTiny = Callable[..., DenseCLIP]
LAYERS = 4


@pytest.fixture(scope="module")
def deep(make_tiny: MakeTiny) -> DenseCLIP:
    """Of four blocks, so that there is something between the first and the last."""
    return make_tiny(layers=LAYERS).requires_grad_(False)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(2, 3, 24, 40, generator=torch.Generator().manual_seed(3))


@contextmanager
def counted(clip: DenseCLIP) -> Iterator[Counter[int]]:
    """How often each block was run as it was trained, by its place; and at -1 how often pictures were
    embedded.
    """
    runs: Counter[int] = Counter()
    places = {id(block): place for place, block in enumerate(clip.blocks)}
    run, embed = clip.block, clip.embed

    def watched(block: nn.Module, tokens: Tensor) -> Tensor:
        runs[places[id(block)]] += 1
        return run(block, tokens)

    def embedded(*args: object, **options: object) -> tuple[Tensor, tuple[int, int]]:
        runs[-1] += 1
        return embed(*args, **options)

    clip.block, clip.embed = watched, embedded
    try:
        yield runs
    finally:
        clip.block = run
        del clip.embed


BEFORE_LAST = dict.fromkeys(range(-1, LAYERS - 1), 1)  # the pictures once, and each block but the last
ALL = {**BEFORE_LAST, LAYERS - 1: 1}


@pytest.mark.parametrize(
    ("read_outs", "wanted"),
    [
        (("value",), BEFORE_LAST),
        (("vanilla",), ALL),
        (("value", "cls_value"), BEFORE_LAST),
        (("value", "value", "cls_value", "sclip", "clearclip", "naclip"), BEFORE_LAST),
        (("vanilla", "value", "cls_value", "sclip", "clearclip", "naclip"), ALL),
    ],
    ids=lambda v: f"{len(v)}",
)
def test_every_block_is_run_once_for_any_number_of_read_outs(
    deep: DenseCLIP, images: Tensor, read_outs: tuple[str, ...], wanted: dict[int, int]
) -> None:
    with counted(deep) as runs:
        together = deep.encode_each(images, read_outs)
    assert runs == wanted
    for name, dense in zip(read_outs, together, strict=True):
        assert torch.equal(dense, deep.encode_dense(images, name)), "and each is what it is alone"


def test_the_global_embedding_comes_from_the_same_pass(deep: DenseCLIP, images: Tensor) -> None:
    for read_outs in (("value",), ("vanilla", "sclip")):
        with counted(deep) as runs:
            deep.encode_both(images, read_outs)
        assert runs == ALL
    with counted(deep) as runs:
        deep.encode_image(images)
    assert runs == ALL


def test_a_blend_of_two_read_outs_runs_the_tower_once(deep: DenseCLIP, images: Tensor) -> None:
    segmentor = ZeroShotSegmentor(deep, ("value", "cls_value"))
    text = segmentor.encode_text(["cow", "grass"])
    with counted(deep) as runs:
        encoded = segmentor.encode(images)
        logits = segmentor.decode(encoded, text)
    assert runs == BEFORE_LAST
    alone = [ZeroShotSegmentor(deep, name) for name in ("value", "cls_value")]
    wanted = torch.stack([one.decode(one.encode(images), text) for one in alone]).mean(0)
    assert torch.allclose(logits, wanted, atol=1e-5)


def test_nothing_is_run_before_it_is_asked_for_and_nothing_twice(deep: DenseCLIP, images: Tensor) -> None:
    with counted(deep) as runs:
        tower = deep.tower(images)
        assert runs == {-1: 1}
        for _ in range(2):
            assert len(tower.states) == LAYERS
            assert runs == BEFORE_LAST, "the last block is nobody's business yet"
        for _ in range(2):
            assert tower.entering is tower.states[-1]
            assert tower.leaving.shape == tower.entering.shape
            assert runs == ALL


@pytest.mark.parametrize("keep", [True, False])
def test_states_are_what_the_blocks_make_of_the_tokens_by_hand(
    deep: DenseCLIP, images: Tensor, keep: bool
) -> None:
    tower, (tokens, grid) = deep.tower(images, keep=keep), deep.embed(images)
    assert (
        tower.grid == grid == (3, 5) and tower.blocks == list(deep.blocks) and tower.last is deep.blocks[-1]
    )
    by_hand = [tokens]
    for block in deep.blocks:
        by_hand.append(standard_block(block, by_hand[-1]))
    assert torch.equal(tower.entering, by_hand[-2]) and torch.equal(tower.leaving, by_hand[-1])
    assert len(tower.states) == LAYERS
    for state, wanted in zip(tower.states, by_hand, strict=False):
        assert torch.equal(state, wanted)


@pytest.mark.parametrize("index", range(LAYERS))
def test_attention_is_the_softmax_of_queries_and_keys_of_the_named_block(
    deep: DenseCLIP, images: Tensor, index: int
) -> None:
    tower = deep.tower(images)
    got, block = tower.attention(index), deep.blocks[index]
    assert got.shape == (2, 3, 16, 16) and torch.allclose(got.sum(-1), torch.ones(2, 3, 16), atol=1e-5)
    query, key, value = (
        block.ln_1(tower.states[index]) @ block.attn.in_proj_weight.T + block.attn.in_proj_bias
    ).split(48, -1)
    mixed = []
    for head in (slice(0, 16), slice(16, 32), slice(32, 48)):
        weights = (query[..., head] @ key[..., head].mT / math.sqrt(16)).softmax(-1)
        assert torch.allclose(got[:, head.start // 16], weights, atol=1e-6)
        mixed.append(weights @ value[..., head])
    tokens = tower.states[index] + block.attn.out_proj(torch.cat(mixed, -1))
    after = tower.leaving if index == LAYERS - 1 else tower.states[index + 1]
    assert torch.allclose(tokens + block.mlp(block.ln_2(tokens)), after, atol=1e-5), (
        "and it is the one that the block was trained with"
    )


def test_standard_runs_a_block_on_other_tokens_the_way_the_model_runs_it(
    deep: DenseCLIP, images: Tensor
) -> None:
    tower = deep.tower(images)
    tokens = torch.randn(2, 16, 48, generator=torch.Generator().manual_seed(1))
    for index in range(LAYERS):
        assert torch.equal(tower.standard(index, tokens), standard_block(deep.blocks[index], tokens))
    other = TowerPass(tokens, (3, 5), deep.blocks, run=lambda block, x: x + 1)
    assert torch.equal(other.standard(2, tokens), tokens + 1) and torch.equal(
        other.leaving, tokens + 1 + 1 + 1 + 1
    )


def test_tokens_are_projected_as_the_model_projects_them(deep: DenseCLIP, images: Tensor) -> None:
    tower = deep.tower(images)
    assert torch.equal(tower.project(tower.leaving[:, 0]), deep.encode_image(images))


def test_a_part_of_a_tower_is_a_tower(deep: DenseCLIP, images: Tensor) -> None:
    """A head that borrows the last blocks has no others."""
    whole = deep.tower(images)
    part = TowerPass(whole.states[2], whole.grid, deep.blocks[2:])
    assert len(part.states) == 2 and torch.equal(part.states[0], whole.states[2])
    assert torch.equal(part.attention(0), whole.attention(2)) and torch.equal(part.leaving, whole.leaving)
    assert part.words is None and part.project is None
    single = TowerPass(whole.entering, whole.grid, deep.blocks[-1:])
    assert single.entering is whole.entering and torch.equal(single.leaving, whole.leaving)


def test_words_reach_the_read_outs(deep: DenseCLIP, images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Tensor | None] = []

    def looking(tower: TowerPass) -> Tensor:
        given.append(tower.words)
        return tower.entering[:, 1:]

    monkeypatch.setitem(readouts.READ_OUTS, "looking", looking)
    words = deep.encode_text(["cow", "grass"])
    deep.encode_each(images, ["looking", "value"], words)
    deep.encode_dense(images, "looking")
    assert given[0] is words and given[1] is None
    assert deep.tower(images, words).words is words and deep.tower(images).words is None


def test_a_pass_can_be_told_words_afterwards(deep: DenseCLIP, images: Tensor) -> None:
    words = deep.encode_text(["cow", "grass"])
    with counted(deep) as runs:
        tower = deep.tower(images)
        told = tower.told(words)
        assert told.words is words and tower.words is None and told.images is images
        assert told.entering is tower.entering
        assert told.states[1] is tower.states[1]
    assert runs == BEFORE_LAST, "what one of them ran the other has"
    cosines = told.cosines(told.leaving[:, 1:])
    wanted = deep.encode_dense(images, "vanilla").flatten(2).mT @ words.T
    assert torch.allclose(cosines, wanted, atol=1e-5)


def test_who_is_told_no_words_or_cannot_project_says_so(deep: DenseCLIP, images: Tensor) -> None:
    tower = deep.tower(images)
    for ask in (tower.known_words, lambda: tower.cosines(tower.entering)):
        with pytest.raises(ValueError, match=r"without words; expected one of `DenseCLIP\.tower"):
            ask()
    part = TowerPass(tower.entering, tower.grid, deep.blocks[-1:], words=torch.eye(32))
    with pytest.raises(ValueError, match="does not project"):
        part.cosines(tower.entering)
    assert part.images is None


@pytest.mark.parametrize("read_out", ["value", "vanilla"])
def test_between_the_blocks_nothing_is_kept_for_a_single_read_out(
    deep: DenseCLIP, images: Tensor, read_out: str
) -> None:
    """Eleven of a ViT-B's twelve states would otherwise lie in memory for nothing."""
    made: list[weakref.ref[Tensor]] = []

    def watched(block: nn.Module, tokens: Tensor) -> Tensor:
        after = standard_block(block, tokens)
        made.append(weakref.ref(after))
        return after

    def alive(keep: bool) -> int:
        made.clear()
        tower = TowerPass(*deep.embed(images), deep.blocks, run=watched, keep=keep)
        READ_OUTS[read_out](tower)
        return sum(one() is not None for one in made)

    # What enters the last block is kept for other questions, and what leaves it where somebody asked.
    assert alive(keep=False) == (2 if read_out == "vanilla" else 1)
    assert alive(keep=True) == (LAYERS if read_out == "vanilla" else LAYERS - 1)


@pytest.mark.parametrize(
    ("call", "keep"),
    [
        (lambda clip, images: clip.encode_dense(images, "value"), False),
        (lambda clip, images: clip.encode_each(images, ["value"]), False),
        (lambda clip, images: clip.encode_image(images), False),
        (lambda clip, images: clip.encode_both(images, ["value"]), False),
        (lambda clip, images: clip.encode_each(images, ["value", "sclip"]), True),
        (lambda clip, images: clip.encode_both(images, ["value", "sclip"]), True),
        (lambda clip, images: clip.hidden_states(images), True),
    ],
    ids=["dense", "one", "image", "both of one", "two", "both of two", "hidden states"],
)
def test_the_model_keeps_states_only_where_several_look(
    deep: DenseCLIP, images: Tensor, monkeypatch: pytest.MonkeyPatch, call: Callable, keep: bool
) -> None:
    kept: list[bool] = []
    tower = deep.tower

    def watched(*args: object, **options: bool) -> TowerPass:
        kept.append(options.get("keep", True))
        return tower(*args, **options)

    monkeypatch.setattr(deep, "tower", watched)
    call(deep, images)
    assert kept == [keep]
