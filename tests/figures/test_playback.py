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
    key = figure.subfigs[0].legends[0]
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
    top = figure.subfigs[0]
    key = top.legends[0].get_window_extent()
    assert not any(key.overlaps(axis.get_window_extent()) for axis in figure.axes)
    assert key.x0 >= 0 and key.x1 <= figure.bbox.x1
    plt.close(figure)
