"""The kinds of market data that the store keeps besides bars: their columns, and what cannot be a row of them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import polars as pl

from lab.nouns import BAR_COLUMNS, OPTIONAL_COLUMNS, PRICES, TIME, fault
from lab.registry import Registry

LEVELS = 50  # of a book, at most
KINDS: Registry["Kind"] = Registry("kind of data")


@dataclass(frozen=True)
class Kind:
    """What a stored table holds. Every row also has `symbol` and `time` (UTC, µs), by which it is sorted.

    A value in `columns` is never null unless it is in `may_lack`; `optional` columns are there or not, and may be
    null. `above_zero` and `not_negative` name the columns that must be; every number must be finite. Rows of one
    symbol that agree in `key` are one fact, of which the newer counts; without a key, whoever delivers rows speaks
    for the whole span they cover. `gridded` kinds have an interval, all others are events.
    """

    name: str
    meaning: str
    columns: Mapping[str, pl.DataType]
    optional: Mapping[str, pl.DataType] = field(default_factory=dict)
    key: tuple[str, ...] = ()
    above_zero: tuple[str, ...] = ()
    not_negative: tuple[str, ...] = ()
    may_lack: tuple[str, ...] = ()
    gridded: bool = False

    def __post_init__(self) -> None:
        KINDS.add(self.name, self)

    def schema(self, present: Collection[str]) -> dict[str, pl.DataType]:
        """Name and type of every column that a table has whose source offers the columns `present`."""
        extra = {name: dtype for name, dtype in self.optional.items() if name in present}
        return {"symbol": pl.String(), "time": TIME, **self.columns, **extra}

    def fault(self, columns: Collection[str]) -> pl.Expr:
        """Why a row of a typed frame with these columns cannot be one of this kind, as text; null where it can."""
        if self.name == "bars":
            return fault(tuple(columns))
        typed = self.schema(columns)
        wrong = [(pl.col("symbol").is_null() | pl.col("time").is_null(), "no symbol or no time")]
        for name, dtype in typed.items():
            value = pl.col(name)
            if name in self.columns and name not in self.may_lack:
                wrong.append((value.is_null(), f"{name} is missing or cannot be read"))
            if dtype.is_float():
                wrong.append((~value.is_finite(), f"{name} is not a finite number"))
            if name in self.above_zero:
                wrong.append((value <= 0, f"{name} is zero or below"))
            if name in self.not_negative:
                wrong.append((value < 0, f"{name} is negative"))
        if {*PRICES} <= typed.keys():
            o, h, low, c = (pl.col(name) for name in PRICES)
            outside = (h < pl.max_horizontal(o, c)) | (low > pl.min_horizontal(o, c))
            wrong.append((outside, "open or close lies outside low..high"))
        return pl.coalesce(pl.when(condition).then(pl.lit(reason)) for condition, reason in wrong)


def _floats(*names: str) -> dict[str, pl.DataType]:
    return {name: pl.Float64() for name in names}


def level_columns(levels: int) -> list[str]:
    """The columns of a book of so many levels, best first: `bid_1, bid_size_1, ask_1, ask_size_1, bid_2, …`."""
    return [f"{side}_{n}" for n in range(1, levels + 1) for side in ("bid", "bid_size", "ask", "ask_size")]


_KNOWN = {"known_at": TIME}  # when whoever recorded it had it; `time` is the market's own stamp
_PRICES = _floats("open", "high", "low", "close")
_LEVELS = _floats(*level_columns(LEVELS))

BARS = Kind(
    "bars",
    "open, high, low, close and volume of each interval; `time` is the close",
    {name: dtype for name, dtype in BAR_COLUMNS.items() if name not in ("symbol", "time")},
    _floats(*OPTIONAL_COLUMNS),
    key=("time",),
    gridded=True,
)
MARK = Kind("mark", "mark-price bars of a future", _PRICES, key=("time",), above_zero=tuple(_PRICES), gridded=True)
INDEX = Kind("index", "bars of a future's index", _PRICES, key=("time",), above_zero=tuple(_PRICES), gridded=True)
PREMIUM = Kind("premium", "bars of a future's premium over its index, a share", _PRICES, key=("time",), gridded=True)
TRADES = Kind(
    "trades",
    "every trade, or all of one taker order at one price as one; side is the taker's: 1 bought, -1 sold, 0 unknown",
    {"price": pl.Float64(), "size": pl.Float64(), "side": pl.Int8()},
    # `id` where trades are numbered, `uid` where they are named; `count` of the market's trades in this row.
    {"id": pl.Int64(), "uid": pl.String(), "count": pl.Int64(), **_KNOWN},
    above_zero=("price", "size", "count"),
)
QUOTES = Kind(
    "quotes",
    "best bid and ask after each change; null where a side is empty",
    _floats("bid", "bid_size", "ask", "ask_size"),
    {"id": pl.Int64(), **_KNOWN},
    above_zero=("bid", "ask"),
    not_negative=("bid_size", "ask_size"),
    may_lack=("bid", "bid_size", "ask", "ask_size"),
)
BOOKS = Kind(
    "books",
    f"the best levels of the order book, up to {LEVELS} a side, after each change; null where a level is empty",
    {},
    {**_LEVELS, "id": pl.Int64(), **_KNOWN},
    above_zero=tuple(name for name in _LEVELS if "size" not in name),
    not_negative=tuple(name for name in _LEVELS if "size" in name),
)
DEPTH = Kind(
    "depth",
    "quantity resting within so many percent of the mid, summed from the mid outwards; not an order book",
    _floats("percentage", "depth", "notional"),
    key=("time", "percentage"),
    not_negative=("depth", "notional"),
)
LIQUIDATIONS = Kind(
    "liquidations",
    "forced orders; side is the order's: 1 bought, -1 sold",
    {"price": pl.Float64(), "size": pl.Float64(), "side": pl.Int8()},
    {"uid": pl.String(), **_KNOWN},
    above_zero=("price", "size"),
)
FUNDING = Kind(
    "funding",
    "funding of a perpetual at `time`, a share of the position's value; known from `known_at` on",
    {**_KNOWN, "rate": pl.Float64()},
    _floats("interval_hours", "mark_price"),
    key=("time", "known_at"),
    above_zero=("interval_hours", "mark_price"),
)
METRICS = Kind(
    "metrics",
    "open interest and long/short ratios of a future at `time`; known from `known_at` on",
    _KNOWN,
    _floats(
        "open_interest",
        "open_interest_value",
        "top_accounts_ratio",
        "top_positions_ratio",
        "accounts_ratio",
        "taker_ratio",
    ),
    key=("time", "known_at"),
    not_negative=(
        "open_interest",
        "open_interest_value",
        "top_accounts_ratio",
        "top_positions_ratio",
        "accounts_ratio",
        "taker_ratio",
    ),
)
ACTIONS = Kind(
    "actions",
    "dividends (per share) and splits (new shares per old) of a stock, by ex-date; known from `known_at` on",
    {**_KNOWN, "dividend": pl.Float64(), "split": pl.Float64()},
    key=("time", "known_at"),
    not_negative=("dividend",),
    above_zero=("split",),
)
MOOD = Kind(
    "mood",
    "a sentiment index, e.g. Fear & Greed from 0 to 100; known from `known_at` on",
    {**_KNOWN, "value": pl.Float64()},
    {"label": pl.String()},
    key=("time", "known_at"),
)
NEWS = Kind(
    "news",
    "headlines and events; known from `known_at` on",
    {**_KNOWN, "uid": pl.String()},
    {
        "title": pl.String(),
        "url": pl.String(),
        "outlet": pl.String(),
        **_floats("tone", "positive", "negative", "polarity", "goldstein", "mentions"),
    },
    key=("time", "known_at", "uid"),
)
