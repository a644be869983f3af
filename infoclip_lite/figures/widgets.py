"""Every explorer. A widget computes nothing: its values go to `compute_*`, the result to `plot_*`."""

from __future__ import annotations

import html
import io
from collections.abc import Callable
from functools import partial
from typing import Any, get_args

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import traitlets

from ..clip import DenseCLIP, load_clip
from ..core.reports import read_report
from ..objectives.chimera import Schedule
from ..studies.objective_sweep import ALPHAS, AXES, COMPRESSION, TRANSFER
from .estimators import ESTIMATORS, compute_information, describe_information, plot_information
from .information import ORDERS, SAMPLES, WIDTHS, compute_renyi, plot_renyi
from .objective_map import compute_objective, describe_objective, plot_objective
from .playback import compute_frame, describe_frame, plot_frame
from .selection import compute_selection, plot_selection
from .similarity import SimilarityView, compute_similarity, describe_similarity, plot_similarity


class Explorer:
    """Controls above a figure that is drawn anew whenever one is let go.

    What goes wrong is said below the figure, and the last figure stays.

    Attributes:
        controls: the controls by name; set `.value` to move one.
        view: what the last computation gave.
        message: HTML under the figure: a sentence on what it shows, or the error.
        box: the widget to display.
    """

    def __init__(
        self,
        compute: Callable[..., Any],
        plot: Callable[[Any], Any],
        controls: dict[str, Any],
        describe: Callable[[Any], str] | None = None,
    ) -> None:
        self.controls, self.view, self.message = controls, None, widgets.HTML()
        self._compute, self._plot, self._describe = compute, plot, describe
        self.picture = widgets.Image(format="png")
        for control in controls.values():
            control.observe(self._react, names="value")
        self.box = widgets.VBox([*controls.values(), self.picture, self.message])
        self._update()

    def _react(self, _change: Any = None) -> None:
        try:
            self._update()
        # A callback has no cell to print a traceback in: whatever went wrong is said where the reader looks.
        except Exception as error:
            self.message.value = f'<b role="alert">{html.escape(f"{type(error).__name__}: {error}")}</b>'

    def _update(self) -> None:
        self.view = self._compute(**{name: control.value for name, control in self.controls.items()})
        figure, buffer = self._plot(self.view), io.BytesIO()
        figure.savefig(buffer, format="png", bbox_inches="tight")
        plt.close(figure)
        self.picture.value = buffer.getvalue()
        said = self._describe(self.view) if self._describe else ""
        self.message.value = html.escape(said)

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        bundle = dict(self.box._repr_mimebundle_(**kwargs) or {})
        bundle["text/plain"] = f"Sliders: {', '.join(self.controls)}. Run this cell to move them."
        return bundle


