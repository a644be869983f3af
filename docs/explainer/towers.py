"""collage-mini's two towers as ONNX files for a browser, and their weights made smaller."""

from __future__ import annotations

import inspect
from hashlib import blake2b
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from infoclip_lite.clip import DenseCLIP
from infoclip_lite.clip.blocks import project_qkv, similarity
from infoclip_lite.clip.readouts import READ_OUTS
from infoclip_lite.clip.readouts.cliper import clean
from infoclip_lite.clip.readouts.gem import self_attention
from infoclip_lite.clip.readouts.naclip import neighbourhood
from infoclip_lite.clip.tower import TowerPass
from infoclip_lite.training.export import onnx_program

# PEARL's rotation is a singular value decomposition, for which ONNX has no operator; ResCLIP asks a second time
# when it knows the words, which a page learns after it has seen the picture.
LEFT_OUT = ("pearl", "resclip")
EXPORTED = tuple(name for name in READ_OUTS if name not in LEFT_OUT)
# Read-outs in which a patch looks at itself alone.
ALONE = ("value", "maskclip", "cls_value")

SMALLEST = 1024  # values; smaller weights stay as they are: they weigh nothing


def attention_by_head(name: str, tower: TowerPass) -> Tensor:
    """What a read-out mixes the values of the last block with.

    Args:
        name: one of EXPORTED.
        tower: the pass.

    Returns:
        (B, heads, 1 + N, 1 + N), CLS first, rows sum to one.
    """
    q, k, v = project_qkv(tower.last, tower.entering)
    if name in ALONE:
        return torch.eye(q.shape[2]).expand(*q.shape[:2], -1, -1)
    if name == "sclip":  # the read-out adds the two, whose rows then sum to two
        return (similarity(q, q).softmax(-1) + similarity(k, k).softmax(-1)) / 2
    if name == "clearclip":
        return similarity(q, q).softmax(-1)
    if name == "naclip":
        return (similarity(k, k) + neighbourhood(tower.grid, k)).softmax(-1)
    if name == "gem":
        return self_attention(tower.last, tower.entering).mean(0)
    if name == "cliper":
        earlier = [tower.attention(index) for index in range(len(tower.blocks) - 1)]
        return clean(torch.stack(earlier).sum(0))
    return similarity(q, k).softmax(-1)


class ImageTower(nn.Module):
    """Everything that the page shows of a picture, from one pass.

    Args:
        clip: the model.
        read_outs: names, in the order of the first axis of what comes out.
    """

    def __init__(self, clip: DenseCLIP, read_outs: tuple[str, ...] = EXPORTED) -> None:
        super().__init__()
        self.clip, self.read_outs = clip, read_outs

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One picture (1, 3, H, W) in [0, 1] to its embedding (D,), of every read-out the patches' (R, N, D),
        all of unit length, and the attention (R, 1 + N, 1 + N), a mean over heads.
        """
        tower = self.clip.tower(image)
        patches = [nn.functional.normalize(self.clip.read(tower, name), dim=-1) for name in self.read_outs]
        attention = [attention_by_head(name, tower).mean(1) for name in self.read_outs]
        return self.clip.project(tower.leaving[:, 0])[0], torch.cat(patches), torch.cat(attention)


class TextTower(nn.Module):
    """Sentences of the words that the model knows; its table holds no others.

    Args:
        clip: a model with `known_tokens`.

    Attributes:
        known: the token ids, ascending; the row of a token is its place here plus one, row 0 is the filling.
    """

    def __init__(self, clip: DenseCLIP) -> None:
        super().__init__()
        if clip.known_tokens is None:
            raise ValueError(f"{clip.name} knows every token; expected one that says which it was taught")
        self.model = clip.model
        self.known = sorted(clip.known_tokens.tolist())
        table = clip.model.token_embedding.weight
        # 49,408 rows become some thousands; a token that was never learnt has zeros, as in the checkpoint.
        rows = torch.cat([torch.zeros_like(table[:1]), table[self.known]])
        self.table = nn.Parameter(rows.detach().clone(), requires_grad=False)

    def forward(self, rows: Tensor) -> Tensor:
        """Rows of the table (n, context) to unit vectors (n, D); the end of a sentence is the last row."""
        model = self.model
        x = self.table[rows] + model.positional_embedding
        x = model.transformer(x, attn_mask=model.attn_mask)
        ends = model.ln_final(x)[torch.arange(len(rows)), rows.argmax(1)]
        return nn.functional.normalize(ends @ model.text_projection, dim=-1)


def image_program(clip: DenseCLIP) -> onnx.ModelProto:
    """The image tower for one square picture of the size of training: "image" to "embedding", "patches" and
    "attention", as of `ImageTower`.

    Args:
        clip: the model.
    """
    side = clip.visual.image_size[0]
    example = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    names = ["embedding", "patches", "attention"]
    return onnx_program(ImageTower(clip).eval(), (example,), inputs=["image"], outputs=names)


def text_program(clip: DenseCLIP) -> onnx.ModelProto:
    """The text tower for any number of sentences: "rows" to "embeddings", as of `TextTower`.

    Args:
        clip: the model.
    """
    rows = torch.zeros(2, clip.model.context_length, dtype=torch.long)
    return onnx_program(
        TextTower(clip).eval(),
        (rows,),
        inputs=["rows"],
        outputs=["embeddings"],
        dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
    )


def fingerprint(clip: DenseCLIP) -> str:
    """What a program depends on: the weights, and the package's and this file's way with them.

    Args:
        clip: the model.
    """
    digest = blake2b(digest_size=8)
    for tensor in clip.model.state_dict().values():
        digest.update(tensor.contiguous().numpy().tobytes())
    room = Path(inspect.getfile(DenseCLIP)).parent
    for path in (Path(__file__), *sorted(room.rglob("*.py"))):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def halved(program: onnx.ModelProto) -> onnx.ModelProto:
    """Another program that keeps its large weights in half precision; the runtime makes float32 of them
    once, when the file is loaded.

    Nothing is lost: the checkpoint keeps its weights in half precision too. A byte a value and a scale for
    each row, half the size again, left fewer labels as they were than the 99.5% that we ask for [O].

    Args:
        program: with float32 weights.
    """
    smaller = onnx.ModelProto.FromString(program.SerializeToString())
    graph, kept, casts = smaller.graph, [], []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < SMALLEST:
            kept.append(onnx.TensorProto.FromString(tensor.SerializeToString()))
            continue
        half = numpy_helper.from_array(values.astype(np.float16), f"{tensor.name}.half")
        kept.append(half)
        casts.append(helper.make_node("Cast", [half.name], [tensor.name], to=onnx.TensorProto.FLOAT))
    # Copies of the nodes: clearing the field frees those that are in it.
    nodes = [*casts, *(onnx.NodeProto.FromString(node.SerializeToString()) for node in graph.node)]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend(nodes)
    return smaller
