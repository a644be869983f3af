"""Fine-tuning of a segmentor on the pixels of seen classes, plainly or with an objective that keeps CLIP
aligned.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..clip import DenseCLIP
from ..clip.memory import digest, remembered
from ..clip.stem import Stem
from ..clip.tower import TowerPass
from ..core.labels import NO_LABEL
from ..core.processes import mean_over_processes, rank, world
from ..datasets.base import Item, Trainable
from ..objectives import Batch, Objective, View
from ..objectives.base import Sources
from ..segmentors import Encoded, Segmentor, Target
from ..segmentors.base import enlarged
from .acceleration import autocast, dtype_of
from .recipe import MachineSection, OptimizerSection, Tune

_T = TypeVar("_T")
PATIENCE = 600  # seconds without a batch from any worker, after which they are taken for hung
Part = tuple[Tensor, ...]  # (images, masks), or (images, masks, labelled) where a batch is divided


class FineTuning:
    """The task that `fit` runs: the segmentor's loss over the seen classes, and perhaps an alignment
    objective beside it.

    Unseen nouns are never named in training and their pixels are ignored (inductive), unless `background`
    calls them by a word of its own.

    Args:
        segmentor: the model; its CLIP is what is tuned, its head (if any) what is trained.
        dataset: scenes with masks; `dataset.unseen` says what to ignore.
        batch: scenes a step.
        optimizer: rates and decay. `lr` is of CLIP and of a segmentor's `pretrained()` parameters, `head_lr`
            of everything that begins at random: the head and the objective's own weights. Decay is of
            matrices; not of CLIP's under "qv", where it would shrink the frozen keys as well.
        machine: number format (autocast; weights and the loss stay float32), workers, and the passes that a
            step's batch is divided into: as many times less memory, the same gradients. An objective sees one
            part at a time, so that one whose samples are pictures ("batch" axis) meets fewer of them; so it
            is with several processes.
        tune: "full" trains every weight of both towers, "image" those of the image tower, "qv" only the query
            and value projections of every block of both, biases included (CAT-Seg's code tunes their weights
            alone [S]), "none" leaves CLIP alone. A stem (`clip.stem`) stays frozen under all of these, only
            its last projection is a weight of the image tower: no penalty or interpolation of weights sees
            more of it. "stem" is "full" and the stem too.
        prompt: the template of the class names in training, for a segmentor that has none of its own.
        background: what pixels of unseen classes are called, as some recipes do that ignore no pixel: a model
            learns from it what unseen classes are not. None ignores these pixels.
        anchors: further words that the objective's relation looks at, in the teacher's embedding for both
            models; they have no pixels and no logits, and must not be unseen classes.
        objective: added to the segmentor's loss.
        teacher: the frozen pretrained CLIP; needed with an objective, and no part of `module`.
        steps: of the training, for an objective that follows its progress; None: as many as make an epoch.

    Attributes:
        skipped: how often each damaged file was passed over so far, all workers of this process together.

    Raises:
        ValueError: unknown options, options that exclude each other, no seen class, or nothing to train.
    """

    def __init__(
        self,
        segmentor: Segmentor,
        dataset: Trainable,
        *,
        batch: int,
        optimizer: OptimizerSection | None = None,
        machine: MachineSection | None = None,
        tune: Tune = "full",
        prompt: str = "a photo of a {}",
        background: str | None = None,
        anchors: Sequence[str] = (),
        objective: Objective | None = None,
        teacher: DenseCLIP | None = None,
        steps: int | None = None,
    ) -> None:
        self.segmentor, self.dataset, self.batch, self.tune = segmentor, dataset, batch, tune
        self.optimizer = optimizer or OptimizerSection()
        self.machine = machine or MachineSection(dtype="float32")
        self.dtype = dtype_of(self.machine.dtype)
        self.objective, self.teacher = objective, teacher
        self.steps = len(dataset) // batch if steps is None else steps
        self.skipped: Counter[str] = Counter()
        self._check(anchors)
        self.seen, self.relabel = seen_classes(dataset, background)
        segmentor.meet(self.seen)
        self.templates = segmentor.templates or (prompt,)
        self.module: nn.Module = segmentor
        if objective is not None:
            self.module = nn.ModuleDict({"segmentor": segmentor, "objective": objective})
        self.trained = [*trained_weights(segmentor.clip, tune), *segmentor.pretrained()]
        begun = {id(p) for p in (*segmentor.clip.parameters(), *self.trained)}
        self.heads = [p for p in self.module.parameters() if id(p) not in begun and p.requires_grad]
        if not self.trained and not self.heads:
            raise ValueError("got tune='none' and a segmentor without a head; expected something to train")
        self._fixed_text: Tensor | None = None
        self._teacher_hash: str | None = None
        if teacher is not None:
            with torch.no_grad():
                self.teacher_text = teacher.encode_text([*self.seen, *anchors], self.templates)

    def _check(self, anchors: Sequence[str]) -> None:
        """Options that exclude each other."""
        if self.tune not in get_args(Tune):
            raise ValueError(f"unknown tune {self.tune!r}; expected one of {', '.join(get_args(Tune))}")
        if self.tune == "stem" and not isinstance(self.segmentor.clip.visual.conv1, Stem):
            raise ValueError(f"tune is 'stem'; {self.segmentor.clip.name} has none: expected 'full'")
        if self.tune != "none" and not self.segmentor.tunable:
            raise ValueError(
                f"tune is {self.tune!r}; expected 'none' for {type(self.segmentor).__name__}: "
                "its CLIP stays frozen, only what is beside it learns"
            )
        if (self.objective is None) != (self.teacher is None):
            raise ValueError(
                "got an objective without a teacher, or a teacher without one; expected both or neither"
            )
        passes = self.machine.accumulate
        if passes < 1 or self.batch % self.parts:
            raise ValueError(
                f"got a batch of {self.batch} scenes, accumulate={passes} and {world()} processes; "
                "expected a batch that divides evenly"
            )
        unseen = {self.dataset.names[i] for i in self.dataset.unseen} & set(anchors)
        if unseen:
            raise ValueError(
                f"anchors name the unseen classes {sorted(unseen)[:3]}; "
                "expected other words: training must not know them"
            )

    @property
    def parts(self) -> int:
        """How many a batch is divided into, of all processes together."""
        return self.machine.accumulate * world()

    def groups(self) -> list[dict[str, object]]:
        """CLIP's matrices, CLIP's other weights, and the same of the heads, those that exist."""
        lr, decay = self.optimizer.lr, self.optimizer.weight_decay
        head_lr = lr if self.optimizer.head_lr is None else self.optimizer.head_lr
        groups: list[dict[str, object]] = []
        for parameters, rate, matrix_decay in (
            (self.trained, lr, 0.0 if self.tune == "qv" else decay),
            (self.heads, head_lr, decay),
        ):
            for matrices in (True, False):
                chosen = [p for p in parameters if (p.ndim > 1) == matrices]
                if chosen:
                    groups.append(
                        {"params": chosen, "lr": rate, "weight_decay": matrix_decay if matrices else 0.0}
                    )
        return groups

    def batches(self, first: int, last: int) -> Iterator[Part | list[Part]]:
        """(images, masks) of step s: scenes s * batch .. (s + 1) * batch - 1, or of these every process and
        pass its part.

        Where a batch is divided, each part is (images, masks, labelled): the mean number of labelled pixels
        over all parts.

        Raises:
            OSError: a worker hangs, or was killed; says what to do.
        """
        passes = self.machine.accumulate
        for images, masks, skipped in self.loaded(first, last, _collate):
            self.skipped.update(skipped)
            if self.parts == 1:
                yield images, masks
                continue
            labelled = (self.relabel[masks] != NO_LABEL).sum().float()
            mean = mean_over_processes(labelled) / passes
            parts = zip(images.chunk(passes), masks.chunk(passes), strict=True)
            yield [(part, mask, mean) for part, mask in parts]

    def loaded(self, first: int, last: int, collate: Callable[[Sequence[Any]], _T]) -> Iterator[_T]:
        """This process's items of steps first .. last - 1, put together step by step.

        Args:
            first, last: the steps.
            collate: from the items of a step to what is yielded.

        Raises:
            OSError: a worker hangs, or was killed; says what to do.
        """
        own = self.batch // world()
        begins = [step * self.batch + rank() * own for step in range(first, last)]
        indices = [[self.dataset.place(begin + i) for i in range(own)] for begin in begins]
        loader: DataLoader[_T] = DataLoader(
            self.dataset,  # type: ignore[arg-type]
            batch_sampler=indices,
            num_workers=self.machine.workers,
            prefetch_factor=4 if self.machine.workers else None,
            timeout=PATIENCE if self.machine.workers else 0,
            collate_fn=collate,
            generator=torch.Generator(),  # a loader draws a seed: not from torch's own generator
        )
        yield from _watched(loader)

    def loss(self, step: int, batch: Part) -> dict[str, Tensor]:
        """{"total"} in nats a pixel; with an objective also "task" and the objective's terms.

        No labelled pixel: a task loss of zero.
        """
        device = self.segmentor.clip.device
        images, masks, *counted = (t.to(device) for t in batch)
        if self.segmentor.side is not None:
            images = enlarged(images, (self.segmentor.side, self.segmentor.side))
        labels = self.relabel.to(device)[masks]
        target = Target(labels, counted[0]) if counted else Target.of(labels)
        with autocast(device, self.dtype):  # left at every step: it keeps copies of the weights
            text = self._text()
            encoded = self.segmentor.encode(images)
            terms = self.segmentor.loss(encoded, text, target)
            if self.objective is None:
                return terms
            beside = self.objective(self._batch(step, images, encoded, text, target))
        total = terms.pop("total")
        return {"task": total, **terms, **beside, "total": total + beside["total"]}

    def _text(self) -> Tensor:
        """Embeddings of the seen names; a text tower that is not tuned is asked once."""
        if self._fixed_text is not None:
            return self._fixed_text
        text = self.segmentor.encode_text(self.seen, self.templates)
        if self.tune in ("none", "image") and not self.segmentor.learns_words:
            self._fixed_text = text
        return text

    def _teacher_digest(self) -> str:
        """The frozen teacher's weights, hashed once."""
        if self._teacher_hash is None and self.teacher is not None:
            self._teacher_hash = digest(*self.teacher.state_dict().values()).hex()
        return f"{self._teacher_hash}"

    def _batch(self, step: int, images: Tensor, encoded: Encoded, text: Tensor, target: Target) -> Batch:
        """The batch as the objective sees it; whatever it does not touch is not computed."""
        teacher = self.teacher
        if teacher is None:
            raise ValueError("got an objective without a teacher; expected both")

        def asked(what: str, look: Callable[[], Sequence[Tensor]]) -> tuple[Tensor, ...]:
            with torch.no_grad():
                return remembered(images, look, lambda: (self._teacher_digest(), what))

        def teacher_view() -> View:
            read_out = self.segmentor.read_outs[0]
            (patches,) = asked(f"dense {read_out}", lambda: (teacher.encode_dense(images, read_out),))
            return View(patches.flatten(2).mT, self.teacher_text, teacher.logit_scale.float())

        def student_view() -> View:
            plain = text if text.ndim == 2 else F.normalize(text.mean(1), dim=-1)
            # Behind a word some segmentors say whether training knows it: that is no part of its embedding.
            plain = plain[:, : self.teacher_text.shape[1]]
            words = torch.cat([plain, self.teacher_text[len(plain) :]])  # anchors are the teacher's for both
            dense = F.normalize(encoded.dense, dim=1).flatten(2).mT
            return View(dense, words, self.segmentor.clip.logit_scale.float())

        objective = self.objective
        lesson = teacher.read_outs if objective is None else objective.lesson or teacher.read_outs
        chosen_by = None if objective is None else objective.chosen_by

        @functools.cache  # several read-outs share one pass
        def tower() -> TowerPass:
            return teacher.tower(images)

        def image_and_dense() -> tuple[Tensor, Tensor]:
            image, dense = asked(f"both {lesson}", lambda: teacher.encode_both(images, lesson, tower=tower()))
            return image, dense.flatten(2).mT

        def patches(read_out: str) -> Tensor:
            said = asked(
                f"patches {read_out}", lambda: (F.normalize(teacher.read(tower(), read_out), dim=-1),)
            )
            return said[0]

        def image() -> Tensor:
            return asked("image", lambda: (teacher.encode_image(images),))[0]

        height, width = encoded.dense.shape[2:]
        return Batch(
            Sources(
                teacher_view,
                student_view,
                image_and_dense,
                image,
                compared=None if chosen_by is None else functools.partial(patches, chosen_by),
            ),
            images=images,
            target=target.labels,
            grid=(height, width),
            progress=min(1.0, step / max(1, self.steps - 1)),
            wants_dense=objective is not None and objective.wants_dense,
        )


