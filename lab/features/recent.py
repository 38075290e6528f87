"""The latest bars of one symbol, kept as formulas read them while bars come in."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Self, cast

import numpy as np
import polars as pl

from lab.nouns import MICROSECOND, TIME, Vector

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Recent:
    """The last `kept` bars of one unbroken stretch, column by column; `age` is the number of the latest of them.

    Arrays are twice as long as what they keep, so that a bar is only written behind the others, and few of them make
    all of them move.
    """

    def __init__(self, symbol: str, names: Sequence[str], kept: int) -> None:
        self.symbol = symbol
        self.age = 0
        self._kept = kept
        self._stop = 0
        self._rows = {name: place for place, name in enumerate(names)}
        self._values = np.full((len(names), 2 * kept), np.nan)
        self._times = np.zeros(2 * kept, dtype=np.int64)

    @classmethod
    def of(cls, frame: pl.DataFrame, age: int = 1) -> Self:
        """All rows of a frame of bars, of which the first is number `age`."""
        names = [name for name in frame.columns if name not in ("symbol", "time")]
        recent = cls(frame["symbol"][0] if "symbol" in frame.columns else "", names, max(frame.height, 1))
        recent._stop = frame.height
        recent.age = age + frame.height - 1
        for place, name in enumerate(names):
            recent._values[place, : frame.height] = frame[name].cast(pl.Float64).to_numpy()
        if "time" in frame.columns:
            recent._times[: frame.height] = frame["time"].to_physical().to_numpy()
        return recent

    @property
    def height(self) -> int:
        return min(self._stop, self._kept)

    def append(self, time: datetime, values: Mapping[str, float]) -> None:
        """Add a bar; names that nobody reads are dropped."""
        if self._stop == 2 * self._kept:
            left = self._kept - 1
            self._values[:, :left] = self._values[:, self._stop - left :]
            self._times[:left] = self._times[self._stop - left :]
            self._stop = left
        self._values[:, self._stop] = [values.get(name, np.nan) for name in self._rows]
        self._times[self._stop] = (time - EPOCH) // MICROSECOND
        self._stop += 1
        self.age += 1

    def amend(self, name: str, value: float) -> None:
        """Set one number of the latest bar."""
        self._values[self._rows[name], self._stop - 1] = value

    def clear(self) -> None:
        """Begin a new stretch."""
        self._stop = self.age = 0

    def column(self, name: str, bars: int) -> Vector:
        """The last `bars` numbers, NaN for null, or closes in microseconds since 1970; nobody may write into them."""
        rows = slice(self._stop - bars, self._stop)
        return cast(Vector, self._times[rows]) if name == "time" else self._values[self._rows[name], rows]

    def frame(self, names: Sequence[str], bars: int) -> pl.DataFrame:
        """The last `bars` rows of columns as a formula finds them that is a Polars expression."""
        columns = {name: pl.Series(self.column(name, bars), nan_to_null=True) for name in names if name != "symbol"}
        frame = pl.DataFrame(columns, height=bars).with_columns(symbol=pl.lit(self.symbol))
        return frame.with_columns(pl.col("time").cast(TIME)) if "time" in columns else frame
