"""Trades → bars that close by the clock or by what was traded.

By the clock, a bar holds the trades of [open, close), on a grid that begins at midnight UTC; where nothing was traded
there is no bar. By what was traded (`tick-100`, `volume-50`, `dollar-1000000`, `imbalance-100`, `run-100`), a bar ends
with the trade that brings it to its threshold: so many trades, units, units of money, trades of one side more than of
the other, or trades of one side. These are the bars of López de Prado (2018), Advances in Financial Machine Learning,
ch. 2, with a fixed threshold. His expects the next imbalance from an exponential average of those before, which can
run away in either direction: a longer bar raises the threshold, which makes the next one longer still.

All trades of one moment are in one bar: nobody could act between them, and no two bars close at the same time. So a
threshold is looked at when time has moved on, and `time` is that of the bar's last trade.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from lab.compiled import compiled
from lab.errors import BadBars, UsageError
from lab.nouns import INTERVALS, MICROSECOND, TIME, TRADED_RULES, Bars, Matrix, Vector, is_clocked

Integers = npt.NDArray[np.int64]
Sides = npt.NDArray[np.int8]
Records = npt.NDArray[np.void]

TICK, VOLUME, DOLLAR, IMBALANCE, RUN = range(len(TRADED_RULES))
CLOCK = len(TRADED_RULES)
RULES = {"tick": TICK, "volume": VOLUME, "dollar": DOLLAR, "imbalance": IMBALANCE, "run": RUN}
ROUNDING = 1 - 1e-9  # ten times 0.1 is less than 1
VALUES = ("open", "high", "low", "close", "volume", "buy_volume", "quote_volume", "trades")
# A bar in the making. `ends` is the first moment that is not in it; bought and sold count trades, and so does unsigned.
BAR = np.dtype(
    [(name, np.int64) for name in ("last", "ends", "trades", "bought", "sold", "unsigned")]
    + [(name, np.float64) for name in VALUES[:-1]]
)


def close_bars(batches: Iterable[pl.DataFrame], interval: str, *, until: datetime | None = None) -> Iterator[Bars]:
    """The bars that trades of one symbol make, a part for each batch in which some closed.

    batches: rows of kind "trades", in time order. Before `until` the trades are known to be complete; where it is left
    out, up to the last of them. A bar that may still grow is not handed out.

    Bars have buy_volume (of trades that takers bought; null where the side of any trade of the bar is unknown),
    quote_volume, vwap and trades: the market's, `count` a row where rows stand for several. Trades of an unknown side
    count for neither side of an imbalance or a run; where no side is known at all, those are a UsageError.
    """
    closer = Closer(interval)
    for batch in batches:
        if bars := closer.take(batch):
            yield bars
    if until and (bars := closer.close(until)):
        yield bars
    closer.check_sides()


class Closer:
    """The bar in the making of one symbol; takes trades as they come and hands out what has closed."""

    def __init__(self, interval: str) -> None:
        self.interval = interval
        self._bar = np.zeros(1, dtype=BAR)
        self._symbol = ""
        self._closed = 0
        if is_clocked(interval):
            self._rule, self._size = CLOCK, float(INTERVALS[interval] // MICROSECOND)
        else:
            rule, size = interval.split("-")
            self._rule, self._size = RULES[rule], float(size) * ROUNDING

    def take(self, trades: pl.DataFrame) -> Bars | None:
        """The bars that these trades close, or None; trades of another symbol or an earlier time are BadBars."""
        if trades.is_empty():
            return None
        self._check_symbol(trades)
        rows = trades.rechunk()
        counts = rows["count"].fill_null(1).to_numpy() if "count" in rows.columns else np.empty(0, dtype=np.int64)
        times, prices, sizes, sides = (
            rows[name].to_physical().to_numpy() for name in ("time", "price", "size", "side")
        )
        closes, values = np.empty(times.size, dtype=np.int64), np.empty((len(VALUES), times.size))
        done, taken = take_trades(
            self._bar, times, prices, sizes, sides, counts, self._rule, self._size, closes, values
        )
        if taken < times.size:
            raise BadBars(
                f"a trade of {self._symbol} at {rows['time'][taken]} follows a later one", fix="sort the trades by time"
            )
        return self._bars(closes[:done], values[:, :done])

    def close(self, until: datetime) -> Bars | None:
        """The bar in the making, if it is over once the trades before `until` are all there; or None."""
        moment = pl.Series([until]).cast(TIME).to_physical()[0]
        if not is_over(self._bar[0], moment, self._rule, self._size):
            return None
        closes, values = np.empty(1, dtype=np.int64), np.empty((len(VALUES), 1))
        write(self._bar[0], self._rule, 0, closes, values)
        return self._bars(closes, values)

    def check_sides(self) -> None:
        """Refuse to wait for an imbalance or a run among trades of which nobody knows the side."""
        bar = self._bar[0]
        sided = self._closed or bar["bought"] or bar["sold"]
        if self._rule in (IMBALANCE, RUN) and bar["trades"] and not sided:
            raise UsageError(
                f"{self.interval} bars need the takers' side, and no trade of {self._symbol} has one",
                fix="take tick, volume or dollar bars, or a source that has the side",
            )

    def _check_symbol(self, trades: pl.DataFrame) -> None:
        self._symbol = self._symbol or trades["symbol"][0]
        if (trades["symbol"] != self._symbol).any():
            other = trades.filter(pl.col("symbol") != self._symbol)["symbol"][0]
            raise BadBars(f"trades of {self._symbol} and {other} cannot make one bar", fix="close one symbol at a time")

    def _bars(self, closes: Integers, values: Matrix) -> Bars | None:
        if not closes.size:
            return None
        self._closed += closes.size
        columns = [pl.Series(name, values[n], nan_to_null=name == "buy_volume") for n, name in enumerate(VALUES)]
        mean = pl.col("quote_volume") / pl.col("volume")
        frame = pl.DataFrame(columns).with_columns(
            symbol=pl.lit(self._symbol),
            time=pl.Series(closes).cast(TIME),
            vwap=mean.clip(pl.col("low"), pl.col("high")),  # a mean is no further out, its last digit may be
        )
        return Bars.of(frame, self.interval)


@compiled
def take_trades(
    state: Records,
    times: Integers,
    prices: Vector,
    sizes: Vector,
    sides: Sides,
    counts: Integers,
    rule: int,
    size: float,
    closes: Integers,
    values: Matrix,
) -> tuple[int, int]:
    """Put trades into the bar in the making, and write every bar that is over into `closes` and `values`.

    Returns how many closed, and how many trades were taken: all, or those before the first that is out of order.
    """
    bar = state[0]
    done = 0
    for t in range(times.size):
        if bar.trades > 0:
            if times[t] < bar.last:
                return done, t
            if is_over(bar, times[t], rule, size):
                write(bar, rule, done, closes, values)
                done += 1
        if bar.trades == 0:
            begin(bar, times[t], prices[t], rule, size)
        add(bar, times[t], prices[t], sizes[t], sides[t], counts[t] if counts.size else 1, rule)
    return done, times.size


@compiled
def is_over(bar: Any, moment: int, rule: int, size: float) -> bool:
    """Whether no trade at `moment` or later belongs to the bar."""
    if bar.trades == 0 or moment < bar.ends:
        return False
    return rule == CLOCK or progress(bar, rule) >= size


@compiled
def progress(bar: Any, rule: int) -> float:
    """How far the bar is on the way to its threshold."""
    if rule == TICK:
        return float(bar.trades)
    if rule == VOLUME:
        return float(bar.volume)
    if rule == DOLLAR:
        return float(bar.quote_volume)
    if rule == IMBALANCE:
        return float(abs(bar.bought - bar.sold))
    return float(max(bar.bought, bar.sold))


@compiled
def write(bar: Any, rule: int, place: int, closes: Integers, values: Matrix) -> None:
    """Write the bar into its place, and leave it empty."""
    closes[place] = bar.ends if rule == CLOCK else bar.last
    values[0, place] = bar.open
    values[1, place] = bar.high
    values[2, place] = bar.low
    values[3, place] = bar.close
    values[4, place] = bar.volume
    values[5, place] = bar.buy_volume if bar.unsigned == 0 else np.nan
    values[6, place] = bar.quote_volume
    values[7, place] = bar.trades
    bar.trades = 0


@compiled
def begin(bar: Any, time: int, price: float, rule: int, size: float) -> None:
    """Empty the bar and let it begin with a trade at this time and price."""
    if rule == CLOCK:
        length = int(size)
        bar.ends = (time // length + 1) * length
    bar.bought = 0
    bar.sold = 0
    bar.unsigned = 0
    bar.open = price
    bar.high = price
    bar.low = price
    bar.volume = 0.0
    bar.buy_volume = 0.0
    bar.quote_volume = 0.0


@compiled
def add(bar: Any, time: int, price: float, size: float, side: int, count: int, rule: int) -> None:
    """Put one trade into the bar."""
    bar.last = time
    if rule != CLOCK:
        bar.ends = time + 1
    bar.high = max(bar.high, price)
    bar.low = min(bar.low, price)
    bar.close = price
    bar.volume += size
    bar.quote_volume += price * size
    bar.trades += count
    if side > 0:
        bar.buy_volume += size
        bar.bought += count
    elif side < 0:
        bar.sold += count
    else:
        bar.unsigned += count
