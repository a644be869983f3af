"""Sliders on Chimera-Seg's choice of positions; see `information_widgets` for how explorers work."""

from __future__ import annotations

from functools import partial
from typing import get_args

import ipywidgets as widgets

from ..clip import DenseCLIP, load_clip
from ..objectives.chimera import Schedule
from .chimera_plots import compute_selection, plot_selection
from .information_widgets import Explorer


def explore_selection(clip: DenseCLIP | None = None) -> Explorer:
    """Sliders on the training's progress, the scene, the schedule of K and the read-out (2506.22032, our reading [I]).

    The static twin is plot_selection(compute_selection(clip)).

    Args:
        clip: the frozen teacher; None takes the one that ships.
    """
    clip = load_clip("collage-mini") if clip is None else clip
    read_outs = [("averaged", clip.read_out), *((name, (name,)) for name in clip.read_out)]
    controls: dict[str, widgets.Widget] = {
        "progress": widgets.FloatSlider(value=0.0, min=0.0, max=1.0, step=0.05, description="progress", continuous_update=False),
        "scene": widgets.IntSlider(value=0, min=0, max=99, description="scene", continuous_update=False),
        "schedule": widgets.SelectionSlider(options=get_args(Schedule), value="cosine", description="schedule", continuous_update=False),
        "read_out": widgets.SelectionSlider(options=read_outs, value=clip.read_out, description="read-out", continuous_update=False),
    }
    return Explorer(partial(compute_selection, clip), plot_selection, controls)
