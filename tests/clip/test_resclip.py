"""ResCLIP against its formula with loops over pictures, heads, pairs of patches, pixels and steps between."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from infoclip_lite import DenseCLIP
from infoclip_lite.clip.blocks import standard_block
from infoclip_lite.clip.readouts import WORD_LOGITS
from infoclip_lite.clip.readouts.resclip import cross_correlation, patch_labels, resclip, same_word
from infoclip_lite.clip.refinements import Pamr
from infoclip_lite.clip.tower import TowerPass

MakeTiny = Callable[..., DenseCLIP]
Rows = list[list[float]]
GRID = (3, 4)
STD = 5.0


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def deep(make_tiny: MakeTiny) -> DenseCLIP:
    """Of four blocks, so that 1 and 2 are in the middle."""
    return make_tiny(layers=4, ls_init_value=0.5).requires_grad_(False)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return noise(2, 3, 8 * GRID[0], 8 * GRID[1], seed=3)


@pytest.fixture(scope="module")
def words(deep: DenseCLIP, images: Tensor) -> Tensor:
    """Made of patches: with random weights all patches would be nearest to the same sentence."""
    patches = deep.encode_dense(images, "resclip").transpose(0, 1).flatten(1).T
    return F.normalize((patches - patches.mean(0))[[1, 6, 14, 20]], dim=-1)


def parts(block: nn.Module, tokens: Tensor, head: int) -> tuple[Tensor, Tensor, Tensor]:
    """One head's q, k, v (n, d) of one picture's tokens (n, W)."""
    size = tokens.shape[1] // block.attn.num_heads
    weights, biases = block.attn.in_proj_weight.chunk(3), block.attn.in_proj_bias.chunk(3)
    q, k, v = (F.linear(block.ln_1(tokens), w, b) for w, b in zip(weights, biases, strict=True))
    part = slice(head * size, (head + 1) * size)
    return q[:, part], k[:, part], v[:, part]


def shares(logits: Rows) -> Rows:
    powers = [[math.exp(x) for x in row] for row in logits]
    return [[x / sum(row) for x in row] for row in powers]


def nearness(i: int, j: int) -> float:
    """Of two tokens; CLS, the first, is near to nobody."""
    if 0 in (i, j):
        return 0.0
    (a, b), (c, d) = divmod(i - 1, GRID[1]), divmod(j - 1, GRID[1])
    return math.exp(-((a - c) ** 2 + (b - d) ** 2) / (2 * STD**2))


def naive(blocks: list[nn.Module], states: list[Tensor], same: Rows | None) -> Tensor:
    """One picture's tokens before each block to its patches (N, W); `same` is (1 + N, 1 + N)."""
    last, tokens = blocks[-1], states[-1]
    n, size = range(len(tokens)), tokens.shape[1] // last.attn.num_heads
    mixed = torch.zeros_like(tokens)
    for head in range(last.attn.num_heads):
        _, k, v = parts(last, tokens, head)
        logits = [[float(torch.dot(k[i], k[j])) / math.sqrt(size) for j in n] for i in n]
        if same is not None:
            logits = [[1.8 * (0.3 * logits[i][j] + 0.7 * same[i][j]) for j in n] for i in n]
        own = shares([[logits[i][j] + nearness(i, j) for j in n] for i in n])
        earlier = []
        for index in (1, 2):
            q, key, _ = parts(blocks[index], states[index], head)
            earlier.append(shares([[float(torch.dot(q[i], key[j])) / math.sqrt(size) for j in n] for i in n]))
        for i in n:
            weights = [2.0 * (0.6 * own[i][j] + 0.4 * sum(e[i][j] for e in earlier) / 2) for j in n]
            mixed[i, head * size : (head + 1) * size] = sum(weights[j] * v[j] for j in n)
    return last.ls_1(F.linear(mixed, last.attn.out_proj.weight, last.attn.out_proj.bias))[1:]


