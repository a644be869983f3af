"""Explorer of the kept positions: the objective's numbers, computed anew and drawn as they are."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from infoclip_lite import DenseCLIP
from infoclip_lite.datasets import Collage
from infoclip_lite.datasets.collage import stuff
from infoclip_lite.figures.selection import compute_selection, plot_selection
from infoclip_lite.figures.widgets import explore_selection
from infoclip_lite.objectives import positions_kept


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    plt.close("all")


def test_similarity_is_the_cosine_of_cls_and_the_averaged_read_outs(mini: DenseCLIP) -> None:
    view = compute_selection(mini, 3)
    image = Collage("val", size=64)[3].image[None]
    both = sum(mini.encode_dense(image, name) for name in mini.read_outs)
    wanted = F.cosine_similarity(both, mini.encode_image(image)[..., None, None])[0]
    assert torch.equal(view.image, image[0]) and torch.allclose(view.similarity, wanted, atol=1e-5)
    alone = compute_selection(mini, 3, read_outs=["sclip"]).similarity
    assert torch.allclose(
        alone,
        F.cosine_similarity(mini.encode_dense(image, "sclip"), mini.encode_image(image)[..., None, None])[0],
        atol=1e-5,
    )


@pytest.mark.parametrize("schedule", ["cosine", "linear", "step", "constant"])
@pytest.mark.parametrize("progress", [0.0, 0.3, 1.0])
def test_the_kept_positions_are_the_most_similar(tiny: DenseCLIP, schedule: str, progress: float) -> None:
    view = compute_selection(tiny, 1, progress, schedule=schedule, smallest=5, read_outs=["value"])
    assert view.count == positions_kept(progress, 64, 5, schedule) == int(view.kept.sum())
    left_out = view.similarity[~view.kept]
    assert len(left_out) == 64 - view.count
    assert view.count == 64 or view.similarity[view.kept].min() >= left_out.max()


def test_objects_are_counted_by_pixels_of_nouns(tiny: DenseCLIP) -> None:
    scenes = Collage("val", size=64)
    nouns = np.isin(scenes[7].mask.numpy(), [i for i, name in enumerate(scenes.names) if name not in stuff()])
    view = compute_selection(tiny, 7, 1.0, smallest=4)
    assert 0 < view.chance == pytest.approx(nouns.mean()) and np.array_equal(view.outline.numpy(), nouns)
    for row in range(8):
        for column in range(8):
            block = nouns[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
            assert view.objects[row, column].item() == pytest.approx(block.mean())
    full = np.kron(view.kept.numpy(), np.ones((8, 8), bool))
    assert view.on_objects == pytest.approx(nouns[full].mean())
    everything = compute_selection(tiny, 7, 0.0)
    assert everything.kept.all() and everything.on_objects == pytest.approx(everything.chance)


@pytest.mark.parametrize("size", [48, 96])
def test_other_sizes_have_other_grids(tiny: DenseCLIP, size: int) -> None:
    view = compute_selection(tiny, size=size)
    assert view.kept.shape == view.similarity.shape == view.objects.shape == (size // 8, size // 8)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"size": 60}, "multiple of 8"),
        ({"read_outs": ()}, "at least one"),
        ({"read_outs": ["sharp"]}, "sharp"),
        ({"schedule": "sudden"}, "sudden"),
        ({"progress": 1.5}, "progress"),
        ({"smallest": 65}, "65"),
    ],
)
def test_bad_input_is_refused_in_words(tiny: DenseCLIP, options: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        compute_selection(tiny, **options)
    with pytest.raises(IndexError, match="scene"):
        compute_selection(tiny, 10**6)


def test_figure_shows_scene_similarity_and_a_panel_each_view(tiny: DenseCLIP) -> None:
    views = [compute_selection(tiny, 7, progress) for progress in (0.0, 0.5, 1.0)]
    figure = plot_selection(*views)
    panels = [axis for axis in figure.axes if axis.get_title()]
    titles = [axis.get_title() for axis in panels]
    assert titles[0].startswith("scene") and "CLS" in titles[1]
    assert [title.split("\n")[0] for title in titles[2:]] == [
        "progress 0: K = 64",
        "progress 0.5: K = 40",
        "progress 1: K = 16",
    ]
    assert not any(axis.axison for axis in panels) and "cosine" in [axis.get_ylabel() for axis in figure.axes]
    drawn = np.asarray(panels[4].images[0].get_array())
    kept = np.kron(views[2].kept.numpy(), np.ones((8, 8), bool))
    picture = views[2].image.permute(1, 2, 0).numpy()
    assert np.allclose(drawn[kept], picture[kept]), "kept patches are shown as they are"
    assert np.allclose(np.ptp(drawn[~kept], axis=-1), 0) and drawn[~kept].min() >= 0.75, (
        "the others in light grey"
    )
    with pytest.raises(ValueError, match="no view"):
        plot_selection()


def test_moving_a_slider_computes_anew(tiny: DenseCLIP) -> None:
    explorer = explore_selection(tiny)
    assert set(explorer.controls) == {"progress", "scene", "schedule", "read_outs"}
    assert explorer.view.count == 64
    explorer.controls["progress"].value = 1.0
    assert explorer.view.count == 16 and explorer.view.progress == 1.0
    explorer.controls["schedule"].value = "constant"
    assert explorer.view.count == 64
    before = explorer.view
    explorer.controls["scene"].value = 7
    assert not torch.equal(explorer.view.image, before.image)
    assert all(not control.continuous_update for control in explorer.controls.values())


def test_read_outs_can_be_chosen_and_the_default_is_the_twin(mini: DenseCLIP) -> None:
    explorer = explore_selection()
    assert torch.allclose(explorer.view.similarity, compute_selection(mini).similarity, atol=1e-5)
    one = mini.read_outs[-1]
    explorer.controls["read_outs"].value = (one,)
    alone = compute_selection(mini, read_outs=[one]).similarity
    assert torch.allclose(explorer.view.similarity, alone, atol=1e-5)
    assert not torch.allclose(alone, compute_selection(mini).similarity, atol=1e-3)
