"""The store: what was committed is there, whole, once; and damage is always seen."""

import hashlib
import itertools
import json
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from io import BytesIO
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow.dataset  # type: ignore[import-untyped]
import pytest

from lab import store
from lab.errors import DamagedData, LabError, NoData, UnknownName, UsageError
from lab.files import publish_once, write_atomically
from lab.nouns import Bars, Calendar, Piece, Span, Table
from tests.archive import utc

MINUTE = timedelta(minutes=1)
MARCH = utc(2026, 3, 1, 0, 1)  # the close of the month's first bar


def bars_of(symbol: str, first_close: datetime, count: int, price: float = 100.0, **more: float) -> Bars:
    close = price + np.arange(count) % 7
    frame = pl.DataFrame(
        {
            "symbol": [symbol] * count,
            "time": [first_close + n * MINUTE for n in range(count)],
            "open": close,
            "high": close + 1,
            "low": close - 1,
            "close": close,
            "volume": close * 2,
        }
    )
    return Bars.of(frame.with_columns(pl.lit(value).alias(name) for name, value in more.items()), "1m")


def name_of(root: Path, symbol: str = "A") -> store.TableName:
    return store.TableName(root, "here", symbol, "1m")


def piece_of(bars: Bars, origin: str = "somewhere") -> Piece:
    return Piece(bars.symbols[0], origin, f"digest of {origin}", bars)


def files_of(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def live_files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in parts_of(root)}


def parts_of(root: Path) -> list[Path]:
    return sorted(root.glob("kind=bars/**/*.parquet"))


def test_what_is_committed_is_read_back_to_the_bit(tmp_path: Path) -> None:
    b = bars_of("B", MARCH, 5, buy_volume=1.5, trades=3.0)
    a = bars_of("A", MARCH, 3, buy_volume=0.1, quote_volume=7.0, trades=1.0)
    store.commit(tmp_path, "here", [piece_of(b)])
    store.commit(tmp_path, "here", [piece_of(a)])
    read = store.read_bars(tmp_path, "here", ["B", "A", "B"], "1m")
    shared = a.frame.drop("quote_volume").select(b.frame.columns)
    assert read.frame.equals(pl.concat([shared, b.frame]))
    assert (read.interval, read.calendar, read.symbols) == ("1m", "continuous", ["A", "B"])


def test_a_bar_belongs_to_the_month_that_it_opened_in(tmp_path: Path) -> None:
    store.commit(tmp_path, "here", [piece_of(bars_of("A", utc(2026, 3, 31, 23, 59), 3))])
    months = {path.parent.name: pl.read_parquet(path)["time"].to_list() for path in parts_of(tmp_path)}
    assert months == {
        "month=2026-03": [utc(2026, 3, 31, 23, 59), utc(2026, 4, 1)],
        "month=2026-04": [utc(2026, 4, 1, 0, 1)],
    }


def test_a_span_selects_closes_half_open(tmp_path: Path) -> None:
    store.commit(tmp_path, "here", [piece_of(bars_of("A", MARCH - 3 * MINUTE, 10))])
    read = store.read_bars(tmp_path, "here", ["A"], "1m", Span(MARCH, MARCH + 3 * MINUTE))
    assert read.frame["time"].to_list() == [MARCH, MARCH + MINUTE, MARCH + 2 * MINUTE]


def test_no_data_names_what_is_there_and_what_to_type(tmp_path: Path) -> None:
    store.commit(tmp_path, "here", [piece_of(bars_of("A", MARCH, 10))])
    with pytest.raises(NoData) as none:
        store.read_bars(tmp_path, "binance", ["A"], "5m", Span(utc(2026, 5, 1), utc(2026, 5, 2, 7)))
    assert none.value.problem == (
        "the store has no 5m bars of A from binance between 2026-05-01 00:00 and 2026-05-02 07:00"
        " (it has 1m bars from here, 2026-03-01 to 2026-03-01)"
    )
    assert none.value.fix == "lab fetch A --source binance --interval 5m --start 2026-04-30 --end 2026-05-03"
    with pytest.raises(NoData, match="nothing of that symbol"):
        store.read_bars(tmp_path, "here", ["A", "B"], "1m")


