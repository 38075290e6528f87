"""The slow accountant: the same money as `lab.backtest`, event by event, in decimals, written from its docstrings.

It shares no code with the engine. Two events make a bar: its open, where a waiting order is filled or lapses, and
its close, where the position is marked and the next order is written.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Context, Decimal, localcontext
from typing import Any

PRECISE = Context(prec=40)
BASIS_POINT = Decimal("0.0001")
A_WEEK = timedelta(days=7)


@dataclass(frozen=True)
class Fill:
    symbol: str
    time: datetime
    units: Decimal
    price: Decimal
    fee: Decimal


@dataclass(frozen=True)
class Mark:
    """What a sleeve has at a close."""

    symbol: str
    time: datetime
    cash: Decimal
    units: Decimal
    equity: Decimal


@dataclass
class Books:
    fills: list[Fill] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    equity: list[tuple[datetime, Decimal]] = field(default_factory=list)


class Sleeve:
    """The money of one symbol."""

    def __init__(self, symbol: str, capital: Decimal, fee_bps: float, slippage_bps: float) -> None:
        self.symbol = symbol
        self.cash = self.worth = capital
        self.units = Decimal(0)
        self.order: Decimal | None = None
        self.last_filled = Decimal(0)
        self.ruined = False
        self.last_close: datetime | None = None
        self.fee = Decimal(fee_bps) * BASIS_POINT
        self.slippage = Decimal(slippage_bps) * BASIS_POINT

    def at_open(self, time: datetime, price: Decimal, volume: float | None, longest_step: timedelta) -> Fill | None:
        """Fill what waits, if this bar follows the one that decided and something traded in it."""
        if self.last_close is not None and time - self.last_close > A_WEEK:
            self.cash, self.units, self.last_filled = self.worth, Decimal(0), Decimal(0)
        order, self.order = self.order, None
        follows = self.last_close is not None and time - self.last_close <= longest_step
        if order is None or not follows or volume == 0:
            return None
        self.last_filled = order
        worth = self.cash + self.units * price
        wanted = order * worth / price if worth > 0 else Decimal(0)
        if wanted > self.units:
            fill = self._buy(time, wanted - self.units, price * (1 + self.slippage))
        elif wanted < self.units:
            fill = self._exchange(time, wanted - self.units, price * (1 - self.slippage))
        else:
            return None
        return fill if fill.units != 0 else None

    def _buy(self, time: datetime, units: Decimal, price: Decimal) -> Fill:
        affordable = self.cash / (price * (1 + self.fee))
        short = max(-self.units, Decimal(0))  # what is owed is bought back on credit, if need be
        return self._exchange(time, min(units, max(affordable, short, Decimal(0))), price)

    def _exchange(self, time: datetime, units: Decimal, price: Decimal) -> Fill:
        fee = abs(units) * price * self.fee
        self.cash -= units * price + fee
        self.units += units
        return Fill(self.symbol, time, units, price, fee)

    def at_close(self, time: datetime, price: Decimal, target: Decimal) -> Mark:
        """Mark the position, and write an order for the next bar if the target is not the one last filled."""
        self.worth = self.cash + self.units * price
        self.ruined = self.ruined or self.worth <= 0
        wanted = Decimal(0) if self.ruined else target
        self.order = wanted if wanted != self.last_filled else None
        self.last_close = time
        return Mark(self.symbol, time, self.cash, self.units, self.worth)


def account(
    bars: Sequence[Mapping[str, Any]],
    targets: Sequence[float],
    fee_bps: float,
    slippage_bps: float,
    longest_step: timedelta,
) -> Books:
    """Trade `targets`, one a bar (symbol, time, open, close, volume), with a capital of 1 shared out equally.

    longest_step: from one close to the next without a gap.
    """
    with localcontext(PRECISE):
        symbols = sorted({bar["symbol"] for bar in bars})
        share = Decimal(1) / len(symbols)
        sleeves = {symbol: Sleeve(symbol, share, fee_bps, slippage_bps) for symbol in symbols}
        books = Books()
        moments: dict[datetime, list[tuple[Mapping[str, Any], float]]] = {}
        for bar, target in zip(bars, targets, strict=True):
            moments.setdefault(bar["time"], []).append((bar, target))
        for time in sorted(moments):
            for bar, target in moments[time]:
                sleeve = sleeves[bar["symbol"]]
                fill = sleeve.at_open(time, Decimal(bar["open"]), bar["volume"], longest_step)
                books.fills += [fill] if fill else []
                books.marks.append(sleeve.at_close(time, Decimal(bar["close"]), Decimal(target)))
            books.equity.append((time, sum((each.worth for each in sleeves.values()), Decimal(0))))
        books.fills.sort(key=lambda fill: (fill.symbol, fill.time))
        books.marks.sort(key=lambda mark: (mark.symbol, mark.time))
        return books


def rebook(
    bars: Iterable[Mapping[str, Any]], units: Mapping[tuple[str, datetime], float], fee_bps: float, slippage_bps: float
) -> dict[tuple[str, datetime], Decimal]:
    """Worth of each sleeve at every close, had exactly these units changed hands in these bars, at these costs.

    No size depends on a cost here, so every buy gets dearer and every sale brings less as costs rise: the worth
    at any close falls with each of them. Of an engine that sizes by what it is worth this is no theorem.
    """
    rows = sorted(bars, key=lambda bar: (bar["symbol"], bar["time"]))
    share = Decimal(1) / len({bar["symbol"] for bar in rows})
    fee, slippage = Decimal(fee_bps) * BASIS_POINT, Decimal(slippage_bps) * BASIS_POINT
    worth: dict[tuple[str, datetime], Decimal] = {}
    symbol, last = None, rows[0]["time"] if rows else None
    with localcontext(PRECISE):
        for bar in rows:
            if bar["symbol"] != symbol:
                symbol, cash, held = bar["symbol"], share, Decimal(0)
            elif bar["time"] - last > A_WEEK:
                cash, held = worth[symbol, last], Decimal(0)
            last = bar["time"]
            traded = Decimal(units.get((bar["symbol"], bar["time"]), 0.0))
            price = Decimal(bar["open"]) * (1 + slippage if traded > 0 else 1 - slippage)
            cash -= traded * price + abs(traded) * price * fee
            held += traded
            worth[bar["symbol"], bar["time"]] = cash + held * Decimal(bar["close"])
    return worth
