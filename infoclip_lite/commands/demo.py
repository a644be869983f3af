"""infoclip-lite demo: the main job in minutes."""

from __future__ import annotations

from pathlib import Path


def demo_command(
    out: Path = Path("runs/demo.png"),
    recipe: str = "mini/demo",
    scenes: int = 60,
) -> None:
    """Zero-shot segmentation of a scene, a short plain fine-tuning, a table before and after, and a picture.

    Args:
        out: where the picture is written.
        recipe: of the fine-tuning.
        scenes: test scenes that the table is measured on.
    """
    from .before_after import before_after

    print("collage-mini learnt words from captions; it never saw which pixels they name. All words compete:")
    found = before_after(recipe, scenes=scenes)
    print(found.table())
    print(f"\npicture: {found.save(out).resolve()}")
