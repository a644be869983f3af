"""CLIP's two towers, and a block of the image tower under every read-out."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from .canvas import Box, Canvas, Point

TOWERS = (
    "CLIP's two towers, as collage-mini has them. Above, a picture goes through a frozen convolutional stem, "
    "a matrix that makes tokens of its features, and six blocks; CLS alone leaves the last block, through "
    "ln_post and a projection (proj). Below, a sentence goes through the text tower. The contrastive loss "
    "brings the vectors of a picture and its caption together. A dense read-out branches off before the last "
    "block, reads it in its own way, and takes the same way out: a vector for each patch."
)
BLOCK = (
    "The last block of the image tower, and below it seven read-outs as variations of it, a line each: whose "
    "inner products make the attention, whether a token is added again (residual), and whether the "
    "feed-forward layer is kept. A dashed box is left out. vanilla keeps everything; value keeps the values "
    "alone; maskclip adds the patch's own token and the feed-forward layer, cls_value does so with CLS in "
    "place of the patch. sclip attends by queries with queries and keys with keys, clearclip by queries "
    "alone, naclip by keys and nearness; the last two drop residual and feed-forward."
)


class Variation(NamedTuple):
    """What a read-out keeps of the last block.

    Attributes:
        name: of `clip.readouts.READ_OUTS`.
        weighs: whose inner products weigh the values, softmax by softmax: "qk" queries with keys, "near"
            added to the logits; none at all leaves the values unmixed.
        residual: the token that is added again: "x" the patch's own, "x_CLS", or none.
        feed_forward: whether the second half of the block is kept.
    """

    name: str
    weighs: tuple[str, ...]
    residual: str | None
    feed_forward: bool


VARIATIONS = (
    Variation("vanilla", ("qk",), "x", True),
    Variation("value", (), None, False),
    Variation("maskclip", (), "x", True),
    Variation("cls_value", (), "x_CLS", True),
    Variation("sclip", ("qq", "kk"), "x", True),
    Variation("clearclip", ("qq",), None, False),
    Variation("naclip", ("kk+near",), None, False),
)
_WEIGHTS = {
    ("qk",): "q · k",
    ("qq",): "q · q",
    ("kk+near",): "k · k + near",
    ("qq", "kk"): "q · q and k · k",
}
# Where the parts of the block stand, from the left; those of the lines below stand under them.
_QKV, _WEIGHTS_AT, _OUT, _RESIDUAL_AT, _FORWARD_AT = 112.0, 192.0, 344.0, 430.0, 514.0
_WAY_OUT = Box(520, 32, 64, 122)  # of CLS and of the patches alike
_RESIDUAL = {"x": "+ x", "x_CLS": "+ x_{CLS}"}


def towers(canvas: Canvas) -> None:
    """The two towers from left to right, pictures above and words below."""
    vector = _image_tower(canvas)
    _dense_way(canvas)
    meaning = _text_tower(canvas)
    loss = canvas.loss((606, 168), (80, 26), "contrastive", font=12)
    canvas.along(vector, loss)
    canvas.along(meaning, loss)
    canvas.legend(
        ("frozen", "trained", "text+trained", "data", "loss"),
        says={"trained": "trained on captions"},
    )


def _image_tower(canvas: Canvas) -> Box:
    """The picture's way to one vector."""
    picture = canvas.box((16, 102), (64, 52), "picture", "96 x 96")
    canvas.group((98, 22), (134, 142), "EfficientNet-Lite0", role="frozen")
    first = canvas.box((108, 102), (114, 52), "first layers:", "112 a patch", role="frozen")
    deep = canvas.box((108, 46), (114, 38), "last layer: 256", role="frozen", font=12)
    matrix = canvas.box((252, 94), (60, 68), "matrix", role="trained")
    blocks = canvas.box((336, 102), (62, 52), "blocks", "1 to 5", role="trained")
    last = canvas.box((430, 102), (66, 52), "last", "block", role="trained")
    leaving = canvas.box((_WAY_OUT.x, _WAY_OUT.y), (64, 122), "ln_post,", "proj", role="trained")
    vector = canvas.box((606, 102), (80, 52), "picture's", "vector")
    canvas.text((165, 182), "stem")
    canvas.text((310, 182), "+ CLS, + positions")
    canvas.text((463, 172), "CLS alone")
    for start, end in ((picture, first), (first, matrix), (matrix, blocks), (blocks, last), (last, leaving)):
        canvas.across(start, end, at=128)
    canvas.across(leaving, vector)
    canvas.along(first, deep)
    canvas.arrow(deep.right(), (282, 65), matrix.top())
    return vector


