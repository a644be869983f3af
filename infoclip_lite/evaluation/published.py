"""The protocols of the field, each with its own numbers, and where every number is from.

How sure: [C] read in the authors' code, [P] their paper, [N] a third party's note, [I] our reading, [O] ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import NamedTuple

from ..clip.refinements import Pamr, Propagation
from ..core.lookup import find
from ..datasets.official.classes import class_table
from .protocol import WHOLE, EvaluationProtocol

Words = tuple[tuple[str, str], ...]


class Row(NamedTuple):
    """A value of a protocol.

    Attributes:
        name: of the value.
        value: as in `EvaluationProtocol`.
        source: how sure, and where it stands.
    """

    name: str
    value: object
    source: str


@dataclass(frozen=True)
class Published:
    """A protocol and its sources.

    Attributes:
        protocol: what holds where a data set has no numbers of its own.
        about: whose it is, in a line.
        sources: value -> how sure, and where it stands; "" is the source of all values that are not named.
        on: data set -> the protocol there, and its source.
        lacking: what its authors do beside, and this package does not.
    """

    protocol: EvaluationProtocol
    about: str
    sources: Mapping[str, str]
    on: Mapping[str, tuple[EvaluationProtocol, str]] = field(default_factory=dict)
    lacking: str = ""

    def rows(self, dataset: str = "") -> Iterator[Row]:
        """Every value that holds on a data set, with its source."""
        here, source = self.on.get(dataset, (self.protocol, ""))
        for name in value_names():
            value, usual = getattr(here, name), getattr(self.protocol, name)
            yield Row(name, value, source if value != usual else self.sources.get(name, self.sources[""]))

    def changes(self, dataset: str) -> Iterator[Row]:
        """The values that are the data set's own."""
        here, source = self.on[dataset]
        for name in value_names():
            if getattr(here, name) != getattr(self.protocol, name):
                yield Row(name, getattr(here, name), source)


def value_names() -> list[str]:
    """What a protocol says, in the order of its steps."""
    return [each.name for each in fields(EvaluationProtocol) if each.name != "name"]


def get_protocol(protocol: EvaluationProtocol | str, dataset: str = "") -> EvaluationProtocol:
    """The protocol itself, or the one of that name.

    Args:
        protocol: one of one's own, or a name of `PROTOCOLS`.
        dataset: a name of `datasets.DATASETS`, for which a published protocol may have numbers of its own.

    Raises:
        ValueError: no such protocol; the nearest is named.

    >>> get_protocol("sclip").shorter, get_protocol("sclip", "coco_stuff").shorter
    (336, 448)
    """
    if isinstance(protocol, EvaluationProtocol):
        return protocol
    found = find(PUBLISHED, protocol, "protocol")
    return found.on[dataset][0] if dataset in found.on else found.protocol


CATSEG = EvaluationProtocol(
    "catseg",
    synonyms="first",
    repeats=True,
    shorter=640,
    longest=2560,
    antialias=True,
    square=640,
    window=384,
    stride=256,
    patches=24,
    pooling=1,
    activation="sigmoid",
    whole=True,
    false_alarms=False,
)
TRAINING_FREE = EvaluationProtocol(
    "training-free",
    templates="imagenet",
    synonyms="max",
    shorter=336,
    longest=2048,
    window=224,
    stride=112,
    logit_scale=40.0,
)
ZERO_SHOT = EvaluationProtocol("zero-shot", shorter=512, longest=2048, window=512, stride=426)
MASKCLIP = EvaluationProtocol("maskclip", templates="maskclip", shorter=512, longest=2048, partial="pad")
SCLIP = replace(TRAINING_FREE, name="sclip", partial="cut", positions="factor")
CLEARCLIP = replace(SCLIP, name="clearclip", shorter=448, window=448, stride=224, logit_scale=50.0)
NACLIP = replace(SCLIP, name="naclip", refine=Pamr(iterations=10, dilations=(8, 16)))
RESCLIP = replace(SCLIP, name="resclip")
PEARL = replace(NACLIP, name="pearl", refine=Propagation(grid=80))

