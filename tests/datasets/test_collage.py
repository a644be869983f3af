"""Collage, the scenes: pure functions of (seed, split, index), masks exact, captions true, licences apart,
no noun rare, and every split with the nouns and instances that are its own.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
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
from infoclip_lite.datasets.base import class_groups
from infoclip_lite.datasets.collage import (
    SPLITS,
    Scene,
    all_nouns,
    describe,
    dev_nouns,
    scenes,
    seen_nouns,
    segmentation_nouns,
    stuff,
    unseen_nouns,
    voc_like,
)
from infoclip_lite.datasets.collage.building.licences import GROUPS, groups_of
from infoclip_lite.datasets.collage.captions import _BARE, article
from infoclip_lite.datasets.collage.words import instances, manifest

PACK = data_dir() / "collage"
RECORDS = {record["file"]: record for record in (*manifest()["pictures"], *manifest()["textures"])}
EVERYTHING = [*all_nouns(), *stuff()]
SHOWN = {  # which instances of a seen, a dev-unseen and an unseen noun scenes of a split are made of
    "train": ("train", "train", "train"),
    "val": ("val", "test", None),
    "test": ("test", None, "test"),
    "test-known": ("train", None, "train"),
}
LONG = 10**6

splits = st.sampled_from(SPLITS)
seeds = st.integers(0, 2**31)
indices = st.integers(0, LONG - 1)


def scene(split: str, seed: int, index: int, **options: object) -> Scene:
    return Collage(split, 48, seed=seed, length=LONG, **options)[index]


def same(a: Scene, b: Scene) -> bool:
    return torch.equal(a.image, b.image) and torch.equal(a.mask, b.mask) and a[2:] == b[2:]


def named_in(caption: str) -> list[str]:
    """The words of a caption without opening, articles and joints."""
    body = re.sub(r"^a (photo|picture|collage) of ", "", caption)
    parts = re.split(r", | and | on | in front of | with ", body)
    return [re.sub(r"^an? ", "", part) for part in parts]


def ids(dataset: Collage, names: Sequence[str]) -> tuple[int, ...]:
    return tuple(dataset.names.index(name) for name in names)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that scenes are made of, in the order in which they are taken; none is decoded.

    Every cut-out is one pixel and every texture black, so that thousands of scenes take a second.
    """
    files: list[str] = []

    def turned(file: str, *_: object) -> np.ndarray:
        files.append(file)
        return np.full((1, 1, 4), 255, dtype=np.uint8)

    def texture(self: Collage, rng: random.Random, file: str) -> np.ndarray:
        files.append(file)
        return np.zeros((self.size, self.size, 3), dtype=np.uint8)

    monkeypatch.setattr(scenes, "_turned", turned)
    monkeypatch.setattr(Collage, "_texture", texture)
    return files


# A scene


