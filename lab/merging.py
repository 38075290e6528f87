"""How the columns of short bars make those of one longer bar."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from lab.nouns import OFI_COLUMNS, Vector

Rows = npt.NDArray[np.integer[Any]]
SUMS = ("volume", "buy_volume", "quote_volume", "trades", "headlines", "sentiment", *OFI_COLUMNS)
STANDING = (
    *("close", "bid", "ask", "bid_size", "ask_size", "micro_price", "depth_slope"),
    *("funding_rate", "open_interest", "accounts_ratio", "taker_ratio", "premium", "mood"),
)
MERGED = ("open", "high", "low", *SUMS, *STANDING, "vwap")


def merged(columns: Mapping[str, Vector], first: Rows) -> dict[str, Vector]:
    """The columns of longer bars, each from the rows between one of `first` and the next; NaN where a part is.

    Volumes, trades and order flow are sums; vwap is weighted by volume, so it needs that; what stood at a close is
    that of the last row. Other columns, the mean spread among them, have no longer form and are left out.
    """
    if not first.size:
        return {name: np.empty(0) for name in columns if name in MERGED}
    last = np.append(first[1:], next(iter(columns.values())).size) - 1
    longer: dict[str, Vector] = {}
    for name, column in columns.items():
        if name == "open":
            longer[name] = column[first]
        elif name == "high":
            longer[name] = np.maximum.reduceat(column, first)
        elif name == "low":
            longer[name] = np.minimum.reduceat(column, first)
        elif name in SUMS:
            longer[name] = np.add.reduceat(column, first)  # unlike a grouped sum, twice the same bits
        elif name in STANDING:
            longer[name] = column[last]
        elif name == "vwap":
            volume = columns["volume"]
            longer[name] = np.add.reduceat(column * volume, first) / np.add.reduceat(volume, first)
    return longer
