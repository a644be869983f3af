"""The best word at every pixel: in parts, with synonyms and thresholds, at another size; errors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from fake_devices import CUDA, fake_machine, moved_in, pictures
from torch import Tensor
from toy_segmentors import PICTURE, SMALL, Neighbours, Photos, Reader, scaled

from infoclip_lite import DenseCLIP
from infoclip_lite.clip.refinements import Pamr, Propagation, Refinement
from infoclip_lite.evaluation import windows as windows_module
from infoclip_lite.evaluation.predict import best_words, predict
from infoclip_lite.evaluation.protocol import WHOLE, EvaluationProtocol
from infoclip_lite.evaluation.vocabulary import Vocabulary, encode_vocabulary, flatten_synonyms, vocabulary_of
from infoclip_lite.evaluation.windows import WindowLogits, enlarged, resized, run_windows
from infoclip_lite.segmentors import ZeroShotSegmentor

WORDS = 7


def windows_and_words(protocol: EvaluationProtocol, words: int = WORDS) -> tuple[WindowLogits, Vocabulary]:
    owners = torch.arange(words) // 2  # synonyms: two words a class
    vocabulary = Vocabulary(torch.eye(words), owners, owners < 2, background=0)
    return run_windows(Neighbours(words), PICTURE, vocabulary.text, protocol), vocabulary


@pytest.mark.parametrize("name", list(SMALL))
@pytest.mark.parametrize("chunk", [1, 3, 7])
def test_words_in_parts_give_the_same_labels(name: str, chunk: int) -> None:
    windows, words = windows_and_words(SMALL[name])
    scores = scaled(windows.scores(), (33, 21))
    gammas = (0.0, 0.4)
    wanted = [
        words.owners[(scores - gamma * words.seen.float()[:, None, None]).argmax(1)] for gamma in gammas
    ]
    found = best_words(windows, words, (33, 21), gammas=gammas, chunk=chunk)
    assert all(torch.equal(a, b) for a, b in zip(found.labels, wanted, strict=True))
    assert found.confidence is None and bool(found.valid)


@pytest.mark.parametrize("chunk", [1, 3, 7])
def test_confidence_is_the_fraction_of_the_softmax_and_below_the_threshold_is_background(chunk: int) -> None:
    windows, words = windows_and_words(SMALL["training-free"])
    scores = scaled(windows.scores(), (33, 21))
    confidence = scores.softmax(1).amax(1)
    threshold = confidence.median().item() + 1e-5  # half become background
    found = best_words(windows, words, (33, 21), chunk=chunk, threshold=threshold)
    assert found.confidence is not None and torch.allclose(found.confidence, confidence, atol=1e-6)
    wanted = words.owners[scores.argmax(1)].masked_fill(confidence < threshold, 0)
    assert torch.equal(found.labels[0], wanted)


@pytest.mark.parametrize("chunk", [1, 2, 4])
def test_a_class_with_too_little_of_the_foreground_goes_to_the_next_best(chunk: int) -> None:
    """SCLIP's rule, written out: 12 pixels of class 1, 3 of class 2, 1 of class 3; the rest is background."""
    best = torch.tensor([[0, 0, 0, 0, 1, 1], [1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 2, 2], [2, 3, 0, 0, 0, 0]])
    next_best = torch.tensor([[3] * 6, [0] * 6, [0] * 6, [1, 2, 2, 2, 2, 2]])
    one_hot = [F.one_hot(labels, 4).movedim(-1, 0).float() for labels in (best, next_best)]
    logits = (2 * one_hot[0] + one_hot[1])[None]

    class Told(Neighbours):
        def logits(self, images: Tensor, text: Tensor) -> Tensor:
            return logits

    words = Vocabulary(torch.eye(4), torch.arange(4), torch.ones(4, dtype=torch.bool), background=0)
    picture = torch.zeros(1, 3, 4, 6)

    def labels(area: float, threshold: float = 0.0) -> Tensor:
        protocol = replace(WHOLE, area=area, threshold=threshold)
        return predict(Told(), picture, words, protocol, class_chunk=chunk).labels[0][0]

    assert torch.equal(labels(0.0), best)
    without_3 = best.clone()
    without_3[3, 1] = 2
    assert torch.equal(labels(1 / 16), without_3), "a sixteenth is not more than a sixteenth"
    without_2 = without_3.clone()
    without_2[2, 4:], without_2[3, 0] = 0, 1
    # The single pixel of 3 has 2 next, which is out as well; what is left there are equal scores.
    assert torch.equal(labels(0.2)[:3], without_2[:3]) and labels(0.2)[3, 0] == 1
    assert bool((labels(1.0) == 0).all()), "background is never too small"
    # In the softmax the words stay: a pixel that lost its best is less sure than one that kept it.
    sure = (logits.softmax(1).amax(1)[0] - 1e-4).min().item()
    assert bool((labels(1 / 16, sure)[3, 1] == 0).all()) and labels(1 / 16, sure)[0, 4] == 1


