"""One colour a word in every picture, and few, far apart, for lines and verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

import numpy as np

from .words import split_list, synonyms_of

UNLABELLED = (160, 160, 160)  # grey: no word's colour

# Words that many pictures show have fixed places: things in an order in which those that are easily taken for
# one another are far apart (chair and armchair), stuff by its own colour as far as it has one. Any other word
# has the place that its letters say.
_NOUNS = split_list(
    "chair, car, fish, tree, bird, lamp, bottle, flower, dog, sofa, cup, potted plant, person, vase, truck, "
    "bed, hammer, insect, cabinet, cow, door, scissors, windmill, sink, sports ball, trash can, horse, "
    "dining table, coin, ceiling lamp, road sign, armchair, sheep, tv, guitar, desk, cat, bench, "
    "measuring tape, bookcase, stool, oven, planet, lounge chair, pliers, bowl, "
    "coffee table, radiator, lantern, toilet"
)
_STUFF = split_list("brick, bark, sand, leaves, grass, tiles, snow, water, sky, stone, gravel, fabric, wood")

# Seaborn's order puts two oranges side by side; these are its colours, the most different first.
_ORDER = (0, 1, 2, 4, 8, 9, 3, 6, 5, 7)
_YELLOW = 4  # its place in `_palette`

Colour = tuple[int, int, int]  # 0 to 255
Shade = tuple[float, float, float]  # red, green, blue in [0, 1]


def word_colours(names: Sequence[str]) -> np.ndarray:
    """A colour for each word: the same wherever the word is drawn, whatever words stand beside it.

    Things are bold and stuff is pale. Only a word without a fixed place changes its colour, where another one
    of `names` has it already.

    Args:
        names: the words; of synonyms, as in "ox|cow", the first one counts.

    Returns:
        (len(names), 3) uint8, no two alike, and none of them `UNLABELLED`.
    """
    bold, pale = _bold(), _pale()
    fixed = {name: bold[place] for place, name in enumerate(_NOUNS)}
    fixed |= {name: pale[place] for place, name in enumerate(_STUFF)}
    words = [(synonyms_of(name) or [name])[0].lower() for name in names]
    # A word that stands there twice has its colour once.
    found = {i: fixed[word] for i, word in enumerate(words) if word in fixed and word not in words[:i]}
    others = [i for i in range(len(words)) if i not in found]
    taken = set(found.values())
    free = [colour for colour in bold if colour not in taken]
    for i in others:
        if free:
            # The first free place from that of its letters on.
            start = crc32(words[i].encode()) % len(bold)
            found[i] = next(c for c in bold[start:] + bold[:start] if c in free)
            free.remove(found[i])
    rest = [i for i in others if i not in found]
    found |= dict(zip(rest, _more(len(rest), set(found.values())), strict=True))
    return np.array([found[i] for i in range(len(names))], dtype=np.uint8).reshape(-1, 3)


def _ring(count: int, hue: float, saturation: float, lightness: float) -> list[Colour]:
    import seaborn as sns  # here, so that who draws nothing does not load it

    ring = np.array(list(sns.husl_palette(count, h=hue, s=saturation, l=lightness)))
    return [(int(r), int(g), int(b)) for r, g, b in (ring * 255).astype(np.uint8)]


def _bold() -> list[Colour]:
    """Fifty-one: three rings of hues, dark to light, in an order in which neighbours are far apart."""
    rings = [
        _ring(17, 0.01 + ring / 51, 0.95, lightness) for ring, lightness in enumerate((0.38, 0.56, 0.74))
    ]
    every = [colour for hue in zip(*rings, strict=True) for colour in hue]
    # 19 and 51 have no common factor, so that all have their turn.
    return [every[19 * place % len(every)] for place in range(len(every))]


def _pale() -> list[Colour]:
    return _ring(13, 0.05, 0.4, 0.75)


def _more(count: int, taken: set[Colour]) -> list[Colour]:
    """For vocabularies larger than an eye can tell apart: any colours that are not taken yet."""
    found: list[Colour] = []
    ring = 0
    while len(found) < count:
        ring += 1
        fresh = _ring(61 + ring, 0.01 * ring, 0.7, 0.3 + 0.07 * (ring % 8))
        found += [c for c in dict.fromkeys(fresh) if c not in taken and c not in found and c != UNLABELLED]
    return found[:count]


def shades(count: int) -> list[Shade]:
    """Colours for lines, bars and marks: three fractions each, as matplotlib takes them.

    The first eight are safe for colour-blind readers.
    """
    every = _palette(max(count, 10))
    # A yellow line vanishes on white paper: it comes tenth.
    order = [*(place for place in range(10) if place != _YELLOW), _YELLOW, *range(10, count)]
    return [every[place] for place in order[:count]]


def _palette(count: int) -> list[Shade]:
    import seaborn as sns

    base = sns.color_palette("colorblind", 10)
    # No palette tells more than ten apart by hue alone; the rest is evenly spread and needs the legend.
    others = list(sns.husl_palette(max(0, count - 10), s=0.8, l=0.6))
    return [*(base[place] for place in _ORDER), *others][:count]


def verdict_shades() -> tuple[Shade, Shade, Shade]:
    """Three colours that every figure on differences uses: better (blue), worse (red), not sure (grey)."""
    blue, *_, red, _pink, _brown, grey = shades(9)
    return blue, red, grey
