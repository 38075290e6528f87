"""What Binance's REST interface has of days, or a month, that its archive does not have yet.

https://github.com/binance/binance-spot-api-docs/blob/master/rest-api.md
https://developers.binance.com/docs/derivatives/usds-margined-futures
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlencode

from lab.errors import SourceError
from lab.nouns import INTERVALS, MICROSECOND
from lab.sources.binance.datasets import Archive
from lab.sources.web import Answer, Connections, Patience, ask

BYTES_PER_ANSWER = 4 << 20
SLOW_DOWN_AT = 0.8  # of the weight that an address may use in a minute
WRITTEN_NUMBER = re.compile(r"[-+.0-9eE]{1,40}")
NO_SUCH_SYMBOL = (-1121, -1122)
MILLISECOND = 1000 * MICROSECOND


@dataclass(frozen=True)
class Interface:
    """Where a market answers, the rows of klines that cost it least, and the weight an address may use in a minute."""

    host: str
    path: str
    rows: int
    weight_per_minute: int


INTERFACES = {
    "spot": Interface("https://data-api.binance.vision", "/api/v3", 1000, 6000),
    "futures/um": Interface("https://fapi.binance.com", "/fapi/v1", 499, 2400),
    "futures/cm": Interface("https://dapi.binance.com", "/dapi/v1", 499, 2400),
}
PAYMENTS = 1000  # of funding, in one answer


@dataclass(frozen=True)
class Rest:
    """The REST interface of one market at `url`."""

    pools: Connections
    url: str
    market: str
    patience: Patience

    @property
    def interface(self) -> Interface:
        return INTERFACES[self.market]

    def name(self, archive: Archive, last: datetime) -> str:
        """What the piece is called that holds an archive's period up to a bar that opened at `last`, or a payment."""
        what = "fundingRate" if archive.dataset.kind == "funding" else f"klines {archive.interval}"
        return (
            f"{self.interface.path} {archive.symbol} {what} {archive.period.start:%Y-%m-%d} to {last:%Y-%m-%dT%H:%M:%S}"
        )

    def has(self, archive: Archive) -> bool:
        """Whether this interface has what the archive would hold."""
        kind = archive.dataset.kind
        return kind == "bars" or (kind == "funding" and self.market == "futures/um")

    def csv(self, archive: Archive) -> bytes:
        """What the archive's CSV would say so far, closed bars or payments only; empty where there is nothing."""
        # Asked first: what has closed before the server says its time has closed in every later answer.
        now = self._server_time()
        rows = list(self._payments(archive, now) if archive.dataset.kind == "funding" else self._klines(archive, now))
        return "".join(f"{','.join(map(str, row))}\n" for row in rows).encode()

    def _klines(self, archive: Archive, now: int) -> Iterator[list[Any]]:
        step = INTERVALS[archive.interval] // MILLISECOND
        asked = {"symbol": archive.symbol, "interval": archive.interval}
        for row in self._rows("klines", asked, archive, self.interface.rows, step, now):
            if not isinstance(row, list) or len(row) != 12 or not isinstance(row[6], int) or not _are_numbers(row):
                raise self._nonsense("klines", row)
            if row[6] < now:
                yield row

    def _payments(self, archive: Archive, now: int) -> Iterator[list[Any]]:
        for row in self._rows("fundingRate", {"symbol": archive.symbol}, archive, PAYMENTS, 1, now):
            known = row if isinstance(row, dict) else {}
            paid = [known.get("fundingTime"), known.get("fundingRate"), known.get("markPrice") or 0]
            if not _are_numbers(paid):
                raise self._nonsense("fundingRate", row)
            yield [paid[0], "", paid[1], paid[2] or ""]

    def _rows(
        self, endpoint: str, asked: dict[str, str], archive: Archive, limit: int, step: int, now: int
    ) -> Iterator[Any]:
        """All rows of an archive's period up to `now`, page by page; `step` ms after one row the next may begin."""
        cursor, end = (_milliseconds(time) for time in (archive.period.start, archive.period.end))
        end = min(end, now)
        while cursor < end:
            query = {**asked, "startTime": cursor, "endTime": end - 1, "limit": limit}
            page = self._ask(endpoint, query)
            if not page:
                return
            if not isinstance(page, list):
                raise self._nonsense(endpoint, page)
            last = _stamp(page[-1])
            if last is None or last < cursor:
                raise self._nonsense(endpoint, page[-1])
            yield from page
            cursor = last + step

    def _server_time(self) -> int:
        answer = self._ask("time", {})
        if not isinstance(answer, dict) or not isinstance(answer.get("serverTime"), int):
            raise self._nonsense("time", answer)
        time: int = answer["serverTime"]
        return time

    def _ask(self, endpoint: str, query: dict[str, Any]) -> Any:
        """The answer as JSON; None where the market does not know the symbol, or not any more."""
        url = f"{self.url.rstrip('/')}{self.interface.path}/{endpoint}"
        url = f"{url}?{urlencode(query)}" if query else url
        answer = ask(self.pools, url, at_most=BYTES_PER_ANSWER, patience=self.patience, understood=(400,))
        if answer is None:
            raise SourceError(f"{url} answered 404 (nothing there)", fix="check --rest-url")
        self._slow_down(url, answer)
        try:
            said = json.loads(answer.body)
        except ValueError:
            raise self._nonsense(endpoint, answer.body[:60]) from None
        if answer.status == 200:
            return said
        code, message = (said.get("code"), said.get("msg")) if isinstance(said, dict) else (None, said)
        if code in NO_SUCH_SYMBOL:
            return None
        raise SourceError(f"{url} answered 400 ({message!r}, code {code})", fix="check the symbol and the interval")

    def _slow_down(self, url: str, answer: Answer) -> None:
        """Near the end of what an address may ask in a minute, wait for the next minute."""
        used = answer.headers.get("X-MBX-USED-WEIGHT-1M", "")
        if used.isdigit() and int(used) >= SLOW_DOWN_AT * self.interface.weight_per_minute:
            try:
                second = parsedate_to_datetime(answer.headers.get("Date", "")).second
            except ValueError:
                second = 0
            self.pools.brake(url, 60 - second)

    def _nonsense(self, endpoint: str, said: object) -> SourceError:
        return SourceError(
            f"{self.url}{self.interface.path}/{endpoint} answered {said!r:.60}, which is not what it should be",
            fix="check --rest-url",
        )


def _stamp(row: Any) -> int | None:
    """When a kline opened, or a payment was made, in ms."""
    first = row.get("fundingTime") if isinstance(row, dict) else row[0] if isinstance(row, list) and row else None
    return first if isinstance(first, int) else None


def _are_numbers(cells: list[Any]) -> bool:
    """Whether each is a number, or written as one: nothing else goes between the commas of a CSV."""
    return all(WRITTEN_NUMBER.fullmatch(str(cell)) for cell in cells)


def _milliseconds(time: datetime) -> int:
    return round(time.timestamp() * 1000)
