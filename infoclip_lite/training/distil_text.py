"""More words than the captions name: a text tower learns from a sentence encoder where words lie.

The tower reads prompts and lists of words, as captions have them, and is to give the teacher's vectors. What
it says of a word that was neither captioned nor distilled comes from the word's pieces alone.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ..clip.model import Tokenizer
from ..clip.templates import COLLAGE_TEMPLATES
from ..datasets.collage import all_nouns
from ..datasets.wordlists import definitions, distilled_words, pack_stuff
from .class_teacher import class_names
from .sentence_encoder import Projection, embed_defined, embed_words

if TYPE_CHECKING:
    from open_clip.model import CLIP

_OPENINGS = ("a photo of ", "a picture of ", "a collage of ", "")
_JOINTS = (" on ", " in front of ", " with ", " and ", ", ")
_EVERY = 5  # one batch in so many is of sentences that name several words


@dataclass(frozen=True)
class Teacher:
    """Where words lie in the joint space.

    Attributes:
        words: n words.
        targets: (n, D) unit vectors, one for each.
        captioned: the words that captions name, of which most lists are made.
        classes: (1000, D) unit vectors of ImageNet's classes, for `class_teacher`; None where unknown.
    """

    words: tuple[str, ...]
    targets: Tensor
    captioned: tuple[str, ...]
    classes: Tensor | None = None

    @cached_property
    def row(self) -> dict[str, int]:
        """Of each word the number of its target."""
        return {word: number for number, word in enumerate(self.words)}

    def of(self, named: Sequence[Sequence[str]]) -> Tensor:
        """Targets of sentences: of each the direction of the sum of the words it names, (n, D) unit vectors.

        Raises:
            ValueError: a word that the teacher was not asked about.
        """
        strange = [word for words in named for word in words if word not in self.row]
        if strange:
            raise ValueError(f"got {strange[0]!r}; expected one of the teacher's {len(self.words)} words")
        sums = [self.targets[[self.row[word] for word in words]].sum(0) for words in named]
        return F.normalize(torch.stack(sums), dim=-1)

    @classmethod
    def from_encoder(cls, dim: int = 256) -> Teacher:
        """Ask the sentence encoder about every word of the lists; a minute of one core.

        Raises:
            FileNotFoundError: the package with the encoder is not installed.
        """
        embeddings = embed_defined(distilled_words(), definitions())
        project = Projection(embeddings, dim)
        captioned = (*all_nouns(), *pack_stuff())
        return cls(
            distilled_words(), project(embeddings), captioned, project(embed_words(class_names(), ("{}",)))
        )


def text_distillation_loss(
    text: Tensor, target: Tensor, *, relation: float = 1.0, temperature: float = 0.1
) -> dict[str, Tensor]:
    """How far a tower's sentences lie from the teacher's.

    Args:
        text: (B, D) unit vectors of the text tower.
        target: (B, D) unit vectors of the teacher.
        relation: weight of the second term. The first asks for the teacher's directions; the second for
            its neighbourhoods alone, whatever way the space is turned.
        temperature: of the softmax over a sentence's neighbours in the batch.

    Returns:
        Scalars {"total", "cosine", "relation"}: total = cosine + relation weight x relation. `cosine` is one
        minus the mean cosine; `relation` the Kullback-Leibler divergence of neighbours, in nats.

    Raises:
        ValueError: shapes that differ, or fewer than two sentences.
    """
    if text.shape != target.shape or len(text) < 2:
        raise ValueError(
            f"got texts {tuple(text.shape)} and targets {tuple(target.shape)}; expected two (B, D), B > 1"
        )
    cosine = 1 - (text * target).sum(1).mean()
    # Nobody is his own neighbour.
    itself = torch.eye(len(text), dtype=torch.bool, device=text.device)
    ours, theirs = ((x @ x.T / temperature).masked_fill(itself, -1e4).log_softmax(1) for x in (text, target))
    neighbours = F.kl_div(ours, theirs, reduction="batchmean", log_target=True)
    return {"total": cosine + relation * neighbours, "cosine": cosine, "relation": neighbours}


def random_sentences(
    teacher: Teacher, count: int, seed: int, *, lists: float = 0.0
) -> tuple[list[str], list[list[str]]]:
    """Random sentences as prompts and captions have them.

    Args:
        teacher: whose words are named.
        count: how many.
        seed: of what is drawn.
        lists: share of sentences that name two to four words; half of these words are captioned ones.

    Returns:
        The sentences, and of each the words that it names.
    """
    rng = random.Random(f"sentences/{seed}")
    named = []
    for _ in range(count):
        several = rng.random() < lists
        groups = (teacher.words, teacher.captioned) if several else (teacher.words,)
        named.append([rng.choice(rng.choice(groups)) for _ in range(rng.randint(2, 4) if several else 1)])
    return [_sentence(rng, words) for words in named], named


def _sentence(rng: random.Random, words: Sequence[str]) -> str:
    if len(words) == 1 and rng.random() < 0.5:
        return rng.choice(COLLAGE_TEMPLATES).format(words[0])
    articled = [rng.choice((f"{_article(word)} {word}", word)) for word in words]
    text = rng.choice(_OPENINGS) + articled[0]
    for part in articled[1:]:
        text += rng.choice(_JOINTS) + part
    return text


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def encode_briefly(model: CLIP, ids: Tensor, embedding: Tensor | None = None, parts: int = 1) -> Tensor:
    """What open_clip's `encode_text` gives, without computing what is filled up behind the longest sentence.

    Nothing before the end of a sentence looks at what is behind it, so a third of the time does.

    Args:
        model: an open_clip CLIP with the text tower of the paper.
        ids: (n, context) token ids, filled up with zeros.
        embedding: (n, context, W) of the tokens, where the model's own are not wanted.
        parts: groups of sentences of like length, each computed by itself.

    Returns:
        (n, D) unit vectors.
    """
    ends = ids.argmax(1)  # the end of a sentence has the largest id
    order = ends.argsort()
    found = []
    for rows in order.chunk(parts):
        length = int(ends[rows[-1]]) + 1
        tokens = model.token_embedding(ids[rows, :length]) if embedding is None else embedding[rows, :length]
        tokens = tokens.to(model.positional_embedding.dtype) + model.positional_embedding[:length]
        mask = model.attn_mask[:length, :length].to(tokens.dtype)
        tokens = model.ln_final(model.transformer(tokens, attn_mask=mask))
        found.append((tokens[torch.arange(len(rows)), ends[rows]] @ model.text_projection).float())
    return F.normalize(torch.cat(found)[order.argsort()], dim=-1)


def distil_text(
    clip_model: CLIP,
    tokenizer: Tokenizer,
    teacher: Teacher,
    steps: int,
    seed: int = 0,
    *,
    batch: int = 256,
    lr: float = 3e-3,
) -> None:
    """Train the text tower, and nothing else, to give the teacher's vectors; in place.

    Args:
        clip_model: an open_clip CLIP; its image tower and its temperature stay as they are.
        tokenizer: of the text tower.
        teacher: of as many dimensions as the joint space.
        steps: of the optimizer.
        seed: of the sentences.
        batch: sentences a step.
        lr: highest learning rate, reached after a twentieth of the steps; a cosine takes it to zero.

    Raises:
        ValueError: a teacher of other dimensions, or no steps.
    """
    dim = clip_model.text_projection.shape[1]
    if teacher.targets.shape[1] != dim or steps < 1:
        raise ValueError(
            f"got a teacher of {teacher.targets.shape[1]} dimensions and {steps} steps; "
            f"expected {dim}, those of the joint space, and at least one step"
        )
    used = distilled_tokens(tokenizer, teacher)
    table = clip_model.token_embedding.weight
    # Only rows that some sentence reads: of the 49,408 an optimizer would step through all, for nothing.
    rows = table.detach()[used].clone().requires_grad_()
    place = torch.full((len(table),), -1).index_copy(0, used, torch.arange(len(used)))
    tower = {n: p for n, p in text_parameters(clip_model).items() if p is not table}
    wanted = {name: parameter.requires_grad for name, parameter in tower.items()}
    for parameter in tower.values():
        parameter.requires_grad_(True)
    weights = [rows, *tower.values()]
    optimizer = torch.optim.AdamW(weights, lr=lr, betas=(0.95, 0.98), weight_decay=0.0)
    # The rate goes up and down, the first beta down to 0.85 and up again.
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps + 1, pct_start=0.05)
    for step in range(steps):
        # Long sentences by themselves: what is filled up is computed for nothing.
        lists = float(step % _EVERY == _EVERY - 1)
        texts, named = random_sentences(teacher, batch, seed * 1_000_003 + step, lists=lists)
        ids = tokenizer(texts)
        with torch.autocast("cpu", torch.bfloat16):
            text = encode_briefly(clip_model, ids, F.embedding(place[ids], rows))
        loss = text_distillation_loss(text, teacher.of(named))
        optimizer.zero_grad(set_to_none=True)
        loss["total"].backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        table[used] = rows.detach()
    for name, parameter in tower.items():
        parameter.requires_grad_(wanted[name])
        parameter.grad = None


def distilled_tokens(tokenizer: Tokenizer, teacher: Teacher) -> Tensor:
    """Ids of every token that a sentence about the teacher's words can hold, sorted (n,)."""
    glue = ["", *_OPENINGS, *_JOINTS, "a an", *(template.format("") for template in COLLAGE_TEMPLATES)]
    return torch.unique(tokenizer([*glue, *teacher.words]))


def text_parameters(clip_model: CLIP) -> Mapping[str, torch.nn.Parameter]:
    """The weights of the text tower, by open_clip's names."""
    ours = ("token_embedding.", "positional_embedding", "transformer.", "ln_final.", "text_projection")
    return {name: value for name, value in clip_model.named_parameters() if name.startswith(ours)}
