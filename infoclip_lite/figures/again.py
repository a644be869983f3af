"""The line above numbers that await a new measurement."""

from __future__ import annotations

from ..core.reports import read_report
from ..core.statistics import Row


def measured_again(*reports: str | Row) -> None:
    """Print that numbers are being measured again, if one of the reports says that it is of something else.

    A report has the key "measured_on" until its command has written it anew; then nothing is printed.

    Args:
        reports: names of reports that ship, or what they hold.

    Raises:
        FileNotFoundError: there is none of that name.

    >>> measured_again({"measured_on": "the first collage-mini on the first pack of pictures"}, {})
    Being measured again: these numbers are of the first collage-mini on the first pack of pictures.
    >>> measured_again({})
    """
    found = [read_report(each) if isinstance(each, str) else each for each in reports]
    # Each text once, in the order of the reports.
    for of_what in dict.fromkeys(report["measured_on"] for report in found if "measured_on" in report):
        print(f"Being measured again: these numbers are of {of_what}.")
