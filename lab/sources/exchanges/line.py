"""One exchange as ccxt speaks to it: asked at its pace, again where that can help, and never endlessly.

https://docs.ccxt.com
"""

import importlib
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from threading import Timer
from typing import Any
from urllib.parse import urlsplit

from urllib3 import Retry
from urllib3.exceptions import InvalidHeader

from lab.errors import LabError, SourceError, UsageError
from lab.registry import unknown
from lab.sources.web import LATER, LONGEST_BAN, Connections, Patience, connections

PASSING = (408, 425, 429)  # and all from 500 on
SHOWN = 160  # characters of what an exchange said
ELSEWHERE = "ask from where it is served, or another exchange; what is finished is kept"


def ccxt_itself() -> Any:
    """The ccxt package, which takes seconds to import; a LabError where it is not installed."""
    try:
        return importlib.import_module("ccxt")
    except ModuleNotFoundError:
        raise LabError("ccxt is not installed", fix="pip install 'lab[ccxt]'") from None


class Line:
    """A conversation with the exchange that ccxt calls `name`, at `base_url` instead of its own hosts if given."""

    def __init__(self, name: str, base_url: str | None, patience: Patience, pools: Connections) -> None:
        self._ccxt = ccxt_itself()
        if name not in self._ccxt.exchanges:
            raise unknown("exchange", name, self._ccxt.exchanges)
        self.name = name
        self.exchange = getattr(self._ccxt, name)({"timeout": round(patience.silence * 1000)})
        self._patience, self._pools = patience, pools
        self._status, self._headers = 0, dict[str, str]()
        self._prepare_session()
        self._understand = self.exchange.parse_json
        self.exchange.parse_json = self._json
        self._show_all_rows()
        if base_url:
            self.exchange.urls["api"] = redirected(self.exchange.urls["api"], base_url)

    def ask(self, method: str, *arguments: Any) -> Any:
        """What a method of ccxt's exchange returns.

        Time-outs, resets, cut bodies, 408, 425, 429, 5xx and what the exchange itself calls a passing trouble are
        tried again after growing random waits, never before a `Retry-After`. Anything else is a LabError at once;
        so is the last failure, and an answer that has not ended when patience has.
        """
        deadline = time.monotonic() + self._patience.total
        with _alarm(self._patience.total, self._pools):
            for attempt in range(self._patience.tries):
                self._status, self._headers = 0, {}
                try:
                    return getattr(self.exchange, method)(*arguments)
                # ccxt's parsers meet whatever an exchange answers, with every kind of error.
                except Exception as trouble:
                    if not self._may_pass(trouble):
                        raise self._refusal(trouble) from None
                    reason = self._said(trouble)
                wait = max(self._retry_after(), random.uniform(0, self._patience.first_wait * 2**attempt))
                if attempt + 1 == self._patience.tries or time.monotonic() + wait >= deadline:
                    break
                time.sleep(wait)
        told = f", nor may it be{until}" if (until := self._until()) else ""
        raise SourceError(f"{self.name} could not be asked in {attempt + 1} tries{told}: {reason}", fix=LATER)

    def now(self) -> datetime:
        """The exchange's clock where it shows one, this machine's where it does not."""
        if self.exchange.has["fetchTime"] is not True:
            return datetime.now(UTC)
        milliseconds = self.ask("fetch_time")
        if not isinstance(milliseconds, int):
            raise SourceError(f"{self.name} says that its time is {milliseconds!r}", fix=LATER)
        return datetime.fromtimestamp(milliseconds / 1000, UTC)

    def listing(self) -> str:
        """The command that lists the symbols of this exchange."""
        return f"lab fetch --universe --source ccxt-{self.name}"

    def _prepare_session(self) -> None:
        session = self.exchange.session
        adapter = importlib.import_module("requests.adapters").HTTPAdapter()
        adapter.poolmanager = self._pools
        for scheme in ("http://", "https://"):
            session.mount(scheme, adapter)
        session.max_redirects = 0  # whoever answers must be who was asked
        session.hooks["response"].append(self._note)

    def _show_all_rows(self) -> None:
        # ccxt drops rows without a time and those outside what was asked for, and says nothing.
        parse_bars, parse_trades = self.exchange.parse_ohlcvs, self.exchange.parse_trades
        self.exchange.parse_ohlcvs = lambda rows, market=None, timeframe="1m", *_: parse_bars(rows, market, timeframe)
        self.exchange.parse_trades = lambda rows, market=None, *_: parse_trades(rows, market)

    def _note(self, response: Any, **_: object) -> None:
        self._status, self._headers = response.status_code, dict(response.headers)

    def _json(self, text: str) -> Any:
        said = self._understand(text)
        if said is None and self._status == 200:  # ccxt would go on with the text, and find no rows in it
            raise _NotJsonError(f"it begins with {text[:60]!r}, which is no JSON")
        return said

    def _may_pass(self, trouble: Exception) -> bool:
        if self._status in PASSING or self._status >= 500:
            return True
        # ccxt counts 403, 404 and 451 among the troubles of the network.
        return self._status in (0, 200) and isinstance(trouble, self._ccxt.NetworkError)

    def _refusal(self, trouble: Exception) -> LabError:
        said, ccxt = self._said(trouble), self._ccxt
        if self._status == 418:
            return SourceError(f"{self.name} answered 418 (this address is banned{self._until()})", fix=LATER)
        if self._status == 451 or isinstance(trouble, ccxt.RestrictedLocation):
            return SourceError(f"{self.name} does not serve this country: {said}", fix=ELSEWHERE)
        if isinstance(trouble, ccxt.BadSymbol):
            return SourceError(f"{self.name} does not know this market: {said}", fix=f"{self.listing()} lists them")
        if isinstance(trouble, ccxt.AuthenticationError | ccxt.ArgumentsRequired):
            return SourceError(f"{self.name} shows this to members only: {said}", fix="choose another exchange")
        if isinstance(trouble, ccxt.BadRequest | ccxt.NotSupported):
            return UsageError(f"{self.name} cannot answer this: {said}", fix="check --start, --end and --interval")
        if self._status == 0 and isinstance(trouble, ccxt.BaseError):
            return SourceError(f"{self.name} cannot be reached: {said}", fix="check --base-url, or try again later")
        if 300 <= self._status < 400:
            target = self._headers.get("Location", "elsewhere")
            return SourceError(
                f"{self.name} redirects to {target}, which is not followed", fix="name that host by --base-url"
            )
        return SourceError(f"{self.name} answered {self._status} with what cannot be used: {said}", fix=LATER)

    def _said(self, trouble: Exception) -> str:
        kind = "" if isinstance(trouble, self._ccxt.BaseError | _NotJsonError) else f"{type(trouble).__name__} "
        text = " ".join(f"{kind}{trouble}".split())
        return "".join(letter for letter in text if letter.isprintable())[:SHOWN]

    def _retry_after(self) -> float:
        stated = next((value for name, value in self._headers.items() if name.lower() == "retry-after"), "")
        with suppress(InvalidHeader):
            return Retry(retry_after_max=int(LONGEST_BAN.total_seconds())).parse_retry_after(stated)
        return 0.0

    def _until(self) -> str:
        """Until when the last answer wants to hear nothing, if it says so."""
        wait = self._retry_after()
        return f" until {datetime.now(UTC) + timedelta(seconds=wait):%Y-%m-%d %H:%M:%S} UTC" if wait else ""


class _NotJsonError(Exception):
    """A body that is not data, though its status says so."""


@contextmanager
def line_to(name: str, base_url: str | None, patience: Patience) -> Iterator[Line]:
    """A Line, hung up at the end."""
    with connections() as pools:
        line = Line(name, base_url, patience, pools)
        try:
            yield line
        finally:
            line.exchange.close()
            pools.clear()


def redirected(urls: Any, base_url: str) -> Any:
    """ccxt's addresses, which may lie in dicts of dicts, with their hosts replaced and their paths kept."""
    if isinstance(urls, Mapping):
        return {name: redirected(url, base_url) for name, url in urls.items()}
    return base_url.rstrip("/") + urlsplit(urls).path if isinstance(urls, str) else urls


@contextmanager
def _alarm(seconds: float, pools: Connections) -> Iterator[None]:
    # A time-out of the socket begins anew with every byte, so a body that drips would never end.
    timer = Timer(seconds, pools.cut)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
