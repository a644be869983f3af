"""Files that are almost right."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st


@st.composite
def damaged(draw: st.DrawFn, sound: Sequence[bytes]) -> bytes:
    """One of some sound files with bytes changed, put in, taken out, and perhaps its end missing."""
    content = bytearray(draw(st.sampled_from(list(sound))))
    for _ in range(draw(st.integers(0, 6))):
        # Headers, where sizes and kinds stand, are hit as often as all that follows.
        last = draw(st.sampled_from([min(64, len(content) - 1), len(content) - 1]))
        place = draw(st.integers(0, last))
        kind = draw(st.sampled_from(["change", "put in", "take out"]))
        if kind == "change":
            content[place] = draw(st.integers(0, 255))
        elif kind == "put in":
            content[place:place] = draw(st.binary(min_size=1, max_size=8))
        elif len(content) > 2:
            del content[place]
    if draw(st.booleans()):
        del content[draw(st.integers(0, len(content))) :]
    return bytes(content)


# What YAML and JSON can hold.
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["collage", "catseg", "infoclip", "full", "value", "1e-4"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=6) | st.integers(-3, 3), inner, max_size=3)
    ),
    max_leaves=5,
)


@st.composite
def changed(draw: st.DrawFn, sound: Sequence[object]) -> object:
    """One of some sound contents of a YAML or JSON file, with a few of its entries changed."""
    content = _copy(draw(st.sampled_from(list(sound))))
    for _ in range(draw(st.integers(1, 3))):
        content = _changed_once(draw, content)
    return content


def _copy(content: object) -> object:
    if isinstance(content, dict):
        return {key: _copy(value) for key, value in content.items()}
    return [_copy(value) for value in content] if isinstance(content, list) else content


def _changed_once(draw: st.DrawFn, content: object) -> object:
    """The content with something else at a place that is drawn, deep inside or at its top."""
    if not isinstance(content, dict | list) or not content or draw(st.integers(0, 9)) == 0:
        return draw(ANYTHING)
    keys = list(content) if isinstance(content, dict) else list(range(len(content)))
    key = draw(st.sampled_from(keys))
    what = draw(st.sampled_from(["inside", "inside", "drop", "add"]))
    if what == "drop":
        del content[key]
    elif what == "add" and isinstance(content, dict):
        content[draw(st.text(max_size=8))] = draw(ANYTHING)
    else:
        content[key] = _changed_once(draw, content[key])
    return content
