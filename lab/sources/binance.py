"""Binance's public kline archives: one zip a month, or a day, each with its checksum beside it.

Layout and defects of the archive: https://github.com/binance/binance-public-data
"""

import hashlib
import re
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO
from zipfile import BadZipFile, ZipFile

import polars as pl
from urllib3 import PoolManager

from lab.errors import SourceError, UsageError
from lab.nouns import Bars, Piece, Span, interval_length
from lab.sources import Request, months, next_month
from lab.sources.rows import moment, sift
from lab.sources.web import PATIENT, Patience, connections, get

# Files of a market with a header use these names; files without one have the same order.
KLINE_COLUMNS = {
    "open_time": pl.Int64(),
    "open": pl.Float64(),
    "high": pl.Float64(),
    "low": pl.Float64(),
    "close": pl.Float64(),
    "volume": pl.Float64(),
    "close_time": pl.Int64(),
    "quote_volume": pl.Float64(),
    "count": pl.Float64(),
    "taker_buy_volume": pl.Float64(),
    "taker_buy_quote_volume": pl.Float64(),
    "ignore": pl.String(),
}
DAY = timedelta(days=1)
PUBLISHED_AFTER = 2 * DAY  # the file of a day appears the next day; until two days later its absence says nothing
BYTES_PER_BAR, BYTES_AT_LEAST = 320, 1 << 16  # more than twice what a line takes, as some files held each row twice


@dataclass(frozen=True)
class Archive:
    """The klines of one symbol in one period, a month or a day, as one object of the archive."""

    market: str
    symbol: str
    interval: str
    period: Span

    @property
    def monthly(self) -> bool:
        return self.period.end - self.period.start > DAY

    @property
    def stem(self) -> str:
        return f"{self.symbol}-{self.interval}-{self.period.start:{'%Y-%m' if self.monthly else '%Y-%m-%d'}}"

    @property
    def origin(self) -> str:
        cadence = "monthly" if self.monthly else "daily"
        return f"data/{self.market}/{cadence}/klines/{self.symbol}/{self.interval}/{self.stem}.zip"

    @property
    def bytes_at_most(self) -> int:
        due = (self.period.end - self.period.start) // interval_length(self.interval)
        return BYTES_AT_LEAST + BYTES_PER_BAR * due


@dataclass(frozen=True)
class BinanceArchives:
    """Klines from Binance's public archives, with taker buy volume, quote volume and number of trades.

    The file of a month is used once there is one, else the files of its days. Every file must match its checksum.
    A day that is in neither is a piece without bars, unless it may just not be published yet.
    """

    market: str
    base_url: str = "https://data.binance.vision"
    patience: Patience = PATIENT

    def count(self, request: Request) -> int:
        return len(request.symbols) * len(months(request.bounded()))

    def fetch(self, request: Request, done: Collection[str]) -> Iterator[Piece]:
        interval_length(request.interval)
        if request.interval == "1s" and self.market != "spot":
            raise UsageError("futures have no 1s klines", fix="ask for --interval 1m or longer")
        for symbol in request.symbols:
            if not re.fullmatch(r"[A-Z0-9_]{1,32}", symbol):
                raise UsageError(f"Binance has no symbol like {symbol!r}", fix="write it as in BTCUSDT")
        now = datetime.now(UTC)
        with connections() as pools:
            for symbol in request.symbols:
                for part in months(request.bounded()):
                    yield from self._month(pools, symbol, request.interval, part, done, now)

    def _month(
        self, pools: PoolManager, symbol: str, interval: str, part: Span, done: Collection[str], now: datetime
    ) -> Iterator[Piece]:
        month, *days = (Archive(self.market, symbol, interval, period) for period in _periods(part))
        missing = [day for day in days if day.origin not in done and day.period.end <= now]
        if month.origin in done or not missing:
            return
        if month.period.end <= now and (piece := self._piece(pools, month)):
            yield piece
            return
        for day in missing:
            if piece := self._piece(pools, day):
                yield piece
            elif day.period.end + PUBLISHED_AFTER <= now:
                yield Piece(symbol, day.origin, "", None)

    def _piece(self, pools: PoolManager, archive: Archive) -> Piece | None:
        zipped = self._verified(pools, archive)
        if zipped is None:
            return None
        bars, rejected = read_klines(unzip(zipped, archive), archive)
        return Piece(archive.symbol, archive.origin, hashlib.sha256(zipped).hexdigest(), bars, rejected)

    def _verified(self, pools: PoolManager, archive: Archive) -> bytes | None:
        """The bytes of the zip, which match its checksum; downloaded a second time where they did not at first."""
        url = f"{self.base_url.rstrip('/')}/{archive.origin}"
        for _ in range(2):
            zipped = get(pools, url, at_most=archive.bytes_at_most, patience=self.patience)
            if zipped is None:
                return None
            if not zipped.startswith(b"PK"):
                raise SourceError(f"{url} is no zip: it begins with {zipped[:20]!r}", fix="check --base-url")
            text = get(pools, f"{url}.CHECKSUM", at_most=1024, patience=self.patience)
            named = re.fullmatch(rb"([0-9a-fA-F]{64}) [ *](\S+)\s*", text or b"")
            if named is None or named[2].decode(errors="replace") != f"{archive.stem}.zip":
                said = "is missing" if text is None else f"says {text[:100]!r}"
                raise SourceError(
                    f"the checksum of {url} {said}",
                    fix="unverified data is not stored: use the origin or a full mirror",
                )
            expected, actual = named[1].decode().lower(), hashlib.sha256(zipped).hexdigest()
            if actual == expected:
                return zipped
        raise SourceError(
            f"{url} has SHA-256 {actual}, its checksum file says {expected}, twice in a row",
            fix="nothing of it is stored: try again later, or at another --base-url",
        )


