"""Bars → answers, each with the moment it is settled.

Whoever acts on bar t can first trade at the open of t + 1, so every answer starts there. No answer reaches across
a gap: where the next `horizon` bars are not all there, it is null.
"""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
import polars as pl

from lab.compiled import compiled
from lab.errors import UsageError
from lab.nouns import Bars, Label, Vector, settings_text
from lab.registry import Call, Registry, parameters_of

Formula = TypeVar("Formula", bound=Callable[..., pl.Expr])
Kind = Literal["return", "class"]
BASIS_POINT = 1e-4


@dataclass(frozen=True)
class Definition:
    """A registered label, before its parameters are chosen."""

    name: str
    meaning: str
    kind: Kind
    formula: Callable[..., pl.Expr]

    @property
    def signature(self) -> str:
        """What a person can write, with the defaults."""
        return self.name + parameters_of(self.formula)


LABELS: Registry[Definition] = Registry("label")


def label(kind: Kind) -> Callable[[Formula], Formula]:
    """Register a function of (horizon, …) → struct expression of `answer` and `bars` until it is settled.

    A parameter named `vol_window` is how many returns back the label looks for volatility.
    """

    def register(formula: Formula) -> Formula:
        meaning = (inspect.getdoc(formula) or "").split("\n\n")[0].replace("\n", " ")
        LABELS.add(formula.__name__, Definition(formula.__name__, meaning, kind, formula))
        return formula

    return register


def resolve(text: str) -> Label:
    """The label that `text` names, e.g. `forward_return(30)`."""
    call = Call.parse(text)
    definition = LABELS[call.name]
    parameters: dict[str, Any] = call.bind(definition.formula)
    if parameters["horizon"] < 1:
        raise UsageError(f"{text} has a horizon of {parameters['horizon']} bars", fix="give a horizon of 1 or more")
    if parameters.get("vol_window", 2) < 2:
        raise UsageError(f"{text} has a vol_window of {parameters['vol_window']}", fix="give a vol_window of 2 or more")
    name = f"{definition.name}_{settings_text(parameters)}"
    lookback = parameters.get("vol_window", 0) + 1
    return Label(
        name, definition.meaning, definition.kind, definition.formula(**parameters), parameters["horizon"], lookback
    )


def settle(bars: Bars, label: Label) -> pl.DataFrame:
    """`answer` and `settled_at` for every row of `bars`, behind `symbol` and `time`; both null while unsettled.

    `settled_at` is the close of the bar at which the answer was known.
    """
    keys = bars.frame.select("symbol", "time")
    stretches = bars.stretches() or [(0, 0)]
    parts = [settle_stretch(bars.frame.slice(start, length), label) for start, length in stretches]
    return keys.hstack(pl.concat(parts))


def settle_stretch(frame: pl.DataFrame, label: Label) -> pl.DataFrame:
    """`answer` and `settled_at` over the rows of one unbroken stretch of one symbol."""
    row = pl.int_range(pl.len())
    known = (
        frame.select(label.answer.alias("label"), "time")
        .unnest("label")
        .with_columns(
            known=(row >= label.lookback - 1) & pl.col("answer").is_finite() & (row + label.horizon < pl.len())
        )
    )
    settled_row = (row + pl.col("bars").cast(pl.Int64)).clip(upper_bound=pl.len() - 1)
    return known.select(
        answer=pl.when("known").then("answer"),
        settled_at=pl.when("known").then(pl.col("time").gather(settled_row.fill_null(0))),
    )


@label("return")
def forward_return(horizon: int = 1) -> pl.Expr:
    """ln(C[+horizon] / O[+1]): what holding from the next open to that close earns, before costs."""
    earned = (pl.col("close").shift(-horizon) / pl.col("open").shift(-1)).log()
    return _settled_after(horizon, earned)


@label("class")
def direction(horizon: int = 1, band_bps: float = 0.0, band_vol: float = 0.0, vol_window: int = 60) -> pl.Expr:
    """Sign of forward_return outside a band, 0 inside it.

    The band is the larger of `band_bps` basis points (what a round trip costs, say) and `band_vol` deviations of
    the return over the horizon, from the last `vol_window` returns. Null where volatility is not known.
    """
    earned = (pl.col("close").shift(-horizon) / pl.col("open").shift(-1)).log()
    band = pl.max_horizontal(pl.lit(band_bps * BASIS_POINT), band_vol * _volatility(vol_window, horizon))
    known = earned.is_not_null() & _volatility(vol_window, horizon).is_not_null()
    side = pl.when(earned > band).then(1.0).when(earned < -band).then(-1.0).otherwise(0.0)
    return _settled_after(horizon, pl.when(known).then(side))


@label("class")
def triple_barrier(horizon: int = 30, up: float = 1.5, down: float = 1.5, vol_window: int = 60) -> pl.Expr:
    """1 if price reaches the upper barrier first, -1 the lower, 0 neither within `horizon` bars.

    Barriers lie `up` and `down` deviations from the next open, where a deviation is that of the last `vol_window`
    returns, scaled to the horizon by its root; null where that is 0, since any bar touches barriers of no width.
    A bar that spans both counts as the lower one: the order within a bar is not known. Settled at the bar of the
    touch. López de Prado (2018), chapter 3.
    """

    def touched(columns: pl.Series) -> pl.Series:
        o, h, low, vol = (columns.struct.field(name).cast(pl.Float64).to_numpy() for name in ("o", "h", "l", "vol"))
        answer, bars = first_touch(o, h, low, vol, horizon, up, down)
        return pl.DataFrame({"answer": answer, "bars": bars}).to_struct("label")

    inputs = pl.struct(o=pl.col("open"), h=pl.col("high"), l=pl.col("low"), vol=_volatility(vol_window, horizon))
    return inputs.map_batches(touched, return_dtype=pl.Struct({"answer": pl.Float64, "bars": pl.Int64}))


@compiled
def first_touch(
    opens: Vector, highs: Vector, lows: Vector, volatility: Vector, horizon: int, up: float, down: float
) -> tuple[Vector, "np.typing.NDArray[np.int64]"]:
    """Which barrier each row's next `horizon` bars touch first, and after how many bars; NaN without volatility."""
    n = opens.size
    answer = np.full(n, np.nan)
    bars = np.full(n, horizon)
    for t in range(n - horizon):
        if not volatility[t] > 0.0:
            continue
        upper = opens[t + 1] * math.exp(up * volatility[t])
        lower = opens[t + 1] * math.exp(-down * volatility[t])
        answer[t] = 0.0
        for ahead in range(1, horizon + 1):
            if lows[t + ahead] <= lower:
                answer[t] = -1.0
            elif highs[t + ahead] >= upper:
                answer[t] = 1.0
            if answer[t] != 0.0:
                bars[t] = ahead
                break
    return answer, bars


def _volatility(window: int, horizon: int) -> pl.Expr:
    returns = (pl.col("close") / pl.col("close").shift(1)).log()
    return returns.rolling_std(window) * math.sqrt(horizon)


def _settled_after(horizon: int, answer: pl.Expr) -> pl.Expr:
    return pl.struct(answer=answer, bars=pl.lit(horizon, dtype=pl.Int64))
