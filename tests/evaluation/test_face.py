"""The room's face: what is public, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import infoclip_lite.evaluation as room


def test_every_public_name_is_there_and_is_no_module() -> None:
    assert all(callable(getattr(room, name)) for name in room.__all__ if name != "PROTOCOLS")
    assert set(room.__all__) <= set(dir(room))


def test_functions_stay_functions_after_their_modules_were_imported() -> None:
    code = (
        "import pkgutil, importlib, infoclip_lite.evaluation as room\n"
        "for module in pkgutil.iter_modules(room.__path__):\n"
        "    importlib.import_module(f'{room.__name__}.{module.name}')\n"
        "assert all(callable(getattr(room, n)) for n in room.__all__ if n != 'PROTOCOLS'), room.__all__\n"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_a_name_that_is_not_there_is_said() -> None:
    with pytest.raises(AttributeError, match="evalute"):
        room.evalute  # noqa: B018
    with pytest.raises(ImportError, match="evalute"):
        from infoclip_lite.evaluation import evalute  # noqa: F401


def test_the_probes_do_not_load_scikit_learn() -> None:
    code = "import sys, infoclip_lite.evaluation.probes; assert 'sklearn' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
