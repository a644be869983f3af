"""The explorer of Gram matrices: samples for `compute_renyi`, which the page computes itself."""

from __future__ import annotations

import torch

from infoclip_lite.core.reports import JsonObject
from infoclip_lite.figures.information import ORDERS, SAMPLES, WIDTHS
from infoclip_lite.information.tasks import get_task

DIGITS = 6  # of samples: the narrowest kernel tells apart what differs by hundredths


def renyi() -> JsonObject:
    """The notebook's samples, sorted by x, and the positions of the page's controls.

    y at a correlation rho is rho x + sqrt(1 - rho^2) noise, as the task draws it.
    """
    return {
        "controls": {
            "n": list(SAMPLES),
            "rho": [step / 100 for step in range(100)],
            "width": list(WIDTHS),
            "alpha": list(ORDERS),
        },
        "start": {"n": 100, "rho": 0.75, "width": 1.0, "alpha": 2.0},
        "samples": {str(n): _pairs(n) for n in SAMPLES},
    }


def _pairs(n: int) -> JsonObject:
    # Uncorrelated, y is the noise itself.
    x, noise = (z[:, 0] for z in get_task("normal", rho=0.0).sample(n, torch.Generator().manual_seed(0)))
    order = x.argsort()
    sorted_pairs = {"x": x[order], "noise": noise[order]}
    return {name: [round(value, DIGITS) for value in z.tolist()] for name, z in sorted_pairs.items()}
