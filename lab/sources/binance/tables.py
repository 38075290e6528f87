"""The CSV of an object of Binance's archive → rows of one kind of market data."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial

import polars as pl

from lab.errors import SourceError
from lab.kinds import KINDS
from lab.nouns import INTERVALS, MICROSECOND, Bars, Span, Table
from lab.sources.binance.datasets import Archive
from lab.sources.rows import moment, sift_kind

COIN_MARGINED = "futures/cm"
OUTSIDE = "outside the period that the file is named for"
TAKEN_BACK = "declared invalid by the exchange, whose audit of April 2022 found no such trade"
OUT_OF_ORDER = timedelta(hours=1)  # that rows of one file are, at most
FIVE_MINUTES = timedelta(minutes=5)
# Until then the metrics of USD-margined futures were labelled by the end of their five minutes.
LABELS_ARE_STARTS_FROM = datetime(2026, 6, 25, tzinfo=UTC)
METRICS = {
    "open_interest": "sum_open_interest",
    "open_interest_value": "sum_open_interest_value",
    "top_accounts_ratio": "count_toptrader_long_short_ratio",
    "top_positions_ratio": "sum_toptrader_long_short_ratio",
    "accounts_ratio": "count_long_short_ratio",
    "taker_ratio": "sum_taker_long_short_vol_ratio",
}
# Rows with the columns of their kind, and why one cannot be used, null where it can.
Reading = tuple[pl.DataFrame, pl.Expr]


def read_table(
    blocks: Iterable[bytes], archive: Archive, *, only: Span | None = None
) -> tuple[Bars | Table, pl.DataFrame, int]:
    """The rows in an archive's CSV, those that cannot be used with their reason in `fault`, and exact repeats.

    `blocks` are whole lines of the CSV, at least one block, in order; the first may begin with a header. Times are
    ms or µs. Where `only` is given, nothing is said of rows outside it. A file of which no row can be used is
    a SourceError.
    """
    kind = KINDS[archive.dataset.kind]
    good, rejected, repeats = [], [], 0
    for rows, suspect in _readings(blocks, archive, only):
        usable, unusable, again = sift_kind(kind, rows, suspect=suspect)
        good.append(usable)
        rejected.append(unusable)
        repeats += again
    frame = pl.concat(good)
    in_order = "id" not in frame.columns or frame["id"].is_sorted()
    if len(good) > 1 or not in_order:
        # Of blocks, to find a row of one in another; of quotes too, as they lie interleaved in some files.
        frame, unusable, again = sift_kind(kind, frame if in_order else frame.sort("id", maintain_order=True))
        rejected.append(unusable)
        repeats += again
    faults = _named(pl.concat(rejected, how="diagonal"))
    if faults.height and frame.is_empty():
        raise refused(
            archive, f"none of its {faults.height} rows is a {archive.dataset.row}; the first: {faults['fault'][0]}"
        )
    if kind.name == "bars":
        return Bars(frame, archive.interval), faults, repeats
    return Table(kind.name, frame, archive.interval), faults, repeats


def _readings(blocks: Iterable[bytes], archive: Archive, only: Span | None) -> Iterator[Reading]:
    layout = None
    for block in blocks:
        types, headed = layout or _layout(block, archive)
        layout = types, False
        raw = _parsed(block, types, headed, archive)
        rows, suspect = READERS[archive.dataset.folder](raw, archive)
        if "unreadable" in raw.columns:
            suspect = pl.coalesce("unreadable", suspect)
        yield (
            rows.with_columns(symbol=pl.lit(archive.symbol)).filter(only is None or only.covers(pl.col("time"))),
            suspect,
        )
        if only and rows.select((pl.col("time").min() > only.end + OUT_OF_ORDER).fill_null(False)).item():
            return


def _layout(block: bytes, archive: Archive) -> tuple[dict[str, pl.DataType], bool]:
    first = block.split(b"\n", 1)[0].decode(errors="replace").strip()
    layout = archive.dataset.layout(first or archive.dataset.headers[0])
    if layout is None:
        known = f"neither {archive.dataset.folder} nor their header"
        raise refused(archive, f"it begins with {first[:60]!r}, which is {known}")
    return layout


def _parsed(block: bytes, types: dict[str, pl.DataType], headed: bool, archive: Archive) -> pl.DataFrame:
    """The block as it is; where a value is no number, it is null and the column `unreadable` names it."""
    if not block:
        return pl.DataFrame(schema=types)
    read = partial(pl.read_csv, block, has_header=headed, quote_char=None)
    try:
        try:
            return read(schema=types)
        except pl.exceptions.ComputeError:
            values, texts = read(schema=types, ignore_errors=True), read(schema=dict.fromkeys(types, pl.String()))
    except pl.exceptions.PolarsError as damage:
        raise refused(archive, f"it cannot be read: {str(damage).splitlines()[0]}") from None
    lost = [
        pl.when(texts[name].is_not_null() & values[name].is_null()).then(pl.lit(f"{name} cannot be read"))
        for name in types
    ]
    return values.with_columns(unreadable=pl.coalesce(lost))


def _klines(raw: pl.DataFrame, archive: Archive) -> Reading:
    length = INTERVALS[archive.interval]
    suspect = (
        pl.when(~archive.period.covers(pl.col("time") - length))
        .then(pl.lit(OUTSIDE))
        .when(pl.col("time").dt.epoch("us") % (length // MICROSECOND) != 0)
        .then(pl.lit(f"not on the grid of {archive.interval} bars"))
        .when(moment(pl.col("close_time") + 1) != pl.col("time"))
        .then(pl.lit(f"not open for {archive.interval}"))
    )
    return raw.with_columns(time=moment(pl.col("open_time")) + length), suspect


def _bars(raw: pl.DataFrame, archive: Archive) -> Reading:
    rows, suspect = _klines(raw, archive)
    if archive.market == COIN_MARGINED:
        # There `volume` counts contracts, and the columns named for money hold the base asset.
        rows = rows.rename({"volume": "contracts", "taker_buy_volume": "contracts_bought"})
        names = {"quote_volume": "volume", "taker_buy_quote_volume": "buy_volume"}
    else:
        names = {"taker_buy_volume": "buy_volume"}
    return rows.rename({**names, "count": "trades"}), suspect


def _aggregated_trades(raw: pl.DataFrame, archive: Archive) -> Reading:
    rows = raw.with_columns(
        time=moment(pl.col("transact_time")),
        size=pl.col("quantity"),
        side=_takers_side(),
        id=pl.col("agg_trade_id"),
        count=pl.col("last_trade_id") - pl.col("first_trade_id") + 1,
    )
    return rows, _outside(archive)


def _raw_trades(raw: pl.DataFrame, archive: Archive) -> Reading:
    # Of coin-margined ones `qty` counts contracts, and the column after it, however it is called, the base asset.
    size = raw.columns[3] if archive.market == COIN_MARGINED else "qty"
    return raw.with_columns(time=moment(pl.col("time")), size=pl.col(size), side=_takers_side()), _outside(archive)


def _quotes(raw: pl.DataFrame, archive: Archive) -> Reading:
    rows = raw.with_columns(time=moment(pl.col("transaction_time")), known_at=moment(pl.col("event_time")))
    names = {"best_bid_price": "bid", "best_bid_qty": "bid_size", "best_ask_price": "ask", "best_ask_qty": "ask_size"}
    return rows.rename({**names, "update_id": "id"}), _outside(archive)


def _depth(raw: pl.DataFrame, archive: Archive) -> Reading:
    return raw.with_columns(time=pl.col("timestamp").dt.replace_time_zone("UTC")), _outside(archive)


def _metrics(raw: pl.DataFrame, archive: Archive) -> Reading:
    """`time` is the label as published; when its five minutes had passed depends on what a label meant then."""
    labels_are_ends = archive.market != COIN_MARGINED and archive.period.start < LABELS_ARE_STARTS_FROM
    label, midnight = pl.col("create_time").dt.replace_time_zone("UTC"), archive.period.end
    measured = {ours: pl.col(theirs) for ours, theirs in METRICS.items()}
    for name in ("open_interest", "open_interest_value"):
        measured[name] = pl.when(measured[name] != 0).then(measured[name])  # zero says that nobody looked
    rows = raw.rename({"symbol": "named"}).with_columns(
        time=label, known_at=label if labels_are_ends else label + FIVE_MINUTES, **measured
    )
    last = (pl.col("time") == midnight) & labels_are_ends
    suspect = (
        pl.when(pl.col("named") != archive.symbol)
        .then(pl.lit("of another symbol"))
        .when(last & (midnight == LABELS_ARE_STARTS_FROM))
        .then(pl.lit("has the label of the next day's first row, as labels became starts there"))
        .when(~archive.period.covers(pl.col("time")) & ~last)
        .then(pl.lit(OUTSIDE))
    )
    return rows, suspect


def _funding(raw: pl.DataFrame, archive: Archive) -> Reading:
    """`time` is the minute that is paid for; the stamps lie some ms off it."""
    stamp = moment(pl.col("calc_time"))
    minute = stamp.dt.round("1m")
    rows = raw.rename({"last_funding_rate": "rate", "funding_interval_hours": "interval_hours"})
    inside = archive.period.covers(pl.col("time")) | archive.period.covers(stamp)
    return (
        rows.with_columns(time=minute, known_at=pl.max_horizontal(minute, stamp)),
        pl.when(~inside).then(pl.lit(OUTSIDE)),
    )


def _liquidations(raw: pl.DataFrame, archive: Archive) -> Reading:
    """At what price how much was traded, not what was ordered."""
    rows = raw.rename({"price": "ordered_at", "average_price": "price", "accumulated_fill_quantity": "size"})
    side = pl.when(pl.col("side") == "BUY").then(1).when(pl.col("side") == "SELL").then(-1)
    return rows.with_columns(time=moment(pl.col("time")), side=side), _outside(archive)


READERS: Mapping[str, Callable[[pl.DataFrame, Archive], Reading]] = {
    "klines": _bars,
    **dict.fromkeys(("markPriceKlines", "indexPriceKlines", "premiumIndexKlines"), _klines),
    "aggTrades": _aggregated_trades,
    "trades": _raw_trades,
    "bookTicker": _quotes,
    "bookDepth": _depth,
    "metrics": _metrics,
    "fundingRate": _funding,
    "liquidationSnapshot": _liquidations,
}


def _takers_side() -> pl.Expr:
    """Where the buyer was the maker, the taker sold."""
    return pl.when("is_buyer_maker").then(-1).when(~pl.col("is_buyer_maker")).then(1)


def _outside(archive: Archive) -> pl.Expr:
    return pl.when(~archive.period.covers(pl.col("time"))).then(pl.lit(OUTSIDE))


def _named(rejected: pl.DataFrame) -> pl.DataFrame:
    """The rejected rows; those that the exchange itself took back say so."""
    if "first_trade_id" not in rejected.columns:
        return rejected
    taken_back = (pl.col("first_trade_id") == -1) & (pl.col("price") == 0) & (pl.col("quantity") == 0)
    return rejected.with_columns(fault=pl.when(taken_back).then(pl.lit(TAKEN_BACK)).otherwise("fault"))


def refused(archive: Archive, why: str) -> SourceError:
    """The error of an object that is not what its name says."""
    return SourceError(
        f"{archive.origin} is refused: {why}", fix="nothing of it is stored; report it to the archive's owner"
    )
