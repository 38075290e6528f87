"""Binance: its public archive, one zip a month or a day with a checksum beside it, and its REST interface for the rest.

Layout and defects of the archive: https://github.com/binance/binance-public-data
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import ClassVar, cast

import polars as pl

from lab.errors import UsageError
from lab.kinds import KINDS
from lab.nouns import INTERVALS, Bars, Piece, Span, Table, interval_length
from lab.sources import Request, months, next_month
from lab.sources.ahead import Job, Result, in_order
from lab.sources.binance.datasets import DATASETS, DAY, RAW_TRADES, SYMBOL, Archive, Dataset
from lab.sources.binance.listing import listed_symbols
from lab.sources.binance.objects import Mirror, MonthForDays, csv_blocks, published_digest, verified
from lab.sources.binance.rest import INTERFACES, Rest
from lab.sources.binance.tables import read_table
from lab.sources.web import PATIENT, Patience, connections

ARCHIVE = "https://data.binance.vision"
LISTING = "https://s3-ap-northeast-1.amazonaws.com/data.binance.vision"
# The file of a day appears the next day, that of a month on the first Monday after it; until two days later its
# absence says nothing.
DAY_PUBLISHED_AFTER, MONTH_PUBLISHED_AFTER = 2 * DAY, 9 * DAY
MINUTE = timedelta(minutes=1)
AT_ONCE, HUGE_AT_ONCE = 8, 2  # objects that are downloaded and read at the same time


@dataclass(frozen=True)
class BinanceArchives:
    """What Binance publishes of one market.

    Every file must match its checksum. An object that the archive has in no form is a piece without a table, unless
    it may just not be published yet: those days (of bars, and the month of USD-margined funding) are asked of the
    REST interface at `rest_url`. Left empty, that is the market's own; none beside a mirror of the archive.
    `refresh`: objects that are done are compared with their checksum file, and fetched again where it has changed.
    """

    base_url: str = ARCHIVE
    listing_url: str = LISTING
    rest_url: str = ""
    refresh: bool = False
    patience: Patience = PATIENT

    market: ClassVar[str]
    kinds: ClassVar[tuple[str, ...]]
    datasets: ClassVar[Mapping[str, Dataset]] = DATASETS

    def count(self, request: Request) -> int:
        parts = months(request.bounded())
        by_month = self._dataset(request).cadences[0] == "monthly"
        return len(request.symbols) * sum(1 if by_month else len(_days(part)) for part in parts)

    def symbols(self, kind: str, interval: str) -> list[str]:
        """All symbols that the archive ever had of this kind, sorted, whether they still trade or not."""
        dataset = self._dataset(Request((), interval, kind=kind))
        with connections() as pools:
            return listed_symbols(pools, self.listing_url, self.market, dataset, self.patience)

    def fetch(self, request: Request, done: Mapping[str, str]) -> Iterator[Piece]:
        dataset, parts, now = self._dataset(request), months(request.bounded()), datetime.now(UTC)
        for symbol in request.symbols:
            if not SYMBOL.fullmatch(symbol):
                raise UsageError(f"Binance has no symbol like {symbol!r}", fix="write it as in BTCUSDT")
        with connections() as pools:
            mirror = Mirror(pools, self.base_url, self.patience)
            rest_url = self.rest_url or (INTERFACES[self.market].host if self.base_url == ARCHIVE else "")
            rest = Rest(pools, rest_url, self.market, self.patience) if rest_url else None
            visits = (
                _Visit(self.market, dataset, symbol, request.interval, mirror, rest, done, now)
                for symbol in request.symbols
            )
            jobs = (job for visit in visits for part in parts for job in visit.jobs(part, refresh=self.refresh))
            yield from in_order(jobs, HUGE_AT_ONCE if dataset.huge else AT_ONCE, pools.cut)

    def _dataset(self, request: Request) -> Dataset:
        dataset = self.datasets[request.of_kind(*self.kinds)]
        if dataset.gridded and interval_length(request.interval) < MINUTE and self.market != "spot":
            raise UsageError(f"futures have no {request.interval} klines", fix="ask for --interval 1m or longer")
        return dataset


@dataclass(frozen=True)
class Spot(BinanceArchives):
    """Binance spot: klines with taker buy volume, and trades (of one taker order at one price as one).

    Trades are the archive's aggTrades: `id` numbers them, `count` says how many of the market's trades each holds.
    """

    market: ClassVar[str] = "spot"
    kinds: ClassVar[tuple[str, ...]] = ("bars", "trades")


@dataclass(frozen=True)
class UsdMargined(BinanceArchives):
    """Binance USD-margined futures: klines, trades, quotes, depth, funding, metrics, mark, index and premium bars.

    Trades are the archive's aggTrades, which leave out trades of the insurance fund and deleveraging. Quotes exist
    from 2023-05-16 to 2024-03-30.
    """

    market: ClassVar[str] = "futures/um"
    kinds: ClassVar[tuple[str, ...]] = (
        "bars", "trades", "quotes", "depth", "funding", "metrics", "mark", "index", "premium",
    )  # fmt: skip


@dataclass(frozen=True)
class CoinMargined(BinanceArchives):
    """Binance coin-margined futures: as USD-margined ones, and liquidations from 2023-06 to 2024-10.

    Volumes of bars are in the base asset, from the columns that hold it, and there is no `quote_volume`. The sizes of
    trades, quotes, depth and liquidations are contracts, as the archive has nothing else.
    """

    market: ClassVar[str] = "futures/cm"
    kinds: ClassVar[tuple[str, ...]] = (*UsdMargined.kinds, "liquidations")


@dataclass(frozen=True)
class RawSpot(BinanceArchives):
    """Binance spot: every single trade."""

    market: ClassVar[str] = "spot"
    kinds: ClassVar[tuple[str, ...]] = ("trades",)
    datasets: ClassVar[Mapping[str, Dataset]] = {"trades": RAW_TRADES}


@dataclass(frozen=True)
class RawUsdMargined(RawSpot):
    """Binance USD-margined futures: every single trade."""

    market: ClassVar[str] = "futures/um"


@dataclass(frozen=True)
class RawCoinMargined(RawSpot):
    """Binance coin-margined futures: every single trade, its size in the base asset."""

    market: ClassVar[str] = "futures/cm"


@dataclass(frozen=True)
class _Visit:
    """One fetch of one symbol: what it wants, whom it asks, what is there already, and when it began."""

    market: str
    dataset: Dataset
    symbol: str
    interval: str
    mirror: Mirror
    rest: Rest | None
    done: Mapping[str, str]
    now: datetime

    def jobs(self, part: Span, *, refresh: bool) -> Iterator[Job[Piece]]:
        """The work for one month or a part of it, in the order of time."""
        month, days = self._archive(_month(part)), [self._archive(day) for day in _days(part)]
        if refresh:
            yield from (partial(self._refreshed, archive) for archive in (month, *days) if archive.origin in self.done)
        if month.origin in self.done:
            return
        match self.dataset.cadences:
            case ("monthly",):
                yield partial(self._whole_month, month)
            case ("monthly", _):
                yield from self._month_or_days(month, self._missing(days, month))
            case ("daily",):
                yield from (partial(self._day, day) for day in self._missing(days, month))
            case _:
                missing = self._missing(days, month)
                kept = MonthForDays(self.mirror, month, len(missing))
                yield from (partial(self._day_or_part_of_month, day, kept) for day in missing)

    def _archive(self, period: Span) -> Archive:
        return Archive(self.market, self.dataset, self.symbol, self.interval, period)

    def _missing(self, days: Iterable[Archive], month: Archive) -> list[Archive]:
        """The days that have begun and are not here, neither by their own file nor as a part of the month's."""
        held = (day for day in days if day.period.start < self.now)
        return [d for d in held if d.origin not in self.done and _part_of(month, d) not in self.done]

    def _month_or_days(self, month: Archive, missing: list[Archive]) -> Iterator[Job[Piece]]:
        days = tuple(partial(self._day, day) for day in missing)
        if missing and month.period.end <= self.now:
            yield partial(self._month_or_else, month, days)
        else:
            yield from days

    def _month_or_else(self, month: Archive, days: tuple[Job[Piece], ...]) -> Result[Piece]:
        """The month's piece; where there is none, its first missing day at once, then the others."""
        piece = self._piece(month)
        return Result((piece,)) if piece else Result(days[0]().finished, further=days[1:])

    def _whole_month(self, month: Archive) -> Result[Piece]:
        return self._found_or_absent(month, MONTH_PUBLISHED_AFTER)

    def _day(self, day: Archive) -> Result[Piece]:
        return self._found_or_absent(day, DAY_PUBLISHED_AFTER)

    def _day_or_part_of_month(self, day: Archive, month: MonthForDays) -> Result[Piece]:
        with month.turn():
            result = self._day(day)
            if [piece.table for piece in result.finished] == [None] and (piece := self._part(day, month)):
                return Result((piece,))
            return result

    def _found_or_absent(self, archive: Archive, published_after: timedelta) -> Result[Piece]:
        """The object's piece; where the archive does not have it, the REST interface's, or that there is none."""
        if archive.period.end <= self.now and (piece := self._piece(archive)):
            return Result((piece,))
        if archive.period.end + published_after <= self.now:
            return Result((Piece(self.symbol, archive.origin, "", None),))
        piece = self._unpublished(archive, self.rest) if self.rest and self.rest.has(archive) else None
        return Result((piece,) if piece else ())

    def _refreshed(self, archive: Archive) -> Result[Piece]:
        """The object's piece, where its checksum file does not say what it said when it was fetched."""
        published = published_digest(self.mirror, archive)
        if published in (None, self.done[archive.origin]):
            return Result()
        piece = self._piece(archive)
        return Result((piece,) if piece else ())

    def _piece(self, archive: Archive) -> Piece | None:
        with verified(self.mirror, archive) as found:
            if found is None:
                return None
            zipped, digest = found
            blocks = self.mirror.pools.until_cut(csv_blocks(zipped, archive))
            return self._made(archive.origin, digest, archive.period, *read_table(blocks, archive))

    def _part(self, day: Archive, month: MonthForDays) -> Piece | None:
        """A day's rows in the file of its month; None where there are none."""
        if month.archive.period.end > self.now:
            return None
        with month.opened() as found:
            if found is None:
                return None
            zipped, digest = found
            blocks = self.mirror.pools.until_cut(csv_blocks(zipped, month.archive))
            table, rejected, repeats = read_table(blocks, month.archive, only=day.period)
        if table.frame.is_empty():
            return None
        return self._made(_part_of(month.archive, day), digest, day.period, table, rejected, repeats)

    def _unpublished(self, archive: Archive, rest: Rest) -> Piece | None:
        """What the REST interface has of a period; None where that is nothing new."""
        if self.dataset.gridded:
            length = INTERVALS[self.interval]
            begun = (min(archive.period.end, self.now) - archive.period.start) // length
            if not begun or rest.name(archive, archive.period.start + (begun - 1) * length) in self.done:
                return None
        if not (text := rest.csv(archive)):
            return None
        table, rejected, repeats = read_table([text], archive)
        last = cast(datetime, table.frame["time"].max())
        name = rest.name(archive, last - INTERVALS[self.interval] if self.dataset.gridded else last)
        return None if name in self.done else self._made(name, table.digest, None, table, rejected, repeats)

    def _made(
        self, origin: str, digest: str, period: Span | None, table: Bars | Table, rejected: pl.DataFrame, repeats: int
    ) -> Piece:
        span = None if KINDS[self.dataset.kind].key else period
        return Piece(self.symbol, origin, digest, table, rejected, repeats, span)


def _part_of(month: Archive, day: Archive) -> str:
    """The origin of a day's rows that come from the file of its month."""
    return f"{month.origin}#{day.period.start:%Y-%m-%d}"


def _month(part: Span) -> Span:
    first = part.start.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return Span(first, next_month(first))


def _days(part: Span) -> list[Span]:
    """Each day that `part` touches."""
    first = part.start.replace(hour=0, minute=0, second=0, microsecond=0)
    count = -(-(part.end - first) // DAY)
    return [Span(first + n * DAY, first + (n + 1) * DAY) for n in range(count)]


spot, usd_margined, coin_margined = Spot(), UsdMargined(), CoinMargined()
raw_spot, raw_usd_margined, raw_coin_margined = RawSpot(), RawUsdMargined(), RawCoinMargined()
