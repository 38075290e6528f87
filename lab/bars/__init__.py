"""Trades, quotes and books → closed bars; the only place where a bar is closed.

Batches may be of any size: what comes out does not depend on where the rows were cut.
"""

from lab.bars.book import SILENCE, with_book
from lab.bars.days import by_day
from lab.bars.longer import resample
from lab.bars.trades import Closer, close_bars

__all__ = ["SILENCE", "Closer", "by_day", "close_bars", "resample", "with_book"]
