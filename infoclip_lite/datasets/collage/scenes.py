"""Collage: things cut out and pasted on textures, with exact masks and captions.

A scene is a pure function of (seed, split, index): any worker on any machine renders the same pixels.
"""

from __future__ import annotations

import math
import random
from bisect import bisect
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from PIL import Image

from ...core.files import data_dir
from ..base import ImageLevel, SegmentationDataset, fingerprint
from .building.licences import GROUPS
from .captions import describe
from .words import Instance, dev_nouns, manifest, seen_nouns, segmentation_nouns, stuff
from .words import instances as all_instances

if TYPE_CHECKING:
    from torch import Tensor

SPLITS = ("train", "val", "test", "test-known")
_FEWEST_PIXELS = 0.01  # of the picture: an object of which less can be seen is not named in the caption
_UPRIGHT = ("sky",)  # textures that are never turned upside down and lie above the other


_Box = tuple[float, float, float]  # x and y of the middle, and the longest side, in pixels


class Scene(NamedTuple):
    """One rendered scene.

    Attributes:
        image: (3, size, size) float32 in [0, 1].
        mask: (size, size) int64, an index into `Collage.names` for every pixel.
        caption: a sentence that names every noun that can be seen.
        nouns: the nouns and stuff that can be seen, in the order of `Collage.names`.
    """

    image: Tensor
    mask: Tensor
    caption: str
    nouns: list[str]


class _Draw(NamedTuple):
    """Instances to draw from, each with a class id, and the sums of their weights up to each."""

    choices: list[tuple[int, Instance]]
    sums: list[float]

    def one(self, rng: random.Random) -> tuple[int, str]:
        """A class id and a picture of one of its instances."""
        label, instance = self.choices[bisect(self.sums, rng.random() * self.sums[-1])]
        return label, instance.files[_integer(rng, 0, len(instance.files) - 1)]


def _draws(words: Iterable[tuple[int, Sequence[Instance]]]) -> dict[str, _Draw]:
    """For each group of licences, its instances and how often each is drawn.

    Within a group an instance weighs what makes every word, and every instance of a word, equally frequent
    over both groups together, when the groups are drawn by the sums of their weights: one that both may
    show counts half in each.
    """
    draws = {}
    listed = [(label, each) for label, each in words if each]
    for group in GROUPS:
        choices = [(label, one, len(each)) for label, each in listed for one in each if group in one.groups]
        weights = [1 / (total * len(one.groups)) for _, one, total in choices]
        draws[group] = _Draw([(label, one) for label, one, _ in choices], list(accumulate(weights)))
    return draws


# A picture is decoded when a scene first shows it: names need none, and a scene shows a handful of thousands.
@cache
def _levels(file: str) -> list[Image.Image]:
    """A mip pyramid, full size first, premultiplied; of a texture its full size alone."""
    with Image.open(data_dir() / "collage" / file) as picture:
        cutout = file.startswith("cutouts/")
        full = picture.convert("RGBA").convert("RGBa") if cutout else picture.convert("RGB")
    levels = [full]
    while cutout and max(levels[-1].size) > 16:
        levels.append(levels[-1].reduce(2))
    return levels