def seen_classes(dataset: Trainable, background: str | None = None) -> tuple[list[str], Tensor]:
    """The names that may be learnt from, and a table from the data set's labels to places among them,
    NO_LABEL for all others.

    Args:
        dataset: knows which classes are unseen.
        background: a further name, last, for pixels of unseen classes.

    Raises:
        ValueError: no seen class, or a background that is one of the classes.
    """
    seen = [i for i in range(len(dataset.names)) if i not in set(dataset.unseen)]
    if not seen:
        raise ValueError(f"all {len(dataset.names)} classes are unseen; expected at least one to learn from")
    table = torch.full((max(dataset.ignore, len(dataset.names) - 1) + 1,), NO_LABEL)
    table[seen] = torch.arange(len(seen))
    names = [dataset.names[i] for i in seen]
    if background is not None:
        if background in dataset.names:
            raise ValueError(f"background is {background!r}, a class of the data set; expected another word")
        table[list(dataset.unseen)] = len(seen)
        names.append(background)
    table[dataset.ignore] = NO_LABEL
    return names, table


def _watched(batches: Iterable[_T]) -> Iterator[_T]:
    """Batches of a loader; what is said of its workers becomes a line that helps.

    Raises:
        OSError: a worker hangs, or was killed.
    """
    try:
        yield from batches
    # torch has one kind of error for both; what a data set raises in a worker keeps its own kind.
    except RuntimeError as error:
        if "DataLoader timed out" in str(error):
            raise OSError(
                f"no batch for {PATIENCE} seconds: a process that reads pictures hangs; expected one: does "
                "the disk answer? Else set machine: {workers: 0}; the same command goes on"
            ) from error
        if "DataLoader worker (pid" in str(error):
            raise OSError(
                f"a process that reads pictures was killed ({str(error).split(': ')[-1]}); expected all of "
                "them to live: if memory ran out, lower `machine.workers`; the same command goes on"
            ) from error
        raise


