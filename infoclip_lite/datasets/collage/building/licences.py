"""Which pictures may meet in one scene: a scene belongs to one of two groups, drawn before anything else."""

from __future__ import annotations

_FREE = ("CC0-1.0", "LicenseRef-Public-Domain")
GROUPS: dict[str, tuple[str, ...]] = {
    "cc": (*_FREE, "CC-BY-2.0", "CC-BY-3.0", "CC-BY-3.0-US"),
    "gpl": (*_FREE, "GPL-2.0-only", "GPL-2.0-or-later"),
}
WHOLE_ONLY = ("CC-BY-SA-4.0",)  # may be shown as it is, never mixed


def groups_of(licence: str) -> tuple[str, ...]:
    """The groups of scenes that a picture with this licence may be pasted in.

    >>> groups_of("CC0-1.0"), groups_of("GPL-2.0-only")
    (('cc', 'gpl'), ('gpl',))

    Raises:
        ValueError: the licence is missing, or lets a picture into neither group.
    """
    found = tuple(group for group, licences in GROUPS.items() if licence in licences)
    if not found:
        allowed = sorted({licence for licences in GROUPS.values() for licence in licences})
        raise ValueError(
            f"got licence {licence!r}, expected one of {', '.join(allowed)}; leave the picture out"
        )
    return found
