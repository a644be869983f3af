"""Speed on a tiny CLIP: outputs are compared before anything is timed, and ratios are what they say.

No time is tested.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import build_tiny
from torch.utils.flop_counter import FlopCounterMode

from infoclip_lite.clip import DenseCLIP
from infoclip_lite.clip.blocks import standard_block
from infoclip_lite.studies import growth, peers, speed
from infoclip_lite.studies.arithmetic import products_of


def test_contest_is_the_peers_time_by_ours() -> None:
    def slow() -> None:
        time.sleep(0.02)

    found = peers.contest("sleeping", lambda: None, slow, rounds=3)
    assert found.what == "sleeping" and found.ratio > 10 and found.peer_s >= 0.02
    assert peers.contest("sleeping", slow, lambda: None, rounds=3).ratio < 0.1


def test_what_nobody_can_leave_out_bounds_the_ratio() -> None:
    def slow() -> None:
        time.sleep(0.02)

    def quick() -> None:
        time.sleep(0.005)

    found = peers.contest("sleeping", slow, slow, rounds=3, least=quick)
    assert 2 < found.at_most < 5 and found.to_json()["at_most"] == found.at_most
    assert peers.contest("sleeping", slow, slow, rounds=1).at_most is None


def test_the_products_of_a_step_are_all_of_its_arithmetic_and_nothing_else() -> None:
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.GELU(), torch.nn.ConvTranspose2d(4, 4, 2, 2)
    )
    attention = torch.nn.MultiheadAttention(4, 2, batch_first=True)

    def step() -> None:
        tokens = layers(torch.rand(2, 3, 6, 6)).flatten(2).mT
        attention(tokens, tokens, tokens)[0].square().mean().backward()

    alone = products_of(step)
    with FlopCounterMode(display=False) as wanted:
        step()
    with FlopCounterMode(display=False) as got:
        alone()
    assert got.get_total_flops() == wanted.get_total_flops() > 0
    assert {"convolution", "convolution_backward"} < {
        str(name).split(".")[-1] for name in got.flop_counts["Global"]
    }
    with pytest.raises(ValueError, match="without matrix product"):
        products_of(lambda: torch.rand(3) + 1)


def test_peers_give_our_outputs(tiny: DenseCLIP) -> None:
    one, two = peers.against_open_clip(tiny, rounds=1)
    assert one.ratio > 0 and two.ratio > 0 and "two read-outs" in two.what
    assert one.at_most > 0 and two.at_most > 0
    pytest.importorskip("transformers", reason="needs the paper extra")
    assert peers.against_transformers(tiny, rounds=1).ratio > 0
    twin = peers.transformers_twin(tiny)
    images = torch.rand(2, 3, *tiny.visual.image_size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        theirs = twin(pixel_values=(images - tiny.mean) / tiny.std).image_embeds
        assert torch.allclose(
            torch.nn.functional.normalize(theirs, dim=-1), tiny.encode_image(images), atol=1e-5
        )


def test_a_peer_that_computes_something_else_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    other = build_tiny()
    with torch.no_grad():
        other.visual.proj.neg_()
    pytest.importorskip("transformers", reason="needs the paper extra")
    wrong = peers.transformers_twin(other)
    monkeypatch.setattr(peers, "transformers_twin", lambda clip: wrong)
    with pytest.raises(RuntimeError, match="transformers gives.*expected equal outputs"):
        peers.against_transformers(build_tiny(), rounds=1)


def test_counting_agrees_with_torchmetrics() -> None:
    assert peers.against_torchmetrics(rounds=1, pictures=1).what.startswith("counting 847")


def test_the_head_written_out_gives_our_outputs_and_gradients() -> None:
    ours = growth._aggregator()
    plain = growth.written_out(ours)
    inputs = growth._inputs(words=3, side=12, batch=2)
    for head in (ours, plain):
        head(*inputs).square().mean().backward()
    forward, both = growth.against_catseg(rounds=1, words=3, side=12)
    assert forward.ours_kept_mb is None and 0 < both.ours_kept_mb < both.peer_kept_mb
    assert forward.at_most > 0 and both.at_most > 0
    for (name, a), b in zip(ours.named_parameters(), plain.parameters(), strict=True):
        if a.grad is not None and b.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-6, msg=name)
        assert (a.grad is None) == (b.grad is None)


def test_growth_is_fitted_along_every_axis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "_AXES", {"words": (2, 4), "batch": (1, 2)})
    monkeypatch.setattr(growth, "_BASE", {"words": 2, "side": 6, "batch": 1})
    rows = growth.growth(rounds=1)
    assert [row["axis"] for row in rows] == ["words", "batch"]
    assert all(len(row["seconds"]) == len(row["kept_mb"]) == 2 for row in rows)
    assert all(isinstance(row["exponent"], float) for row in rows)
    assert all(row["kept_mb"][1] > row["kept_mb"][0] for row in rows)
    assert rows[1]["others"] == {"words": 2, "side": 6}


def test_loaders_are_timed_on_the_same_pictures() -> None:
    rows = peers.against_torchvision(rounds=1, pictures=2)
    assert [row.what.startswith("training crops of 384") for row in rows] == [True, True, False, False]
    assert ["with colours changed" in row.what for row in rows] == [True, False, True, False]
    said = rows[0].to_json()
    assert said["ours_pictures_per_s"] == pytest.approx(2 / rows[0].ours_s, abs=0.01)
    assert "ours_kept_mb" not in said and said["at_most"] > 0


def test_ways_of_training_are_measured_against_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    clip = build_tiny()
    compiled: list = []
    monkeypatch.setattr(torch, "compile", lambda function: compiled.append(function) or function)
    rows = speed.training_speed(clip, rounds=1, peaks={"float32": 1.0, "bfloat16": 2.0}, side=64, batch=16)
    assert [row.what for row in rows] == list(speed._WAYS) and compiled
    assert rows[0].ratio == 1 and all(row.images_per_s > 0 for row in rows)
    assert rows[3].kept_mb is None and rows[2].kept_mb < rows[1].kept_mb < rows[0].kept_mb
    assert clip.block is standard_block


def test_the_matrix_peak_is_a_rate() -> None:
    assert 1e9 < speed.matrix_peak(torch.float32, torch.device("cpu")) < 1e15


def test_many_words_fit_because_prompts_and_scores_are_taken_in_parts(
    tiny: DenseCLIP, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    encode = tiny.model.encode_text
    monkeypatch.setattr(tiny.model, "encode_text", lambda ids: (asked.append(len(ids)), encode(ids))[1])
    words = [f"word {i}" for i in range(700)]
    whole = tiny.encode_text(words, ("a {}",))
    assert asked == [512, 188]
    assert torch.allclose(tiny.encode_text(words[510:514], ("a {}",)), whole[510:514], atol=1e-6)


def test_evaluation_is_measured_in_parts_and_at_once(
    tiny: DenseCLIP, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "load_clip", lambda model, device: tiny)
    monkeypatch.setattr(speed, "WORDS", 9)
    asked: list[int | None] = []
    own = speed.best_words
    monkeypatch.setattr(
        speed, "best_words", lambda *given, chunk: (asked.append(chunk), own(*given, chunk=chunk))[1]
    )
    found = speed.evaluation_cost("none")
    parts, whole = found["ways"]["in parts"], found["ways"]["at once"]
    assert asked == [None, 9] and parts["model_s"] == whole["model_s"]
    assert whole["peak_gb"] >= parts["peak_gb"] >= found["loaded_gb"] > 0 and parts["pictures_per_s"] > 0


def test_parts_are_kept_until_the_report_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "_PARTS", tmp_path / "parts")
    monkeypatch.setattr(speed, "_CONTESTS", ("first",))
    asked: list[str] = []

    def measured(
        model: str, device: torch.device, clock: peers.Clock
    ) -> dict[str, Callable[[], list[peers.Contest]]]:
        def part(name: str, fails: bool) -> Callable[[], list[peers.Contest]]:
            def measure() -> list[peers.Contest]:
                asked.append(name)
                assert torch.get_num_threads() == 1 and clock is time.process_time
                if fails and asked.count(name) == 1:
                    raise KeyboardInterrupt
                return [peers.Contest(name, 1.0, 2.0, 2.0)]

            return measure

        return {"first": part("first", fails=False), "second": part("second", fails=True)}

    monkeypatch.setattr(speed, "_measured", measured)
    with pytest.raises(KeyboardInterrupt):
        speed.speed(out=tmp_path / "speed.json")
    report = speed.speed(out=tmp_path / "speed.json")
    assert asked == ["first", "second", "second"] and not list((tmp_path / "parts").iterdir())
    assert report["contests"][0]["what"] == "first" and report["second"][0]["ratio"] == 2
    # Of another revision or machine nothing is taken.
    with pytest.raises(KeyboardInterrupt):
        asked.clear()
        speed.speed(out=tmp_path / "speed.json")
    monkeypatch.setattr(speed, "environment", lambda: {"git": "another"})
    speed.speed(out=tmp_path / "speed.json")
    assert asked == ["first", "second", "first", "second"]


def test_every_part_of_the_report_can_be_measured() -> None:
    """By name alone: measuring takes minutes."""
    parts = speed._measured("ViT-B-16", torch.device("cpu"), time.process_time)
    assert set(speed._CONTESTS) < set(parts) and all(callable(measure) for measure in parts.values())


def test_paper_size_needs_a_gpu_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="no GPU.*--out"):
        speed.paper_size()
    monkeypatch.setattr(speed, "PAPER_SIZE", {"plain": ("mini/plain", {"data": {"size": 64}, "batch": 4})})
    speed.paper_size(steps=10, out=tmp_path / "small.json")
    (row,) = json.loads((tmp_path / "small.json").read_text())["rows"]
    assert (
        len(row["losses"]) == 10
        and row["loss_first"] == row["losses"][0]
        and row["loss_last"] == row["losses"][-1]
    )
    assert row["images_per_s"] > 0 and row["peak_gb"] > 0 and row["share_of_peak"] > 0
    speed.paper_size(steps=10, minutes=0.0, out=tmp_path / "short.json")
    assert json.loads((tmp_path / "short.json").read_text())["rows"][0]["steps"] == 1


def test_forward_cost_grows_with_the_words_where_it_should(mini: DenseCLIP) -> None:
    few, many = (speed.forward_cost(mini, words=words, side=64, head="mini") for words in (200, 400))
    assert few["image tower"] == many["image tower"] > 0
    assert (
        many["text tower"] == pytest.approx(2 * few["text tower"], rel=0.05)
        and many["aggregation"] > 1.8 * few["aggregation"]
    )
