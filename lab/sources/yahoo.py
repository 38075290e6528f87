"""Daily stock prices, dividends and splits as the Python package yfinance saves them from Yahoo.

What Yahoo calls the close is divided by every later split, and `Adj Close` by every later dividend too:
https://github.com/ranaroussi/yfinance/issues/1749 (its column) and issues/2611 (its splits).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar

import polars as pl

from lab.errors import SourceError, UsageError
from lab.kinds import KINDS
from lab.nouns import PRICES, TIME, Bars, Piece, Table
from lab.sources import Request
from lab.sources.files.table_files import digest_of, table_of
from lab.sources.rows import sift, sift_kind
from lab.sources.vendor import storable

DAY = timedelta(days=1)
LONGEST_STEP = timedelta(days=3)  # that is still usual between sessions
SAVE_RIGHT = 'save it by yfinance.Ticker("AAPL").history(period="max", auto_adjust=False).to_csv("AAPL.csv")'
NUMBERS = {"open": "Open", "high": "High", "low": "Low", "close": "Close", "volume": "Volume"}
ACTIONS = {"dividend": "Dividends", "split": "Stock Splits"}
# A row that only another ticker of the file has is left empty.
TRADED = pl.any_horizontal(pl.col(*NUMBERS.values()).is_not_null())
NEEDED = ("Date", *NUMBERS.values(), "Adj Close", *ACTIONS.values())


@dataclass(frozen=True)
class Yahoo:
    """Daily bars and actions (dividends, splits) of stocks from a CSV that yfinance saved (--path).

    Of `Ticker.history(auto_adjust=False)`, or `download(auto_adjust=False, actions=True)` of one or more tickers.
    Bars are as they traded on their day: Yahoo divides prices and dividends by every later split (and multiplies
    volumes), which is undone with the splits in the file, so it should reach up to the day it was saved. `Adj Close`
    is not stored, as it changes with every later dividend. A session counts as closed at the UTC midnight after it;
    one that was not over when the file was written is rejected. Actions are known from the midnight, in the file's own
    zone, that begins their ex-date.
    """

    path: Path | None = None

    kinds: ClassVar[tuple[str, ...]] = ("bars", "actions")

    def count(self, request: Request) -> int:
        return len(request.symbols)

    def symbols(self, kind: str, interval: str) -> list[str]:
        """The tickers that the file names; a file of a single one names none, which is a UsageError."""
        sheets = _sheets(self._given())
        if None in sheets:
            raise UsageError("the file does not say whose prices it holds", fix="name the symbol")
        return [ticker for ticker in sheets if ticker]

    def fetch(self, request: Request, done: Mapping[str, str]) -> Iterator[Piece]:
        if request.of_kind(*self.kinds) == "bars" and request.interval != "1d":
            raise UsageError(f"this source has no {request.interval} bars", fix="ask for --interval 1d")
        path = self._given()
        digest = digest_of(path)
        origins = {symbol: f"{path.name} {symbol} {digest[:16]}" for symbol in request.symbols}
        missing = [symbol for symbol in request.symbols if origins[symbol] not in done]
        if not missing:
            return
        sheets = _sheets(path)
        for symbol in missing:
            if None in sheets and len(request.symbols) > 1:
                raise UsageError(f"{path.name} holds one symbol, not {len(request.symbols)}", fix="name one")
            sheet = sheets.get(None, sheets.get(symbol))
            if sheet is None:
                held = ", ".join(ticker for ticker in sheets if ticker)
                raise UsageError(f"{path.name} has no rows of {symbol}", fix=f"ask for one of {held}")
            rows = _sessions(path, sheet).with_columns(symbol=pl.lit(symbol))
            if request.kind == "bars":
                written = datetime.fromtimestamp(path.stat().st_mtime, UTC)
                bars, rejected, repeats = _bars(rows, min(written, datetime.now(UTC)))
                yield Piece(symbol, origins[symbol], digest, bars, rejected, repeats)
            else:
                actions, rejected, repeats = _actions(rows)
                yield Piece(symbol, origins[symbol], digest, actions, rejected, repeats)

    def _given(self) -> Path:
        if self.path is None:
            raise UsageError("which file?", fix="add --path FILE")
        return self.path


def _sheets(path: Path) -> dict[str | None, pl.DataFrame]:
    """The columns of each ticker as text, by our symbol; by None where the file holds one and does not name it."""
    table = table_of(path, headed=False).collect()
    heads = [list(table.row(n)) for n in range(min(3, table.height))]
    if not heads or heads[0][0] not in ("Price", "Ticker"):
        return {None: _checked(path, table[1:], heads[0] if heads else [])}
    # yfinance.download writes two rows of names, in either order, then one that only says Date.
    first = {head[0]: head[1:] for head in heads}
    if {*first} != {"Price", "Ticker", "Date"}:
        raise SourceError(f"{path.name} begins with {heads[0][:3]}, which is no table of yfinance", fix=SAVE_RIGHT)
    names, tickers = first["Price"], first["Ticker"]
    sheets: dict[str | None, pl.DataFrame] = {}
    for ticker in dict.fromkeys(tickers):
        own = [n for n, owner in enumerate(tickers) if owner == ticker]
        body = _checked(path, table[3:, [0, *(n + 1 for n in own)]], ["Date", *(names[n] for n in own)])
        symbol = pl.select(storable(pl.lit(ticker)).str.strip_chars_start("._-")).item()
        sheets[symbol] = body if len({*tickers}) == 1 else body.filter(TRADED)
    return sheets


def _checked(path: Path, body: pl.DataFrame, names: list[str | None]) -> pl.DataFrame:
    missing = [name for name in NEEDED if name not in names]
    if "Date" in missing:
        raise SourceError(f"{path.name} has no Date: it is no daily history of yfinance", fix=SAVE_RIGHT)
    if "Adj Close" in missing:
        raise SourceError(
            f"{path.name} has no 'Adj Close': its prices are adjusted already, or yfinance did not save it",
            fix=SAVE_RIGHT,
        )
    if missing:
        raise SourceError(f"{path.name} has no {', '.join(missing)}: it has no actions", fix=SAVE_RIGHT)
    if len({*names}) < len(names):
        raise SourceError(f"{path.name} names a column twice: {', '.join(map(str, names))}", fix=SAVE_RIGHT)
    return body.rename(dict(zip(body.columns, map(str, names), strict=True))).select(NEEDED)


def _sessions(path: Path, sheet: pl.DataFrame) -> pl.DataFrame:
    """Every row as it traded: its date, the moment that began it, prices, volume, and what was paid or split."""
    date = pl.col("Date").str.slice(0, 10).str.to_datetime("%Y-%m-%d", time_unit="us", time_zone="UTC", strict=False)
    zoned = pl.col("Date").str.to_datetime("%Y-%m-%d %H:%M:%S%#z", time_unit="us", time_zone="UTC", strict=False)
    rows = sheet.select(
        date=date,
        began=pl.coalesce(zoned, date),
        unread_bar=pl.coalesce(map(_unread, NUMBERS.values())),
        unread_action=_unread("Dividends"),
        **{ours: _number(theirs) for ours, theirs in {**NUMBERS, **ACTIONS}.items()},
    ).sort("date", maintain_order=True)
    usual = rows["date"].drop_nulls().diff().drop_nulls().mode()
    if usual.len() and usual.min() > LONGEST_STEP:  # type: ignore[operator]
        raise SourceError(f"the rows of {path.name} are mostly {usual[0]} apart, not a day", fix=SAVE_RIGHT)
    wrong = sheet.filter(_unread("Stock Splits").is_not_null() | (_number("Stock Splits") < 0))
    if wrong.height:
        of_date, split = wrong.select("Date", "Stock Splits").row(0)
        raise SourceError(f"{path.name} says {split!r} for the split of {of_date}", fix=SAVE_RIGHT)
    # What Yahoo calls no split is 0 or nothing.
    split = pl.when(pl.col("split") > 0).then("split").otherwise(1.0)
    once = pl.when(pl.col("date").is_first_distinct()).then(split).otherwise(1.0)
    later = once.cum_prod(reverse=True) / once  # the ex-date itself is traded after the split
    return rows.with_columns(
        *(pl.col(name) * later for name in PRICES),
        volume=(pl.col("volume") / later).round(),
        dividend=pl.col("dividend").fill_null(0.0) * later,
        split=split,
    )


def _number(column: str) -> pl.Expr:
    return pl.col(column).str.strip_chars().cast(pl.Float64, strict=False)


def _unread(column: str) -> pl.Expr:
    """Why a cell cannot be read; null where it can, or is empty."""
    wrong = pl.col(column).is_not_null() & _number(column).is_null()
    return pl.when(wrong).then(pl.format(f"{column} is {{}}, which is no number", column))


def _bars(rows: pl.DataFrame, written: datetime) -> tuple[Bars, pl.DataFrame, int]:
    closes = rows.select("symbol", *NUMBERS, time=pl.col("date") + DAY, unread="unread_bar")
    early = pl.when(pl.col("time") > written).then(pl.lit("the session was not over when the file was written"))
    bars, rejected, repeats = sift(closes, "1d", "weekdays", suspect=pl.coalesce("unread", early))
    return bars, rejected.drop("unread"), repeats


def _actions(rows: pl.DataFrame) -> tuple[Table, pl.DataFrame, int]:
    told = rows.select("symbol", *ACTIONS, time="date", known_at=pl.col("began").cast(TIME), unread="unread_action")
    happened = told.filter((pl.col("dividend") != 0) | (pl.col("split") != 1) | pl.col("unread").is_not_null())
    good, rejected, repeats = sift_kind(KINDS["actions"], happened, suspect=pl.col("unread"))
    return Table("actions", good), rejected.drop("unread"), repeats


yahoo = Yahoo()
