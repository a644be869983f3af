"""The labels of pixels that do not count."""

IGNORE = 255  # in masks of a data set
IGNORE_MANY = 65535  # in those of data sets with more than 254 classes
NO_LABEL = -1  # in training targets, whose other numbers are places among the trained words, however many


def ignore_for(classes: int) -> int:
    """The label that a data set with this many classes ignores unless it says otherwise.

    >>> ignore_for(171), ignore_for(847)
    (255, 65535)
    """
    return IGNORE if classes <= IGNORE - 1 else IGNORE_MANY
