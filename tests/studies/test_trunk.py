"""Class means of frozen features: what the report says of the stem and of instances."""

from __future__ import annotations

import torch

from infoclip_lite.core.reports import read_report
from infoclip_lite.datasets.collage import segmentation_nouns
from infoclip_lite.datasets.collage.words import instances
from infoclip_lite.studies.trunk import _covered, _Cutout, _pasted, _top1

NOTHING = torch.zeros(1)


def cutouts(*of: tuple[str, int]) -> list[_Cutout]:
    return [_Cutout(noun, instance, NOTHING, NOTHING) for noun, instance in of]


def test_a_cut_out_is_its_nouns_if_that_mean_is_nearest() -> None:
    known = cutouts(("cow", 0), ("cow", 1), ("dog", 0), ("dog", 1))
    learnt = torch.tensor([[1.0, 0.1], [0.9, 0.0], [0.0, 1.0], [0.1, 0.9]])
    fresh = cutouts(("cow", 0), ("cow", 1), ("dog", 0))
    asked = torch.tensor([[0.8, 0.1], [0.1, 0.8], [0.0, 0.7]])
    assert _top1(known, learnt, fresh, asked) == (0.5 + 1.0) / 2, "a mean over nouns, not over cut-outs"


def test_only_the_instances_that_are_allowed_are_learnt_from() -> None:
    known = cutouts(("cow", 0), ("cow", 1), ("dog", 0))
    learnt = torch.tensor([[1.0, 0.0], [-1.0, 0.2], [0.0, 1.0]])
    fresh, asked = cutouts(("cow", 0)), torch.tensor([[1.0, 0.1]])
    assert _top1(known, learnt, fresh, asked, {"cow": {0}, "dog": {0}}) == 1
    assert _top1(known, learnt, fresh, asked, {"cow": {1}, "dog": {0}}) == 0


def test_means_are_over_what_the_cut_out_covers() -> None:
    maps = torch.arange(16.0).view(1, 1, 4, 4)
    covers = torch.zeros(1, 8, 8)
    covers[:, :2, :4] = 1
    assert _covered(maps, covers).item() == 0.5, "the first two cells of the first row"


def test_a_cut_out_lies_on_grey() -> None:
    pixels, cover = _pasted(instances()["chair"][0].files[0])
    assert pixels.shape == (3, 96, 96) and 0.02 < (cover > 0.5).float().mean() < 0.99
    torch.testing.assert_close(pixels[:, cover == 0], torch.full_like(pixels[:, cover == 0], 128 / 255))


def test_the_report_is_of_the_pack_that_ships() -> None:
    report = read_report("trunk")
    assert report["nouns"] == len(segmentation_nouns())
    tested = [each for noun in segmentation_nouns() for each in instances()[noun] if each.side == "test"]
    assert report["cutouts"] == sum(len(each.files) for each in tested)
    assert report["trunk"]["joined"] > report["trunk"]["pixels, no stem"]
