"""When the power fails, all that was reported is on the disk, and of what was not, all or nothing."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from lab import store
from tests.faults.children import Nursery
from tests.faults.conftest import Tally
from tests.faults.jobs import STEPS, take_step
from tests.faults.power import Disk
from tests.faults.small_stores import Contents, contents, files_below, forget
from tests.faults.tracing import ALL_BYTES, CHANGES, Call, need_strace, points, traced

KILLS = 4  # of each sort


@dataclass(frozen=True)
class Loss:
    """What is on the disk after the power failed, and how many steps had been reported."""

    files: dict[str, bytes]
    reported: int
    call: int  # after which
    moment: str


@pytest.mark.tries("D3", 300, 5_000)
def test_what_was_reported_survives_a_loss_of_power_at_any_moment(nursery: Nursery, folder: Path, tally: Tally) -> None:
    need_strace()
    expected, versions = _as_it_should_be(folder / "clean")
    calls = _recorded(nursery, folder, 0)
    losses = list(_losses(calls, folder, tally.random))
    for flush in _flushes(calls, tally):
        # A writer is killed where something is not yet flushed, another carries on, then the power fails.
        killed = _recorded(nursery, folder, 0, f"fsync:signal=KILL:when={flush.nth}")
        carried_on = _recorded(nursery, folder, _reports(killed), keep=True)
        losses += [loss for loss in _losses([*killed, *carried_on], folder, tally.random) if loss.call >= len(killed)]
    assert len(losses) >= tally.times
    for loss in [losses[n] for n in tally.random.permutation(len(losses))[: tally.times]]:
        root = folder / "after power loss"
        _put(loss.files, root)
        with tally.trial(f"{loss.reported} reported, then {loss.moment}"):
            assert store.verify(root / "store") == []
            assert contents(root / "store") in expected[loss.reported : loss.reported + 2]
            _check_versions(root / "store", versions)
            if loss.reported < STEPS:
                take_step(root / "store", loss.reported)
                assert contents(root / "store") == expected[loss.reported + 1]
                assert store.verify(root / "store") == []
        shutil.rmtree(root)
    tally.check()


def _flushes(calls: list[Call], tally: Tally) -> list[Call]:
    """Where to kill a writer: at any flush, or at a few of new folders and a few others."""
    flushes = [n for n, call in enumerate(calls) if call.name == "fsync"]
    if not tally.many:
        new = [n for n in flushes if any(call.name.startswith("mkdir") for call in calls[n - 2 : n])]
        others = [n for n in flushes if n not in new]
        flushes = [*tally.random.choice(new, KILLS, replace=False), *tally.random.choice(others, KILLS, replace=False)]
    return [calls[n] for n in flushes]


def _as_it_should_be(root: Path) -> tuple[list[Contents], dict[tuple[str, int], list[tuple[object, ...]]]]:
    """What the store says after each step, and the rows of each version of each table."""
    expected, versions = [contents(root)], {}
    for step in range(STEPS):
        take_step(root, step)
        expected.append(contents(root))
        versions.update(_versions(root))
    assert len({str(each) for each in expected}) >= 5
    return expected, versions


def _versions(root: Path) -> dict[tuple[str, int], list[tuple[object, ...]]]:
    forget()
    return {
        (name.key, version.number): store.read(name, version=version.number).rows()
        for name in store.layout.table_names(root)
        for version in store.history(name)
    }


def _check_versions(root: Path, versions: dict[tuple[str, int], list[tuple[object, ...]]]) -> None:
    """Every version that is still known can be read, and says what it said."""
    for key, rows in _versions(root).items():
        assert rows == versions[key], key


def _recorded(nursery: Nursery, folder: Path, first: int, *injections: str, keep: bool = False) -> list[Call]:
    """The calls of a child that takes the steps from `first` on, on an empty disk unless it is kept.

    An empty disk has what the calls say in the end, so none went unseen.
    """
    top = folder / "disk"
    if not keep:
        shutil.rmtree(top, ignore_errors=True)
        top.mkdir()
    child = nursery.child("take_steps", top / "store", folder / "journal", first, wait=True)
    calls = traced(child, folder / "log", *injections, bytes_shown=ALL_BYTES)
    if not keep:
        disk = Disk(top)
        for call in points(calls, top):
            disk.follow(call)
        assert disk.files() == files_below(top)
    return calls


def _reports(calls: list[Call]) -> int:
    return sum(_is_report(call) for call in calls)


def _is_report(call: Call) -> bool:
    return call.name == "write" and not call.failed and call.paths[0].endswith("/journal")


def _losses(calls: list[Call], folder: Path, random: np.random.Generator) -> Iterator[Loss]:
    """Every different state that a loss of power may leave, call by call."""
    disk, reported = Disk(folder / "disk"), 0
    seen = set()
    for n, call in enumerate(calls):
        if call.concerns(folder / "disk") and call.name in CHANGES[:-1]:
            disk.follow(call)
            for files in disk.after_power_loss(random):
                state = (reported, hash(frozenset(files.items())))
                if state not in seen:
                    seen.add(state)
                    yield Loss(files, reported, n, str(call))
        elif _is_report(call):
            reported += 1


def _put(files: dict[str, bytes], root: Path) -> None:
    (root / "store").mkdir(parents=True)
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
