"""The yardstick of pixel labels: learnt cell by cell, asked on validation scenes alone."""

from __future__ import annotations

from pathlib import Path

import torch

from infoclip_lite.studies.ceiling import _trained, ceiling


def test_a_cell_gets_the_shares_of_its_pixels() -> None:
    """Two scenes of two cells: one is of class 0, the other half of class 1 and half of class 2."""
    features = torch.zeros(2, 2, 1, 2)
    features[:, 0, :, 0] = features[:, 1, :, 1] = 1
    labels = torch.zeros(2, 4, 8, dtype=torch.long)
    labels[:, :2, 4:], labels[:, 2:, 4:] = 1, 2
    chances = _trained(features, labels, 3, steps=300, lr=0.05)(features)[0].softmax(0)
    left = chances[:, 0, 0]
    assert left[0] > 3 * left[1:].max(), "a cell that shows one class alone"
    right = chances[:, 0, 1]
    assert right[1:].min() > 2 * right[0] and right[1:].max() < 2 * right[1:].min()


def test_the_report_is_of_validation_scenes(tmp_path: Path) -> None:
    report = ceiling(scenes=60, steps=4, asked=8, out=tmp_path / "ceiling.json")
    for label in ("linear", "collage-mini"):
        assert {"mIoU_seen", "mIoU_unseen", "mIoU_stuff"} <= report[label].keys()
    assert report["asked"] == 8 and (tmp_path / "ceiling.json").exists()
