"""A disk may be full or broken, at any call, once or from then on: the error names it, and the old version stands."""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from lab import store
from lab.errors import LabError
from tests.faults.children import Nursery, Refused
from tests.faults.conftest import Tally
from tests.faults.scenes import COMMITS, MARCH, redo
from tests.faults.small_stores import MINUTE, bars_piece, contents, files_below, live_by_glob, sweep_all
from tests.faults.tracing import Call, need_strace, points, traced

CAUSES = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO}
FLUSHES = ("fsync", "fdatasync")


@pytest.mark.tries("D4", 80, 270)
@pytest.mark.parametrize("title", ["a correction", "the first bars"])
def test_a_commit_that_meets_a_full_or_broken_disk_says_so_and_changes_nothing(
    nursery: Nursery, folder: Path, tally: Tally, title: str
) -> None:
    need_strace()
    scene = COMMITS[title]
    scene.prepare(folder / "before")
    (folder / "before").mkdir(exist_ok=True)
    shutil.copytree(folder / "before", folder / "after")
    redo(scene, folder / "after")
    before, after = contents(folder / "before"), contents(folder / "after")
    root = folder / "store"

    def play(*injections: str) -> tuple[list[Call], object]:
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(folder / "before", root)
        child = scene.child(nursery, root)
        calls = traced(child, folder / "log", *injections)
        return calls, child.answer()

    calls, _ = play()
    faults = list(_faults(points(calls, root), tally))
    for point, cause, ever_after in faults:
        with tally.trial(f"{cause}{ever_after} at {point}"):
            calls, answer = play(f"{point.name}:error={cause}:when={point.nth}{ever_after}")
            failed = next(call for call in calls if call.injected)
            assert (failed.name, failed.nth) == (point.name, point.nth)
            if isinstance(answer, Refused):
                assert os.strerror(CAUSES[cause]) in answer.problem
                assert contents(root) == before
            else:
                assert contents(root) == after
            assert store.verify(root) == []
            _check_flushes(calls, answer)
            sweep_all(root)
            assert list(root.rglob("*.tmp")) == []
            redo(scene, root)
            assert contents(root) == after
            sweep_all(root)
            assert live_by_glob(root) == after.rows
    tally.check()


def _faults(calls: list[Call], tally: Tally) -> Iterator[tuple[Call, str, str]]:
    """Which call fails, of what, and whether it does so ever after: of each call every fault, or one or two in turn."""
    kinds = list(product(CAUSES, ("", "+")))
    for n, call in enumerate(calls):
        # A close that fails ever after fails for the modules that Python imports, too.
        fitting = [kind for kind in kinds if kind[1] == "" or call.name != "close"]
        in_turn = [("EIO", ""), ("EIO", "+")] if call.name in FLUSHES else [fitting[n % len(fitting)]]
        for cause, ever_after in fitting if tally.many else in_turn:
            yield call, cause, ever_after


def _check_flushes(calls: list[Call], answer: object) -> None:
    """No flush that failed was tried again, and none was reported as success but of what is tidied up afterwards."""
    linked = next((n for n, call in enumerate(calls) if call.name.startswith("link") and not call.failed), len(calls))
    lasting = [n for n, call in enumerate(calls) if call.name in FLUSHES and not call.failed and n > linked]
    committed = next((n for n in lasting if calls[n].paths[0].endswith("_log")), len(calls))
    for n, failed in enumerate(calls):
        if failed.name in FLUSHES and failed.injected:
            again = [call for call in calls[n + 1 :] if call.name in FLUSHES and call.paths == failed.paths]
            assert again == []
            assert isinstance(answer, Refused) or n > committed


@pytest.mark.tries("D4", 20, 200)
def test_a_commit_to_a_disk_that_is_too_small_says_so_and_leaves_no_litter(tally: Tally, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    try:
        _fill(disk, tally)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    tally.check()


def _fill(disk: Path, tally: Tally) -> None:
    root = disk / "store"
    refused = 0
    for n in range(tally.times):
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        filler = disk / "filler"
        # What is left of the disk: from nothing at all to enough for a file or two.
        filler.write_bytes(bytes(max(0, free - (n % 10) * 4096)))
        before = contents(root) if root.exists() else None
        with tally.trial(f"{n % 10} pages free"):
            try:
                store.commit(root, "here", [bars_piece("A", MARCH + n * MINUTE, 1, stamp=1.0 + n)])
            except LabError as full:
                refused += 1
                assert "No space left on device" in full.problem
                if before is not None:
                    assert contents(root) == before
            filler.unlink()
            assert store.verify(root) == []
            assert list(root.rglob("*.tmp")) == []
            store.commit(root, "here", [bars_piece("A", MARCH + n * MINUTE, 1, stamp=1.0 + n)])
            sweep_all(root)
            assert len(next(iter(contents(root).rows.values()))) == n + 1
    assert 0 < refused < tally.times


@pytest.mark.tries("D4", 8, 100)
def test_a_commit_of_files_that_are_too_large_says_so_and_leaves_no_litter(
    nursery: Nursery, folder: Path, tally: Tally
) -> None:
    root = folder / "store"
    store.commit(root, "here", [bars_piece("A", MARCH, 5)])
    before = files_below(root)
    larger = bars_piece("A", MARCH, 500, stamp=2.0)
    outcomes = set()
    for step in range(tally.times):
        limit = 10_000 * step // (tally.times - 1)
        answer = nursery.child("commit_with_small_files", root, [larger], limit).answer()
        outcomes.add(type(answer))
        with tally.trial(f"{limit} bytes"):
            if isinstance(answer, Refused):
                assert os.strerror(errno.EFBIG) in answer.problem
                sweep_all(root)
                assert files_below(root) == before
            assert store.verify(root) == []
    tally.check()
    assert outcomes == {Refused, type(None)}


@pytest.mark.tries("D4", 20, 20)
def test_a_line_that_has_no_room_leaves_nothing_of_itself(nursery: Nursery, folder: Path, tally: Tally) -> None:
    path = folder / "ledger"
    for limit in range(20):
        path.write_bytes(b"whole\n")
        answer = nursery.child("append_with_small_files", path, "as long", limit).answer()
        with tally.trial(f"{limit} bytes"):
            whole = limit >= len("whole\nas long\n")
            assert path.read_bytes() == (b"whole\nas long\n" if whole else b"whole\n")
            assert isinstance(answer, Refused) != whole
    tally.check()
