"""A writer may be killed at any moment, and find no memory: what was committed stays, what was not is not seen."""

import hashlib
import shutil
import time
from pathlib import Path

import pytest

from lab import store
from tests.faults.children import Nursery
from tests.faults.conftest import Tally
from tests.faults.jobs import nth_bar, nth_trade
from tests.faults.scenes import COMMITS, MENDING, Scene, redo
from tests.faults.small_stores import (
    Contents,
    bars_name,
    contents,
    files_below,
    forget,
    live_by_glob,
    sweep_all,
    trades_name,
)
from tests.faults.tracing import CHANGES, need_strace, points, traced

KILLS_PER_STORE = 10
STATE_CHANGES = tuple(name for name in CHANGES if name != "close")


@pytest.mark.tries("D1", 200, 10_000)
def test_no_commit_that_was_reported_is_lost_whenever_its_writer_is_killed(
    nursery: Nursery, folder: Path, tally: Tally
) -> None:
    committed = 0
    for kill in range(tally.times):
        root, journal = folder / f"{kill // KILLS_PER_STORE}", folder / f"{kill // KILLS_PER_STORE}.journal"
        begun = _reported(journal)["trades"]
        child = nursery.child("commit_in_a_loop", root, journal, begun)
        time.sleep(tally.random.uniform(0.02, 0.17))
        child.kill()
        child.wait()
        with tally.trial(f"kill {kill}"):
            reported = _reported(journal)
            committed += reported["trades"] - begun
            assert store.verify(root) == []
            _check_table(bars_name(root), reported["bars"], [nth_bar(n) for n in range(reported["bars"] + 2)])
            _check_table(trades_name(root), reported["trades"], [nth_trade(n) for n in range(reported["trades"] + 2)])
        if kill % KILLS_PER_STORE == KILLS_PER_STORE - 1:
            shutil.rmtree(root)
    tally.check()
    assert committed > tally.times  # they were killed at work


def _reported(journal: Path) -> dict[str, int]:
    """How many commits to each table were reported."""
    lines = set(journal.read_text().splitlines()) if journal.exists() else set()
    return {kind: sum(line.startswith(kind) for line in lines) for kind in ("bars", "trades")}


def _check_table(name: store.TableName, reported: int, pieces: list) -> None:  # type: ignore[type-arg]
    """It holds the pieces that were reported, and perhaps the next; every version of it has one more than the last."""
    forget()
    versions = store.history(name)
    assert reported <= len(versions) <= reported + 1
    held = pieces[: len(versions)]
    assert [version.number for version in versions] == [n + 1 for n in range(len(held))]
    assert sorted(store.done(name)) == sorted(piece.origin for piece in held)
    if held:
        expected = sorted(row for piece in held for row in piece.table.frame.rows())
        assert store.read(name).rows() == expected
        rows = held[0].table.frame.height
        assert [version.rows for version in versions] == [rows * (n + 1) for n in range(len(held))]


@pytest.mark.tries("D2", 25, 25)
@pytest.mark.parametrize("title", COMMITS)
def test_a_commit_that_is_killed_at_any_system_call_has_happened_or_has_not(
    nursery: Nursery, folder: Path, tally: Tally, title: str
) -> None:
    need_strace()
    scene = COMMITS[title]
    before, after = _before_and_after(scene, folder)

    def check(root: Path) -> None:
        assert store.verify(root) == []
        assert contents(root) in (before, after)
        for path in root.glob("kind=*/**/*.parquet"):  # nobody who knows nothing of manifests meets half a file
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.stem
        redo(scene, root)
        assert contents(root) == after
        sweep_all(root)
        assert store.verify(root) == []
        assert live_by_glob(root) == after.rows
        assert list(root.rglob("*.tmp")) == []

    _kill_at_each(scene, nursery, folder, tally, check)


@pytest.mark.tries("D2", 25, 25)
@pytest.mark.parametrize("title", MENDING)
def test_mending_that_is_killed_at_any_system_call_loses_nothing_and_can_be_done_again(
    nursery: Nursery, folder: Path, tally: Tally, title: str
) -> None:
    need_strace()
    scene = MENDING[title]
    _, after = _before_and_after(scene, folder)
    whole = {Path(path).name for path in files_below(folder / "after") if path.endswith(".parquet")}

    def check(root: Path) -> None:
        assert {path.name for path in root.rglob("*.parquet")} >= whole
        redo(scene, root)
        assert store.verify(root) == []
        assert contents(root) == after
        sweep_all(root)
        assert live_by_glob(root) == after.rows

    _kill_at_each(scene, nursery, folder, tally, check)


def _before_and_after(scene: Scene, folder: Path) -> tuple[Contents | None, Contents]:
    """What the store says before the job, where it is whole, and after it; the stores stay in `before` and `after`."""
    scene.prepare(folder / "before")
    (folder / "before").mkdir(exist_ok=True)
    before = contents(folder / "before") if store.verify(folder / "before") == [] else None
    shutil.copytree(folder / "before", folder / "after")
    redo(scene, folder / "after")
    after = contents(folder / "after")
    assert before != after or scene.job == "sweep"
    return before, after


def _kill_at_each(scene: Scene, nursery: Nursery, folder: Path, tally: Tally, check) -> None:  # type: ignore[no-untyped-def]
    root = folder / "store"

    def play(*injections: str) -> list:  # type: ignore[type-arg]
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(folder / "before", root)
        return traced(scene.child(nursery, root), folder / "log", *injections)

    undisturbed = points(play(), root, STATE_CHANGES)
    for point in undisturbed:
        calls = play(f"{point.name}:signal=KILL:when={point.nth}")
        with tally.trial(point):
            assert (calls[-1].name, calls[-1].nth) == (point.name, point.nth)  # there it died
            check(root)
    assert tally.tried == len(undisturbed)
    tally.check()


@pytest.mark.tries("D6", 8, 50)
def test_a_commit_that_finds_no_memory_damages_nothing(nursery: Nursery, folder: Path, tally: Tally) -> None:
    scene = COMMITS["a correction"]
    before, after = _before_and_after(scene, folder)
    outcomes = set()
    for step in range(tally.times):
        megabytes = 96 * step // (tally.times - 1)
        root = folder / f"{megabytes}-{step}"
        shutil.copytree(folder / "before", root)
        status = nursery.child("commit_within", root, *scene.arguments, megabytes << 20).wait()
        with tally.trial(f"{megabytes} MB more, status {status}"):
            assert store.verify(root) == []
            now = contents(root)
            assert now == after if status == 0 else now in (before, after)
            redo(scene, root)
            assert contents(root) == after
        outcomes.add(status == 0)
    tally.check()
    assert outcomes == {True, False}  # from failing to passing
