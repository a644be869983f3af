"""infoclip-lite evaluate: a CLIP without training, what a recipe trained, or an official checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core.words import split_list
from .train import run_folder


def evaluate_command(
    model: str = "collage-mini",
    pretrained: str | None = None,
    dataset: str = "collage",
    split: str = "",
    limit: int | None = None,
    read_outs: str = "",
    gammas: str = "",
    protocol: str = "",
    recipe: str | None = None,
    folder: Path | None = None,
    root: Path | None = None,
    out: Path | None = None,
) -> None:
    """Measure segmentation: of a CLIP without training, or of what a recipe trained.

    Args:
        model: collage-mini, a checkpoint of `pretrain`, or an open_clip model.
        pretrained: the open_clip tag or checkpoint of that model.
        dataset: collage, or one that `infoclip-lite data list` shows.
        split: of the data set; by default test (Collage) or val.
        limit: number of pictures; by default 200 of Collage, all of others.
        read_outs: dense read-outs to average, separated by commas; the model's own by default.
        gammas: calibration constants to try beside 0, separated by commas.
        protocol: whole, catseg, training-free or zero-shot; by default whole, or the recipe's.
        recipe: evaluate this training in place of the model: it is run, or gone on with, if the folder holds no finished run of it.
        folder: state of that run, runs/NAME/0 by default, as `train` leaves it.
        root: folder of the data sets; by default $INFOCLIP_LITE_DATA, else ~/.cache/infoclip_lite/data.
        out: where the report is written as JSON, and beside it as Markdown; of a real data set what is counted so far is kept in a folder
            beside it, so that the same command goes on.
    """
    from ..clip import load_clip
    from ..datasets import build_dataset
    from ..datasets.collage import Collage
    from ..evaluation.evaluate import evaluate
    from ..segmentors import ZeroShotSegmentor
    from ..training.recipe import FineTuneRecipe
    from ..training.run import train

    segmentor: Any
    shipped = dataset == "collage"
    limit = 200 if limit is None and shipped else limit
    wanted = split or ("test" if shipped else "val")
    data: Any = Collage(wanted, length=limit or 1000) if shipped else build_dataset(dataset, wanted, root)
    if recipe is not None:
        segmentor = train(recipe, folder=folder or run_folder(recipe))
        if isinstance(segmentor.recipe, FineTuneRecipe):
            protocol = protocol or segmentor.recipe.protocol
            data = (
                Collage(wanted, segmentor.recipe.size, length=limit or 1000, seen=segmentor.recipe.seen)
                if shipped
                else data
            )
    else:
        clip = load_clip(model, pretrained)
        segmentor = ZeroShotSegmentor(clip, split_list(read_outs) or clip.read_out)
    sweep = [float(g) for g in split_list(gammas)]
    where = None if out is None or shipped else out.with_suffix(".parts")
    report = evaluate(
        segmentor, data, limit=limit, gammas=sweep, protocol=protocol or "whole", folder=where, progress=True
    )
    for key, value in report.metrics.items():
        print(f"{key:<14}{value:>7.1%}")
    for gamma, metrics in report.calibration.items():
        print(f"gamma {gamma:<8}{metrics['hIoU']:>7.1%} hIoU")
    if out is not None:
        report.to_json(out)
        report.to_markdown(out.with_suffix(".md"))
        print(f"report: {out.resolve()}")
