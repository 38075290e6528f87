"""The gap ledger: what should be there and is not, with the reason where it is known; and what looks wrong.

Nothing here changes a row. A gap's reason is, in this order: rows that were rejected, a known event (lab/known.py),
bars that most symbols of the source lack at the same time, an object that the source did not have, a source that is
silent without trades, a price on the other side that only another coin can have. Else it is unknown.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import exp, log
from typing import Any

import polars as pl

from lab import known
from lab.nouns import INTERVALS, TIME, Bars, is_clocked

SHARED = 0.8  # of the symbols that had bars before and after: then it was the exchange
AT_LEAST_SYMBOLS = 3
ANOTHER_COIN = log(10)  # a price ten times as high or low across a day or more without bars
HALT_BARS = 15  # flat and empty bars in a row, of a symbol that otherwise trades
TRADES_USUALLY = 0.95  # share of its bars with volume
WILD_DEVIATIONS, WILD_RETURN = 20.0, 0.1  # a jump: beyond both
NORMAL_MAD = 1.4826  # deviation of a normal variable per median absolute value
LEDGER = {
    "source": pl.String(),
    "symbol": pl.String(),
    "interval": pl.String(),
    "after": TIME,
    "before": TIME,
    "missing": pl.Int64(),
    "reason": pl.String(),
    "note": pl.String(),
}


@dataclass(frozen=True)
class Seen:
    """What the ledger needs of one symbol's bars: first and last close, gaps with the prices around them, halts."""

    symbol: str
    interval: str
    first: datetime
    last: datetime
    gaps: pl.DataFrame
    halts: pl.DataFrame


@dataclass(frozen=True)
class Market:
    """What was seen of every symbol of a source at one interval, rejected rows, and spans the source did not have."""

    source: str
    seen: Sequence[Seen]
    rejected: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema={"symbol": pl.String(), "time": TIME}))
    absent: Collection[tuple[str, datetime, datetime]] = ()  # symbol, from, to


def look(bars: Bars) -> Seen:
    """The gaps and halts of one symbol's bars."""
    first, last = bars.closes
    closes = bars.frame.select("time", "close")
    around = bars.gaps().join(closes.rename({"time": "after", "close": "price_after"}), on="after", how="left")
    around = around.join(closes.rename({"time": "before", "close": "price_before"}), on="before", how="left")
    return Seen(bars.symbols[0], bars.interval, first, last, around, _halts(bars))


def ledger(market: Market) -> pl.DataFrame:
    """Every gap and every halt: source, symbol, interval, the closes around it, bars missing, reason, note.

    A halt that the exchange filled with flat bars lacks none: its `missing` is 0 and its closes are those around the
    flat bars.
    """
    rows: list[dict[str, object]] = []
    for seen in market.seen:
        told = {"source": market.source, "symbol": seen.symbol, "interval": seen.interval}
        for gap in seen.gaps.iter_rows(named=True):
            bounds = {name: gap[name] for name in ("after", "before", "missing")}
            rows.append({**told, **bounds, **_explained(market, seen, gap)})
        rows += [{**told, "missing": 0, "reason": "halt", **halt} for halt in seen.halts.iter_rows(named=True)]
    return pl.DataFrame(rows, schema=LEDGER).sort("after", "symbol")


def quality(bars: Bars) -> dict[str, object]:
    """What a symbol's bars look like: how many, missing, without volume, frozen, jumping; the largest jump and when.

    Frozen bars repeat one price throughout and since the bar before. A jump is a return beyond 10 % and 20 deviations,
    as the median absolute return has them; none is counted across a gap.
    """
    frame = bars.frame.with_columns(bars.segment)
    gaps = bars.gaps()
    move = pl.col("close").log().diff().over("segment")
    frozen = (pl.col("high") == pl.col("low")) & (pl.col("close") == pl.col("close").shift(1).over("segment"))
    facts = frame.select(
        rows=pl.len(),
        no_volume=(pl.col("volume") == 0).sum(),
        frozen=frozen.sum(),
        usual=move.abs().filter(move != 0).median(),
    ).row(0, named=True)
    bound = max(WILD_RETURN, WILD_DEVIATIONS * NORMAL_MAD * (facts.pop("usual") or 0.0))
    jumps = frame.select("time", move=move).filter(pl.col("move").abs() > bound).sort(pl.col("move").abs())
    largest = jumps.row(-1, named=True) if jumps.height else None
    return {
        "symbol": bars.symbols[0],
        "interval": bars.interval,
        **facts,
        "gaps": gaps.height,
        "missing": int(gaps["missing"].sum()),
        "jumps": jumps.height,
        "largest_jump": exp(largest["move"]) - 1 if largest else None,
        "largest_jump_at": largest["time"] if largest else None,
    }


