"""Evaluations that are killed, shared out, or begun again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from toy_segmentors import SMALL, Neighbours, Photos

from infoclip_lite import evaluate


def strip(report: Any) -> dict[str, Any]:
    """A report without what differs between two runs."""
    content = json.loads(report.to_json())
    for key in ("wall_time_s", "processes", "git"):
        content["details"].pop(key, None)
    return content


@pytest.mark.parametrize("name", list(SMALL))
def test_a_killed_evaluation_goes_on_where_it_was(name: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"protocol": SMALL[name], "save_every": 2}
    with pytest.raises(KeyboardInterrupt):
        evaluate(Neighbours(), Photos(killed_at=4), folder=tmp_path, **options)
    photos = Photos()
    report = evaluate(Neighbours(), photos, folder=tmp_path, **options)
    assert photos.opened == [4, 5]
    assert strip(report) == strip(evaluate(Neighbours(), Photos(), **options))
    again = Photos()
    assert (
        strip(evaluate(Neighbours(), again, folder=tmp_path, **options)) == strip(report)
        and again.opened == []
    )


def test_a_folder_of_another_evaluation_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate(Neighbours(), Photos(), folder=tmp_path, limit=2)
    with pytest.raises(ValueError, match="holds another evaluation, with other .*protocol"):
        evaluate(Neighbours(), Photos(), folder=tmp_path, limit=2, protocol=SMALL["zero-shot"])
    other = Neighbours()
    other.layer.weight.mul_(2)
    with pytest.raises(ValueError, match="with other weights"):
        evaluate(other, Photos(), folder=tmp_path, limit=2)
    (tmp_path / "part-1-of-1").rename(tmp_path / "part-1-of-2")
    with pytest.raises(ValueError, match="part-1-of-2 and this is one of 1 processes"):
        evaluate(Neighbours(), Photos(), folder=tmp_path, limit=2)


SCRIPT = """
import sys
from pathlib import Path
import torch.distributed as dist
sys.path.insert(0, sys.argv[1])
from toy_segmentors import SMALL, Neighbours, Photos
from infoclip_lite import evaluate
parts = Path(sys.argv[2]) / "parts"
report = evaluate(Neighbours(), Photos(7), protocol=SMALL["catseg"], gammas=(0.3,), folder=parts)
if dist.get_rank() == 0:
    report.to_json(Path(sys.argv[2]) / "report.json")
"""


def test_two_processes_count_what_one_counts(tmp_path: Path) -> None:
    script = tmp_path / "share.py"
    script.write_text(SCRIPT)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*torchrun, str(script), str(Path(__file__).parents[1]), str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=240, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    two = json.loads((tmp_path / "report.json").read_text())
    parts = sorted(path.name for path in (tmp_path / "parts").glob("part-*"))
    assert two["details"]["processes"] == 2 and parts == ["part-1-of-2", "part-2-of-2"]
    one = strip(evaluate(Neighbours(), Photos(7), protocol=SMALL["catseg"], gammas=(0.3,)))
    assert all(
        two[key] == one[key]
        for key in ("metrics", "per_class", "calibration", "classes", "confusions", "worst")
    )
