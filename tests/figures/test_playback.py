"""The figure of a training: its maps have a key of words."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest

from infoclip_lite.figures.playback import compute_frame, plot_frame


@pytest.mark.parametrize("step", [0, 200])
def test_the_maps_have_a_key_of_the_words_that_they_show(step: int) -> None:
    view = compute_frame(step)
    figure = plot_frame(view, height=0.8)
    key = figure.subfigs[1].legends[0]
    named = {
        text.get_text(): patch.get_facecolor()[:3]
        for text, patch in zip(key.texts, key.get_patches(), strict=True)
    }
    largest = np.bincount(view.labels[0].ravel()).argmax()
    word = view.names[largest]
    # The colour of the word in the key is that of its pixels.
    drawn = figure.subfigs[0].axes[2].images[0].get_array()[view.labels[0] == largest]
    assert (drawn == drawn[0]).all()
    assert np.abs(np.array(named[word]) * 255 - np.asarray(drawn[0])).max() < 1
    plt.close(figure)


def test_the_key_hides_no_picture() -> None:
    figure = plot_frame(compute_frame(200), height=0.8)
    figure.canvas.draw()
    for key in (each.get_window_extent() for each in figure.subfigs[1].legends):
        assert not any(key.overlaps(axis.get_window_extent()) for axis in figure.axes)
        assert key.x0 >= 0 and key.x1 <= figure.bbox.x1


def test_a_scene_is_as_high_as_was_asked() -> None:
    """Thumbnails of which nothing can be seen tell nothing."""
    figure = plot_frame(compute_frame(200), height=0.9)
    figure.canvas.draw()
    for axis in figure.subfigs[0].axes:
        assert axis.images[0].get_window_extent().height >= 0.75 * 0.9 * figure.dpi
    plt.close(figure)
