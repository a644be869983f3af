"""Explorers of reports that ship: a training's frames, the objective's map, the leaderboard."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from credits import credits_table

from infoclip_lite.core.colours import UNLABELLED, word_colours
from infoclip_lite.core.reports import JsonObject, read_report
from infoclip_lite.core.statistics import Score, difference
from infoclip_lite.figures.objective_map import MEASURES, compute_objective
from infoclip_lite.figures.playback import TITLES
from infoclip_lite.studies.degradation_frames import unpack
from infoclip_lite.studies.objective_sweep import ALPHAS, AXES, COMPRESSION, TRANSFER, label_of
from infoclip_lite.studies.rows import (
    REPORTED,
    SPLITS,
    Leaderboard,
    map_curves,
    read_leaderboard,
    shown_metrics,
)
from infoclip_lite.training.build import held_out
from infoclip_lite.training.recipe import load_finetuning

# Studies with contrasts that were planned; a report without any adds nothing.
STUDIES = ("repair", "chimera_seg")
DIGITS = 6  # of shares: a page rounds once more, to tenths of a percent


@dataclass(frozen=True)
class Scene:
    """A scene of a report.

    Attributes:
        title: what to call it.
        sources: files of the pack that it is made of.
    """

    title: str
    sources: tuple[str, ...]


def training() -> JsonObject:
    """One training step by step (`compute_frame`), and curves of the map with their intervals."""
    report, study = read_report("degradation_frames"), read_report("degradation_map")
    scenes = _scenes(report)
    curves = {
        name: {
            metric: [
                [int(point.step), round(point.mean, DIGITS), round(point.ci95, DIGITS)] for point in points
            ]
            for metric, points in measured.items()
            if metric in TITLES
        }
        for name, measured in map_curves().items()
    }
    return {
        "recipe": report["recipe"],
        "names": report["names"],
        "unseen": report["unseen"],
        "colours": [_hex(colour) for colour in word_colours(report["names"])],
        "unlabelled": _hex(UNLABELLED),
        "titles": {key: TITLES[key] for key in TITLES if key in report["frames"][0]},
        "images": report["images"],
        "scenes": [{"title": scene.title} for scene in scenes],
        "credits": credits_table(scenes),
        "truth": report["truth"],
        "frames": report["frames"],
        "curves": curves,
        "seeds": {name: cell["seeds"] for name, cell in study["cells"].items()},
    }


def _scenes(report: JsonObject) -> list[Scene]:
    """The scenes of "degradation_frames": the first that its recipe is watched on."""
    data, scenes = held_out(load_finetuning(report["recipe"])), []
    for index, stored in enumerate(unpack(report["images"])):
        image, _, _, nouns = data[index]
        # A report that an older renderer or another recipe made must not be credited to the wrong authors.
        if not np.array_equal((image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8), stored):
            raise ValueError(
                f"got scene {index} of degradation_frames.json other than {report['recipe']} renders it; "
                "expected the same; hint: infoclip-lite benchmark degradation_frames"
            )
        scenes.append(Scene(f"Scene {index + 1}: {', '.join(nouns)}", tuple(data.sources(index))))
    return scenes


def objective() -> JsonObject:
    """Every point of the sweep that was run: `compute_objective`."""
    report = read_report("objective_sweep")
    points = []
    for axis in AXES:
        for alpha in ALPHAS:
            for one in COMPRESSION:
                for two in TRANSFER:
                    if label_of(axis, alpha, one, two) not in report["points"]:
                        continue
                    view = compute_objective(axis, alpha, one, two, report)
                    place = {"axis": axis, "alpha": alpha, "lambda_1": one, "lambda_2": two}
                    points.append({**place, "here": view.here, "command": view.command})
    return {
        "controls": {
            "axis": list(AXES),
            "alpha": sorted(ALPHAS),
            "lambda_1": list(COMPRESSION),
            "lambda_2": list(TRANSFER),
        },
        "start": {"axis": "pixel", "alpha": 2.0, "lambda_1": 1.0, "lambda_2": 1.0},
        "measures": MEASURES,
        "plain": report["points"]["plain"],
        "points": points,
        "steps": report["steps"],
        "scenes": report["scenes"],
        "missing": report["missing"],
    }


def leaderboard() -> JsonObject:
    """All rows with scores, ranks and cost, the difference of every two, and the planned contrasts."""
    board = read_leaderboard()
    # Of what every row was measured by, in the order of every table.
    measured = [set(scores) for method in board.methods.values() for scores in method.scores.values()]
    metrics = shown_metrics(set.intersection(*measured))
    return {
        "about": {key: getattr(board, key) for key in ("size", "scenes", "words", "seeds")},
        "splits": sorted(SPLITS, key=lambda split: split != REPORTED),  # that one first
        "metrics": list(metrics),
        "rows": [
            {
                "label": label,
                "family": method.family,
                "group": method.group,
                "labels": method.labels,
                "tuned": method.tuned,
                "paper": method.paper,
                "trained": bool(method.parameters["trained"]),
                "weights": method.parameters["inference"],
                "time": round(board.time_of(label), 3),
                "memory": board.speed[method.backend].mb,
                "scores": {
                    split: {key: _shares(scores[key]) for key in metrics}
                    for split, scores in method.scores.items()
                },
                "ranks": {split: place.to_json() for split, place in method.ranks.items()},
            }
            for label, method in board.methods.items()
        ],
        # By the places of two rows: of hIoU, to which the ranks belong.
        "differences": {split: _differences(board, split) for split in SPLITS},
        "planned": {name: read_report(name).get("contrasts", {}) for name in STUDIES},
    }


def _shares(score: Score) -> list[float]:
    return [round(score.mean, DIGITS), round(score.ci95, DIGITS)]


def _differences(board: Leaderboard, split: str) -> list[list[float]]:
    """For every two rows, the first before the second: mean, half-width and p-value of first minus second."""
    pairs = combinations(board.scores(split).values(), 2)
    found = [difference(one, other) for one, other in pairs]
    return [[round(each.mean, DIGITS), round(each.ci95, DIGITS), round(each.p, DIGITS)] for each in found]


def _hex(colour: tuple[int, int, int]) -> str:
    return "#" + bytes(int(channel) for channel in colour).hex()
