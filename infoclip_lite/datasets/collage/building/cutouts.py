"""Cut-outs with clean alpha: photographs that carry their own, and photographs cut out with IS-Net.

IS-Net (a network that finds the salient object) is a tool for building the pack and not part of it; it comes
as ONNX from an npm package, in pieces that its list names. onnxruntime belongs to the optional extra "pack".
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

SIDE = 160
_INPUT = 1024  # pixels: the network's size


def join_network(package: Path, name: str = "/models/medium") -> bytes:
    """The ONNX file that the unpacked npm package holds in pieces.

    Raises:
        FileNotFoundError: the list or a piece is missing.
        ValueError: the list has no such network.
    """
    listing = package / "package" / "dist" / "resources.json"
    if not listing.exists():
        raise FileNotFoundError(f"no {listing}; expected the unpacked package of IS-Net's weights")
    resources = json.loads(listing.read_text(encoding="utf-8"))
    if name not in resources:
        raise ValueError(f"{listing}: got no {name}, expected one of {', '.join(sorted(resources))}")
    return b"".join((listing.parent / piece["hash"]).read_bytes() for piece in resources[name]["chunks"])


class Matting:
    """IS-Net in onnxruntime, on one thread so that results do not depend on the machine's cores.

    Args:
        network: the ONNX file's bytes.

    Raises:
        ModuleNotFoundError: onnxruntime is not installed.
    """

    def __init__(self, network: bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session: Any = onnxruntime.InferenceSession(network, options)

    def __call__(self, picture: Image.Image) -> Image.Image:
        """The picture as RGBA with the network's matte, stretched to 0..255, as alpha."""
        small = picture.convert("RGB").resize((_INPUT, _INPUT), Image.Resampling.BILINEAR)
        pixels = (np.asarray(small, dtype=np.float32) - 128) / 256
        argument = self._session.get_inputs()[0]
        dtype = np.float16 if "float16" in argument.type else np.float32
        matte = self._session.run(None, {argument.name: pixels.transpose(2, 0, 1)[None].astype(dtype)})[0][
            0, 0
        ]
        matte = matte.astype(np.float32)
        matte = (matte - matte.min()) / max(float(matte.max() - matte.min()), 1e-6)
        alpha = Image.fromarray((matte * 255).astype(np.uint8)).resize(
            picture.size, Image.Resampling.BILINEAR
        )
        cut = picture.convert("RGB")
        cut.putalpha(alpha)
        return cut


def keyed(picture: Image.Image, tolerance: float) -> Image.Image:
    """Alpha of a photograph on a plain ground: what joins the frame and has its colour is clear.

    Args:
        picture: any mode.
        tolerance: largest distance from the frame's median colour, in steps of 1/255.

    Returns:
        RGBA.
    """
    rgb = np.asarray(picture.convert("RGB"), dtype=np.float64)
    frame = np.concatenate([rgb[0], rgb[-1], rgb[:, 0], rgb[:, -1]])
    near = np.linalg.norm(rgb - np.median(frame, axis=0), axis=-1) < tolerance
    parts, _ = ndimage.label(near)
    joined = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
    solid = ~np.isin(parts, joined[joined > 0])
    alpha = ndimage.gaussian_filter(
        ndimage.binary_erosion(ndimage.binary_opening(solid)).astype(np.float64), 0.7
    )
    cut = picture.convert("RGB")
    cut.putalpha(Image.fromarray((alpha * 255).astype(np.uint8)))
    return cut


def clean(
    picture: Image.Image, *, smallest: float = 0.1, keep: int | None = None, threshold: int = 127
) -> Image.Image:
    """Alpha cut at `threshold`, with a soft rim; only the large parts stay, their pinholes are filled.

    Args:
        picture: RGBA.
        smallest: parts below this share of the largest one are dropped.
        keep: at most so many parts; None keeps all large ones.
        threshold: alpha above which there is something; lower for faint mattes.

    Raises:
        ValueError: nothing is left.
    """
    alpha = np.asarray(picture.getchannel("A").point(lambda a: min(255, a * 127 // threshold)))
    parts, count = ndimage.label(alpha > 127)
    if not count:
        raise ValueError(
            f"got a picture of {picture.size} with alpha at most {alpha.max()}, "
            "expected an object that is there"
        )
    sizes = np.bincount(parts.ravel())[1:]
    ranked = np.argsort(-sizes)[: keep or count]
    solid = np.isin(parts, 1 + ranked[sizes[ranked] >= smallest * sizes.max()])
    holes, count = ndimage.label(~solid)
    small = np.flatnonzero(np.bincount(holes.ravel(), minlength=count + 1) < 2e-3 * solid.sum())
    solid |= np.isin(holes, small[small > 0])
    near = ndimage.binary_dilation(solid)
    edge = np.clip((alpha.astype(np.float32) - 64) * (255 / 128), 0, 255)
    inside = ndimage.binary_erosion(solid)
    result = picture.convert("RGB")
    result.putalpha(Image.fromarray(np.where(inside, 255, np.where(near, edge, 0)).astype(np.uint8)))
    return result


def fitted(picture: Image.Image, side: int = SIDE) -> Image.Image:
    """Cropped to what is visible and scaled so that the longer side has `side` pixels (never enlarged)."""
    picture = picture.convert("RGBA")
    picture = picture.crop(picture.getchannel("A").point(lambda a: 255 * (a > 16)).getbbox()).convert("RGBa")
    scale = min(1.0, side / max(picture.size))  # premultiplied: no colour bleeds in from transparent pixels
    width, height = (max(1, round(length * scale)) for length in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS).convert("RGBA")
