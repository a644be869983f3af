"""Show the code of a function where a notebook only calls it."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.display import Markdown

_LONGEST = 60  # lines; more than that is a wall, not an explanation


def show_source(thing: Callable[..., object]) -> Markdown:
    """The source of a function or class of the package, highlighted.

    Args:
        thing: a function, method or class.

    Raises:
        ValueError: no Python source, or more than 60 lines of it.

    >>> from infoclip_lite.evaluation import SegmentationMetrics
    >>> "diag" in show_source(SegmentationMetrics.per_class).data
    True
    """
    from IPython.display import Markdown  # here: only a notebook has it

    try:
        text = inspect.getsource(thing)
    except (TypeError, OSError) as error:
        raise ValueError(
            f"{thing!r} has no Python source; expected a function or class of the package"
        ) from error
    lines = text.count("\n")
    if lines > _LONGEST:
        raise ValueError(
            f"{thing.__qualname__} has {lines} lines; expected at most {_LONGEST}: show one of its parts"
        )
    return Markdown(f"```python\n{textwrap.dedent(text)}```")