def _dense_way(canvas: Canvas) -> None:
    """Off before the last block, and out the same way."""
    read_out = canvas.box((430, 32), (66, 40), "read-out", role="trained")
    canvas.text((463, 24), "the last block, read otherwise")
    dense = canvas.box((606, 32), (80, 40), "a vector", "per patch", font=12)
    canvas.dot((414, 128))
    canvas.arrow((414, 128), (414, 52), read_out.left())
    canvas.across(read_out, _WAY_OUT)
    canvas.across(_WAY_OUT, dense)


def _text_tower(canvas: Canvas) -> Box:
    """The sentence's way to one vector."""
    sentence = canvas.box((16, 208), (74, 44), "sentence", role="text")
    tower = canvas.box((252, 208), (146, 44), "text tower, 3 blocks", role="text", edge="trained", font=12)
    leaving = canvas.box((520, 208), (64, 44), "ln_final,", "proj", role="text", edge="trained", font=12)
    meaning = canvas.box((606, 208), (80, 44), "sentence's", "vector", role="text", font=12)
    canvas.text((459, 224), "end token alone")
    for start, end in ((sentence, tower), (tower, leaving), (leaving, meaning)):
        canvas.across(start, end)
    return meaning


def block(canvas: Canvas) -> None:
    """The block as it was trained, and a line below for each read-out."""
    _trained_block(canvas)
    below, height = 178.0, 34.0
    # What all read-outs share is drawn once and tall; what they differ in stands between, line by line.
    tall = height * len(VARIATIONS)
    projected = canvas.box((_QKV, below), (60, tall), "ln_1;", "q, k, v", role="frozen")
    leaving = canvas.box((_OUT, below), (64, tall), "times v,", "out_proj", role="frozen", font=12)
    way_out = canvas.box((626, below), (60, tall), "ln_post,", "proj", role="frozen")
    for index, variation in enumerate(VARIATIONS):
        y = below + height * (index + 0.5)
        canvas.text((16, y + 4), variation.name, font=13, anchor="start", bold=True)
        canvas.arrow((94, y), projected.left()[:1] + (y,))
        weights = _part(canvas, (_WEIGHTS_AT, y), 132, _WEIGHTS.get(variation.weighs), "data")
        residual = _part(canvas, (_RESIDUAL_AT, y), 62, _RESIDUAL.get(variation.residual or ""), "data")
        forward = _part(canvas, (_FORWARD_AT, y), 84, "kept" if variation.feed_forward else None, "frozen")
        stations = [projected, *weights, leaving, *residual, *forward, way_out]
        for start, end in pairwise(stations):
            canvas.across(start, end, at=y)
    canvas.legend(("frozen", "data", "absent"), says={"frozen": "frozen: CLIP's own weights"})


def _part(canvas: Canvas, place: Point, width: float, label: str | None, role: str) -> list[Box]:
    """A part of a line; where it is left out, a dashed box that the line runs through."""
    corner = (place[0], place[1] - 13)
    box = canvas.box(corner, (width, 26), *([label] if label else []), role=role if label else "absent")
    return [box] if label else []


def _trained_block(canvas: Canvas) -> None:
    """The block as it was trained, its parts above those of the lines."""
    y = 106.0
    canvas.text((16, 34), "the block as it was trained", font=13, anchor="start", bold=True)
    tokens = canvas.box((16, y - 18), (62, 36), "tokens x")
    projected = canvas.box((_QKV, y - 24), (60, 48), "ln_1;", "q, k, v", role="frozen")
    weights = canvas.box((_WEIGHTS_AT, y - 18), (132, 36), "softmax(q · k)")
    leaving = canvas.box((_OUT, y - 24), (64, 48), "times v,", "out_proj", role="frozen", font=12)
    first = canvas.box((_RESIDUAL_AT + 18, y - 13), (26, 26), "+", round_=True)
    forward = canvas.box((_FORWARD_AT, y - 24), (84, 48), "ln_2, mlp", role="frozen")
    second = canvas.box((643, y - 13), (26, 26), "+", round_=True)
    for start, end in pairwise((tokens, projected, weights, leaving, first, forward, second)):
        canvas.across(start, end, at=y)
    canvas.arrow(tokens.top(), (tokens.top()[0], 60), (first.top()[0], 60), first.top())
    middle = (first.right()[0] + forward.x) / 2
    canvas.dot((middle, y))
    canvas.arrow((middle, y), (middle, 60), (second.top()[0], 60), second.top())
    canvas.text((262, 52), "residual: the token itself")
    for x, label in ((_WEIGHTS_AT + 66, "attention: softmax of"), (_RESIDUAL_AT + 31, "residual")):
        canvas.text((x, 166), label)
    canvas.text((_FORWARD_AT + 42, 166), "feed-forward")
    canvas.text((16, 166), "read-out", anchor="start")
