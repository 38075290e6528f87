"""The order books that are rebuilt: as a slow dictionary would, and as an exchange's own best bid and ask say."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.kinds import level_columns
from lab.sources.order_book import ADD, CANCEL, CLEAR, MODIFY, LevelBook, OrderBook

MARKET = Path(__file__).parents[2].parent / "shared/market"
LEVELS = 3
Row = tuple[Any, ...]

PRICES = st.sampled_from([0.5, 1.0, 1.5, 2.0, 99.75, 100.0, 100.25, 1e8])
SIZES = st.sampled_from([0.0, 1.0, 2.5, 7.0])
LEVEL_ROWS = st.lists(st.tuples(st.booleans(), PRICES, SIZES, st.integers(0, 3).map(lambda n: n == 0), st.booleans()))
# Few orders at few prices, so that they meet; what is neither of the four actions changes nothing.
ACTIONS = st.sampled_from([ADD, ADD, ADD, CANCEL, CANCEL, MODIFY, CLEAR, 9])
FEW = st.sampled_from([1.0, 2.0])
ORDER_ROWS = st.lists(
    st.tuples(ACTIONS, st.integers(1, 4), st.booleans(), FEW, st.sampled_from([0.0, *range(1, 4)]), st.booleans())
)


def best_of(bids: dict[float, float], asks: dict[float, float], levels: int) -> list[float | None]:
    """The state of a book as one row, from two dictionaries of price to size."""
    sides = [sorted(bids.items(), reverse=True)[:levels], sorted(asks.items())[:levels]]
    padded = [side + [(None, None)] * (levels - len(side)) for side in sides]
    return [value for bid, ask in zip(*padded, strict=True) for value in (*bid, *ask)]


def slow_levels(rows: list[Row]) -> list[Row]:
    book: tuple[dict[float, float], dict[float, float]] = ({}, {})
    begun = in_snapshot = False
    last, seen = best_of({}, {}, LEVELS), []
    for n, (bid, price, size, snapshot, ends) in enumerate(rows):
        if snapshot and not in_snapshot:
            book, begun = ({}, {}), True
        in_snapshot = snapshot
        if not begun:
            continue
        side = book[0] if bid else book[1]
        side.pop(price, None)
        if size:
            side[price] = size
        if ends and (state := best_of(*book, LEVELS)) != last:
            last = state
            seen.append((n, *state))
    return seen


def slow_orders(rows: list[Row]) -> list[Row]:
    orders: dict[int, tuple[bool, float, float]] = {}
    last, seen = best_of({}, {}, LEVELS), []
    for n, (action, order, bid, price, size, ends) in enumerate(rows):
        if action == CLEAR:
            orders = {}
        elif action == CANCEL and order in orders:
            orders[order] = (*orders[order][:2], orders[order][2] - size)
        elif action in (ADD, MODIFY):
            orders[order] = (bid, price, size)
        sides: tuple[dict[float, float], dict[float, float]] = ({}, {})
        for own_bid, at, left in orders.values():
            if left > 0:
                side = sides[0] if own_bid else sides[1]
                side[at] = side.get(at, 0.0) + left
        orders = {key: each for key, each in orders.items() if each[2] > 0}
        if ends and (state := best_of(*sides, LEVELS)) != last:
            last = state
            seen.append((n, *state))
    return seen


def column(rows: list[Row], n: int, dtype: Any) -> Any:
    return np.array([row[n] for row in rows], dtype=dtype)


def apply_levels(book: LevelBook, rows: list[Row]) -> pl.DataFrame:
    return book.apply(
        bid=column(rows, 0, bool),
        price=column(rows, 1, float),
        size=column(rows, 2, float),
        snapshot=column(rows, 3, bool),
        ends=column(rows, 4, bool),
    )


def apply_orders(book: OrderBook, rows: list[Row]) -> pl.DataFrame:
    return book.apply(
        action=column(rows, 0, np.int64),
        order=column(rows, 1, np.int64),
        bid=column(rows, 2, bool),
        price=column(rows, 3, float),
        size=column(rows, 4, float),
        ends=column(rows, 5, bool),
    )


@given(LEVEL_ROWS)
def test_a_book_by_level_is_what_two_dictionaries_hold(rows: list[Row]) -> None:
    states = apply_levels(LevelBook(LEVELS), rows)
    assert states.columns == ["row", *level_columns(LEVELS)]
    assert states.rows() == slow_levels(rows)


@given(ORDER_ROWS)
def test_a_book_by_order_is_what_a_list_of_all_orders_says(rows: list[Row]) -> None:
    assert apply_orders(OrderBook(LEVELS), rows).rows() == slow_orders(rows)


@given(LEVEL_ROWS, ORDER_ROWS, st.integers(0, 50))
def test_a_book_goes_on_where_it_was_left(levels: list[Row], orders: list[Row], cut: int) -> None:
    book, by_order = LevelBook(LEVELS), OrderBook(LEVELS)
    halves = [apply_levels(book, levels[:cut]), apply_levels(book, levels[cut:])]
    whole = [row[1:] for half in halves for row in half.rows()]
    assert whole == [row[1:] for row in slow_levels(levels)]
    halves = [apply_orders(by_order, orders[:cut]), apply_orders(by_order, orders[cut:])]
    assert [row[1:] for half in halves for row in half.rows()] == [row[1:] for row in slow_orders(orders)]


def test_a_long_history_is_one_history_whatever_the_chunks() -> None:
    rng = np.random.default_rng(7)
    count = 150_000
    bid, price, ends = rng.random(count) < 0.5, rng.integers(1, 400, count).astype(float), rng.random(count) < 0.2
    size = rng.choice([0.0, 0.0, 1.0, 2.0], count)
    rows = list(zip(bid, price, size, rng.random(count) < 1e-4, ends, strict=True))
    states = apply_levels(LevelBook(LEVELS), rows)
    assert states.height > 1000
    assert states.rows() == slow_levels(rows)


def test_many_orders_meet_at_few_prices() -> None:
    rng = np.random.default_rng(8)
    count = 3000
    action = rng.choice([ADD, CANCEL, MODIFY, CLEAR], count, p=[0.5, 0.3, 0.19, 0.01])
    order, price = rng.integers(1, 30, count), rng.integers(1, 9, count).astype(float)
    size = rng.integers(0, 5, count).astype(float)
    rows = list(zip(action, order, rng.random(count) < 0.5, price, size, rng.random(count) < 0.7, strict=True))
    states = apply_orders(OrderBook(LEVELS), rows)
    assert states.height > 1000
    assert states.rows() == slow_orders(rows)


def test_the_rule_of_the_vendor_step_by_step() -> None:
    bid, ask, last = True, False, True
    rows: list[Row] = [
        (bid, 99.0, 1.0, False, last),  # before any snapshot: nothing is known
        (bid, 100.0, 2.0, True, not last),
        (ask, 101.0, 3.0, True, last),  # the snapshot is seen once it is whole
        (bid, 100.5, 0.0, False, last),  # a level that never was: no change
        (bid, 100.0, 5.0, False, last),
        (ask, 102.0, 1.0, True, not last),  # a new snapshot: nothing of the old book stays
        (bid, 98.0, 4.0, True, last),
    ]
    states = apply_levels(LevelBook(1), rows)
    assert states.rows() == [(2, 100.0, 2.0, 101.0, 3.0), (4, 100.0, 5.0, 101.0, 3.0), (6, 98.0, 4.0, 102.0, 1.0)]


# ── a recorded market ───────────────────────────────────────────────────────────────────────────────────────────────


def lines_of(*files: Path) -> Iterator[dict[str, Any]]:
    for file in files:
        with gzip.open(file) as lines:
            for line in lines:
                message = json.loads(line.split(b" ", 1)[1])
                yield message.get("data", message)


def rows_of_capture(messages: list[dict[str, Any]]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Level updates as rows (the snapshot, then what by the exchange's rule follows it), and its best quotes."""
    (snapshot,) = (message for message in messages if "lastUpdateId" in message)
    at = snapshot["lastUpdateId"]
    rows = [
        (at, side == "bids", float(price), float(size), True)
        for side in ("bids", "asks")
        for price, size in snapshot[side]
    ]
    for message in messages:
        if message.get("e") == "depthUpdate" and message["u"] >= at:
            for side in ("b", "a"):
                rows += [(message["u"], side == "b", float(price), float(size), False) for price, size in message[side]]
    quotes = [
        (message["u"], *(float(message[name]) for name in ("b", "B", "a", "A")))
        for message in messages
        if "B" in message
    ]
    updates = pl.DataFrame(rows, schema=["update", "bid", "price", "size", "snapshot"], orient="row")
    return updates, pl.DataFrame(quotes, schema=["update", "b", "B", "a", "A"], orient="row")


