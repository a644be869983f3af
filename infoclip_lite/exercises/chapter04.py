"""Chapter 4: from distances to entropy."""

from __future__ import annotations

import math
from typing import Any

from . import exercise
from .compare import close


@exercise("4.1", "S_2 is the logarithm of the number of things, if all are of one size; a large group dominates a square.")
def entropy_of(answer: Any) -> None:
    """The answer is a function: sizes of groups -> S_2 in bits."""
    nats, trace = "that is nats: use log2", "did you forget to divide by the trace?"
    equal = [
        (3 * math.log(2), nats),
        (math.log2(64 / 8) - 6 - 6, trace),
        (-3.0, "the minus sign is missing"),
        (8.0, "that is 2 ** S, the things"),
    ]
    close(answer([8] * 8), 3.0, what="8 groups of 8", tolerance=0.01, unit=" bits", traps=equal, otherwise="square the shares and add up")
    shares = [n / 64 for n in (32, 5, 5, 5, 5, 4, 4, 4)]
    truth = -math.log2(sum(s * s for s in shares))
    shannon = -sum(s * math.log2(s) for s in shares)
    uneven = [(shannon, "that is Shannon's entropy (alpha = 1): square the shares"), (3.0, "the groups are no longer of one size")]
    close(answer([32, 5, 5, 5, 5, 4, 4, 4]), truth, what="one group of 32 and seven small ones", tolerance=0.01, unit=" bits", traps=uneven)
