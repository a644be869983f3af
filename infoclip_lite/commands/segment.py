"""infoclip-lite segment: a photo, and the words to label it with."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from ..core.words import split_list

_HINT = (
    "For others, and for photographs, name an open_clip model: --model ViT-B-16-quickgelu "
    "--pretrained openai (weights are fetched once)."
)


def segment_command(
    photo: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="PHOTO")],
    names: str,
    out: Path = Path("overlay.png"),
    model: str = "collage-mini",
    pretrained: str | None = None,
    background: str = "",
    threshold: float = 0.0,
    read_outs: str = "",
    refine: str | None = None,
) -> None:
    """Label a photo with your own words and save the picture.

    Args:
        photo: any picture file.
        names: words separated by commas, synonyms by "|": "ox|cow, grass, sky".
        out: where the overlay is written.
        model: collage-mini, or an open_clip model.
        pretrained: the open_clip tag or checkpoint of that model.
        background: words that compete but are not drawn, separated by commas.
        threshold: pixels whose best score is below it get no label, 0 to 1.
        read_outs: dense read-outs to average, separated by commas; the model's own by default.
        refine: pamr or propagation makes labels follow the photo's edges; none by default.
    """
    from ..clip import load_clip
    from ..evaluation.segment import segment

    clip = load_clip(model, pretrained)
    # Warnings (a word that the model does not know) are for the user: one line each, without a place in code.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        result = segment(
            photo,
            split_list(names),
            clip,
            split_list(background) or None,
            read_outs=split_list(read_outs) or None,
            threshold=threshold,
            refine=refine,
        )
    for message in sorted({str(w.message) for w in caught if issubclass(w.category, UserWarning)}):
        print(f"note: {message}", file=sys.stderr)
    for name, fraction in result.fractions().items():
        print(f"{name:<24}{fraction:>7.1%}")
    print(f"picture: {result.save(out).resolve()}")
    if model == "collage-mini":
        print(notice([*split_list(names), *split_list(background)]))


# Said after every picture that collage-mini labels: it would be blamed for what it was never shown.
def notice(names: Sequence[str]) -> str:
    """What collage-mini was trained on, and which of the words it never met.

    Args:
        names: the words that competed, synonyms separated by "|".

    >>> notice(["cow|ox", "zyzzyva"]).split(". ")[1]
    'Not among them: ox, zyzzyva'
    """
    from ..datasets.collage import all_nouns, stuff

    known = {*all_nouns(), *stuff()}
    foreign = [
        word for name in names for word in map(str.strip, name.split("|")) if word.lower() not in known
    ]
    met = f"note: collage-mini was trained on collages, and knows the {len(known)} words of their captions. "
    return met + (f"Not among them: {', '.join(foreign)}. " if foreign else "") + _HINT
