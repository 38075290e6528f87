"""Sources: real archives and generated ones over a real server, files as people have them, markets with known truth."""

import gzip
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import repeat
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lab.errors import SourceError, UnknownName, UsageError
from lab.nouns import Bars, Piece, Span
from lab.sources import Request, months, source_named
from lab.sources.binance import BinanceArchives, spot, usd_margined
from lab.sources.files import Files
from lab.sources.samples import samples
from lab.sources.synthetic import VISIBLE, best_correlation, best_forecast, simulate, synthetic
from lab.sources.web import Patience
from tests.archive import (
    HEADER,
    Archive,
    Fault,
    cut_short,
    day_path,
    dripping_body,
    dripping_header,
    html,
    kline_lines,
    month_path,
    publish_days,
    serving,
    status,
    utc,
    wrong_bytes,
    zipped,
)

MARKET = Path(__file__).parents[1].parent / "shared/market"
MARCH = Span(utc(2026, 3, 1), utc(2026, 4, 1))
PATH = month_path("BTCUSDT", "2026-03")
HASTY = Patience(tries=4, total=4.0, silence=1.0, first_wait=0.01)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with serving(tmp_path / "archive") as served:
        yield served


@pytest.fixture
def market() -> Path:
    if not MARKET.is_dir():
        pytest.skip(f"the real market data is not at {MARKET}")
    return MARKET


def at(archive: Archive, source: BinanceArchives = spot) -> BinanceArchives:
    return replace(source, base_url=archive.url, patience=HASTY)


def fetched(source: BinanceArchives, span: Span = MARCH, done: Iterable[str] = (), interval: str = "1m") -> list[Piece]:
    return list(source.fetch(Request(("BTCUSDT",), interval, span), set(done)))


def bars(piece: Piece) -> Bars:
    assert piece.table is not None
    return piece.table


def publish(archive: Archive, lines: list[str], path: str = PATH, header: str = "") -> None:
    archive.publish(path, zipped(f"{Path(path).stem}.csv", header + "".join(lines)))


# ── the archive's files ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_published_kline_becomes_the_bar_it_describes(archive: Archive) -> None:
    # The first minute of 2024 of the BTCUSDT perpetual, as the exchange published it.
    line = "1704067200000,42314,42335.8,42289.6,42331.9,289.641,1704067259999,12256155.26,3310,175.211,7414459.864,0\n"
    publish(archive, [line], month_path("BTCUSDT", "2024-01", "futures/um"))
    (piece,) = fetched(at(archive, usd_margined), Span(utc(2024, 1, 1), utc(2024, 2, 1)))
    assert bars(piece).frame.rows(named=True) == [
        {
            "symbol": "BTCUSDT",
            "time": utc(2024, 1, 1, 0, 1),
            "open": 42314.0,
            "high": 42335.8,
            "low": 42289.6,
            "close": 42331.9,
            "volume": 289.641,
            "buy_volume": 175.211,
            "quote_volume": 12256155.26,
            "trades": 3310.0,
        }
    ]
    assert piece.origin == month_path("BTCUSDT", "2024-01", "futures/um")


@pytest.mark.parametrize("unit", ["ms", "us"])
@pytest.mark.parametrize("header", ["", HEADER])
def test_header_and_time_unit_are_found_out_per_file(archive: Archive, unit: str, header: str) -> None:
    publish(archive, kline_lines(MARCH.start, 100, unit=unit), header=header)
    (piece,) = fetched(at(archive))
    assert bars(piece).frame["time"].to_list() == [MARCH.start + (n + 1) * MINUTE for n in range(100)]
    assert piece.rejected.is_empty()


def test_the_switch_from_ms_to_us_at_new_year_2025_leaves_no_seam(archive: Archive) -> None:
    publish(archive, kline_lines(utc(2024, 12, 31, 23), 60), month_path("BTCUSDT", "2024-12"))
    publish(archive, kline_lines(utc(2025, 1, 1), 60, unit="us"), month_path("BTCUSDT", "2025-01"))
    both = fetched(at(archive), Span(utc(2024, 12, 1), utc(2025, 2, 1)))
    together = Bars.of(pl.concat([bars(piece).frame for piece in both]), "1m")
    assert (together.frame.height, together.gaps().height) == (120, 0)


