"""The store: what was committed is there, whole, once; and damage is always seen."""

import hashlib
import multiprocessing
import subprocess
import sys
import time
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
from lab.nouns import Bars, Calendar, Piece, Span
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


def piece_of(bars: Bars, origin: str = "somewhere") -> Piece:
    return Piece(bars.symbols[0], origin, f"digest of {origin}", bars)


def files_of(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def parts_of(root: Path) -> list[Path]:
    return sorted(root.glob("kind=bars/**/*.parquet"))


def test_what_is_committed_is_read_back_to_the_bit(tmp_path: Path) -> None:
    b = bars_of("B", MARCH, 5, buy_volume=1.5, trades=3.0)
    a = bars_of("A", MARCH, 3, buy_volume=0.1, quote_volume=7.0, trades=1.0)
    store.commit(tmp_path, "here", piece_of(b))
    store.commit(tmp_path, "here", piece_of(a))
    read = store.read_bars(tmp_path, "here", ["B", "A", "B"], "1m")
    shared = a.frame.drop("quote_volume").select(b.frame.columns)
    assert read.frame.equals(pl.concat([shared, b.frame]))
    assert (read.interval, read.calendar, read.symbols) == ("1m", "continuous", ["A", "B"])


def test_a_bar_belongs_to_the_month_that_it_opened_in(tmp_path: Path) -> None:
    store.commit(tmp_path, "here", piece_of(bars_of("A", utc(2026, 3, 31, 23, 59), 3)))
    months = {path.parent.name: pl.read_parquet(path)["time"].to_list() for path in parts_of(tmp_path)}
    assert months == {
        "month=2026-03": [utc(2026, 3, 31, 23, 59), utc(2026, 4, 1)],
        "month=2026-04": [utc(2026, 4, 1, 0, 1)],
    }


def test_a_span_selects_closes_half_open(tmp_path: Path) -> None:
    store.commit(tmp_path, "here", piece_of(bars_of("A", MARCH - 3 * MINUTE, 10)))
    read = store.read_bars(tmp_path, "here", ["A"], "1m", Span(MARCH, MARCH + 3 * MINUTE))
    assert read.frame["time"].to_list() == [MARCH, MARCH + MINUTE, MARCH + 2 * MINUTE]


def test_no_data_names_what_is_there_and_what_to_type(tmp_path: Path) -> None:
    store.commit(tmp_path, "here", piece_of(bars_of("A", MARCH, 10)))
    with pytest.raises(NoData) as none:
        store.read_bars(tmp_path, "binance", ["A"], "5m", Span(utc(2026, 5, 1), utc(2026, 5, 2, 7)))
    assert none.value.problem == (
        "the store has no 5m bars of A from binance between 2026-05-01 00:00 and 2026-05-02 07:00"
        " (it has 1m from here, 2026-03-01 to 2026-03-01)"
    )
    assert none.value.fix == "lab fetch A --source binance --interval 5m --start 2026-04-30 --end 2026-05-03"
    with pytest.raises(NoData, match="nothing of that symbol"):
        store.read_bars(tmp_path, "here", ["A", "B"], "1m")


def test_rows_replace_those_of_the_same_time_and_keep_the_rest(tmp_path: Path) -> None:
    store.commit(tmp_path, "here", piece_of(bars_of("A", MARCH, 10, price=100), "first"))
    store.commit(tmp_path, "here", piece_of(bars_of("A", MARCH + 5 * MINUTE, 10, price=200, trades=4.0), "second"))
    read = store.read_bars(tmp_path, "here", ["A"], "1m").frame
    assert read["time"].to_list() == [MARCH + n * MINUTE for n in range(15)]
    assert read["close"].to_list() == [*(100.0 + n for n in range(5)), *(200.0 + n % 7 for n in range(10))]
    assert read["trades"].to_list() == [None] * 5 + [4.0] * 10
    assert store.done(tmp_path, "here", "A", "1m") == {"first": "digest of first", "second": "digest of second"}


def test_the_order_of_commits_does_not_show_in_the_files(tmp_path: Path) -> None:
    pieces = [piece_of(bars_of("A", MARCH + n * 10 * MINUTE, 10), f"part {n}") for n in range(6)]
    for piece in pieces:
        store.commit(tmp_path / "forward", "here", piece)
    for piece in reversed(pieces):
        store.commit(tmp_path / "backward", "here", piece)
    assert files_of(tmp_path / "forward") == files_of(tmp_path / "backward")


def test_committing_the_same_piece_again_changes_nothing(tmp_path: Path) -> None:
    piece = piece_of(bars_of("A", MARCH, 10))
    store.commit(tmp_path, "here", piece)
    before = files_of(tmp_path)
    store.commit(tmp_path, "here", piece)
    assert files_of(tmp_path) == before
    assert [name.rsplit("/", 1)[-1] for name in before if "_log" in name] == ["000001.json", "lock"]


def test_a_piece_without_bars_changes_nothing(tmp_path: Path) -> None:
    store.commit(tmp_path, "here", Piece("A", "absent", "", None))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "symbol", ["1INCH", "600519", "005930", "NAN", "nan", "inf", "Infinity", "epoch", "2024-01-01"]
)
def test_a_plain_glob_reads_exactly_the_live_rows_and_the_symbol_as_text(tmp_path: Path, symbol: str) -> None:
    for day in range(3):  # each commit supersedes the file of the month
        store.commit(tmp_path, "here", piece_of(bars_of(symbol, MARCH + timedelta(days=day), 10), f"day {day}"))
    store.commit(tmp_path, "here", piece_of(bars_of(symbol, utc(2026, 4, 2), 10), "April"))
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
        lambda: store.commit(tmp_path, "here", piece),
        lambda: store.commit(tmp_path, name, piece_of(bars_of("A", MARCH, 1))),
        lambda: store.read_bars(tmp_path, "here", [name], "1m"),
        lambda: store.done(tmp_path, name, "A", "1m"),
        lambda: store.sweep(tmp_path, "here", name, "1m"),
    ):
        with pytest.raises(UsageError, match=r"cannot be the name of a (symbol|source)"):
            attempt()
    with pytest.raises(UnknownName, match="interval"):
        store.done(tmp_path, "here", "A", name)
    assert list(tmp_path.iterdir()) == []


