"""Tables of the systems."""

from __future__ import annotations

from types import SimpleNamespace

from infoclip_lite.figures.systems import price_rows


def test_the_price_tells_clip_from_what_is_beside_it() -> None:
    def model(**parts: int) -> SimpleNamespace:
        named = {name.replace("_", " "): count for name, count in parts.items()}
        return SimpleNamespace(weights_at_inference=lambda: dict(named))

    models = {
        "with CLIP": model(image_tower=3_000_000, head=500_000),
        "without": model(body=2_000_000, head=1_000_000),
    }
    speed = {"with CLIP": {"ratio": 1.5, "mb": 9.0}, "without": {"ratio": 0.25, "mb": 3.0}}
    rows = price_rows(models, {"with CLIP": "1", "without": "0"}, speed)
    assert [(row["time (CLIP's = 1)"], row["memory (MB)"]) for row in rows] == [(1.5, 9.0), (0.25, 3.0)]
    assert [(row["CLIP's image tower (M)"], row["beside it (M)"]) for row in rows] == [(3, 0.5), (0, 3)]
    assert [row["passes through the tower"] for row in rows] == ["1", "0"]
