"""What the page shows beside the model: pictures with their credits, words, stored trainings, a still."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from credits import records
from open_clip.tokenizer import SimpleTokenizer
from PIL import Image
from towers import EXPORTED, ImageTower

from infoclip_lite import DenseCLIP, segment
from infoclip_lite.core.colours import shades, word_colours
from infoclip_lite.core.files import data_dir
from infoclip_lite.core.overlay import overlay, picture_row
from infoclip_lite.core.reports import JsonObject, read_report
from infoclip_lite.datasets import Collage
from infoclip_lite.datasets.image import read_image
from infoclip_lite.studies.degradation_frames import unpack
from infoclip_lite.training.build import held_out
from infoclip_lite.training.recipe import load_finetuning

# Test scenes in which a reader can tell things apart at a glance, some labelled well and some badly [O]; the
# first has colours that are far apart.
SCENES = (40, 11, 20, 19, 45, 56)
# Photographs that may be cropped, with words that compete beside their noun [O].
PHOTOGRAPHS = {
    "photographs/explore_farm_animals-dog.webp": ("grass", "wood", "cat", "sky"),
    "photographs/categorization-windmill2.webp": ("grass", "sky", "tree", "door"),
}
COLOURS = 64

# What the page says of a read-out when it shows where a patch looks.
LOOKS = {
    "vanilla": "As trained: queries meet keys, for the sake of the token that speaks for the whole picture.",
    "value": "Every patch looks at itself alone, and keeps nothing of what it was before.",
    "cls_value": "Every patch looks at itself alone, and is read as if it were the whole picture's token.",
    "sclip": "Patches look at those whose queries, or whose keys, are like their own.",
    "clearclip": "Patches look at those whose queries are like their own.",
    "naclip": "Patches look at those whose keys are like their own, and rather at near ones.",
    "maskclip": "Every patch looks at itself alone, and keeps what it was before.",
    "gem": "Patches look at those that are like them in values, keys and queries, in every block.",
    "cliper": "Where to look is asked of the earlier blocks, without what every patch looks at.",
}


@dataclass(frozen=True)
class Shown:
    """A picture that a reader can choose.

    Attributes:
        key: its name on the page.
        file: relative to the page.
        title: what to call it.
        words: that are typed in for it.
        sources: files of the pack that it is made of.
    """

    key: str
    file: str
    title: str
    words: tuple[str, ...]
    sources: tuple[str, ...]


def write_pictures(folder: Path) -> list[Shown]:
    """Scenes and photographs as files of the page.

    Args:
        folder: of the page.
    """
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    shown = [_scene(folder, index) for index in SCENES]
    for file, others in PHOTOGRAPHS.items():
        noun = {record["file"]: record["noun"] for record in records("photographs.json")}[file]
        target = f"pictures/{Path(file).name}"
        shutil.copyfile(data_dir() / "collage" / file, folder / target)
        shown.append(Shown(Path(file).stem, target, f"photograph: {noun}", (noun, *others), (file,)))
    return shown


def _scene(folder: Path, index: int) -> Shown:
    data = Collage("test", length=max(SCENES) + 1)
    canvas, _, _, present = data.render(index)
    target = f"pictures/scene-{index}.png"
    Image.fromarray(canvas).save(folder / target)
    return Shown(f"scene-{index}", target, ", ".join(present), tuple(present), tuple(data.sources(index)))


def write_first(clip: DenseCLIP, folder: Path, first: Shown) -> None:
    """What the image tower says of the first picture, float32: of all read-outs the patches, then attention.

    Args:
        clip: the model.
        folder: of the page.
        first: a scene, of the size that the model takes.
    """
    with torch.no_grad():
        _, *parts = ImageTower(clip)(read_image(folder / first.file)[None])
    (folder / "first.bin").write_bytes(b"".join(part.numpy().astype("<f4").tobytes() for part in parts))


def write_trainings(folder: Path) -> tuple[dict[str, Any], list[Shown]]:
    """The stored trainings: bytes of all maps in one file, their scenes as pictures.

    Args:
        folder: of the page.

    Returns:
        What the page has to know of them, and the scenes.
    """
    report = read_report("training_maps")
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    trainings = report["trainings"]
    maps = np.stack([np.stack([unpack(f["maps"]) for f in each["frames"]]) for each in trainings.values()])
    count, words = len(report["scenes"]), len(report["names"])
    # (trainings, frames, scenes, words, h, w)
    maps = maps.reshape(*maps.shape[:2], count, words, *maps.shape[-2:])
    (folder / "trainings.bin").write_bytes(maps.tobytes())
    data = held_out(load_finetuning(report["recipe"], **report["changes"]))
    scenes = []
    for place, index in enumerate(report["scenes"]):
        file = f"pictures/training-{index}.png"
        Image.fromarray(unpack(report["images"])[place]).save(folder / file)
        present = tuple(report["names"][i] for i in report["words"][place])
        scenes.append(
            Shown(f"training-{index}", file, ", ".join(present), present, tuple(data.sources(index)))
        )
    kept = ("names", "seen", "unseen", "measured", "low", "high", "words")
    frames = {
        name: [{key: value for key, value in frame.items() if key != "maps"} for frame in each["frames"]]
        for name, each in trainings.items()
    }
    about = {key: report[key] for key in kept} | {"frames": frames, "shape": maps.shape}
    return about | {"pictures": [scene.file for scene in scenes]}, scenes


def write_words(clip: DenseCLIP, folder: Path) -> list[str]:
    """The embeddings of the words that need no text tower, float32 one after the other, and their names."""
    names = list(Collage("test").names)
    (folder / "words.bin").write_bytes(clip.encode_text(names).numpy().astype("<f4").tobytes())
    return names


def tokenizer_json(clip: DenseCLIP, known: Sequence[int]) -> str:
    """Merges, the ids that the text tower knows, and its context."""
    tokenizer = SimpleTokenizer()
    merges = sorted(tokenizer.bpe_ranks, key=tokenizer.bpe_ranks.__getitem__)
    text = "\n".join(" ".join(pair) for pair in merges)
    return json.dumps(
        {"merges": text, "known": list(known), "context": clip.model.context_length}, ensure_ascii=False
    )


def content_json(
    clip: DenseCLIP, pictures: Iterable[Shown], words: Sequence[str], trainings: JsonObject
) -> str:
    """What the page needs before its first result."""
    side = clip.visual.image_size[0]
    return json.dumps(
        {
            "side": side,
            "grid": side // clip.patch_size,
            "width": clip.embed_dim,
            "scale": float(clip.logit_scale),
            "read_outs": list(EXPORTED),
            "own": list(clip.read_outs),
            "looks": LOOKS,
            "templates": list(clip.templates),
            "words": list(words),
            # Each word's own colour, and others for words that nobody foresaw.
            "colours": {word: _hex(word_colours([word])[0] / 255) for word in words},
            "palette": [_hex(shade) for shade in shades(COLOURS)],
            "pictures": [
                {"key": each.key, "file": each.file, "title": each.title, "words": each.words}
                for each in pictures
            ],
            "trainings": trainings,
        }
    )


def _hex(shade: Iterable[float]) -> str:
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in shade)


def write_still(clip: DenseCLIP, folder: Path) -> dict[str, str]:
    """Two pictures that teach where nothing can be computed.

    Args:
        clip: the model.
        folder: of the page.

    Returns:
        What each shows, in words, by the name that the page's source has for it.
    """
    index = SCENES[0]
    scene = Collage("test", length=index + 1)[index]
    found = segment(scene.image, scene.nouns, clip)
    word = scene.nouns[1]
    with torch.no_grad():
        dense = clip.encode_dense(scene.image[None], clip.read_outs[0])[0]
    heat = torch.einsum("dhw,d->hw", dense, clip.encode_text([word])[0]).numpy()
    panels = {"the picture": found.image, "its words": found.overlay(), f"where is “{word}”?": _heat(heat)}
    picture_row(panels, height=3.2).savefig(folder / "still-words.png", dpi=110)
    report = read_report("training_maps")
    plain = report["trainings"]["plain"]["frames"]
    image, present = unpack(report["images"])[0], report["words"][0]
    before, after = (_labels(report, frame) for frame in (plain[0], plain[-1]))
    names = report["names"]
    panels = {
        "the picture": image,
        "before": overlay(image, before, names),
        f"after {plain[-1]['step']} steps on {len(report['seen'])} nouns": overlay(image, after, names),
    }
    picture_row(panels, height=3.2).savefig(folder / "still-training.png", dpi=110)
    shares = ", ".join(f"{name} {share:.0%}" for name, share in found.fractions().items())
    shown = ", ".join(names[i] for i in present)
    return {
        "words": f"A scene; the same with a colour for each word ({shares}); and a map of where “{word}” is.",
        "training": f"A scene with {shown}; its labels before a fine-tuning; and its labels after.",
    }


def _heat(values: np.ndarray) -> np.ndarray:
    import matplotlib

    scaled = (values - values.min()) / max(float(values.max() - values.min()), 1e-9)
    return matplotlib.colormaps["inferno"](scaled)[..., :3]


def _labels(report: JsonObject, frame: JsonObject) -> np.ndarray:
    """Labels of the first stored scene, at its own size."""
    maps = torch.from_numpy(unpack(frame["maps"])[: len(report["names"])].copy()).float()
    side = unpack(report["images"]).shape[1]
    return torch.nn.functional.interpolate(maps[None], (side, side), mode="bilinear")[0].argmax(0).numpy()
