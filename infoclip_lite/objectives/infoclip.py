"""InfoCLIP (2511.15967): squeeze the noise out of the teacher's pixel-text relation, and keep the rest.

What is squeezed and what is kept is measured in bits:

    min  I(D_V, D_L; R_T)    compression: trains LPAM alone
    max  I(R_T; R_S)         transfer: trains LPAM and the student

R is the relation map that LPAM makes of pixel embeddings D_V and text embeddings D_L;
T is the frozen teacher, S the student. I is the matrix-based Renyi information of order alpha on linear
Gram matrices [P figure; kernel and order S]. The paper does not say what the samples of those Gram
matrices are; `axis` leaves it open:

- "batch": a picture is a sample (B x B Grams), as in sibling papers [S]. I is at most log B,
  and G_L is all ones: text drops out [O].
- "pixel": a patch is a sample (one N x N Gram a picture, averaged over pictures); text enters through R [O].
- "class": a word is a sample (one C x C Gram a picture); pixels enter through R [O].

Two traps that the paper's formula leaves open, and what we offer against them [O]:

- All samples share a large common part, so their Gram matrix is almost one number and its entropy almost
  zero. `centre` subtracts the mean over the samples first, as CKA does.
- I(R_T; R_S) also grows when the student's rows differ more from each other than the teacher's.
  `kind="gap"` asks for no more than the teacher has: (I(R_T; R_T) + I(R_S; R_S)) / 2 - I(R_T; R_S),
  which at alpha = 2 is zero only where the two relations are alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ..clip import DenseCLIP
from ..information import gram, renyi_entropy, renyi_mutual_information
from ..information._checks import check_alpha
from ..information.renyi import Correction
from .base import Batch, Objective, relation

Axis = Literal["batch", "pixel", "class"]
Residual = Literal["layernorm", "cosine"]
Kind = Literal["information", "gap"]


class LPAM(nn.Module):
    """Learnable pixel-text alignment module, shared by teacher and student [P figure].

    R = LN(D_V) LN(D_L)^T + Proj_q(LN(D_V)) Proj_k(LN(D_L))^T / sqrt(D). Two linear layers and two
    layer norms: 527,360 parameters at D = 512. The figure normalises the residual branch by LN,
    a note on the paper says cosine [N]: `residual` chooses.

    Args:
        dim: D, the width of the joint image-text space.
        residual: "layernorm" or "cosine".

    Raises:
        ValueError: another residual, or a width below 1.
    """

    def __init__(self, dim: int, residual: Residual = "layernorm") -> None:
        super().__init__()
        if residual not in get_args(Residual):
            raise ValueError(
                f"unknown residual {residual!r}; expected one of {', '.join(get_args(Residual))}"
            )
        if dim < 1:
            raise ValueError(
                f"dim is {dim}; expected the width of CLIP's joint space, such as clip.embed_dim"
            )
        self.residual = residual
        # Queries are the pixels', as the figure has it; in InfoSAM's code they are the mask token's [S].
        self.norm_dense, self.norm_text = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.query, self.key = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def forward(self, dense: Tensor, text: Tensor) -> Tensor:
        """The relation map.

        Args:
            dense: (B, N, D) patch embeddings.
            text: (C, D) text embeddings.

        Returns:
            (B, N, C), no softmax and no temperature.

        Raises:
            ValueError: shapes that do not fit: another number of axes, or a width that is not `dim`.
        """
        width = self.norm_dense.normalized_shape[0]
        if dense.ndim != 3 or text.ndim != 2 or dense.shape[-1] != width or text.shape[-1] != width:
            raise ValueError(
                f"got dense {tuple(dense.shape)} and text {tuple(text.shape)}; "
                f"expected (B, N, {width}) and (C, {width}): "
                "both from the joint space of one CLIP, and LPAM built with its embed_dim"
            )
        pixels, words = self.norm_dense(dense), self.norm_text(text)
        learned = self.query(pixels) @ self.key(words).T / math.sqrt(width)
        # Products of layer norms are some D times as large as cosines: "layernorm" begins as CLIP's
        # relation and learns to change it, "cosine" begins with more of what is learnt.
        fixed = relation(dense, text) if self.residual == "cosine" else pixels @ words.T
        return learned + fixed


def compression_loss(
    dense: Tensor,
    text: Tensor,
    relation: Tensor,
    *,
    axis: Axis = "batch",
    alpha: float = 2.0,
    base: float = 2.0,
    correction: Correction | None = None,
    centre: bool = False,
    validate: bool = True,
) -> Tensor:
    """L_c: how much the relation still tells about the embeddings it was made of; less is more compressed.

    S(R) - S(V, L, R), at alpha = 2: -log ||G_R||^2 + log ||G_VLR||^2 [P figure]. It is I(V, L; R) less
    S(V, L), which does not depend on the relation, so the two have the same gradient [O].

    Args:
        dense: (B, N, D) teacher's patch embeddings.
        text: (C, D) teacher's text embeddings.
        relation: (B, N, C) made of them.
        axis: what a sample is; see the module. Axis "pixel" leaves the text to R, axis "class" the pixels.
        alpha: order of the entropy.
        base: of the logarithm; 2 gives bits.
        correction: of the small-sample bias of I, as in `renyi_mutual_information`; alpha = 2 only.
        centre: subtract the mean over the samples first [O].
        validate: look for NaN and for Gram matrices that cannot be; on a GPU every look waits for the device.

    Returns:
        A scalar in units of log `base`, the mean over pictures where the axis is not the batch.

    Raises:
        ValueError: too few samples on the axis, or shapes that do not belong together.
    """
    _check_relation(relation, axis)
    if dense.shape[:2] != relation.shape[:2] or len(text) != relation.shape[2]:
        raise ValueError(
            f"got a relation {tuple(relation.shape)} for {tuple(dense.shape)} "
            f"pixels and {tuple(text.shape)} words; expected (B, N, C)"
        )
    # One of V and L is left out. On the batch axis all pictures have the same words: G_L is all ones and
    # drops out of the product. On the others a patch is no word, and the side that has no sample to pair
    # comes in through R [O].
    if axis == "class":
        known = _gram(text.T[None], axis, centre, validate)[0]
    else:
        known = _gram(dense, axis, centre, validate)
    related = _gram(relation, axis, centre, validate)
    # S(R) - S(V, R) as an information, so that the correction of its bias comes in.
    information = renyi_mutual_information(known, related, alpha, base, correction, validate=validate)
    return (information - renyi_entropy(known, alpha, base, validate=validate)).mean()


def transfer_loss(
    relation_teacher: Tensor,
    relation_student: Tensor,
    *,
    axis: Axis = "batch",
    alpha: float = 2.0,
    base: float = 2.0,
    correction: Correction | None = None,
    centre: bool = False,
    kind: Kind = "information",
    validate: bool = True,
) -> Tensor:
    """L_d = -I(R_T; R_S): the student keeps what the teacher's relation says [P figure].

    Args:
        relation_teacher, relation_student: (B, N, C), neither detached.
        axis, alpha, base, correction, centre, validate: as for `compression_loss`.
        kind: "information" is the paper's; "gap" what I(R_T; R_S) falls short of the mean
            of I(R_T; R_T) and I(R_S; R_S) [O].

    Returns:
        A scalar in units of log `base`, the mean over pictures where the axis is not the batch.

    Raises:
        ValueError: different shapes, an unknown kind, or too few samples on the axis.
    """
    if relation_teacher.shape != relation_student.shape:
        raise ValueError(
            f"got relations {tuple(relation_teacher.shape)} and {tuple(relation_student.shape)}; "
            "expected one shape: teacher and student see the same pictures and words"
        )
    if kind not in get_args(Kind):
        raise ValueError(f"unknown kind {kind!r}; expected one of {', '.join(get_args(Kind))}")
    _check_relation(relation_teacher, axis)
    a, b = (_gram(r, axis, centre, validate) for r in (relation_teacher, relation_student))
    shared = renyi_mutual_information(a, b, alpha, base, correction, validate=validate)
    if kind == "information":
        return -shared.mean()
    # At alpha = 2 the gap is -log of the cosine of the two Grams squared entry by entry, a kernel
    # alignment: zero for what is alike, above it for rows that differ more than the teacher's, too [O].
    own = [renyi_mutual_information(g, g, alpha, base, correction, validate=validate) for g in (a, b)]
    return ((own[0] + own[1]) / 2 - shared).mean()


class InfoCLIPObjective(Objective):
    """LPAM and both losses: lambda_1 L_c + lambda_2 L_d.

    Under this reading compression never touches the student: it trains LPAM, and through it what
    transfer asks for [S].

    Args:
        dim: D, the width of the joint space.
        axis, alpha, base, correction, centre: of both losses.
        kind: of transfer.
        residual: of LPAM.
        compression: lambda_1 (paper: 1 [N]; InfoSAM: 1 [S]); 0 leaves L_c out.
        transfer: lambda_2 (paper: 1 [N]; InfoSAM: 0.5 [S]); 0 leaves L_d out.
        detach: L_d does not move the teacher's relation, so that LPAM cannot make it easier to meet [O].
        ramp: fraction of the training over which lambda_2 grows from 0 to its value, so that LPAM is trained
            by L_c first [O].

    Raises:
        ValueError: unknown axis, kind or residual, negative weights, an alpha or base that cannot be,
            a correction at alpha other than 2, or a ramp outside 0 .. 1.
    """

    def __init__(
        self,
        dim: int,
        *,
        axis: Axis = "batch",
        alpha: float = 2.0,
        base: float = 2.0,
        residual: Residual = "layernorm",
        correction: Correction | None = None,
        centre: bool = False,
        kind: Kind = "information",
        compression: float = 1.0,
        transfer: float = 1.0,
        detach: bool = False,
        ramp: float = 0.0,
    ) -> None:
        super().__init__()
        if axis not in get_args(Axis):
            raise ValueError(f"unknown axis {axis!r}; expected one of {', '.join(get_args(Axis))}")
        if kind not in get_args(Kind):
            raise ValueError(f"unknown kind {kind!r}; expected one of {', '.join(get_args(Kind))}")
        if not (compression >= 0 and transfer >= 0):
            raise ValueError(
                f"got weights compression={compression}, transfer={transfer}; expected 0 or more"
            )
        if not 0 <= ramp <= 1:
            raise ValueError(f"ramp is {ramp}; expected 0 .. 1, a fraction of the training")
        check_alpha(alpha, base)
        if correction is not None and alpha != 2:
            raise ValueError(
                f"got correction={correction!r} at alpha={alpha}; "
                "expected alpha=2, where it has a closed form"
            )
        self.lpam = LPAM(dim, residual)
        self.compression, self.transfer = compression, transfer
        self.detach, self.ramp = detach, ramp
        # At alpha = 2 nothing looks at a value, so that a step never waits for the device: what is not
        # finite shows in the total.
        self.looks = alpha != 2
        self.options = {
            "axis": axis,
            "alpha": alpha,
            "base": base,
            "correction": correction,
            "centre": centre,
            "validate": self.looks,
        }
        self.kind = kind

    @classmethod
    def needed(cls, student: DenseCLIP, teacher: DenseCLIP) -> tuple[object, ...]:
        """The width of the joint space, which is LPAM's.

        Args:
            student: the CLIP that is tuned.
            teacher: its pretrained copy.

        Returns:
            The argument `dim`.
        """
        return (student.embed_dim,)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Both losses of a batch. No gradient reaches the teacher.

        Args:
            batch: its teacher and student are looked at: two views of the same pictures and words.

        Returns:
            "compression" L_c and "transfer" L_d where their weight is not zero, and "total",
            in units of log `base`.

        Raises:
            ValueError: teacher and student of different width, or what the losses refuse.
        """
        teacher, student = batch.teacher, batch.student
        if teacher.dense.shape != student.dense.shape:
            raise ValueError(
                f"the teacher's patches are {tuple(teacher.dense.shape)}, "
                f"the student's {tuple(student.dense.shape)}; "
                "expected one shape: the teacher is the pretrained copy of the student"
            )
        # The embeddings are detached, the relation is not: L_c trains LPAM, L_d LPAM and the student [S].
        dense, text = teacher.dense.detach(), teacher.text.detach()
        relation_teacher = self.lpam(dense, text)
        terms: dict[str, Tensor] = {}
        if self.compression:
            terms["compression"] = self._safe(compression_loss, dense, text, relation_teacher)
        if self.transfer:
            relation_student = self.lpam(student.dense, student.text)
            wanted = relation_teacher.detach() if self.detach else relation_teacher
            terms["transfer"] = self._safe(transfer_loss, wanted, relation_student, kind=self.kind)
        grown = min(1.0, batch.progress / self.ramp) if self.ramp else 1.0
        weights = {"compression": self.compression, "transfer": grown * self.transfer}
        total = sum((weights[name] * term for name, term in terms.items()), dense.new_zeros(()))
        return {**terms, "total": total}

    def _safe(self, loss: Callable[..., Tensor], *inputs: Tensor, **options: str) -> Tensor:
        """The loss, or NaN where an input is not finite: whoever trains can then say which term it was."""
        if self.looks:  # eigenvalues of what is not finite do not exist
            total = torch.stack([x.sum() for x in inputs]).sum()
            if not torch.isfinite(total):
                return total * torch.nan
        return loss(*inputs, **self.options, **options)