class Collage(SegmentationDataset):
    """Rendered scenes with pixel labels and captions.

    Args:
        split: "train"; "val" (instances held back for choices; dev-unseen nouns are the unseen ones there);
            "test" (new instances on new textures; no choice is made on it); or "test-known" (new scenes of
            the instances and textures of "train", for teaching what memory looks like).
        size: side of the square picture in pixels.
        classes: the words that masks index and that compete; None means the segmentation vocabulary (seen,
            dev-unseen and unseen nouns, and stuff). At least one must be stuff.
        seed: another seed gives other scenes of the same split.
        length: number of scenes.
        objects: fewest and most objects in a scene.
        scale: smallest and largest longest side of an object, as a fraction of `size`.
        seen: nouns whose pixels may be learnt from; every other noun among `classes` is unseen. None: the
            pack's split.
        kind: "photograph" or "render" shows things of that kind alone, to tell how well each is known; None
            shows both.
        instances: at most so many of each noun are shown, always the same ones, to tell what an instance is
            worth; None shows all.

    Attributes:
        names: the class names, in the order of the mask's indices.
        unseen: class ids of the nouns whose pixels must not be learnt from, on every split the same.
        class_groups: ids of "seen" and "unseen" nouns that this split shows, and of "stuff". A noun that is
            kept for another split competes as a word but is in no group.

    Raises:
        ValueError: unknown split or word, no stuff among the classes, a size below 16, or an empty range.
    """

    def __init__(
        self,
        split: str,
        size: int = 96,
        classes: Sequence[str] | None = None,
        seed: int = 0,
        *,
        length: int = 1000,
        objects: tuple[int, int] = (1, 4),
        scale: tuple[float, float] = (0.3, 0.8),
        seen: Sequence[str] | None = None,
        kind: Literal["photograph", "render"] | None = None,
        instances: int | None = None,
    ) -> None:
        if kind not in (None, "photograph", "render"):
            raise ValueError(f"unknown kind {kind!r}; expected photograph, render or None for both")
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}; expected one of {', '.join(SPLITS)}")
        if size < 16:
            raise ValueError(f"size is {size} pixels; expected at least 16")
        for what, count in (("length", length), ("instances", instances)):
            if count is not None and count < 1:
                raise ValueError(f"{what} is {count}; expected at least 1")
        if not 0 <= objects[0] <= objects[1] or not 0 < scale[0] <= scale[1]:
            expected = "(fewest, most) and (smallest, largest) in order"
            raise ValueError(f"got objects={objects}, scale={scale}; expected {expected}")
        names = tuple(classes) if classes is not None else (*segmentation_nouns(), *stuff())
        _check_words(names)
        learnt = set(seen_nouns() if seen is None else seen)
        missing = learnt - set(manifest()["nouns"])
        if missing:
            raise ValueError(f"seen names {sorted(missing)}, which Collage has no pictures of")
        grounds = {i: name for i, name in enumerate(names) if name in stuff()}
        nouns = {i: name for i, name in enumerate(names) if name not in stuff()}
        super().__init__(names, split=split, unseen=[i for i, name in nouns.items() if name not in learnt])
        self.size = size
        self.seed = seed
        self.length = length
        self.objects = objects
        self.scale = scale
        self.kind = kind
        self.instances = instances
        shown = {
            i: _some(
                name,
                [each for each in _shown(name, split, name in learnt) if kind in (None, each.kind)],
                instances,
            )
            for i, name in nouns.items()
        }
        side = "test" if split == "test" else "train"
        textures = {i: [t for t in all_instances()[name] if t.side == side] for i, name in grounds.items()}
        self._things, self._grounds = _draws(shown.items()), _draws(textures.items())
        drawn = [i for i, each in shown.items() if each]
        self.class_groups = {
            "seen": tuple(i for i in drawn if names[i] in learnt),
            "unseen": tuple(i for i in drawn if names[i] not in learnt),
            "stuff": tuple(grounds),
        }
        if not grounds:
            expected = f"at least one of {', '.join(stuff())}"
            raise ValueError(f"classes {names} has no stuff to paste on; expected {expected}")
        if not drawn and objects[0] > 0:
            expected = "a noun with instances on that side"
            raise ValueError(f"no pictures for split {split!r} among {names}; expected {expected}")
        # Both groups of licences must have what a scene needs: with few words only one of them may.
        possible = {
            group: self._things[group].sums[-1] if self._things[group].sums else float(objects[0] == 0)
            for group in GROUPS
            if self._grounds[group].sums
        }
        self._group = ([*possible], list(accumulate(possible.values())))

    @property
    def caption_words(self) -> tuple[str, ...]:
        """The nouns that captions of the pack name and that are none of the classes."""
        return tuple(noun for noun in manifest()["nouns"] if noun not in self.names)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Scene:
        if not -self.length <= index < self.length:
            raise IndexError(f"scene {index} of {self.length}")
        import torch  # here, so that words and classes can be had without it

        canvas, mask, caption, nouns = self.render(index % self.length)
        image = torch.from_numpy(canvas).permute(2, 0, 1).float() / 255
        return Scene(image, torch.from_numpy(mask.astype(np.int64)), caption, nouns)

    def image_level(self, index: int) -> ImageLevel:
        """A scene without its mask: the words that can be seen, and its caption.

        Args:
            index: of the scene.
        """
        scene = self[index]
        words = tuple(self.names.index(noun) for noun in scene.nouns)
        return ImageLevel(scene.image, words, (scene.caption,), f"scene {index}")

    def place(self, number: int) -> int:
        """The scene that a training takes as its `number`-th: after `length` of them they come again."""
        return number % self.length

    def settings(self) -> dict[str, object]:
        """What a scene depends on beside its split and index, the pictures of the pack included."""
        # Of the hashes in the manifest: another pack with the same words draws other scenes.
        records = (*manifest()["pictures"], *manifest()["textures"])
        pack = fingerprint([record["sha256"] for record in records])
        return {
            "size": self.size,
            "seed": self.seed,
            "objects": list(self.objects),
            "scale": list(self.scale),
            "kind": self.kind,
            "instances": self.instances,
            "pack": pack,
        }

    def render(self, index: int) -> tuple[np.ndarray, np.ndarray, str, list[str]]:
        """The scene as arrays.

        Returns:
            The image (size, size, 3) uint8; the mask (size, size) uint8, or uint16 from 257 classes on;
            the caption; and the words that can be seen.
        """
        return self._rendered(index)[0]

    def sources(self, index: int) -> list[str]:
        """The pictures that a scene is pasted from, as the manifest names them: whom to credit for it.

        Args:
            index: of the scene.

        Returns:
            Files relative to the pack, each once, grounds first; also of what others hide.
        """
        return list(dict.fromkeys(self._rendered(index)[1]))

    def _rendered(self, index: int) -> tuple[tuple[np.ndarray, np.ndarray, str, list[str]], list[str]]:
        """What `render` returns, and the files that were pasted."""
        rng = random.Random(f"collage/{self.seed}/{self.split}/{index}")
        # Before anything else: which licences may meet in this scene.
        group = self._group[0][bisect(self._group[1], rng.random() * self._group[1][-1])]
        canvas, mask, files = self._ground(rng, self._grounds[group])
        things = self._things[group]
        boxes: list[_Box] = []
        count = _integer(rng, *self.objects) if things.choices else 0
        for _ in range(count):
            files.append(self._paste(rng, things, canvas, mask, boxes))
        # By the finished mask: an object that others hide is not named.
        visible = np.bincount(mask.ravel(), minlength=len(self.names)) >= _FEWEST_PIXELS * mask.size
        present = [self.names[i] for i in np.flatnonzero(visible)]
        nouns = [name for name in present if name not in stuff()]
        # One caption in five does not name the ground, as captions of photographs often do not.
        named = nouns if nouns and rng.random() < 0.2 else present
        return (canvas, mask, describe(rng, named), present), files

    def _ground(self, rng: random.Random, grounds: _Draw) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """One texture, or two with a wavy border between them, and their files."""
        count = 1 + (rng.random() < 0.5)
        chosen = [grounds.one(rng) for _ in range(count)]
        chosen.sort(key=lambda c: self.names[c[0]] not in _UPRIGHT)
        first = chosen[0]
        canvas = self._texture(rng, first[1])
        # A byte a pixel where it suffices: masks are drawn by the hundred thousand.
        kind = np.uint8 if len(self.names) <= 256 else np.uint16
        mask = np.full((self.size, self.size), first[0], dtype=kind)
        if len(chosen) == 2 and chosen[1][0] != first[0]:
            second = self._texture(rng, chosen[1][1])
            rows, columns = np.mgrid[0 : self.size, 0 : self.size] / self.size - 0.5
            steepest = 0.5 if self.names[first[0]] in _UPRIGHT else math.pi
            tilt = rng.uniform(-steepest, steepest)
            along = math.cos(tilt) * columns + math.sin(tilt) * rows
            across = math.cos(tilt) * rows - math.sin(tilt) * columns
            wave = rng.uniform(0, 0.06) * np.sin(along * rng.uniform(4, 12) + rng.uniform(0, 6))
            below = across + wave > rng.uniform(-0.25, 0.25)
            canvas[below] = second[below]
            mask[below] = chosen[1][0]
            return canvas, mask, [first[1], chosen[1][1]]
        return canvas, mask, [first[1]]

    def _texture(self, rng: random.Random, file: str) -> np.ndarray:
        full = _levels(file)[0]
        side = rng.uniform(0.35, 1.0) * min(full.size)
        left, top = rng.uniform(0, full.width - side), rng.uniform(0, full.height - side)
        box = (left, top, left + side, top + side)
        patch = full.resize((self.size, self.size), Image.Resampling.BILINEAR, box=box)
        array = np.asarray(patch)
        if rng.random() < 0.5:
            array = array[:, ::-1]
        return np.clip(array * _light(rng), 0, 255).astype(np.uint8)

    def _paste(
        self, rng: random.Random, things: _Draw, canvas: np.ndarray, mask: np.ndarray, boxes: list[_Box]
    ) -> str:
        """Put one object somewhere it hides little of the others; its file is returned."""
        label, file = things.one(rng)
        # Even on a logarithmic scale: as many objects between a half and one as between a quarter and a half.
        longest = self.size * math.exp(rng.uniform(math.log(self.scale[0]), math.log(self.scale[1])))
        patch = _turned(file, longest, math.radians(rng.uniform(-20, 20)), rng.random() < 0.5)
        height, width = patch.shape[:2]
        # A large object may be cut by the frame, a small one seldom.
        reach = max(0.35, 0.5 * longest / self.size)
        # Five tries for a place of its own, then wherever: a crowded scene has objects that hide others.
        for _ in range(5):
            x = self.size * (0.5 + rng.uniform(-reach, reach))
            y = self.size * (0.5 + rng.uniform(-reach, reach))
            if all(math.hypot(x - bx, y - by) > 0.4 * (longest + b) for bx, by, b in boxes):
                break
        boxes.append((x, y, longest))
        left, top = round(x - width / 2), round(y - height / 2)
        x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + width, self.size), min(top + height, self.size)
        light = _light(rng)  # drawn before the return: later objects do not depend on what can be seen
        if x0 >= x1 or y0 >= y1:
            return file
        patch = patch[y0 - top : y1 - top, x0 - left : x1 - left]
        alpha = patch[..., 3:].astype(np.float32)
        under = canvas[y0:y1, x0:x1]
        # Colours are premultiplied, so alpha is their ceiling.
        over = np.minimum(patch[..., :3] * light, alpha)
        canvas[y0:y1, x0:x1] = over + under * (1 - alpha / 255) + 0.5
        # Half transparent counts as the object: soft borders are two pixels wide.
        mask[y0:y1, x0:x1][alpha[..., 0] > 127] = label
        return file


