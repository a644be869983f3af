"""Where the pack is built: packages fetched and unpacked, the network loaded, when they are first needed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from ....core.files import whole_file
from .archives import unpack
from .cutouts import Matting, join_network
from .sources import Package, locate, obtain

_NETWORK = "@imgly/background-removal-data"


class Work:
    """Folders of one build; packages are fetched and unpacked, and the network loaded, when first needed."""

    def __init__(self, scratch: Path, packages: Path, cache: Path, selection: dict[str, Any]) -> None:
        self.out, self.packages, self.cache, self.selection = scratch / "out", packages, cache, selection
        self.unpacked = cache / "unpacked"
        self.known = {entry["name"]: Package(**entry) for entry in selection["packages"]}
        self.matting: Matting | None = None
        cache.mkdir(parents=True, exist_ok=True)

    def package(self, name: str) -> Path:
        """The folder of an unpacked package.

        Raises:
            FileNotFoundError: it cannot be had.
            ValueError: the selection does not list it, or its hash differs.
        """
        if name not in self.known:
            raise ValueError(f"got a source in package {name!r}, expected one of {', '.join(self.known)}")
        return unpack(self.known[name], obtain(self.known[name], self.packages), self.unpacked)

    def locate(self, source: str) -> Path:
        """Where a source lies, its package fetched if need be (see `package`)."""
        self.package(source.partition(":")[0])
        return locate(source, self.unpacked)

    def kept(self, key: str, make: Callable[[], Image.Image]) -> Image.Image:
        """The picture of the cache, made and put there if it is not."""
        path = self.cache / f"{hashlib.sha256(key.encode()).hexdigest()}.png"
        if not path.exists():
            with whole_file(path) as part:
                make().save(part, format="PNG")
        with Image.open(path) as picture:
            return picture.copy()

    def cut(self, picture: Image.Image) -> Image.Image:
        """The picture with a matte as alpha."""
        if self.matting is None:
            self.matting = Matting(join_network(self.package(_NETWORK)))
        return self.matting(picture)