def test_rows_replace_those_of_the_same_time_and_keep_the_rest(tmp_path: Path) -> None:
    store.commit(tmp_path, "here", [piece_of(bars_of("A", MARCH, 10, price=100), "first")])
    store.commit(tmp_path, "here", [piece_of(bars_of("A", MARCH + 5 * MINUTE, 10, price=200, trades=4.0), "second")])
    read = store.read_bars(tmp_path, "here", ["A"], "1m").frame
    assert read["time"].to_list() == [MARCH + n * MINUTE for n in range(15)]
    assert read["close"].to_list() == [*(100.0 + n for n in range(5)), *(200.0 + n % 7 for n in range(10))]
    assert read["trades"].to_list() == [None] * 5 + [4.0] * 10
    assert store.done(name_of(tmp_path)) == {
        "first": "digest of first",
        "second": "digest of second",
    }


def test_the_order_of_commits_does_not_show_in_the_files(tmp_path: Path) -> None:
    pieces = [piece_of(bars_of("A", MARCH + n * 10 * MINUTE, 10), f"part {n}") for n in range(6)]
    for piece in pieces:
        store.commit(tmp_path / "forward", "here", [piece])
    for piece in reversed(pieces):
        store.commit(tmp_path / "backward", "here", [piece])
    assert live_files(tmp_path / "forward") == live_files(tmp_path / "backward")
    assert len(live_files(tmp_path / "forward")) == 1


def test_committing_the_same_piece_again_changes_nothing(tmp_path: Path) -> None:
    piece = piece_of(bars_of("A", MARCH, 10))
    store.commit(tmp_path, "here", [piece])
    before = files_of(tmp_path)
    store.commit(tmp_path, "here", [piece])
    assert files_of(tmp_path) == before
    assert [name.rsplit("/", 1)[-1] for name in before if "_log" in name] == ["000001.json", "lock"]


def test_a_piece_without_bars_changes_nothing(tmp_path: Path) -> None:
    store.commit(tmp_path, "here", [Piece("A", "absent", "", None)])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "symbol", ["1INCH", "600519", "005930", "NAN", "nan", "inf", "Infinity", "epoch", "2024-01-01"]
)
def test_a_plain_glob_reads_exactly_the_live_rows_and_the_symbol_as_text(tmp_path: Path, symbol: str) -> None:
    for day in range(3):  # each commit supersedes the file of the month
        store.commit(tmp_path, "here", [piece_of(bars_of(symbol, MARCH + timedelta(days=day), 10), f"day {day}")])
    store.commit(tmp_path, "here", [piece_of(bars_of(symbol, utc(2026, 4, 2), 10), "April")])
    expected = [(symbol, MARCH + timedelta(days=d) + n * MINUTE) for d in range(3) for n in range(10)]
    expected += [(symbol, utc(2026, 4, 2) + n * MINUTE) for n in range(10)]
    plain = str(tmp_path / "kind=bars/**/*.parquet")
    paths = [str(path) for path in parts_of(tmp_path)]
    read = {
        "polars": pl.read_parquet(plain),
        "polars with keys": pl.read_parquet(plain, hive_partitioning=True),
        "duckdb": duckdb.sql(f"from '{plain}'").pl(),  # type: ignore[union-attr]
        "pyarrow": pl.from_arrow(pyarrow.dataset.dataset(paths).to_table()),
    }
    for engine, frame in read.items():
        assert isinstance(frame, pl.DataFrame)
        assert frame.schema["symbol"] == pl.String, engine
        assert frame.select("symbol", "time").sort("time").rows() == expected, engine
    assert set(read["duckdb"]["month"]) == {"2026-03", "2026-04"}
    assert store.read_bars(tmp_path, "here", [symbol], "1m").frame.height == 40
    assert [held.symbol for held in store.tables(tmp_path)] == [symbol]


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "/etc", "a\\b", ".hidden", "x" * 33, "a b", "a\n", "é", "a\0"]
)
def test_a_name_that_could_leave_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    piece = Piece(name, "origin", "digest", bars_of("A", MARCH, 1))
    for attempt in (
        lambda: store.commit(tmp_path, "here", [piece]),
        lambda: store.commit(tmp_path, name, [piece_of(bars_of("A", MARCH, 1))]),
        lambda: store.read_bars(tmp_path, "here", [name], "1m"),
        lambda: store.done(store.TableName(tmp_path, name, "A", "1m")),
        lambda: store.sweep(store.TableName(tmp_path, "here", name, "1m")),
    ):
        with pytest.raises(UsageError, match=r"cannot be the name of a (symbol|source)"):
            attempt()
    with pytest.raises(UnknownName, match="interval"):
        store.done(store.TableName(tmp_path, "here", "A", name))
    assert list(tmp_path.iterdir()) == []


