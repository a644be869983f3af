"""What the explainer exports: the attention that read-outs use, and towers that say what CLIP says."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from infoclip_lite import DenseCLIP
from infoclip_lite.clip.blocks import feed_forward, project_out, project_qkv
from infoclip_lite.clip.readouts import READ_OUTS
from infoclip_lite.clip.tower import TowerPass
from infoclip_lite.core.reports import read_report

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "explainer"
ADDED_TO_THE_PATCH = ("vanilla", "maskclip", "sclip")  # residual and feed-forward layer kept


@pytest.fixture(scope="module")
def towers() -> ModuleType:
    pytest.importorskip("onnxscript", reason="the chimera extra is not installed")
    sys.path.insert(0, str(FOLDER))
    try:
        return importlib.import_module("towers")
    finally:
        sys.path.remove(str(FOLDER))


@pytest.fixture
def tower(tiny: DenseCLIP) -> TowerPass:
    images = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return tiny.tower(images)


@pytest.mark.parametrize(
    "name", [name for name in READ_OUTS if name not in ("pearl", "resclip", "gem", "cliper")]
)
def test_the_attention_that_is_shown_makes_the_read_outs_tokens(
    towers: ModuleType, tower: TowerPass, name: str
) -> None:
    values = project_qkv(tower.last, tower.entering)[2]
    attention = towers.attention_by_head(name, tower) * (2 if name == "sclip" else 1)
    mixed = project_out(tower.last, attention @ values)
    if name == "cls_value":
        expected = feed_forward(tower.last, tower.entering[:, :1] + mixed[:, 1:])
    elif name in ADDED_TO_THE_PATCH:
        expected = feed_forward(tower.last, tower.entering + mixed)[:, 1:]
    else:
        expected = mixed[:, 1:]
    torch.testing.assert_close(expected, READ_OUTS[name](tower), atol=1e-5, rtol=1e-4)


def test_gem_and_cliper_look_as_their_read_outs_do(towers: ModuleType, tower: TowerPass) -> None:
    values = project_qkv(tower.last, tower.entering)[2]
    before = TowerPass(tower.entering, tower.grid, tower.blocks[-1:])
    gathered = project_out(tower.last, towers.attention_by_head("gem", before) @ values)
    torch.testing.assert_close((tower.entering + gathered)[:, 1:], READ_OUTS["gem"](before))
    # Of CLIPer the values are a mean over blocks: with one earlier block there are two of them.
    early = project_qkv(tower.last, tower.blocks[0].ln_1(tower.states[0]))[2]
    mixed = towers.attention_by_head("cliper", tower) @ ((early + values) / 2)
    torch.testing.assert_close(project_out(tower.last, mixed)[:, 1:], READ_OUTS["cliper"](tower))


def test_rows_of_every_attention_sum_to_one(towers: ModuleType, tower: TowerPass) -> None:
    for name in towers.EXPORTED:
        sums = towers.attention_by_head(name, tower).sum(-1)
        torch.testing.assert_close(sums, torch.ones_like(sums), msg=name)


def test_every_read_out_that_a_page_can_run_is_exported_and_told_of(towers: ModuleType) -> None:
    assert set(towers.EXPORTED) == set(READ_OUTS) - {"pearl", "resclip"}
    source = (FOLDER / "content.py").read_text()
    table = next(
        node.value
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == "LOOKS"
    )
    assert set(ast.literal_eval(table)) == set(towers.EXPORTED)


def test_the_text_tower_with_a_smaller_table_says_the_same(towers: ModuleType, mini: DenseCLIP) -> None:
    text = towers.TextTower(mini)
    sentences = ["a photo of a cow", "a collage of grass", "zebra"]
    places = {token: place for place, token in enumerate(text.known, 1)}
    ids = mini.tokenizer(sentences)
    rows = torch.tensor([[places.get(token, 0) for token in line] for line in ids.tolist()])
    torch.testing.assert_close(text(rows), mini.encode_prompts(sentences), atol=1e-5, rtol=1e-4)


def test_half_precision_loses_nothing_of_a_checkpoint_in_half_precision(towers: ModuleType) -> None:
    runtime = pytest.importorskip("onnxruntime")
    onnx = importlib.import_module("onnx")
    weight = torch.rand(64, 64, generator=torch.Generator().manual_seed(0)).half().float()
    node = onnx.helper.make_node("MatMul", ["x", "weight"], ["y"])
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 64]) for name in "xy"]
    kept = onnx.numpy_helper.from_array(weight.numpy(), "weight")
    graph = onnx.helper.make_graph([node], "product", ends[:1], ends[1:], [kept])
    program = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    half = towers.halved(program)
    x = torch.rand(1, 64, generator=torch.Generator().manual_seed(1)).numpy()
    said = [
        runtime.InferenceSession(each.SerializeToString()).run(None, {"x": x})[0] for each in (program, half)
    ]
    assert (said[0] == said[1]).all()
    assert half.ByteSize() < 0.6 * program.ByteSize()


def test_the_stored_trainings_answer_what_the_page_asks() -> None:
    trainings = read_report("training_maps")["trainings"]
    before, plain, repaired = (
        trainings[name]["frames"][place]["mIoU_unseen"]
        for name, place in (("plain", 0), ("plain", -1), ("repaired", -1))
    )
    assert plain < repaired < before, "“They lose, and less with a repair” is called right on the page"
