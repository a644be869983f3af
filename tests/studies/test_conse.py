"""ConSE: an image embedding made of class names, at image level and per cell."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from infoclip_lite.studies import conse


class Colours(nn.Module):
    """A classifier of three colours: the logits are a picture's mean channels, times a hundred."""

    def forward_features(self, images: Tensor) -> Tensor:
        return F.avg_pool2d(images, 32)

    def get_classifier(self) -> nn.Module:
        return self

    def forward(self, values: Tensor) -> Tensor:
        return 100 * (values.mean((2, 3)) if values.shape[1] == 3 and values.shape[-1] != 3 else values)


@pytest.fixture(autouse=True)
def colours(monkeypatch: pytest.MonkeyPatch) -> None:
    words = {"red": 0, "green": 1, "blue": 2, "sky": 2}
    monkeypatch.setattr(conse, "classifier", Colours)
    monkeypatch.setattr(conse, "_class_words", lambda: torch.eye(3, 5))
    monkeypatch.setattr(conse, "conse_text", lambda names: torch.eye(3, 5)[[words[name] for name in names]])


def halves() -> Tensor:
    """Red on the left, green on the right."""
    image = torch.zeros(3, 64, 128)
    image[0, :, :64] = 1
    image[1, :, 64:] = 1
    return image


def test_a_sure_classifier_gives_the_embedding_of_its_class() -> None:
    image = torch.zeros(1, 3, 64, 64)
    image[:, 2] = 1
    assert torch.allclose(conse.conse_image(image, top=3), torch.eye(3, 5)[2:], atol=1e-4)


def test_an_unsure_classifier_gives_the_direction_between_its_classes() -> None:
    embedding = conse.conse_image(halves()[None], top=3)[0]
    assert torch.allclose(embedding[0], embedding[1]) and embedding[2] < 1e-3
    assert torch.isclose(embedding.norm(), torch.tensor(1.0))


def test_one_class_alone_is_the_nearest_name() -> None:
    logits = torch.tensor([[2.0, 1.9, 0.0]])
    assert torch.allclose(conse._combine(logits, 1), torch.eye(3, 5)[:1])
    assert conse._combine(logits, 2)[0, 1] > 0.5


def test_cells_have_the_classes_of_their_own_places() -> None:
    dense = conse.conse_dense(halves()[None], top=3)
    assert dense.shape == (1, 5, 2, 4)
    assert dense.argmax(1)[0].tolist() == [[0, 0, 1, 1]] * 2
    assert torch.allclose(dense.norm(dim=1), torch.ones(1, 2, 4))


def test_more_classes_than_there_are_is_an_error_that_says_so() -> None:
    with pytest.raises(ValueError, match="top is 4; expected 1 .. 3"):
        conse.conse_image(halves()[None], top=4)


def test_macro_counts_nouns_and_micro_photographs() -> None:
    red, blue = torch.zeros(2, 3, 40, 60)
    red[0], blue[2] = 1, 1
    photographs = [(red, "red"), (red, "red"), (red, "red"), (red, "green"), (blue, "blue")]
    found = conse.recognition(photographs, ["red", "green", "blue"], top=3)
    assert found == {"micro": 4 / 5, "macro": 2 / 3}
    with pytest.raises(ValueError, match="no photographs"):
        conse.recognition([], ["red"])


def test_the_shorter_side_becomes_what_the_classifier_knows() -> None:
    assert conse.fitted(torch.rand(3, 240, 320)).shape == (3, 224, 299)
