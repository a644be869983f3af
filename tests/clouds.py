"""A small pack of point clouds for tests: random furniture, three cameras, two scenes a split."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from infoclip_lite.datasets.points import SPLITS, Points, PointScene, project
from infoclip_lite.datasets.points.building.frames import intrinsics
from infoclip_lite.datasets.points.building.layout import Viewer, pose_of

SIDE, COUNT, VIEWS = 32, 40, 3
NOUNS = {"seen": ["chair", "bed"], "dev-unseen": ["stool"], "unseen": ["desk"]}
STUFF = ["wood"]


def write_pack(folder: Path, scenes: int = 4, seed: int = 0) -> Path:
    """A pack that `Points` reads; its manifest credits nobody."""
    rng = np.random.default_rng(seed)
    poses = np.stack([pose_of(Viewer(120.0 * k, 30.0, 3.0)) for k in range(VIEWS)])
    for split in SPLITS:
        points = (rng.random((scenes, COUNT, 3)) * [2, 1, 2] - [1, 0, 1]).astype(np.float16)
        arrays = {
            "points": points,
            "colours": rng.integers(0, 256, (scenes, COUNT, 3), dtype=np.uint8),
            "labels": rng.integers(0, 5, (scenes, COUNT), dtype=np.uint8),
            "seen_by": rng.integers(1, 2**VIEWS, (scenes, COUNT), dtype=np.uint8),
            "poses": np.repeat(poses[None], scenes, 0).astype(np.float32),
        }
        np.savez_compressed(folder / f"{split}.npz", **arrays)
        sheet = rng.integers(0, 256, (scenes * SIDE, VIEWS * SIDE, 3), dtype=np.uint8)
        Image.fromarray(sheet).save(folder / f"{split}.webp", "WEBP", lossless=True)
    manifest = {
        "nouns": NOUNS,
        "stuff": STUFF,
        "size": SIDE,
        "intrinsics": intrinsics(SIDE).tolist(),
        "files": {"seed": str(seed)},
        "works": {"here:chair": {"noun": "chair", "licence": "CC0-1.0", "author": "nobody"}},
        "scenes": {split: [[0]] * scenes for split in SPLITS},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


class Changed(Points):
    """The same scenes, each with parts replaced: a data set of one's own."""

    def __init__(self, base: Points, **parts: object) -> None:
        self.__dict__.update(base.__dict__)
        self.parts = parts

    def __getitem__(self, index: int) -> PointScene:
        scene = super().__getitem__(index)
        changed = {key: part(scene) if callable(part) else part for key, part in self.parts.items()}
        return scene._replace(**changed)


def seen_from(points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels and depth of points in the three cameras of the small pack."""
    poses = torch.from_numpy(np.stack([pose_of(Viewer(120.0 * k, 30.0, 3.0)) for k in range(VIEWS)])).float()
    return project(points, torch.from_numpy(intrinsics(SIDE)).float(), poses)
