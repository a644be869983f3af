"""Lessons from a frozen CLIP, or beside one: CLIP-ZSS, PACL, CLIP-ES and the point encoder."""

from __future__ import annotations

from itertools import pairwise

from .canvas import Box, Canvas

CLIP_ZSS = (
    "CLIP-ZSS in training, in our reading. In the middle the student: a picture goes through a trained body "
    "and head to R, a vector at each position. Above the teacher, CLIP's frozen image tower: its patches "
    "without a label are clustered by K-means, and the clusters fill the gaps of the labels. Prototypes are "
    "means of R over these fused labels, after a trained attention to CLIP's tokens. R is scored with the "
    "words and with the clusters' prototypes, and judged by a focal and a Dice loss and cross-entropy on the "
    "fused labels. Prototypes of seen words are to find their word (BCE), and a summary of R the CLS of its "
    "picture (InfoNCE). At test a picture meets body and head alone."
)
PACL = (
    "PACL. A picture goes through CLIP's frozen image tower and ln_post. A trained embedder, the sum of a "
    "linear map and of one with a hidden layer, makes the patches e. In training the frozen text tower makes "
    "t of a caption; the patches are pooled to v by how well each fits t, and the cosines of v and t, for "
    "all pairs of pictures and captions of a batch, go into InfoNCE. At test nothing is pooled: the cosine "
    "of each patch with each word makes a map for each word."
)
CLIP_ES = (
    "CLIP-ES. Above, nothing is trained: words that a picture shows, and words of usual backgrounds, compete "
    "in a softmax of a frozen CLIP, and GradCAM gives a map for each word of the picture. The maps are "
    "spread by an affinity of CLIP's patches, from within the boxes around what they found, and a mean field "
    "draws their borders along edges of the picture. A pixel whose best label has a chance of 0.95 or more "
    "gets that label, the others are ignored. Below, any segmentor is trained on these labels by its own "
    "loss, and it alone is run at test."
)
POINTS = (
    "Four lessons for a point encoder, in our reading. Below, points and colours go through the trained "
    "encoder, first layers, three levels down, three levels up and a last linear map, to a vector g for each "
    "point; its cosines with words of the frozen text tower name it. Above, CLIP's frozen image tower sees "
    "pictures: its dense features are lifted to the points (h), its CLS stands for a picture. Global "
    "alignment contrasts the mean of g over the points of a view with CLS, local alignment turns g towards "
    "h, pseudo labels are the unseen words nearest to h where nobody labelled, and labels are those of "
    "people. At test there are points, colours and words, and no pictures."
)
# What is drawn as trained, by the names in the code.
ZSS_TRAINS = {"body": "body", "head": "head", "prototypes": "prototypes"}
PACL_TRAINS = {"straight": "linear map", "bent": "hidden layer"}
POINTS_TRAINS = {"first": "first", "down": "down, 3 levels", "up": "up, 3 levels", "last": "last"}
# The losses of a training of points, by the names of their terms.
LESSONS = {
    "global": "global: InfoNCE",
    "local": "local: 1 - cosine",
    "pseudo": "pseudo: cross-entropy",
    "labels": "labels: cross-entropy",
}


