"""The command line: a table of commands; each stands in commands/ and calls what a notebook would call."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import tyro

from .commands.benchmark import benchmark_command
from .commands.data import data_command
from .commands.demo import demo_command
from .commands.doctor import doctor_command
from .commands.evaluate import evaluate_command
from .commands.export import export_command
from .commands.notebooks import notebooks_command
from .commands.pretrain import pretrain_command
from .commands.protocols import protocols_command
from .commands.segment import segment_command
from .commands.train import train_command

COMMANDS: dict[str, Callable[..., None]] = {
    "doctor": doctor_command,
    "demo": demo_command,
    "pretrain": pretrain_command,
    "train": train_command,
    "evaluate": evaluate_command,
    "segment": segment_command,
    "export": export_command,
    "benchmark": benchmark_command,
    "protocols": protocols_command,
    "data": data_command,
    "notebooks": notebooks_command,
}
# What a user can cause and mend. Anything else is a defect of ours, and keeps its traceback.
_MISTAKES = (ValueError, OSError, ImportError, FloatingPointError, MemoryError)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `infoclip-lite`. A user's mistake is one line on stderr and exit status 2.

    Args:
        arguments: those of the program by default.
    """
    try:
        tyro.extras.subcommand_cli_from_dict(COMMANDS, prog="infoclip-lite", args=arguments)
    except Exception as error:
        if not isinstance(error, _MISTAKES) and not _out_of_memory(error):
            raise
        print(f"infoclip-lite: {error}", file=sys.stderr)
        sys.exit(2)


def _out_of_memory(error: Exception) -> bool:
    """Whether a GPU was too small: torch's error is no MemoryError, and torch may not be loaded."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(error, torch.OutOfMemoryError)


if __name__ == "__main__":
    main()
