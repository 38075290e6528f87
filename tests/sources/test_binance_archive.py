"""Which objects of Binance's archive are asked for, in which order, and what is made of those that are not there."""

import io
import random
import signal
import stat
import threading
import time
import zipfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from itertools import repeat
from pathlib import Path
from threading import Lock, Timer

import duckdb
import polars as pl
import pytest

from lab.errors import SourceError, UsageError
from lab.nouns import EVENTS, Piece, Span
from lab.sources import Request
from lab.sources.binance import (
    BinanceArchives,
    coin_margined,
    raw_coin_margined,
    raw_spot,
    raw_usd_margined,
    spot,
    usd_margined,
)
from lab.sources.web import Patience
from tests.archive import (
    Archive,
    Fault,
    cut_short,
    day_path,
    html,
    kline_lines,
    month_path,
    send,
    serving,
    status,
    utc,
    wrong_bytes,
    zipped,
)

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
HASTY = Patience(tries=6, total=10.0, silence=2.0, first_wait=0.01)
JANUARY = Span(utc(2024, 1, 1), utc(2024, 2, 1))


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with serving(tmp_path / "archive") as served:
        yield served


def law_case(archive: Archive) -> tuple[BinanceArchives, Request]:
    """Trades of three days, of which the second is only in the file of the month."""
    publish_trades(archive, [utc(2024, 1, 1), utc(2024, 1, 3)])
    publish_trades_of_month(archive, days=4)
    return at(archive, spot), Request(("AAA",), EVENTS, Span(utc(2024, 1, 1), utc(2024, 1, 4)), "trades")


def at(archive: Archive, source: BinanceArchives) -> BinanceArchives:
    return replace(source, base_url=archive.url, patience=HASTY)


def fetched(
    source: BinanceArchives,
    span: Span,
    kind: str = "bars",
    interval: str = EVENTS,
    done: Mapping[str, str] | None = None,
    symbols: tuple[str, ...] = ("AAA",),
) -> list[Piece]:
    interval = "1h" if kind in ("bars", "mark", "index", "premium") and interval == EVENTS else interval
    return list(source.fetch(Request(symbols, interval, span, kind), done or {}))


def publish(archive: Archive, path: str, lines: Collection[str]) -> None:
    archive.publish(path, zipped(f"{Path(path).stem}.csv", "".join(lines)))


def trades_path(period: str, cadence: str = "daily", market: str = "spot", tag: str = "aggTrades") -> str:
    return f"data/{market}/{cadence}/{tag}/AAA/AAA-{tag}-{period}.zip"


def trades_of(day: datetime) -> list[str]:
    """A trade an hour, numbered from the beginning of the year."""
    times = [day + n * HOUR for n in range(24)]
    numbers = [(time - utc(day.year, 1, 1)) // HOUR for time in times]
    return [
        f"{n},100.5,2,{n},{n},{int(time.timestamp() * 1000)},false\n" for n, time in zip(numbers, times, strict=True)
    ]


def publish_trades(archive: Archive, days: Collection[datetime]) -> None:
    for day in days:
        publish(archive, trades_path(f"{day:%Y-%m-%d}"), trades_of(day))


def publish_trades_of_month(archive: Archive, days: int, without: int = 0) -> None:
    lines = [line for n in range(days) if n + 1 != without for line in trades_of(utc(2024, 1, 1 + n))]
    publish(archive, trades_path("2024-01", "monthly"), lines)


def told(pieces: list[Piece]) -> list[tuple[str, int | None]]:
    """The day or month of each piece, and its rows; None where the archive has nothing."""
    return [(p.origin.rsplit("/")[-1].removesuffix(".zip"), p.table.frame.height if p.table else None) for p in pieces]


# ── names and places ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("source", "kind", "first"),
    [
        (spot, "bars", "data/spot/monthly/klines/AAA/1h/AAA-1h-2024-01.zip"),
        (spot, "trades", "data/spot/daily/aggTrades/AAA/AAA-aggTrades-2024-01-31.zip"),
        (raw_spot, "trades", "data/spot/daily/trades/AAA/AAA-trades-2024-01-31.zip"),
        (raw_usd_margined, "trades", "data/futures/um/daily/trades/AAA/AAA-trades-2024-01-31.zip"),
        (raw_coin_margined, "trades", "data/futures/cm/daily/trades/AAA/AAA-trades-2024-01-31.zip"),
        (usd_margined, "quotes", "data/futures/um/daily/bookTicker/AAA/AAA-bookTicker-2024-01-31.zip"),
        (usd_margined, "depth", "data/futures/um/daily/bookDepth/AAA/AAA-bookDepth-2024-01-31.zip"),
        (usd_margined, "metrics", "data/futures/um/daily/metrics/AAA/AAA-metrics-2024-01-31.zip"),
        (usd_margined, "funding", "data/futures/um/monthly/fundingRate/AAA/AAA-fundingRate-2024-01.zip"),
        (usd_margined, "mark", "data/futures/um/monthly/markPriceKlines/AAA/1h/AAA-1h-2024-01.zip"),
        (coin_margined, "index", "data/futures/cm/monthly/indexPriceKlines/AAA/1h/AAA-1h-2024-01.zip"),
        (coin_margined, "premium", "data/futures/cm/monthly/premiumIndexKlines/AAA/1h/AAA-1h-2024-01.zip"),
        (
            coin_margined,
            "liquidations",
            "data/futures/cm/daily/liquidationSnapshot/AAA/AAA-liquidationSnapshot-2024-01-31.zip",
        ),
    ],
)
def test_objects_are_asked_for_by_the_names_they_have(
    archive: Archive, source: BinanceArchives, kind: str, first: str
) -> None:
    pieces = fetched(at(archive, source), Span(utc(2024, 1, 31), utc(2024, 2, 1)), kind)
    daily = first.replace("monthly", "daily").replace("2024-01.zip", "2024-01-31.zip")
    absent = first if kind == "funding" else daily
    assert [(piece.origin, piece.table) for piece in pieces] == [(absent, None)]
    assert archive.requests[0] == first
    assert set(archive.requests[1:]) <= {first, daily, first.replace("-31", "").replace("daily", "monthly")}


def test_a_source_names_the_kinds_it_has(archive: Archive) -> None:
    for source, kind in ((spot, "funding"), (usd_margined, "liquidations"), (raw_spot, "bars"), (spot, "news")):
        with pytest.raises(UsageError, match=f"this source has no {kind}"):
            fetched(at(archive, source), JANUARY, kind)
    with pytest.raises(UsageError, match="futures have no 1s klines"):
        fetched(at(archive, coin_margined), JANUARY, "mark", "1s")
    assert archive.requests == []


def test_pieces_are_counted_before_anybody_is_asked() -> None:
    counts = {"bars": 1, "funding": 1, "trades": 30, "metrics": 30}
    half = Span(utc(2024, 1, 2), utc(2024, 2, 1))
    for kind, count in counts.items():
        interval = "1h" if kind == "bars" else EVENTS
        assert usd_margined.count(Request(("AAA", "BBB"), interval, half, kind)) == 2 * count


# ── days and months ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_trades_come_a_day_at_a_time_and_speak_for_it(archive: Archive) -> None:
    publish_trades(archive, [utc(2024, 1, day) for day in (1, 2)])
    pieces = fetched(at(archive, spot), Span(utc(2024, 1, 1, 13), utc(2024, 1, 3)), "trades")
    assert told(pieces) == [("AAA-aggTrades-2024-01-01", 24), ("AAA-aggTrades-2024-01-02", 24)]
    assert [piece.span for piece in pieces] == [Span(utc(2024, 1, n), utc(2024, 1, n + 1)) for n in (1, 2)]


def test_days_without_a_file_of_their_own_are_taken_from_the_month(archive: Archive) -> None:
    publish_trades(archive, [utc(2024, 1, 1), utc(2024, 1, 4)])
    publish_trades_of_month(archive, days=4, without=3)
    span = Span(utc(2024, 1, 1), utc(2024, 1, 5))
    pieces = fetched(at(archive, spot), span, "trades")
    month = trades_path("2024-01", "monthly")
    assert told(pieces) == [
        ("AAA-aggTrades-2024-01-01", 24),
        ("AAA-aggTrades-2024-01.zip#2024-01-02", 24),
        ("AAA-aggTrades-2024-01-03", None),
        ("AAA-aggTrades-2024-01-04", 24),
    ]
    assert pieces[1].table is not None
    assert pieces[1].table.frame["id"].to_list() == list(range(24, 48))
    assert pieces[1].span == Span(utc(2024, 1, 2), utc(2024, 1, 3))
    assert archive.requests.count(month) == 1
    archive.requests.clear()
    done = {piece.origin: piece.digest for piece in pieces if piece.table}
    assert told(fetched(at(archive, spot), span, "trades", done=done)) == [("AAA-aggTrades-2024-01-03", None)]


def test_what_exists_only_by_the_day_is_not_looked_for_in_months(archive: Archive) -> None:
    assert told(fetched(at(archive, usd_margined), Span(utc(2024, 1, 1), utc(2024, 1, 2)), "metrics")) == [
        ("AAA-metrics-2024-01-01", None)
    ]
    assert not any("monthly" in path for path in archive.requests)


def test_kinds_with_a_key_speak_for_no_span(archive: Archive) -> None:
    path = "data/futures/um/monthly/fundingRate/AAA/AAA-fundingRate-2024-01.zip"
    publish(archive, path, ["calc_time,funding_interval_hours,last_funding_rate\n", "1704067200007,8,0.0001\n"])
    (piece,) = fetched(at(archive, usd_margined), JANUARY, "funding")
    assert (piece.origin, piece.span, piece.table and piece.table.frame.height) == (path, None, 1)


def test_what_is_done_is_not_asked_for_again_in_any_cadence(archive: Archive) -> None:
    source, request = law_case(archive)
    done = {piece.origin: piece.digest for piece in source.fetch(request, {})}
    assert len(done) == 3
    archive.requests.clear()
    assert list(source.fetch(request, done)) == []
    assert archive.requests == []


# ── files that were published again ─────────────────────────────────────────────────────────────────────────────────


def test_a_refresh_fetches_what_was_published_again_and_nothing_else(archive: Archive) -> None:
    days = [utc(2024, 1, day) for day in (1, 2, 3)]
    publish_trades(archive, days)
    span, source = Span(days[0], days[2]), at(archive, spot)
    done = {piece.origin: piece.digest for piece in fetched(source, span, "trades")}
    publish(archive, trades_path("2024-01-02"), trades_of(days[1])[:7])
    archive.requests.clear()
    refreshed = fetched(replace(source, refresh=True), Span(days[0], utc(2024, 1, 4)), "trades", done=done)
    assert told(refreshed) == [("AAA-aggTrades-2024-01-02", 7), ("AAA-aggTrades-2024-01-03", 24)]
    assert refreshed[0].digest != done[refreshed[0].origin]
    first, second, third = (trades_path(f"{day:%Y-%m-%d}") for day in days)
    assert sorted(archive.requests) == sorted(
        [f"{first}.CHECKSUM", f"{second}.CHECKSUM", second, f"{second}.CHECKSUM", third, f"{third}.CHECKSUM"]
    )


def test_a_refresh_leaves_alone_what_is_no_longer_published(archive: Archive) -> None:
    month = month_path("AAA", "2024-01", interval="1h")
    assert fetched(replace(at(archive, spot), refresh=True), JANUARY, done={month: "0" * 64}) == []
    assert archive.requests == [f"{month}.CHECKSUM"]


# ── many at once ────────────────────────────────────────────────────────────────────────────────────────────────────


class Gauge:
    """A fault that answers as usual, after a while; it knows how many it answered at the same time."""

    def __init__(self, seed: int) -> None:
        self.at_once = self.most = 0
        self._lock, self._random = Lock(), random.Random(seed)

    def __call__(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        with self._lock:
            self.at_once += 1
            self.most = max(self.most, self.at_once)
            wait = self._random.uniform(0, 0.03)
        time.sleep(wait)
        with self._lock:
            self.at_once -= 1
        send(handler, 200 if body else 404, body)


def publish_year(archive: Archive, symbols: Collection[str], fault: Fault | None = None) -> None:
    for symbol in symbols:
        for month in range(1, 13):
            start = utc(2023, month, 1)
            path = month_path(symbol, f"{start:%Y-%m}", interval="1h")
            publish(archive, path, kline_lines(start, 24 * 28, HOUR))
            if fault:
                archive.play(path, repeat(fault))


YEAR = Span(utc(2023, 1, 1), utc(2024, 1, 1))


def test_pieces_come_in_order_however_the_answers_come(archive: Archive) -> None:
    gauge = Gauge(seed=5)
    publish_year(archive, ("AAA", "BBB"), gauge)
    first, second = (fetched(at(archive, spot), YEAR, symbols=("AAA", "BBB")) for _ in range(2))
    assert [piece.origin for piece in first] == [
        month_path(symbol, f"2023-{month:02}", interval="1h") for symbol in ("AAA", "BBB") for month in range(1, 13)
    ]
    assert [(p.origin, p.digest, p.table and p.table.digest) for p in first] == [
        (p.origin, p.digest, p.table and p.table.digest) for p in second
    ]
    assert 2 <= gauge.most <= 8


def asked_of(archive: Archive) -> int:
    """How many objects were asked for, their checksums aside."""
    return len({path.removesuffix(".CHECKSUM") for path in archive.requests})


def test_nobody_runs_far_ahead_of_a_slow_reader(archive: Archive) -> None:
    publish_year(archive, ("AAA", "BBB"))
    pieces = at(archive, spot).fetch(Request(("AAA", "BBB"), "1h", YEAR), {})
    next(pieces)
    while asked_of(archive) < 9:
        time.sleep(0.01)
    time.sleep(0.5)  # in which it would run on, if it did
    assert asked_of(archive) == 9
    assert len(list(pieces)) == 23


def test_huge_objects_are_not_read_many_at_a_time(archive: Archive) -> None:
    gauge, days = Gauge(seed=6), [utc(2024, 1, day) for day in range(1, 9)]
    publish_trades(archive, days)
    for day in days:
        archive.play(trades_path(f"{day:%Y-%m-%d}"), repeat(gauge))
    assert len(fetched(at(archive, spot), Span(days[0], utc(2024, 1, 9)), "trades")) == 8
    assert gauge.most == 2


def silent(handler: BaseHTTPRequestHandler, _: bytes) -> None:
    """Promise a body and never send it."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.flush()
    time.sleep(5)


PATIENT = Patience(tries=6, total=900.0, silence=60.0, first_wait=60.0)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C is heard, also where the tests run in the background of a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("fault", [silent, status(503), status(429, Retry_After="60")])
def test_an_interrupted_fetch_ends_at_once_and_leaves_no_threads(archive: Archive, fault: Fault) -> None:
    """Ctrl-C while every thread waits: for a byte, for its next try, for a turn."""
    publish_year(archive, ("AAA",))
    for month in range(2, 13):
        archive.play(month_path("AAA", f"2023-{month:02}", interval="1h"), repeat(fault))
    before = threading.active_count()
    pieces = replace(at(archive, spot), patience=PATIENT).fetch(Request(("AAA",), "1h", YEAR), {})
    interrupt = Timer(0.3, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
    interrupt.start()
    with pytest.raises(KeyboardInterrupt):
        list(pieces)
    ended = time.monotonic()
    interrupt.join()
    ours = [thread.name for thread in threading.enumerate() if thread.name.startswith("ThreadPool")]
    assert (ours, time.monotonic() - ended < 2) == ([], True)
    assert threading.active_count() <= before + 9  # the server's own


def test_a_fetch_that_is_closed_ends_at_once(archive: Archive) -> None:
    publish_year(archive, ("AAA",))
    archive.play(month_path("AAA", "2023-02", interval="1h"), [silent])
    pieces = replace(at(archive, spot), patience=PATIENT).fetch(Request(("AAA",), "1h", YEAR), {})
    next(pieces)
    began = time.monotonic()
    pieces.close()  # type: ignore[attr-defined]
    assert time.monotonic() - began < 3


def test_an_error_comes_when_its_turn_comes(archive: Archive) -> None:
    publish_year(archive, ("AAA",))
    archive.play(month_path("AAA", "2023-04", interval="1h"), [html])
    pieces = at(archive, spot).fetch(Request(("AAA",), "1h", YEAR), {})
    assert [next(pieces).origin[-11:-4] for _ in range(3)] == ["2023-01", "2023-02", "2023-03"]
    with pytest.raises(SourceError, match=r"2023-04\.zip is no zip"):
        next(pieces)


def test_with_every_third_answer_at_fault_the_rows_are_the_same(archive: Archive) -> None:
    publish_year(archive, ("AAA",))
    span = Span(utc(2023, 1, 1), utc(2023, 5, 1))
    undisturbed = fetched(at(archive, spot), span)
    faults = [status(500), status(503, Retry_After="0"), cut_short, status(429), status(408)]
    patience = replace(HASTY, tries=12, first_wait=0.001)
    for seed in range(20):
        luck = random.Random(seed)
        for month in range(1, 5):
            path = month_path("AAA", f"2023-{month:02}", interval="1h")
            for asked in (path, f"{path}.CHECKSUM"):
                archive.play(asked, [luck.choice(faults) for _ in range(4) if luck.random() < 0.3])
        disturbed = fetched(replace(at(archive, spot), patience=patience), span)
        assert [(p.origin, p.digest) for p in disturbed] == [(p.origin, p.digest) for p in undisturbed]
        assert all(
            a.table and b.table and a.table.frame.equals(b.table.frame)
            for a, b in zip(disturbed, undisturbed, strict=True)
        )


MARKET = Path(__file__).parents[2].parent / "shared/market"


@pytest.mark.parametrize(
    ("source", "folder", "symbol", "months"),
    [
        (usd_margined, "binance_um_futures", "FILUSDT", ("2023-04", "2023-05", "2023-06")),
        (spot, "binance_spot", "BTCUSDT", ("2026-03", "2026-04")),
    ],
)
def test_real_months_come_in_whole_and_as_duckdb_reads_them(
    archive: Archive, tmp_path: Path, source: BinanceArchives, folder: str, symbol: str, months: tuple[str, ...]
) -> None:
    real = MARKET / "crypto" / folder / "klines_1m"
    if not real.is_dir():
        pytest.skip(f"the real market data is not at {MARKET}")
    for month in months:
        name = f"{symbol}-1m-{month}"
        archive.publish(month_path(symbol, month, source.market), (real / f"{name}.zip").read_bytes())
        with zipfile.ZipFile(real / f"{name}.zip") as file:
            (tmp_path / f"{name}.csv").write_bytes(file.read(f"{name}.csv"))
    start = datetime.fromisoformat(f"{months[0]}-01T00:00:00+00:00")
    span = Span(start, start + timedelta(days=31 * len(months) - 5))
    pieces = fetched(at(archive, source), span, interval="1m", symbols=(symbol,))
    assert [piece.origin[-11:-4] for piece in pieces] == list(months)
    assert all(piece.rejected.is_empty() and piece.repeats == 0 for piece in pieces)
    frame = pl.concat([piece.table.frame for piece in pieces if piece.table])
    said = duckdb.sql(
        "SELECT count(*), sum(column05), sum(column09), sum(column07), sum(column08), min(column00), max(column00)"
        f" FROM read_csv('{tmp_path}/*.csv', header = false, skip = {int(source is usd_margined)},"
        " names = ['column00','column01','column02','column03','column04','column05','column06','column07',"
        " 'column08','column09','column10','column11'])"
    ).fetchall()[0]
    assert frame.height == said[0]
    assert frame["volume"].sum() == pytest.approx(said[1], rel=1e-12)
    assert frame["buy_volume"].sum() == pytest.approx(said[2], rel=1e-12)
    assert frame["quote_volume"].sum() == pytest.approx(said[3], rel=1e-12)
    assert frame["trades"].sum() == said[4]
    unit = 1_000_000 if source is spot else 1_000
    opened = [datetime.fromtimestamp(time / unit, UTC) for time in said[5:]]
    assert [frame["time"].min(), frame["time"].max()] == [time + timedelta(minutes=1) for time in opened]


# ── zips that are not what they seem ────────────────────────────────────────────────────────────────────────────────

TRADES_OF_A_DAY = trades_path("2024-01-01")
NAME = "AAA-aggTrades-2024-01-01.csv"


def symlink_zip() -> bytes:
    buffer, link = io.BytesIO(), zipfile.ZipInfo(NAME)
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(link, "../../../../etc/passwd")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (zipped(NAME, "", **{"../evil": "x"}), r"it holds \['AAA-aggTrades-2024-01-01.csv', '../evil'\]"),
        (zipped(f"../{NAME}", "x"), "it holds"),
        (zipped(f"/tmp/{NAME}", "x"), "it holds"),
        (symlink_zip(), "begins with '../../../../etc/passwd', which is neither aggTrades nor their header"),
        (zipped(NAME, b"0" * 40_000_000), "it has a line of more than 33,554,432 bytes"),
        (b"PK\x03\x04 and then nonsense", "cannot be unzipped"),
        (zipped(NAME, "".join(trades_of(utc(2024, 1, 1))))[:-30], "cannot be unzipped"),
    ],
)
def test_a_zip_of_trades_that_is_not_what_its_name_says_is_refused(
    archive: Archive, content: bytes, why: str, tmp_path: Path
) -> None:
    archive.publish(TRADES_OF_A_DAY, content)
    with pytest.raises(SourceError, match=why):
        fetched(at(archive, spot), Span(utc(2024, 1, 1), utc(2024, 1, 2)), "trades")
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]


def test_a_month_that_fails_its_checksum_gives_no_day(archive: Archive) -> None:
    publish_trades_of_month(archive, days=4)
    archive.play(trades_path("2024-01", "monthly"), repeat(wrong_bytes))
    with pytest.raises(SourceError, match="twice in a row"):
        fetched(at(archive, spot), Span(utc(2024, 1, 1), utc(2024, 1, 2)), "trades")


def test_a_zip_that_is_kept_on_disk_is_read_like_any_other(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    source, request = law_case(archive)
    in_memory = [piece.table for piece in source.fetch(request, {})]
    monkeypatch.setattr("lab.sources.binance.objects.IN_MEMORY", 100)
    on_disk = [piece.table for piece in source.fetch(request, {})]
    assert len(on_disk) == 3
    assert pl.concat([a.frame for a in on_disk if a]).equals(pl.concat([b.frame for b in in_memory if b]))


def test_the_running_day_is_not_asked_of_the_archive(archive: Archive) -> None:
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    assert fetched(at(archive, spot), Span(today, today + DAY), "trades") == []
    assert fetched(at(archive, spot), Span(today, today + DAY)) == []
    assert archive.requests == []
    assert day_path("AAA", today, interval="1h") not in archive.requests
