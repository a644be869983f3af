"""Recipes, manifests, lists of words and states that somebody wrote, or a disk damaged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from reliability.damage import changed, damaged
from reliability.tally import Tally

from infoclip_lite import DenseCLIP
from infoclip_lite.clip.loading import read_card
from infoclip_lite.core.files import data_dir
from infoclip_lite.core.states import read_state, write_state
from infoclip_lite.core.words import synonyms_of
from infoclip_lite.datasets import training_data
from infoclip_lite.datasets.collage.building.credits import credits
from infoclip_lite.datasets.collage.building.verify import verify
from infoclip_lite.datasets.folder import read_names
from infoclip_lite.datasets.wording import read_words
from infoclip_lite.objectives import build_objective
from infoclip_lite.training import recipe as recipes
from infoclip_lite.training.recipe import (
    FineTuneRecipe,
    PointsRecipe,
    PretrainRecipe,
    list_recipes,
    load_recipe,
)

SHIPPED = [(recipes._shipped() / f"{name}.yaml").read_text() for name in list_recipes()]
PACK = data_dir() / "collage"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("texts")


@given(changed([yaml.safe_load(text) for text in SHIPPED]))
def test_changed_recipes_load_or_are_refused(tally: Tally, tiny: DenseCLIP, content: object) -> None:
    if not isinstance(content, dict):
        return
    what = "recipes with entries that do not belong"
    loaded = tally.tried(what, lambda: load_recipe(content))
    assert loaded is None or isinstance(loaded, FineTuneRecipe | PretrainRecipe | PointsRecipe)
    # What only the builder of a section knows is refused there.
    if isinstance(loaded, FineTuneRecipe) and loaded.objective is not None:
        section = loaded.objective
        tally.tried("objectives of such recipes", lambda: build_objective(section, tiny, tiny))
    if isinstance(loaded, FineTuneRecipe) and loaded.data["name"] == "collage":
        tally.tried("data of such recipes", lambda: training_data(loaded.data, seed=0, length=2))


@given(damaged([text.encode() for text in SHIPPED]))
def test_damaged_recipe_files_load_or_are_refused(tally: Tally, place: Path, content: bytes) -> None:
    (place / "recipe.yaml").write_bytes(content)
    tally.tried("damaged recipe files", lambda: load_recipe(place / "recipe.yaml"))


_LISTS = (b"sky, wall\ncow, ox\ngrass\n", b'["cow", ["ox", "bull"], "grass"]', "chèvre\n草\n".encode())


@given(damaged(_LISTS) | st.binary(max_size=40))
def test_lists_of_words_are_read_or_refused(tally: Tally, place: Path, content: bytes) -> None:
    (place / "words.txt").write_bytes(content)
    words = tally.tried("lists of words", lambda: read_words(place / "words.txt"))
    assert words is None or (words and all(map(synonyms_of, words)))


@given(damaged([b"ground\ncow\n", b"0\tground\n7\tcow\n"]) | st.binary(max_size=40))
def test_lists_of_names_are_read_or_refused(tally: Tally, place: Path, content: bytes) -> None:
    (place / "names.txt").write_bytes(content)
    tally.tried("lists of class names", lambda: read_names(place / "names.txt"))


def small_manifest() -> tuple[dict, list]:
    """Two pictures and a ground of the pack, and one photograph."""
    manifest = json.loads((PACK / "manifest.json").read_text())
    photographs = json.loads((PACK / "photographs.json").read_text())[:1]
    some = {**manifest, "pictures": manifest["pictures"][:2], "textures": manifest["textures"][:1]}
    nouns = {record["noun"]: manifest["nouns"][record["noun"]] for record in some["pictures"]}
    return {**some, "nouns": nouns}, photographs


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pack")
    manifest, photographs = small_manifest()
    for record in (*manifest["pictures"], *manifest["textures"], *photographs):
        (folder / record["file"]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PACK / record["file"], folder / record["file"])
    (folder / "CREDITS.md").write_text(credits(manifest, photographs) + "\n")
    (folder / "photographs.json").write_text(json.dumps(photographs))
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert verify(folder) == 4
    return folder


@given(changed([small_manifest()[0]]))
def test_changed_manifests_are_verified_or_refused(tally: Tally, pack: Path, content: object) -> None:
    (pack / "manifest.json").write_text(json.dumps(content))
    tally.tried("manifests with entries that do not belong", lambda: verify(pack))


@given(damaged([json.dumps(small_manifest()[0]).encode()]))
def test_damaged_manifest_files_are_verified_or_refused(tally: Tally, pack: Path, content: bytes) -> None:
    (pack / "manifest.json").write_bytes(content)
    tally.tried("damaged manifest files", lambda: verify(pack))


@given(st.data())
def test_a_damaged_state_is_never_taken_for_a_sound_one(
    tally: Tally, place: Path, data: st.DataObject
) -> None:
    shutil.rmtree(place / "state", ignore_errors=True)
    write_state(place / "state", {"step": 1, "weights": torch.arange(100.0)})
    path = place / "state" / "state.pt"
    content = data.draw(damaged([path.read_bytes()]))
    same = content == path.read_bytes()
    path.write_bytes(content)
    read = tally.tried("damaged states of a training", lambda: read_state(place / "state"))
    assert (read is not None) == same


@given(st.data())
def test_damaged_checkpoints_are_read_or_refused(
    tally: Tally, place: Path, tiny_checkpoint: Path, data: st.DataObject
) -> None:
    path = place / "clip.safetensors"
    path.write_bytes(data.draw(damaged([tiny_checkpoint.read_bytes()])))
    tally.tried("damaged checkpoints", lambda: read_card(path))
