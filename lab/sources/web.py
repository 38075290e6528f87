"""Bodies over HTTP(S): tried again where that can help, given up where it cannot, never waited for endlessly."""

import random
import socket
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO
from threading import Event, Lock, Timer
from typing import IO, Any, TypeVar
from weakref import WeakSet

from urllib3 import BaseHTTPResponse, HTTPConnectionPool, HTTPResponse, HTTPSConnectionPool, PoolManager, Retry, Timeout
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, InvalidHeader
from urllib3.util import parse_url

from lab.errors import SourceError

Thing = TypeVar("Thing")

CHUNK = 1 << 16
KEPT_ALIVE = 16  # connections per host
LONGEST_BAN = timedelta(days=7)  # that a Retry-After is believed
LATER = "try again later, or at another --base-url; what is finished is kept"


@dataclass(frozen=True)
class Patience:
    """How long one download may take: tries, seconds for all of them together, seconds of silence, first wait."""

    tries: int = 6
    total: float = 900.0
    silence: float = 30.0
    first_wait: float = 0.5


PATIENT = Patience()


@dataclass(frozen=True)
class Answer:
    """What a server answered: its status, its headers (their names in any case), and the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Cut(Exception):
    """Whoever waited for this download wants it no more."""


class Connections(PoolManager):
    """Kept-alive connections for any number of threads, with one brake per host; all can be cut at once."""

    def __init__(self) -> None:
        super().__init__(maxsize=KEPT_ALIVE)
        self.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
        self._lines = _Lines()
        self._lock = Lock()
        self._free_from: dict[str | None, float] = {}  # by host, on the monotonic clock
        self._bans: dict[str | None, SourceError] = {}

    def cut(self) -> None:
        """End every download and every wait, at once; nothing more is asked for."""
        self._lines.cut()

    def until_cut(self, things: Iterable[Thing]) -> Iterator[Thing]:
        """`things`, for as long as nobody cuts the connections."""
        for thing in things:
            self.check()
            yield thing

    def check(self) -> None:
        """Raise Cut if the connections were cut."""
        if self._lines.ended.is_set():
            raise Cut

    def pause(self, seconds: float) -> None:
        """Wait; a cut ends it."""
        if self._lines.ended.wait(seconds):
            raise Cut

    def brake(self, url: str, seconds: float) -> None:
        """Let nobody ask the host of `url` for so long."""
        host = parse_url(url).host
        with self._lock:
            self._free_from[host] = max(self._free_from.get(host, 0.0), time.monotonic() + seconds)

    def ban(self, url: str, refusal: SourceError) -> None:
        """Let nobody ask the host of `url` again: they get `refusal`."""
        with self._lock:
            self._bans[parse_url(url).host] = refusal

    def await_turn(self, url: str, deadline: float) -> None:
        """Wait until the host of `url` may be asked; a SourceError where that is after `deadline`, or never."""
        host = parse_url(url).host
        while True:
            with self._lock:
                refusal, free_from = self._bans.get(host), self._free_from.get(host, 0.0)
            if refusal:
                raise SourceError(refusal.problem, refusal.fix)
            if (wait := free_from - time.monotonic()) <= 0:
                return self.check()
            if free_from >= deadline:
                raise SourceError(f"{url} was not asked: its host wants no requests before {_at(wait)}", fix=LATER)
            self.pause(wait)

    def _new_pool(
        self, scheme: str, host: str, port: int, request_context: dict[str, Any] | None = None
    ) -> HTTPConnectionPool:
        context = {**(request_context or self.connection_pool_kw), "lines": self._lines}
        return super()._new_pool(scheme, host, port, context)


class _Lines:
    """Open sockets, so that another thread can hang up while one waits for a byte."""

    def __init__(self) -> None:
        self.ended = Event()
        self._lock = Lock()
        self._open: WeakSet[socket.socket] = WeakSet()

    def add(self, line: socket.socket) -> None:
        with self._lock:
            self._open.add(line)
        if self.ended.is_set():
            _hang_up(line)

    def cut(self) -> None:
        self.ended.set()
        with self._lock:
            for line in self._open:
                _hang_up(line)


class _Again(Exception):
    """An answer that another try may better, after `wait` seconds if the server named a time.

    `everyone`: whoever asks this host has to wait.
    """

    def __init__(self, reason: str, wait: float = 0.0, *, everyone: bool = False) -> None:
        super().__init__(reason)
        self.wait = wait
        self.everyone = everyone


class _Banned(SourceError):
    """The server wants to hear nothing more from this address."""


def get(pools: Connections, url: str, *, at_most: int, patience: Patience) -> bytes | None:
    """The body behind `url`, of `at_most` bytes; None where the server has nothing (404). Troubles as for `ask`."""
    answer = ask(pools, url, at_most=at_most, patience=patience)
    return None if answer is None else answer.body


def ask(
    pools: Connections, url: str, *, at_most: int, patience: Patience, understood: Collection[int] = ()
) -> Answer | None:
    """What the server answers with status 200 or one that is `understood`; None where it has nothing (404).

    Time-outs, resets, cut bodies, 408, 425, 429 and 5xx are tried again after growing random waits, never before
    a `Retry-After`; a 429 holds back every thread that uses these connections, a 418 stops them all. Any other
    answer, a redirect too, is a SourceError at once; so is the last failure.
    """
    body = BytesIO()
    response = _asked(pools, url, body, at_most, patience, {200, *understood})
    return None if response is None else Answer(response.status, response.headers, body.getvalue())


def download(pools: Connections, url: str, into: IO[bytes], *, at_most: int, patience: Patience) -> bool:
    """Write the body behind `url` into a file, from its start; whether the server has it. Troubles as for `ask`."""
    return _asked(pools, url, into, at_most, patience, {200}) is not None


@contextmanager
def connections() -> Iterator[Connections]:
    """Kept-alive connections, closed at the end."""
    with Connections() as pools:
        try:
            yield pools
        finally:
            pools.cut()


def _asked(
    pools: Connections, url: str, into: IO[bytes], at_most: int, patience: Patience, understood: Collection[int]
) -> BaseHTTPResponse | None:
    deadline = time.monotonic() + patience.total
    for attempt in range(patience.tries):
        pools.await_turn(url, deadline)
        try:
            return _ask(pools, url, into, at_most, patience.silence, deadline, understood)
        except _Again as trouble:
            pools.check()
            reason = str(trouble)
            wait = max(trouble.wait, random.uniform(0, patience.first_wait * 2**attempt))
            if trouble.everyone:
                pools.brake(url, wait)
        except _Banned as refusal:
            pools.ban(url, refusal)
            raise
        if attempt + 1 == patience.tries or time.monotonic() + wait >= deadline:
            break
        pools.pause(wait)
    raise SourceError(f"{url} could not be downloaded in {attempt + 1} tries: {reason}", fix=LATER)


def _ask(
    pools: Connections,
    url: str,
    into: IO[bytes],
    at_most: int,
    silence: float,
    deadline: float,
    understood: Collection[int],
) -> BaseHTTPResponse | None:
    left = deadline - time.monotonic()
    try:
        response = pools.request(
            "GET",
            url,
            headers={"Accept-Encoding": "identity"},
            timeout=Timeout(connect=min(10.0, left), read=min(silence, left)),
            preload_content=False,
            decode_content=False,
            redirect=False,
            retries=False,
        )
        try:
            if response.status == 404:
                return None
            if response.status not in understood:
                raise _refusal(url, response)
            _copy(url, response, into, at_most, deadline)
            return response
        finally:
            response.close()
    except HTTPError as trouble:
        raise _Again(str(trouble)) from None


def _refusal(url: str, response: BaseHTTPResponse) -> Exception:
    status, wait = response.status, _retry_after(response)
    if status in (408, 425, 429) or status >= 500:
        return _Again(f"status {status}", wait, everyone=status == 429)
    if target := response.headers.get("Location"):
        return SourceError(f"{url} redirects to {target}, which is not followed", fix="name that host by --base-url")
    if status == 418:
        until = f" until {_at(wait)}" if wait else ""
        return _Banned(f"{url} answered 418 (too many requests, this address is banned{until})", fix=LATER)
    if status == 451:
        return SourceError(
            f"{url} answered 451 (not served in this country)",
            fix="ask from where it is served, or leave out what only this host has; what is finished is kept",
        )
    return SourceError(f"{url} answered {status} ({'forbidden' if status == 403 else 'unexpected'})", fix=LATER)


def _retry_after(response: BaseHTTPResponse) -> float:
    with suppress(InvalidHeader):
        return Retry(retry_after_max=int(LONGEST_BAN.total_seconds())).get_retry_after(response) or 0.0
    return 0.0


def _at(seconds: float) -> str:
    return f"{datetime.now(UTC) + timedelta(seconds=seconds):%Y-%m-%d %H:%M:%S} UTC"


def _copy(url: str, response: BaseHTTPResponse, into: IO[bytes], at_most: int, deadline: float) -> None:
    into.seek(0)
    into.truncate()
    size = 0
    while chunk := response.read1(CHUNK):  # read() would wait for a full chunk, however slowly it drips
        size += into.write(chunk)
        if size > at_most:
            raise SourceError(f"{url} is longer than the {at_most:,} bytes it can have", fix="check --base-url")
        if time.monotonic() > deadline:
            raise _Again(f"only {size:,} bytes had arrived when time was up")


@contextmanager
def _cut_after(connection: HTTPConnection) -> Iterator[None]:
    # The socket's own time-out begins anew with every byte, so a header that drips would never end.
    timer = Timer(connection.timeout or 0.0, _hang_up, (connection.sock,))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _hang_up(line: socket.socket) -> None:
    with suppress(OSError):  # closed already
        socket.socket.shutdown(line, socket.SHUT_RDWR)


class _Connection(HTTPConnection):
    def __init__(self, *args: Any, lines: _Lines, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._lines = lines

    def connect(self) -> None:
        super().connect()
        self._lines.add(self.sock)

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as urllib3 itself does
        with _cut_after(self):
            return super().getresponse()


class _SecureConnection(HTTPSConnection):
    def __init__(self, *args: Any, lines: _Lines, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._lines = lines

    def connect(self) -> None:
        super().connect()
        self._lines.add(self.sock)

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]
        with _cut_after(self):
            return super().getresponse()


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection
