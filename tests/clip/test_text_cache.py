"""Embeddings of words are kept on disk: to the bit, never those of another tower, whole or not at all."""

from __future__ import annotations

import os
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from conftest import MakeTiny
from torch import Tensor, nn

from infoclip_lite.clip.text_cache import VARIABLE, _write, cache_folder, remembered
from infoclip_lite.segmentors import ZeroShotSegmentor

WORDS, TEMPLATES = ["cow", "grass", "sky"], ["a photo of a {}", "{}"]


class Counting(ZeroShotSegmentor):
    """A segmentor that counts how often its text tower is asked."""

    asked = 0

    def encode_text(self, names: list[str], templates: list[str] | None = None) -> Tensor:  # type: ignore[override]
        self.asked += 1
        return super().encode_text(names, templates)


@pytest.fixture
def encoder(make_tiny: MakeTiny) -> Counting:
    return Counting(make_tiny()).eval().requires_grad_(False)


@pytest.fixture(autouse=True)
def no_surprise() -> Iterator[None]:
    """A warning is an error, unless a test expects it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def in_children(count: int, task: Callable[[], object]) -> list[int]:
    """How many children end that run the task at the same time."""
    children = []
    for _ in range(count):
        child = os.fork()
        if child == 0:
            try:
                task()
            finally:
                os._exit(0)
        children.append(child)
    return [os.waitpid(child, 0)[1] for child in children]


def test_the_second_time_nothing_is_encoded_and_every_bit_is_equal(encoder: Counting, tmp_path: Path) -> None:
    first = remembered(encoder, WORDS, TEMPLATES, tmp_path)
    second = remembered(encoder, WORDS, TEMPLATES, tmp_path)
    assert encoder.asked == 1 and torch.equal(first, second) and second.dtype == first.dtype
    assert torch.equal(first, encoder.encode_text(WORDS, TEMPLATES)) and len(files(tmp_path)) == 1


def test_read_outs_share_what_is_kept(encoder: Counting, make_tiny: MakeTiny, tmp_path: Path) -> None:
    remembered(encoder, WORDS, TEMPLATES, tmp_path)
    other = Counting(make_tiny(), ["sclip", "cls_value"]).eval().requires_grad_(False)
    remembered(other, WORDS, TEMPLATES, tmp_path)
    assert other.asked == 0


@pytest.mark.parametrize(
    ("names", "templates"),
    [
        (["grass", "cow", "sky"], TEMPLATES),
        (["cow", "grass"], TEMPLATES),
        (["cow|ox", "grass", "sky"], TEMPLATES),
        (WORDS, TEMPLATES[::-1]),
        (WORDS, TEMPLATES[:1]),
        (WORDS, None),
    ],
)
def test_other_words_or_templates_or_another_order_of_them_are_encoded(
    encoder: Counting, tmp_path: Path, names: list[str], templates: list[str] | None
) -> None:
    remembered(encoder, WORDS, TEMPLATES, tmp_path)
    found = remembered(encoder, names, templates, tmp_path)
    assert encoder.asked == 2 and torch.equal(found, encoder.encode_text(names, templates))


@pytest.mark.parametrize("part", ["token_embedding.weight", "ln_final.bias", "text_projection"])
def test_one_weight_of_the_text_tower_makes_another_file(
    encoder: Counting, tmp_path: Path, part: str
) -> None:
    remembered(encoder, WORDS, TEMPLATES, tmp_path)
    with torch.no_grad():
        encoder.clip.model.get_parameter(part).flatten()[0].add_(0.5)
    remembered(encoder, WORDS, TEMPLATES, tmp_path)
    assert encoder.asked == 2 and len(files(tmp_path)) == 2


def test_the_image_tower_plays_no_part(encoder: Counting, tmp_path: Path) -> None:
    remembered(encoder, WORDS, TEMPLATES, tmp_path)
    with torch.no_grad():
        encoder.clip.visual.proj[0, 0].add_(0.5)
    remembered(encoder, WORDS, TEMPLATES, tmp_path)
    assert encoder.asked == 1


def test_what_weights_do_not_say_makes_another_file_too(encoder: Counting, tmp_path: Path) -> None:
    remembered(encoder, WORDS, TEMPLATES, tmp_path)
    with torch.autocast("cpu", torch.bfloat16):
        remembered(encoder, WORDS, TEMPLATES, tmp_path)
    encoder.clip.text_blocks[0].mlp.gelu = nn.ReLU()
    remembered(encoder, WORDS, TEMPLATES, tmp_path)
    encoder.clip.text_blocks[0].attn.num_heads = 1
    remembered(encoder, WORDS, TEMPLATES, tmp_path)
    encoder.clip.templates = ("{}",)
    remembered(encoder, WORDS, TEMPLATES, tmp_path)
    assert encoder.asked == 5 == len(files(tmp_path))


def test_a_tower_that_is_tuned_is_asked_every_time(encoder: Counting, tmp_path: Path) -> None:
    encoder.clip.text_blocks[1].attn.in_proj_weight.requires_grad_(True)
    assert not encoder.clip.training
    remembered(encoder, WORDS, TEMPLATES, tmp_path)
    encoder.requires_grad_(False).clip.train()
    remembered(encoder, WORDS, TEMPLATES, tmp_path)
    assert encoder.asked == 2 and files(tmp_path) == []


def test_a_model_that_warns_of_words_is_asked_every_time(encoder: Counting, tmp_path: Path) -> None:
    encoder.clip.known_tokens = torch.arange(49408)
    remembered(encoder, WORDS, TEMPLATES, tmp_path)
    assert encoder.asked == 1 and files(tmp_path) == []


def test_where_it_is_kept_can_be_said_and_that_it_is_not(
    encoder: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "one"))
    remembered(encoder, WORDS)
    remembered(encoder, WORDS, folder=tmp_path / "other")
    assert len(files(tmp_path / "one")) == len(files(tmp_path / "other")) == 1
    remembered(encoder, WORDS, folder="off")
    monkeypatch.setenv(VARIABLE, "off")
    remembered(encoder, WORDS)
    assert encoder.asked == 4 and cache_folder() is None
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "infoclip_lite" / "text"


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "fewer words"])
def test_a_damaged_file_is_said_passed_over_and_written_anew(
    encoder: Counting, tmp_path: Path, damage: str
) -> None:
    first = remembered(encoder, WORDS, TEMPLATES, tmp_path)
    (path,) = files(tmp_path)
    content = path.read_bytes()
    if damage == "fewer words":
        _write(path, first[:2])
    else:
        flipped = content[:-1] + bytes([content[-1] ^ 1])
        path.write_bytes({"flipped": flipped, "cut": content[:60], "empty": b""}[damage])
    with pytest.warns(UserWarning, match=f"{path.name} is damaged; the words are encoded again"):
        second = remembered(encoder, WORDS, TEMPLATES, tmp_path)
    assert torch.equal(first, second) and path.read_bytes() == content and encoder.asked == 2


def test_a_process_that_is_killed_while_it_writes_leaves_nothing_to_read(
    encoder: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "embeddings.text"

    def killed() -> None:
        monkeypatch.setattr(os, "fsync", lambda handle: os.kill(os.getpid(), signal.SIGKILL))
        _write(path, torch.zeros(3, 4))

    assert in_children(1, killed) == [signal.SIGKILL] and not path.exists()
    (scratch,) = files(tmp_path)
    # Another process may be writing: its scratch is not touched before an hour has passed.
    remembered(encoder, WORDS, TEMPLATES, tmp_path)
    assert scratch in files(tmp_path)
    os.utime(scratch, (time.time() - 4000,) * 2)
    remembered(encoder, WORDS, None, tmp_path)
    assert scratch not in files(tmp_path) and len(files(tmp_path)) == 2


def test_processes_that_write_at_once_leave_one_sound_file(encoder: Counting, tmp_path: Path) -> None:
    text = remembered(encoder, WORDS, TEMPLATES, tmp_path)
    (path,) = files(tmp_path)

    def many() -> None:
        for _ in range(20):
            _write(path, text)

    assert in_children(2, many) == [0, 0] and files(tmp_path) == [path]
    assert torch.equal(remembered(encoder, WORDS, TEMPLATES, tmp_path), text) and encoder.asked == 1


def test_a_folder_that_cannot_be_written_costs_a_warning(encoder: Counting, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(UserWarning, match=f"are not kept: .*is not a folder; {VARIABLE} names another"):
        found = remembered(encoder, WORDS, TEMPLATES, tmp_path / "file" / "text")
    assert torch.equal(found, encoder.encode_text(WORDS, TEMPLATES))