def test_every_one_of_200_changed_bytes_is_detected(tmp_path: Path) -> None:
    store.commit(tmp_path, "here", piece_of(bars_of("A", utc(2026, 3, 31, 20), 600)))
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
        store.commit(tmp_path, "here", piece)
    before = files_of(tmp_path)
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
        "lab fetch A --source here --interval 1m --start 2026-03-01 --end 2026-04-01 fetches it anew; "
        "lab data verify looks for more"
    )
    assert [found.problem for found in store.verify(tmp_path)] == [damage.value.problem]
    assert store.read_bars(tmp_path, "here", ["A"], "1m", Span(utc(2026, 4, 1), utc(2026, 5, 1))).frame.height == 30
    assert store.done(tmp_path, "here", "A", "1m") == {"April": "digest of April"}
    store.commit(tmp_path, "here", pieces[0])
    assert store.verify(tmp_path) == []
    after = files_of(tmp_path)
    assert {name: data for name, data in after.items() if "_log" not in name} == {
        name: data for name, data in before.items() if "_log" not in name
    }
    assert store.done(tmp_path, "here", "A", "1m").keys() == {"March", "April"}


def test_what_else_was_in_a_damaged_month_is_no_longer_done(tmp_path: Path) -> None:
    days = [piece_of(bars_of("A", MARCH + timedelta(days=n), 10), f"day {n}") for n in range(3)]
    for day in days:
        store.commit(tmp_path, "here", day)
    parts_of(tmp_path)[0].write_bytes(b"nonsense")
    assert store.done(tmp_path, "here", "A", "1m") == {}
    store.commit(tmp_path, "here", days[1])
    assert store.done(tmp_path, "here", "A", "1m").keys() == {"day 1"}
    assert store.read_bars(tmp_path, "here", ["A"], "1m").frame.equals(days[1].bars.frame)  # type: ignore[union-attr]


