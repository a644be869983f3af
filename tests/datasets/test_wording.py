"""Other words for the classes: in the formats of the field, as many as there are classes, none blank."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from infoclip_lite.datasets import Collage, Sample, SegmentationDataset
from infoclip_lite.datasets.base import check_segmented, known_as
from infoclip_lite.datasets.wording import Reworded, read_words

COLLAGE = Collage("test", 32, length=3)
OTHER = [f"{name}, a {name}" for name in COLLAGE.names]


def test_pictures_names_and_ids_stay_and_words_change() -> None:
    other = check_segmented(Reworded(COLLAGE, OTHER))
    assert (other.names, other.words) == (COLLAGE.names, tuple(OTHER))
    assert (other.unseen, other.ignore, other.split, len(other)) == (
        COLLAGE.unseen,
        COLLAGE.ignore,
        "test",
        3,
    )
    assert list(other.owners) == list(range(len(COLLAGE.names)))
    assert torch.equal(other[2].mask, COLLAGE[2].mask)


def test_a_report_tells_the_words_apart() -> None:
    first, second = Reworded(COLLAGE, OTHER).describe(), Reworded(COLLAGE, COLLAGE.names).describe()
    assert first != second and first["of"] == second["of"] == COLLAGE.describe()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (OTHER[:-1], "got 62 words for 63 classes; expected one for each, from '.*' to '.*'$"),
        (OTHER + ["sea"], "got 64 words"),
        ([" , ", *OTHER[1:]], "got no word for '.*'; expected letters on every line"),
    ],
)
def test_words_that_do_not_fit_are_refused(words: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Reworded(COLLAGE, words)


class Behind(SegmentationDataset):
    """Two classes and background, of which two words are encoded."""

    def __init__(self) -> None:
        super().__init__(
            ["cow", "sheep", "background"], words=["cow", "sheep", "sky", "grass"], owners=[0, 1, 2, 2]
        )
        self.known_as = "toy"

    def __len__(self) -> int:
        return 0

    def __getitem__(self, index: int) -> Sample:
        raise IndexError


def test_what_is_said_of_background_comes_first_as_in_sclips_lists() -> None:
    data = Reworded(Behind(), ["sky, wall", "ox", "ewe"])
    assert [(word, data.names[owner]) for word, owner in zip(data.words, data.owners, strict=True)] == [
        ("sky, wall", "background"),
        ("ox", "cow"),
        ("ewe", "sheep"),
    ]
    assert known_as(data) == "toy"


def test_a_list_may_have_a_line_for_each_word_as_catsegs_for_pas20b_has() -> None:
    data = Reworded(Behind(), ["ox", "ewe", "sea", "wall"])
    assert data.words == ("ox", "ewe", "sea", "wall") and data.owners == (0, 1, 2, 2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["cow", "sheep", "sky"],
            "got 'cow' first, which is a class; expected .*background first, and then 'cow'",
        ),
        (
            ["ox", "ewe"],
            "got 2 words for 3 classes; expected what is said of background first, then",
        ),
        (["ox"] * 5, "from 'cow' to 'sheep', or one for each of its 4 words"),
    ],
)
def test_lists_that_do_not_fit_a_data_set_with_a_background_are_refused(words: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Reworded(Behind(), words)


def test_lines_and_lists_are_read(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("aeroplane\nperson, child, girl \n\n", encoding="utf-8-sig")
    (tmp_path / "list.json").write_text('["aeroplane",\n "person, child, girl"]')
    assert (
        read_words(tmp_path / "lines.txt")
        == read_words(tmp_path / "list.json")
        == ["aeroplane", "person, child, girl"]
    )
    (tmp_path / "lists.txt").write_text('["aeroplane ", ["person", "child", "girl"]]')
    assert read_words(tmp_path / "lists.txt") == ["aeroplane", "person, child, girl"], "by what is in it"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.json", "[1, 2]", "holds another thing; expected a list of texts"),
        ("a.json", '{"cow": 1}', "holds another thing"),
        ("a.json", '["cow"', "is no JSON"),
        ("a.json", '["cow", ["ox", 1]]', "holds another thing"),
        ("a.json", "[]", "has no words; expected one class a line"),
        ("a.json", '["cow", ""]', "is blank in line 2 of 2; expected a class on every line"),
        ("a.txt", "", "has no words"),
        ("a.txt", "cow\n \nsheep\n", "is blank in line 2 of 3; expected a class on every line"),
        ("a.txt", "cow\n,\nsheep\n", "is blank in line 2 of 3"),
        ("a.txt", b"\xff\xfe\x00", "is no UTF-8"),
    ],
)
def test_files_that_are_no_lists_are_refused(name: str, text: str | bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=said):
        read_words(tmp_path / name)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"no .*nope\.txt; expected a text file with one class a line"
    ):
        read_words(tmp_path / "nope.txt")