# SCLIP's words for what is none of PASCAL VOC's classes; the best of the 26 speaks for background.
_BEHIND = (
    "sky, wall, tree, wood, grass, road, sea, river, mountain, sands, desk, bed, building, cloud, lamp, "
    "door, window, wardrobe, ceiling, shelf, curtain, stair, floor, hill, rail, fence"
)
_CLOTHES = ("shirt", "jeans", "dress", "sweater", "skirt", "jacket")
_TABLE: Words = (("diningtable", "table"),)
_VOC: Words = (("boat", "ship"), *_TABLE)
_VOC_WITH_SYNONYMS: Words = (
    *_VOC,
    ("person", ", ".join(["person", *(f"person in {each}" for each in _CLOTHES)])),
    ("tvmonitor", "television monitor, tv monitor, monitor, television, screen"),
)
_APART: Words = (("aeroplane", "airplane"), ("pottedplant", "potted plant"), ("tvmonitor", "tv monitor"))


def _together(table: str) -> Words:
    """Names of several words, written as one: ("traffic light", "trafficlight")."""
    return tuple((name, name.replace(" ", "")) for name in class_table(table).names if " " in name)


def _turned() -> Words:
    """COCO-Stuff's names with a hyphen, turned round: ("wall-brick", "brick wall"), ("sky-other", "sky")."""
    parts = ((name, name.split("-")) for name in class_table("coco_stuff").names if "-" in name)
    return tuple(
        (name, thing if kind in ("other", "stuff") else f"{kind} {thing}") for name, (thing, kind) in parts
    )


_LISTS = "[C] configs/cls_*.txt"
_CONFIGS = "[C] configs/cfg_*.py"
_VOC21 = "[C] configs/cfg_voc21.py, cls_voc21.txt"
_NO_STEP = "[C] no such step"
_OFF = "[C] pamr_steps 0: there is PAMR, and it is off"
_BY_OPENCV = "[C] mmcv's Resize: bytes, by OpenCV, bilinear"
_OF_KIN = {
    "": _NO_STEP,
    "templates": "[C] prompts/imagenet_template.py: CLIP's 80; the mean of unit vectors",
    "words": f"{_LISTS}; see the data sets",
    "synonyms": "[C] postprocess_result: the largest of a class's fractions of the softmax",
    "shorter": f"{_CONFIGS}: Resize",
    "longest": f"{_CONFIGS}: Resize",
    "antialias": _BY_OPENCV,
    "eight_bit": _BY_OPENCV,
    "window": "[C] slide_crop",
    "stride": "[C] slide_stride",
    "partial": "[C] the patch embedding drops what is no whole patch; only without windows is there any",
    "positions": "[C] interpolate_pos_encoding: (n + 0.1) / 14",
    "threshold": "[C] prob_thd",
    "logit_scale": "[C] logit_scale",
    "area": "[C] area_thd",
    "activation": "[C] forward_slide: cosines are averaged",
    "false_alarms": "[C] mmsegmentation's IoUMetric",
}


def _with_lists(base: EvaluationProtocol) -> dict[str, tuple[EvaluationProtocol, str]]:
    """A protocol with the lists that SCLIP and its kin share."""
    return {
        "pc59": (replace(base, words=_TABLE), _LISTS),
        "a150": (replace(base, words=_together("ade150")), _LISTS),
        "coco_stuff": (replace(base, words=_together("coco_stuff")), _LISTS),
    }


def _one_picture(base: EvaluationProtocol) -> dict[str, tuple[EvaluationProtocol, str]]:
    """NACLIP's numbers, which ResCLIP's and PEARL's are: PASCAL VOC without windows."""
    voc = replace(base, words=_VOC_WITH_SYNONYMS, window=None, stride=None)
    behind = replace(voc, words=(("background", _BEHIND), *voc.words), threshold=0.1)
    return {
        "pas20": (voc, "[C] configs/cfg_voc20.py: slide_crop 0; cls_voc20.txt"),
        "pas20b": (behind, f"{_VOC21}: slide_crop 0, prob_thd"),
        "pc60": (replace(base, words=_TABLE, threshold=0.1), f"{_CONFIGS}: prob_thd; cls_context60.txt"),
        **_with_lists(base),
    }