def test_every_one_of_200_changed_bytes_is_detected(tmp_path: Path) -> None:
    store.commit(tmp_path, "here", [piece_of(bars_of("A", utc(2026, 3, 31, 20), 600))])
    random = np.random.default_rng(7)
    parts = parts_of(tmp_path)
    assert len(parts) == 2
    detected = 0
    for n in range(200):
        path = parts[n % 2]
        whole = path.read_bytes()
        damaged = bytearray(whole)
        damaged[random.integers(len(whole))] ^= 1 << random.integers(8)
        path.write_bytes(damaged)
        with pytest.raises(DamagedData, match=path.name):
            store.read_bars(tmp_path, "here", ["A"], "1m")
        assert [path.name in damage.problem for damage in store.verify(tmp_path)] == [True]
        path.write_bytes(whole)
        detected += 1
    assert detected == 200
    assert store.verify(tmp_path) == []


@pytest.mark.parametrize("harm", ["missing", "empty", "cut", "swapped"])
def test_a_damaged_part_is_named_with_the_fetch_that_mends_it(tmp_path: Path, harm: str) -> None:
    pieces = [piece_of(bars_of("A", MARCH, 30), "March"), piece_of(bars_of("A", utc(2026, 4, 1, 1), 30), "April")]
    for piece in pieces:
        store.commit(tmp_path, "here", [piece])
    before = live_files(tmp_path)
    march, april = parts_of(tmp_path)
    match harm:
        case "missing":
            march.unlink()
        case "empty":
            march.write_bytes(b"")
        case "cut":
            march.write_bytes(march.read_bytes()[:-1])
        case "swapped":
            march.write_bytes(april.read_bytes())
    with pytest.raises(DamagedData, match=march.name) as damage:
        store.read_bars(tmp_path, "here", ["A"], "1m")
    assert damage.value.fix == (
        "lab data repair, then lab fetch A --source here --interval 1m --start 2026-03-01 --end 2026-04-01"
    )
    assert [found.problem for found in store.verify(tmp_path)] == [damage.value.problem]
    assert store.read_bars(tmp_path, "here", ["A"], "1m", Span(utc(2026, 4, 1), utc(2026, 5, 1))).frame.height == 30
    (mended,) = store.repair(tmp_path)
    assert (mended.table, mended.fix) == ("1m bars of A from here", damage.value.fix)
    assert store.verify(tmp_path) == []
    assert store.repair(tmp_path) == []
    assert store.done(name_of(tmp_path)) == {"April": "digest of April"}
    assert store.read_bars(tmp_path, "here", ["A"], "1m").frame.height == 30
    set_aside = list(tmp_path.rglob("*.damaged"))
    assert len(set_aside) == (0 if harm == "missing" else 1)
    store.commit(tmp_path, "here", [pieces[0]])
    assert store.verify(tmp_path) == []
    assert live_files(tmp_path) == before
    assert store.done(name_of(tmp_path)).keys() == {"March", "April"}


