"""Train a point encoder: labels of seen nouns, alignment with pictures, pseudo labels of frozen CLIP."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..clip import DenseCLIP, load_clip
from ..core.labels import NO_LABEL
from ..core.locks import held
from ..core.lookup import call
from ..core.processes import default_device
from ..datasets.points import PointData, build_clouds, check_scene
from ..segmentors.points import (
    PointEncoder,
    PointSegmentor,
    ProjectedCLIP,
    global_loss,
    local_loss,
    pool,
    pseudo_labels,
)
from .loop import Record, fit
from .recipe import PointsRecipe, load_recipe, merged
from .run import claim

# A cloud is turned by any angle about the vertical, scaled and tinted a little: models are few [O].
_SCALE, _TINT = 0.1, 0.1
_FEWEST = 0.25  # of a cloud's points that a step keeps at least


class Lesson(NamedTuple):
    """All that a training needs of a scene; the teacher has looked, once.

    Attributes:
        points, colours: (N, 3).
        labels: (N,) class ids of seen classes, NO_LABEL elsewhere.
        pseudo: (N,) frozen CLIP's labels among the unseen classes where nobody labelled, NO_LABEL elsewhere.
        pictures: (N, D) what the pixels say, unit vectors.
        visible: (V, N) booleans.
        image: (V, D) CLS embeddings of the views.
    """

    points: Tensor
    colours: Tensor
    labels: Tensor
    pseudo: Tensor
    pictures: Tensor
    visible: Tensor
    image: Tensor


@dataclass(frozen=True)
class Lessons:
    """What a training learns from: scenes that the teacher has looked at, and words.

    Attributes:
        scenes: one lesson each.
        text: (C, D) embeddings of all names.
        seen: ids of the classes that may be learnt from.
        scale: CLIP's logit scale.
        data: what tells the data set from another.
    """

    scenes: Sequence[Lesson]
    text: Tensor
    seen: Sequence[int]
    scale: Tensor
    data: Mapping[str, object]

    def describe(self) -> dict[str, object]:
        """What JSON can hold."""
        return dict(self.data)


@dataclass
class PointRun:
    """A finished training.

    Attributes:
        recipe: what was run.
        model: the trained segmentor.
        text: (C, D) embeddings of the data set's names, its classifier.
        log: one record a step, in order.
        folder: where the state is kept, if anywhere.
    """

    recipe: PointsRecipe
    model: PointSegmentor
    text: Tensor
    log: list[Record]
    folder: Path | None = None


class PointTraining:
    """The task that `fit` runs.

    Labels of unseen classes are dropped before anything is learnt: what is left of them is that they are not
    labelled, which is all that pseudo labels ask.

    Args:
        recipe: weights of the terms, batch and rates.
        lessons: of `prepare`.

    Raises:
        ValueError: an encoder's wrong options.
    """

    dtype = torch.float32

    def __init__(self, recipe: PointsRecipe, lessons: Lessons) -> None:
        self.recipe, self.lessons = recipe, lessons.scenes
        self.text, self.seen = lessons.text, list(lessons.seen)
        with torch.random.fork_rng():  # the caller keeps the generator as it was
            torch.manual_seed(recipe.seed)
            encoder = call(PointEncoder, (self.text.shape[1],), recipe.encoder, "the point encoder")
        self.model = PointSegmentor(encoder, lessons.scale).to(self.text.device)
        self.module: nn.Module = self.model

    def groups(self) -> list[dict[str, object]]:
        """The encoder's matrices, which decay, and its other weights."""
        rates = self.recipe.optimizer
        parameters = list(self.module.parameters())
        return [
            {
                "params": [p for p in parameters if (p.ndim > 1) == matrices],
                "lr": rates.lr,
                "weight_decay": rates.weight_decay if matrices else 0.0,
            }
            for matrices in (True, False)
        ]

    def batches(self, first: int, last: int) -> Iterator[tuple[int, ...]]:
        """Places of the scenes of steps first .. last - 1, each epoch in an order of its own."""
        count = len(self.lessons)
        for step in range(first, last):
            numbers = range(step * self.recipe.batch, (step + 1) * self.recipe.batch)
            yield tuple(self._order(number // count)[number % count] for number in numbers)

    def _order(self, epoch: int) -> list[int]:
        generator = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + epoch)
        return torch.randperm(len(self.lessons), generator=generator).tolist()

    def loss(self, step: int, batch: tuple[int, ...]) -> dict[str, Tensor]:
        """Named scalars: the mean of each term over the scenes, unweighted, and their weighted "total".

        A term of weight 0 is not computed. A scene without a labelled point adds nothing to "labels", and a
        camera that sees nothing makes no pair.
        """
        recipe = self.recipe
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        terms: dict[str, list[Tensor]] = defaultdict(list)
        pairs: list[tuple[Tensor, Tensor]] = []
        for own in (thinned(self.lessons[index], generator) for index in batch):
            features = self.model.encoder(*augmented(own.points, own.colours, generator))
            logits = self.model.classify(features, self.text)
            terms["labels"].append(self._cross_entropy(logits, own.labels))
            if recipe.pseudo_labels:
                terms["pseudo"].append(self._cross_entropy(logits, own.pseudo))
            if recipe.local_alignment:
                terms["local"].append(local_loss(features, own.pictures, own.visible.any(0)))
            # One of its pictures a step: two pictures of one room would be each other's wrong answer.
            view = int(torch.randint(len(own.image), (), generator=generator))
            pooled = pool(features, own.visible[view])
            if pooled is not None:
                pairs.append((pooled, own.image[view]))
        means = {name: torch.stack(values).mean() for name, values in terms.items()}
        if recipe.global_alignment and pairs:
            pooled_clouds, pictures = (torch.stack(side) for side in zip(*pairs, strict=True))
            means["global"] = global_loss(pooled_clouds, pictures, self.model.scale)
        weights = {
            "labels": recipe.labels,
            "local": recipe.local_alignment,
            "global": recipe.global_alignment,
            "pseudo": recipe.pseudo_labels,
        }
        total = torch.stack([weights[name] * mean for name, mean in means.items()]).sum()
        return {**means, "total": total}

    def _cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Over the words that compete in training, summed and divided by the points of the cloud."""
        if not self.recipe.pseudo_labels:
            # Inductive: unseen words must not compete, or every labelled point would push them away.
            logits = _only(logits, self.seen)
        loss = F.cross_entropy(logits, labels, ignore_index=NO_LABEL, reduction="sum")
        # By all points and not by the labelled ones: a point weighs the same whoever labelled it, and a scene
        # with few unlabelled points does not shout.
        return loss / len(labels)


class Looks(Sequence[Lesson]):
    """Lessons of scenes that do not fit into memory: the teacher looks at each when it is asked for.

    Args:
        data: the scenes.
        clip: the teacher.
        text: (C, D) embeddings of the data set's names.
    """

    def __init__(self, data: PointData, clip: DenseCLIP, text: Tensor) -> None:
        self.data, self.clip, self.text = data, clip, text

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Lesson:  # type: ignore[override]
        return lesson(self.data, index, self.clip, self.text)


def prepare(data: PointData, clip: DenseCLIP) -> Lessons:
    """All that trainings on a data set need of frozen CLIP, which looks at every picture once, now; of scenes
    that do not fit into memory it looks each time at those of a step.

    Args:
        data: scenes with `names` and `unseen`.
        clip: the teacher.

    Raises:
        ValueError: every class unseen, or a scene that is none; says which.
    """
    seen = [i for i in range(len(data.names)) if i not in set(data.unseen)]
    if not seen:
        raise ValueError(f"all {len(data.names)} classes are unseen; expected one to learn from")
    with torch.no_grad():
        text, scale = clip.encode_text(data.names), clip.logit_scale.detach()
    looks = Looks(data, clip, text)
    scenes = list(looks) if data.in_memory else looks
    return Lessons(scenes, text, seen, scale, data.describe())


def lesson(data: PointData, index: int, clip: DenseCLIP, text: Tensor) -> Lesson:
    """A scene with what frozen CLIP says of it.

    Args:
        data: the scenes; labels of its `unseen` classes are dropped here.
        index: of the scene.
        clip: the teacher.
        text: (C, D) embeddings of the data set's names.

    Raises:
        ValueError: a scene that is none; says which.
    """
    try:
        scene = check_scene(data[index], len(data.names), data.ignore)
    except ValueError as error:
        raise ValueError(f"scene {index} of {data.split!r}: {error}") from error
    pictures, seen, image = ProjectedCLIP(clip).look(scene.views, scene.pixels, scene.visible)
    labels = scene.labels.clone()
    unseen = torch.isin(labels, torch.tensor(data.unseen, dtype=labels.dtype))
    ignored = labels == data.ignore
    labels[unseen | ignored] = NO_LABEL
    pseudo = pseudo_labels(pictures, seen, text, data.unseen).cpu()
    pseudo[~unseen] = NO_LABEL
    tensors = (scene.points, scene.colours, labels, pseudo, pictures, scene.visible, image)
    return Lesson(*(each.to(clip.device) for each in tensors))


def thinned(own: Lesson, generator: torch.Generator) -> Lesson:
    """A random part of a lesson's points, between a quarter and all of them.

    PointNet++'s random input dropout [P: 3.3]: the encoder meets clouds of other densities. It also halves
    the cost of a step.

    Args:
        own: the lesson.
        generator: of the choice, on the CPU.
    """
    count = len(own.points)
    part = _FEWEST + (1 - _FEWEST) * float(torch.rand((), generator=generator))
    kept = torch.randperm(count, generator=generator)[: max(1, round(part * count))].to(own.points.device)
    of_points = ("points", "colours", "labels", "pseudo", "pictures")
    return own._replace(
        **{name: getattr(own, name)[kept] for name in of_points}, visible=own.visible[:, kept]
    )


def augmented(points: Tensor, colours: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A cloud (N, 3) turned about the vertical, scaled and put elsewhere, and its colours (N, 3) tinted.

    Args:
        points, colours: of the cloud.
        generator: of the choice, on the CPU.
    """
    turn, scale, x, z = torch.rand(4, generator=generator).tolist()
    angle = torch.tensor(2 * torch.pi * turn)
    cos, sin = float(angle.cos()), float(angle.sin())
    rotation = points.new_tensor([[cos, 0.0, sin], [0.0, 1.0, 0.0], [-sin, 0.0, cos]])
    # Put elsewhere, so that the cells of the encoder's grid cut things at other places.
    shift = points.new_tensor([x, 0.0, z])
    moved = points @ rotation.T * (1 + _SCALE * (2 * scale - 1)) + shift
    tint = 1 + _TINT * (2 * torch.rand(3, generator=generator) - 1)
    return moved, (colours * tint.to(colours)).clamp(0, 1)


def build_points(recipe: PointsRecipe, data: PointData) -> tuple[PointTraining, DenseCLIP]:
    """What a recipe trains, before its first step, and its teacher.

    Args:
        recipe: of points.
        data: what to learn from.

    Raises:
        ValueError, FileNotFoundError: what `load_clip`, `prepare` and the encoder say.
    """
    clip = load_clip(recipe.clip.name, recipe.clip.pretrained).to(default_device()).requires_grad_(False)
    return PointTraining(recipe, prepare(data, clip)), clip


def train_points(
    recipe: str | Path | Mapping[str, Any] | PointsRecipe,
    *,
    data: PointData | Lessons | Mapping[str, Any] | None = None,
    folder: str | Path | None = None,
    progress: bool = True,
    tensorboard: bool = False,
    save_every: int = 100,
    **changes: Any,
) -> PointRun:
    """Train a point encoder.

    Args:
        recipe: name ("mini/points"), file or content; see `load_recipe`.
        data: scenes to learn from, or what `prepare` made of them, in place of the recipe's; or, as for
            any other section, a mapping of keys to replace in the recipe's.
        folder: where the state is kept; a run that finds one there goes on from it. None keeps nothing.
        progress: show a progress bar.
        tensorboard: write losses into `folder`/tensorboard too.
        save_every: steps between states.
        changes: keys of the recipe to replace.

    Raises:
        ValueError: what `load_recipe` says, a recipe of another task, or a folder with another recipe's run.
        BlockingIOError: another process trains in that folder; says which.
    """
    if isinstance(data, Mapping):
        changes["data"], data = data, None
    loaded = _loaded(recipe, changes)
    where = None if folder is None else Path(folder)
    with held(where) if where is not None else nullcontext():
        if where is not None:
            claim(where, loaded, data)
        if isinstance(data, Lessons):
            task = PointTraining(loaded, data)
        else:
            # Before any weights are fetched: missing files are said at once.
            task, _ = build_points(loaded, build_clouds(loaded.data, "train") if data is None else data)
        log = fit(
            task,
            steps=loaded.steps,
            warmup=loaded.optimizer.warmup,
            clip_norm=loaded.optimizer.clip_norm,
            folder=where,
            save_every=save_every,
            progress=loaded.name if progress else None,
            tensorboard=tensorboard,
        )
    return PointRun(loaded, task.model.eval().requires_grad_(False), task.text, log, where)


def _loaded(
    recipe: str | Path | Mapping[str, Any] | PointsRecipe, changes: Mapping[str, Any]
) -> PointsRecipe:
    if isinstance(recipe, PointsRecipe):
        recipe = merged({"task": "points", **asdict(recipe)}, changes)
        changes = {}
    loaded = load_recipe(recipe, **changes)
    if not isinstance(loaded, PointsRecipe):
        raise ValueError(f"{loaded.name!r} is no recipe for points; expected one with task: points")
    return loaded


def _only(logits: Tensor, ids: list[int]) -> Tensor:
    """Logits in which all classes but these are out of the running."""
    kept = torch.full_like(logits, float("-inf"))
    kept[:, ids] = logits[:, ids]
    return kept
