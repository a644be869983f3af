"""Reliability, counted: `make reliability` tries everything here very often and writes docs/reliability.md;
`make test` tries each kind a few times.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings
from reliability.tally import Tally

from infoclip_lite.core.files import whole_file

OFTEN = 500  # examples of each kind of damage
TALLY = pytest.StashKey[Tally]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where the table goes."""
    parser.addoption("--reliability", type=Path, default=None, help="try everything often, write this page")


def pytest_configure(config: pytest.Config) -> None:
    """More examples, and others on every run, where the table is to be written."""
    often = config.getoption("--reliability", None) is not None
    config.stash[TALLY] = Tally(often)
    if often:
        settings.register_profile("often", deadline=None, max_examples=OFTEN, database=None)
        settings.load_profile("often")


@pytest.fixture(scope="session")
def tally(request: pytest.FixtureRequest) -> Tally:
    return request.config.stash[TALLY]


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """The page, if all went well."""
    path = session.config.getoption("--reliability", None)
    if path is not None and exitstatus == 0:
        with whole_file(path) as scratch:
            scratch.write_text(session.config.stash[TALLY].page())
