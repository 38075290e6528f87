"""The way people do it today: one pandas script. `python -m benchmarks.naive FOLDER WARM`.

The quick idioms, not a straw man: vectorised pandas wherever there is a one-liner, and a plain loop over lists where
one decision depends on the one before.
"""

import math
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import lightgbm
import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmarks.clock import Clock, peak_mib, tell
from benchmarks.task import BASIS_POINT, MINUTES_PER_DAY, MINUTES_PER_YEAR, WARM_UP_BARS, Task, zips

Vector = npt.NDArray[np.float64]
PRICES = ["open", "high", "low", "close"]
KLINE = ["open_time", *PRICES, "volume", "close_time", "quote_volume", "trades", "buy_volume", "quote_bought", "ignore"]
KEPT = [*PRICES, "volume", "buy_volume", "quote_volume", "trades"]
LEARNING = {
    "objective": "regression",
    "num_leaves": 15,
    "learning_rate": 0.05,
    "min_data_in_leaf": 200,
    "feature_fraction": 0.7,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 0,
    "verbosity": -1,
}


def log_return(df: pd.DataFrame, bars: int) -> pd.Series:
    return np.log(df["close"] / df["close"].shift(bars))


def volatility(df: pd.DataFrame, window: int) -> pd.Series:
    return log_return(df, 1).rolling(window).std()


def imbalance(df: pd.DataFrame, window: int) -> pd.Series:
    delta = 2 * df["buy_volume"] - df["volume"]
    return delta.rolling(window).sum() / df["volume"].rolling(window).sum()


def buy_bar_share(df: pd.DataFrame, window: int) -> pd.Series:
    return (2 * df["buy_volume"] > df["volume"]).astype(float).rolling(window).mean()


def volume_zscore(df: pd.DataFrame, window: int) -> pd.Series:
    usual = df["volume"].rolling(window)
    return (df["volume"] - usual.mean()) / usual.std()


def rsi(df: pd.DataFrame, window: int) -> pd.Series:
    moves = df["close"].diff()
    gains = moves.clip(lower=0).ewm(alpha=1 / window, adjust=False).mean()
    losses = (-moves).clip(lower=0).ewm(alpha=1 / window, adjust=False).mean()
    return 100 * gains / (gains + losses)


def day_turn(df: pd.DataFrame) -> pd.Series:
    minute = df.index.hour * 60 + df.index.minute
    return pd.Series(2 * np.pi * minute / MINUTES_PER_DAY, index=df.index)


FEATURES: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
    "log_return(1)": lambda df: log_return(df, 1),
    "log_return(30)": lambda df: log_return(df, 30),
    "realised_vol(60)": lambda df: volatility(df, 60),
    "vol_ratio(10, 60)": lambda df: np.log(volatility(df, 10) / volatility(df, 60)),
    "flow_imbalance(1)": lambda df: imbalance(df, 1),
    "flow_imbalance(5)": lambda df: imbalance(df, 5),
    "flow_imbalance(20)": lambda df: imbalance(df, 20),
    "flow_imbalance(60)": lambda df: imbalance(df, 60),
    "flow_shift(5, 60)": lambda df: imbalance(df, 5) - imbalance(df, 60),
    "buy_bar_share(20)": lambda df: buy_bar_share(df, 20),
    "volume_zscore(60)": lambda df: volume_zscore(df, 60),
    "rsi(14)": lambda df: rsi(df, 14),
    "day_sin": lambda df: np.sin(day_turn(df)),
    "day_cos": lambda df: np.cos(day_turn(df)),
}


def fetch(folder: Path, target: Path) -> None:
    """Every zip with read_csv, all of them into one Parquet file."""
    df = pd.concat([pd.read_csv(path, header=None, names=KLINE) for path in zips(folder)])
    df.index = pd.DatetimeIndex(pd.to_datetime(df["open_time"], unit="ms", utc=True) + pd.Timedelta(minutes=1))
    df[KEPT].rename_axis("time").to_parquet(target)


