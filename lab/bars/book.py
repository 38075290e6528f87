"""Quotes and books → what the order book did during each bar, and how it stood at its close.

A quote stands until the next one, but for no longer than an hour: such a silence is a gap in the recording, after which
nobody knows the book. A crossed quote (bid above ask) counts for nothing: the one before it stands on. Order flow is
the change from one quote to the next; it is not taken across a gap, a crossed quote or an empty level.

A bar that the clock closes has the quotes of [open, close). One that trading closes has those after the close of the
bar before up to and including its own; the first has no known beginning, so neither flow nor spread.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from lab.compiled import compiled
from lab.errors import BadBars
from lab.kinds import LEVELS, level_columns
from lab.nouns import BOOK_LEVELS, INTERVALS, MICROSECOND, Bars, Matrix, Vector, is_clocked

Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Records = npt.NDArray[np.void]

QUOTE = ["bid", "bid_size", "ask", "ask_size"]
VALUES = len(QUOTE)  # a level
SILENCE = timedelta(hours=1)
STANDS = SILENCE // MICROSECOND
LONG_AGO = -(1 << 62)
STATE_OF_BOOK = ("bid", "bid_size", "ask", "ask_size", "spread", "micro_price")
# When the standing quote came, whether the next one's change is flow, and the spread × time and time of the bar so far.
STATE = np.dtype([("since", np.int64), ("flows", np.bool_), ("spread_time", np.float64), ("time", np.float64)])


def with_book(bars: Iterable[Bars], quotes: Iterable[pl.DataFrame]) -> Iterator[Bars]:
    """The same bars of one symbol, with columns for its order book; null where no quote stood that would tell.

    quotes: rows of kind "quotes" or "books" of that symbol, in time order, in batches of any size.

    bid, ask, bid_size, ask_size: at the close, the last quote of the bar or from before it.
    spread: mean of ask - bid, weighted by the time for which it stood within the bar.
    micro_price: (bid·ask_size + ask·bid_size) / (bid_size + ask_size) at the close.
    ofi_1 … ofi_10, as many as there are levels: order flow of each level over the bar, in units of size; 0 where the
    level stood and nothing changed. Cont, Kukanov & Stoikov (2014), J. Financial Econometrics 12; by level Xu, Gould &
    Howison (2018), arXiv 1907.06230.
    depth_slope, of books: mean of both sides' slopes at the close, over as many levels. Næs & Skjeltorp (2006), J.
    Financial Markets 9. It takes logarithms of sizes summed from the best level on: null where one is at most 1.
    """
    feed = _Feed(quotes)
    book: _Book | None = None
    for closed in bars:
        if closed.frame.height:
            book = book or _Book(feed.levels, feed.has_depth)
            yield book.during(closed, feed)


class _Feed:
    """Quotes as arrays, batch by batch: `times`, and `rows` of bid, bid size, ask, ask size of each level."""

    def __init__(self, quotes: Iterable[pl.DataFrame]) -> None:
        self._batches = (batch for batch in quotes if batch.height)
        first = next(self._batches, None)
        self.has_depth = first is not None and "bid_1" in first.columns
        self.levels = _levels(first) if self.has_depth and first is not None else 1
        self.symbol: str | None = None
        self.at = 0
        self._load(first)

    def next(self) -> bool:
        """Go on to the following batch; False where there is none."""
        return self._load(next(self._batches, None))

    def _load(self, batch: pl.DataFrame | None) -> bool:
        if batch is None:
            self.times, self.rows, self.at = np.empty(0, dtype=np.int64), np.empty((0, VALUES * self.levels)), 0
            return False
        last = self.times[-1] if self.symbol else LONG_AGO
        names = level_columns(self.levels) if self.has_depth else QUOTE
        known = [pl.col(name) if name in batch.columns else pl.lit(None, pl.Float64).alias(name) for name in names]
        self.times = batch["time"].to_physical().to_numpy()
        self.rows = batch.select(known).to_numpy(order="c")
        self.symbol = self.symbol or batch["symbol"][0]
        self.at = 0
        if (batch["symbol"] != self.symbol).any():
            raise BadBars(f"quotes of {self.symbol} come with others", fix="take one symbol at a time")
        if self.times[0] < last or (np.diff(self.times) < 0).any():
            raise BadBars(f"a quote of {self.symbol} follows a later one", fix="sort the quotes by time")
        return True


class _Book:
    """What is known of the book, from one bar to the next."""

    def __init__(self, levels: int, has_depth: bool) -> None:
        self._state = np.zeros(1, dtype=STATE)
        self._state["since"] = LONG_AGO
        self._standing = np.full(VALUES * levels, np.nan)
        self._flow = np.zeros(levels)
        self._seen = np.zeros(levels, dtype=np.bool_)
        self._before: int | None = None
        flows = [f"ofi_{level}" for level in range(1, levels + 1)]
        self._names = [*STATE_OF_BOOK, *flows, *(["depth_slope"] if has_depth else [])]

    def during(self, bars: Bars, feed: _Feed) -> Bars:
        """The bars with the columns of the book; takes from the feed what lies before the last of their closes."""
        if feed.symbol and bars.symbols != [feed.symbol]:
            raise BadBars(f"quotes of {feed.symbol} beside bars of {', '.join(bars.symbols)}", fix="match the symbols")
        begins, ends = self._extents(bars)
        found = np.full((ends.size, len(STATE_OF_BOOK) + self._flow.size + 1), np.nan)
        known = (self._state, self._standing, self._flow, self._seen)
        settled, more = 0, True
        while settled < ends.size:
            feed.at, settled = follow(*known, feed.times, feed.rows, feed.at, begins, ends, settled, not more, found)
            if settled < ends.size:
                more = feed.next()
        columns = [pl.Series(name, found[:, n]) for n, name in enumerate(self._names)]
        finite = [pl.when(pl.col(each.name).is_finite()).then(each.name) for each in columns]
        frame = bars.frame.drop(self._names, strict=False).hstack(columns).with_columns(finite)
        return replace(bars, frame=Bars.of(frame, bars.interval).frame)

    def _extents(self, bars: Bars) -> tuple[Integers, Integers]:
        """The first moment of each bar, and the first that is no longer in it."""
        closes = bars.frame["time"].to_physical().to_numpy()
        if is_clocked(bars.interval):
            return closes - INTERVALS[bars.interval] // MICROSECOND, closes
        ends = closes + 1
        begins = np.concatenate([[ends[0] if self._before is None else self._before], ends[:-1]])
        self._before = ends[-1]
        return begins, ends


def _levels(batch: pl.DataFrame) -> int:
    whole = (n for n in range(1, LEVELS + 1) if not {*level_columns(n)} <= {*batch.columns})
    return min(next(whole, LEVELS + 1) - 1, BOOK_LEVELS)


@compiled
def follow(
    states: Records,
    standing: Vector,
    flow: Vector,
    seen: Flags,
    times: Integers,
    rows: Matrix,
    at: int,
    begins: Integers,
    ends: Integers,
    settled: int,
    is_last: bool,
    found: Matrix,
) -> tuple[int, int]:
    """Take quotes from number `at` on and fill `found` for each bar that they go beyond, or for all after the last.

    Returns how many quotes are taken, and how many bars are settled.
    """
    state = states[0]
    while settled < ends.size:
        if at < times.size and times[at] < ends[settled]:
            arrive(state, standing, flow, seen, begins[settled], times[at], rows[at])
            at += 1
        elif at < times.size or is_last:
            settle(state, standing, flow, seen, begins[settled], ends[settled], found[settled])
            settled += 1
        else:
            break
    return at, settled


@compiled
def arrive(state: Any, standing: Vector, flow: Vector, seen: Flags, begin: int, time: int, quote: Vector) -> None:
    """Let a quote take the place of the one that stands, during a bar that begins at `begin` or later."""
    if quote[0] > quote[2]:
        state.flows = False
        return
    stand(state, standing, seen, begin, time)
    if time >= begin and state.flows and time - state.since <= STANDS:
        for level in range(flow.size):
            first = level * VALUES
            if is_known(standing, first) and is_known(quote, first):
                flow[level] += order_flow(standing, quote, first)
                seen[level] = True
    standing[:] = quote
    state.since = time
    state.flows = True


@compiled
def stand(state: Any, standing: Vector, seen: Flags, begin: int, until: int) -> None:
    """Count the time from `begin` to `until` for which the quote stood."""
    stood = float(min(until, state.since + STANDS) - max(begin, state.since))
    if stood <= 0.0:
        return
    for level in range(seen.size):
        if is_known(standing, level * VALUES):
            seen[level] = True
    spread = standing[2] - standing[0]
    if not math.isnan(spread):
        state.spread_time += spread * stood
        state.time += stood


@compiled
def is_known(quote: Vector, first: int) -> bool:
    """Whether the level whose bid is number `first` of `quote` has both sides."""
    return not math.isnan(quote[first] + quote[first + 1] + quote[first + 2] + quote[first + 3])


@compiled
def order_flow(before: Vector, after: Vector, first: int) -> float:
    """What came to the bid of a level less what came to its ask, from one quote to the next."""
    bid, bid_size, ask, ask_size = after[first], after[first + 1], after[first + 2], after[first + 3]
    flow = 0.0
    if bid >= before[first]:
        flow += bid_size
    if bid <= before[first]:
        flow -= before[first + 1]
    if ask <= before[first + 2]:
        flow -= ask_size
    if ask >= before[first + 2]:
        flow += before[first + 3]
    return flow


@compiled
def settle(state: Any, standing: Vector, flow: Vector, seen: Flags, begin: int, end: int, found: Vector) -> None:
    """Write down what the bar saw, and begin the next one."""
    stand(state, standing, seen, begin, end)
    if end - state.since <= STANDS:
        bid, bid_size, ask, ask_size = standing[0], standing[1], standing[2], standing[3]
        found[:VALUES] = standing[:VALUES]
        found[5] = (bid * ask_size + ask * bid_size) / (bid_size + ask_size)
        mid = (bid + ask) / 2
        found[6 + flow.size] = (slope(standing, 0, mid) + slope(standing, 2, mid)) / 2
    found[4] = state.spread_time / state.time
    for level in range(flow.size):
        if seen[level]:
            found[6 + level] = flow[level]
        flow[level] = 0.0
        seen[level] = False
    state.spread_time = 0.0
    state.time = 0.0


@compiled
def slope(standing: Vector, side: int, mid: float) -> float:
    """How fast size piles up from the mid outwards, on the side whose first price is number `side` of `standing`."""
    total = 0.0
    levels = 0
    size = 0.0
    before = math.nan
    price = mid
    for first in range(side, standing.size, VALUES):
        if math.isnan(standing[first] + standing[first + 1]):
            break
        size += standing[first + 1]
        if size <= 1.0:
            return math.nan
        deep = math.log(size)
        gain = deep if levels == 0 else deep / before - 1.0
        total += gain / abs(standing[first] / price - 1.0)
        before = deep
        price = standing[first]
        levels += 1
    return total / levels if levels else math.nan
