"""A kline archive on loopback, laid out as the exchange's, that can misbehave on demand."""

import hashlib
import io
import math
import sys
import time
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qsl

HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,"
    "taker_buy_volume,taker_buy_quote_volume,ignore\n"
)
Fault = Callable[[BaseHTTPRequestHandler, bytes], None]
Route = Callable[[dict[str, str]], bytes | tuple[int, bytes]]


class Archive:
    """Serves `folder`; `requests` are the paths asked for, `times` when, `faults` what to play first per path.

    Faults and routes also answer paths with a query.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.requests: list[str] = []
        self.times: list[float] = []
        self._faults: dict[str, Iterator[Fault]] = defaultdict(lambda: iter(()))
        self._routes: dict[str, Route] = {}

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else each answer waits 40 ms for an acknowledgement

            def do_GET(handler) -> None:  # noqa: N805
                self._answer(handler)

            def log_message(handler, *_: object) -> None:  # noqa: N805
                pass

        self.server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def play(self, path: str, faults: Iterable[Fault]) -> None:
        """Answer the next requests for `path` by `faults`, then as usual."""
        self._faults[path] = iter(faults)

    def route(self, path: str, answer: Route) -> None:
        """Answer every request for `path` by what `answer` makes of its query: a body, or a status and a body."""
        self._routes[path] = answer

    def publish(self, path: str, zipped: bytes, checksum: str | None = None) -> None:
        """Put an object and its checksum file into the archive."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(zipped)
        line = checksum if checksum is not None else f"{hashlib.sha256(zipped).hexdigest()}  {target.name}\n"
        target.with_name(f"{target.name}.CHECKSUM").write_text(line)

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        path = handler.path.lstrip("/")
        self.requests.append(path)
        self.times.append(time.monotonic())
        place, _, query = path.partition("?")
        target = self.folder / place
        body = target.read_bytes() if target.is_file() else None
        try:
            if fault := next(self._faults[path], None) or next(self._faults[place], None):
                fault(handler, body or b"")
            elif route := self._routes.get(place):
                answer = route(dict(parse_qsl(query, keep_blank_values=True)))
                send(handler, *(answer if isinstance(answer, tuple) else (200, answer)))
            else:
                send(handler, 200 if body is not None else 404, body or b"not here")
        except (BrokenPipeError, ConnectionResetError):
            pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # clients may hang up
            super().handle_error(request, client_address)  # type: ignore[arg-type]


@contextmanager
def serving(folder: Path) -> Iterator[Archive]:
    archive = Archive(folder)
    thread = Thread(target=archive.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield archive
    finally:
        archive.server.shutdown()
        archive.server.server_close()
        thread.join()


def send(handler: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def status(code: int, **headers: str) -> Fault:
    return lambda handler, _: send(handler, code, b"no", **headers)


def html(handler: BaseHTTPRequestHandler, _: bytes) -> None:
    send(handler, 200, b"<!DOCTYPE html><title>Please log in</title>")


def cut_short(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    """Promise the whole body, send half of it, hang up."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body[: len(body) // 2])
    handler.close_connection = True


def wrong_bytes(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    send(handler, 200, body[:-1] + bytes([body[-1] ^ 1]))


def dripping_body(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    _drip(handler, body)


def dripping_header(handler: BaseHTTPRequestHandler, _: bytes) -> None:
    _drip(handler, b"HTTP/1.1 200 OK\r\nX-Long: " + b"a" * 1000)
    handler.close_connection = True


def _drip(handler: BaseHTTPRequestHandler, data: bytes) -> None:
    for byte in data[:200]:
        handler.wfile.write(bytes([byte]))
        handler.wfile.flush()
        time.sleep(0.05)


def kline_lines(start: datetime, count: int, step: timedelta = timedelta(minutes=1), unit: str = "ms") -> list[str]:
    """`count` klines from `start` on, always the same for the same times."""
    microseconds = {"ms": 1000, "us": 1}[unit]
    lines = []
    for n in range(count):
        opened = int((start + n * step).timestamp() * 1_000_000)
        closed = opened + step // timedelta(microseconds=1) - microseconds
        o, h, low, c, volume, bought = _kline(opened)
        quote, quote_bought = volume * (h + low) / 2, bought * (h + low) / 2
        lines.append(
            f"{opened // microseconds},{o:.2f},{h:.2f},{low:.2f},{c:.2f},{volume:.3f},{closed // microseconds},"
            f"{quote:.4f},{n % 7 + 1},{bought:.3f},{quote_bought:.4f},0\n"
        )
    return lines


def _kline(opened: int) -> tuple[float, float, float, float, float, float]:
    wave = [math.sin(opened / 6e10 + n) for n in range(4)]
    o, c = 100 + wave[0], 100 + wave[1]
    volume = 5 + 2 * wave[2]
    return o, max(o, c) + 0.5, min(o, c) - 0.5, c, volume, volume * (0.5 + 0.4 * wave[3])


def zipped(name: str, text: str | bytes, **others: str) -> bytes:
    """A zip with one member (and `others`), the same bytes every time."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for member, content in {name: text, **others}.items():
            file.writestr(zipfile.ZipInfo(member, (2026, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def month_path(symbol: str, month: str, market: str = "spot", interval: str = "1m") -> str:
    return f"data/{market}/monthly/klines/{symbol}/{interval}/{symbol}-{interval}-{month}.zip"


def day_path(symbol: str, day: datetime, market: str = "spot", interval: str = "1m") -> str:
    return f"data/{market}/daily/klines/{symbol}/{interval}/{symbol}-{interval}-{day:%Y-%m-%d}.zip"


def publish_days(archive: Archive, symbol: str, first: datetime, days: int) -> None:
    """One-minute klines for `days` whole days, a file a day."""
    for day in (first + timedelta(days=n) for n in range(days)):
        path = day_path(symbol, day)
        archive.publish(path, zipped(f"{Path(path).stem}.csv", "".join(kline_lines(day, 1440))))


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type,misc]