PUBLISHED: dict[str, Published] = {
    "whole": Published(WHOLE, "pictures as they are: Collage", {"": "[O]"}),
    "catseg": Published(
        CATSEG,
        "CAT-Seg (2303.11797), and InfoCLIP: cvlab-kaist/CAT-Seg, eval.sh",
        {
            "": _NO_STEP,
            "templates": "[C] 'A photo of a {} in the scene', as in training",
            "words": "[C] datasets/*.json: the data sets' own (847 of A-847, 20 + 39 of PAS-20b)",
            "synonyms": "[C] cat_seg_predictor.py, get_text_embeds: what stands before the first comma",
            "repeats": "[C] all 847 of A-847 are encoded; ten of the first words stand there twice or more",
            "shorter": "[C] configs/config.yaml: MIN_SIZE_TEST",
            "longest": "[C] configs/config.yaml: MAX_SIZE_TEST",
            "antialias": "[C] detectron2's ResizeShortestEdge: bytes, by Pillow",
            "eight_bit": "[C] detectron2's ResizeShortestEdge: bytes, by Pillow",
            "square": "[P]; [C] inference_sliding_window: out_res",
            "window": "[P]; [C] inference_sliding_window: kernel",
            "stride": "[P] overlap of one third; [C] int(384 * (1 - 0.333)) = 256",
            "patches": "[C] clip_resolution: 384 for ViT-B/16, 336 for ViT-L/14",
            "positions": "[C] third_party/model.py: to the size",
            "pooling": "[C] eval.sh: POOLING_SIZES [1,1]; 2 in training",
            "activation": "[C] of each window, before the average",
            "whole": "[P]; [C] the mean of it and of the windows' mean",
            "false_alarms": "[C] detectron2's evaluator since 2022; earlier ones counted them",
        },
        lacking="PC-459 has 5,104 of val's 5,105 pictures (option `listed` of the data set); VOC's labels "
        "are SegmentationClassAug's; A-847's pictures went through JPEG twice",
    ),
    "training-free": Published(
        TRAINING_FREE,
        "what SCLIP and NACLIP share, with a data set's own words: for any read-out",
        {
            **_OF_KIN,
            "words": "[O] a data set's own",
            "partial": "[O]",
            "positions": "[O]",
            "refine": "[O] NACLIP has PAMR on, SCLIP off",
        },
    ),
    "zero-shot": Published(
        ZERO_SHOT,
        "ZegCLIP (2212.03588): ZiqinZhou66/ZegCLIP; for Chimera-Seg our reading",
        {
            "": _NO_STEP,
            "words": "[O] a data set's own",
            "templates": "[I] as in training; ZegCLIP has one prompt on VOC and several on COCO-Stuff [C]",
            "synonyms": "[C] one word a class",
            "shorter": "[C] configs/_base_/datasets: img_scale, min_size",
            "longest": "[C] configs/_base_/datasets: img_scale; min_size would win over it",
            "antialias": _BY_OPENCV,
            "eight_bit": _BY_OPENCV,
            "window": "[C] test_cfg: crop_size",
            "stride": "[C] test_cfg: stride",
            "partial": "[I]",
            "positions": "[I]",
            "false_alarms": "[C] mmsegmentation's mean_iou",
        },
    ),
    "maskclip": Published(
        MASKCLIP,
        "MaskCLIP (2112.01071): chongzhou96/MaskCLIP, configs/maskclip/maskclip_vit16_*.py",
        {
            "": _NO_STEP,
            "templates": "[C] prompt_engineering.py: CLIP's 80 and five more; the mean of unit vectors",
            "words": "[C] prompt_engineering.py; see the data sets",
            "synonyms": "[C] one word a class",
            "shorter": "[C] configs/_base_/datasets: img_scale",
            "longest": "[C] configs/_base_/datasets: img_scale",
            "antialias": _BY_OPENCV,
            "eight_bit": _BY_OPENCV,
            "window": "[C] test_cfg: mode whole",
            "partial": "[C] mmseg/models/utils/embed.py: corner padding of what is normalised already",
            "positions": "[C] backbones/vit.py: to the size",
            "false_alarms": "[C] mmsegmentation's mean_iou",
        },
        {
            "pas20": (
                replace(MASKCLIP, words=(*_APART, ("diningtable", "dining table"))),
                "[C] prompt_engineering.py: voc_classes",
            ),
            "pc59": (
                replace(MASKCLIP, shorter=520, longest=520, words=(*_APART, *_TABLE)),
                "[C] img_scale (520, 520): the longer side is 520; pascal_context_classes",
            ),
            "coco_stuff": (
                replace(MASKCLIP, words=_turned()),
                "[C] prompt_engineering.py: coco_stuff_classes",
            ),
        },
        lacking="prompt denoising and key smoothing, which its configs have in comments",
    ),
    "sclip": Published(
        SCLIP,
        "SCLIP (2312.01597): wangf3014/SCLIP; its VOC21 is pas20b, its Context60 pc60",
        {**_OF_KIN, "refine": _OFF},
        {
            "pas20": (replace(SCLIP, words=_VOC_WITH_SYNONYMS), _LISTS),
            "pas20b": (
                replace(
                    SCLIP,
                    words=(("background", _BEHIND), *_VOC_WITH_SYNONYMS),
                    threshold=0.1,
                    logit_scale=65.0,
                    area=0.1,
                ),
                f"{_VOC21}: prob_thd, logit_scale, area_thd",
            ),
            "pc60": (
                replace(SCLIP, words=_TABLE, threshold=0.1, logit_scale=50.0),
                f"{_CONFIGS}: prob_thd, logit_scale; cls_context60.txt",
            ),
            **_with_lists(SCLIP),
            "coco_stuff": (
                replace(SCLIP, shorter=448, words=_together("coco_stuff")),
                "[C] configs/cfg_coco_stuff164k.py, cls_coco_stuff.txt",
            ),
        },
        lacking="COCO-Object (scale 50, threshold 0.1; its `bed` never wins, for background has it too) and "
        "Cityscapes (shorter side 560) are no data sets here",
    ),
    "clearclip": Published(
        CLEARCLIP,
        "ClearCLIP (2407.12442): mc-lan/ClearCLIP, where GEM is measured with it too",
        {**_OF_KIN, "partial": "[C] windows would be padded; at a shorter side of 448 none has to be"},
        {
            "pas20": (replace(CLEARCLIP, words=_VOC), _LISTS),
            "pas20b": (
                replace(CLEARCLIP, words=(("background", "background"), *_VOC), threshold=0.5),
                f"{_VOC21}: prob_thd",
            ),
            "pc60": (
                replace(CLEARCLIP, words=_TABLE, threshold=0.15),
                f"{_CONFIGS}: prob_thd; cls_context60.txt",
            ),
            **_with_lists(CLEARCLIP),
        },
        lacking="COCO-Object (threshold 0.4) and Cityscapes (windows of 224) are no data sets here; CLIP "
        "computes in half precision",
    ),
    "naclip": Published(
        NACLIP,
        "NACLIP (2404.08181): sinahmr/NACLIP; its VOC21 is pas20b, its Context60 pc60",
        {
            **_OF_KIN,
            "refine": "[C] naclip.py: pamr_steps 10, pamr_stride (8, 16), on all data sets; README has it on "
            "for the main results, eval.py takes --pamr off",
        },
        _one_picture(NACLIP),
        lacking="its code leaves PAMR out of a picture for which memory does not suffice; COCO-Object "
        "(threshold 0.1) and Cityscapes (shorter side 560) are no data sets here",
    ),
    "resclip": Published(
        RESCLIP,
        "ResCLIP (2411.15851): yvhangyang/ResCLIP; NACLIP's numbers, its PAMR inside the read-out alone",
        {**_OF_KIN, "refine": _OFF},
        _one_picture(RESCLIP),
        lacking="its read-out's weights and its threshold, which differ from data set to data set: read-out "
        "`resclip` has COCO-Stuff's; COCO-Object and Cityscapes are no data sets here",
    ),
    "pearl": Published(
        PEARL,
        "PEARL (2603.21528): PGSmall/PEARL; NACLIP's numbers and lists, its propagation in the place of PAMR",
        {
            **_OF_KIN,
            "refine": "[C] pearl_ovss.py: use_prop on, grid 80; of the scores at the picture's own size",
            "area": _NO_STEP,
        },
        _one_picture(PEARL),
        lacking="on ADE20K its config weighs keys with 0.3 in place of 0.08 (alpha_kk), an argument of the "
        "read-out and not of a protocol; the brightness is of CLIP's normalised picture there; COCO-Object "
        "(threshold 0.1) and Cityscapes (shorter side 560) are no data sets here",
    ),
}
PROTOCOLS = {name: published.protocol for name, published in PUBLISHED.items()}
