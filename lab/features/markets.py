"""Markets made to trip formulas: what a certificate is earned on."""

from datetime import UTC, datetime
from functools import lru_cache

import numpy as np
import polars as pl

from lab.nouns import MICROSECOND, OPTIONAL_COLUMNS, PRICES, SIGNED, Bars, Matrix, Vector, interval_length

KLINE_COLUMNS = ("buy_volume", "quote_volume", "trades")
ROUGH_MARKETS = ("plain", "hourly", "flat", "quiet", "halted", "silent", "jumpy", "gaps", "tiny", "huge")
AFTER = 150  # rows of each market that are proved beyond a look-back
# Candles that mean something to chartists, in usual bodies: open less the close before, close less open, upper and
# lower shadow. Each is laid upside down as well.
SCENES = (
    ((0, 0.3, 0.3, 0.2), (0, -0.5, 0.2, 0.4), (0, -2.4, 0.1, 0.2), (-0.4, -0.2, 0.2, 0.3), (0.5, 2, 0.1, 0.2)),  # star
    ((0.1, -0.3, 0.2, 0.2), (-0.1, 1.2, 0, 0.3), (-0.4, 1.5, 0, 0.2), (-0.5, 1.9, 0, 0)),  # three soldiers
    ((0.1, 0.4, 0.4, 0.1), (0, -2.4, 0.1, 0.2), (-0.5, 2.2, 0.2, 0.1)),  # piercing line
    ((-0.1, 0.4, 0.2, 0.3), (0, -2.4, 0.2, 0.1), (0.8, 0.4, 0.3, 0.2)),  # harami
    ((0, -0.5, 0.3, 0.3), (-0.3, 0.2, 0, 1.2), (0, 0, 0.5, 0.4)),  # hammer, doji
)