def _check_words(names: Sequence[str]) -> None:
    unknown = [name for name in names if name not in all_instances()]
    if unknown:
        expected = "words of datasets.collage.all_nouns() or stuff()"
        raise ValueError(f"Collage has no pictures of {', '.join(unknown)}; expected {expected}")
    if len(set(names)) < len(names):
        twice = sorted(name for name in set(names) if names.count(name) > 1)
        raise ValueError(f"classes has a word twice: {twice}")


def _shown(noun: str, split: str, learnt: bool) -> list[Instance]:
    """The instances of a noun that scenes of a split show; none where the noun is kept for another split."""
    kept_for_choices = noun in dev_nouns()
    if split == "val":
        # New instances too: of a learnt noun those held back, of a dev-unseen one those no caption named.
        side = "val" if learnt else "test" if kept_for_choices else None
    elif split == "test":
        side = None if kept_for_choices and not learnt else "test"
    else:
        side = None if split == "test-known" and kept_for_choices and not learnt else "train"
    return [each for each in all_instances()[noun] if each.side == side]


def _some(noun: str, found: list[Instance], most: int | None) -> list[Instance]:
    """At most so many of a noun's instances, each number of them a part of every larger one."""
    if most is None:
        return found
    return sorted(found, key=lambda each: random.Random(f"some/{noun}/{each.files[0]}").random())[:most]


