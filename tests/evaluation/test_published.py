"""Published protocols: every value has a source, and what differs on a data set is what was read."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from infoclip_lite.clip.refinements import Pamr, Propagation
from infoclip_lite.datasets.registry import DATASETS
from infoclip_lite.evaluation.protocol import WHOLE
from infoclip_lite.evaluation.published import PROTOCOLS, PUBLISHED, get_protocol, value_names

SURE = re.compile(r"\[[CPNIO]\]")


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_value_has_a_source_and_says_how_sure_it_is(name: str) -> None:
    published = PUBLISHED[name]
    assert [row.name for row in published.rows()] == value_names()
    assert all(SURE.match(row.source) for row in published.rows())
    assert set(published.sources) <= {"", *value_names()} and published.protocol.name == name
    # What somebody chose is no default: it needs a source of its own.
    chosen = {v for v in value_names() if getattr(published.protocol, v) != getattr(WHOLE, v)}
    assert chosen <= set(published.sources)


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_differs_on_a_data_set_has_its_own_source(name: str) -> None:
    published = PUBLISHED[name]
    assert set(published.on) <= set(DATASETS)
    for dataset, (protocol, source) in published.on.items():
        changes = list(published.changes(dataset))
        assert changes and protocol.name == name and {row.source for row in changes} == {source}
        assert SURE.match(source)
        rows = {row.name: row for row in published.rows(dataset)}
        assert list(rows) == value_names() and all(rows[change.name] == change for change in changes)


@pytest.mark.parametrize(
    ("name", "dataset", "wanted"),
    [
        ("sclip", "pas20", {"shorter": 336, "window": 224, "stride": 112, "logit_scale": 40}),
        ("sclip", "coco_stuff", {"shorter": 448, "window": 224, "stride": 112}),
        ("sclip", "pas20b", {"threshold": 0.1, "logit_scale": 65, "area": 0.1}),
        ("sclip", "pc60", {"threshold": 0.1, "logit_scale": 50, "area": 0}),
        ("clearclip", "pas20b", {"shorter": 448, "window": 448, "stride": 224, "threshold": 0.5}),
        ("clearclip", "pc60", {"threshold": 0.15, "logit_scale": 50}),
        ("naclip", "pas20", {"shorter": 336, "window": None, "stride": None, "partial": "cut"}),
        ("naclip", "coco_stuff", {"shorter": 336, "window": 224, "positions": "factor"}),
        ("naclip", "pas20b", {"window": None, "threshold": 0.1, "logit_scale": 40}),
        ("naclip", "a150", {"refine": Pamr(iterations=10, dilations=(8, 16)), "area": 0}),
        ("naclip", "pas20b", {"refine": Pamr(iterations=10, dilations=(8, 16))}),
        ("resclip", "pas20b", {"refine": None}),
        ("pearl", "pas20b", {"refine": Propagation(grid=80), "window": None, "threshold": 0.1}),
        ("pearl", "a150", {"refine": Propagation(grid=80), "window": 224, "stride": 112, "logit_scale": 40}),
        ("pearl", "coco_stuff", {"shorter": 336, "partial": "cut", "positions": "factor", "area": 0}),
        ("sclip", "pas20b", {"refine": None}),
        ("maskclip", "pas20", {"shorter": 512, "longest": 2048, "window": None, "partial": "pad"}),
        ("maskclip", "pc59", {"shorter": 520, "longest": 520, "positions": "size"}),
        ("catseg", "a847", {"synonyms": "first", "repeats": True, "patches": 24}),
    ],
)
def test_the_numbers_that_were_read(name: str, dataset: str, wanted: dict[str, object]) -> None:
    protocol = get_protocol(name, dataset)
    assert {value: getattr(protocol, value) for value in wanted} == wanted


def test_prompts_are_as_many_as_were_read() -> None:
    prompts = PROTOCOLS["maskclip"].prompts
    assert prompts is not None and len(set(prompts)) == 85 and all("{}" in prompt for prompt in prompts)
    assert PROTOCOLS["sclip"].prompts == prompts[:80] and prompts[-1] == "this is one {} in the scene."


def test_resclips_and_pearls_numbers_are_naclips_with_another_refinement() -> None:
    for dataset in DATASETS:
        naclip = get_protocol("naclip", dataset)
        assert replace(naclip, name="resclip", refine=None) == get_protocol("resclip", dataset)
        assert replace(naclip, name="pearl", refine=Propagation()) == get_protocol("pearl", dataset)
        assert naclip.refine is not None