def test_without_the_file_of_a_month_the_files_of_its_days_are_used(archive: Archive) -> None:
    publish_days(archive, "BTCUSDT", utc(2024, 2, 28), 2)  # 29 February included, 27 absent
    pieces = fetched(at(archive), Span(utc(2024, 2, 27), utc(2024, 3, 1)))
    days = [day_path("BTCUSDT", utc(2024, 2, day)) for day in (27, 28, 29)]
    assert [(piece.origin, piece.table and piece.table.frame.height) for piece in pieces] == [
        (days[0], None),
        (days[1], 1440),
        (days[2], 1440),
    ]
    assert archive.requests[:2] == [month_path("BTCUSDT", "2024-02"), days[0]]


def test_a_day_that_may_not_be_published_yet_is_not_called_absent(archive: Archive) -> None:
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    publish_days(archive, "BTCUSDT", today - timedelta(days=4), 1)
    pieces = fetched(at(archive), Span(today - timedelta(days=4), today + timedelta(days=2)))
    assert [(piece.origin[-14:-4], piece.table is None) for piece in pieces] == [
        (f"{today - timedelta(days=4):%Y-%m-%d}", False),
        (f"{today - timedelta(days=3):%Y-%m-%d}", True),
    ]
    assert not any(f"{today:%Y-%m-%d}" in path for path in archive.requests)


def test_what_is_done_is_not_asked_for_again(archive: Archive) -> None:
    publish(archive, kline_lines(MARCH.start, 10))
    publish_days(archive, "BTCUSDT", utc(2026, 4, 1), 3)
    span = Span(MARCH.start, utc(2026, 4, 4))
    first = fetched(at(archive), span)
    assert len(first) == 4
    archive.requests.clear()
    assert fetched(at(archive), span, [piece.origin for piece in first]) == []
    assert archive.requests == []
    assert [p.origin for p in fetched(at(archive), span, [piece.origin for piece in first[:2]])] == [
        piece.origin for piece in first[2:]
    ]


def test_a_wrong_checksum_is_given_a_second_chance(archive: Archive) -> None:
    publish(archive, kline_lines(MARCH.start, 10))
    archive.play(PATH, [wrong_bytes])
    (piece,) = fetched(at(archive))
    assert bars(piece).frame.height == 10
    assert archive.requests == [PATH, f"{PATH}.CHECKSUM"] * 2


def test_a_checksum_wrong_twice_is_refused_with_both_digests(archive: Archive) -> None:
    publish(archive, kline_lines(MARCH.start, 10))
    archive.play(PATH, repeat(wrong_bytes))
    with pytest.raises(SourceError, match=r"has SHA-256 [0-9a-f]{64}, its checksum file says [0-9a-f]{64}, twice"):
        fetched(at(archive))
    assert len(archive.requests) == 4


@pytest.mark.parametrize("checksum", ["", "0" * 64, "0" * 64 + "  BTCUSDT-1m-2026-04.zip\n", "<html>"])
def test_a_checksum_that_is_not_of_this_file_is_refused(archive: Archive, checksum: str) -> None:
    archive.publish(PATH, zipped("BTCUSDT-1m-2026-03.csv", "".join(kline_lines(MARCH.start, 10))), checksum)
    with pytest.raises(SourceError, match=r"the checksum of .*2026-03\.zip says"):
        fetched(at(archive))


def test_a_file_without_checksum_is_refused(archive: Archive) -> None:
    publish(archive, kline_lines(MARCH.start, 10))
    archive.play(f"{PATH}.CHECKSUM", [status(404)])
    with pytest.raises(SourceError, match=r"the checksum of .* is missing"):
        fetched(at(archive))


@pytest.mark.parametrize("faults", [[status(500), status(503)], [cut_short], [status(408), cut_short, status(502)]])
def test_passing_troubles_are_outlasted(archive: Archive, faults: list[Fault]) -> None:
    publish(archive, kline_lines(MARCH.start, 1000))
    archive.play(PATH, faults)
    (piece,) = fetched(at(archive))
    assert bars(piece).frame.height == 1000
    assert archive.requests.count(PATH) == len(faults) + 1


def test_lasting_trouble_is_given_up_and_named(archive: Archive) -> None:
    publish(archive, kline_lines(MARCH.start, 10))
    archive.play(PATH, repeat(status(503)))
    with pytest.raises(SourceError, match=r"could not be downloaded in 4 tries: status 503"):
        fetched(at(archive))
    assert len(archive.requests) == 4


