"""Probes: identities that must hold, and answers known by construction."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import permutations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fake_devices import CUDA, fake_machine, moved_in
from torch import Tensor

from infoclip_lite import DenseCLIP
from infoclip_lite.datasets import Collage, Scene
from infoclip_lite.evaluation import probes
from infoclip_lite.evaluation.probes import (
    Probes,
    cosine_margin,
    layer_alignment,
    noun_recognition,
    patch_margins,
    probe,
    relation_bits,
    retrieval,
)

NAMES = ["cow", "lion", "grass"]


class Constructed:
    """A CLIP whose embeddings are written into the pictures: patch (i, j)'s at pixel (4i, 4j)."""

    def __init__(self, words: Tensor, captions: Tensor | None = None) -> None:
        self.words, self.captions = words, captions

    def encode_image(self, images: Tensor) -> Tensor:
        return F.normalize(images[:, :, 0, 0], dim=1)

    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        assert self.captions is not None
        return F.normalize(self.captions[: len(prompts)], dim=1)

    def encode_text(self, names: Sequence[str]) -> Tensor:
        return F.normalize(self.words[: len(names)], dim=1)

    def encode_dense(self, images: Tensor, read_out: str) -> Tensor:
        return F.normalize(images[:, :, ::4, ::4], dim=1)


def scene(image: Tensor, mask: Tensor | None = None, nouns: Sequence[str] = ()) -> Scene:
    return Scene(
        image,
        torch.zeros(image.shape[1:], dtype=torch.long) if mask is None else mask,
        "a caption",
        list(nouns),
    )


def plain(vector: Sequence[float]) -> Tensor:
    return torch.tensor(vector)[:, None, None].expand(3, 8, 8).clone()


def test_layers_of_a_model_align_with_themselves_and_not_with_another(
    tiny: DenseCLIP, make_tiny: Callable[..., DenseCLIP]
) -> None:
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert layer_alignment(tiny, tiny, images) == pytest.approx([1, 1, 1])
    changed = make_tiny().requires_grad_(False)
    changed.blocks[0].mlp.c_proj.weight.add_(torch.randn(48, 192, generator=torch.Generator().manual_seed(1)))
    first, second, third = layer_alignment(changed, tiny, images)
    assert first == pytest.approx(1) and second < 0.99 and third < 0.99


def test_retrieval_on_constructed_embeddings() -> None:
    right = [scene(plain(v)) for v in ([1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0])]
    assert retrieval(Constructed(torch.eye(3), torch.eye(3)), right) == {
        "image_to_text": 1,
        "text_to_image": 1,
    }
    shifted = torch.eye(3).roll(1, 0)
    assert retrieval(Constructed(torch.eye(3), shifted), right) == {"image_to_text": 0, "text_to_image": 0}


def test_the_two_directions_of_retrieval_are_told_apart() -> None:
    """Caption 0 attracts both images, image 1 attracts both captions less than image 0 attracts caption 0."""
    scenes = [scene(plain([1.0, 0, 0])), scene(plain([0.8, 0.6, 0]))]
    captions = torch.tensor([[0.9, 0.4, 0.0], [0.7, 0.0, 0.7]])
    cosines = F.normalize(torch.tensor([[1.0, 0, 0], [0.8, 0.6, 0]]), dim=1) @ F.normalize(captions, dim=1).T
    got = retrieval(Constructed(torch.eye(3), captions), scenes)
    assert got["image_to_text"] == (cosines.argmax(1) == torch.arange(2)).float().mean()
    assert got["text_to_image"] == (cosines.argmax(0) == torch.arange(2)).float().mean()
    assert got["image_to_text"] != got["text_to_image"]


def test_recognition_is_one_when_the_right_pictures_come_first_and_low_when_they_come_last() -> None:
    scenes = [
        scene(plain([1.0, 0.1, 0]), nouns=["cow"]),
        scene(plain([0.1, 1.0, 0]), nouns=["lion"]),
        scene(plain([0.1, 0.9, 0.3]), nouns=["lion"]),
    ]
    assert noun_recognition(Constructed(torch.eye(3)), scenes, NAMES) == pytest.approx(1)
    worst = [s._replace(nouns=["lion"] if "cow" in s.nouns else ["cow"]) for s in scenes]
    lion_last, cow_last = 1 / 3, (1 / 2 + 2 / 3) / 2
    assert noun_recognition(Constructed(torch.eye(3)), worst, NAMES) == pytest.approx(
        (lion_last + cow_last) / 2
    )


