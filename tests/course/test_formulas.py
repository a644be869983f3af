"""Formulas as browsers draw them."""

import re

import pytest

pytest.importorskip("latex2mathml", reason="the docs extra is not installed")

from infoclip_lite.course.slides.formulas import mathml  # noqa: E402


@pytest.mark.parametrize(
    ("formula", "shown"),
    [
        (r"\ln 128", "<mi>ln</mi>&<mn>128</mn>"),
        (r"p \log_2 p", "<mi>p</mi>&<msub><mi>log</mi><mn>2</mn></msub>&<mi>p</mi>"),
        (r"\log (x)", '<mi>log</mi><mo stretchy="false">(</mo><mi>x</mi><mo stretchy="false">)</mo>'),
        (r"\mathcal L + \mathbb E", "<mi>ℒ</mi><mo>+</mo><mi>𝔼</mi>"),
        (r"\operatorname{mean} x", "<mi>mean</mi>&<mi>x</mi>"),
    ],
)
def test_a_formula_has_the_gaps_and_letters_that_browsers_do_not_add(formula: str, shown: str) -> None:
    found = mathml(formula, "inline")
    assert re.sub(r"</?math[^>]*>|(?<=.)</mrow></math>", "", found).removeprefix("<mrow>") == shown.replace(
        "&", '<mspace width="0.167em" />'
    )
