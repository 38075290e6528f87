"""Markets that several test files share: ordinary, hostile, and real ones where their folder lies beside the house."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from hypothesis import settings

from lab.features import FEATURES, own
from lab.nouns import INTERVALS, MICROSECOND, OPTIONAL_COLUMNS, SIGNED, Bars

# The first call of a compiled function compiles it: how long one example takes says nothing.
settings.register_profile("lab", deadline=None)
settings.load_profile("lab")

REAL_MARKETS = Path(__file__).parents[1].parent / "shared" / "market"
START = datetime(2024, 2, 28, 22, tzinfo=UTC)  # leap day is two hours away
Numbers = npt.NDArray[np.float64]


def rows_of(
    symbol: str,
    moves: Sequence[float] | Numbers,
    *,
    price: float = 100.0,
    volume: Numbers | None = None,
    steps: Sequence[int] | None = None,
    interval: str = "1m",
    seed: int = 1,
) -> pl.DataFrame:
    """Bars that close `moves` (log returns) apart, with all that klines have; a bar that does not move has no range.

    steps: how many intervals each bar closes after the one before (1 where left out; 2 or more is a gap).
    """
    rng = np.random.default_rng(seed)
    moved = np.asarray(moves, dtype=np.float64)
    rows = moved.size
    close = price * np.exp(np.cumsum(moved))
    still = moved == 0.0
    before = np.concatenate([[price], close[:-1]])
    opened = np.where(still, close, before * np.exp(rng.normal(0, 3e-4, rows)))
    wick = np.where(still, 0.0, rng.exponential(1e-3, rows))
    traded = rng.lognormal(3, 1, rows) if volume is None else np.asarray(volume, dtype=np.float64)
    share = rng.beta(4, 4, rows)
    counts = np.cumsum(np.ones(rows, dtype=np.int64) if steps is None else np.asarray(steps, dtype=np.int64))
    microseconds = int(START.timestamp() * 1e6) + counts * (INTERVALS[interval] // MICROSECOND)
    return pl.DataFrame(
        {
            "symbol": pl.Series([symbol]).new_from_index(0, rows),
            "time": pl.Series(microseconds).cast(pl.Datetime("us")).dt.replace_time_zone("UTC"),
            "open": opened,
            "high": np.maximum(opened, close) * np.exp(wick),
            "low": np.minimum(opened, close) * np.exp(-wick),
            "close": close,
            "volume": traded,
            "buy_volume": traded * share,
            "quote_volume": traded * close,
            "trades": np.ceil(traded),
        }
    )


def with_side_columns(frame: pl.DataFrame, seed: int = 1) -> pl.DataFrame:
    """The same bars with everything that books, quotes and side data add; a few rows of it are not known."""
    rng = np.random.default_rng(seed)
    rows = frame.height
    close = frame["close"].to_numpy()
    half = close * rng.lognormal(-9, 0.5, rows)
    columns = {"vwap": close * (1 + rng.normal(0, 1e-5, rows)), "bid": close - half, "ask": close + half}
    columns |= {"spread": 2 * half, "micro_price": close + half * rng.uniform(-1, 1, rows)}
    for name in OPTIONAL_COLUMNS:
        if name not in columns:
            columns[name] = rng.normal(0, 1, rows) if name in SIGNED else rng.lognormal(1, 1, rows)
    unknown = pl.Series(np.arange(rows) % 397 == 396)
    known = pl.DataFrame({name: values for name, values in columns.items() if name not in frame.columns})
    told = ("headlines", "sentiment")  # there may be none, but it is never unknown how many
    return frame.hstack(known.with_columns(pl.when(~unknown).then(pl.exclude(told))))


def bars_of(*frames: pl.DataFrame, interval: str = "1m") -> Bars:
    return Bars.of(pl.concat(frames), interval)


def two_state_moves(rows: int, leave: float, deviations: tuple[float, float], seed: int) -> Numbers:
    """Log returns of a market that is calm or volatile and leaves either state with the same chance every bar."""
    rng = np.random.default_rng(seed)
    state = np.cumsum(rng.random(rows) < leave) % 2
    return rng.normal(0, 1, rows) * np.asarray(deviations)[state]


def hostile_frames(rows: int) -> dict[str, pl.DataFrame]:
    """One hostile market by symbol; each is `rows` long."""
    rng = np.random.default_rng(99)

    def moves() -> Numbers:
        return rng.normal(0, 2e-3, rows)

    def volume() -> Numbers:
        return rng.lognormal(3, 1, rows)

    jumpy = moves()
    jumpy[rng.random(rows) < 0.04] = 1.6
    jumpy[rng.random(rows) < 0.04] = -1.7
    thin = volume()
    thin[rng.random(rows) < 0.3] = 0.0
    sleepy = moves()
    asleep_from = rows - 76
    sleepy[asleep_from] = 2.0
    sleepy[asleep_from + 1 : asleep_from + 74] = 0.0
    asleep = volume()
    asleep[asleep_from + 5 :] = 0.0
    halted = np.ones(rows, dtype=np.int64)
    halted[[1, 3, 6, 28, rows - 2]] = [2, 50, 3, 1441, 7]  # stretches of 1, 2, 3, 22, most, and 2 bars
    unknown = rows_of("UNKNOWN", np.round(moves(), 3), volume=volume(), seed=5)
    silent = pl.int_range(pl.len()).is_between(rows // 2, rows // 2 + 9)
    return {
        "DUST": rows_of("DUST", jumpy, price=1e-8, volume=thin * 1e8, seed=2),
        "GIANT": rows_of("GIANT", moves(), price=1e8, volume=volume() * 1e-7, seed=3),
        "SLEEPY": rows_of("SLEEPY", sleepy, volume=asleep, steps=halted.tolist(), seed=4),
        "UNKNOWN": unknown.with_columns(
            pl.when(~silent).then(name).alias(name) for name in ("volume", "buy_volume", "quote_volume", "trades")
        ),
    }


@pytest.fixture(scope="session")
def ordinary() -> Bars:
    """One symbol, unbroken, that trades in every bar and is now calm, now volatile."""
    return bars_of(with_side_columns(rows_of("PLAIN", two_state_moves(1500, 0.3, (0.0005, 0.005), seed=7))))


@pytest.fixture(scope="session")
def hostile() -> Bars:
    """Prices of 1e-8 and 1e8, jumps of fivefold, sleep, halts, stretches of a bar or two, volume of zero or null."""
    return bars_of(*map(with_side_columns, hostile_frames(100).values()))


@pytest.fixture(scope="session")
def long_hostile() -> Bars:
    """Enough of it for the longest look-back of any plain feature: sleep in the middle, jumps before and after."""
    frames = hostile_frames(390)
    times = pl.datetime_range(
        START, START + timedelta(minutes=779), interval=timedelta(minutes=1), time_unit="us", eager=True
    )
    rows = pl.concat([frames["DUST"], frames["SLEEPY"].with_columns(pl.col("open", "high", "low", "close") * 1e-9)])
    return bars_of(with_side_columns(rows.with_columns(symbol=pl.lit("LONG"), time=times)))


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A catalogue to register in that is as it was afterwards."""
    monkeypatch.setattr(FEATURES, "_things", dict(FEATURES._things))
    monkeypatch.setattr(own, "_files", {})


@pytest.fixture(scope="session")
def real_markets() -> Path:
    """The folder of recorded markets and published results."""
    if not REAL_MARKETS.is_dir():
        pytest.skip(f"no recorded markets at {REAL_MARKETS}")
    return REAL_MARKETS
