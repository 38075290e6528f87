"""The few core types. Values are frozen: a new fact is a new value."""

import hashlib
import inspect
import math
import operator
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property, reduce
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol, Self, cast

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import ConfigDict, Field

from lab.errors import BadBars, UsageError
from lab.registry import Parameter, unknown

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Calendar = Literal["continuous", "weekdays"]

# How settings are checked: a key that nothing reads is refused, and so is a number that cannot be meant.
SETTINGS = ConfigDict(extra="forbid", allow_inf_nan=False)
Count = Annotated[int, Field(gt=0, lt=1_000_000)]
Share = Annotated[float, Field(gt=0, le=1)]
BasisPoints = Annotated[float, Field(ge=0, lt=1_000)]

TIME = pl.Datetime("us", "UTC")
PRICES = ("open", "high", "low", "close")
BAR_COLUMNS: Mapping[str, pl.DataType] = {
    "symbol": pl.String(),
    "time": TIME,
    **{name: pl.Float64() for name in (*PRICES, "volume")},
}
BOOK_LEVELS = 10  # for which bars hold order-flow imbalance
OFI_COLUMNS = tuple(f"ofi_{level}" for level in range(1, BOOK_LEVELS + 1))
# Columns that bars may or may not have, and who has them.
OPTIONAL_COLUMNS: Mapping[str, str] = {
    **dict.fromkeys(("buy_volume", "quote_volume", "trades"), "klines of Binance, or lab bars from trades"),
    "vwap": "lab bars from trades",
    **dict.fromkeys(("bid", "ask", "bid_size", "ask_size", "spread", "micro_price"), "lab bars --book, from quotes"),
    **dict.fromkeys(OFI_COLUMNS, "lab bars --book, from books"),
    "depth_slope": "lab bars --book, from books",
    "funding_rate": '[data] join = ["funding"]',
    **dict.fromkeys(("open_interest", "accounts_ratio", "taker_ratio"), '[data] join = ["metrics"]'),
    "premium": '[data] join = ["premium"]',
    "mood": '[data] join = ["mood"]',
    **dict.fromkeys(("headlines", "sentiment"), '[data] join = ["news"]'),
}
SIGNED = {  # may be < 0
    *OFI_COLUMNS,
    *("spread", "funding_rate", "premium", "sentiment"),
}

NUMBERS = (*PRICES, "volume", *OPTIONAL_COLUMNS)
LARGEST = sys.float_info.max

EVENTS = "events"  # the interval of tables whose rows come as they happen
INTERVALS: Mapping[str, timedelta] = {
    "1s": timedelta(seconds=1),
    **{f"{n}m": timedelta(minutes=n) for n in (1, 3, 5, 15, 30)},
    **{f"{n}h": timedelta(hours=n) for n in (1, 2, 4, 6, 8, 12)},
    "1d": timedelta(days=1),
}
# Bars that close once so much was traded: so many trades, units, units of money, or so much more of one side.
TRADED_RULES = ("tick", "volume", "dollar", "imbalance", "run")
TRADED_INTERVAL = re.compile(rf"({'|'.join(TRADED_RULES)})-([1-9]\d{{0,11}}(\.\d{{1,8}})?|0\.\d{{1,8}})")
DAYS_PER_YEAR: Mapping[Calendar, float] = {"continuous": 365.25, "weekdays": 252.0}
LONG_WEEKEND = timedelta(days=3)
LONGEST_CLOSURE = timedelta(days=6)  # a market that opens on weekdays was closed so long after 11 September 2001
MICROSECOND = timedelta(microseconds=1)
COMPARED = ("own", "market")  # what a formula that looks across symbols may take
AGE = "age"  # number of a row in its unbroken stretch, from 1; formulas may use it to cut sums, not as a value
Ages = npt.NDArray[np.int64]  # that of the first row, of each of the stretches of one length that lie end to end


def interval_length(interval: str) -> timedelta:
    """Length of one bar of `interval`, e.g. `1m`; an unknown interval is an UnknownName."""
    if interval not in INTERVALS:
        raise unknown("interval", interval, list(INTERVALS))
    return INTERVALS[interval]


