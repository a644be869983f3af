"""The old place of two explorers; see `widgets`."""

from .widgets import Explorer, explore_estimates, explore_renyi

__all__ = ["Explorer", "explore_estimates", "explore_renyi"]
