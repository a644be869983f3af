"""Embeddings of words, kept on disk: 847 words in 80 templates cost the text tower once, and never again."""

from __future__ import annotations

import hashlib
import json
import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from ..core.files import whole_file
from .model import DenseCLIP

VARIABLE, OFF = "INFOCLIP_LITE_TEXT_CACHE", "off"
FORMAT = 1  # part of every key: another way to encode or to write is another file
_DIGEST = hashlib.sha256().digest_size  # bytes before the embeddings
_LEFT_OVER = 3600  # seconds after which a scratch file is nobody's


class TextEncoder(Protocol):
    """What encodes words: a segmentor."""

    clip: DenseCLIP
    templates: tuple[str, ...] | None

    def state_dict(self) -> Mapping[str, Tensor]:
        """Its weights."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Those that can be trained."""

    def encode_text(self, names: Sequence[str], templates: Sequence[str] | None = None) -> Tensor:
        """Embeddings of words, (C, D) or (C, T, D)."""


def remembered(
    encoder: TextEncoder,
    names: Sequence[str],
    templates: Sequence[str] | None = None,
    folder: str | Path | None = None,
) -> Tensor:
    """What `encoder.encode_text` gives, or gave the last time.

    A model that is trained, or that warns of words which it never learnt, is asked every time. Any number of
    processes may share the folder, and it may be deleted whenever one likes.

    Args:
        encoder: a segmentor.
        names: C words or phrases.
        templates: prompts with one {} for the word; None takes the encoder's own.
        folder: where embeddings are kept; None is $INFOCLIP_LITE_TEXT_CACHE, else
            ~/.cache/infoclip_lite/text; "off" keeps nothing.

    Returns:
        The embeddings, on the encoder's device.

    Raises:
        ValueError: as `encode_text`.
    """
    kept = cache_folder(folder)
    if kept is None or not _settled(encoder):
        return encoder.encode_text(names, templates)
    path = kept / f"{_key(encoder, names, templates)}.text"
    found = _read(path, len(names))
    if found is not None:
        return found.to(encoder.clip.device)
    text = encoder.encode_text(names, templates)
    _write(path, text)
    return text


def cache_folder(folder: str | Path | None = None) -> Path | None:
    """Where embeddings are kept; None if they are not.

    Args:
        folder: as of `remembered`.
    """
    usual = Path.home() / ".cache" / "infoclip_lite" / "text"
    chosen = folder or os.environ.get(VARIABLE) or usual
    return None if str(chosen) == OFF else Path(chosen).expanduser()


def _settled(encoder: TextEncoder) -> bool:
    """Whether the same words will have the same embeddings tomorrow, and nobody has to be told of them."""
    if not isinstance(encoder.clip, DenseCLIP) or encoder.clip.known_tokens is not None:
        return False
    # Weights of a training differ at every look, and would fill the disk with what nobody asks for again.
    return not encoder.clip.training and not any(weight.requires_grad for weight in encoder.parameters())


def _key(encoder: TextEncoder, names: Sequence[str], templates: Sequence[str] | None) -> str:
    """All that the embeddings depend on, as 64 letters."""
    total = hashlib.sha256(json.dumps(_asked(encoder, names, templates)).encode())
    for name, value in encoder.state_dict().items():
        # All but the image tower: whatever else an encoder has, it may encode words with.
        if not name.startswith("clip.model.visual."):
            total.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            total.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return total.hexdigest()


def _asked(encoder: TextEncoder, names: Sequence[str], templates: Sequence[str] | None) -> list[object]:
    """What is asked for, of whom, and how it is computed."""
    clip = encoder.clip
    device = clip.device.type
    # What weights do not say: activations and heads of the tower, and how sentences become numbers.
    parts = [part for name, part in clip.model.named_children() if name != "visual"]
    heads = [getattr(module, "num_heads", None) for part in parts for module in part.modules()]
    return [
        FORMAT,
        f"{type(encoder).__module__}.{type(encoder).__qualname__}",
        list(names),
        # In their order: a cost volume has a map for each.
        [None if each is None else list(each) for each in (templates, encoder.templates, clip.templates)],
        [[repr(part) for part in parts], heads, getattr(clip.model, "text_pool_type", None)],
        [type(clip.tokenizer).__qualname__, clip.tokenizer(list(names[:1])).tolist()],
        [device, torch.get_float32_matmul_precision()],
        [torch.is_autocast_enabled(device), str(torch.get_autocast_dtype(device))],
    ]


def _read(path: Path, count: int) -> Tensor | None:
    """The embeddings in a file; None if there is none, or none that is sound."""
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        _warn(f"cannot read {path} ({error.strerror}); the words are encoded again")
        return None
    payload = content[_DIGEST:]
    try:
        # The hash is looked at first: embeddings with a flipped bit can be read without an error.
        if hashlib.sha256(payload).digest() == content[:_DIGEST]:
            text = load(payload)["text"]
            if len(text) == count:
                return text
    except (SafetensorError, KeyError):
        pass
    _warn(f"{path} is damaged; the words are encoded again, and the file is written anew")
    return None


def _write(path: Path, text: Tensor) -> None:
    payload = save({"text": text.detach().cpu().contiguous()})
    try:
        with whole_file(path) as scratch:
            for stale in _left_over(path.parent):
                stale.unlink(missing_ok=True)
            scratch.write_bytes(hashlib.sha256(payload).digest() + payload)
    # A measurement does not fail because its words will have to be encoded again.
    except OSError as error:
        _warn(f"embeddings of words are not kept: {error}; {VARIABLE} names another folder, or is {OFF!r}")


def _left_over(folder: Path) -> Iterator[Path]:
    """Scratch files of processes that were killed while they wrote; those of running ones are young."""
    for scratch in folder.glob(".*.tmp"):
        try:
            if time.time() - scratch.stat().st_mtime > _LEFT_OVER:
                yield scratch
        except FileNotFoundError:  # another process was quicker
            continue


def _warn(said: str) -> None:
    warnings.warn(said, stacklevel=4)
