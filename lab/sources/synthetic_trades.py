"""The trades inside made-up bars: closing bars from them gives the bars back.

Prices begin at a bar's open, pass its high and low at two places of their own, and end at its close. What takers bought
and sold adds up to the bar's volumes, to within 1e-6, as sizes have eight decimals. There are as many trades as the
bar says, but no fewer than four.
"""

import numpy as np
import numpy.typing as npt
import polars as pl

from lab.kinds import TRADES
from lab.nouns import MICROSECOND, PRICES, Bars, Vector, interval_length

Integers = npt.NDArray[np.int64]
Sides = npt.NDArray[np.int8]

LEAST = 4  # open, high, low and close; the second was bought, the third was sold
PRICE_DECIMALS, SIZE_DECIMALS = 6, 8
JITTER = 0.1  # of the bar's range


def trades_within(bars: Bars, rng: np.random.Generator, first_id: int) -> pl.DataFrame:
    """The trades of one symbol, numbered from `first_id` on, at random moments of each bar."""
    frame, length = bars.frame, interval_length(bars.interval) // MICROSECOND
    counts = np.maximum(frame["trades"].cast(pl.Int64).to_numpy(), LEAST)
    bar = np.repeat(np.arange(counts.size), counts)
    opened = frame["time"].to_physical().to_numpy() - length
    moments = (np.sort(bar + rng.random(bar.size)) - bar) * length
    sides = _sides(frame, bar, counts, rng)
    columns = {
        "time": opened[bar] + np.clip(moments.astype(np.int64), 0, length - 1),
        "price": _prices(frame, bar, counts, rng),
        "size": _sizes(frame, bar, sides, rng),
        "side": sides,
        "id": first_id + np.arange(bar.size),
    }
    trades = pl.DataFrame({"symbol": bars.symbols[0], **columns})
    return trades.select(pl.col(name).cast(dtype) for name, dtype in TRADES.schema(columns).items())


def _prices(frame: pl.DataFrame, bar: Integers, counts: Integers, rng: np.random.Generator) -> Vector:
    opened, high, low, close = (frame[name].to_numpy() for name in PRICES)
    first = np.cumsum(counts) - counts
    highest = 1 + (rng.random(counts.size) * (counts - 2)).astype(np.int64)
    lowest = 1 + (rng.random(counts.size) * (counts - 3)).astype(np.int64)
    lowest += lowest >= highest
    places = np.concatenate([first, first + highest, first + lowest, first + counts - 1])
    values = np.concatenate([opened, high, low, close])
    order = np.argsort(places)
    path = np.interp(np.arange(bar.size), places[order], values[order])
    path += JITTER * (high - low)[bar] * rng.standard_normal(bar.size)
    prices: Vector = np.clip(np.round(path, PRICE_DECIMALS), low[bar], high[bar])
    prices[places] = values
    return prices


def _sides(frame: pl.DataFrame, bar: Integers, counts: Integers, rng: np.random.Generator) -> Sides:
    bought = (frame["buy_volume"] / frame["volume"]).to_numpy()
    sides = np.where(rng.random(bar.size) < bought[bar], 1, -1).astype(np.int8)
    first = np.cumsum(counts) - counts
    sides[first + 1], sides[first + 2] = 1, -1
    return sides


def _sizes(frame: pl.DataFrame, bar: Integers, sides: Sides, rng: np.random.Generator) -> Vector:
    weights = 0.1 + rng.standard_exponential(bar.size)
    bought = frame["buy_volume"].to_numpy()
    sizes = np.empty(bar.size)
    for side, volume in ((1, bought), (-1, frame["volume"].to_numpy() - bought)):
        own = sides == side
        sizes[own] = (weights * (volume / np.bincount(bar, weights * own))[bar])[own]
    return np.round(sizes, SIZE_DECIMALS)
