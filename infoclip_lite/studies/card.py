"""The card of a CLIP: what its checkpoint says of itself, and the table that README shows of it."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from time import perf_counter
from typing import Any, Literal

import torch

from ..clip import DenseCLIP, save_clip
from ..core.environment import environment
from ..core.reports import JsonObject
from ..datasets.collage import Collage, Scene, all_nouns, photographs
from ..datasets.wordlists import synonyms
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
    ("value", "vanilla"),
    ("value", "sclip"),
)
# Captions that a picture has to be found among: recall falls with their number, so it is part of what is
# measured.
_AMONG = 100
_GROUPS = ("seen", "unseen", "stuff")
KINDS: tuple[Literal["photograph"], Literal["render"]] = ("photograph", "render")


@torch.inference_mode()
def score_clip(clip: DenseCLIP, scenes: int = 400) -> JsonObject:
    """What a CLIP knows: of scenes, of whole photographs, and of words that no caption names.

    Args:
        clip: the model.
        scenes: how many test scenes of each split (known and new instances), 100 at least.

    Returns:
        {"retrieval": {split: recalls}, "noun_recognition": {split: mAP}, "nouns": {split: {group: mAP}},
        "kinds": {"photograph" or "render": mAP}, "dense": {read-outs: {split: metrics}}, "photographs",
        "synonyms", "scenes", "environment"}; fractions.

    Raises:
        ValueError: too few scenes.
    """
    if scenes < _AMONG:
        raise ValueError(f"scenes is {scenes}; expected at least {_AMONG}, that a caption is found among")
    card: JsonObject = {"retrieval": {}, "noun_recognition": {}, "nouns": {}, "dense": {}, "scenes": scenes}
    for split in SPLITS:
        data = Collage(split, length=scenes)
        rendered = [data[i] for i in range(scenes)]
        groups = {group: [data.names[i] for i in ids] for group, ids in data.class_groups.items()}
        card["retrieval"][split] = _retrieval(clip, rendered)
        card["noun_recognition"][split] = noun_recognition(
            clip, rendered, [*groups["seen"], *groups["unseen"]]
        )
        card["nouns"][split] = {
            name: noun_recognition(clip, rendered, words) for name, words in groups.items()
        }
        for names in MEASURED:
            metrics = evaluate(ZeroShotSegmentor(clip, names), data).metrics
            if len(names) == 1:  # a margin is of one map of cosines
                metrics = {**metrics, "margin": cosine_margin(clip, rendered[:_AMONG], data.names, names[0])}
            card["dense"].setdefault("+".join(names), {})[split] = metrics
    card["kinds"] = {kind: _kind(clip, kind, scenes) for kind in KINDS}
    card["photographs"] = score_photographs(clip)
    card["synonyms"] = score_synonyms(clip)
    return {**card, "environment": environment()}


def _kind(clip: DenseCLIP, kind: Literal["photograph", "render"], scenes: int) -> float:
    """Noun recognition on scenes of new instances of one kind."""
    data = Collage("test", length=scenes, kind=kind)
    nouns = [data.names[i] for group in ("seen", "unseen") for i in data.class_groups[group]]
    return noun_recognition(clip, [data[i] for i in range(scenes)], nouns)


@torch.inference_mode()
def score_photographs(clip: DenseCLIP) -> JsonObject:
    """Which noun of the whole pack does a whole photograph show? None was learnt from.

    Returns:
        {"top1": macro-averaged over nouns, "micro": over photographs, "photographs", "nouns", "words": how
        many compete, "found": {file: the word that came first}}.
    """
    words = all_nouns()
    text = clip.encode_text(words)
    found, right = {}, defaultdict(list)
    for each in photographs():
        cosines = clip.encode_image(each.image()[None].to(clip.device)) @ text.T
        found[each.file] = words[int(cosines.argmax())]
        right[each.noun].append(found[each.file] == each.noun)
    return {
        "top1": fmean(fmean(of_noun) for of_noun in right.values()),
        "micro": fmean(hit for of_noun in right.values() for hit in of_noun),
        "photographs": len(found),
        "nouns": len(right),
        "words": len(words),
        "found": found,
    }


@torch.inference_mode()
def score_synonyms(clip: DenseCLIP) -> JsonObject:
    """Words that no caption names: is the nearest noun of the pack the one that they mean?

    Returns:
        {"distilled", "never": fractions of 100 words that were distilled and of 50 that were not,
        "nearest": {word: [noun that it means, nearest noun]}}.
    """
    words = all_nouns()
    text = clip.encode_text(words)
    card: JsonObject = {"nearest": {}}
    for label, held_out in (("distilled", False), ("never", True)):
        asked = synonyms(held_out=held_out)
        with warnings.catch_warnings():  # that it never saw them is what is measured
            warnings.simplefilter("ignore")
            near = (clip.encode_text([each.word for each in asked]) @ text.T).argmax(1).tolist()
        nearest = {each.word: [each.noun, words[i]] for each, i in zip(asked, near, strict=True)}
        card[label] = fmean(noun == got for noun, got in nearest.values())
        card["nearest"] |= nearest
    return card


def _retrieval(clip: DenseCLIP, rendered: Sequence[Scene]) -> dict[str, float]:
    """Recalls among 100 scenes, the mean over as many hundreds as there are."""
    firsts = range(0, len(rendered) - _AMONG + 1, _AMONG)
    recalls = [retrieval(clip, rendered[first : first + _AMONG]) for first in firsts]
    return {key: fmean(recall[key] for recall in recalls) for key in recalls[0]}


def pretrain(
    recipe: str | Path | Mapping[str, Any] = "mini/pretrain",
    *,
    out: Path,
    folder: Path | None = None,
) -> Run:
    """Pretrain a CLIP, score it and write the checkpoint with its card.

    Args:
        recipe: name, file or content of a pretraining recipe.
        out: the .safetensors file.
        folder: where the state is kept, to go on from if the run is stopped; the scenes as the stem sees them
            (2 GB) and the distilled text tower are kept beside it, in a folder `pool`.

    Raises:
        ValueError: a recipe for fine-tuning.
    """
    what = load_recipe(recipe)
    if not isinstance(what, PretrainRecipe):
        raise ValueError(f"{recipe} is a recipe for fine-tuning; expected one with task: pretrain")
    resumed = folder is not None and (folder / "log.jsonl").exists()
    begun = perf_counter()
    run = train(what, folder=folder)
    minutes = (perf_counter() - begun) / 60
    clip = run.model.clip
    # A single step's loss says little: its batch was easy or hard.
    last = fmean(record["total"] for record in run.log[-50:])
    config = {
        "model": what.model,
        "stem": what.stem,
        "mean": what.mean,
        "std": what.std,
        "name": what.name,
        "read_out": what.read_outs,
    }
    card = {
        **score_clip(clip),
        "recipe": asdict(what),
        "scenes_seen": what.batch * sum(stage["steps"] for stage in what.stages),
        "final_loss": last,
        # Of a run that was killed and gone on with only the last part is known.
        "cost": {"minutes": round(minutes, 1), "threads": torch.get_num_threads(), "resumed": resumed},
    }
    save_clip(clip, out, config, card=card)
    return run


def card_table(card: JsonObject) -> str:
    """The card of a CLIP as a Markdown table: known instances beside new ones."""
    recalls, nouns, dense = card["retrieval"], card["nouns"], card["dense"]
    rows = {
        "right caption for a picture, among 100": [recalls[split]["image_to_text"] for split in SPLITS],
        "right picture for a caption, among 100": [recalls[split]["text_to_image"] for split in SPLITS],
        "recognition of nouns (mean average precision)": [card["noun_recognition"][each] for each in SPLITS],
        "recognition of unseen nouns": [nouns[split]["unseen"] for split in SPLITS],
    }
    cells = {label: [f"{value:.1%}" for value in values] for label, values in rows.items()}
    for names, scores in dense.items():
        groups = [[scores[split][f"mIoU_{group}"] for group in _GROUPS] for split in SPLITS]
        cells[f"dense mIoU of {', '.join(_GROUPS)}: {names}"] = [
            " / ".join(f"{value:.1%}" for value in each) for each in groups
        ]
    for kind in KINDS:
        cells[f"recognition of nouns, {kind}s alone"] = ["", f"{card['kinds'][kind]:.1%}"]
    real, words = card["photographs"], card["synonyms"]
    label = f"noun of {real['photographs']} whole photographs, among {real['words']}"
    cells[label] = ["", f"{real['top1']:.1%}"]
    cells["nearest noun of a word that no caption names"] = ["", f"{words['distilled']:.1%}"]
    cells["nearest noun of a word that was not distilled either"] = ["", f"{words['never']:.1%}"]
    lines = ["| collage-mini | known instances | new instances |", "|---|---|---|"]
    return "\n".join(
        [*lines, *(f"| {label} | {known} | {fresh} |" for label, (known, fresh) in cells.items())]
    )
