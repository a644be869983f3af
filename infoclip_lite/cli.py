"""The command line: each command calls the function a notebook would call."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro

from .clip import load_clip, read_card
from .commands.demo import demo
from .commands.doctor import doctor
from .core.files import data_dir
from .core.reports import write_report
from .course.coursework import write_coursework
from .course.notebooks import check, execute
from .datasets import build_dataset
from .datasets.collage import Collage
from .datasets.collage.pack import rebuild, verify
from .datasets.fetching import verify as real_data
from .datasets.fetching.download import download
from .datasets.fetching.files import data_root
from .evaluation import evaluate, segment
from .figures.relation import infoclip_picture
from .segmentors import ZeroShotSegmentor
from .studies.card import pretrain, score_clip
from .studies.chimera import chimera
from .studies.cost import chimera_cost, infoclip_cost
from .studies.degradation import degradation
from .studies.degradation_frames import degradation_frames
from .studies.infoclip import infoclip
from .studies.information import run_benchmark, run_speed
from .studies.leaderboard import leaderboard
from .studies.objective_sweep import objective_sweep
from .studies.speed import paper_size, speed
from .training.dry_run import dry_run as estimate
from .training.export import export_onnx
from .training.recipe import FineTuneRecipe, list_recipes
from .training.run import train

NOTICE = (
    "note: collage-mini was trained on collages of some 150 words and knows no real photographs. "
    "For those, name an open_clip model: --model ViT-B-16-quickgelu --pretrained openai (weights are fetched once)."
)


def doctor_command() -> None:
    """What is installed, which device is used, what works offline."""
    for topic, finding in doctor().items():
        print(f"{topic:<24}{finding}")


def segment_command(
    photo: Annotated[Path, tyro.conf.Positional],
    names: str,
    out: Path = Path("overlay.png"),
    model: str = "collage-mini",
    pretrained: str | None = None,
    background: str = "",
    threshold: float = 0.0,
    attention: str = "",
) -> None:
    """Label a photo with your own words and save the picture.

    Args:
        photo: any picture file.
        names: words separated by commas, synonyms by "|": "ox|cow, grass, sky".
        out: where the overlay is written.
        model: collage-mini, or an open_clip model.
        pretrained: the open_clip tag or checkpoint of that model.
        background: words that compete but are not drawn, separated by commas.
        threshold: pixels whose best score is below it get no label, 0 to 1.
        attention: dense read-outs to average, separated by commas; the model's own by default.
    """
    clip = load_clip(model, pretrained)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        hidden = _split(background) if background.strip() else None
        result = segment(photo, _split(names), clip, hidden, read_outs=_split(attention) if attention else None, threshold=threshold)
    for message in sorted({str(w.message) for w in caught if issubclass(w.category, UserWarning)}):
        print(f"note: {message}", file=sys.stderr)
    for name, fraction in result.fractions().items():
        print(f"{name:<24}{fraction:>7.1%}")
    print(f"picture: {result.save(out).resolve()}")
    if model == "collage-mini":
        print(NOTICE)


def pretrain_command(
    recipe: str = "mini/pretrain", out: Path = Path("runs/pretrain/clip.safetensors"), folder: Path = Path("runs/pretrain")
) -> None:
    """Pretrain a CLIP on Collage's captions, score it, write the checkpoint with its card.

    Args:
        recipe: name or file.
        out: the checkpoint.
        folder: state of the run; the same command goes on from it.
    """
    pretrain(recipe, out=out, folder=folder)
    print(json.dumps(read_card(out)["retrieval"], indent=1))
    print(f"checkpoint: {out.resolve()}")


def train_command(
    recipe: Annotated[str, tyro.conf.Positional],
    folder: Path | None = None,
    seed: int | None = None,
    root: Path | None = None,
    dry_run: bool = False,
    tensorboard: bool = False,
) -> None:
    """Train what a recipe says; under `torchrun` or `accelerate launch` on several GPUs.

    Args:
        recipe: name or YAML file; `infoclip-lite data list` shows those that ship.
        folder: state of the run, runs/NAME by default; the same command goes on from it.
        seed: replaces the recipe's.
        root: folder of the data sets; by default the recipe's.
        dry_run: one of everything only, and an estimate of time and memory.
        tensorboard: write losses and metrics into the folder's tensorboard/ too.
    """
    folder = folder or Path("runs") / Path(recipe).stem / str(seed or 0)
    given = {"seed": seed, "root": None if root is None else str(root)}
    changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if dry_run:
        print(estimate(recipe, **changes))
        return
    run = train(recipe, folder=folder, tensorboard=tensorboard, **changes)
    for record in run.evaluations():
        print(
            "  ".join(f"{key} {record[key]:.3f}" for key in ("step", "mIoU_seen", "mIoU_unseen", "hIoU", "image_to_text") if key in record)
        )
    print(f"run: {folder.resolve()}")


def evaluate_command(
    model: str = "collage-mini",
    pretrained: str | None = None,
    dataset: str = "collage",
    split: str = "",
    limit: int | None = None,
    attention: str = "",
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
        attention: dense read-outs to average, separated by commas; the model's own by default.
        gammas: calibration constants to try beside 0, separated by commas.
        protocol: whole, catseg, training-free or zero-shot; by default whole, or the recipe's.
        recipe: evaluate this training in place of the model: it is run, or gone on with, if the folder holds no finished run of it.
        folder: state of that run, runs/NAME/0 by default, as `train` leaves it.
        root: folder of the data sets; by default $INFOCLIP_LITE_DATA, else ~/.cache/infoclip_lite/data.
        out: where the report is written as JSON, and beside it as Markdown; of a real data set what is counted so far is kept in a folder
            beside it, so that the same command goes on.
    """
    segmentor: Any
    shipped = dataset == "collage"
    limit = 200 if limit is None and shipped else limit
    wanted = split or ("test" if shipped else "val")
    data: Any = Collage(wanted, length=limit or 1000) if shipped else build_dataset(dataset, wanted, root)
    if recipe is not None:
        segmentor = train(recipe, folder=folder or Path("runs") / Path(recipe).stem / "0")
        if isinstance(segmentor.recipe, FineTuneRecipe):
            protocol = protocol or segmentor.recipe.protocol
            data = Collage(wanted, segmentor.recipe.size, length=limit or 1000, seen=segmentor.recipe.seen) if shipped else data
    else:
        clip = load_clip(model, pretrained)
        segmentor = ZeroShotSegmentor(clip, _split(attention) if attention else clip.read_out)
    sweep = [float(g) for g in _split(gammas)] if gammas.strip() else []
    where = None if out is None or shipped else out.with_suffix(".parts")
    report = evaluate(segmentor, data, limit=limit, gammas=sweep, protocol=protocol or "whole", folder=where, progress=True)
    for key, value in report.metrics.items():
        print(f"{key:<14}{value:>7.1%}")
    for gamma, metrics in report.calibration.items():
        print(f"gamma {gamma:<8}{metrics['hIoU']:>7.1%} hIoU")
    if out is not None:
        report.to_json(out)
        report.to_markdown(out.with_suffix(".md"))
        print(f"report: {out.resolve()}")