def test_what_else_was_in_a_damaged_month_is_no_longer_done(tmp_path: Path) -> None:
    days = [piece_of(bars_of("A", MARCH + timedelta(days=n), 10), f"day {n}") for n in range(3)]
    for day in days:
        store.commit(tmp_path, "here", [day])
    parts_of(tmp_path)[0].write_bytes(b"nonsense")
    assert store.done(name_of(tmp_path)) == {}
    store.commit(tmp_path, "here", [days[1]])
    assert store.done(name_of(tmp_path)).keys() == {"day 1"}
    assert store.read_bars(tmp_path, "here", ["A"], "1m").frame.equals(days[1].table.frame)  # type: ignore[union-attr]


def test_every_changed_byte_of_a_manifest_is_detected_or_harmless(tmp_path: Path) -> None:
    store.commit(tmp_path, "here", [piece_of(bars_of("A", MARCH, 10))])
    (manifest,) = tmp_path.rglob("*.json")
    whole, bars = manifest.read_bytes(), store.read_bars(tmp_path, "here", ["A"], "1m")
    detected = 0
    for position in range(0, len(whole), 3):
        manifest.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        damage = store.verify(tmp_path)
        if damage:  # a changed blank is no damage
            assert str(manifest) in damage[0].problem
            with pytest.raises(DamagedData, match=r"000001\.json"):
                store.commit(tmp_path, "here", [piece_of(bars_of("A", MARCH, 20))])
            detected += 1
        else:
            assert store.read_bars(tmp_path, "here", ["A"], "1m").digest == bars.digest
    assert detected > len(whole) / 3 * 0.6


def test_rejected_rows_are_kept_with_their_reason_and_counted(tmp_path: Path) -> None:
    rejected = pl.DataFrame({"time": [MARCH], "close": [-1.0], "fault": ["a price is zero or below"]})
    bars = bars_of("A", MARCH, 10)
    store.commit(tmp_path, "here", [Piece("A", "first", "d", bars, rejected)])
    store.commit(tmp_path, "here", [Piece("A", "second", "d", bars, rejected.vstack(rejected))])
    assert store.tables(tmp_path)[0].rejected == 3
    kept = pl.read_parquet(tmp_path / "quarantine/kind=bars/source=here/symbol=A/interval=1m/*.parquet")
    assert kept["origin"].value_counts().sort("origin").rows() == [("first", 1), ("second", 2)]
    assert set(kept["fault"]) == {"a price is zero or below"}
    store.commit(tmp_path, "here", [Piece("A", "second", "corrected", bars)])
    assert store.tables(tmp_path)[0].rejected == 1
    store.sweep(name_of(tmp_path), timedelta(0))
    assert len(list(tmp_path.rglob("quarantine/**/*.parquet"))) == 1
    next(iter(tmp_path.rglob("quarantine/**/*.parquet"))).write_bytes(b"x")
    assert len(store.verify(tmp_path)) == 1
    assert store.done(name_of(tmp_path)).keys() == {"second"}


def test_holdings_say_what_there_is(tmp_path: Path) -> None:
    assert store.tables(tmp_path) == []
    bars = bars_of("A", utc(2026, 3, 31, 23, 59), 3)
    store.commit(tmp_path, "here", [piece_of(bars)])
    size = sum(path.stat().st_size for path in parts_of(tmp_path))
    first, last = bars.frame["time"][0], bars.frame["time"][-1]
    expected = store.Holding("here", "A", "bars", "1m", "continuous", first, last, 3, 0, 0, 0, 0, size, 1)
    assert store.tables(tmp_path) == [expected]
    assert store.holding(name_of(tmp_path)) == expected
    assert store.holding(store.TableName(tmp_path, "here", "B", "1m")) is None


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        ("weekdays", "weekdays", "weekdays"),
        ("weekdays", "continuous", "continuous"),
        ("continuous", "weekdays", "continuous"),
    ],
)
def test_a_table_that_once_traded_at_a_weekend_trades_round_the_clock(
    tmp_path: Path, first: Calendar, second: Calendar, together: Calendar
) -> None:
    for n, calendar in enumerate((first, second)):
        bars = bars_of("A", MARCH + timedelta(days=n), 3)
        store.commit(tmp_path, "here", [Piece("A", f"{n}", "d", Bars(bars.frame, "1m", calendar))])
    assert store.tables(tmp_path)[0].calendar == together
    assert store.read_bars(tmp_path, "here", ["A"], "1m").calendar == together