def clip_zss(canvas: Canvas) -> None:
    """Teacher above, student in the middle, words below."""
    canvas.group((8, 174), (346, 86), "all that a picture meets at test", below=True)
    tower = canvas.box((104, 18), (92, 76), "CLIP's", "image tower", role="frozen", font=12)
    clusters = canvas.box((228, 18), (122, 40), "K-means of", "unlabelled patches", font=12)
    fused = canvas.box((400, 18), (110, 40), "labels, clusters", "in their gaps", font=12)
    contrast = canvas.loss((228, 116), (92, 36), "InfoNCE")
    prototypes = canvas.box((400, 104), (110, 44), "prototypes", role="trained")
    own_word = canvas.loss((538, 104), (86, 44), "BCE")
    picture = canvas.box((16, 184), (66, 44), "picture")
    body = canvas.box((104, 184), (64, 44), "body", role="trained")
    head = canvas.box((190, 184), (54, 44), "head", role="trained")
    positions = canvas.box((266, 184), (80, 44), "R: positions", font=12)
    scores = canvas.box((394, 184), (122, 44), "scores: R with", "words, prototypes", font=12)
    loss = canvas.loss((572, 180), (112, 52), "focal, Dice,", "cross-entropy", font=12)
    words = canvas.box((16, 280), (66, 40), "words", role="text")
    text = canvas.box((104, 280), (92, 40), "text tower", role="text", edge="frozen", font=12)
    for start, end in pairwise((picture, body, head, positions)):
        canvas.across(start, end)
    canvas.across(words, text)
    canvas.across(positions, scores, at=216)
    canvas.across(scores, loss)
    canvas.arrow(picture.top(), (picture.top()[0], 56), tower.left())
    canvas.across(tower, clusters)
    canvas.across(clusters, fused)
    # Prototypes: where the labels are, of R, and what CLIP's tokens say.
    canvas.along(fused, prototypes)
    canvas.arrow((196, 80), (384, 80), (384, 116), (400, 116))
    canvas.text((296, 75), "CLS, patches")
    canvas.arrow((346, 196), (372, 196), (372, 138), (400, 138))
    canvas.along(prototypes, scores)
    canvas.across(prototypes, own_word)
    canvas.arrow(tower.bottom(), (tower.bottom()[0], 134), contrast.left())
    canvas.text((190, 129), "CLS")
    canvas.along(positions, contrast, at=300)
    canvas.arrow(fused.right(), (652, 38), (652, 180))
    canvas.arrow(text.right(), (scores.bottom()[0], 300), scores.bottom())
    canvas.arrow((scores.bottom()[0], 300), (548, 300), (548, 148))
    canvas.dot((scores.bottom()[0], 300))
    canvas.legend(("trained", "frozen", "text+frozen", "data", "loss"))


def pacl(canvas: Canvas) -> None:
    """The embedder on the left; on the right test above and training below."""
    canvas.group((206, 10), (482, 72), "at test", below=True)
    canvas.group((430, 96), (258, 126), "in training")
    picture = canvas.box((16, 112), (66, 44), "picture")
    tower = canvas.box((104, 102), (86, 64), "CLIP's", "image tower,", "ln_post", role="frozen", font=12)
    straight = canvas.box((216, 96), (92, 34), "linear map", role="trained", font=12)
    bent = canvas.box((216, 140), (92, 34), "hidden layer", role="trained", font=12)
    patches = canvas.box((332, 96), (78, 78), "sum:", "patches e")
    words = canvas.box((216, 18), (92, 38), "words", role="text", edge="frozen")
    test = canvas.box((440, 18), (110, 54), "cosine of each", "e and word", font=12)
    found = canvas.box((594, 18), (84, 54), "a map", "per word", font=12)
    pooled = canvas.box((440, 164), (96, 48), "v: e pooled", "by fit with t", font=12)
    pairs = canvas.box((568, 164), (110, 48), "cosine of v, t:", "all pairs", font=12)
    loss = canvas.loss((568, 108), (110, 34), "InfoNCE")
    captions = canvas.box((16, 246), (66, 40), "captions", role="text", font=12)
    text = canvas.box((104, 246), (86, 40), "text tower", role="text", edge="frozen", font=12)
    canvas.across(picture, tower)
    for layer in (straight, bent):
        canvas.across(tower, layer)
        canvas.across(layer, patches)
    canvas.across(patches, pooled, at=169)
    canvas.across(words, test)
    canvas.arrow(patches.top(), (patches.top()[0], 60), (440, 60))
    canvas.across(test, found)
    canvas.across(pooled, pairs)
    canvas.along(pairs, loss)
    canvas.across(captions, text)
    canvas.arrow(text.right(), (pairs.bottom()[0], 266), pairs.bottom())
    canvas.arrow((pooled.bottom()[0], 266), pooled.bottom())
    canvas.dot((pooled.bottom()[0], 266))
    canvas.text((340, 261), "t: one sentence each")
    canvas.legend(("trained", "frozen", "text+frozen", "data", "loss"))


