"""True masks named by the frozen CLIP: every pixel is counted, ways differ in what CLIP is shown."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from infoclip_lite import DenseCLIP
from infoclip_lite.core.reports import list_reports, read_report
from infoclip_lite.datasets import Collage
from infoclip_lite.segmentors.queries import class_masks, to_grid
from infoclip_lite.studies import oracle as study
from infoclip_lite.studies.oracle import Naming, Shown, by_box, by_crop, by_patches, by_region, named, ways
from infoclip_lite.studies.rows import METRICS, SPLITS


def test_masks_that_are_named_right_are_a_perfect_score(tiny: DenseCLIP) -> None:
    data = Collage("test", 32, length=12)
    text = tiny.encode_text(data.names)
    truth = iter(range(12))

    def told(clip: DenseCLIP, shown: Shown) -> torch.Tensor:
        wanted = class_masks(data[next(truth)].mask.long()[None], len(data.names))
        return text[wanted.ids[0]]

    pixels, masks = named(tiny, data, {"told": told})["told"]
    assert all(pixels[metric]["mean"] == pytest.approx(1.0) for metric in METRICS)
    assert set(masks.values()) == {1.0}
    wrong, never = named(tiny, data, {"wrong": lambda clip, shown: text[-1:].expand(len(shown.cover), -1)})[
        "wrong"
    ]
    assert wrong["hIoU"]["mean"] == 0 and never["seen"] == never["unseen"] == 0


def test_ways_show_clip_what_they_say(tiny: DenseCLIP) -> None:
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(1, 2, 32, 32, dtype=torch.bool)
    masks[0, 0], masks[0, 1, 8:16, :16] = True, True
    tower = tiny.tower(image, keep=True)
    shown = Shown(image, masks, tower, to_grid(masks.float(), tower.grid)[0])
    with torch.no_grad():
        own = tiny.encode_image(image)[0]
        # A mask that is the whole picture is the picture, however CLIP is asked.
        asked: list[Naming] = [by_crop, by_box, partial(by_region, blocks=2)]
        for way in asked:
            assert torch.allclose(way(tiny, shown)[0], own, atol=1e-4)
        # A mask that is its box is the box; a mask with a hole is not.
        assert torch.allclose(by_crop(tiny, shown)[1], by_box(tiny, shown)[1], atol=1e-5)
        masks[0, 1, 10:12, 4:8] = False
        assert not torch.allclose(by_crop(tiny, shown)[1], by_box(tiny, shown)[1], atol=1e-3)
        dense = tiny.encode_dense(image, "value")[0]
        assert torch.allclose(
            by_patches(tiny, shown)[0] @ dense.mean((1, 2)), dense.mean((1, 2)).norm(), atol=1e-4
        )


def test_the_report_has_every_way_on_every_split(
    tiny: DenseCLIP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "load_clip", lambda: tiny)
    monkeypatch.setattr(study, "_scenes", lambda split, length: Collage(split, 32, length=length))
    report = study.oracle(scenes=12, tuning_scenes=12, out=tmp_path / "oracle.json")
    assert set(report["rows"]) == set(report["named"]) == set(ways(len(tiny.blocks)))
    assert all(set(row) == {"val", *SPLITS} for row in report["rows"].values())


@pytest.mark.skipif("oracle" not in list_reports(), reason="true masks were not named yet")
def test_a_cls_that_is_kept_to_its_region_from_early_on_names_unseen_nouns_better() -> None:
    """Why Split Matching's regions are not read off the last block alone."""
    named_right = read_report("oracle")["named"]
    last, earlier = (named_right[f"region's CLS, last {count}"]["val"] for count in ("block", "4 blocks"))
    assert earlier["unseen"] > last["unseen"] and earlier["seen"] > last["seen"]
