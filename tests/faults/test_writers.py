"""Writers, readers and sweepers of one table at once: each sees whole versions, and no work is lost."""

import shutil
import time
from pathlib import Path

import pytest

from lab import store
from lab.files import exclusive
from lab.store import manifests
from tests.faults.children import Nursery
from tests.faults.conftest import Tally
from tests.faults.jobs import nth_bar, nth_trade, stamped
from tests.faults.small_stores import MINUTE, bars_name, contents, forget, live_by_glob, sweep_all, trades_name

DURATION = 0.4  # seconds between kills
READS_PER_STORE = 2_000
READERS = 2


@pytest.mark.tries("D9", 2_000, 20_000)
@pytest.mark.parametrize("writers", [2, 4])
def test_of_writers_who_publish_the_same_number_at_the_same_moment_one_wins(
    nursery: Nursery, folder: Path, tally: Tally, writers: int
) -> None:
    each = tally.times // 2
    steps = folder / "steps"
    steps.write_bytes(bytes(8 * writers))
    (folder / "log").mkdir()
    children = [nursery.child("publish_in_step", folder / "log", steps, me, each) for me in range(writers)]
    won = [child.answer() for child in children]
    for n in range(1, each + 1):
        with tally.trial(n):
            winners = [me for me, numbers in enumerate(won) if n in set(numbers)]
            assert [(folder / "log" / f"{n:06}.json").read_text()] == [f"{me}" for me in winners]
    tally.times = each
    tally.check()
    assert len(list((folder / "log").iterdir())) == each  # and no litter
    assert all(won)  # it was a contest


@pytest.mark.tries("D9", 60, 2_000)
@pytest.mark.parametrize("writers", [2, 4])
def test_no_commit_of_several_writers_is_lost(nursery: Nursery, folder: Path, tally: Tally, writers: int) -> None:
    per_store = 120 // writers
    for round_ in range(-(-tally.times // 120)):
        root = folder / f"{round_}"
        children = [nursery.child("commit_own_minutes", root, me, writers, per_store) for me in range(writers)]
        assert [child.answer() for child in children] == [None] * writers
        count = per_store * writers
        expected = {
            bars_name(root).key: sorted(row for n in range(count) for row in nth_bar(n).table.frame.rows()),
            trades_name(root).key: sorted(row for n in range(count) for row in nth_trade(n).table.frame.rows()),
        }
        for name in (bars_name(root), trades_name(root)):
            versions = store.history(name)
            assert len(store.done(name)) == count
            for n, version in enumerate(versions, start=1):
                with tally.trial(f"{name}, version {n}"):
                    assert version.number == n
                    assert len(version.change.origins) == 1
                    assert version.added == versions[0].rows
        assert contents(root).rows == expected
        sweep_all(root)
        assert live_by_glob(root) == expected
        assert store.verify(root) == []
    tally.check()


@pytest.mark.tries("D10", 2_000, 200_000)
def test_a_reader_sees_one_whole_version_whatever_is_written_meanwhile(
    nursery: Nursery, folder: Path, tally: Tally
) -> None:
    each = READS_PER_STORE // READERS
    for round_ in range(-(-tally.times // READS_PER_STORE)):
        root = folder / f"{round_}"
        store.commit(root, "here", stamped(1.0))
        writer = nursery.child("commit_stamps", root, 1 << 30)
        readers = [nursery.child("read_stamps", root, each) for _ in range(READERS)]
        for reader in readers:
            tally.failures += reader.answer()
            tally.tried += each
        writer.kill()
        writer.wait()
        assert len(store.history(bars_name(root))) > 20  # it was written meanwhile
        assert store.verify(root) == []
        shutil.rmtree(root)
    tally.check()


@pytest.mark.tries("D11", 12, 1_000)
def test_a_sweep_among_writers_that_are_killed_removes_no_live_file_and_leaves_no_litter(
    nursery: Nursery, folder: Path, tally: Tally
) -> None:
    root, most_litter = folder / "store", 0
    store.commit(root, "here", stamped(1.0))
    sweep_all(root, older_than=-MINUTE)
    one_version = _bytes_of_parquet(root)
    swept = nursery.child("sweep_in_a_loop", root)
    for kill in range(tally.times):
        writers = [nursery.child("commit_stamps", root, 1 << 30) for _ in range(2)]
        time.sleep(tally.random.uniform(DURATION / 4, DURATION))
        with tally.trial(f"kill {kill}, all at work"):
            for name in (bars_name(root), trades_name(root)):
                with exclusive(name.lock):
                    _, newest = manifests.latest(name)
                    assert all((root / part.path).exists() for part in newest.live)
                    most_litter = max(most_litter, _bytes_of_parquet(root))
        for writer in writers:
            writer.kill()
            writer.wait()
        if kill % 3 == 2:
            swept.kill()
            swept.wait()
            with tally.trial(f"kill {kill}, all quiet"):
                forget()
                assert store.verify(root) == []
                rows = contents(root).rows
                assert store.read(bars_name(root))["close"].n_unique() == 1
                assert store.read(trades_name(root))["price"].n_unique() == 1
                sweep_all(root, older_than=-MINUTE)
                assert live_by_glob(root) == rows
                assert _bytes_of_parquet(root) <= 1.1 * one_version
            swept = nursery.child("sweep_in_a_loop", root)
    swept.kill()
    swept.wait()
    tally.check()
    assert most_litter < 40 * one_version


def _bytes_of_parquet(root: Path) -> int:
    total = 0
    for path in root.rglob("*.parquet"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:  # moved or swept while we looked
            continue
    return total
