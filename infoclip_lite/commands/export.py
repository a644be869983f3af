"""infoclip-lite export: a trained student as one ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from ..core.words import split_list
from .train import run_folder


def export_command(
    recipe: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE")],
    names: str,
    folder: Path | None = None,
    out: Path = Path("model.onnx"),
    size: int = 64,
) -> None:
    """Write a trained student with fixed words as one ONNX file.

    Args:
        recipe: name or YAML file of the training; it is run, or gone on with, if the folder holds no finished
            run of it.
        names: the words, separated by commas, synonyms by "|".
        folder: state of the run, runs/NAME/0 by default, as `train` leaves it.
        out: the file.
        size: side of the pictures in pixels.
    """
    from ..training.export import export_onnx
    from ..training.run import train

    run = train(recipe, folder=folder or run_folder(recipe))
    print(f"model: {export_onnx(run.model, split_list(names), out, size=size).resolve()}")
