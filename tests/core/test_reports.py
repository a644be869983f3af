"""Reports are written whole, with what they were measured on, and read by name."""

from __future__ import annotations

import json
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
import torch

from infoclip_lite.core import environment as environments
from infoclip_lite.core.environment import environment, package_version
from infoclip_lite.core.reports import list_reports, read_report, write_report


def test_what_is_written_is_returned_and_says_where_it_was_measured(tmp_path: Path) -> None:
    out = tmp_path / "new" / "thing.json"
    written = write_report("thing", {"rows": [1.5, None]}, out)
    assert json.loads(out.read_text()) == written
    assert written["rows"] == [1.5, None] and written["environment"]["torch"] == version("torch")


def test_what_is_no_json_leaves_the_old_report_and_no_scratch_file(tmp_path: Path) -> None:
    out = tmp_path / "thing.json"
    write_report("thing", {"a": 1}, out)
    before = out.read_text()
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_report("thing", {"a": torch.zeros(1)}, out)
    assert out.read_text() == before and os.listdir(tmp_path) == ["thing.json"]


def test_every_report_that_is_listed_can_be_read() -> None:
    assert {"ceiling", "repair", "chimera_cost", "leaderboard"} <= set(list_reports())
    assert all(isinstance(read_report(name), dict) for name in list_reports())


def test_a_report_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(
        FileNotFoundError, match=r"no report 'nope'; expected one of .*ceiling.*benchmark nope"
    ):
        read_report("nope")


def test_the_environment_has_versions_and_hardware() -> None:
    found = environment()
    assert found["threads"] == torch.get_num_threads() and found["hardware"]
    assert {"python", "torch", "open_clip_torch", "infoclip-lite", "git"} <= set(found)


def test_a_source_tree_that_was_not_installed_has_a_version_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_us(name: str) -> str:
        if name == "infoclip-lite":
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(environments, "version", without_us)
    assert package_version() == environment()["infoclip-lite"] == "0.0.0"


def test_a_machine_without_git_or_processor_names_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError("no such program")

    monkeypatch.setattr(environments.subprocess, "run", refuse)
    monkeypatch.setattr(environments, "version", lambda name: "1.0")
    monkeypatch.setattr(environments.Path, "read_text", refuse)
    assert environment()["git"] is None and environment()["hardware"]
