"""Whatever is added, corrected, lost, mended, swept and interrupted, in any order: the store says what a dict would."""

import shutil
import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

import polars as pl
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from lab import store
from lab.errors import DamagedData, LabError, NoData
from lab.files import exclusive
from lab.nouns import Piece, Span
from lab.store import manifests, writing
from tests.archive import utc
from tests.faults.conftest import MEMORY, Tally
from tests.faults.small_stores import (
    MINUTE,
    bars,
    bars_name,
    bars_piece,
    forget,
    live_by_glob,
    sweep_all,
    trades,
    trades_name,
)

STEPS = 50  # of one history
Row = tuple[object, ...]
TURNS_OF_MONTH = (utc(2026, 3, 1), utc(2026, 4, 1))
moments = st.builds(lambda turn, minutes: turn + minutes * MINUTE, st.sampled_from(TURNS_OF_MONTH), st.integers(-9, 9))
counts = st.integers(1, 12)
stamps = st.integers(1, 4).map(float)
lengths = st.integers(0, 15).map(lambda minutes: minutes * MINUTE)


class AnyHistory(RuleBasedStateMachine):
    """A table and what it has to say: its rows by version, and the months of each origin that is done."""

    tally: Tally

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
        self.name = self.named(self.root)
        self.versions: dict[int, list[Row] | None] = {0: []}  # null where a file of it was lost
        self.done: dict[str, set[str]] = {}
        self.lost: tuple[str, list[Row]] | None = None  # a month and rows of it
        forget()

    def named(self, root: Path) -> store.TableName:
        raise NotImplementedError

    def piece(self, first: datetime, count: int, stamp: float, length: timedelta) -> Piece:
        """Rows from `first` on; where they speak for a span, it begins and ends so much earlier and later."""
        raise NotImplementedError

    def with_piece(self, rows: list[Row], piece: Piece) -> list[Row]:
        """What a table of `rows` holds once it has the piece."""
        raise NotImplementedError

    def month(self, row: Row) -> str:
        """The month whose file has a row."""
        raise NotImplementedError

    def teardown(self) -> None:
        shutil.rmtree(self.root)

    @property
    def number(self) -> int:
        return max(self.versions)

    @property
    def rows(self) -> list[Row]:
        return self.versions[self.number] or []

    def whole(self) -> bool:
        return self.lost is None

    def _add(self, piece: Piece, number: int) -> None:
        """The table has the piece; its newest version is now of that number."""
        rows = self.with_piece(self.rows, piece)
        done = {**self.done, piece.origin: {self.month(row) for row in _rows(piece)}}
        if rows != self.rows or done.keys() != self.done.keys():
            assert number == self.number + 1
        assert self.number <= number <= self.number + 1
        self.versions[number] = rows
        self.done = done

    @precondition(whole)
    @rule(first=moments, count=counts, stamp=stamps, length=lengths)
    def add(self, first: datetime, count: int, stamp: float, length: timedelta) -> None:
        """New rows, corrected ones, late ones, overlapping ones, or the same again."""
        piece = self.piece(first, count, stamp, length)
        store.commit(self.root, "here", [piece])
        self._add(piece, store.version_of(self.name))

    @precondition(whole)
    @rule(first=moments, count=counts, stamp=stamps, length=lengths)
    def crash_before_publishing(self, first: datetime, count: int, stamp: float, length: timedelta) -> None:
        with exclusive(self.name.lock):
            self._next_version(self.piece(first, count, stamp, length))

    @precondition(whole)
    @rule(first=moments, count=counts, stamp=stamps, length=lengths)
    def crash_before_tidying(self, first: datetime, count: int, stamp: float, length: timedelta) -> None:
        piece = self.piece(first, count, stamp, length)
        with exclusive(self.name.lock):
            before, after = self._next_version(piece)
            if writing._content(before) != writing._content(after):
                manifests.publish(self.name, self.number + 1, writing._signed(before, after, ""))
        self._add(piece, store.version_of(self.name))

    def _next_version(self, piece: Piece) -> tuple[manifests.Manifest, manifests.Manifest]:
        assert piece.table is not None
        _, before = manifests.latest(self.name)
        return before, writing._with_pieces(self.name, before, [(piece, piece.table)])

    @rule()
    def reopen(self) -> None:
        forget()

    @rule(days=st.sampled_from([30, -1]))
    def sweep(self, days: int) -> None:
        store.sweep(self.name, timedelta(days=days))
        if days < 0:
            self.versions = {self.number: self.versions[self.number]}
        if self.whole():
            assert live_by_glob(self.root) == ({self.name.key: self.rows} if self.rows else {})

    @precondition(whole)
    @rule(random=st.randoms(use_true_random=False), cut=st.booleans())
    def lose_a_file(self, random: Random, cut: bool) -> None:
        live = manifests.latest(self.name)[1].live
        if not live:
            return
        part = random.choice(live)
        path = self.root / part.path
        self.lost = (path.parent.name.removeprefix("month="), pl.read_parquet(path, glob=False).rows())
        for number, manifest in manifests.versions(self.name):
            if part in manifest.live and number != self.number:
                self.versions[number] = None
        path.write_bytes(path.read_bytes()[:-1]) if cut else path.unlink()
        for copy in self.name.history.glob(path.name):
            copy.unlink()
        forget()

    @rule()
    def repair(self) -> None:
        mended = store.repair(self.root)
        assert len(mended) == (0 if self.whole() else 1)
        if self.lost:
            month, gone = self.lost
            rows = [row for row in self.rows if row not in gone]
            self.versions[self.number] = None
            self.versions[self.number + 1] = rows
            self.done = {origin: months for origin, months in self.done.items() if month not in months}
            self.lost = None

    @rule(random=st.randoms(use_true_random=False))
    def read_an_older_version(self, random: Random) -> None:
        number = random.choice(sorted(self.versions))
        rows = self.versions[number]
        if rows and (number != self.number or self.whole()):
            assert store.read(self.name, version=number).rows() == rows

    @invariant()
    def it_says_what_it_has_to(self) -> None:
        self.tally.tried += 1
        assert store.version_of(self.name) == self.number
        assert [version.number for version in store.history(self.name)] == sorted({*self.versions} - {0})
        held = store.holding(self.name)
        assert (held.rows if held else 0) == len(self.rows)
        assert len(store.verify(self.root)) == (0 if self.whole() else 1)
        if not self.whole():
            with pytest.raises(DamagedData):
                store.read(self.name)
        elif not self.rows:
            with pytest.raises(NoData):
                store.read(self.name)
        else:
            assert store.read(self.name).rows() == self.rows
            assert pl.concat(list(store.batches(self.name))).rows() == self.rows
            assert store.done(self.name).keys() == self.done.keys()


