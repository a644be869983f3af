"""The old place of one explorer; see `widgets`."""

from .widgets import explore_selection

__all__ = ["explore_selection"]