def is_clocked(interval: str) -> bool:
    """Whether its bars close by the clock; `tick-100`, `dollar-1e6` and the like close by what was traded."""
    if interval not in INTERVALS and not TRADED_INTERVAL.fullmatch(interval):
        raise unknown("interval", interval, [*INTERVALS, *(f"{rule}-1000" for rule in TRADED_RULES)])
    return interval in INTERVALS


def opened(time: pl.Expr, interval: str) -> pl.Expr:
    """When a bar that closed at `time` opened; of one that no clock closes, a moment before its close."""
    return time - (INTERVALS[interval] if is_clocked(interval) else MICROSECOND)


@dataclass(frozen=True)
class Span:
    """The half-open stretch of time [start, end)."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.start >= self.end:
            raise UsageError(
                f"the span from {self.start:%Y-%m-%d %H:%M} to {self.end:%Y-%m-%d %H:%M} is empty",
                fix="give an end after the start",
            )

    def covers(self, time: pl.Expr) -> pl.Expr:
        """Whether each `time` lies inside."""
        return (time >= self.start) & (time < self.end)


@dataclass(frozen=True)
class Bars:
    """Closed bars of one or more symbols: one row per symbol and time, sorted, unique.

    `frame` holds `symbol`, `time` (UTC, µs, the close of the bar: the first moment its numbers were known),
    open, high, low, close (finite, above 0), volume (null where the market publishes none) and any of
    OPTIONAL_COLUMNS. `calendar` says when bars are due: round the clock, or on weekdays. A gap that lacks no more
    than `bridge` is treated as if no bar were missing; none is, unless somebody decides so.
    """

    frame: pl.DataFrame
    interval: str
    calendar: Calendar = "continuous"
    bridge: timedelta = timedelta(0)
    kind: ClassVar[str] = "bars"

    @classmethod
    def of(cls, frame: pl.DataFrame, interval: str, calendar: Calendar = "continuous") -> Self:
        """Sort, type and check `frame`; rows that cannot be bars raise BadBars with a count and the first of them."""
        missing = [name for name in BAR_COLUMNS if name not in frame.columns]
        if missing:
            raise BadBars(f"bars lack {', '.join(missing)}", fix=f"name the columns, e.g. --map {missing[0]}=COLUMN")
        wanted = {**BAR_COLUMNS, **{name: pl.Float64() for name in OPTIONAL_COLUMNS if name in frame.columns}}
        typed = frame.select(pl.col(name).cast(dtype) for name, dtype in wanted.items()).sort("symbol", "time")
        reasons = typed.select(fault(tuple(typed.columns)).alias("fault"))["fault"]
        if reasons.null_count() < typed.height:
            wrong = typed.with_columns(reasons).filter(pl.col("fault").is_not_null())
            first = wrong.row(0, named=True)
            raise BadBars(
                f"{wrong.height} of {typed.height} rows cannot be bars; "
                f"the first, {first['symbol']} at {first['time']}: {first['fault']}",
                fix="correct the rows or leave them out",
            )
        is_clocked(interval)
        return cls(typed, interval, calendar)

    @property
    def symbols(self) -> list[str]:
        return self.frame["symbol"].unique(maintain_order=True).to_list()

    @property
    def closes(self) -> tuple[datetime, datetime]:
        """The first and the last close of any symbol."""
        times = self.frame["time"]
        return cast(datetime, times.min()), cast(datetime, times.max())

    @property
    def largest_step(self) -> timedelta:
        """The longest way from one close to the next that is no gap.

        One bar; where markets open on weekdays, a long weekend more, and for daily bars an exchange's closure.
        Bars that no clock closes have no gaps.
        """
        if not is_clocked(self.interval):
            return timedelta.max
        length = INTERVALS[self.interval]
        if self.calendar == "continuous":
            return length
        return length + (LONGEST_CLOSURE if length >= timedelta(days=1) else LONG_WEEKEND)

    @property
    def unbroken_step(self) -> timedelta:
        """The longest step that windows may cross: one that is no gap, or a gap that is bridged."""
        return self.largest_step + self.bridge if is_clocked(self.interval) else self.largest_step

    @property
    def bars_per_year(self) -> float:
        """How many bars a symbol has in a year; of bars that no clock closes, as many as these had on average."""
        days = DAYS_PER_YEAR[self.calendar]
        if is_clocked(self.interval):
            return days * (timedelta(days=1) / INTERVALS[self.interval])
        first, last = self.closes
        return 365.25 * self.frame.height / len(self.symbols) * (timedelta(days=1) / max(last - first, MICROSECOND))

    @cached_property
    def segment(self) -> pl.Series:
        """Number of the unbroken stretch that each row belongs to; a new symbol or an unbridged gap begins one."""
        starts = pl.col("symbol") != pl.col("symbol").shift(1)
        if is_clocked(self.interval):
            starts |= pl.col("time").diff() > self.unbroken_step
        return self.frame.select(starts.fill_null(False).cum_sum().alias("segment")).to_series()

    @cached_property
    def age(self) -> pl.Series:
        """How many bars its unbroken stretch has had up to and including each row, from 1."""
        counted = self.segment.to_frame().select((pl.int_range(pl.len()) + 1).over("segment").alias(AGE))
        return counted.to_series()

    def stretches(self) -> list[tuple[int, int]]:
        """(first row, number of rows) of every unbroken stretch, in row order."""
        lengths: list[int] = self.segment.rle().struct.field("len").to_list()
        starts = accumulate(lengths[:-1], initial=0) if lengths else ()
        return list(zip(starts, lengths, strict=True))

    def gaps(self) -> pl.DataFrame:
        """Every place where bars are due and absent, bridged or not: symbol, the closes around it, bars missing."""
        if not is_clocked(self.interval):
            return pl.DataFrame(schema={"symbol": pl.String, "after": TIME, "before": TIME, "missing": pl.Int64})
        step = INTERVALS[self.interval] // MICROSECOND
        previous = pl.col("time").shift(1).over("symbol")
        return (
            self.frame.select("symbol", after=previous, before=pl.col("time"))
            .filter(pl.col("before") - pl.col("after") > self.largest_step)
            .with_columns(missing=(pl.col("before") - pl.col("after")).dt.total_microseconds() // step - 1)
        )

    def within(self, span: Span) -> Self:
        """The bars that closed inside `span`."""
        return replace(self, frame=self.frame.filter(span.covers(pl.col("time"))))

    def of_symbol(self, symbol: str) -> Self:
        return replace(self, frame=self.frame.filter(pl.col("symbol") == symbol))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what the bars say (interval, calendar, names, every value), whatever files they came from."""
        return digest_of(self.frame, f"{self.interval} {self.calendar}")


