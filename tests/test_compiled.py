"""Machine code on disk is that of the sources beside it."""

import shutil
import subprocess
import sys
from pathlib import Path

from lab import compiled

INNER = """
from house.compiled import compiled

@compiled
def inner(x: float) -> float:
    return x + {}
"""
OUTER = """
from house.compiled import compiled
from house.inner import inner

@compiled
def outer(x: float) -> float:
    return inner(x)
"""
SAID = "from house.outer import outer; print(outer(1.0), sum(outer.stats.cache_hits.values()))"


def said_by(folder: Path) -> str:
    """What a kernel returns in a process of its own, and how often its code came from the disk."""
    command = [sys.executable, "-c", SAID]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def house_in(folder: Path) -> Path:
    house = folder / "house"
    house.mkdir()
    shutil.copy(compiled.__file__, house / "compiled.py")
    (house / "inner.py").write_text(INNER.format(1))
    (house / "outer.py").write_text(OUTER)
    return house


def test_a_kernel_is_compiled_anew_when_one_that_it_calls_was_changed_in_another_file(tmp_path: Path) -> None:
    house = house_in(tmp_path)
    assert [said_by(tmp_path), said_by(tmp_path)] == ["2.0 0", "2.0 1"]
    (house / "inner.py").write_text(INNER.format(2))
    assert [said_by(tmp_path), said_by(tmp_path)] == ["3.0 0", "3.0 1"]
    assert len(list((house / "__pycache__").glob("kernels-*"))) == 1


def test_where_nothing_can_be_kept_kernels_are_compiled_all_the_same(tmp_path: Path) -> None:
    house = house_in(tmp_path)
    (house / "__pycache__").write_text("in the way")
    assert said_by(tmp_path).startswith("2.0")
