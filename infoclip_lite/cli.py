"""The command line: a table of commands; each stands in commands/ and calls what a notebook would call."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from functools import partial, wraps

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
    typed = sys.argv[1:] if arguments is None else list(arguments)
    command = _understood(typed)
    try:
        command()
    except Exception as error:
        if not isinstance(error, _MISTAKES) and not _out_of_memory(error):
            raise
        # A decoder's or a server's words may have several lines.
        print(f"infoclip-lite: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)


def _understood(typed: Sequence[str]) -> Callable[[], None]:
    """The command with its options, ready to be called.

    Raises:
        SystemExit: 0 after a help, 2 after a line that says what is wrong.
    """
    said = io.StringIO()
    # Only what tyro says is caught: bars and warnings of the command itself go where they belong.
    try:
        with redirect_stderr(said):
            return tyro.extras.subcommand_cli_from_dict(
                {name: _later(command) for name, command in COMMANDS.items()},
                prog="infoclip-lite",
                args=typed,
            )
    except SystemExit as leaving:
        if leaving.code:
            print(f"infoclip-lite: {_in_one_line(said.getvalue(), typed)}", file=sys.stderr)
        raise


def _later(command: Callable[..., None]) -> Callable[..., Callable[[], None]]:
    """The command, which is not yet run when its options have been read."""

    @wraps(command)
    def bound(**options: object) -> Callable[[], None]:
        return partial(command, **options)

    return bound


def _in_one_line(panel: str, typed: Sequence[str]) -> str:
    """What tyro says in a framed panel of many lines.

    >>> _in_one_line("│ no option --rot │\\n│ ───── │", ["data", "--rot"])
    'no option --rot; see infoclip-lite data --help'
    """
    rows = [line.strip("│|").rstrip() for line in panel.splitlines() if line[:1] not in "╭╰+"]
    # A rule divides what is wrong from what was perhaps meant, and from where help is.
    rules = [place for place, row in enumerate(rows) if re.fullmatch(r"\s*[─-]{3,}", row)]
    wrong, rest = rows[: rules[0]] if rules else rows, rows[rules[0] :] if rules else []
    # Explanations of options stand eight columns in; how each type refused a value follows "Got errors".
    what = " ".join(" ".join(row for row in wrong if not row.startswith(" " * 8)).split())
    what = what.split(" Got errors:")[0].rstrip(".")
    near = re.search(r"Perhaps you meant:\s*(--[\w-]+)", "\n".join(rest))
    meant = f"; did you mean {near[1]}?" if near else ""
    about = f" {typed[0]}" if typed and typed[0] in COMMANDS else ""
    return f"{what or 'these options cannot be read'}{meant}; see infoclip-lite{about} --help"


def _out_of_memory(error: Exception) -> bool:
    """Whether a GPU was too small: torch's error is no MemoryError, and torch may not be loaded."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(error, torch.OutOfMemoryError)


if __name__ == "__main__":
    main()