def bar_of(row: Mapping[str, Any]) -> tuple[str, datetime, dict[str, float]]:
    """Symbol, close and numbers of one bar on its own, as `Bars.of` reads many; NaN for what it does not have.

    What cannot be a bar is a BadBars. A time without a zone is UTC.
    """
    if missing := [name for name in BAR_COLUMNS if name not in row]:
        raise BadBars(f"bars lack {', '.join(missing)}", fix="give every bar a symbol, a time, prices and a volume")
    symbol, time = row["symbol"], row["time"]
    if not isinstance(symbol, str) or not isinstance(time, datetime):
        raise BadBars(f"a bar of {symbol!r} at {time!r} has no symbol or no time", fix="correct it or leave it out")
    try:
        given = {name: float(row[name]) for name in NUMBERS if row.get(name) is not None}
    except (TypeError, ValueError, OverflowError) as error:
        raise BadBars(f"{symbol} at {time}: {error}", fix="correct the bar or leave it out") from error
    # A price that is missing breaks a rule, another number that is missing breaks none.
    known = dict.fromkeys(PRICES, math.nan) | {"volume": LARGEST} | given
    for is_broken, reason in faults(known):
        if is_broken:
            raise BadBars(f"{symbol} at {time} is no bar: {reason}", fix="correct it or leave it out")
    zoned = time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    return symbol, zoned, {name: given.get(name, math.nan) for name in NUMBERS}


