"""The stem's classifier as a teacher: equal to timm's, and a divergence that is zero where it agrees."""

from __future__ import annotations

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor

from infoclip_lite.clip.stem import Stem, lite0_weights
from infoclip_lite.training.class_teacher import ClassTeacher, class_names


def test_with_every_direction_it_is_timms_classifier() -> None:
    """Of 1,000 directions none is lost, and standardised features give the same probabilities."""
    state = lite0_weights()
    stem = Stem(8, directions=1000, enlarge=1)
    stem.fill(state)
    pictures = torch.rand(4, 3, 64, 96, generator=torch.Generator().manual_seed(0)) * 2 - 1
    stem.standardise(pictures)
    peer = timm.create_model("tf_efficientnet_lite0").eval()
    peer.load_state_dict(dict(zip(peer.state_dict(), state.values(), strict=True)))
    teacher = ClassTeacher.of_stem(stem, state, torch.zeros(1000, 16))
    with torch.inference_mode():
        ours = teacher.probabilities(stem.features(pictures).deep)
        assert torch.allclose(ours, peer(pictures).softmax(1), atol=1e-4)


@pytest.fixture
def teacher() -> ClassTeacher:
    generator = torch.Generator().manual_seed(0)
    words = F.normalize(torch.randn(5, 12, generator=generator), dim=1)
    return ClassTeacher(torch.randn(5, 7, generator=generator), torch.randn(5, generator=generator), words)


def deep(seed: int) -> Tensor:
    return torch.randn(3, 7, 2, 2, generator=torch.Generator().manual_seed(seed))


def test_loss_is_the_divergence_of_torch(teacher: ClassTeacher) -> None:
    image = F.normalize(torch.randn(3, 12, generator=torch.Generator().manual_seed(3)), dim=1)
    named = (9.0 * image @ teacher.words.T).log_softmax(1)
    wanted = F.kl_div(named, teacher.probabilities(deep(2)), reduction="batchmean")
    assert torch.allclose(teacher.loss(image, deep(2), torch.tensor(9.0)), wanted, atol=1e-5)


def test_an_image_that_names_the_sure_class_has_no_loss() -> None:
    sure = ClassTeacher(torch.eye(4) * 60, torch.zeros(4), torch.eye(4))
    right = sure.loss(torch.eye(4), torch.eye(4)[..., None, None], torch.tensor(50.0))
    wrong = sure.loss(torch.eye(4).roll(1, 0), torch.eye(4)[..., None, None], torch.tensor(50.0))
    assert right < 1e-4 and wrong > 10


def test_another_number_of_names_than_classes_is_refused() -> None:
    stem = Stem(8, directions=16)
    with pytest.raises(ValueError, match="one for each of 1000 classes"):
        ClassTeacher.of_stem(stem, lite0_weights(), torch.zeros(999, 16))


def test_there_is_a_name_for_each_class() -> None:
    names = class_names()
    assert len(names) == 1000 and names[0] == "tench" and names[999] == "toilet tissue"
