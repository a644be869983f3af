"""Weak supervision: the words that a picture shows, and pseudo masks that CLIP-ES makes of them."""

from __future__ import annotations

import copy
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import get_worker_info

from ...clip import DenseCLIP
from ...clip.clip_es import BACKGROUND, PROMPT, ClipES, words_around
from ...core.files import whole_file
from ...core.labels import IGNORE
from ...core.lookup import call
from ...datasets.base import ImageLevel, Segmented, Trainable, fingerprint
from ...datasets.pictures import read_png
from ..pool import hash_tensors
from .base import Supervision, WithoutMasks, before_cutting

_CLASS = "background"  # what a data set calls the class of pixels of no other


class PseudoMasks(WithoutMasks):
    """A data set whose masks CLIP-ES makes of the words of whole pictures.

    Words of unseen classes are passed over, as their pixels would be. What is background counts where the
    data set has a class of that name, and is ignored elsewhere.

    Args:
        dataset: whose items' words are known.
        clip: the frozen model.
        settings: of CLIP-ES.
        prompt: with one {} for the word.
        around: words of the background; those that are classes are left out.
        called: what the prompt says of a class in place of its name.
        folder: where label maps are kept; None makes them anew each time.

    Raises:
        ValueError: `called` names no class, or labels that a byte does not hold.
    """

    def __init__(
        self,
        dataset: Segmented,
        clip: DenseCLIP,
        settings: ClipES,
        *,
        prompt: str = PROMPT,
        around: Sequence[str] = BACKGROUND,
        called: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        super().__init__(dataset)
        called = dict(called or {})
        if strange := sorted(set(called) - set(self.names)):
            raise ValueError(f"called names {strange[:3]}; expected classes of the data set")
        if max(self.ignore, len(self.names)) > IGNORE:
            raise ValueError(f"got {len(self.names)} classes; expected at most {IGNORE - 1} for pseudo masks")
        self.clip, self.options = clip, settings
        barred = {*self.unseen, *(i for i, name in enumerate(self.names) if name == _CLASS)}
        # Training must not so much as name an unseen class.
        self.seen = [i for i in range(len(self.names)) if i not in barred]
        names = [called.get(self.names[i], self.names[i]) for i in self.seen]
        behind = words_around(self.names, around)
        with torch.no_grad():
            # Names as they are written: a comma in one is the authors', and no list of synonyms [C].
            self.text = clip.encode_text(names, (prompt,), synonyms="none")
            empty = self.text[:0]
            self.around = clip.encode_text(behind, (prompt,), synonyms="none") if behind else empty
        self.behind = self.names.index(_CLASS) if _CLASS in self.names else self.ignore
        self.made_with = [asdict(settings), prompt, names, behind]
        self.folder = None if folder is None else folder / self._key()

    def _key(self) -> str:
        """Of all that labels depend on: other weights, words or settings are kept elsewhere."""
        weights = hash_tensors(self.clip.model.state_dict().values())
        return fingerprint([self.dataset.describe(), self.made_with, weights])[:16]

    def settings(self) -> dict[str, object]:
        """The data set, and how labels are made."""
        return {**super().settings(), "labels": fingerprint(self.made_with)}

    def mask(self, index: int, known: ImageLevel) -> Tensor:
        """Pseudo labels of a picture, kept or made now.

        Args:
            index: of the picture.
            known: of it; of its words those of seen classes are used.

        Returns:
            (H, W) int64, class ids or `ignore`.

        Raises:
            OSError: a worker is to make labels on a machine with a GPU.
        """
        if self.folder is None:
            return self._made(known)
        path = self.folder / f"{index:07d}.png"
        if path.exists():
            return torch.from_numpy(read_png(str(path)).astype(np.int64))
        made = self._made(known)
        png = io.BytesIO()
        Image.fromarray(made.numpy().astype(np.uint8)).save(png, "PNG")
        with whole_file(path) as scratch:
            scratch.write_bytes(png.getvalue())
        return made

    def _made(self, known: ImageLevel) -> Tensor:
        # A child process has no CUDA and, once its parent took a gradient there, none at all.
        if get_worker_info() is not None and torch.cuda.is_available():
            raise OSError(
                "a process that reads pictures cannot make pseudo masks beside a GPU; expected machine: "
                "{workers: 0}, or a `folder` in which all of them were kept before"
            )
        places = [place for place, word in enumerate(self.seen) if word in set(known.words)]
        labels = self.options.labels(self.clip, known.image, self.text[places], self.around).cpu()
        ids = torch.tensor([*(self.seen[place] for place in places), self.behind])
        unsure = labels == IGNORE
        return ids[labels.masked_fill(unsure, 0)].masked_fill(unsure, self.ignore)


class PseudoMaskSupervision(Supervision):
    """Image-level words, in a recipe: `supervision: {name: clip_es, ...}`.

    Args:
        prompt, around, called: see `PseudoMasks`.
        folder: where label maps are kept, for pictures that come again; None makes them anew each time.
        settings: of `ClipES`.

    Raises:
        ValueError: a prompt without {}, or what `ClipES` refuses.
    """

    def __init__(
        self,
        *,
        prompt: str = PROMPT,
        around: Sequence[str] = BACKGROUND,
        called: Mapping[str, str] | None = None,
        folder: str | None = None,
        settings: Mapping[str, object] | None = None,
    ) -> None:
        self.options = call(ClipES, (), dict(settings or {}), "settings of supervision 'clip_es'")
        self.prompt, self.around, self.called = prompt, tuple(around), dict(called or {})
        self.folder = None if folder is None else Path(folder).expanduser()

    def scenes(self, scenes: Trainable, clip: DenseCLIP, *, seed: int, workers: int) -> Trainable:
        """The scenes with pseudo masks; see `Supervision.scenes`."""
        # Processes that read ahead have no GPU: a copy on the CPU is theirs.
        labeller = copy.deepcopy(clip).cpu() if workers else clip

        def labelled(dataset: Segmented) -> PseudoMasks:
            return PseudoMasks(
                dataset,
                labeller,
                self.options,
                prompt=self.prompt,
                around=self.around,
                called=self.called,
                folder=self.folder,
            )

        return before_cutting(scenes, labelled)
