"""Reading without training: every read-out on the same scenes, what its parts add, and what it costs.

Nothing is trained, so nothing has seeds: pictures go through one pass, and everything is read off it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ..clip import DenseCLIP, load_clip
from ..clip.blocks import feed_forward, project_out, project_qkv, similarity
from ..clip.readouts import READ_OUTS, WORD_LOGITS
from ..clip.refinements import REFINEMENTS
from ..clip.tower import TowerPass
from ..core.reports import JsonObject, write_report
from ..core.states import read_state, write_state
from ..core.statistics import Interval, Score, contrasts, difference
from ..core.timing import one_thread, take_turns
from ..datasets import Collage
from ..evaluation.counts import digest
from ..evaluation.windows import enlarged
from ..segmentors import ZeroShotSegmentor
from .by_scene import mean_score, redrawn_scores, tally
from .cost import speed_rows

FOLDER = Path("runs/training_free")
# New instances are what the contrasts ask about, so they get more scenes.
SCENES = {"test": 160, "test-known": 80}
BATCH = 20  # scenes in one pass, and in one file of what was counted
# Refinements take several times a pass for each read-out: they see every third batch's scenes.
REFINED_EVERY = 3
TIMED, ROUNDS = 4, 5  # scenes and rounds
REFERENCE = "CLIP, one vector a picture"
# How patches look at each other in the last block; "v": not at all.
ATTENTIONS = ("qk", "qq", "kk", "vv", "v")
# Without the words that they know: resclip's first pass alone, and the mean of cliper's layers.
WORDLESS = {name: f"{name}, without words" for name in WORD_LOGITS}
# Solving for all words at once costs three passes: for the read-out that it was made for, and a plain one.
PROPAGATED = ("value", "pearl")
REFINED: dict[str, tuple[str, ...]] = {"pamr": tuple(READ_OUTS), "propagation": PROPAGATED}

# A pass, the words (C, D) and CLIP's scale, to logits (B, C, h, w).
Logits = Callable[[TowerPass, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Question:
    """A comparison that was planned before anything was measured: of single rows, or of means of several.

    Attributes:
        asks: in words, what is added or put in the place of what.
        first, second: labels of rows; the difference is the mean of the first minus that of the second.
    """

    asks: str
    first: tuple[str, ...]
    second: tuple[str, ...]


def label_of(attention: str, residual: bool, forward: bool) -> str:
    """The name of a last block with some of its parts.

    >>> label_of("kk", True, False)
    'kk + x'
    """
    return attention + (" + x" if residual else "") + (" + ffn" if forward else "")


def assembled(tower: TowerPass, attention: str, *, residual: bool, forward: bool) -> Tensor:
    """The last block put together from parts.

    Args:
        tower: the pass.
        attention: of ATTENTIONS.
        residual: add the tokens that entered.
        forward: go through the feed-forward layer, which adds to what it is given.

    Returns:
        (B, N, W) tokens of the patches.
    """
    block, tokens = tower.last, tower.entering
    vectors = dict(zip("qkv", project_qkv(block, tokens), strict=True))
    mixed = vectors["v"]
    if attention != "v":
        mixed = similarity(*(vectors[letter] for letter in attention)).softmax(-1) @ mixed
    out = project_out(block, mixed)
    if residual:
        out = out + tokens
    return (feed_forward(block, out) if forward else out)[:, 1:]


def _cells(residual: bool | None = None, forward: bool | None = None) -> tuple[str, ...]:
    """Labels of the parts' table that have a part (True), lack it (False), or either (None)."""
    both = (False, True)
    return tuple(
        label_of(attention, x, ffn)
        for attention in ATTENTIONS
        for x in (both if residual is None else (residual,))
        for ffn in (both if forward is None else (forward,))
    )


def refined_label(name: str, refinement: str) -> str:
    """The name of a row whose maps are refined."""
    return f"{name} + {refinement}"


PLANNED = (
    Question("key-key attention for query-key", ("kk",), ("qk",)),
    Question("query-query attention for query-key", ("qq",), ("qk",)),
    Question("the residual kept (mean over the rest)", _cells(residual=True), _cells(residual=False)),
    Question("the feed-forward layer kept (mean)", _cells(forward=True), _cells(forward=False)),
    Question("nearness added to key-key", ("naclip",), ("kk",)),
    Question("attention of earlier blocks mixed in", (WORDLESS["resclip"],), ("naclip",)),
    Question("a second pass, told the first one's words", ("resclip",), (WORDLESS["resclip"],)),
    Question("early layers fused, for value-value", (WORDLESS["cliper"],), ("vv",)),
    Question("keys turned onto queries", ("pearl",), ("qk",)),
    Question("PAMR (mean)", tuple(refined_label(name, "pamr") for name in READ_OUTS), tuple(READ_OUTS)),
    Question(
        "propagation (mean of two)",
        tuple(refined_label(name, "propagation") for name in PROPAGATED),
        PROPAGATED,
    ),
)