@pytest.mark.parametrize("chunk", [1, 3, 7])
@pytest.mark.parametrize("refinement", [Pamr(dilations=(1, 2)), Propagation(grid=45)])
def test_small_classes_are_small_after_the_scores_were_refined(refinement: Refinement, chunk: int) -> None:
    """As in SCLIP's code: refined, then looked at, then without those words, then the threshold."""
    area, threshold = 0.01, 0.32
    protocol = replace(WHOLE, refine=refinement, area=area, threshold=threshold)
    words = Vocabulary(torch.eye(WORDS), torch.arange(WORDS) // 2, torch.ones(WORDS, dtype=torch.bool), 0)
    scores = run_windows(Neighbours(WORDS), PICTURE, words.text, protocol).scores()
    whole = [slice(0, WORDS)]
    better = refinement.refined(PICTURE, lambda part: scores[:, part], whole, words.text, 1.0)(whole[0])

    def small(looked_at: Tensor) -> list[list[int]]:
        """Classes of each picture that have too little of its foreground."""
        pictures = words.owners[looked_at.argmax(1)].flatten(1).tolist()
        counts = [[labels.count(owner) for owner in range(4)] for labels in pictures]
        return [[owner for owner in (1, 2, 3) if n[owner] <= area * sum(n[1:])] for n in counts]

    assert small(better) != small(scores), "else the order could not be told"
    left = better.clone()
    for picture, classes in enumerate(small(better)):
        left[picture, [word for word in range(WORDS) if word // 2 in classes]] = -torch.inf
    assert (left.argmax(1) != better.argmax(1)).any()
    # Words that are out count in the softmax still.
    confidence = (left.amax(1) - better.logsumexp(1)).exp()
    wanted = words.owners[left.argmax(1)].masked_fill(confidence < threshold, 0)
    found = predict(Neighbours(WORDS), PICTURE, words, protocol, class_chunk=chunk)
    assert torch.equal(found.labels[0], wanted)
    assert found.confidence is not None and torch.allclose(found.confidence, confidence, atol=1e-5)


@pytest.mark.parametrize(("chunk", "times"), [(None, 1), (3, 2)])
def test_what_fits_at_once_is_refined_once_and_a_picture_is_resized_once(
    chunk: int | None, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small classes need a second look: only words in parts are then refined again."""
    asked: list[str] = []

    class Counted(Pamr):
        def spread(self, maps: Tensor, weights: Tensor) -> Tensor:
            asked.append("spread")
            return super().spread(maps, weights)

    own = windows_module.resized
    monkeypatch.setattr(windows_module, "resized", lambda *given: (asked.append("resized"), own(*given))[1])
    protocol = replace(SMALL["training-free"], refine=Counted(dilations=(1, 2)), area=0.01)
    words = Vocabulary(torch.eye(WORDS), torch.arange(WORDS) // 2, torch.ones(WORDS, dtype=torch.bool), 0)
    predict(Neighbours(WORDS), PICTURE, words, protocol, class_chunk=chunk)
    assert asked.count("resized") == 1 and asked.count("spread") == times * -(-WORDS // (chunk or WORDS))


@pytest.mark.parametrize("name", list(SMALL))
@pytest.mark.parametrize("independent", [False, True])
@pytest.mark.parametrize("refinement", [Pamr(dilations=(1, 2)), Propagation(grid=12, pairs=True)])
def test_scores_are_refined_where_labels_are_decided(
    name: str, independent: bool, refinement: Refinement
) -> None:
    protocol = replace(SMALL[name], refine=refinement, threshold=0.2)
    segmentor, words = Neighbours(WORDS), windows_and_words(protocol)[1]
    segmentor.independent = independent
    scores = scaled(run_windows(segmentor, PICTURE, words.text, protocol).scores(), (33, 21))
    # The picture as the model saw it, brought to the size of the labels.
    seen = scaled(resized(PICTURE, protocol, 8)[0], (33, 21))
    # Logits of cosines are ten times as large here; those of sigmoids are no cosines.
    scale = 1.0 if independent else 0.1
    better = refinement.refined(seen, lambda part: scores[:, part], [slice(0, WORDS)], words.text, scale)
    wanted = better(slice(0, WORDS))
    assert (wanted.argmax(1) != scores.argmax(1)).any()
    found = predict(segmentor, PICTURE, words, protocol, size=(33, 21), class_chunk=3)
    scale = 1.0 if protocol.logit_scale is None else protocol.logit_scale / 10
    confidence = (scale * wanted).softmax(1).amax(1)
    labels = words.owners[wanted.argmax(1)].masked_fill(confidence < 0.2, 0)
    assert torch.equal(found.labels[0], labels)
    assert found.confidence is not None and torch.allclose(found.confidence, confidence, atol=1e-5)


def test_only_a_part_of_the_words_is_ever_enlarged(monkeypatch: pytest.MonkeyPatch) -> None:
    windows, words = windows_and_words(SMALL["zero-shot"])
    largest, enlarge = [0], F.interpolate

    def watched(x: Tensor, *args: Any, **options: Any) -> Tensor:
        result = enlarge(x, *args, **options)
        largest[0] = max(largest[0], result.numel())
        return result

    monkeypatch.setattr(F, "interpolate", watched)
    best_words(windows, words, (200, 300), chunk=2)
    assert largest[0] == 2 * 200 * 300


@pytest.mark.parametrize("chunk", [1, 2, 7])
def test_a_nan_in_any_part_is_said(chunk: int) -> None:
    broken = Neighbours()
    broken.layer.bias[2] = torch.nan
    words = Vocabulary(torch.eye(7), torch.arange(7), torch.ones(7, dtype=torch.bool))
    with pytest.raises(FloatingPointError, match="scores that are NaN.*weights broken"):
        predict(broken, PICTURE, words, class_chunk=chunk)


def test_labels_are_decided_small_and_enlarged() -> None:
    words = Vocabulary(torch.eye(7), torch.arange(7), torch.ones(7, dtype=torch.bool))
    found = predict(Neighbours(), PICTURE, words, replace(WHOLE, largest=15), confidence=True)
    small = predict(Neighbours(), PICTURE, words, size=(10, 15), confidence=True)
    assert found.labels[0].shape == (1, 30, 45) and found.labels[0].dtype == torch.int64
    assert torch.equal(found.labels[0], small.labels[0].repeat_interleave(3, 1).repeat_interleave(3, 2))
    assert found.confidence is not None and small.confidence is not None
    assert torch.equal(found.confidence[:, ::3, ::3], small.confidence)


def test_a_protocols_scale_stands_in_the_place_of_clips_own() -> None:
    toy = Neighbours()  # its CLIP's scale is 10
    words = Vocabulary(torch.eye(7), torch.arange(7), torch.ones(7, dtype=torch.bool))
    found = predict(toy, PICTURE, words, replace(WHOLE, logit_scale=40.0), confidence=True)
    wanted = (4 * toy.logits(PICTURE, torch.eye(7))).softmax(1).amax(1)
    assert found.confidence is not None and torch.allclose(found.confidence, wanted, atol=1e-5)


def test_out_of_memory_says_what_to_change() -> None:
    class Full(Neighbours):
        def logits(self, images: Tensor, text: Tensor) -> Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory")

    words = Vocabulary(torch.eye(7), torch.arange(7), torch.ones(7, dtype=torch.bool))
    with pytest.raises(
        MemoryError, match=r"7 words.*window_batch=1 \(saves about 75%.*class_chunk=1 in place of 7"
    ):
        predict(Full(), Photos()[0].image[None], words, SMALL["catseg"], window_batch=4)


def test_synonyms_are_flattened_in_order() -> None:
    assert flatten_synonyms(["ox|cow", "grass", "a, b,c"]) == (
        ["ox", "cow", "grass", "a", "b", "c"],
        [0, 0, 1, 2, 2, 2],
    )


def test_the_best_synonym_speaks_for_its_class() -> None:
    reader = Reader()
    maximum = replace(WHOLE, synonyms="max")
    words = encode_vocabulary(reader, ["ox|cow", "grass", "sky"], [0, 1, 255], maximum, unseen=[1])
    assert reader.clip.asked == ["ox", "cow", "grass", "sky"] and words.owners.tolist() == [0, 0, 1, 255]
    assert words.seen.tolist() == [True, True, False, True]
    answers = torch.tensor([[0.0, 0.1], [0.2, 0.3]])
    found = predict(reader, torch.stack([answers, answers, answers])[None], words, maximum)
    assert found.labels[0][0].tolist() == [[0, 0], [1, 255]]
    encode_vocabulary(reader, ["ox|cow", "grass"], [0, 1], WHOLE)
    assert reader.clip.asked == ["ox|cow", "grass"], "their mean is the text tower's to take"


@pytest.mark.parametrize("owners", [[0, 1], [0, 1, 2, 3, 4, 5, 7], [-1, 1, 2, 3, 4, 5, 6]])
def test_owners_that_do_not_fit_the_words_are_refused(owners: list[int]) -> None:
    photos = Photos()
    photos.owners = tuple(owners)
    with pytest.raises(ValueError, match=r"got 7 words and \d owners in .*; expected one of 0 \.\. 6 each"):
        vocabulary_of(Neighbours(), photos, WHOLE)


def test_a_threshold_without_a_background_is_refused() -> None:
    with pytest.raises(ValueError, match="no class called 'background'"):
        vocabulary_of(Neighbours(), Photos(), replace(WHOLE, threshold=0.1))


@pytest.mark.parametrize("name", ["whole", *SMALL])
def test_pictures_of_the_cpu_are_labelled_where_the_model_is(name: str, tiny: DenseCLIP) -> None:
    """On a GPU that is not there: windows, averages, the best word, the threshold."""
    protocol = SMALL.get(name, WHOLE)
    # Pillow works on values, and there are none
    protocol = replace(protocol, antialias=False, threshold=0.1, logit_scale=None)
    with fake_machine() as mode, torch.inference_mode():
        segmentor = moved_in(ZeroShotSegmentor(tiny, ("value", "cls_value")), mode)
        words = encode_vocabulary(segmentor, ["cow", "grass", "sky"], [0, 1, 255], protocol, background=255)
        windows = run_windows(segmentor, pictures(mode, 2, 3, 30, 45), words.text, protocol)
        assert windows.scores().device == CUDA
        found = best_words(windows, words, (60, 90), gammas=(0.0, 0.5), chunk=2, threshold=0.1)
        assert found.labels[0].shape == (2, 60, 90) and found.confidence is not None
        assert {x.device for x in (*found.labels, found.confidence, found.valid)} == {CUDA}
        assert {x.device.type for x in (*found.cpu().labels, found.cpu().valid)} == {"cpu"}


@pytest.mark.parametrize("refinement", [Pamr(), Propagation(grid=12)])
def test_scores_are_refined_where_the_model_is(refinement: Refinement, tiny: DenseCLIP) -> None:
    with fake_machine() as mode, torch.inference_mode():
        segmentor = moved_in(ZeroShotSegmentor(tiny, ("resclip", "cliper")), mode)
        words = encode_vocabulary(segmentor, ["cow", "grass", "sky"], [0, 1, 2], WHOLE)
        windows = run_windows(segmentor, pictures(mode, 2, 3, 30, 45), words.text, WHOLE)
        assert windows.scores().device == CUDA, (
            "and read-outs that look at words and at pictures answer there"
        )
        picture = pictures(mode, 2, 3, 60, 90).to(CUDA)
        found = best_words(
            windows,
            words,
            (60, 90),
            chunk=2,
            scores=refinement.refined(
                picture,
                lambda part: enlarged(windows.scores(part), (60, 90)),
                [slice(0, 2), slice(2, 4)],
                words.text,
                0.1,
            ),
        )
        assert found.labels[0].shape == (2, 60, 90) and found.labels[0].device == CUDA


def test_a_segmentor_that_moves_nothing_is_given_pictures_on_its_device() -> None:
    with fake_machine() as mode, torch.inference_mode():
        toy = moved_in(Neighbours(), mode)
        found = run_windows(
            toy, pictures(mode, 1, 3, 30, 45), torch.ones(7, 7, device=CUDA), SMALL["zero-shot"]
        )
        assert found.scores().device == CUDA
