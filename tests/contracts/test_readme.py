from pathlib import Path

from infoclip_lite.clip import read_card
from infoclip_lite.datasets.collage import (
    all_nouns,
    dev_nouns,
    seen_nouns,
    segmentation_nouns,
    stuff,
    unseen_nouns,
)
from infoclip_lite.studies.card import card_table

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_the_table_of_scores_is_the_checkpoints_card():
    table = README.split("<!-- card -->")[1].split("<!-- /card -->")[0].strip()
    assert table == card_table(read_card())


def test_every_file_that_is_linked_exists():
    import re

    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if not link.startswith("http")]
    assert links
    assert [link for link in links if not (Path(__file__).parents[2] / link).exists()] == []


def test_every_notebook_is_on_the_map_with_its_measured_time():
    import json
    import re

    rows = dict(re.findall(r"^\| \[[^\]]+\]\(notebooks/([^)]+)\) \|[^|]+\| (.+?) \|$", README, re.MULTILINE))
    measured = {}
    for path in (Path(__file__).parents[2] / "notebooks").glob("*.ipynb"):
        title = "".join(json.loads(path.read_text())["cells"][0]["source"])
        measured[path.name] = re.search(r"\*\*Time\*\*: (.+?) to run", title).group(1)
    assert rows == measured


def test_the_counts_of_words_are_the_packs():
    said = " ".join(README.split())
    nouns = len(segmentation_nouns())
    assert f"{nouns} nouns and {len(stuff())} kinds of stuff are segmented" in said
    assert f"{len(seen_nouns())} nouns with pixel labels, {len(dev_nouns())} without" in said
    assert f"{len(unseen_nouns())} without that are kept for the end" in said
    assert f"name {len(all_nouns()) - nouns} nouns more" in said