def systems() -> dict[str, Logits]:
    """Everything that is read off one pass, by the label of its row: small maps of logits."""
    found: dict[str, Logits] = {name: partial(_told, name) for name in READ_OUTS}
    found |= {label: partial(_cosines, READ_OUTS[name]) for name, label in WORDLESS.items()}
    for attention in ATTENTIONS:
        for residual in (False, True):
            for forward in (False, True):
                read = partial(assembled, attention=attention, residual=residual, forward=forward)
                found[label_of(attention, residual, forward)] = partial(_cosines, read)
    return found


def _told(name: str, tower: TowerPass, text: Tensor, scale: Tensor) -> Tensor:
    """Logits of a read-out as `ZeroShotSegmentor` has them."""
    if name not in WORD_LOGITS:
        return _cosines(READ_OUTS[name], tower, text, scale)
    return WORD_LOGITS[name](tower.told(text), scale).mT.unflatten(2, tower.grid)


def _cosines(read: Callable[[TowerPass], Tensor], tower: TowerPass, text: Tensor, scale: Tensor) -> Tensor:
    """Scaled cosines (B, C, h, w) of what is read without words."""
    return scale * tower.told(text).cosines(read(tower)).mT.unflatten(2, tower.grid)


def training_free(
    *,
    scenes: Mapping[str, int] = SCENES,
    rounds: int = ROUNDS,
    folder: Path = FOLDER,
    out: Path | None = None,
) -> JsonObject:
    """Measure everything and write data/reports/training_free.json; some minutes of one CPU thread.

    What was counted is kept after every batch, so that the same command goes on where it was stopped.

    Args:
        scenes: how many of each split.
        rounds: timed passes of each read-out.
        folder: where counts are kept.
        out: where the report is written; data/reports by default.

    Returns:
        {"size", "scenes", "refined_scenes", "words", "rows": {label: {split: {metric: score}}}, "refined":
        {refinement: {read-out: {split: {"without", "with", "difference"}}}}, "contrasts": {split: [...]},
        "speed"}; fractions, and times by that of CLIP's own pass. The intervals are over scenes: they say
        nothing of other words or of another CLIP.

    Raises:
        ValueError: a folder that holds counts of another CLIP or of other read-outs.
    """
    clip = load_clip()
    found = {split: split_scores(clip, split, count, folder) for split, count in scenes.items()}
    rows = {label: {split: _plain(found[split].all[label]) for split in scenes} for label in systems()}
    data = Collage(next(iter(scenes)), length=TIMED)
    content = {
        "size": data.size,
        "scenes": dict(scenes),
        "refined_scenes": {split: each.scenes_refined for split, each in found.items()},
        "words": len(data.names),
        "rows": rows,
        "refined": {
            name: {label: {split: _beside(found[split], label, name) for split in scenes} for label in own}
            for name, own in REFINED.items()
        },
        "contrasts": {split: answers(found[split]) for split in scenes},
        "speed": speed(clip, data, rounds),
    }
    return write_report("training_free", content, out)


@dataclass(frozen=True)
class Found:
    """What one split says; scores with their draws.

    Attributes:
        all: label -> metric -> Score, on all scenes.
        part: the same, and of refined maps, on the scenes that were refined.
        scenes_refined: how many those are.
    """

    all: Mapping[str, Mapping[str, Score]]
    part: Mapping[str, Mapping[str, Score]]
    scenes_refined: int


def _plain(scores: Mapping[str, Score]) -> dict[str, dict[str, object]]:
    """As the report holds them: means and intervals, without the draws, which would be megabytes."""
    return {metric: Interval(score.mean, score.ci95).to_json() for metric, score in scores.items()}


def _beside(found: Found, label: str, refinement: str) -> dict[str, object]:
    """hIoU without and with a refinement on the same scenes, and the paired difference."""
    before, after = (found.part[each]["hIoU"] for each in (label, refined_label(label, refinement)))
    moved = difference(after, before)
    rows = {"without": before, "with": after, "difference": moved}
    return {key: Interval(row.mean, row.ci95).to_json() for key, row in rows.items()}


