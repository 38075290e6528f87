"""The proof that a feature sees no further back than it says, and nothing ahead: every row, on rough markets."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, Self

import numpy as np
import polars as pl

from lab.errors import LabError, LookAhead, UsageError
from lab.features.computing import applied, arrays_of, compute, expressions, over_stretch
from lab.features.markets import AFTER, ROUGH_MARKETS, rough_market, rough_panel
from lab.features.sharing import Made, Shared, arrays_in, sharing
from lab.nouns import AGE, TIME, Bars, Feature, Vector

MINUTE = 60_000_000  # microseconds
TOLERANCE = 1e-9
COARSE = 1e-6
MORE_BARS = 1_234_567
POISONED_ROWS = 6
POISONS = ("NaN", "1e308", "shuffled", "another symbol")
MEASURED_ON = ("plain", "jumpy", "hourly")
MEASURED_ROWS = 40


@dataclass(frozen=True)
class Proof:
    """What the laws found of a feature: rows that they were tried on, and how many bars its values really rest on."""

    rows: int
    memory: int


def certify(feature: Feature) -> Proof:
    """Put a feature before the laws, on every rough market; whatever it breaks is a LookAhead.

    Every row is computed again from its last `lookback` bars alone, and from those with a poisoned future behind
    them, beginning with the very next bar: NaN, 1e308, the same bars shuffled, another symbol's. A value that reads
    a later bar, or an older one than declared, comes out different; the error names the feature, the row, and the
    first bar that the value had read. Then the look-back is cut until values change: the memory it really has.
    """
    try:
        seen = [subject for kind in ROUGH_MARKETS for subject in subjects(feature, kind)]
        tried = sum(_prove(subject, feature) for subject in seen)
        memory = _measured_memory(feature)
    except LabError:
        raise
    except Exception as error:  # whatever a person's own formula raises is theirs to mend
        raise UsageError(
            f"feature {feature.name} cannot be computed: {type(error).__name__}: {error}", fix="mend its formula"
        ) from error
    if all(np.isnan(subject.whole).all() for subject in seen):
        raise UsageError(f"feature {feature.name} has no value on any market", fix="mend its formula")
    return Proof(tried, memory)


class Subject(Protocol):
    """One symbol's rows of a rough market, as the feature under proof sees them."""

    @property
    def kind(self) -> str:
        """What market it is."""

    @property
    def height(self) -> int:
        """How many rows there are."""

    @property
    def whole(self) -> Vector:
        """The feature's values over all rows."""

    def value(self, row: int, bars: int, poison: str = "", poisoned: int = POISONED_ROWS) -> float:
        """The feature's value at `row` from its last `bars` bars, with so many poisoned ones behind them, or none."""

    def value_at_another_age(self, row: int, bars: int, more: int = MORE_BARS) -> float:
        """The same value, if more bars had come before."""

    def until(self, end: int) -> Self:
        """The rows before `end`."""

    def is_untouched(self) -> bool:
        """Whether the columns that formulas were given still hold what they held."""


@dataclass(frozen=True)
class Stretch:
    """An unbroken stretch of one symbol."""

    kind: str
    feature: Feature
    frame: pl.DataFrame

    @property
    def height(self) -> int:
        return self.frame.height

    @cached_property
    def arrays(self) -> Mapping[str, Vector]:
        return arrays_of(self.frame, [self.feature])

    @cached_property
    def whole(self) -> Vector:
        return over_stretch(self.frame, [self.feature])[self.feature.name].fill_null(math.nan).to_numpy()

    @cached_property
    def poisons(self) -> Mapping[str, pl.DataFrame]:
        return poisons_of(self.frame)

    @cached_property
    def poisoned_arrays(self) -> Mapping[str, Mapping[str, Vector]]:
        return {how: arrays_of(rows, [self.feature]) for how, rows in self.poisons.items()}

    def value(self, row: int, bars: int, poison: str = "", poisoned: int = POISONED_ROWS) -> float:
        return self._value(row, bars, row + 2 - bars, poison, poisoned)

    def value_at_another_age(self, row: int, bars: int, more: int = MORE_BARS) -> float:
        return self._value(row, bars, row + 2 - bars + more)

    def _value(self, row: int, bars: int, age: int, poison: str = "", poisoned: int = POISONED_ROWS) -> float:
        first = row + 1 - bars
        if self.feature.arguments:
            known = {name: array[first : row + 1] for name, array in self.arrays.items()}
            if poison:
                future = self.poisoned_arrays[poison]
                known = {name: _followed(name, array, future[name][:poisoned]) for name, array in known.items()}
            values = applied(self.feature, {**known, AGE: np.array([age])})
        else:
            rows = self.frame.slice(first, bars)
            if poison:
                rows = followed(rows, self.poisons[poison].head(poisoned))
            values = expressions(rows, [self.feature], age)[self.feature.name]
        found = float(values[bars - 1])
        return found if math.isfinite(found) else math.nan

    def until(self, end: int) -> "Stretch":
        return Stretch(self.kind, self.feature, self.frame.head(end))

    def is_untouched(self) -> bool:
        fresh = {**arrays_of(self.frame, [self.feature]), AGE: np.array([1])}
        watched = Watched(fresh.values())
        if self.feature.arguments:
            with sharing(watched):
                applied(self.feature, fresh)
        return watched.is_untouched()


