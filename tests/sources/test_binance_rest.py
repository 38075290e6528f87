"""The days that Binance's archive does not have yet, from a REST interface that answers as the exchange's does."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest

from lab.errors import SourceError
from lab.nouns import EVENTS, Bars, Piece, Span
from lab.sources import Request, binance
from lab.sources.binance import BinanceArchives, coin_margined, spot, usd_margined
from lab.sources.web import Patience
from tests.archive import Archive, day_path, kline_lines, serving, status, utc, zipped

HASTY = Patience(tries=3, total=10.0, silence=1.0, first_wait=0.01)
NOON = utc(2026, 3, 10, 12, 0, 30)  # now, in these tests
TODAY, MINUTE, DAY = utc(2026, 3, 10), timedelta(minutes=1), timedelta(days=1)
YESTERDAY = TODAY - DAY
PATHS = {"spot": "api/v3", "futures/um": "fapi/v1", "futures/cm": "dapi/v1"}


class Noon(datetime):
    @classmethod
    def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
        return NOON.astimezone(tz)


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Archive]:
    monkeypatch.setattr(binance, "datetime", Noon)
    with serving(tmp_path / "archive") as served:
        yield served


def ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def cells(line: str) -> list[Any]:
    """A line of the archive as the REST interface has it: times and counts are numbers, all else is text."""
    return [int(cell) if n in (0, 6, 8) else cell for n, cell in enumerate(line.strip().split(","))]


@dataclass
class Exchange:
    """Klines of every minute from yesterday on, the running one last; as documented, the oldest `limit` of a span."""

    archive: Archive
    market: str = "spot"
    cap: int = 1000
    now: datetime = NOON
    asked: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        place = PATHS[self.market]
        self.archive.route(f"{place}/klines", self.klines)
        self.archive.route(f"{place}/time", lambda _: json.dumps({"serverTime": ms(self.now)}).encode())

    def klines(self, query: dict[str, str]) -> bytes:
        self.asked.append(query)
        begun = int((self.now - YESTERDAY) / MINUTE) + 1
        rows = map(cells, kline_lines(YESTERDAY, begun))
        fitting = [row for row in rows if int(query["startTime"]) <= row[0] <= int(query["endTime"])]
        return json.dumps(fitting[: min(int(query["limit"]), self.cap)]).encode()


def at(archive: Archive, source: BinanceArchives = spot) -> BinanceArchives:
    return replace(source, base_url=archive.url, rest_url=archive.url, patience=HASTY)


def fetched(source: BinanceArchives, start: datetime = YESTERDAY, **settings: Any) -> list[Piece]:
    request = Request(("BTCUSDT",), "1m", Span(start, TODAY + DAY))
    return list(source.fetch(request, settings.pop("done", {})))


def minutes(first: datetime, count: int) -> list[datetime]:
    return [first + (n + 1) * MINUTE for n in range(count)]


def times(piece: Piece) -> list[datetime]:
    assert isinstance(piece.table, Bars)
    return piece.table.frame["time"].to_list()


def test_days_that_are_not_published_yet_come_from_the_exchange_up_to_the_last_closed_bar(archive: Archive) -> None:
    exchange = Exchange(archive)
    before, running = fetched(at(archive))
    assert times(before) == minutes(YESTERDAY, 1440)
    assert times(running) == minutes(TODAY, 720)  # 12:00 is still open
    assert [before.origin, running.origin] == [
        "/api/v3 BTCUSDT klines 1m 2026-03-09 to 2026-03-09T23:59:00",
        "/api/v3 BTCUSDT klines 1m 2026-03-10 to 2026-03-10T11:59:00",
    ]
    assert [(query["limit"], query["symbol"], query["interval"]) for query in exchange.asked] == [
        ("1000", "BTCUSDT", "1m")
    ] * 3


def test_bars_of_the_exchange_are_those_that_the_archive_publishes_later(archive: Archive) -> None:
    Exchange(archive)
    asked, _ = fetched(at(archive))
    path = day_path("BTCUSDT", YESTERDAY)
    archive.publish(path, zipped(f"{Path(path).stem}.csv", "".join(kline_lines(YESTERDAY, 1440))))
    published, _ = fetched(at(archive), done={asked.origin: asked.digest})
    assert published.origin == path
    assert asked.table is not None
    assert published.table is not None
    assert published.table.frame.equals(asked.table.frame)


def test_a_day_that_is_complete_is_not_asked_for_again_and_a_running_one_is(archive: Archive) -> None:
    exchange = Exchange(archive)
    done = {piece.origin: piece.digest for piece in fetched(at(archive))}
    exchange.asked.clear()
    assert fetched(at(archive), done=done) == []
    assert exchange.asked == []
    del done["/api/v3 BTCUSDT klines 1m 2026-03-10 to 2026-03-10T11:59:00"]
    done["/api/v3 BTCUSDT klines 1m 2026-03-10 to 2026-03-10T11:58:00"] = "an hour ago"
    (again,) = fetched(at(archive), done=done)
    assert len(times(again)) == 720


@pytest.mark.parametrize("cap", [1000, 499, 100])
def test_no_page_is_too_short_to_be_followed(archive: Archive, cap: int) -> None:
    Exchange(archive, cap=cap)
    assert times(fetched(at(archive), TODAY)[0]) == minutes(TODAY, 720)


@pytest.mark.parametrize(("source", "market"), [(usd_margined, "futures/um"), (coin_margined, "futures/cm")])
def test_futures_are_asked_for_the_cheapest_number_of_rows(
    archive: Archive, source: BinanceArchives, market: str
) -> None:
    exchange = Exchange(archive, market)
    (running,) = fetched(at(archive, source), TODAY)
    assert times(running) == minutes(TODAY, 720)
    assert [query["limit"] for query in exchange.asked] == ["499"] * 2
    line = cells(kline_lines(TODAY, 1)[0])
    assert running.table is not None
    volume = running.table.frame["volume"][0]
    assert volume == float(line[7] if market == "futures/cm" else line[5])


def test_the_servers_clock_decides_what_has_closed(archive: Archive) -> None:
    Exchange(archive, now=NOON - 5 * MINUTE)
    assert times(fetched(at(archive), TODAY)[0]) == minutes(TODAY, 715)


def test_a_day_that_is_overdue_is_absent_and_not_asked_of_the_exchange(archive: Archive) -> None:
    exchange = Exchange(archive)
    request = Request(("BTCUSDT",), "1m", Span(utc(2026, 3, 7), utc(2026, 3, 8)))
    assert [piece.table for piece in at(archive).fetch(request, {})] == [None]
    assert exchange.asked == []


def test_a_mirror_has_no_exchange_beside_it_unless_one_is_named(archive: Archive) -> None:
    exchange = Exchange(archive)
    assert fetched(replace(at(archive), rest_url="")) == []
    assert exchange.asked == []


def test_a_symbol_that_trades_no_more_has_no_running_day(archive: Archive) -> None:
    Exchange(archive)
    archive.route("api/v3/klines", lambda _: (400, b'{"code":-1121,"msg":"Invalid symbol."}'))
    assert fetched(at(archive)) == []


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((400, b'{"code":-1120,"msg":"Invalid interval."}'), r"answered 400 \('Invalid interval.', code -1120\)"),
        ((400, b"<html>"), "klines answered b'<html>', which is not what it should be"),
        ((200, b"<html>"), "klines answered b'<html>'"),
        ((200, b'{"a":1}'), "klines answered {'a': 1}"),
        ((200, b"[1,2]"), "klines answered 2,"),
        ((200, b"[[1,2]]"), r"klines answered \[1, 2\],"),
        ((200, json.dumps([cells(kline_lines(YESTERDAY, 1)[0])]).encode()), r"klines answered \[1773"),
        ((404, b""), "answered 404"),
    ],
)
def test_an_answer_that_is_no_page_of_klines_is_refused(archive: Archive, answer: tuple[int, bytes], why: str) -> None:
    Exchange(archive)
    archive.route("api/v3/klines", lambda _: answer)
    with pytest.raises(SourceError, match=why):
        fetched(at(archive), TODAY)


def test_rows_of_the_exchange_are_judged_like_those_of_the_archive(archive: Archive) -> None:
    Exchange(archive)
    rows = [cells(line) for line in kline_lines(TODAY, 3)]
    archive.route("api/v3/klines", lambda q: json.dumps(rows if int(q["startTime"]) == ms(TODAY) else []).encode())
    for smuggled in ("1,2\n3", [1], None, {}):
        rows[1][2] = smuggled
        with pytest.raises(SourceError, match=r"klines answered \[1773"):
            fetched(at(archive), TODAY)
    rows[1][2] = "-1"
    (piece,) = fetched(at(archive), TODAY)
    assert (len(times(piece)), piece.rejected["fault"].to_list()) == (2, ["a price is zero or below"])


def test_what_the_archive_had_is_there_before_the_exchange_refuses(archive: Archive) -> None:
    path = day_path("BTCUSDT", YESTERDAY)
    archive.publish(path, zipped(f"{Path(path).stem}.csv", "".join(kline_lines(YESTERDAY, 1440))))
    archive.play("fapi/v1/time", repeat(status(451)))
    archive.play("api/v3/time", repeat(status(451)))
    pieces = at(archive).fetch(Request(("BTCUSDT",), "1m", Span(YESTERDAY, TODAY + DAY)), {})
    assert next(pieces).origin == path
    with pytest.raises(SourceError, match=r"time answered 451 \(not served in this country\)"):
        next(pieces)


def test_near_the_limit_the_next_minute_is_waited_for(archive: Archive) -> None:
    exchange = Exchange(archive)

    def nearly_full(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        handler.send_response_only(200)
        handler.send_header("Date", "Tue, 10 Mar 2026 12:00:59 GMT")
        body = json.dumps({"serverTime": ms(NOON)}).encode()
        for name, value in (("X-MBX-USED-WEIGHT-1M", "4800"), ("Content-Length", str(len(body)))):
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    archive.play("api/v3/time", [nearly_full])
    assert len(fetched(at(archive), TODAY)) == 1
    assert len(exchange.asked) == 1
    told_at, asked_at = (
        next(t for t, path in zip(archive.times, archive.requests, strict=True) if path.startswith(f"api/v3/{what}"))
        for what in ("time", "klines")
    )
    assert 1.0 <= asked_at - told_at < 2.0


def test_a_busy_exchange_is_asked_again_not_before_it_wants(archive: Archive) -> None:
    Exchange(archive)
    archive.play("api/v3/klines", [status(429, Retry_After="1")])
    began = time.monotonic()
    assert len(fetched(at(archive), TODAY)) == 1
    assert time.monotonic() - began >= 1


# ── funding ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def payment(moment: datetime, rate: str = "0.00010000", mark: str = "64000.1") -> dict[str, Any]:
    return {"symbol": "BTCUSDT", "fundingTime": ms(moment) + 3, "fundingRate": rate, "markPrice": mark}


def test_funding_of_the_running_month_comes_from_the_exchange(archive: Archive) -> None:
    Exchange(archive, "futures/um")
    paid = [payment(utc(2026, 3, 1) + n * timedelta(hours=8)) for n in range(28)]
    paid[1]["markPrice"] = ""
    asked = []

    def answer(query: dict[str, str]) -> bytes:
        asked.append(query)
        first, last = int(query["startTime"]), int(query["endTime"])
        return json.dumps([row for row in paid if first <= row["fundingTime"] <= last][: int(query["limit"])]).encode()

    archive.route("fapi/v1/fundingRate", answer)
    request = Request(("BTCUSDT",), EVENTS, Span(utc(2026, 2, 1), utc(2026, 4, 1)), "funding")
    february = "data/futures/um/monthly/fundingRate/BTCUSDT/BTCUSDT-fundingRate-2026-02.zip"
    archive.publish(february, zipped("BTCUSDT-fundingRate-2026-02.csv", f"{ms(utc(2026, 2, 1))},8,0.0002\n"))
    old, running = at(archive, usd_margined).fetch(request, {})
    assert (old.origin, running.origin) == (
        february,
        "/fapi/v1 BTCUSDT fundingRate 2026-03-01 to 2026-03-10T00:00:00",
    )
    assert running.table is not None
    frame = running.table.frame
    assert frame.height == 28
    assert frame.row(0, named=True) == {
        "symbol": "BTCUSDT",
        "time": utc(2026, 3, 1),
        "known_at": utc(2026, 3, 1) + timedelta(milliseconds=3),
        "rate": 0.0001,
        "interval_hours": None,
        "mark_price": 64000.1,
    }
    assert frame["mark_price"].null_count() == 1
    assert {query["limit"] for query in asked} == {"1000"}
    done = {piece.origin: piece.digest for piece in (old, running)}
    assert list(at(archive, usd_margined).fetch(request, done)) == []


def test_funding_of_coin_margined_futures_waits_for_the_archive(archive: Archive) -> None:
    request = Request(("BTCUSD_PERP",), EVENTS, Span(utc(2026, 1, 1), utc(2026, 4, 1)), "funding")
    pieces = at(archive, coin_margined).fetch(request, {})
    assert [(piece.origin[-11:-4], piece.table) for piece in pieces] == [("2026-01", None), ("2026-02", None)]
    assert not any("dapi" in path for path in archive.requests)


def test_the_clock_of_these_tests_is_a_real_one() -> None:
    assert Noon.now(UTC) == NOON