@torch.inference_mode()
def split_scores(clip: DenseCLIP, split: str, count: int, folder: Path) -> Found:
    """Every row's metrics on scenes of a split, with bootstrap intervals and draws.

    Args:
        clip: the model.
        split: of Collage.
        count: of scenes.
        folder: where counts are kept.

    Raises:
        ValueError: a folder that holds counts of something else.
    """
    data = Collage(split, length=count)
    text = clip.encode_text(data.names)
    identity = {"clip": digest(clip, text), "rows": [*systems(), *REFINED], "size": data.size}
    parts: list[dict[str, Tensor]] = []
    for first in range(0, count, BATCH):
        where = folder / f"{split}-{first:04d}"
        state = read_state(where)
        if state is None:
            state = {"identity": identity, "counts": _counted(clip, data, first, text)}
            write_state(where, state, last=True)
        counts = state["counts"]
        if state["identity"] != identity or len(counts["value"]) != min(BATCH, count - first):
            raise ValueError(
                f"{where} holds counts of another CLIP, of other read-outs or of fewer scenes; expected "
                "those of now: delete the folder or choose another"
            )
        parts.append(counts)
    some = [part for part in parts if any(refined_label("value", name) in part for name in REFINED)]
    return Found(
        _scores(parts, list(systems()), data),
        _scores(some, list(some[0]), data),
        sum(len(part["value"]) for part in some),
    )


def _scores(
    parts: Sequence[Mapping[str, Tensor]], labels: Sequence[str], data: Collage
) -> dict[str, dict[str, Score]]:
    return {
        label: redrawn_scores(torch.cat([part[label] for part in parts]), data.class_groups)
        for label in labels
    }


def _counted(clip: DenseCLIP, data: Collage, first: int, text: Tensor) -> dict[str, Tensor]:
    """Tallies (scenes, 3, C) of each row on a batch; of refined ones on every third."""
    batch = [data[index] for index in range(first, min(first + BATCH, len(data)))]
    images = torch.stack([scene.image for scene in batch])
    masks = torch.stack([scene.mask for scene in batch])
    tower, scale = clip.tower(images), clip.logit_scale.float()
    refine = first // BATCH % REFINED_EVERY == 0
    found = {}
    for label, read in systems().items():
        large = enlarged(read(tower, text, scale), (data.size, data.size))
        found[label] = tally(large.argmax(1), masks, len(text))
        for name in (each for each, own in REFINED.items() if refine and label in own):
            sharp = _sharpened(name, images, large, text, float(scale))
            found[refined_label(label, name)] = tally(sharp.argmax(1), masks, len(text))
    return found


def _sharpened(name: str, images: Tensor, logits: Tensor, text: Tensor, scale: float) -> Tensor:
    """Logits (B, C, H, W) after a refinement with its own settings."""
    every = slice(0, logits.shape[1])
    refine = REFINEMENTS[name]()
    return refine.refined(images, lambda part: logits[:, part], [every], text, 1 / scale)(every)


def answers(found: Found) -> list[dict[str, object]]:
    """The planned contrasts in hIoU, corrected for all of them (Holm).

    Args:
        found: of one split.
    """
    asked: dict[str, Score] = {}
    pairs = []
    for question in PLANNED:
        # Both sides of a refinement's question are of the scenes that were refined.
        scores = found.all if set(question.first) <= set(found.all) else found.part
        pair = (f"{question.asks}: first", f"{question.asks}: second")
        for key, members in zip(pair, (question.first, question.second), strict=True):
            asked[key] = mean_score([scores[label]["hIoU"] for label in members])
        pairs.append(pair)
    return [
        {"asks": each.asks, **row.to_json(), "first": list(each.first), "second": list(each.second)}
        for each, row in zip(PLANNED, contrasts(asked, pairs), strict=True)
    ]


@torch.inference_mode()
def speed(clip: DenseCLIP, data: Collage, rounds: int) -> dict[str, object]:
    """Time of each read-out with its words, in turns, by that of CLIP's own pass; one CPU thread.

    Args:
        clip: the model.
        data: whose first scenes are looked at.
        rounds: that count.

    Returns:
        name -> as of `speed_rows`, the ratio to CLIP's own pass.
        Refinements are timed alone, for maps that are there.
    """
    images = torch.stack([data[index].image for index in range(len(data))]).to(clip.device)
    text = clip.encode_text(data.names)
    models = {name: ZeroShotSegmentor(clip, name).eval() for name in READ_OUTS}
    logits = models["value"](images, text)
    scale = float(clip.logit_scale)
    passes: dict[str, Callable[[], object]] = {REFERENCE: partial(clip.encode_image, images)}
    passes |= {name: partial(model, images, text) for name, model in models.items()}
    for name in ("pamr", "propagation"):
        passes[f"+ {name}"] = partial(_sharpened, name, images, logits, text, scale)
    with one_thread(clip.device) as clock:
        seconds = take_turns(passes, rounds, device=clip.device, clock=clock)
    found = speed_rows(passes, seconds, REFERENCE, len(data))
    return {"batch": len(data), "rounds": rounds, "reference": REFERENCE, "read_outs": found}
