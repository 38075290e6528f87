"""A made-up order book, so that what order flow does to its price is known.

A symbol is BOOK-SEED, e.g. `BOOK-1`; the same symbol is the same market for everyone. Every day (UTC) is a market of
its own: it opens at 100 from an empty book, and has a step a second, each of three quotes and a trade:

    flow    both best prices move by IMPACT·e, where e = d·(q + q′), d is +1 or -1 with equal chance, q the size at
            the best prices from now on, q′ the size so far; sizes are whole, uniform from 2 to 20, equal on both sides
    wide    both best prices move outwards
    narrow  both best prices are back, NOISE·z beside where they were; z standard normal
    trade   the taker is on the side of d and takes q at the best price

e is the order-flow imbalance of the first quote by the definition of Cont, Kukanov & Stoikov; that of the other two is
nil, as both sides have the same size. So over any number of steps

    change of the mid = IMPACT·ofi_1 + noise,      noise independent of ofi_1, standard deviation NOISE·√steps,

and the share of the mid's variance that flow explains is EXPLAINED = 0.68. Deeper levels stand a tick apart.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from lab.kinds import BOOKS, QUOTES, TRADES, Kind, level_columns
from lab.nouns import MICROSECOND, TIME, Matrix, Vector

IMPACT = 1e-4  # price per unit of order-flow imbalance
NOISE = 16e-4  # price, a step
SMALLEST, LARGEST = 2, 20
# E[e²] = Var(q + q′) + E[q + q′]² = 2·30 + 22² = 544
EXPLAINED = 544 * IMPACT**2 / (544 * IMPACT**2 + NOISE**2)

STEPS = 86_400
STEP = timedelta(seconds=1) // MICROSECOND
FIRST_PRICE, SPREAD, TICK = 100.0, 0.01, 0.01
LEVELS = 5
DECIMALS = 6
OPENED, FLOWED, WIDENED, NARROWED, TRADED = 50_000, 100_000, 400_000, 500_000, 700_000  # µs into the day, or the step


def book_day(symbol: str, seed: int, day: datetime, number: int, kind: str) -> pl.DataFrame:
    """The trades, quotes or books of one day, which is number `number` of its market."""
    rng = np.random.default_rng([seed, 6, number])
    side = rng.choice([-1, 1], STEPS)
    sizes = rng.integers(SMALLEST, LARGEST, STEPS + 1, endpoint=True).astype(np.float64)
    noise = np.round(NOISE * rng.standard_normal(STEPS), DECIMALS)
    narrowed = FIRST_PRICE + IMPACT * np.cumsum(side * (sizes[1:] + sizes[:-1])) + np.cumsum(noise)
    begun = pl.Series([day]).cast(TIME).to_physical()[0]
    steps = begun + STEP * np.arange(STEPS)
    if kind == TRADES.name:
        columns = {
            "time": steps + TRADED,
            "price": np.round(narrowed + side * SPREAD / 2, DECIMALS),
            "size": sizes[1:],
            "side": side,
            "id": number * STEPS + np.arange(STEPS),
        }
        return _table(symbol, TRADES, columns)
    flowed = narrowed - noise
    bids = np.stack([flowed, np.minimum(flowed, narrowed) - TICK, narrowed], axis=1).ravel() - SPREAD / 2
    asks = np.stack([flowed, np.maximum(flowed, narrowed) + TICK, narrowed], axis=1).ravel() + SPREAD / 2
    best = np.stack([bids, np.repeat(sizes[1:], 3), asks, np.repeat(sizes[1:], 3)], axis=1)
    opening = np.array([FIRST_PRICE - SPREAD / 2, sizes[0], FIRST_PRICE + SPREAD / 2, sizes[0]])
    empty = np.full(4, np.nan)
    levels = np.concatenate([[empty, opening], best])
    times = np.concatenate([[begun, begun + OPENED], (steps[:, None] + [FLOWED, WIDENED, NARROWED]).ravel()])
    if kind == QUOTES.name:
        return _table(symbol, QUOTES, {"time": times, **_named(("bid", "bid_size", "ask", "ask_size"), levels)})
    return _table(symbol, BOOKS, {"time": times, **_named(level_columns(LEVELS), _deepened(levels, [seed, 7, number]))})


def _deepened(best: Matrix, seed: list[int]) -> Matrix:
    """The best level with the ones behind it, a tick apart, of sizes that have nothing to say."""
    rng = np.random.default_rng(seed)
    deeper = [best]
    for level in range(1, LEVELS):
        sizes = rng.integers(SMALLEST, LARGEST, (len(best), 2), endpoint=True)
        prices = best[:, [0, 2]] + np.array([-TICK, TICK]) * level
        deeper.append(np.stack([prices[:, 0], sizes[:, 0], prices[:, 1], sizes[:, 1]], axis=1))
    deeper[1:] = [np.where(np.isnan(best), np.nan, each) for each in deeper[1:]]
    return np.concatenate(deeper, axis=1)


def _named(names: Sequence[str], values: Matrix) -> dict[str, Vector]:
    return {name: np.round(values[:, n], DECIMALS) for n, name in enumerate(names)}


def _table(symbol: str, kind: Kind, columns: Mapping[str, Any]) -> pl.DataFrame:
    frame = pl.DataFrame({"symbol": symbol, **columns}, nan_to_null=True)
    return frame.select(pl.col(name).cast(dtype) for name, dtype in kind.schema(frame.columns).items())
