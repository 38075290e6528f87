"""Servers and lines that fail at any moment, and downloads that are killed: what is stored is what the archive has."""

import os
import random
import signal
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from itertools import repeat
from pathlib import Path
from zipfile import ZipFile

import pytest

from lab import store
from lab.errors import SourceError
from lab.nouns import EVENTS, Span
from lab.sources import Request
from lab.sources.binance import spot
from lab.sources.web import Patience
from tests.archive import Archive, cut_short, day_path, kline_lines, send, serving, status, utc, wrong_bytes, zipped
from tests.faults.conftest import Tally

ROOT = Path(__file__).parents[2]
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
FIRST, DAYS = utc(2024, 1, 1), 4
FAULTY = 0.3  # share of the answers
APART = 0.25  # seconds between the days of a slow download
SILENCE = 0.15  # seconds for which a silent server is listened to
HASTY = Patience(tries=5, total=10.0, silence=SILENCE, first_wait=0.002)
HASTY_AND_PROUD = replace(HASTY, tries=2)


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with serving(tmp_path / "archive") as served:
        served.server.RequestHandlerClass.disable_nagle_algorithm = True  # else each answer waits 40 ms
        yield served


def begun(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    """The header, and half of the body that it promises."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body[: len(body) // 2])
    handler.close_connection = True


def reset(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    """In the middle of the body, by a RST."""
    begun(handler, body)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def half_closed(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    """The server's half: what it does not send any more never comes, but it would still listen."""
    begun(handler, body)
    handler.connection.shutdown(socket.SHUT_WR)
    time.sleep(SILENCE / 2)


def silent(handler: BaseHTTPRequestHandler, _: bytes) -> None:
    time.sleep(1.5 * SILENCE)
    handler.close_connection = True


def silent_in_the_middle(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    begun(handler, body)
    handler.wfile.flush()
    time.sleep(1.5 * SILENCE)


def hung_up(handler: BaseHTTPRequestHandler, _: bytes) -> None:
    handler.close_connection = True


def another_version(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    """A whole zip under the right name, with rows that are not those of the checksum."""
    if not body.startswith(b"PK"):
        return wrong_bytes(handler, body)
    with ZipFile(BytesIO(body)) as file:
        (name,) = file.namelist()
        text = file.read(name)
    return send(handler, 200, zipped(name, text.replace(b"100", b"101")))


FAULTS = [
    *map(status, (500, 502, 503, 504, 408)),
    status(503, Retry_After="0"),
    *(cut_short, reset, half_closed, silent, silent_in_the_middle, hung_up, wrong_bytes, another_version),
]


@dataclass
class Weather:
    """Answers of an archive, of which a share is at fault; `played` counts the faults."""

    random: random.Random
    played: Counter[str] = field(default_factory=Counter)

    def over(self, archive: Archive, path: str, healthy: Callable[[BaseHTTPRequestHandler, bytes], None]) -> None:
        archive.play(path, self._answers(healthy))

    def _answers(
        self, healthy: Callable[[BaseHTTPRequestHandler, bytes], None]
    ) -> Iterator[Callable[[BaseHTTPRequestHandler, bytes], None]]:
        while True:
            if self.random.random() < FAULTY:
                fault = self.random.choice(FAULTS)
                self.played[getattr(fault, "__name__", "")] += 1
                yield fault
            else:
                yield healthy


def healthy(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    send(handler, 200, body)


def publish(archive: Archive) -> list[str]:
    """Four days of hourly klines, and of trades; the paths of all that is there."""
    paths = []
    for day in (FIRST + n * DAY for n in range(DAYS)):
        klines = day_path("AAA", day, interval="1h")
        archive.publish(klines, zipped(f"{Path(klines).stem}.csv", "".join(kline_lines(day, 24, HOUR))))
        trades = trades_path(day)
        archive.publish(trades, zipped(f"{Path(trades).stem}.csv", "".join(trade_lines(day, 200))))
        paths += [klines, f"{klines}.CHECKSUM", trades, f"{trades}.CHECKSUM"]
    return paths


def trades_path(day: datetime) -> str:
    return f"data/spot/daily/aggTrades/AAA/AAA-aggTrades-{day:%Y-%m-%d}.zip"


def trade_lines(day: datetime, count: int) -> list[str]:
    """As many trades, spread over the day and numbered from the first day on."""
    number, opened = (day - FIRST) // DAY * count, int(day.timestamp() * 1000)
    return [
        f"{number + n},{100 + n % 17 / 10},{1 + n % 5},{number + n},{number + n},{opened + n * (86_400_000 // count)},"
        f"{'true' if n % 3 else 'false'}\n"
        for n in range(count)
    ]


@dataclass(frozen=True)
class Fetch:
    """What is asked of an archive, into which store."""

    archive: Archive
    root: Path
    kind: str

    @property
    def request(self) -> Request:
        interval = "1h" if self.kind == "bars" else EVENTS
        return Request(("AAA",), interval, Span(FIRST, FIRST + DAYS * DAY), self.kind)

    @property
    def name(self) -> store.TableName:
        return store.TableName(self.root, "binance", "AAA", self.request.interval, self.kind)

    def run(self, patience: Patience = HASTY) -> None:
        source = replace(spot, base_url=self.archive.url, patience=patience)
        pieces = source.fetch(self.request, store.done(self.name))
        list(store.commit_as_they_come(self.root, "binance", pieces))

    @property
    def files(self) -> dict[str, bytes]:
        """What a plain glob sees, byte for byte."""
        return {
            str(path.relative_to(self.root)): path.read_bytes()
            for path in sorted(self.root.glob("kind=*/**/*.parquet"))
        }


@pytest.mark.tries("F3", 100, 1_000)
def test_with_three_in_ten_answers_at_fault_a_fetch_gets_the_same_bytes_or_says_why_not(
    archive: Archive, folder: Path, tally: Tally
) -> None:
    """Statuses, resets, half-closed lines, silence, cut and wrong bodies; every other pair asks only twice."""
    paths = publish(archive)
    whole = {kind: Fetch(archive, folder / f"whole {kind}", kind) for kind in ("bars", "trades")}
    for fetch in whole.values():
        fetch.run()
    outcomes: Counter[str] = Counter()
    weather = Weather(random.Random(int(tally.random.integers(1 << 32))))
    while tally.tried < tally.times:
        fetch = Fetch(archive, folder / f"{tally.tried}", "trades" if tally.tried % 2 else "bars")
        for path in paths:
            weather.over(archive, path, healthy)
        with tally.trial(tally.tried):
            try:
                fetch.run(HASTY if tally.tried % 4 < 2 else HASTY_AND_PROUD)
                outcomes["whole"] += 1
                assert fetch.files == whole[fetch.kind].files
            except SourceError as refusal:
                outcomes["refused"] += 1
                assert archive.url in refusal.problem
                assert refusal.fix
                self_consistent(fetch, whole[fetch.kind])
            for path in paths:
                archive.play(path, ())
            fetch.run()
            assert fetch.files == whole[fetch.kind].files
    tally.check()
    assert outcomes.total() == tally.times
    assert min(outcomes.values()) > 0  # else one of the two promises was not tried
    assert len(outcomes) == 2
    assert len(weather.played) == len({getattr(fault, "__name__", "") for fault in FAULTS})


def self_consistent(fetch: Fetch, whole: Fetch) -> None:
    """Nothing is half stored: what there is are whole days, each as in the store without faults."""
    assert store.verify(fetch.root) == []
    if (held := store.holding(fetch.name)) is None:
        assert fetch.files == {}
        return
    days = len(store.done(fetch.name))
    assert held.rows == days * (24 if fetch.kind == "bars" else 200)
    assert store.read(fetch.name).equals(store.read(whole.name)[: held.rows])


@pytest.mark.tries("F9", 4, 1_000)
def test_a_download_of_trades_killed_at_any_moment_and_carried_on_is_the_undisturbed_one(
    archive: Archive, tmp_path: Path, tally: Tally
) -> None:
    """Day after day arrives, a quarter of a second apart; the moments of the kills are spread over that time."""
    publish(archive)
    for n in range(DAYS):
        archive.play(trades_path(FIRST + n * DAY), repeat(slowly(n * APART)))
    undisturbed = Fetch(archive, lab_fetch(tmp_path / "undisturbed"), "trades")
    with started(undisturbed) as process:
        assert process.wait(60) == 0
    finished = partly = 0
    fetch = Fetch(archive, lab_fetch(tmp_path / "killed 0"), "trades")
    while tally.tried < tally.times:
        before = len(store.done(fetch.name))
        archive.requests.clear()
        with started(fetch) as process:
            while not archive.requests and process.poll() is None:
                time.sleep(0.001)
            time.sleep((tally.tried % 4 + tally.random.uniform(0.2, 0.8)) / 4 * DAYS * APART)
            process.kill()
        if process.returncode != -signal.SIGKILL:
            assert (process.returncode, len(store.done(fetch.name))) == (0, DAYS)
        else:
            with tally.trial(tally.tried):
                partly += before < len(store.done(fetch.name)) < DAYS
                assert len(store.done(fetch.name)) >= before
                self_consistent(fetch, undisturbed)
        if len(store.done(fetch.name)) == DAYS or tally.tried == tally.times:
            with started(fetch) as process:
                assert process.wait(60) == 0
            assert fetch.files == undisturbed.files
            finished += 1
            fetch = Fetch(archive, lab_fetch(tmp_path / f"killed {finished}"), "trades")
    tally.check()
    assert finished >= 1
    assert partly >= 1  # else no kill came while there was something to lose


def slowly(seconds: float) -> Callable[[BaseHTTPRequestHandler, bytes], None]:
    def answer(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        time.sleep(seconds)
        send(handler, 200, body)

    return answer


def lab_fetch(folder: Path) -> Path:
    """A folder to run the tool in; the store that it then has."""
    folder.mkdir()
    return folder / "data"


def started(fetch: Fetch) -> "subprocess.Popen[bytes]":
    """`lab fetch`, as a person runs it."""
    last = FIRST + DAYS * DAY
    command = [*(sys.executable, "-m", "cli", "fetch", "AAA", "--kind", "trades", "--base-url", fetch.archive.url)]
    command += ["--start", f"{FIRST:%Y-%m-%d}", "--end", f"{last:%Y-%m-%d}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, cwd=fetch.root.parent, env=environment, **quiet)  # type: ignore[call-overload,no-any-return]
