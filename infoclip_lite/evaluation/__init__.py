"""Protocols, one path from pictures to labels, metrics, reports, probes."""

from typing import TYPE_CHECKING

from ..core.lazy import lazy_face

if TYPE_CHECKING:
    from .evaluate import evaluate
    from .metrics import SegmentationMetrics
    from .probes import cosine_margin, layer_alignment, noun_recognition, probe, relation_bits, retrieval
    from .protocol import EvaluationProtocol
    from .published import PROTOCOLS, get_protocol
    from .report import ClassRow, Confusion, PictureScore, Report
    from .segment import Segmentation, segment
else:
    # Looked up when first used: a report can be read without the model that it is about.
    __getattr__, __dir__ = lazy_face(
        __name__,
        {
            "PROTOCOLS": "published",
            "ClassRow": "report",
            "Confusion": "report",
            "EvaluationProtocol": "protocol",
            "PictureScore": "report",
            "Report": "report",
            "Segmentation": "segment",
            "SegmentationMetrics": "metrics",
            "cosine_margin": "probes",
            "evaluate": "evaluate",
            "get_protocol": "published",
            "layer_alignment": "probes",
            "noun_recognition": "probes",
            "probe": "probes",
            "relation_bits": "probes",
            "retrieval": "probes",
            "segment": "segment",
        },
    )

__all__ = [
    "PROTOCOLS",
    "ClassRow",
    "Confusion",
    "EvaluationProtocol",
    "PictureScore",
    "Report",
    "Segmentation",
    "SegmentationMetrics",
    "cosine_margin",
    "evaluate",
    "get_protocol",
    "layer_alignment",
    "noun_recognition",
    "probe",
    "relation_bits",
    "retrieval",
    "segment",
]
