"""Comparisons for judges: each raises Wrong with what was got, what was expected, and what that suggests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

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


class Case(NamedTuple):
    """One input that a function is judged on.

    Attributes:
        what: what the number is, such as "the entropy of 8 groups of 8".
        got: what the function made of it.
        truth: what is right.
        traps: (value that a typical mistake gives, that mistake in words).
    """

    what: str
    got: object
    truth: float
    traps: Sequence[tuple[float, str]] = ()


def close_each(
    cases: Sequence[Case],
    *,
    tolerance: float,
    relative: bool = False,
    unit: str = "",
    otherwise: str = "look at the hint",
) -> None:
    """Compare what a function made of several inputs with the truths; one that never changes is told so.

    Args:
        cases: with truths that are not all alike.
        tolerance, unit, otherwise: as for `close`.
        relative: the tolerance is a fraction of each truth.

    Raises:
        Wrong: a number that is not right, or one number for all inputs.
        Unanswered: nothing yet.
    """
    varies([case.got for case in cases], what="a number that depends on the input")
    for case in cases:
        close(
            case.got,
            case.truth,
            what=case.what,
            tolerance=tolerance * abs(case.truth) if relative else tolerance,
            unit=unit,
            traps=case.traps,
            otherwise=otherwise,
        )


def varies(values: Sequence[object], *, what: str) -> None:
    """Refuse a function that says the same whatever it is given.

    Args:
        values: what it made of inputs whose right answers are not all alike.
        what: what was asked for, in words.

    Raises:
        Wrong: all values are alike.
        Unanswered: one of them is not there yet.
    """
    first, *others = [answered(value) for value in values]
    if others and all(_alike(first, other) for other in others):
        raise Wrong(
            f"the same answer to {len(values)} different inputs",
            what,
            "your function does not look at what it is given",
        )


def _alike(a: object, b: object) -> bool:
    """Whether two answers are one and the same; of two sizes, whether one number fills both."""
    try:
        one, other = torch.as_tensor(a).double(), torch.as_tensor(b).double()
    except (TypeError, ValueError, RuntimeError):
        try:
            return bool(a == b)  # texts, sets, dictionaries
        except RuntimeError:  # lists of tensors
            return False
    if one.shape == other.shape:
        return torch.equal(one, other)
    return torch.cat([one.flatten(), other.flatten()]).unique().numel() == 1


def same_tensor(
    value: object,
    truth: Tensor,
    *,
    what: str,
    shape: str,
    traps: Sequence[tuple[Tensor, str]] = (),
    tolerance: float = 1e-4,
    otherwise: str = "look at the hint",
) -> None:
    """Compare a tensor with the truth; one that equals a trap is told which mistake gives it.

    Args:
        value: a tensor, array or nested list.
        truth: what is right.
        what: what the tensor is.
        shape: what another shape suggests.
        traps: (what a typical mistake gives, that mistake in words); of another shape they never match.
        tolerance: largest difference that counts as equal.
        otherwise: what to suggest for any other tensor.

    Raises:
        Wrong: another tensor, or no tensor.
        Unanswered: nothing yet.
    """
    got, wanted = tensor(value, truth.shape, what=what, perhaps=shape), truth.double()
    if torch.allclose(got, wanted, atol=tolerance):
        return
    perhaps = next((mistake for trap, mistake in traps if _near(got, trap, tolerance)), otherwise)
    raise Wrong(
        f"{what} with entries up to {(got - wanted).abs().max():.3g} away",
        f"the same up to {tolerance:g}, such as {wanted.flatten()[0]:.4f} in the first place",
        perhaps,
    )


def _near(got: Tensor, trap: Tensor, tolerance: float) -> bool:
    return got.shape == trap.shape and torch.allclose(got, trap.double(), atol=tolerance)