class Watched(Shared):
    """What is shared, with a copy of how it was before anybody could write into it."""

    def __init__(self, columns: Iterable[Vector]) -> None:
        columns = list(columns)
        super().__init__(columns)
        self._before = [(column, column.copy()) for column in columns]

    def keep(self, made: Made) -> Made:
        self._before += [(each, each.copy()) for each in arrays_in(made)]
        return super().keep(made)

    def is_untouched(self) -> bool:
        return all(np.array_equal(now, before, equal_nan=True) for now, before in self._before)


@dataclass(frozen=True)
class Panel:
    """One symbol among several; what is cut off or poisoned of it is cut off or poisoned of all of them."""

    symbol: str
    feature: Feature
    bars: Bars
    kind: str = "panel"

    @cached_property
    def times(self) -> pl.Series:
        return self.bars.of_symbol(self.symbol).frame["time"]

    @property
    def height(self) -> int:
        return self.times.len()

    @cached_property
    def whole(self) -> Vector:
        return self._values(self.bars)

    @cached_property
    def poisons(self) -> Mapping[str, pl.DataFrame]:
        return poisons_of(self.bars.frame.filter(pl.col("symbol") == self.symbol))

    def value(self, row: int, bars: int, poison: str = "", poisoned: int = POISONED_ROWS) -> float:
        seen = pl.col("time").is_between(self.times[row + 1 - bars], self.times[row])
        frames = [rows for _, rows in self.bars.frame.filter(seen).group_by("symbol", maintain_order=True)]
        if poison:
            future = self.poisons[poison].head(poisoned)
            frames = [followed(rows, future.with_columns(symbol=pl.lit(rows["symbol"][0]))) for rows in frames]
        return float(self._values(replace(self.bars, frame=pl.concat(frames)))[bars - 1])

    def value_at_another_age(self, row: int, bars: int, more: int = MORE_BARS) -> float:
        return self.value(row, bars)  # bars that are cut off begin to count anew as it is

    def until(self, end: int) -> "Panel":
        seen = pl.col("time") <= self.times[end - 1]
        return replace(self, bars=replace(self.bars, frame=self.bars.frame.filter(seen)))

    def is_untouched(self) -> bool:
        return True  # formulas are given columns that are made anew for each

    def _values(self, bars: Bars) -> Vector:
        values = compute(bars, [self.feature]).filter(pl.col("symbol") == self.symbol)[self.feature.name]
        return values.fill_null(math.nan).to_numpy()


def poisons_of(frame: pl.DataFrame) -> Mapping[str, pl.DataFrame]:
    """Rows to put where the future was; their times are set where they are put."""
    rng = np.random.default_rng(20_240_302)
    numbers = pl.col(pl.Float64)
    drawn = frame[rng.integers(0, frame.height, POISONED_ROWS).tolist()]
    return {
        "NaN": drawn.with_columns(numbers * math.nan),
        "1e308": drawn.with_columns(numbers * 0 + 1e308),
        "shuffled": drawn,
        "another symbol": drawn.with_columns(numbers * 7.3, pl.lit("OTHER").alias("symbol")),
    }


def followed(known: pl.DataFrame, future: pl.DataFrame) -> pl.DataFrame:
    """These rows with those behind them, a minute apart."""
    later = known["time"].cast(pl.Int64)[-1] + MINUTE * np.arange(1, future.height + 1)
    future = future.clone().replace_column(known.columns.index("time"), pl.Series("time", later).cast(TIME))
    return pl.concat([known, future])


def _followed(name: str, known: Vector, future: Vector) -> Vector:
    return np.concatenate([known, known[-1] + MINUTE * np.arange(1, future.size + 1) if name == "time" else future])