def unzip(zipped: bytes, archive: Archive) -> bytes:
    """The one CSV of an archive's zip; another member, another name or more bytes than its bars can take is refused."""
    name, limit = f"{archive.stem}.csv", archive.bytes_at_most
    try:
        with ZipFile(BytesIO(zipped)) as file:
            if file.namelist() != [name]:
                raise _refused(archive, f"it holds {file.namelist()[:3]}, not {name} alone")
            with file.open(name) as member:
                text = member.read(limit + 1)
    except (BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as damage:
        raise _refused(archive, f"it cannot be unzipped: {damage}") from None
    if len(text) > limit:
        raise _refused(archive, f"its content is larger than the {limit:,} bytes that its bars can take")
    return text


def read_klines(text: bytes, archive: Archive) -> tuple[Bars, pl.DataFrame]:
    """The bars in an archive's CSV, with or without a header, in ms or µs; and the rows that cannot be bars.

    Rejected besides impossible prices: rows outside the period in the file's name, off the grid of the interval,
    or not open for all of it (bars cut by a halt).
    """
    length, period = interval_length(archive.interval), archive.period
    opened = pl.col("time") - length
    suspect = (
        pl.when(~period.covers(opened))
        .then(pl.lit("outside the period that the file is named for"))
        .when(pl.col("time").dt.epoch("us") % (length // timedelta(microseconds=1)) != 0)
        .then(pl.lit(f"not on the grid of {archive.interval} bars"))
        .when(moment(pl.col("close_time") + 1) != pl.col("time"))
        .then(pl.lit(f"not open for {archive.interval}"))
    )
    rows = _parse(text, archive).with_columns(symbol=pl.lit(archive.symbol), time=moment(pl.col("open_time")) + length)
    bars, rejected = sift(
        rows.rename({"count": "trades", "taker_buy_volume": "buy_volume"}),
        archive.interval,
        "continuous",
        suspect=suspect,
    )
    if rejected.height and bars.frame.is_empty():
        raise _refused(archive, f"none of its {rejected.height} rows is a bar; the first: {rejected['fault'][0]}")
    return bars, rejected


def _parse(text: bytes, archive: Archive) -> pl.DataFrame:
    first = BytesIO(text).readline().decode(errors="replace").strip().split(",")
    headed = first == list(KLINE_COLUMNS)
    if not text:
        return pl.DataFrame(schema=KLINE_COLUMNS)
    if not headed and (len(first) != len(KLINE_COLUMNS) or not first[0].isdigit()):
        raise _refused(archive, f"it begins with {','.join(first)[:60]!r}, which is neither klines nor their header")
    try:
        # A value that is no number becomes null, and its row is rejected for it.
        return pl.read_csv(BytesIO(text), has_header=headed, schema=KLINE_COLUMNS, ignore_errors=True)
    except pl.exceptions.PolarsError as damage:
        raise _refused(archive, f"it cannot be read: {str(damage).splitlines()[0]}") from None


def _refused(archive: Archive, why: str) -> SourceError:
    return SourceError(
        f"{archive.origin} is refused: {why}", fix="nothing of it is stored; report it to the archive's owner"
    )


def _periods(part: Span) -> Iterator[Span]:
    """The month that holds `part`, then each day that it touches."""
    day = part.start.replace(hour=0, minute=0, second=0, microsecond=0)
    yield Span(day.replace(day=1), next_month(day))
    while day < part.end:
        yield Span(day, day + DAY)
        day += DAY


spot = BinanceArchives("spot")
usd_margined = BinanceArchives("futures/um")