@lru_cache(maxsize=64)
def rough_market(kind: str, rows: int, interval: str = "1m") -> Bars:
    """Bars of one symbol with every optional column, the same each time.

    They close every minute, or on the `hourly` one every hour: a leak may wait for midnight or for a weekend. There
    bars open away from the close before and make candles of every shape; elsewhere they open near it. `flat` prices
    do not move for a while, `quiet` bars trade nothing, `halted` ones neither move nor trade, `silent` ones have null
    for whatever was traded, `jumpy` prices leap by a third now and then, `gaps` lacks bars.
    """
    rng = np.random.default_rng(20_240_229)
    moves, volume, share, scale = _disturbed(kind, rows, rng)
    if kind == "hourly":
        away, body, above, below = _candles(rows)
        moves = away + body
    else:
        away = np.where(moves == 0.0, 0.0, rng.normal(0, 2e-4, rows))
        above = below = np.where(moves == 0.0, 0.0, rng.exponential(1e-3, rows))
    close = scale * np.exp(np.cumsum(moves))
    opened = np.concatenate([[scale], close[:-1]]) * np.exp(away)
    steps = np.ones(rows, dtype=np.int64)
    if kind == "gaps":
        steps[[min(10, rows - 1), rows - AFTER // 2]] = 90
    interval = "1h" if kind == "hourly" else interval
    step = interval_length(interval) // MICROSECOND
    start = int(datetime(2024, 2, 29, tzinfo=UTC).timestamp() * 1e6)
    columns = {
        "open": opened,
        "high": np.maximum(opened, close) * np.exp(above),
        "low": np.minimum(opened, close) * np.exp(-below),
        "close": close,
        "volume": volume,
        "buy_volume": volume * share,
        "quote_volume": volume * close,
        "trades": np.ceil(volume),
    }
    frame = pl.DataFrame(
        {
            "symbol": pl.Series(["ROUGH"]).new_from_index(0, rows),
            "time": pl.Series(start + np.cumsum(steps) * step).cast(pl.Datetime("us")).dt.replace_time_zone("UTC"),
            **{name: pl.Series(values, nan_to_null=True) for name, values in columns.items()},
        }
    )
    return Bars.of(frame.hstack(_rarer_columns(close)), interval)


def _disturbed(kind: str, rows: int, rng: np.random.Generator) -> tuple[Vector, Vector, Vector, float]:
    """Log moves of closes, volumes, shares that takers bought, and the first price."""
    moves, volume, share = rng.normal(0, 2e-3, rows), rng.lognormal(3, 1, rows), rng.beta(4, 4, rows)
    scale = 100.0
    if kind == "flat":
        moves[rows // 4 : -AFTER // 2] = 0.0
    elif kind == "quiet":
        volume[rng.random(rows) < 0.4] = 0.0
        volume[-AFTER // 2 :] = 0.0
    elif kind == "halted":
        moves[-AFTER : -AFTER // 2], volume[-AFTER : -AFTER // 2] = 0.0, 0.0
    elif kind == "silent":
        volume[rng.random(rows) < 0.02] = np.nan
        volume[-AFTER // 2 : -AFTER // 3] = np.nan
    elif kind == "jumpy":
        moves[rng.random(rows) < 0.05] *= 200
        share = np.round(share)
    elif kind == "tiny":
        scale = 1e-8
    elif kind == "huge":
        scale, volume = 1e8, volume * 1e8
    return moves, volume, share, scale


@lru_cache(maxsize=16)
def rough_panel(rows: int) -> Bars:
    """Five rough markets side by side as symbols, one of them listed late."""
    # All are drawn from the same numbers: a power of its own gives each its own pace and direction.
    powers = {"plain": 1.0, "flat": 0.5, "jumpy": 0.8, "huge": -0.6, "halted": -1.2}
    frames = []
    for kind, power in powers.items():
        own = rough_market(kind, rows).frame.with_columns(pl.col(PRICES) ** power, symbol=pl.lit(kind.upper()))
        own = own.with_columns(high=pl.max_horizontal(PRICES), low=pl.min_horizontal(PRICES))
        frames.append(own.slice(rows - AFTER // 3 if kind == "huge" else 0))
    return Bars.of(pl.concat(frames), "1m")


def _candles(rows: int) -> Matrix:
    """Open less the close before, close less open, upper and lower shadow of made-up candles, in logarithms."""
    rng = np.random.default_rng(20_240_304)
    upright = [np.array(scene, dtype=np.float64) for scene in SCENES]
    scenes = [*upright, *(scene[:, [0, 1, 3, 2]] * [-1, -1, 1, 1] for scene in upright)]
    times = rows // sum(map(len, scenes)) + 1
    candles = np.concatenate([scenes[k] for _ in range(times) for k in rng.permutation(len(scenes))])[:rows]
    return 2e-3 * (candles * rng.lognormal(0, 0.1, candles.shape)).T


def _rarer_columns(close: Vector) -> pl.DataFrame:
    """Made-up values of the optional columns that klines do not have; now and then one is null."""
    rng = np.random.default_rng(20_240_301)
    rows = len(close)
    near = {name: close * (1 + away) for name, away in (("vwap", 1e-5), ("bid", -1e-4), ("ask", 1e-4))}
    columns = {**near, "micro_price": close * (1 + rng.normal(0, 3e-5, rows)), **_said(rows)}
    for name in OPTIONAL_COLUMNS:
        if name not in columns:
            columns[name] = rng.normal(0, 1, rows) if name in SIGNED else rng.lognormal(1, 1, rows)
    frame = pl.DataFrame({name: values for name, values in columns.items() if name not in KLINE_COLUMNS})
    row = np.arange(rows)
    unknown = pl.Series((row == rows // 7) | ((row > rows - 40) & (row < rows - 30)))
    news = ("headlines", "sentiment")  # of these only the past is unknown, before somebody listened
    unheard = pl.Series(row < AFTER // 10)
    return frame.select(pl.when(~unknown).then(pl.exclude(news)), pl.when(~unheard).then(pl.col(news)))


def _said(rows: int) -> dict[str, Vector]:
    """Made-up mood and news: some headlines in a bar or none, and none at all for 100 bars of every 300."""
    rng = np.random.default_rng(20_240_303)
    heard = np.where(np.arange(rows) // 100 % 3 == 1, 0.0, 0.3)
    headlines = rng.poisson(heard).astype(np.float64)
    return {
        "mood": rng.uniform(0, 100, rows),
        "headlines": headlines,
        "sentiment": headlines * rng.uniform(-1, 1, rows),
    }
