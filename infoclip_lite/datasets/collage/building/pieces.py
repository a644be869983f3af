"""The pack's pictures one by one, each with the record that its manifest keeps of it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

from PIL import Image

from ....core.files import whole_file
from ...fetching.fetch import hash_file
from .catalogue import furniture
from .cutouts import clean, fitted, keyed
from .mesh import Mesh, mesh_digest, read_mesh
from .renders import View, placed, render
from .textures import synthesised, texture
from .viewpoints import viewpoints
from .workshop import Work

_WEBP: dict[str, Any] = {"quality": 82, "method": 6, "alpha_quality": 90}
_PHOTOGRAPH_SIDE = 320


def cutouts(work: Work, words: Collection[str] | None) -> Iterator[dict[str, Any]]:
    """Photographs and views, noun by noun; see `build` for `words`."""
    numbers: Counter[str] = Counter()
    for noun, entry in work.selection["nouns"].items():
        if words is not None and noun not in words:
            continue
        for item in entry["instances"]:
            path = work.locate(item["source"])
            views = (
                _views(work, path, item, entry["style"])
                if item["kind"] == "render"
                else _photograph(work, path, item)
            )
            for picture, digest, extra in views:
                numbers[item["id"]] += 1
                file = f"cutouts/{item['id']}-{numbers[item['id']]}.webp"
                yield {
                    **_save(work, file, picture),
                    "noun": noun,
                    "instance": item["id"],
                    **_origin(item, digest),
                    **extra,
                }


def _views(
    work: Work, path: Path, item: dict[str, Any], style: str
) -> Iterator[tuple[Image.Image, str, dict]]:
    facts, digest = furniture(path), mesh_digest(path)

    @cache
    def model() -> Mesh:
        return placed(read_mesh(path), facts.size, facts.rotation)

    def view_of(view: View) -> Image.Image:
        return render(model(), view)

    for view in viewpoints(facts.size, item.get("style", style), item["source"], item.get("turn", 0.0)):
        picture = work.kept(f"view {digest} {view} {facts}", partial(view_of, view))
        yield picture, digest, {"view": [round(view.azimuth, 1), round(view.elevation, 1)]}


def _photograph(work: Work, path: Path, item: dict[str, Any]) -> Iterator[tuple[Image.Image, str, dict]]:
    digest = hash_file(path)
    with Image.open(path) as file:
        picture = file.convert("RGBA")
    crop = item.get("crop")
    if crop:
        picture = picture.crop(tuple(round(part * picture.size[axis % 2]) for axis, part in enumerate(crop)))
    if "key" in item:
        picture = keyed(picture, item["key"])
    elif item.get("matte"):
        picture = work.kept(f"matte {digest} {crop}", partial(work.cut, picture))
    options = {key: item[key] for key in ("keep", "threshold") if key in item}
    yield fitted(clean(picture, **options)), digest, {}


def textures(work: Work, words: Collection[str] | None) -> Iterator[dict[str, Any]]:
    """Grounds, kind by kind."""
    for stuff, entries in work.selection["textures"].items():
        if words is not None and stuff not in words:
            continue
        for number, item in enumerate(entries, 1):
            package, _, name = item["source"].partition(":")
            if package == "synthesised":
                picture, digest = synthesised(name), hashlib.sha256(name.encode()).hexdigest()
            else:
                path = work.locate(item["source"])
                digest = hash_file(path)
                with Image.open(path) as file:
                    picture = texture(file, item.get("box"), item.get("tint"))
            yield {
                **_save(work, f"textures/{stuff}-{number}.webp", picture),
                "stuff": stuff,
                **_origin(item, digest),
            }


def photographs(work: Work) -> Iterator[dict[str, Any]]:
    """The photographs of the real test, whole."""
    for item in work.selection["photographs"]:
        path = work.locate(item["source"])
        with Image.open(path) as file:
            picture = file.convert("RGB")
        picture.thumbnail((_PHOTOGRAPH_SIDE, _PHOTOGRAPH_SIDE), Image.Resampling.LANCZOS)
        stem = "-".join(Path(item["source"].partition("!")[2]).parts[3:4] + (path.stem,))
        yield {
            **_save(work, f"photographs/{stem}.webp", picture),
            "noun": item["noun"],
            **_origin(item, hash_file(path)),
        }


def _save(work: Work, file: str, picture: Image.Image) -> dict[str, str]:
    """Write a picture as WebP; the bytes of an equal picture are taken from the cache."""
    key = hashlib.sha256(f"{picture.mode} {picture.size} {_WEBP}".encode() + picture.tobytes()).hexdigest()
    kept = work.cache / f"{key}.webp"
    if not kept.exists():
        with whole_file(kept) as part:
            picture.save(part, "WEBP", **_WEBP)
    raw = kept.read_bytes()
    (work.out / file).write_bytes(raw)
    return {"file": file, "sha256": hashlib.sha256(raw).hexdigest()}


def _origin(item: dict[str, Any], digest: str) -> dict[str, Any]:
    kept = ("kind", "split", "licence", "author", "url", "also", "source")
    return {**{key: item[key] for key in kept if key in item}, "source_sha256": digest}
