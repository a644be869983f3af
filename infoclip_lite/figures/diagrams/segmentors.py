"""CAT-Seg, and Chimera-Seg with CLIP's semantic head."""

from __future__ import annotations

from itertools import pairwise

from .canvas import Box, Canvas

CATSEG = (
    "CAT-Seg, from left to right. The two towers of CLIP, whose query and value projections are tuned, make "
    "patch embeddings of a picture and text embeddings of words. Their cosines are the cost volume, a map "
    "for each word. A trained head embeds the maps, refines them over positions (spatial aggregation) and "
    "then over words (class aggregation), and upsamples them to a map of logits for each word, judged by "
    "binary cross-entropy (BCE). Three arrows guide it: patch embeddings go to the spatial part, text "
    "embeddings to the class part, an earlier block of the image tower to the upsampling."
)
CHIMERA = (
    "Chimera-Seg, in our reading. Above, CLIP's image encoder: its stem and first blocks are never run on a "
    "picture that is to be segmented; its last block, ln_post and projection are copied into the head "
    "below, and frozen. There a picture goes through a trained body and a trained adapter with a CLS of its "
    "own, then through the frozen copies to a vector at each position, which is compared by cosine with "
    "words from the frozen text encoder."
)
# The parts of CAT-Seg's head by their names in the code, and what the drawing calls them.
PARTS = {
    "embed": "embed",
    "appearance": "patch embeddings",
    "words": "text embeddings",
    "spatial": "spatial aggregation",
    "classes": "class aggregation",
    "guides": "an earlier block",
    "decoder": "upsample",
    "head": "a map per word",
}
# The parts of Chimera-Seg's head, and their roles.
HEAD = {"adapter": "trained", "last block": "frozen", "ln_post": "frozen", "proj": "frozen"}
# Left and width of what it takes from CLIP.
_LENT = {"last block": (328, 70), "ln_post": (418, 62), "proj": (500, 64)}


def catseg(canvas: Canvas) -> None:
    """The head in the middle, what guides it above and below."""
    picture = canvas.box((16, 28), (66, 44), "picture")
    image = canvas.box((104, 22), (92, 56), "image tower", "q and v", role="trained")
    words = canvas.box((16, 222), (66, 44), "words", role="text")
    text = canvas.box((104, 216), (92, 56), "text tower", "q and v", role="text", edge="trained")
    cost = canvas.box((170, 120), (88, 56), "cost", "volume")
    embed = canvas.box((286, 120), (62, 56), "embed", role="trained")
    canvas.group((366, 110), (214, 90), "repeated", role="trained", below=True)
    spatial = canvas.box((376, 120), (90, 56), "spatial", "aggregation", role="trained", font=12)
    across = canvas.box((484, 120), (86, 56), "class", "aggregation", role="trained", font=12)
    decoder = canvas.box((600, 120), (84, 56), "upsample", role="trained")
    logits = canvas.box((600, 206), (84, 40), "a map", "per word", font=12)
    loss = canvas.loss((600, 268), (84, 28), "BCE")
    for start, end in pairwise((cost, embed, spatial, across, decoder)):
        canvas.across(start, end, at=148)
    canvas.across(picture, image)
    canvas.across(words, text)
    for start, end in pairwise((decoder, logits, loss)):
        canvas.along(start, end)
    canvas.along(image, cost, at=183)
    canvas.along(text, cost, at=183)
    _guidance(canvas, image, text, spatial, across, decoder)
    canvas.legend(("trained", "text+trained", "text", "data", "loss"))


def _guidance(canvas: Canvas, image: Box, text: Box, spatial: Box, across: Box, decoder: Box) -> None:
    """What the head looks at beside the cosines."""
    canvas.arrow(image.right(0.7), (spatial.top()[0], image.right(0.7)[1]), spatial.top())
    canvas.text((308, 56), "patch embeddings")
    canvas.arrow(image.right(0.2), (decoder.top()[0], image.right(0.2)[1]), decoder.top())
    canvas.text((520, 26), "an earlier block")
    canvas.arrow(text.right(), (across.bottom()[0], text.right()[1]), across.bottom())
    canvas.text((340, 238), "text embeddings")


def chimera(canvas: Canvas) -> None:
    """The borrowed parts above their copies."""
    lenders = _clip_at_home(canvas)
    canvas.group((208, 144), (366, 96), "CLIP Semantic Head (CSH)", role="frozen", below=True)
    picture = canvas.box((16, 162), (66, 52), "picture")
    body = canvas.box((104, 162), (78, 52), "body", role="trained")
    adapter = canvas.box((218, 162), (86, 52), "adapter,", "new CLS", role=HEAD["adapter"])
    copies = [canvas.box((x, 162), (wide, 52), label, role=HEAD[label]) for label, (x, wide) in _LENT.items()]
    cosine = canvas.box((600, 162), (84, 52), "cosine")
    loss = canvas.loss((600, 62), (84, 30), "task loss")
    words = canvas.box((16, 262), (66, 44), "words", role="text")
    text = canvas.box((104, 262), (200, 44), "CLIP's text encoder", role="text", edge="frozen")
    for start, end in pairwise((picture, body, adapter, *copies, cosine)):
        canvas.across(start, end)
    canvas.along(cosine, loss)
    canvas.across(words, text)
    canvas.arrow(text.right(), (cosine.bottom()[0], text.right()[1]), cosine.bottom())
    canvas.text((440, 278), "a vector for each word")
    for lender, copy in zip(lenders, copies, strict=True):
        canvas.along(lender, copy, kind="copy")
    canvas.text((546, 127), "copied", anchor="start")
    canvas.legend(
        ("frozen", "trained", "text+frozen", "data", "loss", "absent"),
        says={"absent": "not run"},
    )


def _clip_at_home(canvas: Canvas) -> list[Box]:
    """CLIP's image encoder, most of which is not needed; the parts that are."""
    canvas.group((98, 26), (476, 84), "CLIP's image encoder", role="frozen")
    stem = canvas.box((108, 52), (76, 44), "stem", role="absent")
    blocks = canvas.box((208, 52), (96, 44), "blocks 1 to 5", role="absent", font=12)
    lenders = [canvas.box((x, 52), (wide, 44), label, role="frozen") for label, (x, wide) in _LENT.items()]
    for start, end in pairwise((stem, blocks, lenders[0])):
        canvas.across(start, end, kind="absent")
    return lenders