def test_no_word_present_is_nan_or_said() -> None:
    scenes = [scene(plain([1.0, 0, 0]))]
    try:
        value = noun_recognition(Constructed(torch.eye(3)), scenes, NAMES)
    except ValueError:
        return
    assert math.isnan(value)


def halves(left: int, right: int, columns: int = 4) -> Tensor:
    mask = torch.full((8, 8), right)
    mask[:, :columns] = left
    return mask


def test_margin_is_positive_where_patches_are_right_and_negative_where_they_are_wrong() -> None:
    image = plain([1.0, 0, 0])
    image[:, :, 4:] = plain([0, 0, 1.0])[:, :, 4:]
    clip = Constructed(torch.eye(3))
    assert cosine_margin(clip, [scene(image, halves(0, 2))], NAMES) == pytest.approx(1)
    assert cosine_margin(clip, [scene(image, halves(2, 0))], NAMES) == pytest.approx(-1)
    assert cosine_margin(clip, [scene(image, halves(0, 0))], NAMES) == pytest.approx(0)


def test_margin_is_the_difference_to_the_best_wrong_word() -> None:
    image = plain([0.8, 0.6, 0])
    words = F.normalize(torch.tensor([[1.0, 0, 0], [0.6, 0.8, 0], [0, 0, 1.0]]), dim=1)
    got = cosine_margin(Constructed(words), [scene(image, halves(0, 0))], NAMES)
    assert got == pytest.approx(0.8 - (0.8 * 0.6 + 0.6 * 0.8), abs=1e-6)


def test_margin_counts_patches_of_one_class_and_chosen_classes_only() -> None:
    image = plain([1.0, 0, 0])
    image[:, :, 4:] = plain([0, 1.0, 0])[:, :, 4:]
    clip = Constructed(torch.eye(3))
    mixed = scene(image, halves(0, 2, columns=6))  # the right patches are half cow, half grass: not counted
    assert cosine_margin(clip, [mixed], NAMES) == pytest.approx(1)
    clear = scene(image, halves(0, 2))
    assert cosine_margin(clip, [clear], NAMES, only=[0]) == pytest.approx(1)
    assert cosine_margin(clip, [clear], NAMES, only=[2]) == pytest.approx(-1)
    assert math.isnan(cosine_margin(clip, [clear], NAMES, only=[1])), "no patch counts"


def pictures(seed: int, count: int = 3) -> Tensor:
    """For `Constructed`: four patches each."""
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def test_relation_bits_are_the_information_beyond_every_pairing_of_patches() -> None:
    """Against all 24 pairings of four patches, from cosines without their mean over the patches."""
    images, words = pictures(0), (torch.eye(3), torch.tensor([[1.0, 0.5, 0], [0, 1.0, 0.5], [0.3, 0, 1.0]]))
    bits = []
    for image in images:
        maps = [
            F.normalize(image[:, ::4, ::4].reshape(3, 4).T, dim=1) @ F.normalize(w, dim=1).T for w in words
        ]
        units = [F.normalize(m - m.mean(0, keepdim=True), dim=1).double() for m in maps]
        a, b = (u @ u.T / 4 for u in units)
        paired = [(a * b[list(order)][:, list(order)]).square().sum() for order in permutations(range(4))]
        bits.append(((a * b).square().sum() / torch.stack(paired).mean()).log2())
    got = relation_bits(Constructed(words[0]), Constructed(words[1]), images, NAMES)
    assert got == pytest.approx(torch.stack(bits).mean().item(), abs=1e-5)


def test_relation_bits_are_most_for_the_model_itself_and_none_for_noise(
    tiny: DenseCLIP, make_tiny: Callable[..., DenseCLIP]
) -> None:
    images, other = (
        torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)),
        make_tiny(seed=5).requires_grad_(False),
    )
    names = ["cow", "lion", "grass", "sky", "drum"]
    own, strange = relation_bits(tiny, tiny, images, names), relation_bits(other, tiny, images, names)
    assert own > 0.2 and abs(strange) < 0.3 * own
    assert relation_bits(tiny, other, images, names) == pytest.approx(strange, abs=1e-5), "both ways the same"


