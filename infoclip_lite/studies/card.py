"""The card of a CLIP: what its checkpoint says of itself, and the table that README shows of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

import torch

from ..clip import DenseCLIP, save_clip
from ..core.environment import environment
from ..core.reports import JsonObject
from ..datasets.collage import Collage, Scene
from ..evaluation import cosine_margin, evaluate, noun_recognition, retrieval
from ..segmentors import ZeroShotSegmentor
from ..training.recipe import PretrainRecipe, load_recipe
from ..training.run import Run, train
from .rows import SPLITS

# The read-outs that were measured, one by one and two averaged: rows of the card, of README and of the
# leaderboard. Written out, so that a new read-out in `clip.readouts` adds no row that nobody has measured.
MEASURED: tuple[tuple[str, ...], ...] = (
    ("vanilla",),
    ("value",),
    ("cls_value",),
    ("sclip",),
    ("clearclip",),
    ("naclip",),
    ("value", "cls_value"),
    ("cls_value", "sclip"),
)
# Captions that a picture has to be found among: recall falls with their number, so it is part of what is
# measured.
_AMONG = 100


@torch.inference_mode()
def score_clip(clip: DenseCLIP, scenes: int = 400) -> JsonObject:
    """Retrieval among 100 scenes, noun recognition, and dense zero-shot metrics of what is `MEASURED`.

    Args:
        clip: the model.
        scenes: how many test scenes of each kind (known and new instances), 100 at least.

    Returns:
        {"retrieval": {split: recalls}, "noun_recognition": {split: mAP}, "dense": {read-outs: {split:
        metrics}}, "scenes", "environment"}; fractions.
    """
    card: JsonObject = {"retrieval": {}, "noun_recognition": {}, "dense": {}, "scenes": scenes}
    for split in SPLITS:
        data = Collage(split, length=scenes)
        rendered = [data[i] for i in range(scenes)]
        shown = [noun for noun in data.names if any(noun in scene.nouns for scene in rendered)]
        card["retrieval"][split] = _retrieval(clip, rendered)
        card["noun_recognition"][split] = noun_recognition(clip, rendered, shown)
        for names in MEASURED:
            metrics = evaluate(ZeroShotSegmentor(clip, names), data).metrics
            if len(names) == 1:  # a margin is of one map of cosines
                metrics = {**metrics, "margin": cosine_margin(clip, rendered[:_AMONG], data.names, names[0])}
            card["dense"].setdefault("+".join(names), {})[split] = metrics
    return {**card, "environment": environment()}


def _retrieval(clip: DenseCLIP, rendered: Sequence[Scene]) -> dict[str, float]:
    """Recalls among 100 scenes, the mean over as many hundreds as there are."""
    firsts = range(0, len(rendered) - _AMONG + 1, _AMONG)
    recalls = [retrieval(clip, rendered[first : first + _AMONG]) for first in firsts]
    return {key: fmean(recall[key] for recall in recalls) for key in recalls[0]}


def pretrain(
    recipe: str | Path = "mini/pretrain",
    *,
    out: Path,
    folder: Path | None = None,
    cost: Mapping[str, object] | None = None,
) -> Run:
    """Pretrain a CLIP, score it and write the checkpoint with its card.

    Args:
        recipe: name or file of a pretraining recipe.
        out: the .safetensors file.
        folder: where the state is kept, to go on from if the run is stopped.
        cost: what to say in the card of time and hardware.

    Raises:
        ValueError: a recipe for fine-tuning.
    """
    what = load_recipe(recipe)
    if not isinstance(what, PretrainRecipe):
        raise ValueError(f"{recipe} is a recipe for fine-tuning; expected one with task: pretrain")
    run = train(what, folder=folder)
    clip = run.model.clip
    # A single step's loss says little: its batch was easy or hard.
    last = fmean(record["total"] for record in run.log[-50:])
    config = {
        "model": what.model,
        "mean": what.mean,
        "std": what.std,
        "name": what.name,
        "read_out": what.read_outs,
    }
    card = {
        **score_clip(clip),
        "recipe": {**vars(what)},
        "scenes_seen": what.batch * sum(stage["steps"] for stage in what.stages),
        "final_loss": last,
        "cost": dict(cost or {}),
    }
    save_clip(clip, out, config, card=card)
    return run


def card_table(card: JsonObject) -> str:
    """The card of a CLIP as a Markdown table: known instances beside new ones."""
    recalls, nouns, dense = card["retrieval"], card["noun_recognition"], card["dense"]
    rows = {
        "right caption for a picture, among 100": [recalls[split]["image_to_text"] for split in SPLITS],
        "right picture for a caption, among 100": [recalls[split]["text_to_image"] for split in SPLITS],
        "noun recognition (mean average precision)": [nouns[split] for split in SPLITS],
    }
    for names, scores in dense.items():
        rows[f"dense mIoU, {names}"] = [scores[split]["mIoU"] for split in SPLITS]
    # The best on known instances: the choice was made there, and new ones must not make it again.
    best = max(dense, key=lambda names: dense[names][SPLITS[0]]["mIoU"])
    for group, what in (("seen", "seen nouns"), ("unseen", "unseen nouns"), ("stuff", "stuff")):
        found = [dense[best][split].get(f"mIoU_{group}") for split in SPLITS]
        if None not in found:  # stuff is not apart in every card
            rows[f"dense mIoU of {what}, {best}"] = found
    lines = ["| collage-mini | known instances | new instances |", "|---|---|---|"]
    return "\n".join(
        [*lines, *(f"| {label} | {known:.1%} | {fresh:.1%} |" for label, (known, fresh) in rows.items())]
    )