def id_holes(batches: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Where the numbers of trades are not contiguous: the times around the hole, and how many numbers are missing."""
    found, last = [], None
    for rows in batches:
        if "id" not in rows.columns:
            continue
        carried = rows.select("time", "id") if last is None else pl.concat([last, rows.select("time", "id")])
        step = pl.col("id").diff()
        found.append(
            carried.select(after=pl.col("time").shift(1), before="time", missing=step - 1).filter(pl.col("missing") > 0)
        )
        last = rows.select("time", "id").tail(1)
    return pl.concat(found) if found else pl.DataFrame(schema={"after": TIME, "before": TIME, "missing": pl.Int64()})


def _explained(market: Market, seen: Seen, gap: dict[str, Any]) -> dict[str, str]:
    symbol, after, before = seen.symbol, gap["after"], gap["before"]
    between = (pl.col("symbol") == symbol) & (pl.col("time") > after) & (pl.col("time") < before)
    if refused := market.rejected.filter(between).height:
        return _because("rejected", f"{refused} rows in between could not be bars; they are in quarantine")
    if event := known.event(market.source, symbol, after, before):
        return _because(event.reason, event.note)
    alive, without = _others(market, after, before)
    if alive >= AT_LEAST_SYMBOLS and without >= SHARED * alive:
        return _because("outage", f"{without} of {alive} symbols that traded before and after lack these bars")
    if any(each[0] == symbol and each[1] < before and each[2] > after for each in market.absent):
        return _because("not published", "the source has no file for it")
    if before - after > timedelta(days=1) and abs(log(gap["price_before"] / gap["price_after"])) > ANOTHER_COIN:
        return _because("re-used", "the price on the other side is of another order: another coin under this name?")
    if market.source in known.SILENT_WITHOUT_TRADES:
        return _because("no trades", "the source has no row for an interval without trades")
    return _because("unknown", "")


def _because(reason: known.Reason, note: str) -> dict[str, str]:
    return {"reason": reason, "note": note}


def _others(market: Market, after: datetime, before: datetime) -> tuple[int, int]:
    """How many symbols had bars before and after, and how many of them lack a bar in between."""
    alive = [each for each in market.seen if each.first <= after and each.last >= before]
    overlapping = (pl.col("after") < before) & (pl.col("before") > after)
    return len(alive), sum(each.gaps.filter(overlapping).height > 0 for each in alive)


def _halts(bars: Bars) -> pl.DataFrame:
    """Runs of flat bars without volume, on a clocked market that otherwise trades in nearly every bar."""
    traded = (bars.frame["volume"] > 0).fill_null(True)
    clocked = is_clocked(bars.interval) and traded.sum() >= TRADES_USUALLY * traded.len()
    flat = (pl.col("volume") == 0) & (pl.col("high") == pl.col("low")) & clocked
    runs = (
        bars.frame.select("time", flat=flat, run=(flat != flat.shift(1)).fill_null(False).cum_sum())
        .filter("flat")
        .group_by("run", maintain_order=True)
        .agg(first=pl.col("time").min(), last=pl.col("time").max(), bars=pl.len())
        .filter(pl.col("bars") >= HALT_BARS)
    )
    step = INTERVALS.get(bars.interval, timedelta(0))
    note = pl.format("{} flat bars without a trade, of a symbol that trades nearly always", "bars")
    return runs.select(after=pl.col("first") - step, before=pl.col("last") + step, note=note)
