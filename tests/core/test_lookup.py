"""From a name to a thing: a slip of the pen is met with the word that was meant, and no option's name is
taken.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from infoclip_lite.core.lookup import build, call, checked, find, nearest, split_section


class Kettle:
    def __init__(self, place: str, *, litres: float = 1.0, whistle: bool = False) -> None:
        if litres <= 0:
            raise ValueError(f"litres is {litres}; expected more than 0")
        self.got = (place, litres * 2, whistle)


KITCHEN = {
    "kettle": Kettle,
    "whistling": lambda place, *, litres=2.0: Kettle(place, litres=litres, whistle=True),
}

# The end of a message.


def test_what_was_perhaps_meant_is_named_alone() -> None:
    assert nearest("vlaue", ["sclip", "value", "vanilla"]) == "did you mean 'value'?"


def test_where_nothing_is_near_all_are_named_in_their_order() -> None:
    assert nearest("xyz", ["sclip", "value"]) == "expected one of sclip, value"
    assert nearest(None, {"sclip": 1, "value": 2}) == "expected one of sclip, value"
    assert nearest(3, (1, 2)) == "expected one of 1, 2", "names need not be words"


# A table.


def test_a_table_gives_what_stands_under_a_name() -> None:
    assert find(KITCHEN, "kettle", "thing") is Kettle


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("ketle", r"^unknown thing 'ketle'; did you mean 'kettle'\?$"),
        ("zzz", "^unknown thing 'zzz'; expected one of kettle, whistling$"),
        ("", "^unknown thing ''; expected one of"),
        ("Kettle", r"^unknown thing 'Kettle'; did you mean 'kettle'\?$"),
        (None, "^unknown thing None; expected one of"),
        (3, "^unknown thing 3; expected one of"),
        (["kettle"], r"^unknown thing \['kettle'\]; "),  # not hashable: no TypeError may come out
        ({"name": "kettle"}, "^unknown thing {'name': 'kettle'}; "),
    ],
)
def test_an_unknown_name_is_met_with_the_nearest_or_all(name: object, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        find(KITCHEN, name, "thing")


# A section.


def test_a_section_is_a_name_and_options_and_stays_as_it_is() -> None:
    section = {"litres": 0.5, "name": "kettle", "whistle": True}
    assert split_section(section, "thing") == ("kettle", {"litres": 0.5, "whistle": True})
    assert section == {"litres": 0.5, "name": "kettle", "whistle": True}, "whoever gave it may use it again"
    assert split_section({"name": "kettle"}, "thing") == ("kettle", {})


@pytest.mark.parametrize(
    "section", [{}, {"litres": 1.0}, {"name": None}, {"name": 3}, {"name": ["kettle"]}], ids=str
)
def test_a_section_without_a_name_is_refused(section: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^got thing \{.*\}; expected name: one word, and its options$"):
        split_section(section, "thing")


def test_a_section_builds_what_it_names_with_what_is_needed_and_given() -> None:
    assert build(KITCHEN, {"name": "kettle", "litres": 0.5, "whistle": True}, "stove", what="thing").got == (
        "stove",
        1.0,
        True,
    )
    assert build(KITCHEN, {"name": "whistling"}, "fire", what="thing").got == ("fire", 4.0, True)
    assert build({"none": lambda: 3}, {"name": "none"}, what="thing") == 3, "nothing need be needed"


@pytest.mark.parametrize(
    ("section", "hint"),
    [
        ({"name": "ketle"}, r"^unknown thing 'ketle'; did you mean 'kettle'\?$"),
        ({"litres": 1.0}, "expected name: one word"),
        (
            {"name": "kettle", "litre": 1.0},
            r"^unknown key 'litre' in thing 'kettle'; did you mean 'litres'\?$",
        ),
        (
            {"name": "whistling", "whistle": True},
            "^unknown key 'whistle' in thing 'whistling'; expected one of litres$",
        ),
        (
            {"name": "kettle", "litres": "much"},
            r"^thing 'kettle' cannot be built from \{'litres': 'much'\} \(.*where numbers belong$",
        ),
        ({"name": "kettle", "litres": 0}, "^litres is 0; expected more than 0$"),
    ],
    ids=str,
)
def test_a_wrong_section_says_what_was_expected(section: dict[str, Any], hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        build(KITCHEN, section, "stove", what="thing")


# Options.


def test_needed_and_given_arrive() -> None:
    assert call(Kettle, ["stove"], {"litres": 0.5, "whistle": True}, "a kettle").got == ("stove", 1.0, True)
    assert call(Kettle, ["stove"], {}, "a kettle").got == ("stove", 2.0, False)


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("litre", r"^unknown key 'litre' in a kettle; did you mean 'litres'\?$"),
        ("zzz", "^unknown key 'zzz' in a kettle; expected one of litres, whistle$"),
        (
            "place",
            "^unknown key 'place' in a kettle; expected one of litres, whistle$",
        ),  # is not for a recipe to say
        ("self", "^unknown key 'self' in a kettle; "),
    ],
)
def test_an_unknown_key_is_met_with_the_nearest(key: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        call(Kettle, ["stove"], {key: 1}, "a kettle")


def test_a_value_of_another_type_is_a_value_error() -> None:
    with pytest.raises(
        ValueError, match=r"a kettle cannot be built from .*'much'.*numbers where numbers belong"
    ):
        call(Kettle, ["stove"], {"litres": "much"}, "a kettle")


def test_what_the_class_refuses_is_said_in_its_words() -> None:
    with pytest.raises(ValueError, match="^litres is -1; expected more than 0$"):
        call(Kettle, ["stove"], {"litres": -1}, "a kettle")


def test_functions_are_built_as_classes_are() -> None:
    assert call(lambda *, a=1: a, [], {"a": 3}, "a function") == 3


def test_what_has_no_options_says_so() -> None:
    with pytest.raises(ValueError, match="^unknown key 'a' in a function; expected no option$"):
        call(lambda: 1, [], {"a": 3}, "a function")


def test_what_takes_anything_is_not_asked_for_it() -> None:
    """*args and **options have no names that a recipe could say."""
    with pytest.raises(ValueError, match="^unknown key 'options' in a function; expected one of a$"):
        call(lambda *args, a=1, **options: a, [], {"options": 3}, "a function")


@pytest.mark.parametrize("name", ["kind", "needed", "options", "what"])
def test_an_option_may_have_any_name(name: str) -> None:
    def kinds(*, kind: int = 0, needed: int = 0, options: int = 0, what: int = 0) -> dict[str, int]:
        return {"kind": kind, "needed": needed, "options": options, "what": what}

    assert call(kinds, [], {name: 3}, "a thing")[name] == 3
    with pytest.raises(ValueError, match=f"unknown key '{name}' in a kettle"):
        call(Kettle, ["stove"], {name: 3}, "a kettle")


# A dataclass, and those inside it.


@dataclass(frozen=True)
class Lid:
    size: float = 1.0
    colour: Literal["red", "blue"] | None = None


@dataclass(frozen=True)
class Pot:
    name: str
    handles: int
    lid: Lid = field(default_factory=Lid)
    at: list[int] = field(default_factory=list)
    sides: tuple[float, float] = (1.0, 2.0)
    content: dict[str, Any] = field(default_factory=dict)
    hot: bool = False
    anything: object = None


GOOD: dict[str, Any] = {"name": "stew", "handles": 2}


def test_what_is_not_said_has_its_default_and_what_is_said_arrives() -> None:
    assert checked(Pot, GOOD, "a pot") == Pot("stew", 2)
    full = {**GOOD, "at": [1, 2], "sides": [3, 4.5], "content": {"a": 1}, "hot": True, "anything": [None]}
    pot = checked(Pot, full, "a pot")
    assert (pot.at, list(pot.sides), pot.content, pot.hot, pot.anything) == (
        [1, 2],
        [3, 4.5],
        {"a": 1},
        True,
        [None],
    )


def test_a_section_inside_is_checked_likewise_and_one_that_is_built_is_taken() -> None:
    assert checked(Pot, {**GOOD, "lid": {"size": 2, "colour": "red"}}, "a pot").lid == Lid(2, "red")
    assert checked(Pot, {**GOOD, "lid": {}}, "a pot").lid == Lid()
    lid = Lid(3.0)
    assert checked(Pot, {**GOOD, "lid": lid}, "a pot").lid is lid


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"handels": 2}, r"^unknown key 'handels' in a pot; did you mean 'handles'\?$"),
        ({"qqq": 2}, "^unknown key 'qqq' in a pot; expected one of name, handles, lid, at"),
        ({"handles": "two"}, "^handles is 'two', a str; expected int$"),
        ({"handles": 2.0}, "^handles is 2.0, a float; expected int$"),
        ({"handles": True}, "^handles is True, a bool; expected int$"),
        ({"hot": 1}, "^hot is 1, a int; expected bool$"),
        ({"name": None}, "^name is None, a NoneType; expected str$"),
        ({"at": 3}, r"^at is 3, a int; expected list\[int\]$"),
        ({"at": [1, "2"]}, r"^at is \[1, '2'\], a list"),
        ({"sides": [1.0]}, r"^sides is \[1.0\], a list; expected tuple\[float, float\]$"),
        ({"sides": [1.0, "2"]}, "^sides is"),
        ({"content": [1]}, r"^content is \[1\], a list; expected dict"),
        ({"lid": 3}, "^lid is 3, a int; expected a section of keys and values$"),
        ({"lid": None}, "^lid is None, a NoneType; expected a section"),
        ({"lid": {"sise": 1.0}}, r"^unknown key 'sise' in lid of a pot; did you mean 'size'\?$"),
        (
            {"lid": {"size": "1e-4"}},
            r"^size is '1e-4', a str; expected float \(YAML reads 1e-4 as text: write 1.0e-4\)$",
        ),
        ({"lid": {"colour": "green"}}, "^colour is 'green', a str; expected one of"),
    ],
    ids=str,
)
def test_every_key_and_type_is_looked_at(changes: dict[str, Any], hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        checked(Pot, {**GOOD, **changes}, "a pot")


def test_what_is_missing_is_named() -> None:
    with pytest.raises(ValueError, match="^a pot lacks name, handles$"):
        checked(Pot, {}, "a pot")
    with pytest.raises(ValueError, match="^a pot lacks handles$"):
        checked(Pot, {"name": "stew"}, "a pot")