def _check_relation(relation: Tensor, axis: Axis) -> None:
    if axis not in get_args(Axis):
        raise ValueError(f"unknown axis {axis!r}; expected one of {', '.join(get_args(Axis))}")
    if relation.ndim != 3:
        raise ValueError(f"got a relation {tuple(relation.shape)}; expected (B, N, C)")
    batch, pixels, classes = relation.shape
    samples = {"batch": batch, "pixel": pixels, "class": classes}[axis]
    if samples < 2:
        hint = 'more pictures a step, or axis="pixel"' if axis == "batch" else "more of them, or another axis"
        raise ValueError(
            f'axis="{axis}" has {samples} sample in a relation {tuple(relation.shape)}: no information; '
            f"hint: {hint}"
        )
    if axis == "pixel" and classes < 2:
        raise ValueError(
            f"got a relation with {classes} class: scaled to unit length, every patch says the same; "
            "hint: train with two words or more"
        )


def _gram(x: Tensor, axis: Axis, centre: bool, validate: bool) -> Tensor:
    """Linear Gram matrices of (B, N, C): (n, n) on the batch axis, else (B, n, n), one a picture."""
    samples = {"batch": x.flatten(1), "pixel": x, "class": x.mT}[axis]
    # Samples share a large common part, beside which what tells them apart is lost to the Gram matrix [O].
    if centre:
        samples = samples - samples.mean(-2, keepdim=True)
    # Each sample flattened and scaled to unit length, as the siblings do [S]; and with constant
    # diagonals the corrections of the bias are exact to a few thousandths of a bit [O].
    return gram(samples, normalize=True, validate=validate)
