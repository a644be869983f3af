"""Evaluate a segmentor on a data set: one protocol, one confusion matrix, a report.

Several processes (`torchrun`, `accelerate launch`) share the pictures; a killed evaluation goes on from its folder.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
from accelerate import PartialState
from torch import Tensor
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from .inference import CHUNK_VALUES, Words, best_classes, best_synonym, encode_words, flatten_synonyms, infer, look
from .parallel import rank, world
from .protocols import WHOLE, Protocol, get_protocol
from .report import Report, build_report, environment
from .tally import Tally, describe, digest

__all__ = ["Report", "best_synonym", "encode_words", "environment", "evaluate", "flatten_synonyms", "infer", "join_processes"]


@torch.inference_mode()
def evaluate(
    model_or_run: Any,
    dataset: Dataset,
    *,
    limit: int | None = None,
    batch_size: int = 16,
    templates: Sequence[str] | None = None,
    synonyms: Literal["mean", "max"] | None = None,
    window: int | None = None,
    stride: int | None = None,
    gammas: Sequence[float] = (),
    progress: bool = False,
    protocol: Protocol | str = WHOLE,
    window_batch: int = 1,
    class_chunk: int | None = None,
    folder: str | Path | None = None,
    save_every: int = 200,
) -> Report:
    """Measure a segmentor on pictures with pixel labels, all classes competing.

    Where several processes were launched, each must call this; each takes its share of the pictures, and all return the same report.

    Args:
        model_or_run: a segmentor with `.clip`, or a Run of `train`.
        dataset: gives (image (3, H, W), mask (H, W), ...) and has `.names` and `.unseen` class ids; it may have `.words` to encode in place
            of the names, `.owners` (the class id of each word) and `.ignore` (by default 255, or 65535 with more than 254 classes).
        limit: number of pictures, the first ones; None takes all.
        batch_size: pictures at a time; those of different sizes, and those that the protocol resizes, are taken one at a time.
        templates, synonyms, window, stride: replace the protocol's.
        gammas: calibration sweep: constants subtracted from the scores of seen classes (gamma = 0 is always reported).
        progress: show a progress bar.
        protocol: a Protocol or its name: "whole", "catseg", "training-free", "zero-shot".
        window_batch: windows in one pass through the model.
        class_chunk: words whose scores are enlarged at a time; None: as many as 256 MB hold.
        folder: where counts and pictures' scores are kept; a killed evaluation goes on from there. None keeps nothing.
        save_every: pictures between two savings, of each process.

    Returns:
        A Report.

    Raises:
        ValueError: an empty data set, a limit below 1, a stride larger than the window, labels that the data set does not have (says in
            which picture), or a folder that holds another evaluation.
        MemoryError: the device's memory does not hold it; says what to change.
    """
    if window_batch < 1 or save_every < 1 or (class_chunk or 1) < 1:
        raise ValueError(f"got window_batch={window_batch}, class_chunk={class_chunk}, save_every={save_every}; expected 1 or more of each")
    started = time.perf_counter()
    join_processes()
    segmentor: Any = getattr(model_or_run, "model", model_or_run)
    changes: dict[str, Any] = {"templates": templates and tuple(templates), "synonyms": synonyms, "window": window, "stride": stride}
    protocol = replace(get_protocol(protocol), **{key: value for key, value in changes.items() if value is not None})
    total = len(dataset) if limit is None else min(limit, len(dataset))  # type: ignore[arg-type]
    if total < 1:
        raise ValueError(f"got {total} scenes (limit={limit}); expected at least 1")
    if protocol.threshold > 0 and gammas:
        raise ValueError(f"got threshold={protocol.threshold} and gammas={tuple(gammas)}; expected one of them: they move the same scores")
    words = gather_words(segmentor, dataset, protocol)
    tally = Tally(dataset, (0.0, *gammas), protocol.false_alarms)
    step = 1 if protocol.resizes else batch_size
    batches = [range(first, min(first + step, total)) for first in range(0, total, step)][rank() :: world()]
    details = {
        "dataset": type(dataset).__name__,
        "split": getattr(dataset, "split", None),
        "seed": getattr(dataset, "seed", None),
        "scenes": total,
        "model": segmentor.clip.name,
        "attention": getattr(segmentor, "attention", None),
        **{key: getattr(protocol, key) for key in ("window", "stride", "synonyms")},
        "protocol": asdict(protocol),
    }
    where = None if folder is None else Path(folder) / f"part-{rank() + 1}-of-{world()}"
    if where is not None:
        tally.resume(
            where, {**details, "weights": digest(segmentor, words.text), "data": describe(dataset), "gammas": gammas, "batch": step}
        )
    bar = tqdm(total=total, initial=len(tally.pictures) * world(), desc="evaluate", unit=" pictures", disable=not progress or rank() > 0)
    for batch in batches[tally.batches :]:
        items = [dataset[i] for i in batch]
        labels = predict(segmentor, items, words, protocol, list(tally.sweep), window_batch, class_chunk)
        tally.add(batch, items, labels)
        bar.update(min(len(batch) * world(), total - bar.n))
        if where is not None and len(tally.pictures) - tally.saved >= save_every:
            tally.save(where, time.perf_counter() - started)
    if where is not None:
        tally.save(where, time.perf_counter() - started)
    bar.close()
    tally.merge()
    details |= {"processes": world(), "wall_time_s": round(tally.seconds + time.perf_counter() - started, 2), **environment()}
    return build_report(dataset.names, tally.sweep, gammas, tally.pictures, details)  # type: ignore[attr-defined]


def predict(
    segmentor: Any,
    items: Sequence[Any],
    words: Words,
    protocol: Protocol = WHOLE,
    gammas: Sequence[float] = (0.0,),
    window_batch: int = 1,
    class_chunk: int | None = None,
) -> list[list[Tensor]]:
    """Labels of some items of a data set: for each item, and for each gamma, (H, W) int64 on the CPU.

    Raises:
        MemoryError: the device's memory does not hold it; says what to change.
    """
    same = len({(item[0].shape, item[1].shape) for item in items}) == 1
    labels: list[list[Tensor]] = []
    for group in [items] if same else [[item] for item in items]:
        images = torch.stack([item[0] for item in group]).to(words.text.device)
        height, width = group[0][1].shape
        scale = 1.0
        if protocol.threshold > 0 and protocol.logit_scale is not None:
            scale = protocol.logit_scale / float(segmentor.clip.logit_scale)
        try:
            passes = look(segmentor, images, words.text, protocol, window_batch)
            found = best_classes(passes, words, (height, width), gammas=gammas, chunk=class_chunk, scale=scale)
        except torch.OutOfMemoryError as error:
            raise MemoryError(_hint(images, (height, width), len(words.owners), window_batch, class_chunk)) from error
        labels += [list(of_gammas) for of_gammas in zip(*(x.cpu() for x in found), strict=True)]
    return labels


def gather_words(segmentor: Any, dataset: Any, protocol: Protocol) -> Words:
    """The words of a data set, encoded as the protocol says.

    Raises:
        ValueError: owners that do not fit the words, or a threshold without a class called background.
    """
    names = list(dataset.names)
    given = list(getattr(dataset, "words", None) or names)
    owned = getattr(dataset, "owners", None)
    owners = list(range(len(given)) if owned is None else owned)
    if len(owners) != len(given) or not all(0 <= owner < len(names) for owner in owners):
        raise ValueError(
            f"got {len(given)} words and {len(owners)} owners in {min(owners)} .. {max(owners)}; expected one of 0 .. {len(names) - 1} each"
        )
    if protocol.synonyms == "max":
        given, places = flatten_synonyms(given)
        owners = [owners[place] for place in places]
    background = names.index("background") if "background" in names else None
    if protocol.threshold > 0 and background is None:
        raise ValueError(f"threshold is {protocol.threshold}, but {type(dataset).__name__} has no class called 'background'; expected 0")
    text = encode_words(segmentor, given, protocol.templates)
    unseen = set(getattr(dataset, "unseen", ()))
    seen = torch.tensor([owner not in unseen for owner in owners], device=text.device)
    return Words(text, torch.tensor(owners, device=text.device), seen, background)


def join_processes() -> None:
    """Where `torchrun` or `accelerate launch` started several processes, let them know of each other (gloo on a CPU, NCCL on GPUs)."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        PartialState(cpu=not torch.cuda.is_available())


def _hint(images: Tensor, size: tuple[int, ...], words: int, window_batch: int, class_chunk: int | None) -> str:
    """What to change when memory does not suffice, and about what it saves."""
    pixels = len(images) * max(size[0] * size[1], images.shape[-2] * images.shape[-1])
    chunk = min(words, class_chunk or max(1, CHUNK_VALUES // pixels))
    hints = []
    if len(images) > 1:
        hints.append(f"batch_size=1 (saves about {1 - 1 / len(images):.0%} of everything but the weights)")
    if window_batch > 1:
        hints.append(f"window_batch=1 (saves about {1 - 1 / window_batch:.0%} of the model's activations)")
    if chunk > 1:
        saved = 4 * 4 * pixels * (chunk - max(1, chunk // 4)) / 2**20  # about four such maps live at once
        hints.append(f"class_chunk={max(1, chunk // 4)} in place of {chunk} (saves about {saved:.0f} MB)")
    return (
        f"out of memory with {words} words and pictures of {tuple(size)} pixels; try {', or '.join(hints) or 'a smaller model or window'}"
    )
