"""Explorers: a moved control computes anew, an error is shown, a click on a patch asks about it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from infoclip_lite import DenseCLIP
from infoclip_lite.clip.readouts import READ_OUTS
from infoclip_lite.figures.similarity import compute_similarity, describe_similarity, plot_similarity
from infoclip_lite.figures.widgets import explore_similarity
from infoclip_lite.studies.objective_sweep import points, report
from infoclip_lite.studies.runs import run_path


def test_click_on_a_patch_asks_about_it_and_clears_the_word(tiny: DenseCLIP) -> None:
    explorer = explore_similarity(tiny)
    first = explorer.picture.value
    explorer.controls["word"].value = "sheep"
    assert explorer.view.word == "sheep" and explorer.view.patch is None and explorer.picture.value != first
    grid = explorer.controls["patch"]
    grid.children[2 * grid.side + 5].click()
    assert grid.value == (2, 5) and explorer.controls["word"].value == ""
    assert explorer.view.patch == (
        2,
        5,
    ) and "row 2, column 5" in explorer.message.value == describe_similarity(explorer.view)


def test_buttons_show_the_scene(tiny: DenseCLIP) -> None:
    explorer = explore_similarity(tiny)
    colours = [button.style.button_color for button in explorer.controls["patch"].children]
    mean = explorer.view.image[:, 8:16, 16:24].mean((1, 2))
    assert colours[8 + 2] == "#" + bytes(int(255 * float(c)) for c in mean).hex()
    explorer.controls["scene"].value = 5
    assert colours != [button.style.button_color for button in explorer.controls["patch"].children]


def test_an_error_is_shown_and_goes_away(tiny: DenseCLIP) -> None:
    explorer = explore_similarity(tiny)
    before = explorer.picture.value
    explorer.controls["word"].value = "<3"
    assert (
        "ValueError" in explorer.message.value
        and "&lt;3" in explorer.message.value
        and explorer.picture.value == before
    )
    explorer.controls["word"].value = "sheep"
    assert "ValueError" not in explorer.message.value


def test_maps_are_cosines_with_the_query(tiny: DenseCLIP) -> None:
    view = compute_similarity(tiny, 1, (2, 5))
    assert list(view.maps) == list(READ_OUTS)
    for name, values in view.maps.items():
        assert values[2, 5] == pytest.approx(1, abs=1e-5) and values.max() <= 1 + 1e-5, name
    word = compute_similarity(tiny, 1, word="sheep")
    dense = tiny.encode_dense(view.image[None], "sclip")[0]
    assert torch.allclose(
        word.maps["sclip"], torch.einsum("dhw,d->hw", dense, tiny.encode_text(["sheep"])[0]), atol=1e-5
    )
    assert [axis.get_title().split("\n")[0] for axis in plot_similarity(word).axes][: len(READ_OUTS) + 1] == [
        '"sheep"',
        *READ_OUTS,
    ]
    with pytest.raises(ValueError, match="from 0 to 7"):
        compute_similarity(tiny, 0, (8, 0))


def test_sweep_reports_what_is_finished_and_needs_the_baseline(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="plain"):
        report(folder=tmp_path, out=tmp_path / "r.json")
    path = run_path(tmp_path, "plain", 200)
    path.parent.mkdir(parents=True, exist_ok=True)
    scores = {"mIoU_seen": 0.5, "mIoU_unseen": 0.25, "hIoU": 1 / 3}
    path.write_text(json.dumps({"recipe": asdict(points()["plain"].load(200)), "val": scores}))
    content = report(folder=tmp_path, out=tmp_path / "r.json")
    assert content["points"] == {"plain": {"mIoU_seen": 0.5, "mIoU_unseen": 0.25, "hIoU": 0.3333}}
    assert content["missing"] == list(points())[1:] and len(points()) == 100
