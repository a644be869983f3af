"""Rebuild data/collage from its sources: cut-outs with alpha, textures, hashes and credits.

The sources are Debian packages and a small amount of synthesis; `selection.json` beside the pack
says which picture stands for which word. Everything else in the folder is written by this module.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

PACKAGES = ("tuxpaint-stamps-default", "tuxpaint-data", "mate-backgrounds", "sweethome3d")
CUTOUT_SIDE = 160
TEXTURE_SIDE = 320


def rebuild(target: Path, sources: Path | None = None) -> dict:
    """Write cut-outs, textures and manifest.json into `target`, which must hold selection.json.

    Args:
        target: folder of the pack.
        sources: folder with the .deb files; None downloads them with `apt-get download`.

    Returns:
        The manifest: one record per picture with word, role, source and SHA-256 of both ends.

    Raises:
        FileNotFoundError: no selection.json, or a source package or file is missing.
        ValueError: a source differs from the hash in the manifest that is already there.
    """
    selection_file = target / "selection.json"
    if not selection_file.exists():
        raise FileNotFoundError(f"no {selection_file}; expected the list of words and source files")
    selection = json.loads(selection_file.read_text())
    known = _known_hashes(target / "manifest.json")
    records = []
    with tempfile.TemporaryDirectory() as scratch:
        roots = _unpack(sources, Path(scratch))
        built = Path(scratch) / "built"
        for kind, folder in (("nouns", "cutouts"), ("stuff", "textures")):
            (built / folder).mkdir(parents=True)
            for word, files in selection[kind].items():
                held_out = _held_out(len(files)) if kind == "nouns" else set()
                for index, source in enumerate(files):
                    raw, picture = _open(source, roots)
                    digest = hashlib.sha256(raw).hexdigest()
                    if known.get(source, digest) != digest:
                        got = f"{source}: got SHA-256 {digest}, expected {known[source]}"
                        hint = "look at the picture, then delete manifest.json to accept it"
                        raise ValueError(f"{got}; the source package changed: {hint}")
                    name = f"{folder}/{word.replace(' ', '_')}-{index + 1}.webp"
                    picture = _cutout(picture) if kind == "nouns" else _texture(picture)
                    picture.save(built / name, quality=85, method=6, alpha_quality=100)
                    records.append(
                        {
                            "file": name,
                            "word": word,
                            "kind": "noun" if kind == "nouns" else "stuff",
                            "role": "test" if index in held_out else "train",
                            "source": source,
                            "source_sha256": digest,
                            "sha256": hashlib.sha256((built / name).read_bytes()).hexdigest(),
                        }
                    )
        for folder in ("cutouts", "textures"):
            shutil.rmtree(target / folder, ignore_errors=True)
            shutil.copytree(built / folder, target / folder)
    manifest = {"seen": selection["seen"], "unseen": selection["unseen"], "pictures": records}
    (target / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    return manifest


def verify(target: Path) -> int:
    """Check every picture of the pack against manifest.json and return how many there are.

    Raises:
        FileNotFoundError: the manifest or a picture is missing.
        ValueError: a picture's bytes are not those of the manifest.
    """
    manifest = target / "manifest.json"
    if not manifest.exists():
        raise FileNotFoundError(
            f"no {manifest}; expected the Collage pack, rebuild it with `infoclip-lite data rebuild`"
        )
    pictures = json.loads(manifest.read_text())["pictures"]
    for record in pictures:
        path = target / record["file"]
        if not path.exists():
            raise FileNotFoundError(f"no {path}; rebuild the pack with `infoclip-lite data rebuild`")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest != record["sha256"]:
            raise ValueError(
                f"{path}: got SHA-256 {digest}, expected {record['sha256']}; the file was changed or damaged"
            )
    return len(pictures)


def _held_out(count: int) -> set[int]:
    """Which of a noun's photographs are for the new-photograph test: the last, and every fourth before it."""
    return set(range(count - 1, 0, -4)) if count > 1 else set()


