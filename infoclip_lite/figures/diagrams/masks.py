"""Mask queries: ZSSeg's two opinions on what each is of, and Split Matching's two matchings."""

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
SPLIT = (
    "Split Matching in training, in our reading. In the middle, a picture goes through CLIP's frozen "
    "image tower, a trained enhancement of several scales (MFE) and a trained decoder, out of which come "
    "two groups of queries. Above, the seen queries are matched with the labelled masks, and learn a "
    "class, a focal and a Dice loss. Below, K-means of CLIP's patches that nobody labelled gives pseudo "
    "masks, each with a CLS of its own; the candidate queries are matched with these, and learn 1 minus "
    "the cosine with that CLS, a focal and a Dice loss. At test both groups and words from the frozen "
    "text tower make one map."
)
# What is drawn as trained and as frozen, by the names in the code.
SPLIT_TRAINS = {
    "entry": "MFE",
    "enhance": "MFE",
    "decoder": "decoder of queries",
    "classes": "seen queries candidate queries",
}
TRAINS = {"body": "body", "decoder": "decoder of queries", "classes": "class head", "prompt": "learnt prompt"}


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
    canvas.legend(("trained", "frozen", "text+frozen", "data", "loss"))


def split_matching(canvas: Canvas) -> None:
    """Queries in the middle; labels and their matching above, pseudo masks and theirs below."""
    picture = canvas.box((16, 132), (66, 44), "picture")
    tower = canvas.box((104, 122), (80, 64), "CLIP's", "image tower", role="frozen", font=12)
    enhance = canvas.box((204, 132), (54, 44), "MFE", role="trained")
    decoder = canvas.box((278, 122), (82, 64), "decoder of", "queries", role="trained", font=12)
    seen = canvas.box((392, 104), (90, 40), "seen", "queries", role="trained", font=12)
    candidates = canvas.box((392, 164), (90, 40), "candidate", "queries", role="trained", font=12)
    labelled = canvas.box((232, 30), (110, 44), "labelled", "masks", font=12)
    clusters = canvas.box((76, 250), (132, 44), "K-means of", "unlabelled patches", font=12)
    pseudo = canvas.box((232, 250), (110, 44), "pseudo masks,", "a CLS of each", font=12)
    above = canvas.box((392, 30), (90, 44), "Hungarian", "matching", font=12)
    below = canvas.box((392, 250), (90, 44), "Hungarian", "matching", font=12)
    for_seen = canvas.loss((524, 30), (160, 44), "class, focal, Dice", font=12)
    for_regions = canvas.loss((524, 250), (160, 44), "1 - cosine, focal, Dice", font=12)
    labels = canvas.box((544, 104), (120, 40), "a map of words", font=12)
    words = canvas.box((544, 164), (120, 40), "words", role="text", edge="frozen")
    for start, end in pairwise((picture, tower, enhance, decoder)):
        canvas.across(start, end)
    canvas.across(decoder, seen, at=132)
    canvas.across(decoder, candidates, at=176)
    for start, matching, end in ((labelled, above, for_seen), (pseudo, below, for_regions)):
        canvas.across(start, matching)
        canvas.across(matching, end)
    canvas.along(seen, above)
    canvas.along(candidates, below)
    canvas.along(tower, clusters, at=144)
    canvas.across(clusters, pseudo)
    # At test nothing is matched: every query speaks.
    canvas.across(seen, labels, at=118)
    canvas.arrow(candidates.right(), (513, candidates.right()[1]), (513, 132), labels.left(0.7))
    canvas.along(words, labels)
    canvas.legend(("trained", "frozen", "text+frozen", "data", "loss"))
