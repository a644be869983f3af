"""The pool: captioned scenes that the frozen stem has seen, whole files, the same on every machine."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from infoclip_lite.clip.stem import MEAN, STD, Stem, lite0_weights
from infoclip_lite.datasets import Collage
from infoclip_lite.datasets.collage import stuff
from infoclip_lite.training import pool as pools
from infoclip_lite.training.pool import CaptionedScenes, build_pool, pack_words, stem_examples


@pytest.fixture(scope="module")
def stem() -> Stem:
    filled = Stem(32, directions=24)
    filled.fill(lite0_weights())
    filled.standardise(stem_examples(32, 0, 20))
    return filled


def test_rows_are_the_stems_features_of_the_scenes(stem: Stem, tmp_path: Path) -> None:
    pool = build_pool(stem, tmp_path, 12, size=32)
    scenes = CaptionedScenes(32, 0)
    pixels = torch.stack([scenes.render(index)[0] for index in range(12)])
    with torch.inference_mode():
        features = stem.features((pixels.float() / 255 - MEAN) / STD)
    for key in ("middle", "deep"):
        wanted, got = getattr(features, key), pool.inputs[key].float()
        # computed in half precision: a tenth of the deviation, which is one
        assert got.shape == wanted.shape and (got - wanted).square().mean().sqrt() < 0.12
    for index, row in enumerate(pool.present):
        assert {pack_words()[i] for i in row.nonzero().flatten()} == set(scenes.render(index)[1])


def test_a_killed_pool_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "CHUNK", 4)
    whole = build_pool(None, tmp_path, 10, size=32)
    files = sorted(tmp_path.glob("*/*.safetensors"))
    assert [file.stem for file in files] == ["000000-000004", "000004-000008", "000008-000010"]
    kept = files[0].stat().st_mtime_ns
    files[1].unlink()
    again = build_pool(None, tmp_path, 10, size=32)
    assert torch.equal(again.inputs["pixels"], whole.inputs["pixels"])
    assert files[0].stat().st_mtime_ns == kept, "what was there is not made again"


def test_another_seed_or_trunk_has_a_folder_of_its_own(stem: Stem, tmp_path: Path) -> None:
    build_pool(None, tmp_path, 2, size=32)
    build_pool(None, tmp_path, 2, size=32, seed=1)
    build_pool(stem, tmp_path, 2, size=32)
    other = copy.deepcopy(stem)
    other.first.weight.copy_(other.first.weight.flip(0))  # the same numbers, elsewhere
    build_pool(other, tmp_path, 2, size=32)
    build_pool(copy.deepcopy(stem), tmp_path, 2, size=32)
    assert len(list(tmp_path.iterdir())) == 4


def test_two_workers_make_the_pool_of_one(
    stem: Stem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "CHUNK", 3)
    alone = build_pool(stem, tmp_path / "one", 6, size=32, seed=1)
    shared = build_pool(stem, tmp_path / "two", 6, size=32, seed=1, workers=2)
    assert torch.equal(alone.present, shared.present)
    assert all(torch.equal(alone.inputs[key], shared.inputs[key]) for key in alone.inputs)


def test_scenes_are_of_the_vocabulary_and_of_every_noun_and_three_in_ten_are_close_ups() -> None:
    scenes = CaptionedScenes(32, 0)
    shown = [set(scenes.render(index)[1]) for index in range(400)]
    vocabulary = set(Collage("train").names)
    others = [bool(words - vocabulary) for words in shown]
    assert not any(other for index, other in enumerate(others) if index // 10 % 2 == 0)
    assert sum(others) > 100
    near = [words for index, words in enumerate(shown) if index % 10 < 3]
    assert max(len(words - set(stuff())) for words in near) == 1