def test_symbols_of_different_calendars_are_not_read_together(tmp_path: Path) -> None:
    store.commit(tmp_path, "here", [piece_of(bars_of("A", MARCH, 3))])
    store.commit(tmp_path, "here", [Piece("B", "o", "d", Bars(bars_of("B", MARCH, 3).frame, "1m", "weekdays"))])
    with pytest.raises(UsageError, match="A, B do not trade on the same days"):
        store.read_bars(tmp_path, "here", ["A", "B"], "1m")


def test_leftovers_of_a_killed_writer_are_swept(tmp_path: Path) -> None:
    store.commit(tmp_path, "here", [piece_of(bars_of("A", MARCH, 10))])
    before = files_of(tmp_path)
    (part,) = parts_of(tmp_path)
    part.with_name(f".{part.name}.12-ab.tmp").write_bytes(b"half")
    part.with_name(f"{'0' * 64}.parquet").write_bytes(b"never published")
    (part.parents[1] / "_log/000000.json").write_bytes(b"{}")
    quarantine = tmp_path / "quarantine" / part.parents[1].relative_to(tmp_path)
    quarantine.mkdir(parents=True)
    (quarantine / "x.parquet").write_bytes(b"never published")
    store.sweep(name_of(tmp_path))
    assert files_of(tmp_path) == before


def commit_every_other_minute(root: Path, offset: int, count: int) -> None:
    for n in range(count):
        minute = MARCH + (2 * n + offset) * MINUTE
        store.commit(root, "here", [piece_of(bars_of("A", minute, 1), f"{minute}")])