def compute_features(df: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    return pd.DataFrame({name: FEATURES[name](df) for name in names})


def forward_return(df: pd.DataFrame, horizon: int) -> pd.Series:
    return np.log(df["close"].shift(-horizon) / df["open"].shift(-1))


def walk_forward(x: pd.DataFrame, y: pd.Series, task: Task) -> pd.Series:
    """Scores of every row after the first training window, fold by fold; NaN before."""
    settings = {**LEARNING, "seed": task.raw["seed"]}
    trees = task.raw["model"]["trees"]
    scores = np.full(len(x), np.nan)
    for start in range(task.train_bars + task.horizon_bars, len(x), task.test_bars):
        last = start - task.horizon_bars
        train = slice(max(last - task.train_bars, WARM_UP_BARS - 1), last)
        test = slice(start, start + task.test_bars)
        known = lightgbm.Dataset(x.iloc[train].to_numpy(), y.iloc[train].to_numpy() / BASIS_POINT)
        booster = lightgbm.train(settings, known, num_boost_round=trees)
        scores[test] = np.asarray(booster.predict(x.iloc[test].to_numpy())) * BASIS_POINT
    return pd.Series(scores, index=x.index)


def decide(scores: Vector, vol: Vector, task: Task) -> list[float]:
    """Thresholds with hysteresis and volatility targeting, in a plain loop: each row needs the one before."""
    enter, leave = task.raw["policy"]["enter"], task.raw["policy"]["exit"]
    wanted_vol = task.raw["policy"]["target_vol"] / math.sqrt(MINUTES_PER_YEAR)
    side, held, targets = 0, 0.0, []
    for score, sigma in zip(scores.tolist(), vol.tolist(), strict=True):
        before = side
        if (side > 0 and score < leave) or (side < 0 and score > -leave):
            side = 0
        if side == 0:
            side = 1 if score >= enter else -1 if score <= -enter else 0
        size = side * min(1.0, wanted_vol / sigma)
        if side != before or abs(size - held) > 0.1:
            held = size
        targets.append(held)
    return targets


def trade(opens: Vector, closes: Vector, targets: list[float], task: Task) -> list[float]:
    """Equity at every close: a changed target is filled at the next open, with slippage and fee."""
    fee = task.raw["costs"]["fee_bps"] * BASIS_POINT
    slippage = task.raw["costs"]["slippage_bps"] * BASIS_POINT
    cash, units, standing, wanted, equity = 1.0, 0.0, 0.0, 0.0, []
    for price, close, target in zip(opens.tolist(), closes.tolist(), targets, strict=True):
        if wanted != standing:
            change = wanted * (cash + units * price) / price - units
            paid = price * (1 + slippage if change > 0 else 1 - slippage)
            if change > 0:
                change = min(change, max(cash / (paid * (1 + fee)), -units))
            cash -= change * paid + abs(change) * paid * fee
            units += change
            standing = wanted
        equity.append(cash + units * close)
        wanted = target
    return equity


def backtest(df: pd.DataFrame, scores: pd.Series, task: Task) -> pd.Series:
    """Equity over the rows that have a score; volatility for the sizes comes from all rows before."""
    tested = scores.notna()
    targets = decide(scores[tested].to_numpy(), volatility(df, 60)[tested].to_numpy(), task)
    rows = df[tested]
    return pd.Series(trade(rows["open"].to_numpy(), rows["close"].to_numpy(), targets, task), index=rows.index)


def report(equity: pd.Series, target: Path) -> None:
    """Sharpe ratio, deepest fall and a monthly table, as an HTML table."""
    daily = equity.resample("1D", closed="right").last().pct_change().dropna()
    facts = {
        "sharpe": daily.mean() / daily.std() * math.sqrt(365.25),
        "drawdown": (equity / equity.cummax() - 1).min(),
        "return": equity.iloc[-1] - 1,
    }
    months = equity.resample("ME").last().pct_change()
    target.write_text(pd.Series(facts).to_frame().to_html() + months.to_frame().to_html())


def whole_way(folder: Path, scratch: Path, clock: Clock) -> tuple[pd.DataFrame, pd.DataFrame, pd.Series, pd.Series]:
    """The script from top to bottom, each stage timed; returns bars, features, answers and scores."""
    task = Task.read()
    scratch.mkdir()
    with clock.stage("fetch"):
        fetch(folder, scratch / "bars.parquet")
    with clock.stage("open"):
        df = pd.read_parquet(scratch / "bars.parquet")
    with clock.stage("features"):
        x = compute_features(df, task.features)
    with clock.stage("labels"):
        y = forward_return(df, task.horizon_bars)
    with clock.stage("train"):
        scores = walk_forward(x, y, task)
    with clock.stage("policy + backtest"):
        equity = backtest(df, scores, task)
    with clock.stage("report"):
        report(equity, scratch / "report.html")
    shutil.rmtree(scratch)
    return df, x, y, scores


def keep(folder: Path, df: pd.DataFrame, x: pd.DataFrame, y: pd.Series, scores: pd.Series) -> None:
    """Leave what came out, for the other way's to be set beside it."""
    bars = df[["open", "high", "low", "close", "volume", "buy_volume"]]
    np.savez(
        folder / "naive.npz",
        bars=bars.to_numpy(),
        features=x.to_numpy(),
        answers=y.to_numpy(),
        scores=scores.dropna().to_numpy(),
    )


def main(folder: Path, warm: Path) -> None:
    whole_way(warm, warm / "naive", Clock())
    clock = Clock()
    came_out = whole_way(folder, folder / "naive", clock)
    whole, peak = sum(clock.seconds.values()), peak_mib()
    keep(folder, *came_out)
    tell({"seconds": {**clock.seconds, "end to end": whole}, "peak_mib": peak})


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
