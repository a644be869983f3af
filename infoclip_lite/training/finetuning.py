"""Fine-tuning of a segmentor on the pixels of seen classes, plainly or with an objective that keeps CLIP aligned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..clip import DenseCLIP
from ..core.labels import IGNORE
from ..core.processes import mean_over_processes, rank, world
from ..datasets import TrainingCrops
from ..datasets.collage import Collage
from ..objectives import View
from .acceleration import autocast

Tune = Literal["full", "image", "qv", "none"]
Batch = tuple[Tensor, ...]


class FineTuning:
    """The task that `fit` runs: a loss over the seen classes at every labelled pixel, and perhaps an alignment objective.

    Unseen nouns are never named in training and their pixels are ignored, never called background (inductive).

    Args:
        segmentor: the model; its CLIP is what is tuned, its head (if any) what is trained.
        dataset: scenes with masks; `dataset.unseen` says what to ignore.
        batch: scenes a step.
        lr: peak learning rate of CLIP, and of a segmentor's `pretrained()` parameters.
        head_lr: of everything that begins at random: the head and the objective's own weights; None is `lr`.
        weight_decay: of matrices; not of CLIP's under "qv", where it would shrink the frozen keys as well.
        tune: "full" trains every weight of both towers, "image" those of the image tower, "qv" only the query and value projections of
            every block of both, biases included (CAT-Seg's code tunes their weights alone [S]), "none" leaves CLIP alone.
        loss: "cross_entropy" among the seen classes, or "bce", one sigmoid a class (as CAT-Seg does).
        ignored: "skip" leaves ignored pixels out; "zero" (bce only) makes every class a wrong answer there, as CAT-Seg does [S].
        anchors: further words that the objective's relation looks at, in the teacher's embedding for both models; they have no pixels and
            no logits, and must not be unseen classes.
        prompt: the template of the class names in training, for a segmentor that has none of its own.
        objective: from what its `needs` name (see `objectives`) to named scalars with "total", added to the loss.
        teacher: the frozen pretrained CLIP; needed with an objective, and no part of `module`.
        dtype: multiply in it (autocast); weights and the loss stay float32.
        steps: of the training, for an objective that follows its progress; None: as many as make an epoch.
        workers: processes that read pictures ahead.
        accumulate: passes that a step's batch is divided into: as many times less memory, the same gradients. An objective sees one
            part at a time, so that one whose samples are pictures ("batch" axis) meets fewer of them; so it is with several processes.

    Attributes:
        skipped: how often each damaged file was passed over so far, all workers of this process together.

    Raises:
        ValueError: unknown options, options that exclude each other, no seen class, or nothing to train.
    """

    def __init__(
        self,
        segmentor: Any,
        dataset: Collage | TrainingCrops,
        *,
        batch: int,
        lr: float,
        head_lr: float | None = None,
        weight_decay: float = 1e-4,
        tune: Tune = "full",
        loss: Literal["cross_entropy", "bce"] = "cross_entropy",
        ignored: Literal["skip", "zero"] = "skip",
        anchors: Sequence[str] = (),
        prompt: str = "a photo of a {}",
        objective: nn.Module | None = None,
        teacher: DenseCLIP | None = None,
        dtype: torch.dtype = torch.float32,
        steps: int | None = None,
        accumulate: int = 1,
        workers: int = 0,
    ) -> None:
        if tune not in ("full", "image", "qv", "none"):
            raise ValueError(f"unknown tune {tune!r}; expected 'full', 'image', 'qv' or 'none'")
        if ignored == "zero" and loss != "bce":
            raise ValueError(f"got ignored='zero' with loss={loss!r}; expected loss='bce': cross-entropy has no 'none of these'")
        if (objective is None) != (teacher is None):
            raise ValueError("got an objective without a teacher, or a teacher without one; expected both or neither")
        self.segmentor, self.dataset, self.batch = segmentor, dataset, batch
        self.lr, self.head_lr, self.weight_decay, self.tune = lr, lr if head_lr is None else head_lr, weight_decay, tune
        self.kind, self.ignored, self.dtype, self.accumulate, self.workers = loss, ignored, dtype, accumulate, workers
        self.steps = len(dataset) // batch if steps is None else steps
        if accumulate < 1 or batch % (accumulate * world()):
            raise ValueError(
                f"got a batch of {batch} scenes, accumulate={accumulate} and {world()} processes; expected a batch that divides evenly"
            )
        self.templates = getattr(segmentor, "templates", (prompt,))
        self.objective, self.teacher = objective, teacher
        self.skipped: Counter[str] = Counter()
        self.module: nn.Module = segmentor if objective is None else nn.ModuleDict({"segmentor": segmentor, "objective": objective})
        seen = [i for i in range(len(dataset.names)) if i not in dataset.unseen]
        if not seen:
            raise ValueError(f"all {len(dataset.names)} classes are unseen; expected at least one to learn from")
        self.seen = [dataset.names[i] for i in seen]
        self.relabel = torch.full((256,), IGNORE)
        self.relabel[seen] = torch.arange(len(seen))
        self.trained = [*_trained(segmentor.clip, tune), *getattr(segmentor, "pretrained", list)()]
        begun = {id(p) for p in (*segmentor.clip.parameters(), *self.trained)}
        self.heads = [p for p in self.module.parameters() if id(p) not in begun and p.requires_grad]
        if not self.trained and not self.heads:
            raise ValueError("got tune='none' and a segmentor without a head; expected something to train")
        unseen = {dataset.names[i] for i in dataset.unseen} & set(anchors)
        if unseen:
            raise ValueError(f"anchors name the unseen classes {sorted(unseen)[:3]}; expected other words: training must not know them")
        self.fixed_text: Tensor | None = None
        if teacher is not None:
            with torch.no_grad():
                self.teacher_text = teacher.encode_text([*self.seen, *anchors], self.templates)

    def groups(self) -> list[dict]:
        """CLIP's matrices, CLIP's other weights, and the same of the heads, those that exist."""
        decay = 0.0 if self.tune == "qv" else self.weight_decay
        split = [(self.trained, self.lr, decay), (self.heads, self.head_lr, self.weight_decay)]
        groups = []
        for parameters, lr, weight_decay in split:
            for matrices in (True, False):
                chosen = [p for p in parameters if (p.ndim > 1) == matrices]
                if chosen:
                    groups.append({"params": chosen, "lr": lr, "weight_decay": weight_decay if matrices else 0.0})
        return groups

    def batches(self, first: int, last: int) -> Iterator[Batch | list[Batch]]:
        """(images, masks) of step s: scenes s * batch .. (s + 1) * batch - 1, or of these every process and pass its share.

        Where a batch is divided, each part is (images, masks, labelled): the mean number of labelled pixels over all parts.
        """
        share = self.batch // world()
        begins = [step * self.batch + rank() * share for step in range(first, last)]
        indices = [[self._index(begin + i) for i in range(share)] for begin in begins]
        ahead: dict[str, Any] = {"prefetch_factor": 4} if self.workers else {}
        apart = torch.Generator()  # a loader draws a seed: not from torch's own generator, which the weights may depend on
        loader = DataLoader(self.dataset, batch_sampler=indices, num_workers=self.workers, collate_fn=_collate, generator=apart, **ahead)  # type: ignore
        for images, masks, skipped in loader:
            self.skipped.update(skipped)
            if self.accumulate == world() == 1:
                yield images, masks
                continue
            labelled = mean_over_processes((self.relabel[masks] != IGNORE).sum().float()) / self.accumulate
            parts = zip(images.chunk(self.accumulate), masks.chunk(self.accumulate), strict=True)
            yield [(part, mask, labelled) for part, mask in parts]

    def _index(self, place: int) -> int:
        """Crops have no end; rendered scenes are as many as they say, and come again."""
        return place % len(self.dataset) if isinstance(self.dataset, Collage) else place

    def loss(self, step: int, batch: Batch) -> dict[str, Tensor]:
        """{"total"} in nats a pixel; with an objective also "task" and the objective's terms. No labelled pixel: a task loss of zero."""
        clip = self.segmentor.clip
        images, masks, *counted = (t.to(clip.device) for t in batch)
        target = self.relabel.to(masks.device)[masks]
        labelled = counted[0] if counted else (target != IGNORE).sum()
        with autocast(clip.device, self.dtype):  # left at every step: it keeps copies of the weights
            text = self._text()
            encoded = self.segmentor.encode(images)
            logits = self.segmentor.decode(encoded, text)
            logits = F.interpolate(logits.float(), target.shape[-2:], mode="bilinear", align_corners=False)
            task = self._task_loss(logits, target, labelled)
            if self.objective is None:
                return {"total": task}
            terms = self.objective(**self._needed(step, images, encoded[0], text, target))
        return {"task": task, **terms, "total": task + terms["total"]}

    def _text(self) -> Tensor:
        """Embeddings of the seen names; a text tower that is not tuned is asked once."""
        if self.fixed_text is not None:
            return self.fixed_text
        text = self.segmentor.encode_text(self.seen, self.templates)
        if self.tune in ("none", "image"):
            self.fixed_text = text
        return text

    def _needed(self, step: int, images: Tensor, dense: Tensor, text: Tensor, target: Tensor) -> dict[str, Any]:
        """What the objective asks for, and nothing that it does not: the teacher's forward passes are the dearest part of a step."""
        teacher: Any = self.teacher
        clip, read_out = self.segmentor.clip, self.segmentor.attention[0]
        needs = getattr(self.objective, "needs", ("teacher", "student"))

        def taught() -> View:
            with torch.no_grad():
                patches = teacher.encode_dense(images, read_out)
            return View(patches.flatten(2).mT, self.teacher_text, teacher.logit_scale.float())

        def learnt() -> View:
            plain = text if text.ndim == 2 else F.normalize(text.mean(1), dim=-1)
            words = torch.cat([plain, self.teacher_text[len(plain) :]])
            return View(F.normalize(dense, dim=1).flatten(2).mT, words, clip.logit_scale.float())

        @cache
        def both() -> tuple[Tensor, Tensor]:
            with torch.no_grad():
                return teacher.encode_both(images, teacher.read_out)

        def summary() -> Tensor:
            with torch.no_grad():
                return both()[0] if "dense" in needs else teacher.encode_image(images)

        parts: dict[str, Callable[[], Any]] = {
            "teacher": taught,
            "student": learnt,
            "image": summary,
            "dense": lambda: both()[1].flatten(2).mT,
            "target": lambda: target,
            "grid": lambda: tuple(dense.shape[2:]),
            "progress": lambda: min(1.0, step / max(1, self.steps - 1)),
        }
        return {name: parts[name]() for name in needs}

    def _task_loss(self, logits: Tensor, target: Tensor, count: Tensor) -> Tensor:
        labelled = target != IGNORE
        if self.kind == "cross_entropy":
            return F.cross_entropy(logits, target, ignore_index=IGNORE, reduction="sum") / count.clamp(min=1)
        wanted = F.one_hot(torch.where(labelled, target, 0), logits.shape[1]).movedim(-1, 1) * labelled[:, None]
        loss = F.binary_cross_entropy_with_logits(logits, wanted.to(logits.dtype), reduction="none")
        if self.ignored == "zero":
            return loss.mean()
        return (loss * labelled[:, None]).sum() / (count * logits.shape[1]).clamp(min=1)


def _collate(scenes: Sequence[Any]) -> tuple[Tensor, Tensor, list[str]]:
    images, masks = torch.stack([scene.image for scene in scenes]), torch.stack([scene.mask for scene in scenes])
    return images, masks, [name for scene in scenes for name in getattr(scene, "skipped", ())]


def _trained(clip: DenseCLIP, tune: Tune) -> list[nn.Parameter]:
    """Switch gradients on for what is tuned of CLIP, off for the rest, and return the former."""
    clip.requires_grad_(False)
    if tune == "none":
        return []
    if tune != "qv":
        towers = clip.model if tune == "full" else clip.visual
        trained = [p for name, p in towers.named_parameters() if name != "logit_scale"]
        for parameter in trained:
            parameter.requires_grad_(True)
        return trained
    trained = []
    for block in [*clip.blocks, *clip.text_blocks]:
        for parameter in (block.attn.in_proj_weight, block.attn.in_proj_bias):
            parameter.requires_grad_(True)
            parameter.register_hook(_without_keys)
            trained.append(parameter)
    return trained


def _without_keys(gradient: Tensor) -> Tensor:
    """q, k and v share one tensor; the middle third is k."""
    kept = gradient.clone()
    third = len(kept) // 3
    kept[third : 2 * third] = 0
    return kept
