"""What a number was measured on: versions, hardware and git revision."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# A time or a peak of memory means nothing without these and our own version; other packages change no number.
_PACKAGES = ("torch", "open_clip_torch")


def environment() -> dict[str, str | int | None]:
    """Versions, hardware and git revision, for reports.

    Returns:
        {"hardware", "threads", "python", "torch", "open_clip_torch", "infoclip-lite", "git"}; "git" is None
        outside a repository.
    """
    # Here, not above: a page that only reads reports should not wait for torch.
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    return {
        "hardware": device,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{name: version(name) for name in _PACKAGES},
        "infoclip-lite": package_version(),
        "git": _revision(),
    }


def package_version() -> str:
    """The version of this package, "0.0.0" for a source tree that was not installed."""
    try:
        return version("infoclip-lite")
    except PackageNotFoundError:
        return "0.0.0"


def _processor() -> str:
    # platform.processor() is empty on most Linux systems, so the kernel is asked first.
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = (line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def _revision() -> str | None:
    # Of the source, not of the folder a user happens to stand in.
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
