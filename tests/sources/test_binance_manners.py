"""How a server is treated that says slow down, go away, or not here."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from itertools import repeat
from pathlib import Path

import pytest

from lab.errors import SourceError
from lab.nouns import Span
from lab.sources import Request
from lab.sources.binance import AT_ONCE, spot
from lab.sources.web import Connections, Cut, Patience, connections, get
from tests.archive import Archive, kline_lines, month_path, send, serving, status, utc, zipped

HASTY = Patience(tries=6, total=10.0, silence=1.0, first_wait=0.01)
YEARS = Span(utc(2022, 1, 1), utc(2024, 1, 1))
ON_THEIR_WAY = 12  # requests may arrive after a refusal was sent: of eight threads, some that do not know of it yet


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with serving(tmp_path / "archive") as served:
        yield served


class Bouncer:
    """Answers every 10th request by 429 and bans whoever asks again before the time it named."""

    def __init__(self, wait: int = 1) -> None:
        self.early = self.turned_away = 0
        self._wait, self._asked, self._opens, self._meanwhile = wait, 0, 0.0, 0
        self._lock = threading.Lock()

    def __call__(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        now = time.monotonic()
        with self._lock:
            self._asked += 1
            self._meanwhile += now < self._opens
            early = now < self._opens and self._meanwhile > ON_THEIR_WAY
            full = self._asked % 10 == 0 and now >= self._opens
            if full:
                self._opens, self._meanwhile = now + self._wait, 0
            self.early += early
            self.turned_away += full
        if early:
            send(handler, 418, b"", Retry_After="120")
        elif full:
            send(handler, 429, b"", Retry_After=str(self._wait))
        else:
            send(handler, 200, body)


def publish_years(archive: Archive) -> list[str]:
    months = [utc(year, month, 1) for year in (2022, 2023) for month in range(1, 13)]
    paths = [month_path("AAA", f"{month:%Y-%m}", interval="1h") for month in months]
    for month, path in zip(months, paths, strict=True):
        lines = kline_lines(month, 100, timedelta(hours=1))
        archive.publish(path, zipped(f"{Path(path).stem}.csv", "".join(lines)))
    return paths


def test_no_thread_asks_a_host_before_the_time_it_named(archive: Archive) -> None:
    bouncer = Bouncer()
    for path in publish_years(archive):
        archive.play(path, repeat(bouncer))
        archive.play(f"{path}.CHECKSUM", repeat(bouncer))
    source = replace(spot, base_url=archive.url, patience=HASTY)
    pieces = list(source.fetch(Request(("AAA",), "1h", YEARS), {}))
    assert (len(pieces), bouncer.early) == (24, 0)
    assert bouncer.turned_away >= 3


def slow(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    time.sleep(1)
    send(handler, 200, body)


def test_a_ban_stops_all_threads_and_says_until_when(archive: Archive) -> None:
    """One of them is banned while the others wait for answers: after these, none asks again."""
    paths = publish_years(archive)
    for path in paths[: AT_ONCE - 1]:
        archive.play(path, repeat(slow))
        archive.play(f"{path}.CHECKSUM", repeat(slow))
    for path in (paths[AT_ONCE - 1], f"{paths[AT_ONCE - 1]}.CHECKSUM"):
        archive.play(path, repeat(status(418, Retry_After="7200")))
    source = replace(spot, base_url=archive.url, patience=HASTY)
    with pytest.raises(SourceError, match=r"answered 418 \(too many .* is banned until \d{4}-.*:\d\d UTC\)"):
        list(source.fetch(Request(("AAA",), "1h", YEARS), {}))
    assert len(archive.requests) == AT_ONCE


def test_a_host_that_wants_quiet_for_too_long_is_not_waited_for(archive: Archive) -> None:
    archive.play("first", [status(429, Retry_After="3600")])
    with connections() as pools:
        with pytest.raises(SourceError, match="in 1 tries: status 429"):
            get(pools, f"{archive.url}/first", at_most=10, patience=HASTY)
        with pytest.raises(SourceError, match=r"second was not asked: its host wants no requests before .* UTC"):
            get(pools, f"{archive.url}/second", at_most=10, patience=HASTY)
    assert archive.requests == ["first"]


def test_another_host_may_be_asked_meanwhile(archive: Archive, tmp_path: Path) -> None:
    archive.play("first", repeat(status(418)))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/second").write_bytes(b"here")
    with serving(tmp_path / "elsewhere") as elsewhere, connections() as pools:
        with pytest.raises(SourceError, match=r"is banned\)"):
            get(pools, f"{archive.url}/first", at_most=10, patience=HASTY)
        with pytest.raises(SourceError, match=r"/first answered 418"):
            get(pools, f"{archive.url}/second", at_most=10, patience=HASTY)
        assert archive.requests == ["first"]
        url = elsewhere.url.replace("127.0.0.1", "localhost")
        assert get(pools, f"{url}/second", at_most=10, patience=HASTY) == b"here"


def test_a_country_that_is_not_served_is_told_so(archive: Archive) -> None:
    archive.play("first", repeat(status(451)))
    with connections() as pools, pytest.raises(SourceError, match=r"answered 451 \(not served in this country\)") as no:
        get(pools, f"{archive.url}/first", at_most=10, patience=HASTY)
    assert no.value.fix.startswith("ask from where it is served")
    assert archive.requests == ["first"]


def test_cut_connections_are_of_no_more_use(archive: Archive) -> None:
    with connections() as pools:
        pools.cut()
        with pytest.raises(Cut):
            get(pools, f"{archive.url}/first", at_most=10, patience=HASTY)
        with pytest.raises(Cut):
            list(pools.until_cut([1]))
    assert archive.requests == []


def test_a_brake_holds_all_threads_until_the_last_of_its_times() -> None:
    pools, url = Connections(), "http://exchange/x"
    pools.brake(url, 0.3)
    pools.brake(url, 0.1)  # does not shorten it
    began = time.monotonic()
    with ThreadPoolExecutor(4) as threads:
        for turn in [threads.submit(pools.await_turn, url, began + 5) for _ in range(4)]:
            turn.result()
    assert 0.3 <= time.monotonic() - began < 1.0