def naive_same(labels: list[list[int]]) -> Rows:
    """(1 + N, 1 + N) of one picture's words (h, w)."""
    height, width = len(labels), len(labels[0])
    places = [(r, c) for r in range(height) for c in range(width)]
    longest = max(height, width) - 1
    rows = []
    for r, c in places:
        row = []
        for r2, c2 in places:
            distance = max(abs(r - r2), abs(c - c2))
            # Python's round sends halves to the even neighbour, as torch's does.
            way = [
                (round(r + (r2 - r) * step / longest), round(c + (c2 - c) * step / longest))
                for step in range(distance + 1)
            ]
            value = 1.0 if labels[r][c] == labels[r2][c2] else 0.0
            if any(labels[a][b] != labels[r][c] for a, b in way):
                value *= math.exp(-distance / longest)
            row.append(value)
        rows.append(row)
    count = len(places)
    kernel_size = min(count, 31)
    kernel_size += kernel_size % 2 == 0
    half = kernel_size // 2
    kernel = [math.exp(-(o**2) / (2 * STD**2)) for o in range(-half, half + 1)]
    kernel = [x / sum(kernel) for x in kernel]
    smooth = [
        [
            sum(
                x * row[j + o]
                for x, o in zip(kernel, range(-half, half + 1), strict=True)
                if 0 <= j + o < count
            )
            for j in range(count)
        ]
        for row in rows
    ]
    smooth = [[x / (sum(row) + 1e-8) for x in row] for row in smooth]
    largest = max(max(row) for row in smooth)
    inner = [[x / largest for x in row] for row in smooth]
    return [[0.0] * (count + 1), *[[0.0, *row] for row in inner]]


def states_of(clip: DenseCLIP, images: Tensor) -> list[Tensor]:
    states = [clip.embed(images)[0]]
    for block in clip.blocks[:-1]:
        states.append(standard_block(block, states[-1]))
    return states


def test_without_words_the_earlier_blocks_attention_joins_key_key_attention(
    deep: DenseCLIP, images: Tensor
) -> None:
    states = states_of(deep, images)
    wanted = torch.stack([naive(list(deep.blocks), [s[b] for s in states], None) for b in range(2)])
    got = resclip(deep.tower(images))
    assert torch.allclose(got, wanted, atol=1e-4)
    assert wanted.std(1).max() > 1e-2  # patches differ by more than that tolerance


def test_with_words_patches_of_one_word_look_at_each_other(
    deep: DenseCLIP, images: Tensor, words: Tensor
) -> None:
    states = states_of(deep, images)
    tower = deep.tower(images, words)
    first = torch.stack([naive(list(deep.blocks), [s[b] for s in states], None) for b in range(2)])
    labels = patch_labels(tower, first, sure=0.11, scale=40.0)
    assert len(labels.unique()) > 1  # else nothing is asked
    wanted = torch.stack(
        [naive(list(deep.blocks), [s[b] for s in states], naive_same(labels[b].tolist())) for b in range(2)]
    )
    got = resclip(tower)
    assert torch.allclose(got, wanted, atol=1e-4)
    assert (got - first).abs().max() > 1e-2


def test_its_logits_are_scaled_cosines_of_the_second_time(
    deep: DenseCLIP, images: Tensor, words: Tensor
) -> None:
    tower = deep.tower(images, words)
    got = WORD_LOGITS["resclip"](tower, torch.tensor(7.0))
    dense = deep.project(resclip(tower))
    assert torch.allclose(got, 7 * dense @ words.T, atol=1e-4) and got.shape == (2, 12, 4)


@pytest.mark.parametrize(
    ("layers", "middle"), [(1, [0]), (2, [0, 1]), (3, [1]), (6, [2, 3, 4]), (12, [5, 6, 7, 8])]
)
def test_the_blocks_in_the_middle_are_those_of_the_same_relative_depth(
    make_tiny: MakeTiny, layers: int, middle: list[int]
) -> None:
    tower = make_tiny(layers=layers).requires_grad_(False).tower(noise(1, 3, 16, 16))
    wanted = torch.stack([tower.attention(index) for index in middle]).mean(0)
    assert torch.allclose(cross_correlation(tower), wanted, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(4, 4), (2, 7), (6, 3), (1, 5)])
def test_who_has_the_same_word(height: int, width: int) -> None:
    labels = torch.randint(-1, 2, (3, height, width), generator=torch.Generator().manual_seed(height))
    got = same_word(labels)
    for one, found in zip(labels, got, strict=True):
        assert torch.allclose(found, torch.tensor(naive_same(one.tolist())), atol=1e-5)
    assert got.amax((1, 2)).eq(1).all() and not got[:, 0].any() and not got[:, :, 0].any()


