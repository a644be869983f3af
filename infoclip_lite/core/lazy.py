"""Faces of rooms that load a name when it is first used (PEP 562): importing a room costs nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType


def lazy_face(
    package: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` of a package whose public names stand in modules below it.

    Type checkers and readers need the imports too, so a face says both:

        if TYPE_CHECKING:
            from .model import DenseCLIP
        else:
            __getattr__, __dir__ = lazy_face(__name__, {"DenseCLIP": "model"})

    Args:
        package: `__name__` of the face.
        homes: public name -> module below the package that has it; "" for a module that is itself public.

    Returns:
        Both functions, to be kept under these names in the face.
    """
    face = sys.modules[package]
    # The import system makes every submodule an attribute of its package, in place of a function of the same
    # name too: after `import infoclip_lite.evaluation.evaluate` the function would be gone.
    shadowed = frozenset(name for name, home in homes.items() if home == name)
    if shadowed:
        face.__class__ = _face_that_keeps(shadowed)

    def load(name: str) -> object:
        if name not in homes:
            raise AttributeError(
                f"module {package!r} has no attribute {name!r}; expected one of {', '.join(sorted(homes))}"
            )
        home = import_module(f"{package}.{homes[name] or name}")
        found: object = getattr(home, name) if homes[name] else home
        setattr(face, name, found)  # the next look-up is an ordinary one
        return found

    def listing() -> list[str]:
        return sorted({*vars(face), *homes})

    return load, listing


def _face_that_keeps(names: frozenset[str]) -> type[ModuleType]:
    """A kind of module in which submodules of these names do not take the place of what is public."""

    class Face(ModuleType):
        def __setattr__(self, name: str, value: object) -> None:
            if not (name in names and isinstance(value, ModuleType)):
                super().__setattr__(name, value)

    return Face
