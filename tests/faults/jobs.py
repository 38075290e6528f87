"""What children do to a store (tests/faults/children.py).

Nothing here may run when it is imported: polars would start its threads, and a process with threads cannot fork.
"""

import mmap
import os
import resource
import signal
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pyarrow.parquet  # type: ignore[import-untyped]  # noqa: F401 - what the store imports late, once for all children

from lab import store
from lab.errors import LabError
from lab.files import append_line, publish_once
from lab.nouns import Piece
from lab.store import writing
from lab.store.layout import TableName, table_names
from tests.faults.small_stores import MINUTE, MONTHS, bars_piece, sweep_all, trades_piece, with_rejects

UTC = ZoneInfo("UTC")  # polars asks for it when it shows a time; it is read from a file


class InTurn(Executor):
    """Does at once what it is given, so that the n-th system call of a commit is the same every time."""

    def submit(self, work: Any, /, *arguments: Any, **named: Any) -> "Future[Any]":
        done: Future[Any] = Future()
        done.set_result(work(*arguments, **named))
        return done


def commit(root: Path, pieces: list[Piece]) -> None:
    writing.ThreadPoolExecutor = InTurn  # type: ignore[misc,assignment]
    store.commit(root, "here", pieces)


def repair(root: Path) -> None:
    store.repair(root)


def sweep(root: Path) -> None:
    sweep_all(root)


def commit_in_a_loop(root: Path, journal: Path, first: int) -> None:
    """Commit a bar and a trade at a time; each number is in the journal once it is committed."""
    with journal.open("a", buffering=1) as lines:
        for n in range(first, 1 << 30):
            store.commit(root, "here", [nth_bar(n)])
            lines.write(f"bars {n}\n")
            store.commit(root, "here", [nth_trade(n)])
            lines.write(f"trades {n}\n")


def nth_bar(n: int) -> Piece:
    """A bar of one of three months in turn, stamped with its number."""
    return bars_piece("A", MONTHS[n % 3] + (n + 1) * MINUTE, 1, 1.0 + n)


def nth_trade(n: int) -> Piece:
    """Three trades of a day of their own."""
    return trades_piece("A", MONTHS[0] + 24 * 60 * n * MINUTE, 3, 1.0 + n)


def commit_within(root: Path, pieces: list[Piece], more: int) -> None:
    """Commit with so many more bytes of address space than the process has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    store.commit(root, "here", pieces)


def commit_with_small_files(root: Path, pieces: list[Piece], most_bytes: int) -> None:
    with _small_files(most_bytes):
        store.commit(root, "here", pieces)


def append_with_small_files(path: Path, line: str, most_bytes: int) -> None:
    with _small_files(most_bytes):
        append_line(path, line)


@contextmanager
def _small_files(most_bytes: int) -> Iterator[None]:
    """No file may become larger."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


_DAY = 24 * 60 * MINUTE
STEPS = 8


def pieces_of_step(step: int) -> list[Piece]:
    """What is committed at a step of a small store's life; nothing is a sweep."""
    _, march, april = (month + MINUTE for month in MONTHS)
    match step:
        case 0:
            return [with_rejects(bars_piece("A", march - 3 * MINUTE, 5), 2)]
        case 1:
            return [trades_piece("A", march, 3)]
        case 2:
            return [bars_piece("A", march + MINUTE, 5, 2.0), bars_piece("A", april, 3, 2.0)]
        case 3:
            return [trades_piece("A", march, 3, 2.0), trades_piece("A", march + _DAY, 3, 2.0)]
        case 5:
            return [bars_piece("A", march + MINUTE, 5, 3.0)]
        case 6:
            return [bars_piece("A", march + MINUTE, 5, 2.0)]
        case _:
            return []


def take_step(root: Path, step: int) -> None:
    writing.ThreadPoolExecutor = InTurn  # type: ignore[misc,assignment]
    if pieces := pieces_of_step(step):
        store.commit(root, "here", pieces)
    else:
        sweep_all(root, older_than=-MINUTE)


def take_steps(root: Path, journal: Path, first: int) -> None:
    """Take the steps from `first` on; each is in the journal once it is taken."""
    with journal.open("ab", buffering=0) as lines:
        for step in range(first, STEPS):
            take_step(root, step)
            lines.write(f"{step}\n".encode())


def read_within(root: Path, most_bytes: int) -> tuple[str, int]:
    """What comes of reading and mending a store in so much address space, and the most memory that it took."""
    resource.setrlimit(resource.RLIMIT_AS, (most_bytes, most_bytes))
    said = []
    for name in table_names(root):
        try:
            said.append(f"{store.read(name).height} rows")
        except LabError as refused:
            said.append(refused.problem)
    name.manifest(1).write_bytes(b"{")
    said += [each.done for each in store.repair(root)]
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return "; ".join(said), int(peak.split()[1]) << 10


def publish_in_step(folder: Path, steps: Path, me: int, count: int) -> list[int]:
    """Try to publish every number at the same moment as all others who share `steps`; those that were won."""
    won = []
    with steps.open("r+b") as file, mmap.mmap(file.fileno(), 0) as shared, memoryview(shared) as raw:
        at = raw.cast("q")
        for n in range(1, count + 1):
            at[me] = n
            while min(at) < n:
                os.sched_yield()
            with suppress(LabError):
                publish_once(folder / f"{n:06}.json", f"{me}".encode())
                won.append(n)
        at[me] = count + 1
        at.release()
    return won


def commit_own_minutes(root: Path, me: int, of: int, count: int) -> None:
    """Commit every `of`-th bar and day of trades, from `me` on, each by itself."""
    for n in range(me, count * of, of):
        store.commit(root, "here", [nth_bar(n)])
        store.commit(root, "here", [nth_trade(n)])


def commit_stamps(root: Path, count: int) -> None:
    """Commit the same bars and trades of three months with another stamp, again and again."""
    for stamp in range(1, count + 1):
        store.commit(root, "here", stamped(float(stamp)))


def stamped(stamp: float) -> list[Piece]:
    bars = [bars_piece("A", month + MINUTE, 3, stamp) for month in MONTHS]
    return [*bars, *(trades_piece("A", month, 3, stamp) for month in MONTHS)]


def read_stamps(root: Path, count: int) -> list[str]:
    """Read `count` times in three ways; what was wrong with what was seen."""
    wrong = []
    bars, trades = TableName(root, "here", "A", "1m"), TableName(root, "here", "A", "events", "trades")
    newest = {bars: 0.0, trades: 0.0}
    for n in range(count):
        name = bars if n % 3 == 0 else trades
        rows = store.read(name) if n % 3 < 2 else pl.concat(list(store.batches(name)))
        seen = rows["close" if name is bars else "price"].to_list()
        if len(seen) != 9 or len(set(seen)) != 1 or seen[0] < newest[name]:
            wrong.append(f"{n}: {seen} after {newest[name]}")
        newest[name] = max(seen)
    return wrong


def sweep_in_a_loop(root: Path) -> None:
    while True:
        sweep_all(root, older_than=-MINUTE)