def test_two_writers_in_lock_step_lose_nothing(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    count = 30
    writers = [spawn.Process(target=commit_every_other_minute, args=(tmp_path, n, count)) for n in range(2)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):  # a reader meanwhile always sees a whole version
        time.sleep(0.01)
        if held := store.holding(name_of(tmp_path)):
            assert store.read_bars(tmp_path, "here", ["A"], "1m").frame.height >= held.rows
    assert [writer.exitcode for writer in writers] == [0, 0]
    read = store.read_bars(tmp_path, "here", ["A"], "1m").frame
    assert read["time"].to_list() == [MARCH + n * MINUTE for n in range(2 * count)]
    assert len(store.done(name_of(tmp_path))) == 2 * count
    assert [version.rows for version in store.history(name_of(tmp_path))] == list(range(1, 2 * count + 1))
    assert len(parts_of(tmp_path)) == 1


def test_a_reader_overtaken_by_a_writer_reads_the_version_that_it_began_with(tmp_path: Path) -> None:
    for month in range(1, 4):
        store.commit(tmp_path, "here", [piece_of(bars_of("A", utc(2026, month, 1, 1), 10), f"month {month}")])
    batches = store.batches(name_of(tmp_path))
    rows = [next(batches)]
    store.commit(tmp_path, "here", [piece_of(bars_of("A", utc(2026, 3, 1, 1), 20, price=200), "new month 3")])
    rows += batches
    assert pl.concat(rows)["close"].to_list() == [100.0 + n % 7 for n in range(10)] * 3


# ── versions ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_late_and_corrected_rows_make_a_version_and_the_old_one_stays_readable(tmp_path: Path) -> None:
    store.commit(tmp_path, "here", [piece_of(bars_of("A", MARCH, 10), "first")], "lab fetch A")
    late = bars_of("A", MARCH + 5 * MINUTE, 10, price=200, trades=4.0)
    store.commit(tmp_path, "here", [piece_of(late, "second")], "lab fetch A --refresh")
    name = name_of(tmp_path)
    assert [(v.number, v.rows, v.added) for v in store.history(name)] == [(1, 10, 10), (2, 15, 5)]
    assert [(v.change.origins, v.change.widened, v.change.command) for v in store.history(name)] == [
        (("first",), (), "lab fetch A"),
        (("second",), ("trades",), "lab fetch A --refresh"),
    ]
    assert all("@" in v.change.by and v.change.at.year >= 2026 for v in store.history(name))
    old = store.read_bars(tmp_path, "here", ["A"], "1m", at={"A": 1})
    assert old.frame.equals(bars_of("A", MARCH, 10).frame)
    assert duckdb.sql(f"select count(*) from '{tmp_path}/kind=bars/**/*.parquet'").fetchall() == [(15,)]

    store.sweep(name)  # superseded just now, so it stays
    assert store.read_bars(tmp_path, "here", ["A"], "1m", at={"A": 1}).frame.equals(old.frame)
    assert store.sweep(name, timedelta(0)) > 0
    with pytest.raises(DamagedData, match=r"000001\.json"):
        store.read_bars(tmp_path, "here", ["A"], "1m", at={"A": 1})
    assert [v.number for v in store.history(name)] == [2]
    assert list((tmp_path / "history").rglob("*.parquet")) == []
    assert store.read_bars(tmp_path, "here", ["A"], "1m").frame.height == 15


def test_rows_that_come_back_are_live_again_and_nothing_is_kept_twice(tmp_path: Path) -> None:
    first, other = bars_of("A", MARCH, 10), bars_of("A", MARCH, 10, price=200)
    for n, bars in enumerate((first, other, first)):
        store.commit(tmp_path, "here", [piece_of(bars, f"{n}")])
    assert store.read_bars(tmp_path, "here", ["A"], "1m").frame.equals(first.frame)
    store.sweep(name_of(tmp_path))
    assert len(parts_of(tmp_path)) == 1
    assert [path.stem for path in (tmp_path / "history").rglob("*.parquet")] != [parts_of(tmp_path)[0].stem]
    for number, bars in ((1, first), (2, other), (3, first)):
        assert store.read_bars(tmp_path, "here", ["A"], "1m", at={"A": number}).frame.equals(bars.frame)


def test_of_a_table_with_a_damaged_manifest_no_row_is_lost(tmp_path: Path) -> None:
    for n in range(2):
        store.commit(tmp_path, "here", [piece_of(bars_of("A", MARCH + timedelta(days=n), 10), f"day {n}")])
    before = store.read_bars(tmp_path, "here", ["A"], "1m").frame
    name_of(tmp_path).manifest(2).write_bytes(b"{")
    with pytest.raises(DamagedData, match=r"000002\.json"):
        store.read_bars(tmp_path, "here", ["A"], "1m")
    assert len(store.repair(tmp_path)) == 1
    assert store.verify(tmp_path) == []
    assert store.done(name_of(tmp_path)).keys() == {"day 0"}  # nobody knows whether day 1 is all there
    assert store.read_bars(tmp_path, "here", ["A"], "1m").frame.equals(before)


def test_without_any_whole_manifest_the_whole_files_count(tmp_path: Path) -> None:
    bars = bars_of("A", utc(2026, 3, 31, 23), 120)
    store.commit(tmp_path, "here", [piece_of(bars)])
    name_of(tmp_path).manifest(1).write_bytes(b"{")
    assert len(store.repair(tmp_path)) == 1
    assert store.read_bars(tmp_path, "here", ["A"], "1m").frame.equals(bars.frame)
    assert store.done(name_of(tmp_path)) == {}


def test_a_store_of_lab_0_1_reads_as_it_did(tmp_path: Path) -> None:
    bars = bars_of("A", MARCH, 10)
    rejected = pl.DataFrame({"time": [MARCH], "close": [-1.0], "fault": ["a price is zero or below"]})
    store.commit(tmp_path, "here", [Piece("A", "somewhere", "d", bars, rejected)])
    (tmp_path / "quarantine/kind=bars/source=here").rename(tmp_path / "quarantine/source=here")
    manifest = name_of(tmp_path).manifest(1)
    table = json.loads(manifest.read_bytes().replace(b"quarantine/kind=bars/", b"quarantine/"))["table"]
    (month, (part,)) = next(iter(table["parts"].items()))
    old = {"calendar": "weekdays", "parts": {month: part}, "origins": table["origins"]}
    sha256 = hashlib.sha256(json.dumps(old, sort_keys=True).encode()).hexdigest()
    manifest.write_text(json.dumps({"sha256": sha256, "table": old}))
    read = store.read_bars(tmp_path, "here", ["A"], "1m")
    assert (read.calendar, read.frame.equals(bars.frame)) == ("weekdays", True)
    assert store.verify(tmp_path) == []
    assert store.tables(tmp_path)[0].rejected == 1
    assert store.rejected(name_of(tmp_path))[0]["fault"].to_list() == ["a price is zero or below"]
    newer = {"format": 99, "sha256": sha256, "table": old}
    manifest.write_text(json.dumps(newer) + " ")
    with pytest.raises(DamagedData, match="format 99, of a newer lab"):
        store.read_bars(tmp_path, "here", ["A"], "1m")


# ── events ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def trades_of(first: datetime, count: int, price: float = 100.0, every: timedelta = timedelta(seconds=1)) -> Table:
    frame = pl.DataFrame(
        {
            "symbol": ["A"] * count,
            "time": pl.Series([first + n * every for n in range(count)]).cast(pl.Datetime("us", "UTC")),
            "price": [price + n for n in range(count)],
            "size": [1.0] * count,
            "side": pl.Series([1, -1] * (count // 2) + [1] * (count % 2), dtype=pl.Int8),
        }
    )
    return Table("trades", frame)


def trades_name(root: Path) -> store.TableName:
    return store.TableName(root, "here", "A", "events", "trades")


def test_a_piece_of_events_replaces_what_its_span_held_and_nothing_else(tmp_path: Path) -> None:
    day = timedelta(days=1)
    days = [Span(utc(2026, 3, n), utc(2026, 3, n) + day) for n in (30, 31)] + [Span(utc(2026, 4, 1), utc(2026, 4, 2))]
    tables = [trades_of(span.start, 86_400, price=n * 1e6) for n, span in enumerate(days)]
    for span, table in zip(days, tables, strict=True):
        store.commit(tmp_path, "here", [Piece("A", f"{span.start}", "d", table, span=span)])
    corrected = trades_of(days[1].start, 1000, price=5e6)
    store.commit(tmp_path, "here", [Piece("A", f"{days[1].start}", "corrected", corrected, span=days[1])])
    expected = pl.concat([tables[0].frame, corrected.frame, tables[2].frame])
    assert store.read(trades_name(tmp_path)).equals(expected)
    assert pl.concat(list(store.batches(trades_name(tmp_path)))).equals(expected)
    span = Span(utc(2026, 3, 31), utc(2026, 3, 31, 0, 0, 10))
    assert store.read(trades_name(tmp_path), span)["price"].to_list() == [5e6 + n for n in range(10)]
    held = store.holding(trades_name(tmp_path))
    assert held is not None and (held.kind, held.rows, held.missing) == ("trades", 173_800, None)
    origins, _ = store.origins(trades_name(tmp_path))
    assert origins[f"{days[1].start}"].until == days[1].end


def test_large_files_of_events_are_not_written_again_for_what_follows(tmp_path: Path) -> None:
    large = trades_of(MARCH, 1 << 20, every=timedelta(milliseconds=1))
    store.commit(tmp_path, "here", [Piece("A", "large", "d", large)])
    (first,) = tmp_path.glob("kind=trades/**/*.parquet")
    for n in range(3):
        later = trades_of(MARCH + timedelta(hours=1 + n), 10)
        store.commit(tmp_path, "here", [Piece("A", f"{n}", "d", later)])
    parts = list(tmp_path.glob("kind=trades/**/*.parquet"))
    assert first in parts
    assert len(parts) == 2
    assert store.read(trades_name(tmp_path)).height == (1 << 20) + 30


def test_what_a_source_does_not_have_is_not_asked_for_again_at_once(tmp_path: Path) -> None:
    store.note_absent(name_of(tmp_path), ["2 March"])
    assert list(tmp_path.iterdir()) == []  # nothing is kept of a table that does not exist
    store.commit(tmp_path, "here", [piece_of(bars_of("A", MARCH, 10), "1 March")])
    store.note_absent(name_of(tmp_path), ["2 March"])
    assert store.done(name_of(tmp_path)) == {"1 March": "digest of 1 March", "2 March": ""}
    store.commit(tmp_path, "here", [piece_of(bars_of("A", MARCH + timedelta(days=1), 10), "2 March")])
    assert store.done(name_of(tmp_path))["2 March"] == "digest of 2 March"
    assert store.origins(name_of(tmp_path))[1] == {}


def test_pieces_are_committed_together_but_handed_on_one_by_one(tmp_path: Path) -> None:
    pieces = [piece_of(bars_of("A", MARCH + timedelta(days=n), 10), f"day {n}") for n in range(20)]
    handed = []
    for piece in store.commit_as_they_come(tmp_path, "here", iter(pieces)):
        handed.append(piece)
        assert piece.origin in store.done(name_of(tmp_path))
    assert handed == pieces
    assert 1 <= len(store.history(name_of(tmp_path))) <= 20


def test_what_had_come_before_trouble_is_stored(tmp_path: Path) -> None:
    def troubled() -> Iterator[Piece]:
        for n in range(5):
            yield piece_of(bars_of("A", MARCH + timedelta(days=n), 10), f"day {n}")
        raise NoData("the line is dead", fix="wait")

    with pytest.raises(NoData, match="the line is dead"):
        list(store.commit_as_they_come(tmp_path, "here", troubled()))
    assert len(store.done(name_of(tmp_path))) == 5


def test_of_two_publishers_one_wins(tmp_path: Path) -> None:
    publish_once(tmp_path / "1.json", b"first")
    with pytest.raises(LabError, match=r"another process wrote .*1\.json"):
        publish_once(tmp_path / "1.json", b"second")
    assert files_of(tmp_path) == {"1.json": b"first"}


def overwrite(path: Path) -> None:
    for n in itertools.count():
        write_atomically(path, bytes([n % 256]) * 300_000)


def test_a_reader_of_a_file_that_is_overwritten_sees_one_whole_write(tmp_path: Path) -> None:
    path = tmp_path / "file"
    writer = multiprocessing.get_context("spawn").Process(target=overwrite, args=(path,))
    writer.start()
    while not path.exists():
        time.sleep(0.01)
    seen = set()
    while len(seen) < 20:
        assert writer.is_alive()
        seen.add(path.read_bytes())
    writer.kill()
    writer.join()
    seen.add(path.read_bytes())
    assert {(len(data), len(set(data))) for data in seen} == {(300_000, 1)}


def test_a_write_is_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "file"
    write_atomically(target, b"old")
    write_atomically(target, b"new")
    assert files_of(tmp_path) == {"new/folder/file": b"new"}
    limit = 1 << 16
    code = f"""
import resource, signal
from pathlib import Path
from lab.errors import LabError
from lab.files import write_atomically
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
try:
    write_atomically(Path({str(target)!r}), b"x" * {2 * limit})
except LabError as refused:
    print(refused.problem)
"""
    full = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert full.stdout == f"{target} cannot be written: File too large\n"
    assert files_of(tmp_path) == {"new/folder/file": b"new"}


def test_a_part_is_named_by_its_sha_256(tmp_path: Path) -> None:
    store.commit(tmp_path, "here", [piece_of(bars_of("A", MARCH, 10))])
    (part,) = parts_of(tmp_path)
    assert part.stem == hashlib.sha256(part.read_bytes()).hexdigest()
    assert pl.read_parquet(BytesIO(part.read_bytes())).height == 10
