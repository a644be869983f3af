"""infoclip-lite segment: a photo, and the words to label it with."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from ..core.words import split_list, synonyms_of

if TYPE_CHECKING:
    from ..evaluation.segment import Segmentation

_HINT = (
    "For others, and for photographs, name an open_clip model: --model ViT-B-16-quickgelu "
    "--pretrained openai (weights are fetched once)."
)


def segment_command(
    photo: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="PHOTO")],
    names: str | None = None,
    words: Path | None = None,
    background_first: bool = False,
    out: Path | None = None,
    model: str = "collage-mini",
    pretrained: str | None = None,
    background: str = "",
    threshold: float = 0.0,
    read_outs: str = "",
    refine: str | None = None,
) -> None:
    """Label a photo with your own words and save the picture; or label a folder of them.

    Args:
        photo: any picture file; or a folder, of which every picture gets a mask (a PNG whose pixels are
            places in the list of words, 255 where none fits), and all together a segments.json.
        names: words separated by commas, synonyms by "|": "ox|cow, grass, sky".
        words: in place of names, a file: a class a line with synonyms separated by commas (as SCLIP writes
            it), or a JSON list (as CAT-Seg writes it).
        background_first: the first class of that file competes but is not drawn, as in SCLIP's lists for VOC.
        out: where the overlay is written, overlay.png by default; of a folder, the folder of the masks,
            ./segmented by default.
        model: collage-mini, or an open_clip model.
        pretrained: the open_clip tag or checkpoint of that model.
        background: words that compete but are not drawn, separated by commas.
        threshold: pixels whose best score is below it get no label, 0 to 1.
        read_outs: dense read-outs to average, separated by commas; the model's own by default.
        refine: pamr or propagation makes labels follow the photo's edges; none by default.
    """
    from ..clip import load_clip
    from ..evaluation.segment import segment

    drawn, behind = _words(names, words, background_first)
    behind += split_list(background)
    clip = load_clip(model, pretrained)
    label = partial(
        segment,
        names=drawn,
        model=clip,
        background=behind or None,
        read_outs=split_list(read_outs) or None,
        threshold=threshold,
        refine=refine,
    )
    # Warnings (a word that the model does not know) are for the user: one line each, without a place in code.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        written = _folder(photo, out, label) if photo.is_dir() else _photo(photo, out, label)
    for message in sorted({str(w.message) for w in caught if issubclass(w.category, UserWarning)}):
        print(f"note: {message}", file=sys.stderr)
    print(written)
    if model == "collage-mini":
        print(notice([*drawn, *behind]))


def _photo(photo: Path, out: Path | None, label: Callable[[Path], Segmentation]) -> str:
    """Label a photo; what is said of it."""
    result = label(photo)
    lines = [f"{name:<24}{fraction:>7.1%}" for name, fraction in result.fractions().items()]
    return "\n".join([*lines, f"picture: {result.save(out or Path('overlay.png')).resolve()}"])


def _folder(folder: Path, out: Path | None, label: Callable[[Path], Segmentation]) -> str:
    """Label every photo of a folder; what is said of them."""
    from ..evaluation.segment_folder import segment_folder

    done = segment_folder(folder, out or Path("segmented"), label, progress=True)
    lines = [f"not read: {said}" for said in done.unreadable.values()]
    return "\n".join([*lines, f"masks of {len(done.fractions)} pictures: {done.summary.resolve()}"])


def _words(names: str | None, file: Path | None, background_first: bool) -> tuple[list[str], list[str]]:
    """The words that are drawn, and those that compete without."""
    if file is None and names is not None:
        if background_first:
            raise ValueError("got --background-first with --names; expected it with --words FILE alone")
        return split_list(names), []
    if file is None or names is not None:
        got = "names and words" if file else "neither names nor words"
        raise ValueError(f'got {got}; expected one of them: --names "cow, grass" or --words FILE')
    from ..datasets.wording import read_words

    said = read_words(file)
    # One by one, as in SCLIP: the best of them speaks for background, where a mean of all would be nothing.
    return (said[1:], synonyms_of(said[0])) if background_first else (said, [])


# Said after every picture that collage-mini labels: it would be blamed for what it was never shown.
def notice(names: Sequence[str]) -> str:
    """What collage-mini was trained on, and which of the words it never met.

    Args:
        names: the words that competed, synonyms separated by "|" or commas.

    >>> notice(["cow|ox", "zyzzyva"]).split(". ")[1]
    'Not among them: ox, zyzzyva'
    """
    from ..datasets.collage import all_nouns, stuff

    known = {*all_nouns(), *stuff()}
    foreign = [word for name in names for word in synonyms_of(name) if word.lower() not in known]
    met = f"note: collage-mini was trained on collages, and knows the {len(known)} words of their captions. "
    return met + (f"Not among them: {', '.join(foreign)}. " if foreign else "") + _HINT
