"""A trained student as one ONNX file: body, head and fixed words, and no CLIP image encoder."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..core.files import whole_file
from ..segmentors import Segmentor

if TYPE_CHECKING:
    from onnx import ModelProto


class FixedWords(nn.Module):
    """A segmentor whose words are chosen: images in, logits out.

    Args:
        segmentor: any of the package's.
        names: the C words.
    """

    def __init__(self, segmentor: Segmentor, names: Sequence[str]) -> None:
        super().__init__()
        self.segmentor = segmentor
        self.words: Tensor
        with torch.no_grad():
            self.register_buffer("words", segmentor.encode_text(names))

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] to logits (B, C, H, W)."""
        return self.segmentor(images, self.words)


def export_onnx(
    segmentor: Segmentor, names: Sequence[str], path: Path, *, size: int, opset: int = 18
) -> Path:
    """Write a segmentor with fixed words as ONNX, for any number of pictures of one size; the words are in
    the file's metadata.

    Args:
        segmentor: a trained one.
        names: the C words.
        path: of the .onnx file.
        size: side of the pictures in pixels.
        opset: ONNX operator set.

    Returns:
        `path`.

    Raises:
        ImportError: onnx and onnxscript are not installed.
        ValueError: a size that the segmentor refuses.
    """
    model = FixedWords(copy.deepcopy(segmentor).cpu(), names).eval()
    example = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    proto = onnx_program(
        model,
        (example,),
        inputs=["images"],
        outputs=["logits"],
        dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
        opset=opset,
    )
    import onnx  # after the program, which says what to install where it is missing

    proto.metadata_props.append(onnx.StringStringEntryProto(key="names", value=json.dumps(list(names))))
    with whole_file(path) as scratch:
        scratch.write_bytes(proto.SerializeToString())
    return path


def onnx_program(
    model: nn.Module,
    example: tuple[Tensor, ...],
    *,
    inputs: Sequence[str],
    outputs: Sequence[str],
    dynamic_shapes: tuple[dict[int, object], ...] | None = None,
    opset: int = 18,
) -> ModelProto:
    """A module as an ONNX program, its weights inside.

    Args:
        model: in evaluation mode, on the CPU.
        example: what it is called with.
        inputs, outputs: names, in the order of the module's own.
        dynamic_shapes: for each input, axis -> torch.export.Dim of an axis of any length; None: all fixed.
        opset: ONNX operator set.

    Returns:
        The program.

    Raises:
        ImportError: onnx and onnxscript are not installed.
        ValueError: what the module says of the example.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401 (torch.onnx needs it and says so less clearly)
    except ImportError as error:
        raise ImportError(
            f"ONNX export needs onnx and onnxscript ({error}); "
            "install them: pip install 'infoclip-lite[chimera]'"
        ) from error
    with torch.no_grad():
        model(*example)  # a size that does not fit is said here, in the module's words
    with _quiet():
        program = torch.onnx.export(
            model,
            example,
            dynamo=True,
            opset_version=opset,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=dynamic_shapes,
        )
    if program is None:
        raise ValueError("torch.onnx.export gave no program; expected one")
    return program.model_proto


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter tells of every pass on stdout and by logging; a user needs to hear of errors."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    with (
        contextlib.redirect_stdout(io.StringIO()),
        open(os.devnull, "w") as sink,
        contextlib.redirect_stderr(sink),
    ):
        try:
            yield
        finally:
            logging.disable(level)