def subjects(feature: Feature, kind: str) -> Iterator[Subject]:
    """Everything of a rough market that a feature stands before; of one across symbols, a symbol of the panel."""
    rows = feature.lookback + AFTER
    if feature.across:
        panel = rough_panel(rows)
        needed = replace(panel, frame=panel.frame.select("symbol", "time", *feature.needs))
        if kind == "plain":
            yield Panel("JUMPY", feature, needed)
        return
    if feature.interval and kind == "hourly":
        return
    bars = rough_market(kind, rows, feature.interval or "1m")
    others = [name for name in feature.needs if name not in ("symbol", "time")]
    for start, length in bars.stretches():
        yield Stretch(kind, feature, bars.frame.slice(start, length).select("symbol", "time", *others))


def _prove(subject: Subject, feature: Feature) -> int:
    rows = range(feature.lookback - 1, subject.height)  # before that, all is null
    if rows:
        subject.value(rows[-1], feature.lookback)
    if not subject.is_untouched():
        raise LookAhead(
            f"feature {feature.name} writes into the columns that it is given, so others see what it wrote",
            fix=f"let {feature.name} write into arrays of its own only: copy first what lab.features.windows gave it",
        )
    moved = 0
    for row in rows:
        alone = subject.value(row, feature.lookback)
        moved += differs(alone, subject.value_at_another_age(row, feature.lookback), COARSE)
        if differs(alone, subject.whole[row]):
            raise _refusal(subject, feature, row)
        for poison in POISONS:
            if differs(alone, subject.value(row, feature.lookback, poison)):
                raise _poisoned(subject, feature, row, poison)
    if moved > len(rows) / 2 and not _repeats(subject, feature, rows[-3:]):
        raise LookAhead(
            f"feature {feature.name} counts bars that lie further back than its look-back of {feature.lookback}: on "
            f"the {subject.kind} market {moved} of {len(rows)} values change with how many came before",
            fix="use `age` to cut sums at round numbers only, never as a value",
        )
    return len(rows)


def _repeats(subject: Subject, feature: Feature, rows: Sequence[int]) -> bool:
    """Whether some number of bars more changes nothing: as where a recursion is begun anew at round ages."""
    known = [(row, subject.value(row, feature.lookback)) for row in rows]
    return any(
        not any(differs(value, subject.value_at_another_age(row, feature.lookback, more)) for row, value in known)
        for more in range(1, feature.lookback + 1)
    )


def _measured_memory(feature: Feature) -> int:
    """The fewest last bars that give the same values as all of them."""
    rows = range(feature.lookback - 1, feature.lookback + AFTER, AFTER // MEASURED_ROWS)
    seen = [subject for kind in MEASURED_ON for subject in subjects(feature, kind)]
    known = [(subject, row) for subject in seen for row in rows if not math.isnan(subject.whole[row])]
    enough, too_few = feature.lookback, 0
    while enough - too_few > 1:
        bars = enough - 1 if enough == feature.lookback else (enough + too_few) // 2
        same = not any(differs(subject.value(row, bars), subject.whole[row]) for subject, row in known)
        enough, too_few = (bars, too_few) if same else (enough, bars)
    return enough


def differs(a: float, b: float, tolerance: float = TOLERANCE) -> bool:
    """Whether two values are not the same number (to rounding) or the same NaN."""
    if math.isnan(a) or math.isnan(b):
        return math.isnan(a) != math.isnan(b)
    return abs(a - b) > tolerance * max(abs(a), abs(b)) + 1e-12


def _refusal(subject: Subject, feature: Feature, row: int) -> LookAhead:
    """Which bar the value at `row` had read that it should not: a later one, or one too old."""
    honest = subject.value(row, row + 1)
    for end in range(row + 2, subject.height + 1):
        if differs(honest, subject.until(end).whole[row]):
            return _future(feature, subject.kind, row, end - 1)
    return LookAhead(
        f"feature {feature.name} declares a look-back of {feature.lookback} bars, but on the {subject.kind} market "
        f"its value at bar {row} needs bars before {row + 1 - feature.lookback}",
        fix=f"declare the look-back that {feature.name} has, or bound what it remembers",
    )


def _poisoned(subject: Subject, feature: Feature, row: int, poison: str) -> LookAhead:
    """A value that copes with no future, but not with a strange one: the first bar of it that was read."""
    alone = subject.value(row, row + 1)
    read = [n for n in range(1, POISONED_ROWS) if differs(alone, subject.value(row, row + 1, poison, n))]
    return _future(feature, subject.kind, row, row + min(read, default=POISONED_ROWS))


def _future(feature: Feature, kind: str, row: int, read: int) -> LookAhead:
    return LookAhead(
        f"feature {feature.name} reads the future: on the {kind} market its value at bar {row} changes with bar {read}",
        fix=f"build {feature.name} from this bar and earlier ones only (shift by 0 or more)",
    )
