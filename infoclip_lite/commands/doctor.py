"""What is installed, which device is used, what works offline."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import torch

from ..core.files import data_dir
from ..datasets.collage.pack import verify
from ..training.acceleration import native_bfloat16

_PACKAGES = ("torch", "torchvision", "open_clip_torch", "jupyterlab", "ipywidgets", "nbval")


def doctor() -> dict[str, str]:
    """One line for each thing that decides what will work here, as {topic: finding}."""
    findings = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            findings[package] = version(package)
        except PackageNotFoundError:
            findings[package] = "not installed"
    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        findings["device"] = f"{torch.cuda.get_device_name()}, {memory:.0f} GiB"
    else:
        findings["device"] = f"CPU, {torch.get_num_threads()} threads"
    findings["bfloat16"] = "in hardware" if native_bfloat16() else "emulated (slow): float32 is used"
    try:
        findings["collage"] = f"{verify(data_dir() / 'collage')} pictures, every hash right"
    except (FileNotFoundError, ValueError) as error:
        findings["collage"] = f"damaged: {error}"
    checkpoint = data_dir() / "checkpoints" / "collage-mini.safetensors"
    findings["collage-mini"] = (
        f"{checkpoint.stat().st_size / 1e6:.1f} MB" if checkpoint.exists() else "missing: run `infoclip-lite pretrain`"
    )
    findings["works offline"] = "collage-mini, Collage, all notebooks and tests"
    findings["needs the network once"] = "other CLIP weights, such as ViT-B-16-quickgelu/openai (open_clip's hub)"
    return findings
