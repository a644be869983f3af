"""What competes: a data set's words as a protocol has them, as a user has them, and each for one class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_segmentors import Neighbours, Photos

from infoclip_lite import DenseCLIP
from infoclip_lite.datasets import Sample, SegmentationDataset
from infoclip_lite.datasets.official.classes import class_table
from infoclip_lite.datasets.wording import Reworded
from infoclip_lite.evaluation import evaluate, get_protocol
from infoclip_lite.evaluation.protocol import WHOLE
from infoclip_lite.evaluation.published import CATSEG, PUBLISHED
from infoclip_lite.evaluation.vocabulary import vocabulary_of, words_of
from infoclip_lite.segmentors import ZeroShotSegmentor

PUBLIC: dict[str, Any] = {
    "pas20": (class_table("voc").names, class_table("voc").words),
    "pc59": (class_table("pc59").names, class_table("pc59").words),
    "a150": (class_table("ade150").names, class_table("ade150").words),
    "a847": (class_table("ade847").names, class_table("ade847").words),
    "coco_stuff": (class_table("coco_stuff").names, class_table("coco_stuff").words),
}


class Named(SegmentationDataset):
    """A data set without pictures."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Sample:
        raise IndexError


def named(name: str) -> Named:
    """The classes and words of a data set of the field."""
    if name in ("pas20b", "pc60"):
        names, words = PUBLIC["pas20" if name == "pas20b" else "pc59"]
        behind = [word for word in PUBLIC["pc59"][1] if word not in words] or ["background"]
        owners = [*range(len(names)), *[len(names)] * len(behind)]
        return Named([*names, "background"], words=[*words, *behind], owners=owners)
    names, words = PUBLIC[name]
    return Named(names, words=words)


def said_of(name: str, dataset: str, of: str) -> list[str]:
    """The words of a class in a protocol."""
    data = named(dataset)
    words, owners = words_of(data, get_protocol(name, dataset))
    place = data.names.index(of)
    return [word for word, owner in zip(words, owners, strict=True) if owner == place]


def test_sclips_lists_are_sclips() -> None:
    assert said_of("sclip", "pas20", "boat") == ["ship"] and said_of("sclip", "pas20", "cow") == ["cow"]
    assert len(said_of("sclip", "pas20", "person")) == 7 and len(said_of("sclip", "pas20", "tvmonitor")) == 5
    behind = said_of("sclip", "pas20b", "background")
    assert len(behind) == 26 and behind[0] == "sky" and behind[-1] == "fence"
    assert said_of("sclip", "pc59", "boat") == ["boat"] and said_of("sclip", "pc59", "diningtable") == [
        "table"
    ]
    assert said_of("sclip", "a150", "pool table") == ["pooltable"]
    assert said_of("sclip", "coco_stuff", "hot dog") == ["hotdog"]
    assert said_of("clearclip", "pas20", "person") == ["person"]
    assert said_of("clearclip", "pas20b", "background") == ["background"]
    assert said_of("maskclip", "coco_stuff", "wall-brick") == ["brick wall"]
    assert said_of("training-free", "pas20", "boat") == ["boat"]


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("dataset", [*PUBLIC, "pas20b", "pc60"])
def test_every_published_list_fits_its_data_set(name: str, dataset: str) -> None:
    data = named(dataset)
    words, owners = words_of(data, get_protocol(name, dataset))
    assert set(owners) == set(range(len(data.names))) or dataset == "a847"
    assert sorted(owners) == owners, "the words of a class stand together, classes in their order"


def test_a_word_of_several_classes_is_encoded_once_or_as_often_as_it_is_there() -> None:
    data = named("a847")
    words, owners = words_of(data, WHOLE)
    assert len(words) == len(set(words)) == 837
    assert owners[words.index("bag")] == data.words.index("bag"), "the first class wins"
    words, owners = words_of(data, CATSEG)
    assert tuple(words) == data.words and owners == list(range(847))


