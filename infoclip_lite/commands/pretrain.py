"""infoclip-lite pretrain: collage-mini from scratch."""

from __future__ import annotations

import json
from pathlib import Path


def pretrain_command(
    recipe: str = "mini/pretrain",
    out: Path = Path("runs/pretrain/clip.safetensors"),
    folder: Path = Path("runs/pretrain"),
) -> None:
    """Pretrain a CLIP on Collage's captions, score it, write the checkpoint with its card.

    Args:
        recipe: name or file.
        out: the checkpoint.
        folder: state of the run; the same command goes on from it. Beside it a folder `pool` of 2 GB is kept.
    """
    from ..clip import read_card
    from ..studies.card import pretrain

    pretrain(recipe, out=out, folder=folder)
    print(json.dumps(read_card(out)["retrieval"], indent=1))
    print(f"checkpoint: {out.resolve()}")
