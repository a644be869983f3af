"""A fixed set of captioned scenes, seen once by the frozen trunk: what pretraining goes through again."""

from __future__ import annotations

import copy
import hashlib
import multiprocessing
import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor
from tqdm.auto import tqdm

from ..clip.stem import MEAN, STD, Stem
from ..core.files import whole_file
from ..datasets.base import fingerprint
from ..datasets.collage import Collage, all_nouns, stuff

CHUNK = 500  # scenes of a file: some 25 MB, and half a minute of work that a killed run can lose


class Pool(NamedTuple):
    """Scenes as pretraining sees them.

    Attributes:
        inputs: what the image tower begins with: {"middle", "deep"} of a stem in float16, or {"pixels"} (N,
            3, size, size) uint8 where there is no stem.
        present: (N, words) bool, which of `pack_words()` can be seen.
    """

    inputs: dict[str, Tensor]
    present: Tensor


@cache
def pack_words() -> tuple[str, ...]:
    """Every word that a caption can name; read from the pack when it is first asked for."""
    return (*all_nouns(), *stuff())


class CaptionedScenes:
    """Scenes for contrast, by number: half of the segmentation vocabulary, half of every noun in the pack;
    three in ten are close-ups of one object.
    """

    def __init__(self, size: int, seed: int, instances: int | None = None) -> None:
        collage = partial(Collage, "train", size, seed=seed, length=10**9, instances=instances)
        vocabularies = (None, pack_words())
        self.scenes = [collage(classes) for classes in vocabularies]
        self.near = [collage(classes, objects=(1, 1), scale=(0.8, 1.6)) for classes in vocabularies]
        self.settings = [scenes.describe() for scenes in (*self.scenes, *self.near)]

    def render(self, index: int) -> tuple[Tensor, list[str]]:
        """The scene's pixels (3, size, size) uint8, and the words that can be seen."""
        kinds = self.near if index % 10 < 3 else self.scenes
        canvas, _, _, present = kinds[index // 10 % 2].render(index)
        return torch.from_numpy(canvas).permute(2, 0, 1), present


def build_pool(
    stem: Stem | None,
    folder: Path,
    count: int,
    *,
    size: int = 96,
    seed: int = 0,
    instances: int | None = None,
    workers: int = 1,
) -> Pool:
    """The pool of a stem; what is in the folder already is taken from there.

    Args:
        stem: the frozen trunk, filled and standardised; None keeps pixels.
        folder: of the pool's files, written whole one by one.
        count: scenes.
        size: side of a scene in pixels.
        seed: of the scenes.
        instances: at most so many of each noun are shown; None: all.
        workers: processes, of one thread each; 1 is this one.

    Returns:
        The pool, in the order of the files.
    """
    scenes = CaptionedScenes(size, seed, instances)
    trunk = None if stem is None else [stem.enlarge, hash_tensors(stem.buffers())]
    # Another pack or trunk gives another folder: features are never mixed.
    folder = folder / fingerprint([scenes.settings, trunk])[:16]
    stops = [*range(CHUNK, count, CHUNK), count]
    ranges = [range(start, stop) for start, stop in zip([0, *stops], stops, strict=False)]
    chunks = [(folder / f"{each.start:06d}-{each.stop:06d}.safetensors", each) for each in ranges]
    missing = [chunk for chunk in chunks if not chunk[0].exists()]
    with ExitStack() as stack:
        run: Callable[..., Iterable[None]] = map
        if min(workers, len(missing)) > 1:
            context = multiprocessing.get_context("spawn")
            run = stack.enter_context(context.Pool(workers, _begin, (stem, scenes))).imap_unordered
        elif missing:
            _begin(stem, scenes)
        for _ in tqdm(run(_write, missing), "pool", total=len(missing), disable=len(missing) < 2):
            pass
    parts = [_read(path) for path, _ in chunks]
    joined = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    return Pool(joined, joined.pop("present").bool())


def hash_tensors(tensors: Iterable[Tensor]) -> str:
    """SHA-256 of what float tensors hold, in their order."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def stem_examples(size: int, seed: int, count: int = 400) -> Tensor:
    """Scenes that a stem is standardised on, none of the pool's: (count, 3, size, size), normalised."""
    scenes = CaptionedScenes(size, seed)
    first = 10**7  # beyond every pool
    pixels = torch.stack([scenes.render(first + index)[0] for index in range(count)])
    return (pixels.float() / 255 - MEAN) / STD


_worker: tuple[Stem | None, CaptionedScenes]


def _begin(stem: Stem | None, scenes: CaptionedScenes) -> None:
    global _worker
    if multiprocessing.parent_process() is not None:
        torch.set_num_threads(1)
    # Half precision reads as the same scene, in a third of the time. A copy: the model keeps its own.
    _worker = (None if stem is None else copy.deepcopy(stem).bfloat16(), scenes)


def _write(chunk: tuple[Path, Sequence[int]]) -> None:
    path, indices = chunk
    stem, scenes = _worker
    rendered = [scenes.render(index) for index in indices]
    pixels = torch.stack([image for image, _ in rendered])
    rows = {"present": torch.stack([multi_hot(words) for _, words in rendered]).to(torch.uint8)}
    if stem is None:
        rows["pixels"] = pixels
    else:
        with torch.inference_mode():
            parts = [stem.features((part.float() / 255 - MEAN) / STD) for part in pixels.split(50)]
        rows["middle"] = torch.cat([part.middle for part in parts]).half().contiguous()
        rows["deep"] = torch.cat([part.deep for part in parts]).half().contiguous()
    with whole_file(path) as scratch:
        scratch.write_bytes(save(rows))


def _read(path: Path) -> dict[str, Tensor]:
    with safe_open(path, framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)


def multi_hot(words: Sequence[str]) -> Tensor:
    """(words,) float32, 1 where a word of `pack_words()` is among `words`."""
    hot = torch.zeros(len(pack_words()))
    hot[[_places()[word] for word in words]] = 1
    return hot


@cache
def _places() -> dict[str, int]:
    return {word: place for place, word in enumerate(pack_words())}


def some_of(rng: random.Random, words: Sequence[str]) -> list[str]:
    """All of the words, or as often a random part of them, never none."""
    if rng.random() < 0.5:
        return list(words)
    share = rng.random()
    return [word for word in words if rng.random() < share] or [words[int(rng.random() * len(words))]]
