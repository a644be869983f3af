"""Views of a word: what made them differs, and nothing of the teacher is left in the student."""

from __future__ import annotations

import numpy as np
import pytest

from infoclip_lite import Run, train
from infoclip_lite.figures.relation import relation_views


@pytest.fixture(scope="module")
def runs() -> dict[str, Run]:
    head = train("mini/head", steps=1, progress=False)
    return {
        name: train(f"mini/{name}", steps=1, start=head, progress=False) for name in ("catseg", "infoclip")
    }


def test_views_of_a_word_differ_by_what_made_them(runs: dict[str, Run]) -> None:
    first, second = relation_views(runs["catseg"], runs["infoclip"], count=2)
    assert first.word != second.word and list(first.maps) == list(second.maps)
    for view in (first, second):
        assert all(m.shape == (12, 12) for m in view.maps.values())
        assert view.truth.mean() >= 0.2 and view.truth.shape == view.image.shape[1:]
        assert all(0 <= view.precision(title) <= 1 for title in view.maps)
    maps = list(first.maps.values())
    assert not np.allclose(maps[0], maps[1]) and not np.allclose(maps[2], maps[3])


def test_views_need_a_run_with_lpam(runs: dict[str, Run]) -> None:
    with pytest.raises(ValueError, match="no LPAM; expected one with objective infoclip"):
        relation_views(runs["infoclip"], runs["catseg"])


def test_nothing_of_teacher_or_lpam_is_left_at_inference(runs: dict[str, Run]) -> None:
    plain, ours = (set(runs[name].model.state_dict()) for name in ("catseg", "infoclip"))
    assert plain == ours and not any("lpam" in key for key in ours)
