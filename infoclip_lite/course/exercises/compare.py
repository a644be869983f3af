"""Comparisons for judges: each raises Wrong with what was got, what was expected, and what that suggests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import torch

_T = TypeVar("_T")


class Wrong(Exception):
    """An answer that is not right.

    Args:
        got: what the answer gave, in words a student recognises.
        expected: what it should have given.
        perhaps: the likeliest misunderstanding, and what to look at next.
    """

    def __init__(self, got: str, expected: str, perhaps: str) -> None:
        super().__init__(f"got {got}; expected {expected}; perhaps {perhaps}")
        self.got, self.expected, self.perhaps = got, expected, perhaps


class Unanswered(Exception):
    """The stub is still there: the answer, or what it returned, is `...` or None."""


def answered(value: _T) -> _T:
    """The value, if there is one.

    Args:
        value: what a student handed in, or what a student's function returned.

    Raises:
        Unanswered: it is `...` or None.
    """
    if value is ... or value is None:
        raise Unanswered
    return value


def number(value: object, what: str = "the answer") -> float:
    """One number, from a Python number or a tensor with one element.

    Args:
        value: what should be one.
        what: what the number is.

    Raises:
        Wrong: something else.
    """
    answered(value)
    try:
        # whatever float() takes: a student's number may be Python's, numpy's or a tensor's
        return float(value.detach() if isinstance(value, torch.Tensor) else value)  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError) as error:
        raise Wrong(
            f"{what} is a {type(value).__name__}",
            "one number",
            "you returned a list, a tensor or a text: reduce it to one",
        ) from error


def close(
    value: object,
    truth: float,
    *,
    what: str,
    tolerance: float,
    unit: str = "",
    traps: Sequence[tuple[float, str]] = (),
    otherwise: str = "look at the hint",
) -> None:
    """Compare a number with the truth; a number close to one of the traps is told which mistake gives it.

    Args:
        value: one number.
        truth: what is right.
        what: what the number is, such as "the entropy of 8 groups of 8".
        tolerance: largest difference that counts as equal, for the truth and for the traps.
        unit: shown behind the numbers.
        traps: (value that a typical mistake gives, that mistake in words).
        otherwise: what to suggest for any other number.

    Raises:
        Wrong: another number.
        Unanswered: no number yet.
    """
    got = number(value, what)
    # the truth first: where a trap lies within the tolerance of the truth, the student is right
    if abs(got - truth) <= tolerance:
        return
    perhaps = next((mistake for trap, mistake in traps if abs(got - trap) <= tolerance), otherwise)
    # as many digits as the tolerance has, so that two numbers that differ also look different
    digits = max(2, -int(torch.floor(torch.log10(torch.tensor(tolerance))).item())) if tolerance < 1 else 0
    raise Wrong(f"{got:.{digits}f}{unit} for {what}", f"{truth:.{digits}f}{unit}", perhaps)


def tensor(value: object, shape: Sequence[int], *, what: str, perhaps: str) -> torch.Tensor:
    """A tensor of one shape, in double precision.

    Args:
        value: a tensor, array or nested list.
        shape: what it should be.
        what: what the tensor is.
        perhaps: what another shape suggests.

    Raises:
        Wrong: no tensor, or another shape.
        Unanswered: nothing yet.
    """
    answered(value)
    # double: a student's float32 and our float64 should differ by the answer alone
    try:
        array = torch.as_tensor(value).double()
    except (TypeError, ValueError, RuntimeError) as error:
        raise Wrong(
            f"{what} is a {type(value).__name__}", f"a tensor of shape {tuple(shape)}", perhaps
        ) from error
    if tuple(array.shape) != tuple(shape):
        raise Wrong(f"{what} has shape {tuple(array.shape)}", f"shape {tuple(shape)}", perhaps)
    return array


def listed(value: object, *, what: str, perhaps: str = "return a list") -> list[object]:
    """The items of a list, tuple, set, array or tensor.

    Args:
        value: what should be one.
        what: what the items are.
        perhaps: what anything else suggests.

    Raises:
        Wrong: no collection, or a text.
        Unanswered: nothing yet.
    """
    answered(value)
    # a text is a collection of letters, which is never what was meant
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise Wrong(f"{what} is a {type(value).__name__}", "a list", perhaps)
    return list(value)


def choice(
    value: object, right: str, options: Sequence[str], *, what: str, reasons: Mapping[str, str]
) -> None:
    """One of several options; each wrong one has its reason.

    Args:
        value: what was chosen.
        right: the right option.
        options: all of them.
        what: the question in words.
        reasons: for each wrong option, why it is tempting and what speaks against it.

    Raises:
        Wrong: another option, or none of them.
        Unanswered: nothing chosen yet.
    """
    answered(value)
    if value not in options:
        raise Wrong(repr(value), f"one of {', '.join(map(repr, options))}", "spell it as in the list")
    if value != right:
        raise Wrong(f"{value!r} for {what}", "another of the options", reasons[str(value)])