def test_words_have_no_order() -> None:
    """No word is special, the first one and none at all included."""
    labels = torch.randint(-1, 3, (1, 5, 6), generator=torch.Generator().manual_seed(1))
    assert torch.equal(same_word(labels), same_word((labels + 1) % 4))


def test_one_patch_has_its_own_word() -> None:
    assert torch.equal(same_word(torch.zeros(1, 1, 1, dtype=torch.long)), torch.tensor([[[0.0, 0], [0, 1]]]))


class Told(TowerPass):
    """A pass whose cosines are given."""

    def __init__(self, maps: Tensor, images: Tensor | None) -> None:
        super().__init__(maps.flatten(2).mT, (maps.shape[2], maps.shape[3]), [], images=images)

    def cosines(self, tokens: Tensor) -> Tensor:
        return tokens


@pytest.mark.parametrize("sure", [0.0, 0.5])
def test_a_patch_has_the_word_of_most_of_its_pixels(sure: float) -> None:
    maps, images = 0.1 * noise(1, 3, 3, 4, seed=4), noise(1, 3, 48, 64, seed=5)
    large = F.interpolate(maps, (48, 64), mode="bilinear", align_corners=False)
    refined = Pamr().refined(images, lambda words: large[:, words], [], torch.eye(3), 1.0)(slice(None))
    fraction, label = (40 * refined[0]).softmax(0).max(0)
    wanted = []
    for row in range(3):
        for column in range(4):
            pixels = [(16 * row + i, 16 * column + j) for i in range(16) for j in range(16)]
            votes = Counter(int(label[p]) if fraction[p] >= sure else -1 for p in pixels)
            most = max(votes.values())
            wanted.append(min(word for word, count in votes.items() if count == most))
    got = patch_labels(Told(maps, images), maps.flatten(2).mT, sure=sure, scale=40.0)
    assert got.flatten().tolist() == wanted
    assert (-1 in wanted) == (sure > 0) and len(set(wanted)) > 1


def test_without_pictures_each_patch_is_a_pixel() -> None:
    maps = noise(2, 3, 4, 5, seed=6)
    got = patch_labels(Told(maps, None), maps.flatten(2).mT, sure=0.0, scale=40.0)
    assert torch.equal(got, maps.argmax(1))


def test_a_picture_that_is_no_multiple_of_the_patch_will_do(deep: DenseCLIP, words: Tensor) -> None:
    got = resclip(deep.tower(noise(1, 3, 21, 35, seed=7), words))
    assert got.shape == (1, 15, 48) and got.isfinite().all()


def test_pictures_of_a_batch_do_not_mix(deep: DenseCLIP, images: Tensor, words: Tensor) -> None:
    both = resclip(deep.tower(images, words))
    for b in range(2):
        assert torch.allclose(resclip(deep.tower(images[b : b + 1], words))[0], both[b], atol=1e-5)


def test_more_words_than_are_refined_at_a_time(deep: DenseCLIP, images: Tensor) -> None:
    many = F.normalize(torch.randn(70, 32, generator=torch.Generator().manual_seed(8)), dim=-1)
    tower = deep.tower(images, many)
    tokens = resclip(deep.tower(images))
    labels = patch_labels(tower, tokens, sure=0.0, scale=40.0)
    large = F.interpolate(tower.cosines(tokens).mT.unflatten(2, GRID), images.shape[2:], mode="bilinear")
    best = Pamr().refined(images, lambda words: large[:, words], [], many, 1.0)(slice(None)).argmax(1)
    votes = best.unfold(1, 8, 8).unfold(2, 8, 8).flatten(3).mode(-1).values
    assert torch.equal(labels, votes)


def test_gradients_go_through_the_second_time(make_tiny: MakeTiny) -> None:
    clip, images = make_tiny(), noise(1, 3, 32, 24, seed=9).requires_grad_(True)
    words = clip.encode_text(["cow", "grass", "sky"])
    resclip(clip.tower(images, words)).square().sum().backward()
    assert images.grad is not None and images.grad.isfinite().all() and images.grad.abs().max() > 0


def test_words_are_needed_where_they_are_asked_for(deep: DenseCLIP, images: Tensor) -> None:
    with pytest.raises(ValueError, match="got a pass without words"):
        WORD_LOGITS["resclip"](deep.tower(images), torch.tensor(1.0))