def test_nothing_is_sent_before_retry_after(archive: Archive) -> None:
    publish(archive, kline_lines(MARCH.start, 10))
    archive.play(PATH, [status(429, Retry_After="1")])
    (piece,) = fetched(at(archive))
    assert bars(piece).frame.height == 10
    assert archive.times[1] - archive.times[0] >= 1.0


def test_a_retry_after_beyond_patience_is_given_up_at_once(archive: Archive) -> None:
    archive.play(PATH, [status(429, Retry_After="3600")])
    began = time.monotonic()
    with pytest.raises(SourceError, match="in 1 tries: status 429"):
        fetched(at(archive))
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("code", [403, 418, 451, 400, 304])
def test_a_refusal_is_not_asked_again(archive: Archive, code: int) -> None:
    archive.play(PATH, repeat(status(code)))
    with pytest.raises(SourceError, match=f"answered {code}"):
        fetched(at(archive))
    assert archive.requests == [PATH]


def test_a_redirect_is_not_followed(archive: Archive, tmp_path: Path) -> None:
    with serving(tmp_path / "elsewhere") as elsewhere:
        archive.play(PATH, [status(302, Location=f"{elsewhere.url}/{PATH}")])
        with pytest.raises(SourceError, match="redirects to"):
            fetched(at(archive))
        assert elsewhere.requests == []


def test_a_page_instead_of_a_zip_is_refused(archive: Archive) -> None:
    archive.play(PATH, [html])
    with pytest.raises(SourceError, match=r"is no zip: it begins with b'<!DOCTYPE"):
        fetched(at(archive))


@pytest.mark.parametrize("fault", [dripping_header, dripping_body])
def test_a_dripping_server_does_not_outlast_patience(archive: Archive, fault: Fault) -> None:
    publish(archive, kline_lines(MARCH.start, 1000))
    archive.play(PATH, repeat(fault))
    began = time.monotonic()
    patience = Patience(tries=10, total=1.5, silence=0.5, first_wait=0.01)
    with pytest.raises(SourceError, match="could not be downloaded"):
        fetched(replace(at(archive), patience=patience))
    assert time.monotonic() - began < 6


def test_nobody_listening_is_a_source_error() -> None:
    nobody = replace(spot, base_url="http://127.0.0.1:9", patience=HASTY)
    with pytest.raises(SourceError, match="could not be downloaded in 4 tries"):
        fetched(nobody)


# ── what is inside ──────────────────────────────────────────────────────────────────────────────────────────────────

NAME = "BTCUSDT-1m-2026-03.csv"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (zipped(NAME, "", **{"../evil": "x"}), r"it holds \['BTCUSDT-1m-2026-03.csv', '../evil'\]"),
        (zipped("../../BTCUSDT-1m-2026-03.csv", "x"), "it holds"),
        (zipped("other.csv", "x"), r"it holds \['other.csv'\]"),
        (zipped(NAME, b"0" * 40_000_000), "larger than the [0-9,]+ bytes that its bars can take"),
        (b"PK\x03\x04 and then nonsense", "cannot be unzipped"),
        (zipped(NAME, "<html>\n"), "begins with '<html>', which is neither klines nor their header"),
        (zipped(NAME, "1,2,3\n"), "begins with '1,2,3'"),
        (zipped(NAME, "time,o,h,l,c,v,ct,q,n,tb,tq,i\n"), "begins with 'time,o"),
        (zipped(NAME, "".join(kline_lines(utc(2026, 4, 1), 5))), "none of its 5 rows is a bar; the first: outside the"),
        (zipped(NAME, kline_lines(MARCH.start, 1)[0] + "1,2,3,4,5,6,7,8,9,10,11,12,13\n"), "cannot be read"),
    ],
)
def test_an_archive_that_is_not_what_its_name_says_is_refused(archive: Archive, content: bytes, why: str) -> None:
    archive.publish(PATH, content)
    with pytest.raises(SourceError, match=why):
        fetched(at(archive))


def test_a_body_longer_than_its_bars_can_be_is_not_taken_in(archive: Archive) -> None:
    path = day_path("BTCUSDT", MARCH.start, interval="1d")
    archive.publish(path, b"PK" + b"0" * 200_000)
    with pytest.raises(SourceError, match=r"is longer than the 65,856 bytes it can have"):
        fetched(at(archive), Span(MARCH.start, utc(2026, 3, 2)), interval="1d")