def export_command(
    recipe: Annotated[str, tyro.conf.Positional], names: str, folder: Path | None = None, out: Path = Path("model.onnx"), size: int = 64
) -> None:
    """Write a trained student with fixed words as one ONNX file.

    Args:
        recipe: name or YAML file of the training; it is run, or gone on with, if the folder holds no finished run of it.
        names: the words, separated by commas, synonyms by "|".
        folder: state of the run, runs/NAME/0 by default, as `train` leaves it.
        out: the file.
        size: side of the pictures in pixels.
    """
    run = train(recipe, folder=folder or Path("runs") / Path(recipe).stem / "0")
    print(f"model: {export_onnx(run.model, _split(names), out, size=size).resolve()}")


def benchmark_command(
    name: Annotated[
        Literal[
            "degradation",
            "card",
            "information",
            "information_speed",
            "infoclip",
            "infoclip_cost",
            "infoclip_picture",
            "chimera",
            "chimera_cost",
            "objective_sweep",
            "degradation_frames",
            "leaderboard",
            "speed",
            "gpu",
        ],
        tyro.conf.Positional,
    ],
    seeds: int = 5,
    part: str = "1/1",
    out: Path | None = None,
    retrain: bool = False,
) -> None:
    """Measure again what README and the notebooks show.

    Args:
        name: degradation (plain fine-tuning over seeds), card (the scores of collage-mini), information (every
            estimator on tasks of known truth), information_speed (alpha = 2 against eigenvalues), infoclip (every way to keep
            CLIP aligned), infoclip_cost (the objective's share of a training step), infoclip_picture (what it does to one word), chimera
            (what each part of Chimera-Seg adds), chimera_cost (time and parameters at inference), objective_sweep (a map of InfoCLIP's
            settings, one seed), degradation_frames (one plain fine-tuning, step by step), leaderboard (every method on the same scenes:
            speed and whatever is not trained are measured, the rest is read from the reports of infoclip and chimera), speed (ours against
            peers, and memory), or gpu (the papers' recipes at their size on rendered scenes: images a second, memory, losses).
        seeds: number of runs of each recipe, or of samples of each task.
        part: of infoclip and chimera, "1/2" runs every second one of the missing runs, "2/2" the others: two processes can share the work.
        out: where the report is written; data/reports by default.
        retrain: of leaderboard, run infoclip and chimera first, each from where it stopped (hours).
    """
    if name == "degradation":
        degradation(seeds=seeds, out=out)
    elif name == "card":
        write_report("collage-mini", score_clip(load_clip()), out)
    elif name == "information":
        write_report(name, run_benchmark(seeds=seeds, progress=True), out)
    elif name in ("infoclip", "chimera"):
        first, _, last = part.partition("/")
        if not (first.isdigit() and last.isdigit() and 1 <= int(first) <= int(last)):
            raise ValueError(f"part is {part!r}; expected K/N with 1 <= K <= N, such as 1/2")
        study = infoclip if name == "infoclip" else chimera
        study(seeds=seeds, part=(int(first), int(last)), out=out)
    elif name == "infoclip_cost":
        infoclip_cost(out=out)
    elif name == "chimera_cost":
        chimera_cost(out=out)
    elif name == "objective_sweep":
        objective_sweep(out=out)
    elif name == "degradation_frames":
        degradation_frames(out=out)
    elif name == "speed":
        speed(out=out)
    elif name == "gpu":
        paper_size(out=out)
    elif name == "leaderboard":
        leaderboard(retrain=retrain, seeds=seeds, out=out)
    elif name == "infoclip_picture":
        print(f"picture: {infoclip_picture(out).resolve()}")
    else:
        write_report(name, run_speed(), out)


