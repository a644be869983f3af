"""infoclip-lite benchmark: what README and the notebooks show, measured again; one line in a table each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated

import tyro

from ..core.lookup import find


@dataclass(frozen=True)
class Benchmark:
    """One report or picture, and what makes it.

    Attributes:
        function: "module:name" below the package; it takes `out`, and what `takes` says, by name.
        help: one line.
        takes: which of the command's other options it knows.
    """

    function: str
    help: str
    takes: tuple[str, ...] = ()

    def load(self) -> Callable[..., object]:
        """The function. Its module is imported here, not before: the help of this command only names it."""
        module, name = self.function.split(":")
        package = __name__.split(".")[0]
        return getattr(import_module(f"{package}.{module}"), name)


BENCHMARKS: dict[str, Benchmark] = {
    "degradation_map": Benchmark(
        "studies.degradation_map:degradation_map", "rates, steps and what is tuned", ("seeds", "part")
    ),
    "predictors": Benchmark(
        "studies.predictors:predictors",
        "what probes say of what is kept; reads runs of the map and of repair",
        ("seeds",),
    ),
    "degradation_frames": Benchmark(
        "studies.degradation_frames:degradation_frames", "one plain fine-tuning, step by step"
    ),
    "training_maps": Benchmark(
        "studies.training_maps:training_maps", "a training without and with a repair, map by map"
    ),
    "card": Benchmark("commands.benchmark:card", "the scores of collage-mini"),
    "conse": Benchmark("studies.conse:conse", "a control that no picture was learnt for"),
    "ceiling": Benchmark("studies.ceiling:ceiling", "a linear map that was told every pixel's label"),
    "trunk": Benchmark("studies.trunk:trunk", "what the stem and an instance are worth, by class means"),
    "instances": Benchmark(
        "studies.instances:instances", "what an instance is worth, by short pretrainings", ("part",)
    ),
    "information": Benchmark(
        "commands.benchmark:information", "every estimator on tasks of known truth", ("seeds",)
    ),
    "information_speed": Benchmark("commands.benchmark:information_speed", "alpha = 2 against eigenvalues"),
    "repair_grid": Benchmark(
        "studies.repair:tune", "strengths of InfoCLIP and its rivals, on validation scenes", ("part",)
    ),
    "repair": Benchmark(
        "studies.repair:repair", "what keeps unseen nouns where fine-tuning forgets", ("seeds", "part")
    ),
    "oracle": Benchmark("studies.oracle:oracle", "true masks, named by the frozen CLIP in several ways"),
    "systems_grid": Benchmark(
        "studies.systems:tune", "rates of every trained system, on validation scenes", ("part",)
    ),
    "systems": Benchmark(
        "studies.systems:systems",
        "every trained system on one bench, and without its idea",
        ("seeds", "part"),
    ),
    "systems_speed": Benchmark("studies.systems:speed", "time and memory of every system at inference"),
    "voc_like": Benchmark(
        "studies.voc_like:voc_like",
        "what is trained against what is not, in the VOC-like split",
        ("seeds", "part"),
    ),
    "infoclip_picture": Benchmark("figures.relation:infoclip_picture", "what the objective does to one word"),
    "objective_sweep": Benchmark(
        "studies.objective_sweep:objective_sweep", "a map of its settings, one seed"
    ),
    "chimera_seg_grid": Benchmark(
        "studies.chimera_seg:tune", "settings of Chimera-Seg, on validation scenes", ("part",)
    ),
    "chimera_seg": Benchmark(
        "studies.chimera_seg:chimera_seg", "what each part of Chimera-Seg adds", ("seeds", "part")
    ),
    "chimera_seg_planned": Benchmark(
        "studies.chimera_seg:chimera_seg_planned", "further seeds of its planned contrasts", ("part",)
    ),
    "chimera_heads": Benchmark(
        "studies.chimera_heads:chimera_heads",
        "CLIP's head or a linear map, over the steps of a training",
        ("seeds", "part"),
    ),
    "training_free": Benchmark(
        "studies.training_free:training_free", "every read-out, what its parts add, and what it costs"
    ),
    "points": Benchmark(
        "studies.points:points", "what each term that teaches points CLIP's words adds", ("seeds", "part")
    ),
    "chimera_cost": Benchmark("studies.cost:chimera_cost", "time and parameters at inference"),
    "leaderboard": Benchmark(
        "studies.leaderboard:leaderboard",
        "every method on the same scenes; gathers what repair and chimera_seg have finished",
        ("seeds",),
    ),
    "speed": Benchmark("studies.speed:speed", "ours against peers, and memory"),
    "gpu": Benchmark(
        "studies.speed:paper_size",
        "the papers' recipes at their size on rendered scenes: images a second, memory, losses",
    ),
    "imports": Benchmark(
        "studies.imports:imports", "how long the package and the command line take to start"
    ),
}


def _line(name: str, benchmark: Benchmark) -> str:
    options = ", ".join(f"--{option}" for option in benchmark.takes)
    return f"{name}: {benchmark.help}{f' ({options})' if options else ''}"


# A plain word in place of a choice: a misspelt name is answered with the nearest one, as everywhere else.
_Name = Annotated[
    str,
    tyro.conf.Positional,
    tyro.conf.arg(
        metavar="NAME",
        help="\n".join(
            ["one of", "", *(_line(name, benchmark) for name, benchmark in BENCHMARKS.items()), ""]
        ),
    ),
]


def benchmark_command(
    name: _Name,
    seeds: int | None = None,
    part: str | None = None,
    out: Path | None = None,
) -> None:
    """Measure again what README and the notebooks show.

    Args:
        name: of the benchmark.
        seeds: number of runs of each recipe, or of samples of each task; 5 by default.
        part: "1/2" runs every second one of the missing runs, "2/2" the others: two processes share the work.
        out: where the report is written; data/reports by default.
    """
    benchmark = find(BENCHMARKS, name, "benchmark")
    given = {"seeds": seeds, "part": None if part is None else parse_part(part)}
    options = {key: value for key, value in given.items() if value is not None}
    # An option that changes nothing would be taken for one that did.
    unknown = [key for key in options if key not in benchmark.takes]
    if unknown:
        raise ValueError(f"benchmark {name!r} takes no --{unknown[0]}; {_line(name, benchmark)}")
    made = benchmark.load()(out=out, **options)
    if isinstance(made, Path):
        print(f"picture: {made.resolve()}")


def parse_part(text: str) -> tuple[int, int]:
    """Which part of the work is meant, and of how many.

    Raises:
        ValueError: not K/N with 1 <= K <= N.

    >>> parse_part("1/2")
    (1, 2)
    """
    first, _, last = text.partition("/")
    if not (first.isdigit() and last.isdigit() and 1 <= int(first) <= int(last)):
        raise ValueError(f"part is {text!r}; expected K/N with 1 <= K <= N, such as 1/2")
    return int(first), int(last)


def card(*, out: Path | None = None) -> None:
    """The scores of collage-mini, as its checkpoint carries them; written as collage-mini.json."""
    from ..clip import load_clip
    from ..core.reports import write_report
    from ..studies.card import score_clip

    write_report("collage-mini", score_clip(load_clip()), out)


def information(*, seeds: int = 5, out: Path | None = None) -> None:
    """Every estimator on tasks of known truth."""
    from ..core.reports import write_report
    from ..studies.information import run_benchmark

    write_report("information", run_benchmark(seeds=seeds, progress=True), out)


def information_speed(*, out: Path | None = None) -> None:
    """The closed form of alpha = 2 against eigenvalues."""
    from ..core.reports import write_report
    from ..studies.information import run_speed

    write_report("information_speed", run_speed(), out)
