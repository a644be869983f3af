"""Chimera-Seg's objectives (2506.22032): what teaches a body that never saw a caption CLIP's language.

Only the abstract could be read [P]: Selective Global Distillation learns from the dense features
most similar to CLIP's CLS token, of which there are fewer and fewer as training goes on;
a Semantic Alignment Module brings dense features and the frozen text encoder's embeddings together.
Everything below that these sentences leave open is our reading [I], and each choice an option.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..clip import DenseCLIP
from ..clip.readouts import check_read_outs
from ..core.labels import NO_LABEL
from .base import Batch, Objective

Schedule = Literal["cosine", "linear", "step", "constant"]


def positions_kept(progress: float, positions: int, smallest: int, schedule: Schedule = "cosine") -> int:
    """K: of how many positions the picture's summary is made, from all of them down to `smallest`.

    That it falls is the paper's [P], how it falls our reading [I].

    Args:
        progress: fraction of the training that is over, 0 .. 1.
        positions: L, all of them.
        smallest: K at the end.
        schedule: "cosine" (slow, fast, slow), "linear", "step" (all, half-way, smallest:
            a third of the training each), or "constant": always all, which makes it the global learning
            module (GLM) of CLIP-ZSS (2310.02296).

    Returns:
        K, `smallest` .. `positions`.

    Raises:
        ValueError: an unknown schedule, a progress outside 0 .. 1, or a `smallest` outside 1 .. `positions`.

    >>> [positions_kept(p, 64, 16, "cosine") for p in (0.0, 0.25, 0.5, 0.75, 1.0)]
    [64, 57, 40, 23, 16]
    """
    if schedule not in get_args(Schedule):
        raise ValueError(f"unknown schedule {schedule!r}; expected one of {', '.join(get_args(Schedule))}")
    if not 0 <= progress <= 1:
        raise ValueError(f"progress is {progress}; expected 0 (begin of training) .. 1 (its end)")
    if schedule == "constant":
        return positions
    if not 1 <= smallest <= positions:
        raise ValueError(
            f"smallest is {smallest}, but the student has {positions} positions; "
            f"expected 1 .. {positions}: keep fewer"
        )
    # Of the positions that go, the fraction that is gone. The last step of a training, at progress 1,
    # would otherwise begin a fourth stair.
    gone = {
        "cosine": (1 - math.cos(math.pi * progress)) / 2,
        "linear": progress,
        "step": min(2, int(3 * progress)) / 2,
    }[schedule]
    return round(positions - (positions - smallest) * gone)


def select(image: Tensor, dense: Tensor, count: int) -> Tensor:
    """Indices (B, count) of the positions most similar to the picture's embedding.

    Args:
        image: (B, D) global embeddings.
        dense: (B, N, D) unit vectors.
        count: K, at most N.

    Returns:
        int64, the most similar first.
    """
    # Cosines (B, N) of CLS with every position. Sorted: sums over the chosen ones then have one order.
    return torch.einsum("bd,bnd->bn", image, dense).topk(count, sorted=True).indices


class SelectiveGlobalDistillation(nn.Module):
    """The student's positions that look most like CLIP's CLS, summed up, must find the CLS of their picture.

    With S (B, D) the teacher's CLS embeddings and R_K (B, K, D) the K positions most similar to S [I]:

        W = softmax(S R_K^T / tau), tau = sqrt(D)
        S^ = W R_K, scaled to unit length

    and the loss is InfoNCE of S^ against S, the other pictures of the batch and a queue of past S.

    Args:
        dim: D.
        smallest: K at the end of training.
        schedule: of K; see `positions_kept`.
        queue: how many past CLS embeddings are kept as further negatives; 0 keeps none.
        temperature: of InfoNCE.
        summary_temperature: tau. None is sqrt(D), as in CLIP-ZSS, under which the cosines of unit vectors
            weigh nearly alike; a small one lets the weights themselves select [O].

    Raises:
        ValueError: numbers out of range, or an unknown schedule.
    """

    def __init__(
        self,
        dim: int,
        *,
        smallest: int = 16,
        schedule: Schedule = "cosine",
        queue: int = 256,
        temperature: float = 0.07,
        summary_temperature: float | None = None,
    ) -> None:
        super().__init__()
        if smallest < 1 or queue < 0 or not temperature > 0:
            raise ValueError(
                f"got smallest={smallest}, queue={queue}, temperature={temperature}; "
                "expected at least 1, at least 0, above 0"
            )
        if summary_temperature is not None and not summary_temperature > 0:
            raise ValueError(
                f"summary_temperature is {summary_temperature}; expected a number above 0, or None for the "
                "root of the width"
            )
        positions_kept(0.0, smallest, smallest, schedule)  # a slip in the schedule is said now
        self.smallest = smallest
        self.schedule = schedule
        self.temperature = temperature
        self.summary_temperature = math.sqrt(dim) if summary_temperature is None else summary_temperature
        self.queue: Tensor
        self.filled: Tensor
        # Buffers, and so in the state: a training that goes on finds the negatives it had.
        self.register_buffer("queue", torch.zeros(queue, dim))
        self.register_buffer("filled", torch.zeros((), dtype=torch.long))
        self._filled: int | None = 0  # the same number on the CPU: nobody waits for the device to know it
        self.register_load_state_dict_post_hook(_forget)

    def forward(self, image: Tensor, dense: Tensor, progress: float = 0.0) -> dict[str, Tensor]:
        """InfoNCE of the student's summaries and the teacher's CLS. In training, it remembers the latter.

        Args:
            image: (B, D) CLS embeddings of the frozen teacher, unit vectors.
            dense: (B, N, D) unit vectors of the student.
            progress: fraction of the training that is over.

        Returns:
            {"global", "total"}, the loss in nats twice.

        Raises:
            ValueError: shapes that do not fit, more positions to keep than there are, or one
                picture and an empty queue.
        """
        dim = self.queue.shape[1]
        fits = image.ndim == 2 and dense.ndim == 3 and image.shape == (len(dense), dense.shape[-1])
        if not fits or image.shape[1] != dim:
            raise ValueError(
                f"got image {tuple(image.shape)} and dense {tuple(dense.shape)}; "
                f"expected (B, {self.queue.shape[1]}) and (B, N, "
                f"{self.queue.shape[1]}), both in the joint space of one CLIP"
            )
        image = image.detach()  # CLIP teaches and is not taught
        if self._filled is None:
            self._filled = int(self.filled)  # once after a state was loaded: this waits for the device
        others = self.queue[: self._filled]
        if len(image) + len(others) < 2:
            raise ValueError("got one picture and no other to tell it from; expected a batch of at least 2")
        kept = positions_kept(progress, dense.shape[1], self.smallest, self.schedule)
        summary = self.summarise(image, dense, kept)
        # (B, B + queue): the right answer of row i is column i, all that is behind the batch only distracts.
        logits = summary @ torch.cat([image, others]).T / self.temperature
        loss = F.cross_entropy(logits, torch.arange(len(image), device=logits.device))
        if self.training:
            self._remember(image)
        return {"global": loss, "total": loss}

    def summarise(self, image: Tensor, dense: Tensor, count: int) -> Tensor:
        """S^, from the positions most similar to the CLS embedding.

        Args:
            image: (B, D) CLS embeddings, unit vectors.
            dense: (B, N, D) unit vectors.
            count: K.

        Returns:
            (B, D) unit vectors.
        """
        dim = dense.shape[-1]
        # The chosen positions (B, K, D); the choice itself has no gradient, the chosen features have.
        kept = dense.gather(1, select(image, dense, count)[..., None].expand(-1, -1, dim))
        # Cosines over sqrt(D) differ by little, so the weights are nearly even: K decides who counts [I].
        weights = (torch.einsum("bd,bkd->bk", image, kept) / self.summary_temperature).softmax(-1)
        return F.normalize(torch.einsum("bk,bkd->bd", weights, kept), dim=-1)

    @torch.no_grad()
    def _remember(self, image: Tensor) -> None:
        """The newest embeddings first, the oldest fall out."""
        size = len(self.queue)
        self.queue.copy_(torch.cat([image.to(self.queue), self.queue])[:size])
        self._filled = min(size, (self._filled or 0) + len(image))
        self.filled.fill_(self._filled)


def _forget(module: nn.Module, _keys: object) -> None:
    """After a state was loaded, the number on the CPU is that of another run."""
    module._filled = None  # type: ignore[assignment]


class SemanticAlignment(nn.Module):
    """Words look at the picture, then each must find its own pixels, by BCE and Dice on similarity maps [I].

    Text queries attend to the dense features (cross-attention, added to a query, that starts at zero),
    and the maps are cosines of dense features and queries. It is for training only:
    at inference words are compared as they are.

    Args:
        dim: D.
        heads: of the cross-attention.
        scale, bias: where sigmoid(scale * cosine + bias) starts; both are trained.

    Raises:
        ValueError: heads that do not divide the width.
    """

    def __init__(self, dim: int, *, heads: int = 4, scale: float = 10.0, bias: float = -5.0) -> None:
        super().__init__()
        if heads < 1 or dim % heads:
            raise ValueError(f"heads is {heads}; expected a divisor of the width {dim}")
        self.norm_text, self.norm_dense = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        # At zero the queries begin as the words that inference will compare with (torch sets the bias so).
        nn.init.zeros_(self.attention.out_proj.weight)
        # Of many words few are in a picture: the bias lets the maps begin near "no" instead of at one half.
        self.scale = nn.Parameter(torch.tensor(scale))
        self.bias = nn.Parameter(torch.tensor(bias))

    def forward(
        self, dense: Tensor, text: Tensor, target: Tensor, *, validate: bool = True
    ) -> dict[str, Tensor]:
        """How well each word finds its pixels.

        Args:
            dense: (B, D, h, w) unit vectors of the student.
            text: (C, D) unit vectors of the training classes.
            target: (B, H, W) class ids, NO_LABEL where nothing is known.
            validate: look whether every id is that of a word; on a GPU that waits for the device.

        Returns:
            {"bce", "dice", "total"}: BCE in nats a class and pixel, Dice in 0 .. 1 over the classes that
            are in each picture, and their sum.

        Raises:
            ValueError: shapes that do not fit, or (with `validate`) ids that are no word's.
        """
        axes = (dense.ndim, text.ndim, target.ndim)
        if axes != (4, 2, 3) or dense.shape[1] != text.shape[1] or len(dense) != len(target):
            raise ValueError(
                f"got dense {tuple(dense.shape)}, text {tuple(text.shape)} and target "
                f"{tuple(target.shape)}; expected (B, D, h, w), (C, D) and (B, H, W)"
            )
        if validate:
            _check_ids(target, len(text))
        maps = self.maps(dense, text)
        # Float32 from here on, which autocast may have left: below are sums over all pixels of a map.
        logits = F.interpolate(maps, target.shape[-2:], mode="bilinear", align_corners=False).float()
        labelled = (target != NO_LABEL)[:, None]
        # (B, C, H, W), one where the word is the pixel's. one_hot refuses NO_LABEL:
        # class 0 stands in for it, and is taken out again.
        places = torch.where(labelled[:, 0], target, 0)
        wanted = F.one_hot(places, len(text)).movedim(-1, 1) * labelled
        bce = F.binary_cross_entropy_with_logits(logits, wanted.to(logits), reduction="none")
        bce = (bce * labelled).sum() / (labelled.sum() * len(text)).clamp(min=1)
        got = logits.sigmoid() * labelled
        overlap = (got * wanted).sum((2, 3))
        size = got.sum((2, 3)) + wanted.sum((2, 3))
        # A word that is not in the picture has nothing to overlap with: BCE alone tells it so.
        present = wanted.amax((2, 3)) > 0
        dice = ((1 - (2 * overlap + 1) / (size + 1)) * present).sum() / present.sum().clamp(min=1)
        return {"bce": bce, "dice": dice, "total": bce + dice}

    def maps(self, dense: Tensor, text: Tensor) -> Tensor:
        """Similarity maps of words that have looked at the picture.

        Args:
            dense: (B, D, h, w) unit vectors.
            text: (C, D) unit vectors.

        Returns:
            (B, C, h, w) logits, scale * cosine + bias.
        """
        patches = self.norm_dense(dense.flatten(2).mT)  # (B, h w, D)
        asked = self.norm_text(text).expand(len(dense), -1, -1)  # (B, C, D): each picture has its own queries
        looked = text + self.attention(asked, patches, patches, need_weights=False)[0]
        cosines = torch.einsum("bdhw,bcd->bchw", dense, F.normalize(looked, dim=-1))
        return self.scale * cosines + self.bias


def _check_ids(target: Tensor, words: int) -> None:
    known = target[target != NO_LABEL]
    if len(known) and not 0 <= int(known.min()) <= int(known.max()) < words:
        raise ValueError(
            f"got class ids {int(known.min())} .. {int(known.max())}; "
            f"expected 0 .. {words - 1}, one for each word, or {NO_LABEL}"
        )


class SelectiveDenseDistillation(nn.Module):
    """A second reading of Selective Global Distillation [I]: of CLIP's dense features, those most like CLS.

    At the K positions of the teacher that are most similar to S, the student's features should be the
    teacher's: 1 - cosine, after the teacher's mean over the batch was subtracted from both [O]: what all
    positions share says nothing of what is where.

    Args:
        smallest: K at the end of training.
        schedule: of K; see `positions_kept`.

    Raises:
        ValueError: a smallest number below 1, or an unknown schedule.
    """

    def __init__(self, *, smallest: int = 16, schedule: Schedule = "cosine") -> None:
        super().__init__()
        if smallest < 1:
            raise ValueError(f"smallest is {smallest}; expected at least 1 position")
        positions_kept(0.0, smallest, smallest, schedule)
        self.smallest, self.schedule = smallest, schedule

    def forward(
        self,
        image: Tensor,
        taught: Tensor,
        dense: Tensor,
        progress: float = 0.0,
        *,
        compared: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """How far the student's features are from the teacher's, at the teacher's chosen positions.

        Args:
            image: (B, D) CLS embeddings of the frozen teacher, unit vectors.
            taught: (B, N, D) its dense features, unit vectors.
            dense: (B, N, D) of the student.
            progress: fraction of the training that is over.
            compared: (B, N, D) other dense features of the teacher, of which those most similar to CLS tell
                the positions [O]: one read-out may say best where, another what. None: `taught`.

        Returns:
            {"dense", "total"}, 1 - cosine twice, 0 .. 2.

        Raises:
            ValueError: teacher and student with other positions, or more positions to keep than there are.
        """
        alike = taught.shape == dense.shape and (compared is None or compared.shape == dense.shape)
        if not alike or image.shape != (len(dense), dense.shape[-1]):
            raise ValueError(
                f"got the teacher's features {tuple(taught.shape)} with CLS {tuple(image.shape)}, "
                f"the student's {tuple(dense.shape)}; expected the same grid: "
                "choose the student's pool so that a position is one of CLIP's patches"
            )
        taught = taught.detach()
        compared = taught if compared is None else compared
        count = positions_kept(progress, dense.shape[1], self.smallest, self.schedule)
        kept = select(image, compared, count)[..., None].expand(-1, -1, dense.shape[-1])  # (B, K, D)
        # One mean for both, the teacher's: with its own mean the student could keep what all positions
        # share wherever it likes [O].
        mean = taught.mean((0, 1))
        wanted = taught.gather(1, kept) - mean
        got = dense.gather(1, kept) - mean
        loss = 1 - F.cosine_similarity(got, wanted, dim=-1).mean()
        return {"dense": loss, "total": loss}


class ChimeraObjective(Objective):
    """Distillation and alignment beside the task loss: distillation global + dense local + alignment SAM.

    Args:
        dim: D, the width of the joint space.
        source: whose positions are selected. "student": the global term is made of the K student
            positions most similar to CLS, and there is no local term. "teacher": the global term is made
            of all positions, and `SelectiveDenseDistillation` of the teacher's K.
        distillation: weight of the global term; 0 leaves it out.
        dense: weight of the local term (source "teacher"); 0 leaves it out.
        alignment: weight of Semantic Alignment; 0 leaves it out.
        smallest, schedule: of K.
        queue, temperature, summary_temperature: of `SelectiveGlobalDistillation`.
        heads: of `SemanticAlignment`.
        lesson: the teacher's read-outs whose mean the student's features should be (source "teacher"); None:
            the teacher's own.
        chosen_by: the read-out of the teacher that is compared with CLS to choose positions (source
            "teacher"); None: the lesson itself.

    Raises:
        ValueError: negative weights, none at all, an unknown source, or what the modules refuse.
    """

    def __init__(
        self,
        dim: int,
        *,
        source: Literal["student", "teacher"] = "student",
        distillation: float = 1.0,
        dense: float = 3.0,
        alignment: float = 1.0,
        smallest: int = 16,
        schedule: Schedule = "cosine",
        queue: int = 256,
        temperature: float = 0.07,
        summary_temperature: float | None = None,
        heads: int = 4,
        lesson: Sequence[str] | None = None,
        chosen_by: str | None = None,
    ) -> None:
        super().__init__()
        if source not in ("student", "teacher"):
            raise ValueError(f"unknown source {source!r}; expected 'student' or 'teacher'")
        local = dense if source == "teacher" else 0.0
        if not local and (lesson is not None or chosen_by is not None):
            raise ValueError(
                f"got lesson={lesson} and chosen_by={chosen_by!r} with source={source!r} and dense={dense}; "
                "expected neither: without a dense lesson the teacher's patches are not looked at"
            )
        if lesson is not None:
            check_read_outs(lesson)  # a slip is said now
        if chosen_by is not None:
            check_read_outs([chosen_by])
        self.lesson = None if lesson is None else tuple(lesson)
        self.chosen_by = chosen_by
        negative = not all(weight >= 0 for weight in (distillation, dense, alignment))
        if negative or distillation + local + alignment == 0:
            raise ValueError(
                f"got distillation={distillation}, dense={dense}, alignment={alignment}; "
                "expected 0 or more, and one of them in use"
            )
        weights = {"global": distillation, "local": local, "alignment": alignment}
        self.weights = {name: weight for name, weight in weights.items() if weight}
        # What has no weight is not built: its parameters would stay without a gradient, and a state
        # would carry a queue that nobody fills.
        self.parts = nn.ModuleDict()
        if "global" in self.weights:
            # With the teacher's positions the selection is the local term's; the global one is then
            # CLIP-ZSS's, of all positions.
            self.parts["global"] = SelectiveGlobalDistillation(
                dim,
                smallest=smallest,
                schedule=schedule if source == "student" else "constant",
                queue=queue,
                temperature=temperature,
                summary_temperature=summary_temperature,
            )
        if "local" in self.weights:
            self.parts["local"] = SelectiveDenseDistillation(smallest=smallest, schedule=schedule)
        if "alignment" in self.weights:
            self.parts["alignment"] = SemanticAlignment(dim, heads=heads)
        self.wants_dense = bool(local)

    @classmethod
    def needed(cls, student: DenseCLIP, teacher: DenseCLIP) -> tuple[object, ...]:
        """As wide as the joint space."""
        return (student.embed_dim,)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The weighted sum of the modules' losses.

        Args:
            batch: its student, image, target, grid and progress are looked at; with source "teacher" the
                teacher's dense too.

        Returns:
            The modules' terms by name ("global", "dense", "bce", "dice"), unweighted, and "total".

        Raises:
            ValueError: what the modules refuse.
        """
        student = batch.student
        # Functions, so that of the teacher only what a module in use looks at is computed.
        maps = student.dense.mT.unflatten(2, batch.grid)
        calls: dict[str, Callable[[], tuple[object, ...]]] = {
            "global": lambda: (batch.image, student.dense, batch.progress),
            "local": lambda: (batch.image, batch.dense, student.dense, batch.progress),
            "alignment": lambda: (maps, student.text, batch.target),
        }
        # The targets of a training are places among its words by construction: no look at them,
        # for which each step would wait for the device.
        options: dict[str, dict[str, object]] = {"alignment": {"validate": False}}
        if self.chosen_by is not None:
            options["local"] = {"compared": batch.compared}
        terms: dict[str, Tensor] = {}
        total = student.dense.new_zeros(())
        for name, module in self.parts.items():
            got = module(*calls[name](), **options.get(name, {}))
            total = total + self.weights[name] * got.pop("total")
            terms |= got
        return {**terms, "total": total}