def _integer(rng: random.Random, low: int, high: int) -> int:
    """Uniform in low..high. Only rng.random(), whose stream Python keeps the same in every version."""
    return low + int(rng.random() * (high - low + 1))


def _light(rng: random.Random) -> np.ndarray:
    """Gain for each colour: brightness and a slight cast."""
    brightness = rng.uniform(0.7, 1.25)
    return np.array([brightness * rng.uniform(0.93, 1.07) for _ in range(3)], dtype=np.float32)


def _turned(file: str, longest: float, angle: float, flip: bool) -> np.ndarray:
    """(h, w, 4) premultiplied uint8: the cut-out scaled to `longest` pixels, rotated, perhaps mirrored."""
    # From the smallest level that is not enlarged: bilinear sampling of a larger one would skip pixels.
    level, *others = _levels(file)
    for smaller in others:
        if max(smaller.size) < longest:
            break
        level = smaller
    scale = longest / max(level.size)
    cos, sin = math.cos(angle), math.sin(angle)
    width = math.ceil(scale * (abs(cos) * level.width + abs(sin) * level.height)) + 2
    height = math.ceil(scale * (abs(sin) * level.width + abs(cos) * level.height)) + 2
    a, b, d, e = cos / scale, sin / scale, -sin / scale, cos / scale
    if flip:
        a, b = -a, -b
    c = level.width / 2 - a * width / 2 - b * height / 2
    f = level.height / 2 - d * width / 2 - e * height / 2
    inverse = (a, b, c, d, e, f)  # from places in the result to places in the cut-out
    turned = level.transform((width, height), Image.Transform.AFFINE, inverse, Image.Resampling.BILINEAR)
    return np.asarray(turned)
