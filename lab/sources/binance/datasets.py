"""What Binance's public archive holds, and how its objects are named.

https://github.com/binance/binance-public-data
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from lab.nouns import EVENTS, INTERVALS, Span

DAY = timedelta(days=1)
SYMBOL = re.compile(r"[A-Z0-9][A-Z0-9_]{0,31}")
WRITTEN_TIME = re.compile(r"\d{10,19}|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
BYTES_AT_LEAST = 1 << 16
BYTES_PER_BAR = 320  # more than twice what a line takes, as some files held each row twice

INTEGER, TEXT, NUMBER, MOMENT = pl.Int64(), pl.String(), pl.Float64(), pl.Datetime("us")
# Columns have these types wherever they occur; all others are numbers.
TYPES: Mapping[str, pl.DataType] = {
    **dict.fromkeys(("open_time", "close_time", "transact_time", "time", "calc_time"), INTEGER),
    **dict.fromkeys(("transaction_time", "event_time", "update_id", "id"), INTEGER),
    **dict.fromkeys(("agg_trade_id", "first_trade_id", "last_trade_id"), INTEGER),
    **dict.fromkeys(("is_buyer_maker", "is_best_match"), pl.Boolean()),
    **dict.fromkeys(("symbol", "side", "order_type", "time_in_force", "order_status", "ignore"), TEXT),
    **dict.fromkeys(("timestamp", "create_time"), MOMENT),
}
KLINES = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore"
)
AGGREGATED = "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker"
TRADES = "id,price,qty,quote_qty,time,is_buyer_maker"


@dataclass(frozen=True)
class Dataset:
    """A folder of the archive: the kind of data it holds, in files of a month, of a day, or both.

    `headers` are the first lines that its files have, or would have: not all say their columns' names. Of two
    cadences the first is asked first. `bytes_per_day` is the most that the CSV of one day can take, zero where that
    follows from the interval. `row` is what a reader calls a row.
    """

    folder: str
    kind: str
    row: str
    time: str
    headers: tuple[str, ...]
    cadences: tuple[str, ...]
    bytes_per_day: int = 0

    def layout(self, first_line: str) -> tuple[dict[str, pl.DataType], bool] | None:
        """Name and type of the columns of a file that begins with this line, and whether that is a header.

        Whether it is data shows in the column of the time, as some numbers begin a header and some texts data;
        None where it is neither.
        """
        cells = first_line.split(",")
        headed = first_line in self.headers
        fitting = (cells,) if headed else (header.split(",") for header in self.headers)
        names = next((names for names in fitting if len(names) == len(cells)), None)
        if names is None or not (headed or WRITTEN_TIME.fullmatch(cells[names.index(self.time)])):
            return None
        return {name: TYPES.get(name, NUMBER) for name in names}, headed

    @property
    def gridded(self) -> bool:
        return not self.bytes_per_day

    @property
    def huge(self) -> bool:
        """Whether a file may be too large to be held in memory with several others."""
        return self.bytes_per_day >= 1 << 30


_BY_MONTH, _BY_DAY = ("monthly", "daily"), ("daily", "monthly")
MEBIBYTE, GIBIBYTE = 1 << 20, 1 << 30
DATASETS = {
    "bars": Dataset("klines", "bars", "bar", "open_time", (KLINES,), _BY_MONTH),
    "mark": Dataset("markPriceKlines", "mark", "bar", "open_time", (KLINES,), _BY_MONTH),
    "index": Dataset("indexPriceKlines", "index", "bar", "open_time", (KLINES,), _BY_MONTH),
    "premium": Dataset("premiumIndexKlines", "premium", "bar", "open_time", (KLINES,), _BY_MONTH),
    "trades": Dataset(
        "aggTrades",
        "trades",
        "trade",
        "transact_time",
        (AGGREGATED, f"{AGGREGATED},is_best_match"),
        _BY_DAY,
        4 * GIBIBYTE,
    ),
    "quotes": Dataset(
        "bookTicker",
        "quotes",
        "quote",
        "transaction_time",
        ("update_id,best_bid_price,best_bid_qty,best_ask_price,best_ask_qty,transaction_time,event_time",),
        _BY_DAY,
        8 * GIBIBYTE,
    ),
    "depth": Dataset(
        "bookDepth", "depth", "band", "timestamp", ("timestamp,percentage,depth,notional",), ("daily",), 16 * MEBIBYTE
    ),
    "metrics": Dataset(
        "metrics",
        "metrics",
        "measurement",
        "create_time",
        (
            "create_time,symbol,sum_open_interest,sum_open_interest_value,count_toptrader_long_short_ratio,"
            "sum_toptrader_long_short_ratio,count_long_short_ratio,sum_taker_long_short_vol_ratio",
        ),
        ("daily",),
        MEBIBYTE,
    ),
    "funding": Dataset(
        "fundingRate",
        "funding",
        "funding",
        "calc_time",
        # The second as the REST interface has them.
        (
            "calc_time,funding_interval_hours,last_funding_rate",
            "calc_time,funding_interval_hours,last_funding_rate,mark_price",
        ),
        ("monthly",),
        1 << 14,
    ),
    "liquidations": Dataset(
        "liquidationSnapshot",
        "liquidations",
        "liquidation",
        "time",
        (
            "time,side,order_type,time_in_force,original_quantity,price,average_price,order_status,"
            "last_fill_quantity,accumulated_fill_quantity",
        ),
        ("daily",),
        256 * MEBIBYTE,
    ),
}
RAW_TRADES = Dataset(
    "trades",
    "trades",
    "trade",
    "time",
    (TRADES, f"{TRADES},is_best_match", TRADES.replace("quote_qty", "base_qty")),
    _BY_DAY,
    4 * GIBIBYTE,
)


@dataclass(frozen=True)
class Archive:
    """One object of the archive: what a dataset has of one symbol in one period, a month or a day."""

    market: str
    dataset: Dataset
    symbol: str
    interval: str
    period: Span

    @property
    def monthly(self) -> bool:
        return self.period.end - self.period.start > DAY

    @property
    def tag(self) -> str:
        return self.dataset.folder if self.interval == EVENTS else self.interval

    @property
    def stem(self) -> str:
        return f"{self.symbol}-{self.tag}-{self.period.start:{'%Y-%m' if self.monthly else '%Y-%m-%d'}}"

    @property
    def origin(self) -> str:
        cadence = "monthly" if self.monthly else "daily"
        subfolder = "" if self.interval == EVENTS else f"{self.interval}/"
        return f"{folder(self.market, cadence, self.dataset)}{self.symbol}/{subfolder}{self.stem}.zip"

    @property
    def bytes_at_most(self) -> int:
        """Of its CSV."""
        length = self.period.end - self.period.start
        if self.dataset.gridded:
            return BYTES_AT_LEAST + BYTES_PER_BAR * (length // INTERVALS[self.interval])
        return BYTES_AT_LEAST + self.dataset.bytes_per_day * (length // DAY)


def folder(market: str, cadence: str, dataset: Dataset) -> str:
    """Where the archive has a dataset of a market, a folder per symbol."""
    return f"data/{market}/{cadence}/{dataset.folder}/"


def files_of(market: str, cadence: str, dataset: Dataset) -> re.Pattern[str]:
    """What the keys in that folder look like; strays do not. Its first group is the symbol."""
    period = r"\d{4}-\d\d" if cadence == "monthly" else r"\d{4}-\d\d-\d\d"
    tag, sub = (r"\w{2,3}", r"\w{2,3}/") if dataset.gridded else (dataset.folder, "")
    place = re.escape(folder(market, cadence, dataset))
    return re.compile(rf"{place}({SYMBOL.pattern})/{sub}\1-{tag}-{period}\.zip")
