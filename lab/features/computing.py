"""Bars → columns: one stretch after the other, some rows at a time, on every core."""

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa  # type: ignore[import-untyped]

from lab.compiled import compiled, row
from lab.errors import MissingColumns, UsageError
from lab.features.sharing import Shared, sharing
from lab.nouns import AGE, COMPARED, OPTIONAL_COLUMNS, Bars, Feature, FittedFeature, Numbers, Vector

KEYS = ("symbol", "time")
PART_ROWS = 131_072
LARGE = 32_768  # rows of a part; with fewer, threads wait for Python's lock longer than they compute
Bits = npt.NDArray[np.uint8]
Fits = Mapping[str, Mapping[str, Numbers]]  # fitted feature → symbol → its numbers


@dataclass(frozen=True)
class Part:
    """Rows [start, stop) of the stretch that begins at row `begin`; of some that nobody asked for, only nulls."""

    begin: int
    start: int
    stop: int
    asked: bool = True


def compute(bars: Bars, features: Sequence[Feature], since: datetime | None = None) -> pl.DataFrame:
    """The columns of `features` for every row of `bars`, behind `symbol` and `time`.

    Each unbroken stretch is computed alone, so no window reaches across a gap or into another symbol. Null until
    `lookback` bars of the stretch exist, and where a formula yields no finite number. Rows that closed before
    `since` are not asked for: they may be null, and cost nothing.
    """
    return pl.concat(compute_in_parts(bars, features, since))


def compute_in_parts(bars: Bars, features: Sequence[Feature], since: datetime | None = None) -> Iterator[pl.DataFrame]:
    """What `compute` returns, at most PART_ROWS rows at a time, in order."""
    require_columns(bars, {each.name: each.needs for each in features})
    keys = bars.frame.select(KEYS)
    nothing = pl.DataFrame(schema={each.name: pl.Float64 for each in features})
    yield keys.clear().hstack(nothing)
    if not features:
        yield keys
        return
    longest = max(each.lookback for each in features)
    frame = bars.frame.hstack(compared(bars, features))

    def rows_of(part: Part) -> pl.DataFrame:
        wanted = keys.slice(part.start, part.stop - part.start)
        if not part.asked:
            return wanted.hstack(nothing.clear(wanted.height))
        first = max(part.begin, part.start - longest + 1)
        rows = over_stretch(frame.slice(first, part.stop - first), features, age=first - part.begin + 1)
        return wanted.hstack(rows.slice(part.start - first))

    yield from _in_order(rows_of, list(_parts(bars, since)))


def compared(bars: Bars, features: Sequence[Feature]) -> list[pl.Series]:
    """The columns that features across symbols take, for every row: their own value, and what the others make of it."""
    columns = []
    for each in features:
        if each.across:
            own = compute(bars, [each.across.inner])[each.across.inner.name].fill_null(math.nan)
            times = bars.frame["time"].to_physical().to_numpy()
            order = np.argsort(times, kind="stable")  # of one close, by symbol
            first = np.append(np.flatnonzero(np.diff(times[order], prepend=-1)), times.size)
            market = np.empty(times.size)
            market[order] = each.across.compared(own.to_numpy()[order], first)
            columns += [own.alias(each.column_of("own")), pl.Series(each.column_of("market"), market)]
    return columns


def fit(bars: Bars, features: Sequence[FittedFeature]) -> Fits:
    """Numbers of every fitted feature for every symbol, read from these (training) bars and no others."""
    require_columns(bars, {each.name: each.needs for each in features})
    per_symbol = {symbol: bars.of_symbol(symbol) for symbol in bars.symbols} if features else {}
    return {each.name: {symbol: each.fit(own) for symbol, own in per_symbol.items()} for each in features}


def compute_fitted(
    bars: Bars, features: Sequence[FittedFeature], fits: Fits, since: datetime | None = None
) -> pl.DataFrame:
    """The columns of fitted features with their numbers held still, behind `symbol` and `time`; as `compute`.

    Null for a symbol that has no numbers, because it was not there yet when they were fitted.
    """
    if not features:
        return bars.frame.select(KEYS)
    absent = [pl.lit(None, dtype=pl.Float64).alias(each.name) for each in features]
    parts = [bars.frame.select(KEYS).clear().with_columns(absent)]
    for symbol in bars.symbols:
        frozen = [each.freeze(fits[each.name][symbol]) for each in features if symbol in fits[each.name]]
        parts.append(compute(bars.of_symbol(symbol), frozen, since))
    return pl.concat([part if part.width > len(KEYS) else part.with_columns(absent) for part in parts])


def require_columns(bars: Bars, needed: Mapping[str, Sequence[str]]) -> None:
    """Refuse a feature whose columns these bars do not carry, naming the column and who publishes it."""
    for name, columns in needed.items():
        for column in columns:
            if column not in bars.frame.columns:
                source = OPTIONAL_COLUMNS.get(column)
                raise MissingColumns(
                    f"feature {name} needs the column {column!r}, which these bars do not carry",
                    fix=f"take the bars from {source}" if source else "leave the feature out, or correct its formula",
                )