def test_rows_that_cannot_be_bars_are_kept_apart_with_their_reason(archive: Archive) -> None:
    good = kline_lines(MARCH.start, 12, unit="us")

    def field(row: int, position: int, value: str) -> str:
        cells = good[row].rstrip("\n").split(",")
        cells[position] = value
        return ",".join(cells) + "\n"

    second = 1_000_000
    opened = [int(line.split(",", 1)[0]) for line in good]
    bad = {
        field(1, 1, "nonsense"): "a price is missing or not a number",
        field(2, 4, "NaN"): "a price is missing or not a number",
        field(3, 3, "-5"): "a price is zero or below",
        field(4, 2, "1"): "open or close lies outside low..high",
        field(5, 5, "-1"): "the volume is negative or not a number",
        field(6, 6, str(opened[6] + 30 * second)): "not open for 1m",
        field(7, 0, str(opened[7] + second)): "not on the grid of 1m bars",
        field(8, 0, ""): "no symbol or no time",
        kline_lines(utc(2026, 4, 1), 1, unit="us")[0]: "outside the period that the file is named for",
        field(9, 0, str(opened[9] // 1_000_000_000)): "outside the period that the file is named for",
        field(10, 5, "77"): "a second row for the same symbol and time",
    }
    publish(archive, [good[0], good[0], *good[10:], *bad])  # the second row merely repeats the first
    (piece,) = fetched(at(archive))
    assert bars(piece).frame["time"].to_list() == [MARCH.start + (n + 1) * MINUTE for n in (0, 10, 11)]
    assert sorted(piece.rejected["fault"]) == sorted(bad.values())


def test_an_impossible_row_does_not_take_the_place_of_a_good_one(archive: Archive) -> None:
    good = kline_lines(MARCH.start, 2)
    impossible = good[0].replace(",0\n", ",1\n").split(",")
    impossible[1] = "-1"
    publish(archive, [",".join(impossible), *good])
    (piece,) = fetched(at(archive))
    assert bars(piece).frame.height == 2
    assert piece.rejected["fault"].to_list() == ["a price is zero or below"]


def test_an_empty_file_is_a_month_without_bars(archive: Archive) -> None:
    publish(archive, [])
    (piece,) = fetched(at(archive))
    assert bars(piece).frame.is_empty()


@pytest.mark.parametrize("symbol", ["btcusdt", "../BTC", "BTC/USDT", "", "BTC?x=", "BTCÜ", "A" * 33])
def test_a_symbol_that_could_leave_the_archive_is_never_asked_for(archive: Archive, symbol: str) -> None:
    with pytest.raises(UsageError, match="Binance has no symbol like"):
        list(at(archive).fetch(Request((symbol,), "1m", MARCH), set()))
    assert archive.requests == []


def test_requests_that_make_no_sense_are_refused(archive: Archive) -> None:
    with pytest.raises(UnknownName, match="no interval named '7m'"):
        fetched(at(archive), interval="7m")
    with pytest.raises(UsageError, match="futures have no 1s klines"):
        fetched(at(archive, usd_margined), interval="1s")
    with pytest.raises(UsageError, match="from when to when"):
        list(at(archive).fetch(Request(("BTCUSDT",), "1m"), set()))
    with pytest.raises(UsageError, match="--path means nothing to --source binance"):
        source_named("binance", path=Path("x"))
    assert archive.requests == []


def test_a_span_is_cut_at_months() -> None:
    cut = months(Span(utc(2025, 11, 30, 5), utc(2026, 2, 1)))
    edges = [utc(2025, 11, 30, 5), utc(2025, 12, 1), utc(2026, 1, 1), utc(2026, 2, 1)]
    assert cut == [Span(*edges[n : n + 2]) for n in range(3)]


@pytest.mark.parametrize(
    ("source", "symbol", "month", "rows", "idle"),
    [
        (spot, "BTCUSDT", (2026, 3), 44640, 0),
        (spot, "BTCUSDT", (2026, 4), 43200, 0),
        (usd_margined, "FILUSDT", (2023, 9), 43200, 41),
        (usd_margined, "AVAXUSDT", (2024, 2), 41760, 0),
    ],
)
def test_real_archives_come_in_whole(
    archive: Archive, market: Path, source: BinanceArchives, symbol: str, month: tuple[int, int], rows: int, idle: int
) -> None:
    folder = {"spot": "crypto/binance_spot", "futures/um": "crypto/binance_um_futures"}[source.market]
    start = utc(*month, 1)
    real = market / folder / "klines_1m" / f"{symbol}-1m-{start:%Y-%m}.zip"
    archive.publish(month_path(symbol, f"{start:%Y-%m}", source.market), real.read_bytes())
    (piece,) = at(archive, source).fetch(Request((symbol,), "1m", Span(start, start + timedelta(days=20))), set())
    frame = bars(piece).frame
    assert (frame.height, bars(piece).gaps().height, piece.rejected.height) == (rows, 0, 0)
    assert frame["time"][0] == start + MINUTE
    assert frame.filter(pl.col("volume") == 0).height == idle
    assert frame.select((pl.col("buy_volume") <= pl.col("volume")).all()).item()


# ── files ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def from_file(path: Path, interval: str, *symbols: str, **settings: object) -> list[Piece]:
    source = source_named("files", path=path, **settings)
    return list(source.fetch(Request(symbols or ("X",), interval), set()))


def hours(count: int, start: datetime = MARCH.start) -> pl.DataFrame:
    price = 10.0 + np.arange(count)
    times = [start + n * timedelta(hours=1) for n in range(count)]
    return pl.DataFrame(
        {"time": times, "open": price, "high": price + 1, "low": price - 1, "close": price, "volume": 1.0}
    )


EXPECTED = [utc(2026, 3, 1) + n * timedelta(hours=1) for n in range(1, 6)]


@pytest.mark.parametrize(
    "written",
    [
        pl.col("time"),
        pl.col("time").dt.replace_time_zone(None),
        pl.col("time").dt.convert_time_zone("America/New_York"),
        pl.col("time").dt.epoch("s"),
        pl.col("time").dt.epoch("s").cast(pl.Float64),
        pl.col("time").dt.epoch("ms"),
        pl.col("time").dt.epoch("us"),
        pl.col("time").dt.epoch("us") * 1000,
        pl.col("time").dt.strftime("%Y-%m-%d %H:%M"),
        pl.col("time").dt.strftime("%Y-%m-%d %H:%M:%S"),
        pl.col("time").dt.strftime("%Y-%m-%dT%H:%M:%S.%3fZ"),
        pl.col("time").dt.convert_time_zone("Asia/Kolkata").dt.strftime("%Y-%m-%dT%H:%M:%S%z"),
        pl.col("time").dt.strftime("%Y%m%d %H%M%S"),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "csv.gz", "zip", "parquet"])
def test_times_in_any_usual_form_are_read_as_utc(tmp_path: Path, written: pl.Expr, kind: str) -> None:
    path, frame = tmp_path / f"bars.{kind}", hours(5).with_columns(time=written)
    text = frame.write_csv(
        datetime_format="%Y-%m-%d %H:%M:%S%.f%:z" if frame["time"].dtype == pl.Datetime("us", "UTC") else None
    )
    match kind:
        case "parquet":
            frame.write_parquet(path)
        case "zip":
            path.write_bytes(zipped("inside.csv", text))
        case "csv.gz":
            path.write_bytes(gzip.compress(text.encode()))
        case _:
            path.write_text(text)
    (piece,) = from_file(path, "1h")
    assert bars(piece).frame["time"].to_list() == EXPECTED
    assert piece.rejected.is_empty()


def test_times_may_be_those_of_the_close(tmp_path: Path) -> None:
    hours(5).write_csv(tmp_path / "bars.csv")
    (piece,) = from_file(tmp_path / "bars.csv", "1h", time_is="close")
    assert bars(piece).frame["time"].to_list() == [time - timedelta(hours=1) for time in EXPECTED]


def test_columns_are_known_by_usual_names_or_by_the_map(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    named = hours(5).rename({"time": "Open Time", "open": "OPEN", "close": "Last", "volume": "Lots"})
    named.write_csv(path)
    (piece,) = from_file(path, "1h", map=(("close", "Last"),))
    assert bars(piece).frame["volume"].null_count() == 5
    (piece,) = from_file(path, "1h", map=(("close", "Last"), ("volume", "Lots")))
    assert bars(piece).frame["volume"].to_list() == [1.0] * 5
    with pytest.raises(UsageError) as missing:
        from_file(path, "1h")
    assert missing.value.problem == (
        "no column is known to be close: bars.csv has the columns 'Open Time', 'OPEN', 'high', 'low', 'Last', 'Lots'"
    )
    with pytest.raises(UsageError, match=r"there is no column 'Shut': bars\.csv has the columns"):
        from_file(path, "1h", map=(("close", "Shut"),))
    with pytest.raises(UsageError, match="bars have no column 'closing'"):
        from_file(path, "1h", map=(("closing", "Last"),))


def test_a_column_of_symbols_selects_rows(tmp_path: Path) -> None:
    both = pl.concat([hours(5).with_columns(ticker=pl.lit("A")), hours(3).with_columns(ticker=pl.lit("B"))])
    both.write_parquet(tmp_path / "panel.parquet")
    pieces = from_file(tmp_path / "panel.parquet", "1h", "B", "A")
    assert [(piece.symbol, bars(piece).frame.height) for piece in pieces] == [("B", 3), ("A", 5)]
    assert len({piece.origin for piece in pieces}) == 2
    with pytest.raises(UsageError, match=r"has no rows of C"):
        from_file(tmp_path / "panel.parquet", "1h", "C")
    hours(5).write_csv(tmp_path / "one.csv")
    with pytest.raises(UsageError, match="no column of symbols, so it cannot be A and B"):
        from_file(tmp_path / "one.csv", "1h", "A", "B")


def test_a_file_is_done_until_it_or_the_way_to_read_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    hours(5).write_csv(path)
    origins = {piece.origin for piece in from_file(path, "1h")}
    again, request = Files(path=path), Request(("X",), "1h")
    assert list(again.fetch(request, origins)) == []
    assert len(list(replace(again, time_is="close").fetch(request, origins))) == 1
    hours(6).write_csv(path)
    assert len(list(again.fetch(request, origins))) == 1


def test_a_wrong_interval_is_told_the_right_one(tmp_path: Path) -> None:
    hours(5).write_csv(tmp_path / "bars.csv")
    with pytest.raises(UsageError, match=r"mostly 1:00:00 apart, which is not 1m") as wrong:
        from_file(tmp_path / "bars.csv", "1m")
    assert wrong.value.fix == "ask for --interval 1h"


@pytest.mark.parametrize(
    ("start", "hours_held", "skipped", "calendar"),
    [
        (utc(2026, 3, 2), 24 * 14, (6, 7), "weekdays"),
        (utc(2026, 3, 2), 24 * 14, (6,), "weekdays"),  # currencies open on Sunday evening
        (utc(2026, 3, 2), 24 * 14, (), "continuous"),
        (utc(2026, 3, 2), 24 * 4, (), "continuous"),  # too short to know
    ],
)
def test_the_calendar_is_found_from_saturdays(
    tmp_path: Path, start: datetime, hours_held: int, skipped: tuple[int, ...], calendar: str
) -> None:
    hours(hours_held, start).filter(~pl.col("time").dt.weekday().is_in(skipped)).write_csv(tmp_path / "bars.csv")
    (piece,) = from_file(tmp_path / "bars.csv", "1h")
    assert bars(piece).calendar == calendar


def test_unreadable_rows_of_a_file_are_rejected_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    lines = hours(5).write_csv(datetime_format="%Y-%m-%d %H:%M:%S").splitlines()
    cells = [line.split(",") for line in lines]
    cells[2][0], cells[3][1] = "yesterday", "n/a"
    path.write_text("\n".join(",".join(row) for row in [*cells, cells[5]]))
    (piece,) = from_file(path, "1h")
    assert bars(piece).frame["time"].to_list() == [EXPECTED[n] for n in (0, 3, 4)]
    assert sorted(piece.rejected["fault"]) == ["a price is missing or not a number", "no symbol or no time"]


def test_a_file_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.csv cannot be read: No such file"):
        from_file(tmp_path / "none.csv", "1h")
    with pytest.raises(UsageError, match="which file"):
        list(Files().fetch(Request(("X",), "1h"), set()))
    (tmp_path / "two.zip").write_bytes(zipped("a.csv", "x", b="y"))
    with pytest.raises(SourceError, match=r"two\.zip holds 2 files"):
        from_file(tmp_path / "two.zip", "1h")
    for name, content in {"empty.csv": b"", "bad.parquet": b"PAR1 nonsense", "bad.zip": b"PK nonsense"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SourceError, match="cannot be read"):
            from_file(tmp_path / name, "1h")
    hours(5).with_columns(time=pl.lit("soon")).write_csv(tmp_path / "soon.csv")
    with pytest.raises(UsageError, match="holds 'soon', which is no time"):
        from_file(tmp_path / "soon.csv", "1h")


KRAKEN = tuple((ours, str(n)) for n, ours in enumerate(("time", "open", "high", "low", "close", "volume", "trades"), 1))


def test_real_files_come_in_whole(market: Path) -> None:
    (google,) = from_file(market / "reference/backtesting_py/GOOG.csv", "1d")
    assert (bars(google).frame.height, bars(google).calendar) == (2148, "weekdays")
    assert bars(google).frame.row(0, named=True) == {
        "symbol": "X",
        "time": utc(2004, 8, 20),
        "open": 100.0,
        "high": 104.06,
        "low": 95.96,
        "close": 100.34,
        "volume": 22351900.0,
    }
    (kraken,) = from_file(market / "crypto/kraken_ohlcvt/XBTUSD_5.csv", "5m", map=KRAKEN)
    assert (bars(kraken).frame.height, bars(kraken).gaps()["missing"].sum()) == (25901, 19)
    assert bars(kraken).frame["trades"][0] == 78
    hourly = market / "crypto/binance_spot/klines_1h/BTCUSDT-1h-2018-02_2023-12.parquet"
    (bitcoin,) = from_file(hourly, "1h")
    assert (bars(bitcoin).frame.height, bars(bitcoin).gaps().height) == (51544, 25)


# ── samples and made-up markets ─────────────────────────────────────────────────────────────────────────────────────


def test_the_s_and_p_500_is_the_one_that_arch_ships() -> None:
    (piece,) = samples.fetch(Request(("SP500",), "1d"), set())
    frame = bars(piece).frame
    assert (frame.height, bars(piece).calendar) == (5031, "weekdays")
    assert frame.row(0) == (
        "SP500",
        utc(1999, 1, 5),
        pytest.approx(1229.22998),
        pytest.approx(1248.810059),
        pytest.approx(1219.099976),
        pytest.approx(1228.099976),
        877000000.0,
    )
    steps = frame.select(after=pl.col("time").shift(1), step=pl.col("time").diff()).sort("step", nulls_last=False)
    assert steps.row(-1) == (utc(2001, 9, 11), timedelta(days=7))  # from the close of the session of the 10th
    assert bars(piece).gaps().is_empty()
    torn = Bars.of(frame.filter(pl.col("time") != utc(2001, 9, 18)), "1d", "weekdays")
    assert torn.gaps().rows() == [("SP500", utc(2001, 9, 11), utc(2001, 9, 19), 7)]


def test_samples_are_daily_and_named() -> None:
    with pytest.raises(UnknownName, match="no sample named 'SP50'") as wrong:
        list(samples.fetch(Request(("SP50",), "1d"), set()))
    assert wrong.value.fix == "did you mean SP500?"
    with pytest.raises(UsageError, match="no 1m bars"):
        list(samples.fetch(Request(("SP500",), "1m"), set()))


def test_a_longer_run_of_a_market_begins_with_the_shorter() -> None:
    longer = simulate("FLOW", 3, 5000).frame
    for count in (1, 2, 777, 4999):
        assert simulate("FLOW", 3, count).frame.equals(longer.head(count))


def test_any_part_of_a_market_is_a_part_of_the_whole() -> None:
    whole = simulate("NOISE", 5, 70 * 1440)
    span = Span(utc(2024, 1, 30, 12, 30), utc(2024, 3, 2, 6))
    pieces = list(synthetic.fetch(Request(("NOISE-5",), "1m", span), set()))
    assert len(pieces) == 3
    together = pl.concat([bars(piece).frame for piece in pieces])
    opened = Span(span.start + MINUTE, span.end + MINUTE)
    assert together.equals(whole.within(opened).frame)
    done = {piece.origin for piece in pieces[1:]}
    assert [p.origin for p in synthetic.fetch(Request(("NOISE-5",), "1m", span), done)] == [pieces[0].origin]


def test_nothing_happens_between_bars() -> None:
    frame = simulate("FLOW", 1, 2000).frame
    assert frame["open"][1:].to_list() == frame["close"][:-1].to_list()
    assert frame.select((pl.col("quote_volume") / pl.col("volume")).is_between("low", "high").all()).item()


def test_the_best_forecast_reads_the_planted_pressure_back_from_the_taker_share() -> None:
    market = simulate("FLOW", 11, 3000)
    shocks = np.random.default_rng([11, 0]).standard_normal(3001)
    pressure, phi = [shocks[0]], 0.5 ** (1 / 30)
    for shock in shocks[1:]:
        pressure.append(phi * pressure[-1] + np.sqrt(1 - phi**2) * shock)
    drift = [sum(phi**k for k in range(30)) * 0.29e-4 * f for f in pressure[1:]]
    assert best_forecast(market, 30)["forecast"].to_numpy() == pytest.approx(
        np.array(drift), abs=1e-9
    )  # volumes are rounded
    assert VISIBLE == 0.25
    assert set(best_forecast(simulate("NOISE", 11, 100), 30)["forecast"].abs()) == {0.0}


def test_the_edge_is_all_that_flow_has_over_noise() -> None:
    flow, noise = (simulate(market, 4, 5000) for market in ("FLOW", "NOISE"))
    drift = np.diff(np.log(flow.frame["close"].to_numpy())) - np.diff(np.log(noise.frame["close"].to_numpy()))
    forecast = best_forecast(flow, 1)["forecast"].to_numpy()
    assert drift == pytest.approx(forecast[:-1], abs=1e-7)  # prices are rounded
    assert np.abs(forecast).mean() > 1e-5


@pytest.fixture(scope="module")
def million_bars() -> list[Bars]:
    return [simulate("FLOW", seed, 1_000_000) for seed in range(5)]


@pytest.mark.parametrize("horizon", [1, 30, 120])
def test_the_best_correlation_is_the_one_that_five_million_bars_show(million_bars: list[Bars], horizon: int) -> None:
    seen = []
    for market in million_bars:
        forecast = best_forecast(market, horizon)["forecast"].to_numpy()[:-horizon].reshape(-1)
        close = np.log(market.frame["close"].to_numpy())
        forward = close[horizon:] - close[:-horizon]
        blocks = np.array_split(np.arange(forward.size), 10)
        seen += [float(np.corrcoef(forecast[block], forward[block])[0, 1]) for block in blocks]
    error = float(np.std(seen, ddof=1)) / len(seen) ** 0.5
    assert error < 0.005
    assert np.mean(seen) == pytest.approx(best_correlation(horizon), abs=3 * error)


def test_the_edge_is_worth_finding_and_a_minute_moves_five_basis_points(million_bars: list[Bars]) -> None:
    assert 0.2 < best_correlation(30) < 0.25
    moves = np.diff(np.log(million_bars[0].frame["close"].to_numpy()))
    assert 5e-4 < moves.std() < 5.5e-4


@pytest.mark.parametrize(
    "symbol", ["FLOW", "FLOW-", "FLOW-x", "FLOW--1", "FLOW-01", "FLOW-1.5", "FLOW-١", "FLOW-" + "9" * 10]
)
def test_a_made_up_market_needs_a_seed(symbol: str) -> None:
    with pytest.raises(UsageError, match="names no seed"):
        list(synthetic.fetch(Request((symbol,), "1m", Span(utc(2024, 1, 1), utc(2024, 1, 2))), set()))


def test_made_up_markets_say_what_they_have() -> None:
    with pytest.raises(UnknownName, match="no market named 'FLAW'") as wrong:
        list(synthetic.fetch(Request(("FLAW-1",), "1m", Span(utc(2024, 1, 1), utc(2024, 1, 2))), set()))
    assert wrong.value.fix == "did you mean FLOW?"
    with pytest.raises(UsageError, match="no bars from 2023-12-31 to 2024-01-02"):
        list(synthetic.fetch(Request(("FLOW-1",), "1m", Span(utc(2023, 12, 31), utc(2024, 1, 2))), set()))
    with pytest.raises(UsageError, match="no 5m bars"):
        list(synthetic.fetch(Request(("FLOW-1",), "5m", Span(utc(2024, 1, 1), utc(2024, 1, 2))), set()))
