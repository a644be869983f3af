"""Collage: scenes are pure functions of (seed, split, index), masks exact, captions true, the pack whole."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader

from infoclip_lite.core.files import data_dir
from infoclip_lite.datasets import Collage
from infoclip_lite.datasets.collage import SPLITS, Scene, all_nouns, describe, seen_nouns, stuff, unseen_nouns
from infoclip_lite.datasets.collage import pack as collage_pack

PACK = data_dir() / "collage"
MANIFEST = json.loads((PACK / "manifest.json").read_text())
NOUNS = [record for record in MANIFEST["pictures"] if record["kind"] == "noun"]
PHOTOGRAPHS = Counter(record["word"] for record in NOUNS)

splits = st.sampled_from(SPLITS)
seeds = st.integers(0, 2**31)
indices = st.integers(0, 10**6 - 1)


def scene(split: str, seed: int, index: int, **options: object) -> Scene:
    return Collage(split, 48, seed=seed, length=10**6, **options)[index]


def same(a: Scene, b: Scene) -> bool:
    return torch.equal(a.image, b.image) and torch.equal(a.mask, b.mask) and a[2:] == b[2:]


def named_in(caption: str) -> list[str]:
    """The words of a caption without opening, articles and joints."""
    body = re.sub(r"^a (photo|picture|collage) of ", "", caption)
    parts = re.split(r", | and | on | in front of | with ", body)
    return [re.sub(r"^an? ", "", part) for part in parts]


@given(splits, seeds, indices)
def test_scene_depends_on_seed_split_and_index_alone(split: str, seed: int, index: int) -> None:
    first = scene(split, seed, index)
    dataset = Collage(split, 48, seed=seed, length=10**6)
    for other in (index // 2, 0, 999_999):
        dataset[other]
    random.seed(index)
    torch.manual_seed(index)
    np.random.seed(index % 2**32)
    assert same(first, dataset[index])


def test_another_process_renders_the_same_scenes() -> None:
    code = (
        "import hashlib; from infoclip_lite.datasets import Collage\n"
        "h = hashlib.sha256()\n"
        "for i in range(5):\n"
        "    s = Collage('val', 48, seed=7)[i]\n"
        "    h.update(s.image.numpy().tobytes() + s.mask.numpy().tobytes() + s.caption.encode())\n"
        "print(h.hexdigest())"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "77"},
    )
    digest = hashlib.sha256()
    for i in range(5):
        s = Collage("val", 48, seed=7)[i]
        digest.update(s.image.numpy().tobytes() + s.mask.numpy().tobytes() + s.caption.encode())
    assert result.stdout.strip() == digest.hexdigest()


def test_workers_render_the_same_scenes() -> None:
    dataset = Collage("train", 32, seed=3, length=8)
    loaded = DataLoader(dataset, batch_size=None, num_workers=2)
    assert all(same(Scene(*got), dataset[i]) for i, got in enumerate(loaded))


@given(seeds, indices)
def test_other_seed_split_or_index_gives_another_scene(seed: int, index: int) -> None:
    base = scene("train", seed, index)
    others = [
        scene("train", seed + 1, index),
        scene("val", seed, index),
        scene("train", seed, (index + 1) % 10**6),
    ]
    assert not any(torch.equal(base.image, other.image) for other in others)


@given(splits, seeds, indices, st.sampled_from([16, 33, 96]))
def test_shapes_types_and_ranges(split: str, seed: int, index: int, size: int) -> None:
    dataset = Collage(split, size, seed=seed, length=10**6)
    image, mask, caption, nouns = dataset[index]
    assert image.shape == (3, size, size) and image.dtype == torch.float32
    assert image.min() >= 0 and image.max() <= 1 and image.std() > 0.005
    assert mask.shape == (size, size) and mask.dtype == torch.int64
    assert mask.min() >= 0 and mask.max() < len(dataset.names)
    assert caption and nouns


@given(splits, seeds, indices)
def test_present_words_are_those_that_cover_one_percent(split: str, seed: int, index: int) -> None:
    dataset = Collage(split, 48, seed=seed, length=10**6)
    _, mask, _, present = dataset[index]
    counts = np.bincount(mask.numpy().ravel(), minlength=len(dataset.names))
    assert present == [
        dataset.names[i] for i in range(len(dataset.names)) if counts[i] >= 0.01 * mask.numel()
    ]


@given(splits, seeds, indices)
def test_caption_names_every_noun_and_nothing_that_is_absent(split: str, seed: int, index: int) -> None:
    _, _, caption, present = scene(split, seed, index)
    nouns = {word for word in present if word not in stuff()}
    named = named_in(caption)
    assert len(named) == len(set(named))
    assert set(named) in ({*present}, nouns), (caption, present)


def test_captions_use_the_right_article() -> None:
    for noun in all_nouns():
        sentence = describe(random.Random(0), [noun])
        plural = noun in ("grapes", "scissors", "pliers")
        article = "" if plural else "an " if noun[0] in "aeiou" else "a "
        assert re.sub(r"^a (photo|picture|collage) of ", "", sentence) == article + noun


def test_masks_lie_exactly_on_the_pasted_objects() -> None:
    changed, kept = [], []
    for index in range(40):
        ground = Collage("train", 96, seed=5, objects=(0, 0))[index]
        pasted = Collage("train", 96, seed=5, objects=(1, 4))[index]
        differs = (ground.image - pasted.image).abs().amax(0) > 4 / 255
        labelled = (ground.mask != pasted.mask).float()[None, None]
        grown = F.max_pool2d(labelled, 5, 1, 2)[0, 0] > 0  # soft borders of cut-outs are two pixels wide
        changed.append(differs[labelled[0, 0] > 0].float().mean())
        kept.append((~differs[~grown]).float().mean())
    assert torch.stack(changed).nanmean() > 0.95
    assert torch.stack(kept).nanmean() > 0.98


def test_scenes_without_objects_hold_stuff_only() -> None:
    for index in range(20):
        _, _, caption, present = scene("test", 1, index, objects=(0, 0))
        assert set(present) <= set(stuff()) and set(named_in(caption)) == set(present)


def test_every_class_of_the_vocabulary_is_drawn() -> None:
    dataset = Collage("test", 32, length=600)
    drawn = {name for index in range(600) for name in dataset[index].nouns}
    assert drawn == set(dataset.names)


def test_vocabulary_is_seen_unseen_and_stuff() -> None:
    dataset = Collage("train")
    assert dataset.names == (*seen_nouns(), *unseen_nouns(), *stuff())
    assert len(seen_nouns()) + len(unseen_nouns()) >= 40 and len(stuff()) >= 8
    assert not set(seen_nouns()) & set(unseen_nouns())
    assert [dataset.names[i] for i in dataset.unseen] == list(unseen_nouns())


def test_seen_may_be_chosen() -> None:
    dataset = Collage("train", seen=["cow"], classes=["cow", "lion", "grass"])
    assert dataset.unseen == (1,)
    assert Collage("train", seen=[], classes=["cow", "lion", "grass"]).unseen == (0, 1)


def test_classes_set_the_indices_of_the_mask() -> None:
    dataset = Collage("train", 48, classes=["sky", "lion"], objects=(1, 1), scale=(0.7, 0.8), length=20)
    for _, mask, _, present in dataset:
        assert set(mask.unique().tolist()) <= {0, 1}
        assert ("lion" in present) == ((mask == 1).float().mean() >= 0.01)


def test_new_photographs_are_in_no_other_split() -> None:
    used = {}
    for split in SPLITS:
        dataset = Collage(split, classes=[*all_nouns(), *stuff()])
        used[split] = {id(picture) for _, pictures in dataset._cutouts for picture in pictures}
    assert used["train"] == used["val"] == used["test"]
    assert used["test-new"] and not used["test-new"] & used["train"]


def test_no_photograph_has_both_roles() -> None:
    for key in ("source", "source_sha256", "sha256"):
        train, test = ({r[key] for r in NOUNS if r["role"] == role} for role in ("train", "test"))
        assert not train & test, key


def test_nouns_with_two_photographs_keep_one_back_and_others_none() -> None:
    for word, count in PHOTOGRAPHS.items():
        kept = sum(r["role"] == "test" for r in NOUNS if r["word"] == word)
        assert (kept >= 1 and count - kept >= 1) if count > 1 else kept == 0, word


def test_every_unseen_and_seen_noun_has_a_photograph_to_train_with() -> None:
    trainable = {r["word"] for r in NOUNS if r["role"] == "train"}
    assert {*seen_nouns(), *unseen_nouns()} <= trainable


def test_nouns_with_one_photograph_are_not_in_the_new_photograph_test() -> None:
    single = next(word for word, count in PHOTOGRAPHS.items() if count == 1)
    several = next(word for word, count in PHOTOGRAPHS.items() if count > 1)
    with pytest.raises(ValueError, match="two photographs or more"):
        Collage("test-new", classes=[single, "grass"])
    dataset = Collage("test-new", 32, classes=[single, several, "grass"], objects=(2, 3), length=30)
    words = {word for s in dataset for word in s.nouns}
    assert several in words and single not in words


def test_length_ends_the_iteration_and_negative_indices_count_from_the_end() -> None:
    dataset = Collage("val", 16, length=3)
    assert len(dataset) == len(list(dataset)) == 3
    assert same(dataset[-1], dataset[2])
    for outside in (3, -4):
        with pytest.raises(IndexError):
            dataset[outside]


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"split": "validation"}, "train, val, test"),
        ({"size": 8}, "at least 16"),
        ({"length": 0}, "at least 1"),
        ({"objects": (3, 1)}, "in order"),
        ({"objects": (-1, 1)}, "in order"),
        ({"scale": (0.0, 1.0)}, "in order"),
        ({"scale": (0.8, 0.3)}, "in order"),
        ({"classes": ["cow", "unicorn", "grass"]}, "unicorn"),
        ({"classes": ["cow", "cow", "grass"]}, "twice"),
        ({"classes": ["cow", "lion"]}, "stuff"),
        ({"classes": ["grass"]}, "photographs"),
        ({"seen": ["unicorn"]}, "unicorn"),
    ],
)
def test_wrong_options_say_what_was_expected(options: dict, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        Collage(**{"split": "train", **options})


def test_shipped_pack_is_whole() -> None:
    assert collage_pack.verify(PACK) == len(MANIFEST["pictures"]) > 100
    for record in MANIFEST["pictures"]:
        assert hashlib.sha256((PACK / record["file"]).read_bytes()).hexdigest() == record["sha256"]


def test_every_picture_on_disk_is_in_the_manifest_once() -> None:
    on_disk = sorted(
        str(p.relative_to(PACK)) for folder in ("cutouts", "textures") for p in (PACK / folder).iterdir()
    )
    assert on_disk == sorted(record["file"] for record in MANIFEST["pictures"])


def test_cutouts_have_transparency_and_textures_have_none() -> None:
    for record in MANIFEST["pictures"]:
        with Image.open(PACK / record["file"]) as picture:
            if record["kind"] == "noun":
                alpha = np.asarray(picture.convert("RGBA").getchannel("A"))
                assert max(picture.size) <= collage_pack.CUTOUT_SIDE and alpha.min() < 128 < alpha.max(), (
                    record["file"]
                )
            else:
                assert picture.mode == "RGB", record["file"]


def test_pack_carries_its_licence_and_its_sources() -> None:
    assert "GNU GENERAL PUBLIC LICENSE" in (PACK / "LICENSE").read_text()
    assert all(
        re.match(
            r"(tuxpaint-stamps-default|tuxpaint-data|mate-backgrounds|sweethome3d|synthesised):", r["source"]
        )
        for r in MANIFEST["pictures"]
    )


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(PACK, tmp_path / "collage"))


def test_one_changed_bit_is_found(copied: Path) -> None:
    victim = copied / MANIFEST["pictures"][-1]["file"]
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    with pytest.raises(ValueError, match=rf"{victim.name}.*changed or damaged"):
        collage_pack.verify(copied)


def test_a_missing_picture_is_found(copied: Path) -> None:
    (copied / MANIFEST["pictures"][0]["file"]).unlink()
    with pytest.raises(FileNotFoundError, match="rebuild"):
        collage_pack.verify(copied)


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"manifest\.json"):
        collage_pack.verify(tmp_path)


def test_rebuild_needs_the_selection_and_the_sources(copied: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(FileNotFoundError, match=r"selection\.json"):
        collage_pack.rebuild(empty)
    with pytest.raises(FileNotFoundError, match="apt-get download"):
        collage_pack.rebuild(copied, sources=empty)
    assert collage_pack.verify(copied) == len(MANIFEST["pictures"]), (
        "a rebuild that fails must leave the pack as it was"
    )


def test_selection_and_manifest_agree() -> None:
    selection = json.loads((PACK / "selection.json").read_text())
    assert [selection["seen"], selection["unseen"]] == [MANIFEST["seen"], MANIFEST["unseen"]]
    chosen = {
        (word, file)
        for kind in ("nouns", "stuff")
        for word, files in selection[kind].items()
        for file in files
    }
    assert chosen == {(record["word"], record["source"]) for record in MANIFEST["pictures"]}
