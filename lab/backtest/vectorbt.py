"""The second engine: the same orders, accounted by vectorbt."""

from typing import Any

import polars as pl

from lab.backtest import BASIS_POINT, Costs, relisted
from lab.errors import LabError
from lab.nouns import INTERVALS, Bars


def portfolio(bars: Bars, fills: pl.DataFrame, costs: Costs) -> Any:
    """A vectorbt `Portfolio` of `fills` (as `replay` gives them), one column a symbol, no cash shared.

    Orders go in as units at the open; vectorbt adds slippage and fee itself. Symbols without a bar at a time are
    valued at their last close. Without the `vectorbt` extra this is a LabError.
    """
    try:
        import vectorbt as vbt
    except ImportError:
        raise LabError("vectorbt is not installed", fix="pip install 'lab[vectorbt]'") from None

    symbols = bars.symbols
    close = _wide(bars.frame, "close", symbols).select(pl.col(symbols).fill_null(strategy="forward").backward_fill())
    orders = _orders(bars, fills)
    opens, sizes, charged = (_wide(orders, name, symbols) for name in ("price", "units", "charged"))
    costly = charged.select(pl.col(symbols).fill_null(0.0)).to_numpy()
    return vbt.Portfolio.from_orders(
        close=close.to_pandas().set_index(opens["time"].to_pandas()),
        size=sizes.select(symbols).to_numpy(),
        price=opens.select(symbols).to_numpy(),
        fees=costs.fee_bps * BASIS_POINT * costly,
        slippage=costs.slippage_bps * BASIS_POINT * costly,
        init_cash=1.0 / len(symbols),
        freq=INTERVALS[bars.interval],
    )


def equity(bars: Bars, fills: pl.DataFrame, costs: Costs) -> pl.DataFrame:
    """time, equity as vectorbt accounts for `fills`."""
    value = portfolio(bars, fills, costs).value()
    columns = value.to_frame() if value.ndim == 1 else value
    total = sum(columns[name].to_numpy() for name in columns.columns)
    return bars.frame.select(pl.col("time").unique().sort()).with_columns(equity=pl.Series(total))


def _orders(bars: Bars, fills: pl.DataFrame) -> pl.DataFrame:
    """symbol, time, price, units, charged: the fills at the open, and what a long absence settled at the last close."""
    listing = relisted(bars.frame).cast(pl.Int64).alias("returns")
    held = bars.frame.hstack([listing]).join(fills.select("symbol", "time", "units"), on=["symbol", "time"], how="left")
    numbered = held.with_columns(listing=pl.col("returns").cum_sum().over("symbol"))
    kept = numbered.group_by("symbol", "listing").agg(kept=pl.col("units").sum()).with_columns(pl.col("listing") + 1)
    settled = pl.col("returns") == 1
    return numbered.join(kept, on=["symbol", "listing"], how="left").select(
        "symbol",
        "time",
        price=pl.when(settled).then(pl.col("close").shift(1).over("symbol", order_by="time")).otherwise("open"),
        units=pl.when(settled).then(-pl.col("kept")).otherwise("units"),
        charged=(~settled).cast(pl.Float64),
    )


def _wide(frame: pl.DataFrame, value: str, symbols: list[str]) -> pl.DataFrame:
    wide = frame.pivot(on="symbol", on_columns=symbols, index="time", values=value).sort("time")
    return wide.select("time", pl.col(symbols).cast(pl.Float64))
