"""What a run earned, and what that is worth."""

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from lab import backtest, evidence, runs
from lab.backtest import Costs
from lab.experiment import Experiment
from lab.nouns import DAYS_PER_YEAR, MICROSECOND, Bars, Calendar, Fold, Run, Vector

TABLES = ("decisions", "fills", "equity", "importance", "costs")


def weigh(root: Path, run: Run) -> dict[str, Any]:
    """What a walk-forward run is worth, given every trial that the ledger holds by now; a final model has no skill."""
    experiment = Experiment.model_validate(run.manifest["experiment"])
    tried = runs.trials(root, experiment.markets)
    equity, fills, decisions = (run.table(name) for name in ("equity", "fills", "decisions"))
    return judge(equity, fills, decisions, experiment.costs, tried, run.manifest["data"]["calendar"])


def judge(
    equity: pl.DataFrame,
    fills: pl.DataFrame,
    decisions: pl.DataFrame,
    costs: Costs,
    tried: Sequence[runs.Trial],
    calendar: Calendar,
) -> dict[str, Any]:
    """The evidence for one line of money (`equity`, beside `holding`), and what it took to earn it."""
    year = DAYS_PER_YEAR[calendar]
    facts = evidence.judge(daily_returns(equity, "equity"), [trial.sharpe for trial in tried], year).facts()
    held = evidence.judge(daily_returns(equity, "holding"), [None], year).facts()
    traded = float(np.sum(np.abs(fills["units"].to_numpy()) * fills["price"].to_numpy()))
    before_costs = facts["total_return"] + traded * costs.total_bps * backtest.BASIS_POINT
    return {
        **facts,
        "max_drawdown": evidence.max_drawdown(equity["equity"].to_numpy()),
        "turnover_per_day": traded / max(facts["days"], 1),
        "cost_bps": costs.total_bps,
        "break_even_bps": before_costs / traded / backtest.BASIS_POINT if traded > 0 else None,
        "exposure": float(np.mean(decisions["target"].to_numpy() != 0)),
        "trades": fills.height,
        "correlation": correlation(decisions),
        "holding": {
            **{key: held[key] for key in ("total_return", "sharpe", "annual_volatility")},
            "max_drawdown": evidence.max_drawdown(equity["holding"].to_numpy()),
        },
    }


def daily_returns(equity: pl.DataFrame, column: str) -> Vector:
    """Simple returns from one UTC midnight to the next, beginning at 1; a bar that closes at midnight ends its day."""
    day = (pl.col("time") - MICROSECOND).dt.date()
    last = equity.group_by(day.alias("day"), maintain_order=True).agg(pl.col(column).last())[column].to_numpy()
    before = np.concatenate([[1.0], last[:-1]])
    # What is lost stays lost: after ruin there is no return.
    return np.where(before > 0, np.maximum(last, 0.0) / np.where(before > 0, before, 1.0) - 1, 0.0)


def sharpe_per_day(equity: pl.DataFrame) -> float | None:
    """Sharpe ratio of daily returns, not annualised; null where nothing varies."""
    return evidence.sharpe_ratio(daily_returns(equity, "equity"))


def earned(equity: pl.DataFrame, calendar: Calendar) -> dict[str, float | None]:
    """Total return and Sharpe ratio per year."""
    returns = daily_returns(equity, "equity")
    sharpe = annual(evidence.sharpe_ratio(returns), calendar)
    return {"total_return": float(np.prod(1 + returns)) - 1, "sharpe": sharpe}


def annual(sharpe: float | None, calendar: Calendar) -> float | None:
    """A Sharpe ratio per day as one per year."""
    return None if sharpe is None else sharpe * math.sqrt(DAYS_PER_YEAR[calendar])


def correlation(scored: pl.DataFrame) -> float | None:
    """Pearson correlation of score and answer over rows that have both; null where either never varies."""
    both = scored.select("score", "answer").drop_nulls().to_numpy()
    if len(both) < 2 or np.ptp(both[:, 0]) == 0 or np.ptp(both[:, 1]) == 0:
        return None
    return float(np.corrcoef(both.T)[0, 1])


def fold_results(
    facts: Sequence[Mapping[str, Any]],
    folds: Sequence[Fold],
    decisions: pl.DataFrame,
    equity: pl.DataFrame,
    calendar: Calendar,
) -> list[dict[str, Any]]:
    """The facts of each fold with what its test earned: return, Sharpe ratio per year, correlation."""
    results = []
    for fact, fold in zip(facts, folds, strict=True):
        inside = fold.test.covers(pl.col("time"))
        before = equity.filter(pl.col("time") < fold.test.start)["equity"]
        start = before[-1] if before.len() else 1.0
        own = equity.filter(inside).with_columns(pl.col("equity") / start) if start > 0 else equity.clear()
        returns = daily_returns(own, "equity")
        results.append(
            {
                **fact,
                "return": float(np.prod(1 + returns)) - 1,
                "sharpe": annual(evidence.sharpe_ratio(returns), calendar),
                "correlation": correlation(decisions.filter(pl.col("fold") == fold.number)),
            }
        )
    return results


def importance(facts: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """fold, feature, share: how much each column weighed in each fold."""
    rows = chain.from_iterable(
        ((fact["number"], name, share) for name, share in fact["importance"].items()) for fact in facts
    )
    return pl.DataFrame(list(rows), schema={"fold": pl.Int64, "feature": pl.String, "share": pl.Float64}, orient="row")


def data_facts(
    bars: Bars, versions: Mapping[str, int], experiment: Experiment, folds: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """What the run saw: digest, span, rows, gaps, and the share of test rows without a value per column."""
    rows = sum(fold["test_rows"] for fold in folds)
    names = folds[0]["null_share"] if folds else {}
    gaps = bars.gaps().with_columns(pl.col("after", "before").dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
    return {
        "digest": bars.digest,
        "versions": dict(versions),
        "source": experiment.data.source,
        "symbols": bars.symbols,
        "interval": bars.interval,
        "calendar": bars.calendar,
        "bars_per_year": bars.bars_per_year,
        "rows": bars.frame.height,
        "start": bars.closes[0].isoformat(),
        "end": bars.closes[1].isoformat(),
        "gaps": gaps.to_dicts(),
        "null_share": {
            name: sum(fold["null_share"][name] * fold["test_rows"] for fold in folds) / max(rows, 1) for name in names
        },
    }


def flattened(settings: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Nested settings with dotted names, as a person would say them: `policy.enter`."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat.update(flattened(value, f"{above}{key}.") if isinstance(value, Mapping) else {above + key: value})
    return flat