def test_every_changed_byte_of_a_manifest_is_detected_or_harmless(tmp_path: Path) -> None:
    store.commit(tmp_path, "here", piece_of(bars_of("A", MARCH, 10)))
    (manifest,) = tmp_path.rglob("*.json")
    whole, bars = manifest.read_bytes(), store.read_bars(tmp_path, "here", ["A"], "1m")
    detected = 0
    for position in range(0, len(whole), 3):
        manifest.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        damage = store.verify(tmp_path)
        if damage:  # a changed blank is no damage
            assert str(manifest) in damage[0].problem
            with pytest.raises(DamagedData, match=r"000001\.json"):
                store.commit(tmp_path, "here", piece_of(bars_of("A", MARCH, 20)))
            detected += 1
        else:
            assert store.read_bars(tmp_path, "here", ["A"], "1m").digest == bars.digest
    assert detected > len(whole) / 3 * 0.6


def test_rejected_rows_are_kept_with_their_reason_and_counted(tmp_path: Path) -> None:
    rejected = pl.DataFrame({"time": [MARCH], "close": [-1.0], "fault": ["a price is zero or below"]})
    bars = bars_of("A", MARCH, 10)
    store.commit(tmp_path, "here", Piece("A", "first", "d", bars, rejected))
    store.commit(tmp_path, "here", Piece("A", "second", "d", bars, rejected.vstack(rejected)))
    assert store.tables(tmp_path)[0].rejected == 3
    kept = pl.read_parquet(tmp_path / "quarantine/source=here/symbol=A/interval=1m/*.parquet")
    assert kept["origin"].value_counts().sort("origin").rows() == [("first", 1), ("second", 2)]
    assert set(kept["fault"]) == {"a price is zero or below"}
    store.commit(tmp_path, "here", Piece("A", "second", "corrected", bars))
    assert store.tables(tmp_path)[0].rejected == 1
    assert len(list(tmp_path.rglob("quarantine/**/*.parquet"))) == 1
    next(iter(tmp_path.rglob("quarantine/**/*.parquet"))).write_bytes(b"x")
    assert len(store.verify(tmp_path)) == 1
    assert store.done(tmp_path, "here", "A", "1m").keys() == {"second"}


def test_holdings_say_what_there_is(tmp_path: Path) -> None:
    assert store.tables(tmp_path) == []
    bars = bars_of("A", utc(2026, 3, 31, 23, 59), 3)
    store.commit(tmp_path, "here", piece_of(bars))
    size = sum(path.stat().st_size for path in parts_of(tmp_path))
    expected = store.Holding("here", "A", "1m", "continuous", bars.frame["time"][0], bars.frame["time"][-1], 3, size, 0)
    assert store.tables(tmp_path) == [expected]
    assert store.holding(tmp_path, "here", "A", "1m") == expected
    assert store.holding(tmp_path, "here", "B", "1m") is None


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
        store.commit(tmp_path, "here", Piece("A", f"{n}", "d", Bars(bars.frame, "1m", calendar)))
    assert store.tables(tmp_path)[0].calendar == together
    assert store.read_bars(tmp_path, "here", ["A"], "1m").calendar == together


def test_symbols_of_different_calendars_are_not_read_together(tmp_path: Path) -> None:
    store.commit(tmp_path, "here", piece_of(bars_of("A", MARCH, 3)))
    store.commit(tmp_path, "here", Piece("B", "o", "d", Bars(bars_of("B", MARCH, 3).frame, "1m", "weekdays")))
    with pytest.raises(UsageError, match="A, B do not trade on the same days"):
        store.read_bars(tmp_path, "here", ["A", "B"], "1m")


