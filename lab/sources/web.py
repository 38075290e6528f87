"""Bodies over HTTP(S): tried again where that can help, given up where it cannot, never waited for endlessly."""

import random
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Timer

from urllib3 import BaseHTTPResponse, HTTPConnectionPool, HTTPResponse, HTTPSConnectionPool, PoolManager, Retry, Timeout
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, InvalidHeader

from lab.errors import SourceError

CHUNK = 1 << 16
LATER = "try again later, or at another --base-url; what is finished is kept"


@dataclass(frozen=True)
class Patience:
    """How long one download may take: tries, seconds for all of them together, seconds of silence, first wait."""

    tries: int = 6
    total: float = 900.0
    silence: float = 30.0
    first_wait: float = 0.5


PATIENT = Patience()


class _Again(Exception):
    """An answer that another try may better, after `wait` seconds if the server named a time."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


def get(pools: PoolManager, url: str, *, at_most: int, patience: Patience) -> bytes | None:
    """The body behind `url`, of `at_most` bytes; None where the server has nothing (404).

    Time-outs, resets, cut bodies, 408, 425, 429 and 5xx are tried again after growing random waits, never before
    a `Retry-After`. Any other answer, a redirect too, is a SourceError at once; so is the last failure.
    """
    deadline = time.monotonic() + patience.total
    for attempt in range(patience.tries):
        try:
            return _ask(pools, url, at_most, patience.silence, deadline)
        except _Again as trouble:
            reason = str(trouble)
            wait = max(trouble.wait, random.uniform(0, patience.first_wait * 2**attempt))
        if attempt + 1 == patience.tries or time.monotonic() + wait >= deadline:
            break
        time.sleep(wait)
    raise SourceError(f"{url} could not be downloaded in {attempt + 1} tries: {reason}", fix=LATER)


@contextmanager
def connections() -> Iterator[PoolManager]:
    """Kept-alive connections, closed at the end."""
    with PoolManager() as pools:
        pools.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
        yield pools


def _ask(pools: PoolManager, url: str, at_most: int, silence: float, deadline: float) -> bytes | None:
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
            if response.status != 200:
                raise _refusal(url, response)
            return _body(url, response, at_most, deadline)
        finally:
            response.close()
    except HTTPError as trouble:
        raise _Again(str(trouble)) from None


def _refusal(url: str, response: BaseHTTPResponse) -> Exception:
    status = response.status
    if status in (408, 425, 429) or status >= 500:
        with suppress(InvalidHeader):
            return _Again(f"status {status}", Retry().get_retry_after(response) or 0.0)
        return _Again(f"status {status}")
    if target := response.headers.get("Location"):
        return SourceError(f"{url} redirects to {target}, which is not followed", fix="name that host by --base-url")
    meaning = {418: "too many requests, this address is banned", 403: "forbidden", 451: "not served in this country"}
    return SourceError(f"{url} answered {status} ({meaning.get(status, 'unexpected')})", fix=LATER)


def _body(url: str, response: BaseHTTPResponse, at_most: int, deadline: float) -> bytes:
    body = bytearray()
    while chunk := response.read1(CHUNK):  # read() would wait for a full chunk, however slowly it drips
        body += chunk
        if len(body) > at_most:
            raise SourceError(f"{url} is longer than the {at_most:,} bytes it can have", fix="check --base-url")
        if time.monotonic() > deadline:
            raise _Again(f"only {len(body):,} bytes had arrived when time was up")
    return bytes(body)


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
    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as urllib3 itself does
        with _cut_after(self):
            return super().getresponse()


class _SecureConnection(HTTPSConnection):
    def getresponse(self) -> HTTPResponse:  # type: ignore[override]
        with _cut_after(self):
            return super().getresponse()


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection
