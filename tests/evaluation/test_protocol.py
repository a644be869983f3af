"""Protocols say what was published, and refuse what cannot be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from infoclip_lite.clip.refinements import Pamr
from infoclip_lite.evaluation import PROTOCOLS, EvaluationProtocol, get_protocol
from infoclip_lite.evaluation.protocol import WHOLE
from infoclip_lite.evaluation.published import CATSEG, TRAINING_FREE, ZERO_SHOT


def test_the_published_numbers() -> None:
    """The sources are beside each constant."""
    sizes = (CATSEG.shorter, CATSEG.square, CATSEG.window, CATSEG.stride, CATSEG.patches)
    assert sizes == (640, 640, 384, 256, 24)
    assert CATSEG.whole and CATSEG.activation == "sigmoid" and CATSEG.pooling == 1 and not CATSEG.false_alarms
    assert CATSEG.antialias and CATSEG.eight_bit, "Pillow's arithmetic"
    assert (TRAINING_FREE.shorter, TRAINING_FREE.window, TRAINING_FREE.stride) == (336, 224, 112)
    assert TRAINING_FREE.logit_scale == 40 and TRAINING_FREE.synonyms == "max"
    assert TRAINING_FREE.prompts is not None and len(TRAINING_FREE.prompts) == 80
    assert (ZERO_SHOT.shorter, ZERO_SHOT.window, ZERO_SHOT.stride) == (512, 512, 426)


def test_protocols_are_found_by_name_and_pass_through() -> None:
    assert list(PROTOCOLS) == [
        *("whole", "catseg", "training-free", "zero-shot"),
        *("maskclip", "sclip", "clearclip", "naclip", "resclip", "pearl"),
    ]
    assert all(get_protocol(name) is protocol for name, protocol in PROTOCOLS.items())
    own = EvaluationProtocol("own", window=9)
    assert get_protocol(own) is own


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"window": 4, "stride": 5}, "1 <= stride <= window"),
        ({"window": 8, "stride": 0}, "1 <= stride <= window"),
        ({"window": 8, "stride": -1}, "1 <= stride <= window"),
        ({"window": 0}, "1 <= stride <= window"),
        ({"window": -4, "stride": 1}, "1 <= stride <= window"),
        ({"shorter": 0}, "shorter is 0"),
        ({"largest": 0}, "largest is 0"),
        ({"elongation": -1}, "elongation is -1"),
        ({"whole": True, "window": None}, "expected a window"),
        ({"strips_only": True}, "expected a window"),
        ({"threshold": 1.5}, "threshold is 1.5"),
        ({"threshold": float("nan")}, "threshold is nan"),
        ({"activation": "softmax"}, "'none' or 'sigmoid'"),
        ({"templates": "a photo of a {}"}, "a tuple of prompts"),
        ({"synonyms": "best"}, "unknown synonyms 'best'; expected 'mean' or 'max' or 'first'"),
        ({"partial": "crop"}, "'stretch' or 'cut' or 'pad'"),
        ({"positions": "factors"}, "'size' or 'factor'"),
        ({"area": -0.1}, "area is -0.1"),
        ({"templates": "imagenet80"}, "'imagenet' or 'maskclip', or a tuple"),
        ({"refine": "pamr"}, "got refine='pamr'; expected None or a refinement"),
        ({"refine": Pamr}, "expected None or a refinement"),
    ],
)
def test_protocols_that_cannot_be_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        replace(WHOLE, **changes)


def test_unknown_protocols_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown protocol 'cat-seg'.*catseg"):
        get_protocol("cat-seg")