def test_leftovers_of_a_killed_writer_are_swept(tmp_path: Path) -> None:
    store.commit(tmp_path, "here", piece_of(bars_of("A", MARCH, 10)))
    before = files_of(tmp_path)
    (part,) = parts_of(tmp_path)
    part.with_name(f".{part.name}.12-ab.tmp").write_bytes(b"half")
    part.with_name(f"{'0' * 64}.parquet").write_bytes(b"never published")
    (part.parents[1] / "_log/000000.json").write_bytes(b"{}")
    quarantine = tmp_path / "quarantine" / part.parents[1].relative_to(tmp_path / "kind=bars")
    quarantine.mkdir(parents=True)
    (quarantine / "x.parquet").write_bytes(b"never published")
    store.sweep(tmp_path, "here", "A", "1m")
    assert files_of(tmp_path) == before


def commit_every_other_minute(root: Path, offset: int, count: int) -> None:
    for n in range(count):
        minute = MARCH + (2 * n + offset) * MINUTE
        store.commit(root, "here", piece_of(bars_of("A", minute, 1), f"{minute}"))


def test_two_writers_in_lock_step_lose_nothing(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    count = 30
    writers = [spawn.Process(target=commit_every_other_minute, args=(tmp_path, n, count)) for n in range(2)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):  # a reader meanwhile always sees a whole version
        time.sleep(0.01)
        if held := store.holding(tmp_path, "here", "A", "1m"):
            assert store.read_bars(tmp_path, "here", ["A"], "1m").frame.height >= held.rows
    assert [writer.exitcode for writer in writers] == [0, 0]
    read = store.read_bars(tmp_path, "here", ["A"], "1m").frame
    assert read["time"].to_list() == [MARCH + n * MINUTE for n in range(2 * count)]
    assert len(store.done(tmp_path, "here", "A", "1m")) == 2 * count
    (manifest,) = tmp_path.rglob("*.json")
    assert manifest.name == f"{2 * count:06}.json"
    assert len(parts_of(tmp_path)) == 1


def test_a_reader_overtaken_by_a_writer_reads_the_newer_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.commit(tmp_path, "here", piece_of(bars_of("A", MARCH, 10), "first"))
    real = store._latest
    overtaken = iter([real(store._Table(tmp_path, "here", "A", "1m"))])  # what it names will be swept
    store.commit(tmp_path, "here", piece_of(bars_of("A", MARCH, 20), "second"))
    monkeypatch.setattr(store, "_latest", lambda table: next(overtaken, None) or real(table))
    assert store.read_bars(tmp_path, "here", ["A"], "1m").frame.height == 20


def test_of_two_publishers_one_wins(tmp_path: Path) -> None:
    publish_once(tmp_path / "1.json", b"first")
    with pytest.raises(LabError, match=r"another process wrote .*1\.json"):
        publish_once(tmp_path / "1.json", b"second")
    assert files_of(tmp_path) == {"1.json": b"first"}


def overwrite(path: Path) -> None:
    for n in range(10_000):
        write_atomically(path, bytes([n % 256]) * 300_000)


def test_a_reader_of_a_file_that_is_overwritten_sees_one_whole_write(tmp_path: Path) -> None:
    path = tmp_path / "file"
    writer = multiprocessing.get_context("spawn").Process(target=overwrite, args=(path,))
    writer.start()
    while not path.exists():
        time.sleep(0.01)
    seen = [path.read_bytes() for _ in range(100)]
    writer.kill()
    writer.join()
    seen.append(path.read_bytes())
    assert {(len(data), len(set(data))) for data in seen} == {(300_000, 1)}
    assert len(set(seen)) > 1


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
    store.commit(tmp_path, "here", piece_of(bars_of("A", MARCH, 10)))
    (part,) = parts_of(tmp_path)
    assert part.stem == hashlib.sha256(part.read_bytes()).hexdigest()
    assert pl.read_parquet(BytesIO(part.read_bytes())).height == 10