def _collate(scenes: Sequence[Item]) -> tuple[Tensor, Tensor, list[str]]:
    images, masks = (
        torch.stack([scene.image for scene in scenes]),
        torch.stack([scene.mask for scene in scenes]),
    )
    return images, masks, [name for scene in scenes for name in getattr(scene, "skipped", ())]


def trained_weights(clip: DenseCLIP, tune: Tune) -> list[nn.Parameter]:
    """Switch gradients on for what is tuned of CLIP, off for the rest, and return the former.

    A stem's trunk is among them for "stem" alone: else it is made of buffers. Hooks that an earlier training
    left on this CLIP are taken off.
    """
    release(clip)
    if tune == "stem":
        cast(Stem, clip.visual.conv1).thaw()
    if tune == "none":
        return []
    if tune != "qv":
        towers: nn.Module = clip.visual if tune == "image" else clip.model
        trained = [p for name, p in towers.named_parameters() if name != "logit_scale"]
        for parameter in trained:
            parameter.requires_grad_(True)
        return trained
    trained = []
    for block in [*clip.blocks, *clip.text_blocks]:
        for parameter in (block.attn.in_proj_weight, block.attn.in_proj_bias):
            if parameter is None:  # open_clip can build attention without biases
                continue
            parameter.requires_grad_(True)
            clip.gradient_hooks.append(parameter.register_hook(_without_keys))
            trained.append(parameter)
    return trained


def release(clip: DenseCLIP) -> None:
    """Freeze a CLIP, and take off the hooks that a training put on its weights."""
    clip.requires_grad_(False)
    while clip.gradient_hooks:
        clip.gradient_hooks.pop().remove()


def _without_keys(gradient: Tensor) -> Tensor:
    """q, k and v share one tensor; the middle third is k."""
    kept = gradient.clone()
    third = len(kept) // 3
    kept[third : 2 * third] = 0
    return kept
