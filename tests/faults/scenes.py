"""Stores as they are before a job, and the job: what faults are played into."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lab import store
from lab.nouns import Piece
from tests.faults.children import Child, Nursery
from tests.faults.small_stores import (
    MINUTE,
    MONTHS,
    bars_name,
    bars_piece,
    sweep_all,
    trades_piece,
    with_rejects,
)

FEBRUARY, MARCH, APRIL = (month + MINUTE for month in MONTHS)


@dataclass(frozen=True)
class Scene:
    """A store before (`prepare`), and a job of tests/faults/jobs.py with its arguments after the folder."""

    prepare: Callable[[Path], None]
    job: str
    arguments: tuple[object, ...] = ()

    def child(self, nursery: Nursery, root: Path) -> Child:
        """A process that does the job once it may begin."""
        return nursery.child(self.job, root, *self.arguments, wait=True)


def _nothing(_: Path) -> None:
    pass


def _bars(root: Path) -> None:
    for piece in (bars_piece("A", FEBRUARY, 5), bars_piece("A", MARCH, 5)):
        store.commit(root, "here", [piece])


def _trades(root: Path) -> None:
    for day in range(3):
        store.commit(root, "here", [trades_piece("A", MARCH + day * 24 * 60 * MINUTE, 5)])


def _damaged(root: Path) -> None:
    """A part and the newest manifest of one table are damaged, and a part of another."""
    _bars(root)
    _trades(root)
    store.commit(root, "here", [bars_piece("A", MARCH + 5 * MINUTE, 5)])
    february = next(root.glob("kind=bars/**/month=2026-02/*.parquet"))
    february.write_bytes(february.read_bytes()[:-9])
    bars_name(root).manifest(3).write_bytes(b"{")
    trades = next(root.glob("kind=trades/**/*.parquet"))
    trades.write_bytes(b"PAR1")


def _with_leftovers(root: Path) -> None:
    _bars(root)
    store.commit(root, "here", [bars_piece("A", MARCH, 5, stamp=2.0)])
    for folder in (root, root / "history", root / "quarantine"):
        stray = folder / f"kind=bars/source=here/symbol=A/interval=1m/month=2026-03/{'0' * 64}.parquet"
        stray.parent.mkdir(parents=True, exist_ok=True)
        stray.write_bytes(b"of a killed writer")


def _correction() -> list[Piece]:
    return [with_rejects(bars_piece("A", MARCH + 2 * MINUTE, 5, stamp=2.0), 2), bars_piece("A", APRIL, 5, stamp=2.0)]


COMMITS = {
    "the first bars": Scene(_nothing, "commit", ([with_rejects(bars_piece("A", MARCH, 5), 2)],)),
    "a correction": Scene(_bars, "commit", (_correction(),)),
    "a corrected day of trades": Scene(_trades, "commit", ([trades_piece("A", MARCH, 3, stamp=2.0)],)),
}
MENDING = {
    "a repair": Scene(_damaged, "repair"),
    "a sweep": Scene(_with_leftovers, "sweep"),
}


def redo(scene: Scene, root: Path) -> None:
    """The same job, undisturbed."""
    match scene.job:
        case "commit":
            store.commit(root, "here", scene.arguments[0])  # type: ignore[arg-type]
        case "repair":
            store.repair(root)
        case "sweep":
            sweep_all(root)