@dataclass(frozen=True)
class Table:
    """Rows of one kind of market data other than bars, as lab/kinds.py describes it, sorted by symbol and time."""

    kind: str
    frame: pl.DataFrame
    interval: str = EVENTS
    calendar: ClassVar[Calendar] = "continuous"

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what the rows say, whatever files they came from."""
        return digest_of(self.frame, f"{self.kind} {self.interval}")


def digest_of(frame: pl.DataFrame, title: str) -> str:
    """SHA-256 of a title and of every name and value of a table."""
    sha = hashlib.sha256(title.encode())
    for name in frame.columns:
        column = frame[name]
        sha.update(name.encode())
        sha.update(column.is_null().to_numpy().tobytes())
        if column.dtype == pl.String:
            sha.update("\n".join(column.fill_null("").to_list()).encode())
        else:
            sha.update(column.to_physical().fill_null(0).to_numpy().tobytes())
    return sha.hexdigest()


@cache
def fault(columns: tuple[str, ...]) -> pl.Expr:
    """Why a row of a typed, sorted frame with these columns cannot be a bar, as text; null where it can."""
    known = {name: pl.col(name) for name in columns} | {name: pl.col(name).fill_null(math.nan) for name in PRICES}
    again = (pl.col("symbol") == pl.col("symbol").shift(1)) & (pl.col("time") == pl.col("time").shift(1))
    found: Any = pl.when(pl.col("symbol").is_null() | pl.col("time").is_null()).then(pl.lit("no symbol or no time"))
    for condition, reason in faults(known):
        found = found.when(condition).then(pl.lit(reason))
    return cast(pl.Expr, found.when(again).then(pl.lit("a second row for the same symbol and time")))


def faults(bar: Mapping[str, Any]) -> list[tuple[Any, str]]:
    """What keeps numbers from being a bar, and how to say it: of the floats of one bar, or of columns of many."""
    o, h, low, c = prices = [bar[name] for name in PRICES]
    volume = bar["volume"]
    extras = [bar[name] for name in OPTIONAL_COLUMNS if name in bar]
    least = [bar[name] for name in OPTIONAL_COLUMNS if name in bar and name not in SIGNED]
    found = [
        (_any(map(_is_no_number, prices)), "a price is missing or not a number"),
        (_any(price <= 0 for price in prices), "a price is zero or below"),
        (_any([h < o, h < c, low > o, low > c]), "open or close lies outside low..high"),
        (_is_no_number(volume) | (volume < 0), "the volume is negative or not a number"),
    ]
    if extras:
        wrong = _any([*map(_is_no_number, extras), *(extra < 0 for extra in least)])
        found.append((wrong, "an optional column is negative or not a number"))
    if "buy_volume" in bar:
        found.append((bar["buy_volume"] > volume * (1 + 1e-9), "takers bought more than was traded"))
    return found


def _is_no_number(value: Any) -> Any:
    return (abs(value) <= LARGEST) ^ True


def _any(conditions: Iterable[Any]) -> Any:
    return reduce(operator.or_, conditions)


# How a column follows from bars: a Polars expression, or a function of whole columns. A function's parameters name the
# columns that it reads, as arrays with NaN for null (`time` in microseconds); `age`, if it has one, holds the number of
# the first row in its unbroken stretch.
Formula = pl.Expr | Callable[..., Vector]


@dataclass(frozen=True)
class Feature:
    """One column computed from bars: its formula and how many bars back that formula may see.

    `formula` runs over one unbroken stretch of one symbol and must depend on nothing but a row and the
    `lookback` - 1 rows before it. Values are null until `lookback` bars exist, and where the formula has none.
    `across` says what is known of all symbols at the same close; `interval` is that of the bars which the look-back
    counts, where it depends on it. If `end_to_end`, a formula that is a function may be given several stretches of
    one length laid end to end, and `age` for each: from the `lookback`-th on, rows of each are what they are alone.
    """

    name: str
    family: str
    meaning: str
    formula: Formula
    lookback: int
    across: "Across | None" = None
    interval: str = ""
    end_to_end: bool = False

    @cached_property
    def needs(self) -> list[str]:
        """The bar columns the formula reads."""
        if isinstance(self.formula, pl.Expr):
            return sorted({*self.formula.meta.root_names()} - {AGE})
        if self.across is None:
            return sorted({*self.arguments} - {AGE})
        return sorted({*self.arguments, *self.across.inner.needs} - {AGE, *COMPARED})

    @cached_property
    def arguments(self) -> list[str]:
        """What a formula that is a function is called with, in its order."""
        return [] if isinstance(self.formula, pl.Expr) else list(inspect.signature(self.formula).parameters)

    def column_of(self, what: str) -> str:
        """The name of the column that holds `own` or `market` for this feature."""
        return f"{self.name} {what}"


@dataclass(frozen=True)
class Across:
    """A look at all symbols at once: a value of each, and what the others' at the same close make of it.

    `inner` is computed for each symbol; `compared` takes those values, close by close, with the first row of each close
    and the number of rows, and returns one value a row. The feature's formula gets them as `own` and `market`.
    """

    inner: Feature
    compared: Callable[[Vector, npt.NDArray[np.int64]], Vector]


Numbers = Mapping[str, float]


@dataclass(frozen=True)
class FittedFeature:
    """A feature with numbers that come from training bars, e.g. GARCH coefficients or the means of regimes.

    `fit` reads the training bars of one symbol; `freeze` turns its numbers into an ordinary Feature.
    """

    name: str
    family: str
    meaning: str
    needs: list[str]
    fit: Callable[[Bars], Numbers]
    freeze: Callable[[Numbers], Feature]


@dataclass(frozen=True)
class Label:
    """The answer a model learns, and when it is settled.

    `answer` runs over one unbroken stretch of one symbol and yields a struct of `answer` (float) and `bars`
    (how many bars after the row it was settled, at most `horizon`); both null while unsettled, never zero.
    It sees at most `lookback` - 1 bars back and `horizon` bars ahead. `kind` says what the answer is:
    a return, or one of the classes -1, 0, 1.
    """

    name: str
    meaning: str
    kind: Literal["return", "class"]
    answer: pl.Expr
    horizon: int
    lookback: int


@dataclass(frozen=True)
class Fold:
    """One step of a walk-forward: learn on `train`, be judged on `test`; both hold closes of bars."""

    number: int
    train: Span
    test: Span


class FittedModel(Protocol):
    """What learning leaves behind; the same rows give the same scores, alone or together."""

    def predict(self, x: Matrix) -> Vector:
        """One score a row: the expected return, or P(up) - P(down). NaN in `x` stands for null."""

    def importance(self) -> Vector:
        """How much each column weighed, in shares that add up to 1 (all 0 where nothing was learned)."""

    def save(self, path: Path) -> None:
        """Write a file that runs no code when it is read."""


class Model(Protocol):
    """Settings of a kind of model, as a frozen dataclass; `fit` returns a new value."""

    def fit(self, x: Matrix, y: Vector, *, kind: str, seed: int, threads: int) -> FittedModel:
        """Learn answers `y` of the given label kind from the rows of `x`."""

    @staticmethod
    def load(path: Path) -> FittedModel:
        """Read what `save` wrote."""


@dataclass(frozen=True)
class Decision:
    """What to hold of a symbol from the next bar on: `target` is a share of its capital in [-1, 1]."""

    symbol: str
    time: datetime
    score: float | None
    target: float


@dataclass(frozen=True)
class Piece:
    """A finished part of a fetch: rows of one symbol and period, and what they were made from.

    `origin` names the object (a URL, a file, a generator), `digest` its content. `table` is null where the source
    has nothing. `rejected` holds the rows that could not be used, with the reason in `fault`; `repeats` counts exact
    copies that were dropped. `span` is the stretch of time that the rows speak for where they have no key
    (lab/kinds.py), from their first to their last where it is left out. `reading` says how a person had a file read.
    """

    symbol: str
    origin: str
    digest: str
    table: Bars | Table | None
    rejected: pl.DataFrame = field(default_factory=pl.DataFrame)
    repeats: int = 0
    span: Span | None = None
    reading: str = ""


@dataclass(frozen=True)
class Run:
    """One experiment carried out on one set of bars: everything it decided, earned and was made of.

    `folder` is named by `id`. Frames are read on first use.
    """

    id: str
    kind: Literal["walk-forward", "final"]
    folder: Path
    manifest: Mapping[str, Any]

    def table(self, name: str) -> pl.DataFrame:
        """One of a walk-forward's tables: decisions, fills, equity, importance or costs; a final model has none."""
        if self.kind == "final":
            raise UsageError(
                f"run {self.id} was fitted on all of its data, so nothing is left to judge it by",
                fix="lab train EXPERIMENT --walk-forward",
            )
        return pl.read_parquet(self.folder / f"{name}.parquet")


def settings_text(parameters: Mapping[str, Parameter]) -> str:
    """Parameters as they stand in a column name, different wherever they differ: `14`, `20_2`."""
    return "_".join(map(_short, parameters.values()))


def _short(value: Parameter) -> str:
    short = f"{value:g}" if isinstance(value, int | float) else str(value)
    return short if isinstance(value, str) or float(short) == value else repr(value)