def over_stretch(frame: pl.DataFrame, features: Sequence[Feature], age: int = 1) -> pl.DataFrame:
    """The columns of `features` over rows of one unbroken stretch of one symbol, of which the first is number `age`.

    Of a slice, only rows with `lookback` bars before them in the slice have values; those are the same bits as
    over the whole stretch.
    """
    known = [each for each in features if each.lookback <= frame.height]
    arrays = {**arrays_of(frame, known), AGE: np.array([age])}
    expressed = expressions(frame, known, age)
    columns = []
    values = np.empty((len(features), frame.height))  # in one piece, which the system gives in large pages
    with sharing(Shared(arrays.values())):
        for each, place in zip(features, values, strict=True):
            if each.lookback > frame.height:
                found = np.full(frame.height, np.nan)
            else:
                found = applied(each, arrays) if each.arguments else expressed[each.name]
            if found.shape != place.shape:
                raise UsageError(
                    f"feature {each.name} made {found.size} values of {place.size} rows", fix="return one value a row"
                )
            columns.append(_column(found, each.lookback, place))
    return cast(pl.DataFrame, pl.from_arrow(pa.Table.from_arrays(columns, [each.name for each in features])))


def read_by(features: Iterable[Feature]) -> list[str]:
    """The columns that formulas of the function kind read."""
    return sorted({name for each in features for name in taken_by(each)} - {AGE})


def taken_by(feature: Feature) -> list[str]:
    """The columns that the arguments of a formula of the function kind stand for."""
    return [feature.column_of(each) if feature.across and each in COMPARED else each for each in feature.arguments]


def arrays_of(frame: pl.DataFrame, features: Sequence[Feature]) -> dict[str, Vector]:
    """The columns that formulas of the function kind read: NaN for null, time in microseconds since 1970."""
    return {name: _array(frame[name]) for name in read_by(features)}


def applied(feature: Feature, arrays: Mapping[str, Any]) -> Vector:
    """A formula of the function kind over these columns, of which `age` has the number of the first row."""
    formula = cast("Callable[..., Vector]", feature.formula)
    with np.errstate(all="ignore"):  # what has no value comes out as NaN or infinite, and is null in the end
        return np.asarray(formula(*[arrays[name] for name in taken_by(feature)]), dtype=np.float64)


def expressions(frame: pl.DataFrame, features: Sequence[Feature], age: int) -> dict[str, Vector]:
    """The columns of the features that are Polars expressions, NaN for null."""
    wanted = [
        each.formula.cast(pl.Float64).fill_null(math.nan).alias(each.name)
        for each in features
        if isinstance(each.formula, pl.Expr)
    ]
    if not wanted:
        return {}
    if any(AGE in each.meta.root_names() for each in wanted):
        frame = frame.with_columns(pl.int_range(age, age + pl.len()).alias(AGE))
    values = frame.select(wanted)
    if values.height < frame.height:  # of constants alone
        values = frame.select(pl.first()).with_columns(wanted)
    return {each.meta.output_name(): values[each.meta.output_name()].to_numpy() for each in wanted}


def _column(found: Vector, lookback: int, place: Vector) -> Any:
    """An Arrow column of what was found, kept at `place`: null where it is not finite or lacks its look-back."""
    bits = np.zeros((found.size + 7) // 8, dtype=np.uint8)
    write_with_nulls(found, lookback, place, bits)
    return pa.Array.from_buffers(pa.float64(), found.size, [pa.py_buffer(bits), pa.py_buffer(place)])


@compiled
def write_with_nulls(found: Vector, lookback: int, place: Vector, bits: Bits) -> None:
    """Write what was found to `place`, and a 1 into `bits`, eight rows a byte, where it is not to be null."""
    some = 512
    for start in range(0, found.size, some):
        stop = min(start + some, found.size)
        nulls = 0
        for t in range(start, stop):
            place[row(t)] = found[row(t)]
            nulls += found[row(t)] - found[row(t)] != 0
        if nulls == 0 and start >= lookback - 1 and stop == start + some:
            bits[start // 8 : stop // 8] = 255
        else:
            for t in range(max(start, lookback - 1), stop):
                bits[t // 8] |= math.isfinite(found[t]) << (t % 8)


def _array(column: pl.Series) -> Vector:
    """A copy that formulas may not share with the table; one type for all, so that each loop is compiled once."""
    return np.array((column.to_physical() if column.dtype == pl.Datetime else column).to_numpy())


def _parts(bars: Bars, since: datetime | None) -> Iterator[Part]:
    for begin, length in bars.stretches():
        times = bars.frame["time"].slice(begin, length)
        wanted = begin + (int(times.search_sorted(since)) if since else 0)
        if wanted > begin:
            yield Part(begin, begin, wanted, asked=False)
        size = _part_size(begin + length - wanted)
        for start in range(wanted, begin + length, size):
            yield Part(begin, start, min(start + size, begin + length))


def _part_size(rows: int) -> int:
    """Rows of a part, so that all are of one size and keep every core busy to the end."""
    number = math.ceil(rows / PART_ROWS)
    number += -number % _cores()
    return max(math.ceil(rows / max(min(number, rows // LARGE), 1)), 1)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _in_order(work: Callable[[Part], pl.DataFrame], parts: Sequence[Part]) -> Iterator[pl.DataFrame]:
    """What becomes of each part, in order; as many are under way as there are cores, and no more wait."""
    cores = _cores()
    rows = sum(part.stop - part.start for part in parts)
    if min(cores, len(parts)) == 1 or rows < LARGE * len(parts):
        yield from map(work, parts)  # threads would mostly wait for each other
        return
    with ThreadPoolExecutor(cores) as pool:
        remaining = iter(parts)
        waiting: deque[Future[pl.DataFrame]] = deque(pool.submit(work, part) for part in islice(remaining, cores + 1))
        while waiting:
            done = waiting.popleft().result()
            waiting.extend(pool.submit(work, part) for part in islice(remaining, 1))
            yield done