class PatchGrid(widgets.GridBox):
    """A picture as a mosaic of buttons, one a patch; a click puts (row, column) into `value`."""

    value = traitlets.Tuple(traitlets.Int(), traitlets.Int())

    def __init__(self, side: int, value: tuple[int, int]) -> None:
        cells = [(i // side, i % side) for i in range(side * side)]
        buttons = []
        for row, column in cells:
            button = widgets.Button(
                tooltip=f"row {row}, column {column}",
                layout={"width": "24px", "height": "24px", "margin": "0"},
            )
            button.on_click(partial(self._click, (row, column)))
            buttons.append(button)
        super().__init__(buttons, layout={"grid_template_columns": f"repeat({side}, 25px)"})
        self.side, self.value = side, value

    def _click(self, cell: tuple[int, int], _button: Any) -> None:
        self.value = cell

    def paint(self, image: np.ndarray) -> None:
        """Colour each button as its patch of the (H, W, 3) picture in [0, 1] is on average."""
        patch = image.shape[0] // self.side
        means = image.reshape(self.side, patch, self.side, patch, 3).mean((1, 3)).reshape(-1, 3)
        for button, colour in zip(self.children, means, strict=True):
            button.style.button_color = "#" + bytes(int(255 * c) for c in colour).hex()


def explore_similarity(clip: DenseCLIP | None = None) -> Explorer:
    """Click a patch or type a word: its similarity map under every read-out.

    The static twin is plot_similarity(compute_similarity(clip)).

    Args:
        clip: the model; None takes the one that ships.
    """
    clip = load_clip("collage-mini") if clip is None else clip
    grid = PatchGrid(64 // clip.patch_size, (3, 3))
    word = widgets.Text(description="word", placeholder="instead of a patch", continuous_update=False)
    grid.observe(lambda _change: setattr(word, "value", ""), names="value")  # who clicks asks about the patch
    scene = widgets.IntSlider(value=0, min=0, max=99, description="scene", continuous_update=False)

    def plot(view: SimilarityView) -> Any:
        grid.paint(view.image.permute(1, 2, 0).numpy())
        return plot_similarity(view)

    return Explorer(
        partial(compute_similarity, clip),
        plot,
        {"scene": scene, "patch": grid, "word": word},
        describe_similarity,
    )


def explore_training() -> Explorer:
    """Plain fine-tuning as a slider over its steps; static twin plot_frame(compute_frame())."""
    steps = [frame["step"] for frame in read_report("degradation_frames")["frames"]]
    return Explorer(compute_frame, plot_frame, {"step": _choice("step", steps, steps[-1])}, describe_frame)


def explore_objective() -> Explorer:
    """InfoCLIP's settings as a map (a sweep, one seed); static twin plot_objective(compute_objective())."""
    controls = {
        "axis": _choice("axis", list(AXES), "pixel"),
        "alpha": _choice("alpha", sorted(ALPHAS), 2.0),
        "lambda_1": _choice("lambda_1", list(COMPRESSION), 1.0),
        "lambda_2": _choice("lambda_2", list(TRANSFER), 1.0),
    }
    return Explorer(compute_objective, plot_objective, controls, describe_objective)


def explore_selection(clip: DenseCLIP | None = None) -> Explorer:
    """Sliders on the training's progress, the scene, the schedule of K and the read-out (2506.22032, [I]).

    The static twin is plot_selection(compute_selection(clip)).

    Args:
        clip: the frozen teacher; None takes the one that ships.
    """
    clip = load_clip("collage-mini") if clip is None else clip
    read_outs = [("averaged", clip.read_outs), *((name, (name,)) for name in clip.read_outs)]
    controls: dict[str, widgets.Widget] = {
        "progress": _slider("progress", 0.0, 0.0, 1.0, 0.05),
        "scene": widgets.IntSlider(value=0, min=0, max=99, description="scene", continuous_update=False),
        "schedule": _choice("schedule", list(get_args(Schedule)), "cosine"),
        "read_outs": _choice("read-outs", read_outs, clip.read_outs),
    }
    return Explorer(partial(compute_selection, clip), plot_selection, controls)


def explore_information() -> Explorer:
    """Every estimator against the truth; width and alpha are the matrix-based one's.

    The static twin is plot_information(compute_information()).
    """
    controls = {
        "estimator": widgets.Dropdown(options=list(ESTIMATORS), value="KSG", description="estimator"),
        "n": _choice("n", [10, 30, 100, 300], 100),
        "dim": _choice("dimension", [1, 2, 5, 10], 1),
        "rho": _slider("correlation", 0.8, 0.0, 0.95, 0.05),
        "width": _choice("width", [0.1, 0.3, 1.0, 3.0], 1.0),
        "alpha": _choice("alpha", [1.01, 1.5, 2.0, 3.0], 2.0),
    }
    return Explorer(compute_information, plot_information, controls, describe_information)


def explore_renyi() -> Explorer:
    """Sliders on n, correlation, kernel width and alpha; the static twin is plot_renyi(compute_renyi())."""
    controls = {
        "n": _choice("n", list(SAMPLES), 100),
        "rho": _slider("correlation", 0.75, 0.0, 0.99, 0.01),
        "width": _choice("width", list(WIDTHS), 1.0),
        "alpha": _choice("alpha", list(ORDERS), 2.0),
    }
    return Explorer(compute_renyi, plot_renyi, controls)


def _slider(text: str, value: float, low: float, high: float, step: float) -> widgets.FloatSlider:
    # Every control waits until it is let go: a figure takes longer to draw than a slider to move.
    later = {"continuous_update": False}
    return widgets.FloatSlider(value=value, min=low, max=high, step=step, description=text, **later)


def _choice(text: str, options: list[Any], value: Any) -> widgets.SelectionSlider:
    return widgets.SelectionSlider(options=options, value=value, description=text, continuous_update=False)
