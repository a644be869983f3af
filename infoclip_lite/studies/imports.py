"""The first second: what package and command line cost before they do anything, beside `import torch`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

from ..core.reports import JsonObject, write_report
from ..core.timing import medians, ratios, take_turns

REFERENCE = "import torch"
_CLI = "infoclip_lite.cli"


class Start(NamedTuple):
    """A program that does little else than start.

    Attributes:
        arguments: of a fresh Python.
        status: the exit status that it must have.
    """

    arguments: tuple[str, ...]
    status: int = 0


# What a user waits for first. A misspelt argument is among them: the answer to it should come at once.
STARTS: dict[str, Start] = {
    REFERENCE: Start(("-c", REFERENCE)),
    "import infoclip_lite": Start(("-c", "import infoclip_lite")),
    "from infoclip_lite import load_clip": Start(("-c", "from infoclip_lite import load_clip")),
    "infoclip-lite --help": Start(("-m", _CLI, "--help")),
    "infoclip-lite data list": Start(("-m", _CLI, "data", "list")),
    "infoclip-lite benchmark sped": Start(("-m", _CLI, "benchmark", "sped"), status=2),
}


class Row(NamedTuple):
    """What a start costs.

    Attributes:
        what: as it is typed.
        cpu_s: CPU seconds, user and system; the median of all rounds.
        ratio: of the CPU seconds to those of `import torch` in the same round; the median.
    """

    what: str
    cpu_s: float
    ratio: float


def imports(*, rounds: int = 7, out: Path | None = None) -> JsonObject:
    """Start each program in turns, print what it costs, and write data/reports/imports.json.

    Args:
        rounds: fresh processes of each that count. One more comes first and does not: it brings the files
            into memory.
        out: where the report is written; data/reports by default.

    Returns:
        {"rounds", "rows": [{"what", "cpu_s", "ratio"}]}; see `Row`.

    Raises:
        RuntimeError: a program that ended otherwise than it should.
    """
    rows = rows_of(cpu_seconds(STARTS, rounds))
    for row in rows:
        print(f"{row.what:<38}{row.cpu_s:>7.2f} s{row.ratio:>7.2f}")
    return write_report("imports", {"rounds": rounds, "rows": [row._asdict() for row in rows]}, out)


def cpu_seconds(starts: Mapping[str, Start], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of fresh processes, by what they start; the same place of two lists is of the same round.

    Args:
        starts: the programs.
        rounds: processes of each that count.
    """
    seconds: dict[str, list[float]] = {what: [] for what in starts}

    def start(what: str) -> None:
        seconds[what].append(_cpu_seconds(what, starts[what]))

    functions: dict[str, Callable[[], None]] = {what: partial(start, what) for what in starts}
    # The wall clock of `take_turns` is of no use here: it counts the work of the neighbours too.
    take_turns(functions, rounds, warmup=1)
    return {what: taken[1:] for what, taken in seconds.items()}


def rows_of(seconds: Mapping[str, Sequence[float]]) -> list[Row]:
    """Medians, and medians of the ratios to `import torch`.

    >>> rows_of({"import torch": [2.0, 4.0], "import infoclip_lite": [1.0, 1.0]})[1]
    Row(what='import infoclip_lite', cpu_s=1.0, ratio=0.375)
    """
    typical, shares = medians(seconds), ratios(seconds, REFERENCE)
    return [Row(what, round(typical[what], 3), round(median(shares[what]), 3)) for what in seconds]


def _cpu_seconds(what: str, start: Start) -> float:
    try:
        import resource
    except ImportError as error:
        raise ImportError("seconds of children are counted on Linux and macOS alone") from error
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, *start.arguments], capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != start.status:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise RuntimeError(
            f"`{what}` ended with status {done.returncode} ({last[0]}); expected {start.status}"
        )
    return (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)