def clip_es(canvas: Canvas) -> None:
    """From words to labels above, a training on them below."""
    canvas.group((214, 266), (244, 78), "all that is run at test", below=True)
    words = canvas.box((16, 22), (124, 44), "words it shows,", "and backgrounds", role="text", font=12)
    text = canvas.box((162, 22), (86, 44), "text tower", role="text", edge="frozen", font=12)
    picture = canvas.box((16, 112), (66, 44), "picture")
    tower = canvas.box((104, 104), (92, 60), "CLIP's", "image tower", role="frozen", font=12)
    maps = canvas.box((224, 108), (98, 52), "GradCAM", "of a softmax", font=12)
    spread = canvas.box((350, 108), (98, 52), "spread from", "inside boxes", font=12)
    field = canvas.box((476, 108), (98, 52), "mean field", "along edges", font=12)
    labels = canvas.box((596, 108), (92, 52), "labels that", "are 0.95 sure", font=12)
    near = canvas.box((224, 188), (98, 44), "affinity", "of patches", font=12)
    segmentor = canvas.box((224, 276), (98, 44), "any", "segmentor", role="trained")
    found = canvas.box((350, 276), (98, 44), "a map", "per word", font=12)
    loss = canvas.loss((601, 276), (82, 44), "its loss")
    for start, end in pairwise((picture, tower, maps, spread, field, labels)):
        canvas.across(start, end)
    canvas.across(words, text)
    canvas.arrow(text.right(), (maps.top()[0], text.right()[1]), maps.top())
    canvas.arrow(tower.bottom(), (tower.bottom()[0], 210), near.left())
    canvas.arrow(near.right(), (spread.bottom()[0], 210), spread.bottom())
    canvas.arrow(picture.bottom(), (49, 254), (field.bottom()[0], 254), field.bottom())
    canvas.arrow((49, 254), (49, 298), segmentor.left())
    canvas.dot((49, 254))
    canvas.across(segmentor, found)
    canvas.across(found, loss)
    canvas.along(labels, loss)
    canvas.legend(("trained", "frozen", "text+frozen", "data", "loss"))


def points(canvas: Canvas) -> None:
    """The teacher above, the student below, the lessons between them."""
    canvas.group((8, 202), (684, 166), "all that is met at test", below=True)
    pictures = canvas.box((16, 34), (66, 44), "pictures")
    tower = canvas.box((108, 18), (92, 80), "CLIP's", "image tower", role="frozen", font=12)
    lifted = canvas.box((230, 18), (104, 40), "h: pixels,", "lifted to points", font=12)
    cls = canvas.box((230, 66), (104, 32), "CLS of each")
    pseudo = canvas.box((500, 18), (92, 40), "pseudo", "labels", font=12)
    unseen = canvas.box((612, 18), (74, 40), "unseen", "words", role="text", edge="frozen", font=12)
    people = canvas.box((612, 82), (74, 32), "labels")
    places = {"global": (318, 84), "local": (416, 76), "pseudo": (500, 94), "labels": (600, 88)}
    losses = {
        name: canvas.loss((x, 140), (wide, 44), *LESSONS[name].partition(" ")[::2], font=12)
        for name, (x, wide) in places.items()
    }
    features = canvas.box((382, 236), (84, 44), "g: a vector", "per point", font=12)
    cosine = canvas.box((510, 236), (110, 44), "cosine", "with words")
    named = canvas.box((560, 308), (124, 38), "a word per point")
    words = canvas.box((16, 308), (66, 38), "words", role="text")
    text = canvas.box((108, 308), (92, 38), "text tower", role="text", edge="frozen", font=12)
    canvas.across(pictures, tower)
    canvas.across(tower, lifted)
    canvas.across(tower, cls)
    canvas.across(lifted, pseudo)
    canvas.across(unseen, pseudo)
    canvas.arrow((454, 38), (454, 140))
    canvas.dot((454, 38))
    canvas.arrow(cls.right(), (360, cls.right()[1]), (360, 140))
    canvas.along(pseudo, losses["pseudo"], at=546)
    canvas.along(people, losses["labels"], at=649)
    canvas.across(_encoder(canvas), features)
    canvas.across(features, cosine)
    for start, name, x in (
        (features, "global", 392),
        (features, "local", 454),
        (cosine, "pseudo", 546),
        (cosine, "labels", 611),
    ):
        canvas.along(start, losses[name], at=x)
    canvas.across(words, text)
    canvas.arrow(text.right(), (530, 327), (530, 280))
    canvas.along(cosine, named, at=600)
    canvas.legend(("trained", "frozen", "text+frozen", "data", "loss"))


def _encoder(canvas: Canvas) -> Box:
    """A cloud and the layers that it goes through; the last of them."""
    canvas.group((98, 212), (268, 80), "point encoder")
    cloud = canvas.box((16, 236), (66, 44), "points,", "colours")
    layers = [
        canvas.box((x, 236), (wide, 44), *label.split(", "), role="trained", font=12)
        for label, x, wide in zip(POINTS_TRAINS.values(), (106, 168, 244, 320), (44, 58, 58, 38), strict=True)
    ]
    for start, end in pairwise((cloud, *layers)):
        canvas.across(start, end)
    return layers[-1]