@pytest.mark.parametrize(
    ("market", "days", "compared", "different"),
    [
        # Twice the exchange's own streams disagree: the update lacks a bid that the quotes show before and after it.
        ("spot_btcusdt", ("20240808", "20240809"), 6494, 2),
        ("usdm_btcusdt", ("20240808",), 6548, 0),
    ],
)
def test_the_best_of_a_rebuilt_book_is_what_the_exchange_published_beside_it(
    market: str, days: tuple[str, ...], compared: int, different: int
) -> None:
    folder = MARKET / "crypto/binance_l2_raw"
    if not folder.is_dir():
        pytest.skip(f"the recorded books are not at {folder}")
    updates, quotes = rows_of_capture(list(lines_of(*(folder / f"{market}_{day}.gz" for day in days))))
    ends = updates.select((pl.col("update") != pl.col("update").shift(-1)).fill_null(True)).to_series()
    arrays = {name: updates[name].to_numpy() for name in ("bid", "price", "size", "snapshot")}
    states = LevelBook(1).apply(**arrays, ends=ends.to_numpy())
    after_each_update = (
        updates.with_row_index("row")
        .filter(ends)
        .select(pl.col("row").cast(pl.Int64), "update")
        .join(states, on="row", how="left", maintain_order="left")
        .with_columns(pl.col(level_columns(1)).forward_fill())
        .join_asof(quotes, on="update")
        .drop_nulls()
    )
    same = after_each_update.select(
        pl.struct(level_columns(1)).struct.rename_fields(list("bBaA")) == pl.struct(*"bBaA")
    )
    assert (after_each_update.height, same.height - same.to_series().sum()) == (compared, different)
