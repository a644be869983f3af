"""Evaluate a segmentor on a data set: one protocol, one confusion matrix, a report.

Several processes (`torchrun`, `accelerate launch`) share the pictures; a killed evaluation goes on from its folder.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import torch
from tqdm.auto import tqdm

from ..core.environment import environment
from ..core.processes import join_processes, rank, world
from ..datasets.base import Segmented
from .counts import Tally, describe, digest
from .predict import best_synonym, encode_words, flatten_synonyms, gather_words, predict
from .protocol import WHOLE, Protocol, get_protocol
from .report import Report, build_report
from .windows import infer

__all__ = ["Report", "best_synonym", "encode_words", "environment", "evaluate", "flatten_synonyms", "infer", "join_processes"]


@torch.inference_mode()
def evaluate(
    model_or_run: Any,
    dataset: Segmented,
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
    total = len(dataset) if limit is None else min(limit, len(dataset))
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
    return build_report(dataset.names, tally.sweep, gammas, tally.pictures, details)
