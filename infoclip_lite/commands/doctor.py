"""infoclip-lite doctor: what is installed, which device is used, what works offline."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from ..core.files import data_dir

# What decides whether notebooks and tests run; the rest comes with them.
_PACKAGES = ("torch", "torchvision", "open_clip_torch", "jupyterlab", "ipywidgets", "nbval")


def doctor_command() -> None:
    """What is installed, which device is used, what works offline."""
    for topic, finding in doctor().items():
        print(f"{topic:<24}{finding}")


def doctor() -> dict[str, str]:
    """One line for each thing that decides what will work here, as {topic: finding}."""
    return {
        "python": platform.python_version(),
        **{package: _version(package) for package in _PACKAGES},
        **_hardware(),
        "collage": _collage(),
        "collage-mini": _checkpoint(),
        "works offline": "collage-mini, Collage, all notebooks and tests",
        "needs the network once": "other CLIP weights, such as ViT-B-16-quickgelu/openai (open_clip's hub)",
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _hardware() -> dict[str, str]:
    import torch

    from ..training.acceleration import dtype_of, native_bfloat16

    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        device = f"{torch.cuda.get_device_name()}, {memory:.0f} GiB"
    else:
        device = f"CPU, {torch.get_num_threads()} threads"
    used = str(dtype_of("auto")).removeprefix("torch.")
    native = "in hardware" if native_bfloat16() else f"emulated (slow): {used} is used"
    return {"device": device, "bfloat16": native}


def _collage() -> str:
    from ..datasets.collage.building.verify import verify

    # A damaged pack is a finding, not an end: the other lines say what still works.
    try:
        return f"{verify(data_dir() / 'collage')} pictures, every hash right"
    except (FileNotFoundError, ValueError) as error:
        return f"damaged: {error}"


def _checkpoint() -> str:
    path = data_dir() / "checkpoints" / "collage-mini.safetensors"
    return f"{path.stat().st_size / 1e6:.1f} MB" if path.exists() else "missing: run `infoclip-lite pretrain`"
