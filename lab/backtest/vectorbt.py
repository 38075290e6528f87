"""The second engine: the same orders, accounted by vectorbt."""

from typing import Any

import polars as pl

from lab.backtest import BASIS_POINT, Costs
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
    opens = _wide(bars.frame, "open", symbols)
    sizes = opens.select("time").join(_wide(fills, "units", symbols), on="time", how="left", maintain_order="left")
    return vbt.Portfolio.from_orders(
        close=close.to_pandas().set_index(opens["time"].to_pandas()),
        size=sizes.select(symbols).to_numpy(),
        price=opens.select(symbols).to_numpy(),
        fees=costs.fee_bps * BASIS_POINT,
        slippage=costs.slippage_bps * BASIS_POINT,
        init_cash=1.0 / len(symbols),
        freq=INTERVALS[bars.interval],
    )


def equity(bars: Bars, fills: pl.DataFrame, costs: Costs) -> pl.DataFrame:
    """time, equity as vectorbt accounts for `fills`."""
    value = portfolio(bars, fills, costs).value()
    columns = value.to_frame() if value.ndim == 1 else value
    total = sum(columns[name].to_numpy() for name in columns.columns)
    return bars.frame.select(pl.col("time").unique().sort()).with_columns(equity=pl.Series(total))


def _wide(frame: pl.DataFrame, value: str, symbols: list[str]) -> pl.DataFrame:
    wide = frame.pivot(on="symbol", on_columns=symbols, index="time", values=value).sort("time")
    return wide.select("time", pl.col(symbols).cast(pl.Float64))