@given(splits, seeds, indices)
def test_scene_depends_on_seed_split_and_index_alone(split: str, seed: int, index: int) -> None:
    first = scene(split, seed, index)
    dataset = Collage(split, 48, seed=seed, length=LONG)
    for other in (index // 2, 0, LONG - 1):
        dataset[other]
    random.seed(index)
    torch.manual_seed(index)
    np.random.seed(index % 2**32)
    assert same(first, dataset[index])


def test_another_process_renders_the_same_scenes() -> None:
    code = (
        "import hashlib; from infoclip_lite.datasets import Collage\n"
        "h = hashlib.sha256()\n"
        "for split in ('val', 'test'):\n"
        "    for i in range(3):\n"
        "        s = Collage(split, 48, seed=7)[i]\n"
        "        h.update(s.image.numpy().tobytes() + s.mask.numpy().tobytes() + s.caption.encode())\n"
        "print(h.hexdigest())"
    )
    digests = [
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("77", "78")
    ]
    assert digests[0] == digests[1] and len(digests[0].strip()) == 64


def test_workers_render_the_same_scenes() -> None:
    dataset = Collage("train", 32, seed=3, length=8)
    loaded = DataLoader(dataset, batch_size=None, num_workers=2)
    assert all(same(Scene(*got), dataset[i]) for i, got in enumerate(loaded))


@given(seeds, indices)
def test_other_seed_split_or_index_gives_another_scene(seed: int, index: int) -> None:
    base = scene("train", seed, index)
    others = [
        scene("train", seed + 1, index),
        *(scene(split, seed, index) for split in SPLITS[1:]),
        scene("train", seed, (index + 1) % LONG),
    ]
    assert not any(torch.equal(base.image, other.image) for other in others)


@given(splits, seeds, indices, st.sampled_from([16, 33, 96]))
def test_shapes_types_and_ranges(split: str, seed: int, index: int, size: int) -> None:
    dataset = Collage(split, size, seed=seed, length=LONG)
    image, mask, caption, nouns = dataset[index]
    assert image.shape == (3, size, size) and image.dtype == torch.float32
    assert image.min() >= 0 and image.max() <= 1
    assert mask.shape == (size, size) and mask.dtype == torch.int64
    assert mask.min() >= 0 and mask.max() < len(dataset.names)
    assert caption and nouns


def test_masks_of_more_than_256_classes_are_as_exact() -> None:
    wide, narrow = Collage("train", 48, EVERYTHING), Collage("train", 48)
    assert len(wide.names) > 256
    mask, kept = wide.render(1)[1], narrow.render(1)[1]
    assert (mask.dtype, kept.dtype) == (np.uint16, np.uint8)
    _, labels, _, present = wide[1]
    visible = torch.bincount(labels.flatten(), minlength=len(wide.names)) >= 0.01 * labels.numel()
    assert present == [wide.names[i] for i in visible.nonzero().flatten().tolist()]


@given(splits, seeds, indices)
def test_present_words_are_those_that_cover_one_percent(split: str, seed: int, index: int) -> None:
    dataset = Collage(split, 48, seed=seed, length=LONG)
    _, mask, _, present = dataset[index]
    counts = np.bincount(mask.numpy().ravel(), minlength=len(dataset.names))
    assert present == [
        dataset.names[i] for i in range(len(dataset.names)) if counts[i] >= 0.01 * mask.numel()
    ]


def test_masks_lie_exactly_on_the_pasted_objects() -> None:
    changed, kept = [], []
    for index in range(30):
        # One group of licences on both sides: scenes without objects draw theirs with other odds.
        options = {"classes": ["hammer", "fish", "sand", "water"], "seed": 5}
        ground = Collage("train", 96, objects=(0, 0), **options)
        pasted = Collage("train", 96, objects=(1, 4), **options)
        pasted._group = ground._group = (["gpl"], [1.0])
        bare, full = ground[index], pasted[index]
        differs = (bare.image - full.image).abs().amax(0) > 4 / 255
        labelled = (bare.mask != full.mask).float()[None, None]
        grown = F.max_pool2d(labelled, 5, 1, 2)[0, 0] > 0  # soft borders of cut-outs are two pixels wide
        changed.append(differs[labelled[0, 0] > 0].float().mean())
        kept.append((~differs[~grown]).float().mean())
    assert torch.stack(changed).nanmean() > 0.95
    assert torch.stack(kept).nanmean() > 0.98


def test_scenes_without_objects_hold_stuff_only() -> None:
    for index in range(20):
        _, _, caption, present = scene("test", 1, index, objects=(0, 0))
        assert set(present) <= set(stuff()) and set(named_in(caption)) == set(present)


@pytest.mark.parametrize("split", SPLITS)
def test_objects_are_as_many_and_as_large_as_they_always_were(split: str) -> None:
    dataset = Collage(split, 48, length=250)
    pixels, objects = np.zeros(len(dataset.names)), []
    for index in range(len(dataset)):
        _, mask, _, present = dataset.render(index)
        pixels += np.bincount(mask.ravel(), minlength=len(pixels))
        objects.append(sum(word not in stuff() for word in present))
    share = pixels / pixels.sum()
    # A scene has one to four objects, which cover a fifth to a quarter of it.
    assert 0.17 < 1 - share[list(dataset.class_groups["stuff"])].sum() < 0.29
    assert 2.0 < np.mean(objects) < 2.7 and max(objects) == 4


@given(seeds, indices)
def test_objects_keep_their_scale(seed: int, index: int) -> None:
    large = scene("test", seed, index, objects=(1, 1), scale=(0.9, 0.9))
    small = scene("test", seed, index, objects=(1, 1), scale=(0.3, 0.3))
    grounds = torch.tensor(Collage("test").class_groups["stuff"])
    areas = [(~torch.isin(one.mask, grounds)).float().mean() for one in (small, large)]
    # No longer than three tenths of the side, the diagonal of its box at most 0.3 * sqrt(2).
    assert areas[0] <= 0.3**2 and areas[0] <= areas[1]


# Captions


@given(splits, seeds, indices)
def test_caption_names_every_noun_and_nothing_that_is_absent(split: str, seed: int, index: int) -> None:
    _, _, caption, present = scene(split, seed, index)
    nouns = {word for word in present if word not in stuff()}
    named = named_in(caption)
    assert len(named) == len(set(named))
    assert set(named) in ({*present}, nouns), (caption, present)


def test_captions_of_one_scene_in_five_leave_the_ground_out() -> None:
    dataset, without = Collage("train", 32, length=300), 0
    for index in range(len(dataset)):
        caption = dataset.render(index)[2]
        without += not set(named_in(caption)) & set(stuff())
    assert 0.12 < without / len(dataset) < 0.28


def test_captions_use_the_right_article() -> None:
    assert set(_BARE) <= set(all_nouns())
    for noun in all_nouns():
        sentence = describe(random.Random(0), [noun])
        said = re.sub(r"^a (photo|picture|collage) of ", "", sentence)
        before = "" if noun in _BARE else "an " if noun[0] in "aeiou" else "a "
        assert said == article(noun) == before + noun
    # Of what ends in s these alone are single things: no plural has slipped past the list.
    ending = {noun for noun in all_nouns() if re.search(r"[^s]s$", noun) and noun not in _BARE}
    assert ending == {"bus", "hippopotamus", "octopus", "rhinoceros", "walrus"} & set(all_nouns())


def test_grounds_take_no_article() -> None:
    for ground in stuff():
        assert named_in(describe(random.Random(1), ["cow", ground])) in (["cow", ground], [ground, "cow"])
        assert f"a {ground}" not in describe(random.Random(1), ["cow", ground])


# Licences


def common_groups(files: list[str]) -> tuple[str, ...]:
    """The groups of scenes that all these pictures may be pasted in; empty where they must not meet."""
    allowed = [groups_of(RECORDS[file]["licence"]) for file in files]
    return tuple(group for group in GROUPS if all(group in groups for groups in allowed))


@pytest.mark.parametrize("split", SPLITS)
def test_no_scene_opens_pictures_whose_licences_must_not_meet(split: str, drawn: list[str]) -> None:
    dataset = Collage(split, 16, EVERYTHING, length=1500, objects=(2, 5))
    groups = Counter()
    for index in range(len(dataset)):
        drawn.clear()
        dataset.render(index)
        assert len(drawn) >= 3
        common = common_groups(drawn)
        assert common, [(file, RECORDS[file]["licence"]) for file in drawn]
        groups[common] += 1
    # Both kinds of scenes are there, so that the rule was at work.
    assert groups["cc",] > 100 and groups["gpl",] > 100


def test_what_is_recorded_is_what_scenes_open(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    plain = Image.open

    def watched(file: Path, *rest: object) -> Image.Image:
        opened.append(str(Path(file).relative_to(PACK)))
        return plain(file, *rest)

    monkeypatch.setattr(Image, "open", watched)
    dataset = Collage("test", 24, objects=(2, 5), length=25)
    for index in range(len(dataset)):
        scenes._levels.cache_clear()
        opened.clear()
        dataset.render(index)
        assert opened and common_groups(opened), opened


# How often


@pytest.mark.parametrize("split", SPLITS)
def test_words_and_their_instances_are_equally_frequent(split: str, drawn: list[str]) -> None:
    dataset = Collage(split, 16, length=9000, objects=(1, 1))
    for index in range(len(dataset)):
        dataset.render(index)
    things = [RECORDS[file] for file in drawn if "noun" in RECORDS[file]]
    words = Counter(record["noun"] for record in things)
    shown = [dataset.names[i] for group in ("seen", "unseen") for i in dataset.class_groups[group]]
    assert set(words) == set(shown) and sum(words.values()) == len(dataset)
    assert even(words.values(), len(shown))
    by_word = defaultdict(Counter)
    for record in things:
        by_word[record["noun"]][record["instance"]] += 1
    for word, counts in by_word.items():
        side = {record["split"] for record in things if record["noun"] == word}
        total = sum(each.side in side for each in instances()[word])
        assert even(counts.values(), total), (word, counts)


def even(counts: Iterable[int], kinds: int) -> bool:
    """Whether counts of draws from `kinds` equally frequent things may be chance, within five deviations."""
    counts = [*counts, *[0] * (kinds - len(counts))]
    mean = sum(counts) / kinds
    return all(abs(count - mean) <= 5 * (mean * (1 - 1 / kinds)) ** 0.5 for count in counts)


@pytest.mark.parametrize("split", SPLITS)
def test_no_ground_is_rare(split: str, drawn: list[str]) -> None:
    dataset = Collage(split, 16, length=3000, objects=(1, 1))
    for index in range(len(dataset)):
        dataset.render(index)
    grounds = Counter(RECORDS[file]["stuff"] for file in drawn if "stuff" in RECORDS[file])
    assert set(grounds) == set(stuff())
    assert min(grounds.values()) > 0.5 * sum(grounds.values()) / len(stuff())


def test_views_of_a_model_are_no_more_instances_than_one(drawn: list[str]) -> None:
    dataset = Collage("train", 16, ["car", "lamp", "sand"], length=4000, objects=(1, 1))
    for index in range(len(dataset)):
        dataset.render(index)
    files = Counter(file for file in drawn if file.startswith("cutouts/"))
    views = [each.files for each in instances()["car"] if each.side == "train"]
    assert min(map(len, views)) < max(map(len, views))
    assert even([sum(files[file] for file in each) for each in views], len(views))


# Which split shows what


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_shows_the_nouns_and_the_instances_that_are_its_own(split: str, drawn: list[str]) -> None:
    dataset = Collage(split, 16, length=4000, objects=(3, 4))
    for index in range(len(dataset)):
        dataset.render(index)
    sides = defaultdict(set)
    for file in drawn:
        record = RECORDS[file]
        sides[record.get("noun") or record["stuff"]].add(record["split"])
    roles = (seen_nouns(), dev_nouns(), unseen_nouns())
    for nouns, side in zip(roles, SHOWN[split], strict=True):
        had = {noun for noun in nouns if any(each.side == side for each in instances()[noun])}
        assert {noun for noun in nouns if noun in sides} == had
        assert all(sides[noun] == {side} for noun in had)
        # Thin nouns have nothing to hold back for choices; every other noun of a shown role is there.
        assert side is None or side == "val" or had == set(nouns)
    assert {side for ground in stuff() for side in sides[ground]} == {"test" if split == "test" else "train"}


def test_test_shares_no_picture_with_any_split_that_is_learnt_from(drawn: list[str]) -> None:
    files = {}
    for split in SPLITS:
        dataset = Collage(split, 16, EVERYTHING, length=3000, objects=(4, 4))
        for index in range(len(dataset)):
            dataset.render(index)
        files[split] = set(drawn)
        drawn.clear()
    assert files["test"] and not files["test"] & (files["train"] | files["test-known"])
    assert {RECORDS[file]["split"] for file in files["train"] | files["test-known"]} == {"train"}
    cutouts = {file for file in files["val"] if file.startswith("cutouts/")}
    assert cutouts and not cutouts & files["train"]


@pytest.mark.parametrize("split", SPLITS)
def test_groups_are_what_a_split_shows(split: str) -> None:
    dataset = Collage(split)
    groups = class_groups(dataset)
    assert groups is dataset.class_groups and list(groups) == ["seen", "unseen", "stuff"]
    role = {"train": (*dev_nouns(), *unseen_nouns()), "val": dev_nouns()}.get(split, unseen_nouns())
    assert groups["unseen"] == ids(dataset, role)
    assert groups["stuff"] == ids(dataset, stuff())
    seen = [dataset.names[i] for i in groups["seen"]]
    thin = {noun for noun in seen_nouns() if all(each.side != "val" for each in instances()[noun])}
    assert set(seen) == set(seen_nouns()) - (thin if split == "val" else set())
    assert len(seen) >= 20


def test_what_is_unseen_is_the_same_on_every_split() -> None:
    told = {Collage(split).unseen for split in SPLITS}
    assert told == {ids(Collage("test"), [*dev_nouns(), *unseen_nouns()])}


def test_vocabulary_is_seen_dev_unseen_and_unseen_nouns_and_stuff() -> None:
    dataset = Collage("train")
    assert dataset.names == (*seen_nouns(), *dev_nouns(), *unseen_nouns(), *stuff())
    assert segmentation_nouns() == (*seen_nouns(), *dev_nouns(), *unseen_nouns())
    assert len(set(segmentation_nouns())) == len(segmentation_nouns()) >= 40 and len(stuff()) >= 8
    assert set(segmentation_nouns()) < set(all_nouns()) and not set(all_nouns()) & set(stuff())
    assert set(dataset.caption_words) == set(all_nouns()) - set(segmentation_nouns())


def test_words_of_captions_alone_are_shown_where_they_are_asked_for(drawn: list[str]) -> None:
    noun = next(n for n in all_nouns() if n not in segmentation_nouns())
    dataset = Collage("train", 16, [noun, "sand"], objects=(1, 1))
    assert dataset.class_groups == {"seen": (), "unseen": (0,), "stuff": (1,)} and dataset.unseen == (0,)
    dataset.render(0)
    assert any(RECORDS[file].get("noun") == noun for file in drawn)


def test_seen_may_be_chosen() -> None:
    classes = ["cow", "truck", "toilet", "grass"]
    dataset = Collage("train", seen=["cow"], classes=classes)
    assert dataset.unseen == (1, 2)
    assert Collage("train", seen=[], classes=classes).unseen == (0, 1, 2)
    # A noun that is learnt from is a seen one on every split, whatever the pack keeps it for.
    for split in ("train", "test", "test-known"):
        chosen = Collage(split, seen=["toilet", "truck"], classes=classes)
        assert chosen.unseen == (0,)
        assert chosen.class_groups["seen"] == (1, 2) and chosen.class_groups["unseen"] == (0,)
    # On validation scenes it shows what is held back; a noun kept for the test shows nothing there.
    watched = Collage("val", seen=["chair"], classes=["chair", "car", "toilet", "truck", "grass"])
    assert watched.unseen == (1, 2, 3)
    assert watched.class_groups == {"seen": (0,), "unseen": (2,), "stuff": (4,)}


def test_seen_may_be_a_noun_that_is_no_class() -> None:
    assert Collage("train", seen=["lion", "cow"], classes=["cow", "truck", "grass"]).unseen == (1,)


def test_nouns_after_vocs_split_are_classes_of_the_pack() -> None:
    seen, unseen = voc_like()
    assert set(seen) | set(unseen) <= set(segmentation_nouns()) and not set(seen) & set(unseen)
    for split in ("train", "test", "test-known"):
        dataset = Collage(split, seen=seen, classes=[*seen, *unseen, *stuff()])
        assert dataset.class_groups["seen"] == ids(dataset, seen)
        assert dataset.class_groups["unseen"] == ids(dataset, unseen)


def test_classes_set_the_indices_of_the_mask() -> None:
    dataset = Collage("train", 48, classes=["sky", "cow"], objects=(1, 1), scale=(0.7, 0.8), length=20)
    for _, mask, _, present in dataset:
        assert set(mask.unique().tolist()) <= {0, 1}
        assert ("cow" in present) == ((mask == 1).float().mean() >= 0.01)


# A data set


def test_length_ends_the_iteration_and_negative_indices_count_from_the_end() -> None:
    dataset = Collage("val", 16, length=3)
    assert len(dataset) == len(list(dataset)) == 3
    assert same(dataset[-1], dataset[2])
    for outside in (3, -4):
        with pytest.raises(IndexError):
            dataset[outside]


def test_another_pack_is_another_data_set(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Collage("val").describe()
    changed = {**manifest(), "pictures": [{**manifest()["pictures"][0], "sha256": "0" * 64}]}
    monkeypatch.setattr(scenes, "manifest", lambda: changed)
    assert Collage("val").describe() != before


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"split": "validation"}, "train, val, test, test-known"),
        ({"split": "test-new"}, "test-known"),
        ({"size": 8}, "at least 16"),
        ({"length": 0}, "at least 1"),
        ({"objects": (3, 1)}, "in order"),
        ({"objects": (-1, 1)}, "in order"),
        ({"scale": (0.0, 1.0)}, "in order"),
        ({"scale": (0.8, 0.3)}, "in order"),
        ({"classes": ["cow", "unicorn", "grass"]}, "unicorn"),
        ({"classes": ["cow", "cow", "grass"]}, "twice"),
        ({"classes": ["cow", "truck"]}, "stuff"),
        ({"classes": ["grass"]}, "a noun with instances"),
        ({"split": "val", "classes": ["truck", "grass"]}, "no pictures for split 'val'"),
        ({"split": "test", "classes": ["toilet", "grass"]}, "no pictures for split 'test'"),
        ({"seen": ["unicorn"]}, "unicorn"),
    ],
)
def test_wrong_options_say_what_was_expected(options: dict, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        Collage(**{"split": "train", **options})


def test_few_instances_are_a_part_of_more_and_always_the_same() -> None:
    def shown(count: int | None) -> dict[int, set[str]]:
        data = Collage("train", instances=count)
        found: dict[int, set[str]] = defaultdict(set)
        for draw in data._things.values():
            for label, instance in draw.choices:
                found[label].add(instance.files[0])
        return found

    every, four, one = shown(None), shown(4), shown(1)
    assert every.keys() == four.keys() == one.keys()
    for label, files in every.items():
        assert one[label] < four[label] <= files or one[label] == four[label] == files
        assert len(four[label]) == min(4, len(files)) and len(one[label]) == 1
    assert Collage("train", instances=4).describe() != Collage("train").describe()
    with pytest.raises(ValueError, match="instances is 0; expected at least 1"):
        Collage("train", instances=0)


def test_sources_of_a_scene_show_its_words_and_may_meet() -> None:
    scenes = Collage("test", length=30)
    for index in range(30):
        files = scenes.sources(index)
        shown = {RECORDS[file].get("noun") or RECORDS[file]["stuff"] for file in files}
        assert set(scenes.render(index)[3]) <= shown, "a word that no source shows"
        assert set.intersection(*(set(groups_of(RECORDS[file]["licence"])) for file in files))
        assert len(files) == len(set(files))
