"""Order books rebuilt from what changed in them, by price level or order by order: compiled, block after block."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
from numba import types
from numba.typed import Dict

from lab.compiled import compiled
from lab.kinds import level_columns
from lab.nouns import Matrix, Vector

Whole = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
CHUNK = 1 << 16  # rows, so that the states of one chunk fit into memory
ADD, CANCEL, MODIFY, CLEAR = range(4)  # what happened to an order
BID, ASK = 0, 1
_ORDER = types.UniTuple(types.float64, 3)  # side, price, size


class _Sides(NamedTuple):
    """Both sides of a book, (2, room): prices ascending, those of asks negated, so that the best of a side comes last.

    Most updates are near the best, where inserting moves little. `depth` says how many levels a side has, `best`
    what was handed out last.
    """

    prices: Matrix
    sizes: Matrix
    depth: Whole
    best: Vector


class _Levels(NamedTuple):
    bid: Flags
    price: Vector
    size: Vector
    snapshot: Flags
    ends: Flags


class _Orders(NamedTuple):
    action: Whole
    order: Whole
    bid: Flags
    price: Vector
    size: Vector
    ends: Flags


class LevelBook:
    """A book that is told the new size at a price, zero where nothing is left.

    Until the first row of a snapshot it knows nothing; a snapshot row after one that is none empties it first.
    """

    def __init__(self, levels: int) -> None:
        self._sides = _empty(levels)
        self._progress: Flags = np.zeros(2, np.bool_)  # whether a snapshot began, and whether the last row was of one

    def apply(self, *, bid: Flags, price: Vector, size: Vector, snapshot: Flags, ends: Flags) -> pl.DataFrame:
        """The best levels after each row in `ends` (the last of what became known at once) that changed them.

        `row` is the row's place in these arrays, from 0; the levels are those of lab.kinds.level_columns, null
        where there is none.
        """

        def run(part: slice, rows: Whole, states: Matrix) -> int:
            self._sides = _with_room(self._sides)
            updates = _Levels(bid[part], price[part], size[part], snapshot[part], ends[part])
            return _apply_levels(self._sides, self._progress, updates, rows, states)

        return _states(ends, self._sides.best.size // 4, run)


class OrderBook:
    """A book that is told of each order: added, cancelled by so much, modified to a price and size, or all cleared.

    To modify an order that is unknown adds it; to cancel one changes nothing.
    """

    def __init__(self, levels: int) -> None:
        self._sides = _empty(levels)
        self._orders = _no_orders()

    def apply(
        self, *, action: Whole, order: Whole, bid: Flags, price: Vector, size: Vector, ends: Flags
    ) -> pl.DataFrame:
        """The best levels after each row in `ends` that changed them, as LevelBook.apply; `action` is ADD, ….

        Rows of any other action change nothing.
        """

        def run(part: slice, rows: Whole, states: Matrix) -> int:
            self._sides = _with_room(self._sides)
            updates = _Orders(action[part], order[part], bid[part], price[part], size[part], ends[part])
            return _apply_orders(self._sides, self._orders, updates, rows, states)

        return _states(ends, self._sides.best.size // 4, run)


def _empty(levels: int) -> _Sides:
    return _Sides(np.empty((2, 0)), np.empty((2, 0)), np.zeros(2, np.int64), np.full(4 * levels, np.nan))


def _with_room(sides: _Sides) -> _Sides:
    """The same sides with room for the new levels of one more chunk."""
    lacking = int(sides.depth.max()) + CHUNK - sides.prices.shape[1]
    if lacking <= 0:
        return sides
    prices, sizes = (np.pad(each, ((0, 0), (0, lacking))) for each in (sides.prices, sides.sizes))
    return sides._replace(prices=prices, sizes=sizes)


def _states(ends: Flags, levels: int, run: Callable[[slice, Whole, Matrix], int]) -> pl.DataFrame:
    """Let `run` write the rows and states of each chunk, and gather them."""
    names = level_columns(levels)
    seen = [pl.DataFrame(schema={"row": pl.Int64, **dict.fromkeys(names, pl.Float64)})]
    for start in range(0, ends.size, CHUNK):
        part = slice(start, start + CHUNK)
        room = int(ends[part].sum())
        rows, states = np.empty(room, np.int64), np.empty((room, 4 * levels))
        changed = run(part, rows, states)
        frame = pl.DataFrame(states[:changed], schema=names, orient="row").with_columns(pl.all().fill_nan(None))
        seen.append(frame.select(pl.Series("row", rows[:changed] + start), *names))
    return pl.concat(seen)


@compiled
def _no_orders() -> dict[int, tuple[float, float, float]]:
    orders: dict[int, tuple[float, float, float]] = Dict.empty(types.int64, _ORDER)
    return orders


@compiled
def _place(prices: Vector, count: int, price: float) -> int:
    """Where `price` is, or would have to be."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if prices[middle] < price:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def _size_at(book: _Sides, side: int, price: float) -> float:
    key = price if side == BID else -price
    place = _place(book.prices[side], book.depth[side], key)
    if place < book.depth[side] and book.prices[side, place] == key:
        return book.sizes[side, place]  # type: ignore[no-any-return]
    return 0.0


