"""Links of a notebook to what stands beside it, and where the project is on GitHub once it is there."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection

from ..core.environment import package_version

# Badges and links are pinned to a release: a notebook must meet the package it was written for.
RELEASE = f"v{package_version()}"
# [words](../docs/page.md#part) or [words](02_other.ipynb); what is no page may be code, such as f[0](x).
_BESIDE = re.compile(r"(?<!!)\[([^\]]+)\]\((?!\w+:)([^)#\s]+\.(?:md|ipynb))(#[^)\s]*)?\)")


def checked(repository: str) -> str:
    """OWNER/NAME as it was given.

    Raises:
        ValueError: it is something else.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise ValueError(f"got repository {repository!r}; expected OWNER/NAME, as in its address on GitHub")
    return repository


def words_alone(text: str) -> str:
    """A text whose links to what stands beside the notebook are their words.

    >>> words_alone("see [the card](../docs/model_card.md) and [CLIP](https://arxiv.org)")
    'see the card and [CLIP](https://arxiv.org)'
    """
    return _BESIDE.sub(r"\1", text)


def handed_out(text: str, beside: Collection[str], repository: str | None = None) -> str:
    """A text whose links lead somewhere in a folder that holds some notebooks and nothing else.

    Args:
        text: of a cell of a notebook in notebooks/.
        beside: names of the files of that folder; links to those stay.
        repository: OWNER/NAME on GitHub, where the other links then lead; without it they become words that
            say where in the project the page is.

    >>> handed_out("[card](../docs/a.md#b), [next](01.ipynb)", ["01.ipynb"])
    'card (`docs/a.md` in the project), [next](01.ipynb)'
    """

    def led(link: re.Match[str]) -> str:
        words, target, part = link.groups()
        if target in beside:
            return link.group()
        path = posixpath.normpath(f"notebooks/{target}")
        if repository is None:
            return f"{words} (`{path}` in the project)"
        return f"[{words}](https://github.com/{checked(repository)}/blob/{RELEASE}/{path}{part or ''})"

    return _BESIDE.sub(led, text)
