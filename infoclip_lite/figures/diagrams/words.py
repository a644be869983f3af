"""Words that ask a frozen tower: Cascade-CLIP at several depths, ClsCLIP from an early block on."""

from __future__ import annotations

from itertools import pairwise

from .canvas import Canvas

CASCADE = (
    "Cascade-CLIP on a tower of six blocks. A picture goes down the frozen blocks; before each stand learnt "
    "prompts of its own, which are thrown away behind it. What the patches are after blocks 2 and 3, and "
    "after block 4, goes through trained norms and projections, and each group is summed up with learnt "
    "weights (NGA); the last block goes through a trained norm and CLIP's own frozen ln_post and "
    "projection. Each of these three is asked by a trained decoder of its own. What asks is the word times "
    "the picture's CLS, and the word, behind a trained linear map. The three maps are added, and judged by a "
    "focal and a Dice loss; at test the words that training labelled are made less sure."
)
CLSCLIP = (
    "ClsCLIP on a tower of six blocks. A picture goes through the frozen block 0 once. Before blocks 1 and 2 "
    "the CLS token is replaced by what a trained linear map, another for each block, makes of a word from "
    "the frozen text tower. The patches look at it on their way through the frozen blocks 1 to 5, and a "
    "light trained decoder draws one map: is this word here? All from block 1 on is run once for each word. "
    "In training a picture is asked for some words that it shows and one that it does not, and the maps are "
    "judged by binary cross-entropy (BCE) on labelled pixels."
)
# What is drawn as trained, by the names in the code.
CASCADE_TRAINS = {
    "prompts": "learnt prompts, new ones before each block",
    "prompt_projection": "learnt prompts",
    "prompt_norm": "norm",
    "tap_norms": "norms",
    "tap_projections": "projection",
    "neighbours": "weighted sum (NGA)",
    "relations": "a linear map and a decoder each",
    "decoders": "a linear map and a decoder each",
}
CLSCLIP_TRAINS = {
    "words": "linear map",
    "entry": "light decoder",
    "layers": "light decoder",
    "mask": "light decoder",
}


def cascade(canvas: Canvas) -> None:
    """The tower downward, a row for each group, words below."""
    picture = canvas.box((120, 18), (86, 30), "picture")
    prompts = canvas.box(
        (16, 72), (78, 200), "learnt", "prompts,", "new ones", "before", "each block", role="trained"
    )
    labels = ("blocks 0, 1", "blocks 2, 3", "block 4", "block 5")
    blocks = [
        canvas.box((120, 72 + 56 * index), (86, 32), label, role="frozen", font=12)
        for index, label in enumerate(labels)
    ]
    sums = [
        canvas.box((352, y), (90, 40), "weighted", "sum (NGA)", role="trained", font=12) for y in (124, 180)
    ]
    own = canvas.box((352, 236), (90, 40), "ln_post,", "projection", role="frozen", font=12)
    decoders = canvas.box((476, 124), (84, 152), "a linear", "map and", "a decoder", "each", role="trained")
    total = canvas.box((594, 124), (90, 152), "sum:", "a map", "per word")
    loss = canvas.loss((594, 40), (90, 44), "focal, Dice")
    test = canvas.box((594, 304), (90, 54), "at test:", "seen words", "less sure", font=12)
    words = canvas.box((16, 310), (78, 40), "words", role="text")
    text = canvas.box((120, 310), (86, 40), "text tower", role="text", edge="frozen", font=12)
    asking = canvas.box((236, 310), (206, 40), "word times CLS, and the word", font=12)
    for start, end in pairwise((picture, *blocks)):
        canvas.along(start, end)
    for block in blocks:
        canvas.across(prompts, block)
    for block, end in zip(blocks[1:], (*sums, own), strict=True):
        label = ("norm",) if end is own else ("norms,", "projection")
        between = canvas.box((236, end.y), (86, 40), *label, role="trained", font=12)
        canvas.across(block, between)
        canvas.across(between, end)
        canvas.across(end, decoders)
        canvas.across(decoders, total, at=end.left()[1])
    canvas.along(total, loss)
    canvas.along(total, test)
    canvas.across(words, text)
    canvas.across(text, asking)
    canvas.along(own, asking)
    canvas.text((404, 297), "CLS", anchor="start")
    canvas.arrow(asking.right(), (decoders.bottom()[0], asking.right()[1]), decoders.bottom())
    canvas.legend(("trained", "frozen", "text+frozen", "data", "loss"))


def clsclip(canvas: Canvas) -> None:
    """The tower from left to right, the word from above."""
    words = canvas.box((16, 24), (66, 40), "words", role="text")
    text = canvas.box((104, 24), (86, 40), "text tower", role="text", edge="frozen", font=12)
    canvas.group((206, 84), (482, 164), "one pass for each word", below=True)
    picture = canvas.box((16, 176), (66, 44), "picture")
    first = canvas.box((104, 176), (70, 44), "block 0", role="frozen")
    replaced = [
        canvas.box((x, 176), (70, 44), label, role="frozen")
        for x, label in ((222, "block 1"), (316, "block 2"))
    ]
    rest = canvas.box((410, 176), (70, 44), "blocks", "3 to 5", role="frozen")
    decoder = canvas.box((504, 176), (70, 44), "light", "decoder", role="trained")
    found = canvas.box((598, 176), (80, 44), "a map:", "is it here?", font=12)
    labels = canvas.box((452, 272), (122, 36), "labelled pixels")
    loss = canvas.loss((598, 272), (80, 36), "BCE")
    for before, after in pairwise((picture, first, *replaced, rest, decoder, found)):
        canvas.across(before, after)
    canvas.across(words, text)
    # A word comes to both blocks, each time through another map.
    start, far = text.right(), text.right()[1]
    for block in replaced:
        linear = canvas.box((block.x, 96), (70, 40), "linear", "map", role="trained", font=12)
        canvas.along(linear, block)
        canvas.arrow(start, (linear.top()[0], far), linear.top())
        start = linear.top()[0], far
    canvas.dot((replaced[0].top()[0], far))
    canvas.text((368, 48), "in training: words that are there, and one that is not", anchor="start")
    canvas.text((360, 160), "each in place of CLS", anchor="start")
    canvas.along(found, loss)
    canvas.across(labels, loss)
    canvas.legend(("trained", "frozen", "text+frozen", "data", "loss"))
