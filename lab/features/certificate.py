"""The proof that a feature sees no further back than it says, and nothing ahead: every row, on rough markets."""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import polars as pl

from lab.errors import LookAhead
from lab.features.computing import compute, over_stretch
from lab.nouns import MICROSECOND, OPTIONAL_COLUMNS, SIGNED, Bars, Feature, Vector, interval_length

KLINE_COLUMNS = ("buy_volume", "quote_volume", "trades")
AFTER = 150  # rows proved beyond the look-back, per market
TOLERANCE = 1e-9


def certify(features: Sequence[Feature]) -> None:
    """Recompute every row of rough markets from its last `lookback` bars alone; any difference raises LookAhead.

    A value that needs a later bar, or an earlier one than declared, comes out different or null when that bar is
    not there; the error names the feature, the row, and the first bar that the value had read.
    """
    for each in features:
        for kind in ROUGH_MARKETS:
            bars = rough_market(kind, each.lookback + AFTER)
            whole = compute(bars, [each])[each.name]
            for start, length in bars.stretches():
                for row in range(start + each.lookback - 1, start + length):  # before that, all is null
                    if differs(whole[row], value_at(bars.frame, row + 1 - each.lookback, row, each)):
                        raise _reason(each, bars.frame.slice(start, length), row - start, kind)


def value_at(frame: pl.DataFrame, first: int, last: int, feature: Feature) -> float | None:
    """The feature's value at row `last` computed from rows `first` to `last` alone."""
    value: float | None = over_stretch(frame.slice(first, last + 1 - first), [feature])[feature.name][-1]
    return value


def differs(a: float | None, b: float | None) -> bool:
    """Whether two values are not the same number (to rounding) or the same null."""
    if a is None or b is None:
        return a is not b
    return abs(a - b) > TOLERANCE * max(abs(a), abs(b)) + 1e-12


def _reason(feature: Feature, frame: pl.DataFrame, row: int, kind: str) -> LookAhead:
    """Which bar of the stretch the value at `row` had read that it should not: a later one, or one too old."""
    honest = value_at(frame, 0, row, feature)
    for end in range(row + 2, frame.height + 1):
        if differs(honest, over_stretch(frame.head(end), [feature])[feature.name][row]):
            return LookAhead(
                f"feature {feature.name} reads the future: on the {kind} market its value at bar {row} "
                f"changes with bar {end - 1}",
                fix=f"build {feature.name} from this bar and earlier ones only (shift by 0 or more)",
            )
    return LookAhead(
        f"feature {feature.name} declares a look-back of {feature.lookback} bars, but on the {kind} market "
        f"its value at bar {row} needs bars before {row + 1 - feature.lookback}",
        fix=f"declare the look-back that {feature.name} has, or bound what it remembers",
    )


def rough_market(kind: str, rows: int) -> Bars:
    """A market made to trip formulas: bars of one symbol with every optional column, the same each time.

    They close every minute, or on the `hourly` one every hour: a leak may wait for midnight or for a weekend.
    """
    rng = np.random.default_rng(20_240_229)
    moves = rng.normal(0, 2e-3, rows)
    volume = rng.lognormal(3, 1, rows)
    share = rng.beta(4, 4, rows)
    scale = 100.0
    if kind == "flat":
        moves[rows // 4 : -AFTER // 2] = 0.0
    elif kind == "quiet":
        volume[rng.random(rows) < 0.4] = 0.0
        volume[-AFTER // 2 :] = 0.0
    elif kind == "jumpy":
        moves[rng.random(rows) < 0.05] *= 200
        share = np.round(share)
    elif kind == "tiny":
        scale = 1e-8
    elif kind == "huge":
        scale, volume = 1e8, volume * 1e8
    close = scale * np.exp(np.cumsum(moves))
    opened = np.concatenate([[scale], close[:-1]]) * np.exp(np.where(moves == 0.0, 0.0, rng.normal(0, 2e-4, rows)))
    wick = np.where(moves == 0.0, 0.0, rng.exponential(1e-3, rows))
    steps = np.ones(rows, dtype=np.int64)
    if kind == "gaps":
        steps[[min(10, rows - 1), rows - AFTER // 2]] = 90
    interval = "1h" if kind == "hourly" else "1m"
    step = interval_length(interval) // MICROSECOND
    start = int(datetime(2024, 2, 29, tzinfo=UTC).timestamp() * 1e6)
    frame = pl.DataFrame(
        {
            "symbol": pl.Series(["ROUGH"]).new_from_index(0, rows),
            "time": pl.Series(start + np.cumsum(steps) * step).cast(pl.Datetime("us")).dt.replace_time_zone("UTC"),
            "open": opened,
            "high": np.maximum(opened, close) * np.exp(wick),
            "low": np.minimum(opened, close) * np.exp(-wick),
            "close": close,
            "volume": volume,
            "buy_volume": volume * share,
            "quote_volume": volume * close,
            "trades": np.ceil(volume),
        }
    )
    return Bars.of(frame.hstack(_rarer_columns(close)), interval)


def _rarer_columns(close: Vector) -> pl.DataFrame:
    """Made-up values of the optional columns that klines do not have; now and then one is null."""
    rng = np.random.default_rng(20_240_301)
    rows = len(close)
    near = {name: close * (1 + away) for name, away in (("vwap", 1e-5), ("bid", -1e-4), ("ask", 1e-4))}
    columns = {**near, "micro_price": close * (1 + rng.normal(0, 3e-5, rows))}
    for name in OPTIONAL_COLUMNS:
        if name not in columns:
            columns[name] = rng.normal(0, 1, rows) if name in SIGNED else rng.lognormal(1, 1, rows)
    frame = pl.DataFrame({name: values for name, values in columns.items() if name not in KLINE_COLUMNS})
    unknown = pl.Series(rng.random(rows) < 0.05)
    return frame.select(pl.when(~unknown).then(pl.all()))


ROUGH_MARKETS = ("plain", "hourly", "flat", "quiet", "jumpy", "gaps", "tiny", "huge")