def _known_hashes(manifest: Path) -> dict[str, str]:
    if not manifest.exists():
        return {}
    return {r["source"]: r["source_sha256"] for r in json.loads(manifest.read_text())["pictures"]}


def _unpack(sources: Path | None, scratch: Path) -> dict[str, Path]:
    if sources is None:
        sources = scratch / "debs"
        sources.mkdir()
        subprocess.run(["apt-get", "download", *PACKAGES], cwd=sources, check=True)
    roots = {}
    for package in PACKAGES:
        found = sorted(sources.glob(f"{package}_*.deb"))
        if not found:
            raise FileNotFoundError(
                f"no {package}_*.deb in {sources}; get it with `apt-get download {package}`"
            )
        roots[package] = scratch / package
        subprocess.run(["dpkg-deb", "-x", str(found[-1]), str(roots[package])], check=True)
    return roots


def _open(source: str, roots: dict[str, Path]) -> tuple[bytes, Image.Image]:
    package, _, path = source.partition(":")
    if package == "synthesised":
        picture = SYNTHESISED[path]()
        return picture.tobytes(), picture
    path, _, member = path.partition("!")
    raw = (roots[package] / path).read_bytes()
    if member:
        raw = zipfile.ZipFile(io.BytesIO(raw)).read(member)
    return raw, Image.open(io.BytesIO(raw))


def _cutout(picture: Image.Image) -> Image.Image:
    """Cropped to what is visible, longest side CUTOUT_SIDE."""
    picture = picture.convert("RGBA")
    box = picture.getchannel("A").point(lambda a: 255 * (a > 16)).getbbox()
    picture = picture.crop(box).convert("RGBa")  # premultiplied: no colour bleeds in from transparent pixels
    scale = CUTOUT_SIDE / max(picture.size)
    width, height = (max(1, round(s * scale)) for s in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS).convert("RGBA")


def _texture(picture: Image.Image) -> Image.Image:
    """Shorter side TEXTURE_SIDE at most, cut to a rectangle of at most 3:2."""
    picture = picture.convert("RGB")
    short = min(picture.size)
    left, top = (min(s, short * 3 // 2) for s in picture.size)
    picture = picture.crop((0, 0, left, top))
    scale = min(1.0, TEXTURE_SIDE / short)
    width, height = (round(s * scale) for s in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def _noise(seed: int, radius: float) -> np.ndarray:
    """Smooth noise (TEXTURE_SIDE, TEXTURE_SIDE) with zero mean and unit deviation."""
    white = np.random.Generator(np.random.PCG64(seed)).random((TEXTURE_SIDE, TEXTURE_SIDE))
    picture = Image.fromarray((white * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(radius))
    field = np.asarray(picture, dtype=np.float64)
    return (field - field.mean()) / (field.std() + 1e-9)


def _tint(field: np.ndarray, colour: tuple[int, int, int], contrast: float) -> Image.Image:
    rgb = np.asarray(colour)[None, None] * (1 + contrast * field[..., None])
    return Image.fromarray(np.clip(rgb, 0, 255).astype(np.uint8))


def _sand() -> Image.Image:
    rows = np.sin(np.arange(TEXTURE_SIDE)[:, None] / 6 + 1.5 * _noise(1, 20))
    return _tint(0.5 * rows + 0.7 * _noise(2, 0.7), (214, 183, 128), 0.07)


def _snow() -> Image.Image:
    return _tint(0.7 * _noise(3, 14) + 0.4 * _noise(4, 0.8), (232, 238, 247), 0.05)


def _water() -> Image.Image:
    waves = np.sin(np.arange(TEXTURE_SIDE)[:, None] / 4 + 2.5 * _noise(5, 12)) + 0.6 * _noise(6, 3)
    return _tint(waves, (38, 104, 142), 0.16)


SYNTHESISED = {"sand": _sand, "snow": _snow, "water": _water}
