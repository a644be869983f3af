"""The measurements behind every number in README and the notebooks; each writes one JSON into data/reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ..clip import DenseCLIP, save_clip
from ..core.environment import environment
from ..datasets.collage import Collage
from ..evaluation import cosine_margin, evaluate, noun_recognition, retrieval
from ..segmentors import ZeroShotSegmentor
from ..training.recipe import PretrainRecipe, load_recipe
from ..training.run import Run, train

BLENDS = (("value", "cls_value"), ("cls_value", "sclip"))
_SINGLE = ("vanilla", "value", "cls_value", "sclip", "clearclip", "naclip")  # those that the card has measured
READ_OUTS: tuple[tuple[str, ...], ...] = (*((name,) for name in _SINGLE), *BLENDS)


@torch.inference_mode()
def score_clip(clip: DenseCLIP, scenes: int = 400) -> dict[str, Any]:
    """The card of a CLIP: retrieval among 100 scenes, noun recognition, dense zero-shot metrics of every read-out.

    Args:
        clip: the model.
        scenes: how many test scenes of each kind (known and new photographs).
    """
    card: dict[str, Any] = {"retrieval": {}, "noun_recognition": {}, "dense": {}, "scenes": scenes}
    for split in ("test", "test-new"):
        data = Collage(split, length=scenes)
        rendered = [data[i] for i in range(scenes)]
        recalls = [retrieval(clip, rendered[i : i + 100]) for i in range(0, scenes - 99, 100)]
        card["retrieval"][split] = {key: sum(r[key] for r in recalls) / len(recalls) for key in recalls[0]}
        card["noun_recognition"][split] = noun_recognition(clip, rendered, [n for n in data.names if any(n in s.nouns for s in rendered)])
        for read_out in READ_OUTS:
            report = evaluate(ZeroShotSegmentor(clip, read_out), data)
            label = "+".join(read_out)
            margin = cosine_margin(clip, rendered[:100], data.names, read_out[0]) if len(read_out) == 1 else None
            card["dense"].setdefault(label, {})[split] = {
                **report.metrics,
                **({"margin": margin} if margin is not None else {}),
            }
    return {**card, "environment": environment()}


def pretrain(
    recipe: str | Path = "mini/pretrain",
    *,
    out: Path,
    folder: Path | None = None,
    cost: dict[str, Any] | None = None,
) -> Run:
    """Pretrain a CLIP, score it and write the checkpoint with its card.

    Args:
        recipe: name or file of a pretraining recipe.
        out: the .safetensors file.
        folder: where the state is kept, to go on from if the run is stopped.
        cost: what to say in the card of time and hardware.
    """
    what = load_recipe(recipe)
    if not isinstance(what, PretrainRecipe):
        raise ValueError(f"{recipe} is a recipe for fine-tuning; expected one with task: pretrain")
    run = train(what, folder=folder)
    clip = run.model.clip
    losses = [record["total"] for record in run.log[-50:]]
    config = {
        "model": what.model,
        "mean": what.mean,
        "std": what.std,
        "name": what.name,
        "read_out": what.read_out,
    }
    card = {
        **score_clip(clip),
        "recipe": {**vars(what)},
        "scenes_seen": what.batch * sum(stage["steps"] for stage in what.stages),
        "final_loss": sum(losses) / len(losses),
        "cost": cost or {},
    }
    save_clip(clip, out, config, card=card)
    return run


def card_table(card: dict[str, Any]) -> str:
    """The card of a CLIP as a Markdown table: known photographs beside new ones."""
    test, new = "test", "test-new"
    rows = [
        (
            "right caption for a picture, among 100",
            *(card["retrieval"][s]["image_to_text"] for s in (test, new)),
        ),
        (
            "right picture for a caption, among 100",
            *(card["retrieval"][s]["text_to_image"] for s in (test, new)),
        ),
        ("noun recognition (mean average precision)", *(card["noun_recognition"][s] for s in (test, new))),
    ]
    for read_out, scores in card["dense"].items():
        rows.append((f"dense mIoU, {read_out}", *(scores[s]["mIoU"] for s in (test, new))))
    best = max(card["dense"], key=lambda name: card["dense"][name][test]["mIoU"])
    rows.append((f"dense mIoU of unseen nouns, {best}", *(card["dense"][best][s]["mIoU_unseen"] for s in (test, new))))
    lines = ["| collage-mini | known photographs | new photographs |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {label} | {known:.1%} | {fresh:.1%} |" for label, known, fresh in rows)])
