"""infoclip-lite train: what a recipe says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import tyro

# What is printed of each evaluation; the log in the folder has all of it.
_SHOWN = ("step", "mIoU_seen", "mIoU_unseen", "mIoU_stuff", "hIoU", "image_to_text")


def train_command(
    recipe: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE")],
    folder: Path | None = None,
    seed: int | None = None,
    root: Path | None = None,
    dry_run: bool = False,
    noise: bool = False,
    tensorboard: bool = False,
    save_every: int = 200,
) -> None:
    """Train what a recipe says; under `torchrun` or `accelerate launch` on several GPUs.

    Args:
        recipe: name or YAML file; `infoclip-lite data list` shows those that ship.
        folder: state of the run, runs/NAME/SEED by default; the same command goes on from it.
        seed: replaces the recipe's.
        root: folder of the data sets; by default the recipe's.
        dry_run: one of everything only, and an estimate of hours, memory and disk, and whether steps wait for
            pictures.
        noise: of a dry run: noise and random weights of the recipe's size, where its data or weights are not
            here.
        tensorboard: write losses and metrics into the folder's tensorboard/ too.
        save_every: steps between two states; what a killed run loses at most.
    """
    from ..training.dry_run import dry_run as estimate
    from ..training.points import train_points
    from ..training.recipe import PointsRecipe, load_recipe
    from ..training.run import train

    if save_every < 1:
        raise ValueError(f"save_every is {save_every}; expected 1 step or more")
    if noise and not dry_run:
        raise ValueError("got --noise without --dry-run; expected both: nothing can be learnt from noise")
    changes, folder = _changes(seed, root), folder or run_folder(recipe, seed or 0)
    if dry_run:
        print(estimate(recipe, save_every=save_every, folder=folder, noise=noise, **changes))
        return
    if isinstance(load_recipe(recipe, **changes), PointsRecipe):
        train_points(recipe, folder=folder, tensorboard=tensorboard, save_every=save_every, **changes)
        print(f"run: {folder.resolve()}")
        return
    run = train(recipe, folder=folder, tensorboard=tensorboard, save_every=save_every, **changes)
    for record in run.evaluations():
        print("  ".join(f"{key} {record[key]:.3f}" for key in _SHOWN if key in record))
    print(f"run: {folder.resolve()}")


def run_folder(recipe: str, seed: int = 0) -> Path:
    """Where the state of a recipe's run is kept if nobody says otherwise: runs/NAME/SEED.

    >>> run_folder("paper/infoclip-vitb16").as_posix()
    'runs/infoclip-vitb16/0'
    """
    return Path("runs") / Path(recipe).stem / str(seed)


def _changes(seed: int | None, root: Path | None) -> dict[str, Any]:
    """What the options change in the recipe; options that were not given change nothing."""
    changes: dict[str, Any] = {}
    if seed is not None:
        changes["seed"] = seed
    if root is not None:
        changes["data"] = {"root": str(root)}  # a section is changed key by key
    return changes
