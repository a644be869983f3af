"""What every test may use: a tiny random CLIP, the CLIP that ships, and a disk that is full."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

os.environ.setdefault("MPLBACKEND", "Agg")
# Nothing that a test encodes belongs into the cache of whoever runs it; those of the cache name a folder.
os.environ["INFOCLIP_LITE_TEXT_CACHE"] = "off"
# Before torch counts the cores: two processes with all of them each are ten times slower.
if WORKERS := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 0)):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // WORKERS)))

import open_clip
import pytest
import torch
from hypothesis import settings
from open_clip.model import CLIP

from infoclip_lite import DenseCLIP, load_clip
from infoclip_lite.clip import save_clip
from infoclip_lite.clip.templates import COLLAGE_TEMPLATES
from infoclip_lite.core.locks import held
from infoclip_lite.training.pretraining import caption_tokens

settings.register_profile("suite", deadline=None, max_examples=20, derandomize=True, database=None)
settings.load_profile("suite")

TINY = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 48, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
FORKS = "test_states.py"  # its children run a backward pass
MakeTiny = Callable[..., DenseCLIP]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that fork come first: after a fake CUDA tensor autograd keeps threads, and a fork has none."""
    items.sort(key=lambda item: item.path.name != FORKS)


def build_tiny(seed: int = 0, **vision: object) -> DenseCLIP:
    """A CLIP of 2 + 2 blocks in which no weight is zero or one, so that a weight left out changes the
    result.
    """
    torch.manual_seed(seed)
    model = CLIP(**{**TINY, "vision_cfg": {**TINY["vision_cfg"], **vision}})
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name != "logit_scale":
                parameter.add_(0.1 * torch.randn_like(parameter))
    tokenizer = open_clip.SimpleTokenizer(context_length=32)
    return DenseCLIP(
        model,
        tokenizer,
        mean=(0.5, 0.4, 0.3),
        std=(0.25, 0.3, 0.35),
        name="tiny",
        templates=COLLAGE_TEMPLATES,
    ).eval()


@pytest.fixture(scope="session")
def make_tiny() -> MakeTiny:
    return build_tiny


@pytest.fixture(scope="session")
def tiny() -> DenseCLIP:
    """Shared: tests only read it."""
    return build_tiny().requires_grad_(False)


@pytest.fixture(scope="session")
def tiny_config() -> dict:
    return {
        "model": TINY,
        "mean": [0.5, 0.4, 0.3],
        "std": [0.25, 0.3, 0.35],
        "name": "tiny",
        "read_out": ["value", "cls_value"],
    }


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory, tiny_config: dict) -> Path:
    """A checkpoint with the token embeddings of Collage's words only, as collage-mini has."""
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    clip = build_tiny()
    clip.known_tokens = caption_tokens(clip.tokenizer)
    save_clip(clip, path, tiny_config, card={"note": "random weights"})
    return path


@pytest.fixture(scope="session")
def mini() -> DenseCLIP:
    """The CLIP that ships. Shared: tests only read it."""
    return load_clip("collage-mini").requires_grad_(False)


@pytest.fixture
def full_disk() -> Callable[[], AbstractContextManager[None]]:
    """A block in which no file can grow beyond 4 kB: every writer meets a real error of the operating
    system.
    """
    resource = pytest.importorskip("resource", reason="Windows has no limits of this kind")

    @contextmanager
    def limited() -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """open_clip's hub cannot be reached; the list says which models were asked for."""
    asked: list[str] = []

    def unreachable(name: str, *args: object, **kwargs: object) -> None:
        asked.append(name)
        raise OSError("Network is unreachable")

    monkeypatch.setattr(open_clip, "create_model", unreachable)
    return asked


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The book as HTML, built without a warning; it takes minutes, and BUILT_SITE names one that is there."""
    pytest.importorskip("sphinx", reason="the docs extra is not installed")
    if built := os.environ.get("BUILT_SITE"):
        return Path(built)
    # Processes that share the tests share one book: the folder above their own is common to all.
    above = tmp_path_factory.getbasetemp().parent if WORKERS else tmp_path_factory.getbasetemp()
    folder = above / "site"
    while not (folder / "whole").exists():
        try:
            with held(folder):
                if not (folder / "whole").exists():
                    _build_site(folder)
                    (folder / "whole").touch()
        except BlockingIOError:  # another process is building it
            time.sleep(1)
    return folder / "html"


def _build_site(folder: Path) -> None:
    docs = Path(__file__).parents[1] / "docs"
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", str(folder / "trees")]
    ran = subprocess.run(
        [*command, str(docs), str(folder / "html")], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