@compiled
def _set_level(book: _Sides, side: int, price: float, size: float) -> None:
    prices, sizes, held = book.prices[side], book.sizes[side], book.depth[side]
    key = price if side == BID else -price
    place = _place(prices, held, key)
    known = place < held and prices[place] == key
    if known and size > 0:
        sizes[place] = size
    elif known:
        for n in range(place, held - 1):
            prices[n], sizes[n] = prices[n + 1], sizes[n + 1]
        book.depth[side] = held - 1
    elif size > 0:
        for n in range(held, place, -1):
            prices[n], sizes[n] = prices[n - 1], sizes[n - 1]
        prices[place], sizes[place] = key, size
        book.depth[side] = held + 1


@compiled
def _see(book: _Sides) -> bool:
    """Bring `best` up to date; whether it changed."""
    best, changed = book.best, False
    for at in range(0, best.size, 2):
        side, place = (at // 2) % 2, book.depth[(at // 2) % 2] - 1 - at // 4
        price, size = np.nan, np.nan
        if place >= 0:
            price, size = book.prices[side, place], book.sizes[side, place]
            price = price if side == BID else -price
        same = (best[at] == price and best[at + 1] == size) or (np.isnan(best[at]) and np.isnan(price))
        if not same:
            best[at], best[at + 1] = price, size
            changed = True
    return changed


@compiled
def _apply_levels(book: _Sides, progress: Flags, updates: _Levels, rows: Whole, states: Matrix) -> int:
    seen = 0
    for n in range(updates.bid.size):
        if updates.snapshot[n] and not progress[1]:
            book.depth[:] = 0
            progress[0] = True
        progress[1] = updates.snapshot[n]
        if not progress[0]:
            continue
        _set_level(book, BID if updates.bid[n] else ASK, updates.price[n], updates.size[n])
        if updates.ends[n] and _see(book):
            rows[seen] = n
            states[seen] = book.best
            seen += 1
    return seen


@compiled
def _take_out(book: _Sides, orders: dict[int, tuple[float, float, float]], order: int) -> tuple[float, float, float]:
    """The order that was there, no longer part of its level."""
    side, price, size = orders.pop(order)
    _set_level(book, int(side), price, _size_at(book, int(side), price) - size)
    return side, price, size


@compiled
def _put_in(
    book: _Sides, orders: dict[int, tuple[float, float, float]], order: int, side: int, price: float, size: float
) -> None:
    if size > 0:
        orders[order] = (float(side), price, size)
        _set_level(book, side, price, _size_at(book, side, price) + size)


@compiled
def _apply_orders(
    book: _Sides, orders: dict[int, tuple[float, float, float]], updates: _Orders, rows: Whole, states: Matrix
) -> int:
    seen = 0
    for n in range(updates.action.size):
        action, order, size = updates.action[n], updates.order[n], updates.size[n]
        if action == CLEAR:
            orders.clear()
            book.depth[:] = 0
        elif action == CANCEL and order in orders:
            side, price, held = _take_out(book, orders, order)
            _put_in(book, orders, order, int(side), price, held - size)
        elif action in (ADD, MODIFY):
            if order in orders:
                _take_out(book, orders, order)
            _put_in(book, orders, order, BID if updates.bid[n] else ASK, updates.price[n], size)
        if updates.ends[n] and _see(book):
            rows[seen] = n
            states[seen] = book.best
            seen += 1
    return seen