def data_command(
    action: Annotated[Literal["list", "download", "verify", "rebuild"], tyro.conf.Positional],
    name: Annotated[str, tyro.conf.Positional] = "collage",
    root: Path | None = None,
    sample: int = 200,
    sources: Path | None = None,
) -> None:
    """Data: what there is, fetch the real data sets, check them, rebuild Collage from its Debian packages.

    Args:
        action: list, download, verify or rebuild.
        name: collage (ships; its hashes are checked), or voc, coco_stuff, pascal_context, ade20k, ade20k_full, or one data set of `list`.
        root: folder of the real data sets; INFOCLIP_LITE_DATA, or ~/.cache/infoclip_lite/data, by default.
        sample: for verify, how many pictures of each split are read; 0 reads all.
        sources: for rebuild, a folder with the .deb files; without it they are fetched by apt-get.
    """
    folder = data_dir() / "collage"
    if action == "list":
        scenes = Collage("test")
        print(f"collage       {len(scenes.names)} classes, {len(scenes.unseen)} of them unseen nouns")
        print(f"recipes       {', '.join(list_recipes())}")
        print(f"reports       {', '.join(sorted(p.stem for p in (data_dir() / 'reports').glob('*.json')))}")
        print(f"root          {data_root(root)}\n\n{real_data.table(real_data.survey(root), problems=False)}")
    elif action == "download":
        download(name, root, progress=True)
    elif action == "verify" and name != "collage":
        findings = real_data.verify_dataset(name, root, sample=sample, progress=True)
        print(real_data.table(findings))
        if any(finding.problems for finding in findings):
            raise ValueError(f"{name} is not what it should be; see above")
    else:
        if action == "rebuild":
            rebuild(folder, sources)
        print(f"{verify(folder)} pictures in {folder}, every hash right")


def notebooks_command(
    action: Annotated[Literal["run", "check", "student"], tyro.conf.Positional],
    files: tuple[Path, ...] = (),
    out: Path = Path("coursework"),
    repository: str | None = None,
) -> None:
    """Execute the notebooks and store them with outputs, check that a new run gives the stored outputs, or write a course's versions.

    Args:
        action: run, check, or student (versions without solutions, and an instructor's key).
        files: some of them; all of notebooks/ by default.
        out: for student, the folder that gets student/ and key/.
        repository: for run, OWNER/NAME on GitHub: Colab and Binder badges and a first cell that installs the package are put in.
    """
    paths = list(files) or sorted(Path("notebooks").glob("*.ipynb"))
    if not paths:
        raise FileNotFoundError("no notebooks/*.ipynb here; run this in the project's folder or name files")
    if action == "check":
        sys.exit(check(paths))
    if action == "student":
        for path in write_coursework(paths, out):
            print(path)
        return
    for name, seconds in execute(paths, repository).items():
        print(f"{name:<48}{seconds:>7.1f} s")


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


COMMANDS: dict[str, Any] = {
    "doctor": doctor_command,
    "demo": demo,
    "pretrain": pretrain_command,
    "train": train_command,
    "evaluate": evaluate_command,
    "segment": segment_command,
    "export": export_command,
    "benchmark": benchmark_command,
    "data": data_command,
    "notebooks": notebooks_command,
}


def main() -> None:
    """Entry point of `infoclip-lite`. A user's mistake is one line on stderr and exit status 2."""
    try:
        tyro.extras.subcommand_cli_from_dict(COMMANDS, prog="infoclip-lite")
    except (ValueError, OSError, ImportError, FloatingPointError, MemoryError, torch.OutOfMemoryError) as error:
        sys.exit(_complain(error))


def _complain(error: Exception) -> int:
    print(f"infoclip-lite: {error}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