def test_probe_names_every_measure_and_says_the_same_twice(tiny: DenseCLIP) -> None:
    data = Collage("val", 32, length=6)
    scenes = [data[i] for i in range(6)]
    first, second = (probe(tiny, tiny, scenes, data.names, data.unseen, "value") for _ in range(2))
    assert first == second
    named = {"image_to_text", "text_to_image", "noun_recognition", "margin", "margin_unseen", "relation_bits"}
    assert set(first) == named | {"cka_0", "cka_1", "cka_2"}
    assert [first[f"cka_{i}"] for i in range(3)] == pytest.approx([1, 1, 1])
    assert np.isfinite(list(first.values())).all()


def test_probes_look_once_at_the_pictures_and_say_what_each_says_alone(
    make_tiny: Callable[..., DenseCLIP], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Collage("val", 32, length=40)
    scenes = [data[i] for i in range(40)]
    models = {
        name: make_tiny(seed).requires_grad_(False) for seed, name in enumerate(("pretrained", "a", "b"))
    }
    passes: list[str] = []
    tower = DenseCLIP.tower

    def counted(clip: DenseCLIP, images: Tensor, *rest: object, **options: bool) -> object:
        passes.append(next(name for name, model in models.items() if model is clip))
        return tower(clip, images, *rest, **options)

    monkeypatch.setattr(DenseCLIP, "tower", counted)
    reference = models["pretrained"]
    probes = Probes(reference, scenes, data.names, data.unseen, "cls_value")
    for name in ("a", "b"):
        clip, got = models[name], probes(models[name])
        few = torch.stack([scene.image for scene in scenes[:32]])
        with torch.inference_mode():
            wanted = {
                **retrieval(clip, scenes),
                "noun_recognition": noun_recognition(clip, scenes, data.names),
                "margin": cosine_margin(clip, scenes, data.names, "cls_value"),
                "margin_unseen": cosine_margin(clip, scenes, data.names, "cls_value", only=data.unseen),
                "relation_bits": relation_bits(clip, reference, few, data.names, "cls_value"),
                **{f"cka_{i}": each for i, each in enumerate(layer_alignment(clip, reference, few))},
            }
        assert got == pytest.approx(wanted, abs=1e-5)
    passes.clear()
    probes(models["a"])
    assert passes == ["a"], "one pass, and the reference is known"


def test_shipped_model_is_better_than_chance_on_every_probe(mini: DenseCLIP) -> None:
    data = Collage("val", length=40)
    scenes = [data[i] for i in range(40)]
    got = probe(mini, mini, scenes, data.names, data.unseen, "cls_value")
    assert got["image_to_text"] > 0.3 and got["text_to_image"] > 0.3 and got["noun_recognition"] > 0.4


def unchecked_gram(x: Tensor, **options: object) -> Tensor:
    """`gram` reads values back to look whether they are finite; there are none."""
    return x @ x.mT


def test_scenes_of_the_cpu_are_probed_where_the_model_is(tiny: DenseCLIP) -> None:
    """On a GPU that is not there: whatever is compared must have come to one device."""
    data = Collage("val", 32, length=3)
    scenes = [data[i] for i in range(3)]
    with fake_machine() as mode, torch.inference_mode():
        clip, images = moved_in(tiny, mode), torch.rand(3, 3, 32, 32)
        margins = patch_margins(clip, scenes, data.names, "value")
        assert {x.device for x in margins} == {CUDA} and margins[0].shape == (3, 4, 4)
        cosines = clip.encode_image(images) @ clip.encode_prompts([s.caption for s in scenes]).T
        assert probes._recall(cosines).device == CUDA


def test_a_reference_on_another_device_is_compared_on_the_models(
    tiny: DenseCLIP, monkeypatch: pytest.MonkeyPatch
) -> None:
    met: list[tuple[torch.device, torch.device]] = []

    def watched(x: Tensor, y: Tensor, **options: object) -> Tensor:
        met.append((x.device, y.device))
        return torch.zeros(1)

    monkeypatch.setattr(probes, "gram", unchecked_gram)
    monkeypatch.setattr(probes, "linear_cka", watched)
    monkeypatch.setattr(probes, "renyi_mutual_information", watched)
    monkeypatch.setattr(Tensor, "item", lambda self: 0.0)
    with fake_machine() as mode, torch.inference_mode():
        clip, images = moved_in(tiny, mode), torch.rand(3, 3, 32, 32)
        layer_alignment(clip, tiny, images)
        relation_bits(clip, tiny, images, NAMES)
    assert len(met) == 4 and set(met) == {(CUDA, CUDA)}