class AnyHistoryOfBars(AnyHistory):
    """Bars have a key: of two of one time the newer counts."""

    def named(self, root: Path) -> store.TableName:
        return bars_name(root)

    def piece(self, first: datetime, count: int, stamp: float, length: timedelta) -> Piece:
        return Piece("A", f"from {first}", f"{count} of {stamp}", bars("A", first, count, stamp))

    def with_piece(self, rows: list[Row], piece: Piece) -> list[Row]:
        known = {row[1]: row for row in [*rows, *_rows(piece)]}
        return [known[time] for time in sorted(known)]  # type: ignore[type-var]

    def month(self, row: Row) -> str:
        return f"{row[1] - MINUTE:%Y-%m}"  # type: ignore[operator]


class AnyHistoryOfTrades(AnyHistory):
    """Trades have none: whoever delivers some speaks for a span."""

    def named(self, root: Path) -> store.TableName:
        return trades_name(root)

    def piece(self, first: datetime, count: int, stamp: float, length: timedelta) -> Piece:
        end = first + count * timedelta(seconds=1)
        span = Span(first - length, end + length) if length else None
        return Piece("A", f"from {first}", f"{count} of {stamp}", trades("A", first, count, stamp), span=span)

    def with_piece(self, rows: list[Row], piece: Piece) -> list[Row]:
        own = _rows(piece)
        start, end = own[0][1], own[-1][1] + timedelta(microseconds=1)  # type: ignore[operator]
        if piece.span:
            start, end = piece.span.start, piece.span.end
        kept = [row for row in rows if not start <= row[1] < end]  # type: ignore[operator]
        return sorted([*kept, *own], key=lambda row: row[1])  # type: ignore[arg-type,return-value]

    def month(self, row: Row) -> str:
        return f"{row[1]:%Y-%m}"


def _rows(piece: Piece) -> list[Row]:
    assert piece.table is not None
    return piece.table.frame.rows()


@pytest.mark.tries("D13", 1_000, 25_000)
@pytest.mark.parametrize("history", [AnyHistoryOfBars, AnyHistoryOfTrades])
def test_after_any_history_a_table_says_what_a_dict_would(tally: Tally, history: type[AnyHistory]) -> None:
    history.tally = tally
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        history,
        settings=settings(
            max_examples=-(-tally.times // STEPS),
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            derandomize=not tally.many,
            suppress_health_check=list(HealthCheck),
        ),
    )
    tally.check()


def test_a_new_column_is_recorded_and_the_old_rows_stay_readable(folder: Path) -> None:
    store.commit(folder, "here", [bars_piece("A", TURNS_OF_MONTH[0] + MINUTE, 3)])
    store.commit(folder, "here", [bars_piece("A", TURNS_OF_MONTH[1] + MINUTE, 3, trades=4.0)])
    store.commit(folder, "here", [bars_piece("A", TURNS_OF_MONTH[1] + 4 * MINUTE, 3)])
    assert [version.change.widened for version in store.history(bars_name(folder))] == [(), ("trades",), ()]
    read = store.read(bars_name(folder))
    assert read.height == 9
    assert "trades" not in read.columns  # the rows of March have no place for it
    april = store.read(bars_name(folder), Span(TURNS_OF_MONTH[1] + MINUTE, TURNS_OF_MONTH[1] + 9 * MINUTE))
    assert april["trades"].to_list() == [4.0] * 3 + [None] * 3


def test_a_column_that_no_such_table_has_is_refused(folder: Path) -> None:
    table = trades("A", TURNS_OF_MONTH[0], 3)
    strange = type(table)("trades", table.frame.with_columns(colour=pl.lit("red")))
    with pytest.raises(LabError, match="colour"):
        store.commit(folder, "here", [Piece("A", "origin", "digest", strange)])
    sweep_all(folder)
    assert live_by_glob(folder) == {}
