"""Evaluate a segmentor on a data set: one protocol, one confusion matrix, a report.

Several processes (`torchrun`, `accelerate launch`) share the pictures; a killed evaluation goes on from
its folder.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..core.environment import environment
from ..core.locks import held
from ..core.processes import join_processes, rank, world
from ..datasets.base import Item, Segmented, check_segmented, known_as
from .counts import Counts, digest
from .predict import predict
from .protocol import WHOLE, EvaluationProtocol
from .published import get_protocol
from .report import Report, build_report
from .subject import Trained, as_segmentor
from .vocabulary import Vocabulary, vocabulary_of
from .windows import takes_sigmoid

if TYPE_CHECKING:
    from ..segmentors.base import Segmentor


@torch.inference_mode()
def evaluate(
    model_or_run: Segmentor | Trained,
    dataset: Segmented,
    *,
    protocol: EvaluationProtocol | str = WHOLE,
    limit: int | None = None,
    gammas: Sequence[float] = (),
    folder: str | Path | None = None,
    progress: bool = False,
    batch_size: int = 16,
    window_batch: int = 1,
    class_chunk: int | None = None,
    save_every: int = 200,
    text_cache: str | Path | None = None,
) -> Report:
    """Measure a segmentor on pictures with pixel labels, all classes competing.

    Where several processes were launched, each must call this; each takes its part of the pictures, and
    all return the same report.

    Args:
        model_or_run: a segmentor, or a Run of `train`.
        dataset: pictures with masks and names; see `datasets.Segmented`.
        protocol: an EvaluationProtocol, or a name of `PROTOCOLS`: "whole", "catseg", "sclip", ...; a data
            set of `datasets.DATASETS` is taken with the numbers that the protocol has for it.
            `dataclasses.replace` changes one: its windows, its prompts, what it does with synonyms.
        limit: number of pictures, the first ones; None takes all.
        gammas: calibration sweep: constants subtracted from the scores of seen classes (gamma = 0 is
            always reported).
        folder: where counts and pictures' scores are kept; a killed evaluation goes on from there. None
            keeps nothing.
        progress: show a progress bar.
        batch_size: pictures at a time; those of different sizes, and those that the protocol resizes,
            are taken one at a time.
        window_batch: windows in one pass through the model.
        class_chunk: words whose scores are enlarged at a time; None: as many as 256 MB hold.
        save_every: pictures between two savings, of each process.
        text_cache: folder of embeddings of words, encoded once for all evaluations of a CLIP whose weights
            are frozen; None is $INFOCLIP_LITE_TEXT_CACHE, else ~/.cache/infoclip_lite/text; "off" keeps
            nothing.

    Returns:
        A Report.

    Raises:
        ValueError: something that is no segmentor or no data set, an empty data set, a limit below 1,
            labels that the data set does not have (says in which picture), or a folder that holds
            another evaluation.
        BlockingIOError: another process evaluates in that folder; says which.
        MemoryError: the device's memory does not hold it; says what to change.
    """
    started = time.perf_counter()
    work = _Work(
        segmentor=as_segmentor(model_or_run),
        dataset=check_segmented(dataset),
        protocol=get_protocol(protocol, known_as(dataset)),
        total=_number_of_pictures(dataset, limit),
        gammas=tuple(gammas),
        batch_size=batch_size,
        window_batch=window_batch,
        class_chunk=class_chunk,
        save_every=save_every,
    )
    join_processes()
    vocabulary = vocabulary_of(work.segmentor, dataset, work.protocol, text_cache)
    # without calibration always, whatever is asked for beside it: that number is compared with others'
    counts = Counts(dataset, (0.0, *gammas), work.protocol.false_alarms)
    # each process keeps its own part, so that none waits for another to write
    part = None if folder is None else Path(folder) / f"part-{rank() + 1}-of-{world()}"
    # Of processes that were launched together the first one speaks for all.
    with held(Path(folder)) if folder is not None and rank() == 0 else nullcontext():
        if part is not None:
            counts.resume(part, work.identity(vocabulary))
        _count(work, vocabulary, counts, part, started, progress)
    counts.merge()
    seconds = round(counts.seconds + time.perf_counter() - started, 2)
    details = {**work.details(), "processes": world(), "wall_time_s": seconds, **environment()}
    return build_report(dataset.names, counts.sweep, gammas, counts.pictures, details)


@dataclass(frozen=True)
class _Work:
    """What is asked for, checked."""

    segmentor: Segmentor
    dataset: Segmented
    protocol: EvaluationProtocol
    total: int
    gammas: tuple[float, ...]
    batch_size: int
    window_batch: int
    class_chunk: int | None
    save_every: int

    def __post_init__(self) -> None:
        at_a_time = {
            name: getattr(self, name) for name in ("batch_size", "window_batch", "class_chunk", "save_every")
        }
        if any(number is not None and number < 1 for number in at_a_time.values()):
            got = ", ".join(f"{name}={number}" for name, number in at_a_time.items())
            raise ValueError(f"got {got}; expected 1 or more of each")
        # a threshold asks how sure the best word is, an area how often it wins; a gamma would change both
        for name in ("threshold", "area"):
            if getattr(self.protocol, name) > 0 and self.gammas:
                raise ValueError(
                    f"got {name}={getattr(self.protocol, name)} and gammas={self.gammas}; expected one of "
                    "them: they move the same scores"
                )

    @property
    def step(self) -> int:
        """Pictures of a batch; one where the protocol resizes, since then each gets a size of its own."""
        return 1 if self.protocol.resizes else self.batch_size

    def batches(self) -> list[range]:
        """Indices of the pictures of this process, batch by batch."""
        firsts = range(0, self.total, self.step)
        every = [range(first, min(first + self.step, self.total)) for first in firsts]
        # dealt out in turn, so that all processes finish together wherever the large pictures are
        return every[rank() :: world()]

    def details(self) -> dict[str, object]:
        """What a reader of the report must know."""
        sigmoid = takes_sigmoid(self.segmentor, self.protocol)
        return {
            "dataset": type(self.dataset).__name__,
            "split": self.dataset.split,
            "data": self.dataset.describe(),
            "scenes": self.total,
            "model": self.segmentor.clip.name,
            "read_outs": self.segmentor.read_outs,
            # what was done, beside what the protocol would have: cosines take no sigmoid
            "activation": "sigmoid" if sigmoid else "none",
            "protocol": asdict(self.protocol),
        }

    def identity(self, vocabulary: Vocabulary) -> dict[str, object]:
        """What must be the same for a killed evaluation to go on."""
        # weights by value: two trainings of one recipe have one name
        weights = digest(self.segmentor, vocabulary.text)
        return {**self.details(), "weights": weights, "gammas": self.gammas, "batch": self.step}


def _number_of_pictures(dataset: Segmented, limit: int | None) -> int:
    total = len(dataset) if limit is None else min(limit, len(dataset))
    if total < 1:
        raise ValueError(f"got {total} scenes (limit={limit}); expected at least 1")
    return total


def _count(
    work: _Work,
    vocabulary: Vocabulary,
    counts: Counts,
    part: Path | None,
    started: float,
    progress: bool,
) -> None:
    """Count this process's pictures from where `counts` stands; keep what is counted in the folder `part`."""
    bar = tqdm(
        total=work.total,
        initial=len(counts.pictures) * world(),
        desc="evaluate",
        unit=" pictures",
        disable=not progress or rank() > 0,
    )
    for batch in work.batches()[counts.batches :]:
        items = [work.dataset[i] for i in batch]
        counts.add(batch, items, _labels(work, items, vocabulary, list(counts.sweep)))
        bar.update(min(len(batch) * world(), work.total - bar.n))
        if part is not None and len(counts.pictures) - counts.saved >= work.save_every:
            counts.save(part, time.perf_counter() - started)
    if part is not None:
        counts.save(part, time.perf_counter() - started)
    bar.close()


def _labels(
    work: _Work, items: Sequence[Item], vocabulary: Vocabulary, gammas: Sequence[float]
) -> list[list[Tensor]]:
    """Of each item, and for each gamma, labels (H, W) at its mask's size."""
    labels: list[list[Tensor]] = []
    for group in _of_one_size(items):
        height, width = group[0].mask.shape
        found = predict(
            work.segmentor,
            torch.stack([item.image for item in group]),
            vocabulary,
            work.protocol,
            size=(height, width),
            gammas=gammas,
            window_batch=work.window_batch,
            class_chunk=work.class_chunk,
        )
        labels += [list(of_gammas) for of_gammas in zip(*found.labels, strict=True)]
    return labels


def _of_one_size(items: Sequence[Item]) -> list[Sequence[Item]]:
    """All items together if they are of one size, else each alone."""
    # no padding: it would change what the model sees at the border
    sizes = {(item.image.shape, item.mask.shape) for item in items}
    return [items] if len(sizes) == 1 else [[item] for item in items]
