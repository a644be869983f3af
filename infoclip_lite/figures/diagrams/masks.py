"""ZSSeg: masks from a trained network, and two opinions on what each is of."""

from __future__ import annotations

from itertools import pairwise

from .canvas import Canvas

ZSSEG = (
    "ZSSeg. Above, a picture goes through a trained body and a trained decoder of queries. A trained class "
    "head says what each query is of: the trained opinion, judged on matched queries by a class loss, a "
    "focal and a Dice loss. Each query also draws a mask, below: what the mask cuts out of the picture goes "
    "through CLIP's frozen image tower, which gives CLIP's opinion. Both compare with words from the frozen "
    "text tower, behind a learnt prompt. A geometric ensemble joins the opinions, and together with the "
    "masks it gives a map of words."
)
# What is drawn as trained and as frozen, by the names in the code.
TRAINS = {"body": "body", "decoder": "decoder", "classes": "class head", "prompt": "learnt prompt"}


def zsseg(canvas: Canvas) -> None:
    """The trained branch above, what CLIP sees below it, words at the bottom."""
    picture = canvas.box((16, 36), (66, 44), "picture")
    body = canvas.box((104, 30), (78, 56), "body", role="trained")
    decoder = canvas.box((204, 30), (92, 56), "decoder of", "queries", role="trained", font=12)
    head = canvas.box((336, 30), (84, 56), "class head", role="trained", font=12)
    trained = canvas.box((452, 30), (92, 56), "trained", "opinion", font=12)
    loss = canvas.loss((584, 22), (100, 44), "class, focal,", "Dice", font=12)
    masks = canvas.box((204, 132), (92, 50), "a mask", "per query", font=12)
    crops = canvas.box((336, 132), (84, 50), "cut out", font=12)
    tower = canvas.box((452, 132), (92, 50), "CLIP's", "image tower", role="frozen", font=12)
    ensemble = canvas.box((584, 96), (100, 50), "geometric", "ensemble", font=12)
    words = canvas.box((16, 258), (66, 44), "words", role="text")
    prompt = canvas.box((104, 258), (78, 44), "learnt", "prompt", role="trained", font=12)
    text = canvas.box((204, 258), (92, 44), "text tower", role="text", edge="frozen", font=12)
    labels = canvas.box((584, 206), (100, 44), "a map", "of words", font=12)
    for start, end in pairwise((picture, body, decoder, head, trained)):
        canvas.across(start, end)
    canvas.across(trained, loss, at=44)
    canvas.along(decoder, masks)
    for start, end in pairwise((masks, crops, tower)):
        canvas.across(start, end)
    for start, end in pairwise((words, prompt, text)):
        canvas.across(start, end)
    # Both opinions meet; CLIP is trusted for words that training did not know.
    canvas.arrow(trained.right(0.8), (564, trained.right(0.8)[1]), (564, 110), (584, 110))
    canvas.arrow(tower.right(), (564, tower.right()[1]), (564, 132), (584, 132))
    canvas.along(ensemble, labels)
    canvas.arrow(masks.bottom(0.3), (masks.bottom(0.3)[0], 228), labels.left())
    canvas.arrow(picture.bottom(), (picture.bottom()[0], 204), (crops.bottom()[0], 204), crops.bottom())
    canvas.arrow(text.right(0.3), (316, text.right(0.3)[1]), (316, head.left(0.8)[1]), head.left(0.8))
    canvas.arrow(text.right(0.7), (tower.bottom()[0], text.right(0.7)[1]), tower.bottom())
    canvas.legend(("trained", "frozen", "text+frozen", "data", "loss"), says={"text+frozen": "text, frozen"})
