"""Sliders on information. A widget computes nothing: it hands its values to `compute_*` and the result to `plot_*`."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import ipywidgets as widgets
import matplotlib.pyplot as plt

from .information_plots import compute_estimates, compute_renyi, plot_estimates, plot_renyi


class Explorer:
    """Sliders above a figure that is drawn anew whenever one is let go.

    Attributes:
        controls: the sliders by name; set `.value` to move one.
        view: what the last computation gave.
        box: the widget to display.
    """

    def __init__(self, compute: Callable[..., Any], plot: Callable[[Any], Any], controls: dict[str, widgets.Widget]) -> None:
        self.controls, self.view = controls, None
        self._compute, self._plot, self._picture = compute, plot, widgets.Image(format="png")
        for control in controls.values():
            control.observe(self._update, names="value")
        self.box = widgets.VBox([*controls.values(), self._picture])
        self._update()

    def _update(self, _change: Any = None) -> None:
        self.view = self._compute(**{name: control.value for name, control in self.controls.items()})
        figure, buffer = self._plot(self.view), io.BytesIO()
        figure.savefig(buffer, format="png", bbox_inches="tight")
        plt.close(figure)
        self._picture.value = buffer.getvalue()

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        bundle = dict(self.box._repr_mimebundle_(**kwargs) or {})
        bundle["text/plain"] = f"Sliders: {', '.join(self.controls)}. Run this cell to move them."
        return bundle


def explore_estimates() -> Explorer:
    """Sliders on n, correlation and InfoNCE's batch; the static twin is plot_estimates(compute_estimates())."""
    controls = {
        "n": _choice("n", [50, 200, 500, 2000], 500),
        "rho": _slider("correlation", 0.8, 0.0, 0.99, 0.01),
        "batch": _choice("batch", [2, 4, 16, 50], 16),
    }
    return Explorer(compute_estimates, plot_estimates, controls)


def explore_renyi() -> Explorer:
    """Sliders on n, correlation, kernel width and alpha; the static twin is plot_renyi(compute_renyi())."""
    controls = {
        "n": _choice("n", [4, 16, 50, 100, 200], 100),
        "rho": _slider("correlation", 0.75, 0.0, 0.99, 0.01),
        "width": _choice("width", [0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0], 1.0),
        "alpha": _choice("alpha", [0.5, 1.0, 1.5, 2.0, 3.0, 5.0], 2.0),
    }
    return Explorer(compute_renyi, plot_renyi, controls)


def _slider(text: str, value: float, low: float, high: float, step: float) -> widgets.FloatSlider:
    return widgets.FloatSlider(value=value, min=low, max=high, step=step, description=text, continuous_update=False)


def _choice(text: str, options: list[Any], value: Any) -> widgets.SelectionSlider:
    return widgets.SelectionSlider(options=options, value=value, description=text, continuous_update=False)
