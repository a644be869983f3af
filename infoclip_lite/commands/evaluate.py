"""infoclip-lite evaluate: a CLIP without training, what a recipe trained, or a published checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..core.words import split_list
from .train import run_folder

if TYPE_CHECKING:
    from ..datasets import Segmented
    from ..evaluation import Report
    from ..segmentors import Segmentor

# Of Collage: as many as the tables of the studies have.
_SCENES = 200


def evaluate_command(
    model: str | None = None,
    pretrained: str | None = None,
    read_outs: str = "",
    recipe: str | None = None,
    folder: Path | None = None,
    weights: Path | None = None,
    dataset: str | None = None,
    split: str | None = None,
    root: Path | None = None,
    names: str | None = None,
    images: str | None = None,
    labels: str | None = None,
    unseen: str | None = None,
    words: Path | None = None,
    limit: int | None = None,
    protocol: str | None = None,
    refine: str | None = None,
    gammas: str = "",
    text_cache: str | None = None,
    out: Path | None = None,
) -> None:
    """Measure segmentation: of a CLIP without training, of what a recipe trained, of a published checkpoint.

    Args:
        model: collage-mini (the default), a checkpoint of `pretrain`, or an open_clip model.
        pretrained: the open_clip tag or checkpoint of that model.
        read_outs: dense read-outs to average, separated by commas; the model's own by default.
        recipe: evaluate this training in place of a model: it is run, or gone on with, if the folder holds no
            finished run of it.
        folder: state of that run, runs/NAME/0 by default, as `train` leaves it.
        weights: an official checkpoint of CAT-Seg, for the recipe of its architecture: nothing is trained.
        dataset: collage, one that `infoclip-lite data list` shows, or folder (pictures of your own); by
            default what the recipe learns from, or collage.
        split: of the data set; by default test (collage), all (a folder that nothing was learnt from) or val.
        root: folder of the data sets, by default $INFOCLIP_LITE_DATA, else ~/.cache/infoclip_lite/data; of
            folder, the folder.
        names: of folder, the class names separated by commas, or the file with one a line; names.txt by
            default.
        images: of folder, where the pictures are, below root; images by default.
        labels: of folder, where the masks are, below root; masks by default.
        unseen: of folder, names of the classes that training did not label, separated by commas.
        words: file of what is said of each class in place of its name: a line each with synonyms separated by
            commas (as SCLIP writes it), background first if the data set has such a class; or a JSON list (as
            CAT-Seg writes it).
        limit: number of pictures; by default 200 of collage, all of others.
        protocol: whole, catseg, training-free, zero-shot, maskclip, sclip, clearclip, naclip, resclip or
            pearl, as `infoclip-lite protocols` shows them; by default the recipe's, or whole.
        refine: pamr or propagation makes scores follow the pictures' edges, none leaves them as they are; the
            protocol's own by default.
        gammas: calibration constants to try beside 0, separated by commas.
        text_cache: folder of embeddings of words, encoded once for all evaluations; by default
            $INFOCLIP_LITE_TEXT_CACHE, else ~/.cache/infoclip_lite/text; off keeps nothing.
        out: where the report is written as JSON, and beside it as Markdown. What is counted of a real data
            set is kept in a folder beside it, so that the same command goes on.
    """
    from ..clip.refinements import get_refinement
    from ..datasets.base import known_as
    from ..evaluation import evaluate, get_protocol
    from ..evaluation.vocabulary import words_of

    options = {"name": dataset, "root": root, "images": images, "labels": labels, "names": _names(names)}
    options["unseen"] = None if unseen is None else split_list(unseen)
    given = {key: value for key, value in options.items() if value is not None}
    # Data before models: a folder that is not there should not be said after hours of training.
    chosen = chosen_data(given, recipe=recipe, split=split, words=words, limit=limit)
    # An empty name is a slip, such as a variable that is not set, and no wish for what is usual.
    by = get_protocol(chosen.protocol if protocol is None else protocol, known_as(chosen.dataset))
    if refine is not None:
        by = replace(by, refine=get_refinement(refine))
    words_of(chosen.dataset, by)
    report = evaluate(
        subject(
            model, pretrained, read_outs=split_list(read_outs), recipe=recipe, folder=folder, weights=weights
        ),
        chosen.dataset,
        limit=chosen.limit,
        gammas=_numbers(gammas),
        protocol=by,
        folder=None if out is None or chosen.drawn else out.with_suffix(".parts"),
        progress=True,
        text_cache=text_cache,
    )
    _print(report)
    if out is not None:
        report.to_json(out)
        report.to_markdown(out.with_suffix(".md"))
        print(f"report: {out.resolve()}")


def _names(text: str | None) -> str | list[str] | None:
    """Class names as a folder wants them: a file, or the names themselves."""
    return split_list(text) if text is not None and "," in text else text


def _numbers(text: str) -> list[float]:
    try:
        return [float(number) for number in split_list(text)]
    except ValueError as error:
        raise ValueError(
            f"gammas is {text!r}; expected numbers separated by commas, such as 1,2,4"
        ) from error


def _print(report: Report) -> None:
    for key, value in report.metrics.items():
        print(f"{key:<14}{value:>7.1%}")
    for gamma, metrics in report.calibration.items():
        print(f"gamma {gamma:<8}{metrics['hIoU']:>7.1%} hIoU")


def subject(
    model: str | None = None,
    pretrained: str | None = None,
    *,
    read_outs: Sequence[str] = (),
    recipe: str | Path | None = None,
    folder: Path | None = None,
    weights: Path | None = None,
) -> Segmentor:
    """What is measured, by its name.

    Args:
        model, pretrained: a CLIP that was not trained, as `load_clip` takes it; collage-mini by default.
        read_outs: its dense read-outs; its own by default.
        recipe: a training in its place; it is run, or gone on with, if the folder holds no finished run.
        folder: state of that run, runs/NAME/0 by default.
        weights: an official checkpoint for the recipe's architecture, in place of a training.

    Raises:
        ValueError: a model and a recipe at once, weights without a recipe, or what model, recipe or file say.
        FileNotFoundError: no such recipe or file.
    """
    if recipe is not None and (model or pretrained or read_outs):
        raise ValueError(
            "got a recipe and a model; expected one of them: a recipe names its model and read-outs"
        )
    if recipe is None and (weights or folder):
        what = "weights" if weights else "a folder"
        raise ValueError(
            f"got {what} without a recipe; expected one that says the architecture: paper/catseg-vitb16"
        )
    if recipe is None:
        return _untrained(model or "collage-mini", pretrained, read_outs)
    if weights is not None:
        return _published(recipe, weights)
    from ..training.run import train

    return train(recipe, folder=folder or run_folder(str(recipe))).model


def _untrained(model: str, pretrained: str | None, read_outs: Sequence[str]) -> Segmentor:
    from ..clip import load_clip
    from ..segmentors import ZeroShotSegmentor

    # Frozen: nothing here trains it, and only of a frozen one are the words' embeddings kept.
    clip = load_clip(model, pretrained).requires_grad_(False)
    return ZeroShotSegmentor(clip, list(read_outs) or clip.read_outs)


def _published(recipe: str | Path, weights: Path) -> Segmentor:
    """The recipe's segmentor with weights that the method's authors published."""
    from ..core.processes import default_device
    from ..training.build import build_segmentor
    from ..training.recipe import load_finetuning

    # The file has CLIP's weights too, tuned ones: the pretrained ones need not be fetched.
    plan = load_finetuning(recipe)
    segmentor = build_segmentor(replace(plan, clip=replace(plan.clip, pretrained=None)))
    segmentor.load_official(weights)
    segmentor.clip.name = f"{segmentor.clip.name}/{weights.name}"  # for the report
    return segmentor.to(default_device()).eval().requires_grad_(False)


class ChosenData(NamedTuple):
    """What is tested on, and how if nobody says otherwise.

    Attributes:
        dataset: the pictures.
        limit: how many of them; None is all.
        protocol: the recipe's, or "whole".
        drawn: whether scenes are drawn: made again in a moment, so that nothing of them has to be kept.
    """

    dataset: Segmented
    limit: int | None
    protocol: str
    drawn: bool


def chosen_data(
    data: Mapping[str, object] | None = None,
    *,
    recipe: str | Path | None = None,
    split: str | None = None,
    words: Path | None = None,
    limit: int | None = None,
) -> ChosenData:
    """The data that somebody asked for; for the rest, what fits the recipe.

    Args:
        data: a section of a recipe, {"name": ..., **options}, or part of one: what is missing is the
            recipe's, or Collage.
        recipe: what is chosen.
        split: by default "test" of Collage, "all" of a folder that nothing was learnt from, "val" of others.
        words: file of other words for the classes; see `read_words`.
        limit: number of pictures; by default 200 of Collage, all of others.

    Raises:
        ValueError: no such data set, option or split, or words that do not fit.
        FileNotFoundError: a recipe, data set or file that is not there.
    """
    from ..datasets import held_out_data
    from ..training.recipe import FineTuneRecipe, load_recipe

    plan = None if recipe is None else load_recipe(recipe)
    learnt, protocol = (
        (plan.data, plan.evaluation.protocol) if isinstance(plan, FineTuneRecipe) else ({}, "whole")
    )
    section = _section(data or {}, learnt)
    name = str(section["name"])
    drawn = name == "collage"
    if drawn and limit is None:
        limit = _SCENES
    # Collage's val is for choices on the way; of a folder that nothing was learnt from, all is new.
    usual = {"collage": "test", "folder": "val" if learnt.get("name") == "folder" else "all"}
    # At least one scene, so that a wrong limit is refused by `evaluate`, which says what is right.
    dataset = held_out_data(section, split or usual.get(name, "val"), length=max(1, limit or 1))
    return ChosenData(dataset if words is None else _reworded(dataset, words), limit, protocol, drawn)


def _section(data: Mapping[str, object], learnt: Mapping[str, object]) -> dict[str, object]:
    """The section of the data that is tested on: what was asked for; what was learnt from says the rest."""
    name = data.get("name", learnt.get("name", "collage"))
    if name == learnt.get("name"):
        return {**learnt, **data}
    # Scenes are drawn at the size that the segmentor was trained with, whatever that was trained on.
    size = {"size": learnt["size"]} if name == "collage" and "size" in learnt else {}
    return {"name": name, **size, **data}


def _reworded(dataset: Segmented, words: Path) -> Segmented:
    from ..datasets.wording import Reworded, read_words

    said = read_words(words)
    try:
        return Reworded(dataset, said)
    except ValueError as error:
        raise ValueError(f"{words}: {error}") from error
