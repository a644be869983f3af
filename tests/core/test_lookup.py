"""Options of a recipe: a slip of the pen is met with the word that was meant, and no name is taken."""

from __future__ import annotations

import pytest

from infoclip_lite.core.lookup import build


class Kettle:
    def __init__(self, place: str, *, litres: float = 1.0, whistle: bool = False) -> None:
        if litres <= 0:
            raise ValueError(f"litres is {litres}; expected more than 0")
        self.got = (place, litres * 2, whistle)


def test_needed_and_given_arrive() -> None:
    assert build(Kettle, ["stove"], {"litres": 0.5, "whistle": True}, "a kettle").got == ("stove", 1.0, True)
    assert build(Kettle, ["stove"], {}, "a kettle").got == ("stove", 2.0, False)


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("litre", r"unknown key 'litre' in a kettle; expected 'litres'\?"),
        ("zzz", "unknown key 'zzz' in a kettle; expected litres, whistle"),
        ("place", "unknown key 'place' in a kettle"),  # is not for a recipe to say
    ],
)
def test_an_unknown_key_is_met_with_the_nearest(key: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        build(Kettle, ["stove"], {key: 1}, "a kettle")


def test_a_value_of_another_type_is_a_value_error() -> None:
    with pytest.raises(ValueError, match=r"a kettle cannot be built from .*'much'.*numbers where numbers belong"):
        build(Kettle, ["stove"], {"litres": "much"}, "a kettle")


def test_what_the_class_refuses_is_said_in_its_words() -> None:
    with pytest.raises(ValueError, match="^litres is -1; expected more than 0$"):
        build(Kettle, ["stove"], {"litres": -1}, "a kettle")


def test_functions_are_built_as_classes_are() -> None:
    assert build(lambda *, a=1: a, [], {"a": 3}, "a function") == 3


@pytest.mark.parametrize("name", ["kind", "needed", "options", "what"])
def test_an_option_may_have_any_name(name: str) -> None:
    def kinds(*, kind: int = 0, needed: int = 0, options: int = 0, what: int = 0) -> dict[str, int]:
        return {"kind": kind, "needed": needed, "options": options, "what": what}

    assert build(kinds, [], {name: 3}, "a thing")[name] == 3
    with pytest.raises(ValueError, match=f"unknown key '{name}' in a kettle"):
        build(Kettle, ["stove"], {name: 3}, "a kettle")