def test_catsegs_own_list_of_a847_has_its_first_words_and_clashes_where_synonyms_count() -> None:
    data = named("a847")
    # As ade847.json: every synonym of every class, "bag" and its like in several.
    listed = Reworded(data, [name if ", " in name else f"{name}, the {name}" for name in data.names])
    assert words_of(listed, CATSEG) == (list(data.words), list(range(847)))
    with pytest.raises(ValueError, match="expected each word in one class only"):
        words_of(listed, replace(WHOLE, synonyms="max"))


def test_what_is_there_several_times_is_encoded_once(tiny: DenseCLIP) -> None:
    data = Named(["bag, sack", "cow", "bag, purse"], words=["bag", "cow", "bag"])
    kept = vocabulary_of(ZeroShotSegmentor(tiny), data, replace(WHOLE, repeats=True))
    assert kept.owners.tolist() == [0, 1, 2] and torch.equal(kept.text[0], kept.text[2])
    once = vocabulary_of(ZeroShotSegmentor(tiny), data, WHOLE)
    assert once.owners.tolist() == [0, 1] and torch.equal(once.text, kept.text[:2])


def test_of_synonyms_the_first_may_speak_alone() -> None:
    data = Named(["building", "cow"], words=["building, edifice", "cow|ox"])
    assert words_of(data, replace(WHOLE, synonyms="first")) == (["building", "cow"], [0, 1])
    assert words_of(data, WHOLE)[0] == ["building, edifice", "cow|ox"]
    assert words_of(data, replace(WHOLE, synonyms="max"))[1] == [0, 0, 1, 1]


def test_words_of_ones_own_come_before_those_of_a_protocol() -> None:
    data = named("pas20")
    own = Reworded(data, [f"my {name}" for name in data.names])
    assert words_of(own, get_protocol("sclip", "pas20"))[0] == [f"my {name}" for name in data.names]


def test_a_protocols_words_for_another_data_set_are_refused() -> None:
    with pytest.raises(ValueError, match="has words for 'chest of drawers', which is none of the 20"):
        words_of(named("pas20"), get_protocol("sclip", "a150"))


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        (["cow", "Cow", "sky"], {}),
        (["cow, ox", "ox", "sky"], {"synonyms": "max"}),
        (["cow, ox", "cow", "sky"], {"synonyms": "first"}),
        (["cow", "cow", "sky"], {"repeats": True}),
    ],
)
def test_a_word_that_a_user_gives_to_two_classes_is_refused(
    words: Sequence[str], changes: dict[str, Any]
) -> None:
    other = Reworded(Named(["a", "b", "c"]), words)
    with pytest.raises(ValueError, match="for the classes 'a' and 'b'; expected each word in one class only"):
        words_of(other, replace(WHOLE, **changes))


def test_synonyms_that_overlap_are_refused_before_a_mean_is_taken_of_them() -> None:
    with pytest.raises(ValueError, match="got ox more than once"):
        words_of(Reworded(Named(["a", "b"]), ["cow, ox", "ox, bull"]), WHOLE)


def test_two_classes_of_one_name_are_a_slip() -> None:
    with pytest.raises(ValueError, match="got 'cow' for the classes 'cow' and 'cow'"):
        words_of(Named(["cow", "cow"]), WHOLE)


@pytest.mark.parametrize("name", ["threshold", "area"])
def test_background_is_asked_for_where_it_is_needed(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 0.1, but Photos has no class called 'background'"):
        vocabulary_of(Neighbours(), Photos(), replace(WHOLE, **{name: 0.1}))


def test_an_evaluation_encodes_words_once_for_all_evaluations(
    tiny: DenseCLIP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmentor = ZeroShotSegmentor(tiny)
    first = evaluate(segmentor, Photos(), limit=1, text_cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    monkeypatch.setattr(DenseCLIP, "encode_text", None)
    assert evaluate(segmentor, Photos(), limit=1, text_cache=tmp_path).metrics == first.metrics
