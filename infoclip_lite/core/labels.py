"""The label of pixels that do not count: one number, whoever reads, trains or measures."""

IGNORE = 255
IGNORE_MANY = 65535  # of data sets with more than 254 classes


def ignore_for(classes: int) -> int:
    """The label that a data set with this many classes ignores unless it says otherwise.

    >>> ignore_for(171), ignore_for(847)
    (255, 65535)
    """
    return IGNORE if classes <= IGNORE - 1 else IGNORE_MANY
