"""What the CSVs of Binance's archive say: the lines that the exchange published, and the defects it published too."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from io import BytesIO
from pathlib import Path

import duckdb
import polars as pl
import pytest

from lab.errors import SourceError
from lab.nouns import EVENTS, Bars, Span, Table
from lab.sources.binance.datasets import DATASETS, RAW_TRADES, Archive, Dataset
from lab.sources.binance.objects import csv_blocks
from lab.sources.binance.tables import read_table
from tests.archive import kline_lines, utc, zipped

MARKET = Path(__file__).parents[2].parent / "shared/market"
UM, CM = "futures/um", "futures/cm"
DAY, MINUTE, FIVE = timedelta(days=1), timedelta(minutes=1), timedelta(minutes=5)
Sifted = tuple[Bars | Table, pl.DataFrame, int]


def archive_of(
    dataset: Dataset, start: datetime, market: str = UM, symbol: str = "BTCUSDT", interval: str = EVENTS
) -> Archive:
    end = (
        utc(start.year + start.month // 12, start.month % 12 + 1, 1)
        if dataset.cadences == ("monthly",)
        else start + DAY
    )
    return Archive(market, dataset, symbol, interval, Span(start, end))


def read(archive: Archive, *lines: str) -> Sifted:
    return read_table([("\n".join(lines) + "\n").encode()], archive)


def rows(archive: Archive, *lines: str) -> list[tuple[object, ...]]:
    """The rows of a file in which nothing is amiss, without their symbol."""
    table, rejected, repeats = read(archive, *lines)
    assert (rejected.height, repeats) == (0, 0)
    assert set(table.frame["symbol"]) <= {archive.symbol}
    return table.frame.drop("symbol").rows()


def faults(sifted: Sifted) -> list[str]:
    return sifted[1]["fault"].to_list()


# ── each kind, as published ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_second_of_dogecoin_in_microseconds() -> None:
    line = (
        "1735689600000000,0.31600000,0.31600000,0.31600000,0.31600000,27.00000000,1735689600999999,8.53200000,1,"
        "0.00000000,0.00000000,0"
    )
    archive = archive_of(DATASETS["bars"], utc(2025, 1, 1), "spot", "DOGEUSDT", "1s")
    assert rows(archive, line) == [
        (utc(2025, 1, 1, 0, 0, 1), 0.316, 0.316, 0.316, 0.316, 27.0, 0.0, 8.532, 1.0),
    ]


def test_volumes_of_coin_margined_bars_are_in_the_base_asset() -> None:
    line = "1591258320000,9640.7,9642.4,9640.6,9642.0,206,1591258379999,2.13660389,48,119,1.23424865,0"
    archive = archive_of(DATASETS["bars"], utc(2020, 6, 4), CM, "BTCUSD_200925", "1m")
    table, _, _ = read(archive, line)
    assert table.frame.rows(named=True) == [
        {
            "symbol": "BTCUSD_200925",
            "time": utc(2020, 6, 4, 8, 13),
            "open": 9640.7,
            "high": 9642.4,
            "low": 9640.6,
            "close": 9642.0,
            "volume": 2.13660389,
            "buy_volume": 1.23424865,
            "trades": 48.0,
        }
    ]


def test_aggregated_trades_say_who_took_and_how_many_they_are() -> None:
    line = "1965151407,42313.9,0.046,4426785111,4426785113,1704067200038,true"
    table, _, _ = read(archive_of(DATASETS["trades"], utc(2024, 1, 1)), line)
    assert table.frame.rows(named=True) == [
        {
            "symbol": "BTCUSDT",
            "time": utc(2024, 1, 1, 0, 0, 0, 38_000),
            "price": 42313.9,
            "size": 0.046,
            "side": -1,
            "id": 1965151407,
            "count": 3,
        }
    ]
    spot = archive_of(DATASETS["trades"], utc(2025, 1, 1), "spot")
    assert rows(spot, "0,0.20000000,50.00000000,0,0,1735689600010866,False,True") == [
        (utc(2025, 1, 1, 0, 0, 0, 10_866), 0.2, 50.0, 1, 0, 1)
    ]


@pytest.mark.parametrize(
    ("market", "line", "size"),
    [
        ("spot", "7,42283.58,0.02371,1002.5,1704067200038,True,True", 0.02371),
        (UM, "7,42283.58,0.02371,1002.5,1704067200038,true", 0.02371),
        (CM, "7,42283.58,3,0.00709496,1704067200038,true", 0.00709496),  # 3 contracts of 100 USD
    ],
)
def test_raw_trades_are_numbered_one_by_one(market: str, line: str, size: float) -> None:
    archive = archive_of(RAW_TRADES, utc(2024, 1, 1), market)
    assert rows(archive, line) == [(utc(2024, 1, 1, 0, 0, 0, 38_000), 42283.58, size, -1, 7)]


def test_quotes_lie_in_the_order_of_their_update_ids() -> None:
    lines = [
        "update_id,best_bid_price,best_bid_qty,best_ask_price,best_ask_qty,transaction_time,event_time",
        "12,10.1,3,10.2,4,1704067200010,1704067200015",
        "11,10.0,1,10.2,2,1704067200010,1704067200014",
        "13,10.1,3,10.3,5,1704067200012,1704067200016",
    ]
    moment = utc(2024, 1, 1)
    known = [moment + timedelta(milliseconds=ms) for ms in (14, 15, 16)]
    time = [moment + timedelta(milliseconds=ms) for ms in (10, 10, 12)]
    expected = [
        (time[0], 10.0, 1.0, 10.2, 2.0, 11, known[0]),
        (time[1], 10.1, 3.0, 10.2, 4.0, 12, known[1]),
        (time[2], 10.1, 3.0, 10.3, 5.0, 13, known[2]),
    ]
    archive = archive_of(DATASETS["quotes"], moment)
    assert rows(archive, *lines) == expected
    assert rows(archive, *lines[1:]) == expected
    blocks = ["\n".join(part).encode() for part in (lines[:2], lines[2:3], lines[3:])]
    assert read_table(blocks, archive)[0].frame.drop("symbol").rows() == expected


def test_depth_is_the_same_in_both_spellings_of_its_percentages() -> None:
    old = archive_of(DATASETS["depth"], utc(2025, 5, 19))
    assert rows(
        old, "timestamp,percentage,depth,notional", "2025-05-19 11:07:31,-5,7885.27500000,647368074.36920000"
    ) == [(utc(2025, 5, 19, 11, 7, 31), -5.0, 7885.275, 647368074.3692)]
    new = archive_of(DATASETS["depth"], utc(2026, 7, 24))
    bands = ("-5.00", "-0.20", "0.20", "5.00")
    lines = [f"2026-07-24 00:00:01,{band},9279.27600000,594684548.58150000" for band in bands]
    assert [row[1] for row in rows(new, *lines)] == [-5.0, -0.2, 0.2, 5.0]
    both = read(new, *lines, "2026-07-24 00:00:01,-5,9279.27600000,594684548.58150000")
    assert both[2] == 1  # the same band in the other spelling is the same row again


def test_funding_is_of_the_minute_and_known_when_it_is_stamped() -> None:
    archive = archive_of(DATASETS["funding"], utc(2025, 7, 1))
    lines = [
        "calc_time,funding_interval_hours,last_funding_rate",
        "1751328000007,8,0.00008191",
        f"{1751328000000 + 8 * 3_600_000 - 9},4,-0.0001",
        f"{1754006400000 - 5},4,0",  # that of 1 August, stamped in July
    ]
    assert rows(archive, *lines) == [
        (utc(2025, 7, 1), utc(2025, 7, 1, 0, 0, 0, 7_000), 0.00008191, 8.0),
        (utc(2025, 7, 1, 8), utc(2025, 7, 1, 8), -0.0001, 4.0),
        (utc(2025, 8, 1), utc(2025, 8, 1), 0.0, 4.0),
    ]


def test_premiums_may_be_negative_and_mark_prices_not() -> None:
    line = "1704067200000,-0.0004,0.0001,-0.0005,-0.0002,0,1704067259999,0,12,0,0,0"
    premium, mark = (archive_of(DATASETS[kind], utc(2024, 1, 1), interval="1m") for kind in ("premium", "mark"))
    assert rows(premium, line) == [(utc(2024, 1, 1, 0, 1), -0.0004, 0.0001, -0.0005, -0.0002)]
    with pytest.raises(SourceError, match="none of its 1 rows is a bar; the first: open is zero or below"):
        read(mark, line)


def test_liquidations_are_what_was_traded() -> None:
    archive = archive_of(DATASETS["liquidations"], utc(2024, 1, 1), CM, "BTCUSD_PERP")
    lines = [
        "time,side,order_type,time_in_force,original_quantity,price,average_price,order_status,last_fill_quantity,"
        "accumulated_fill_quantity",
        "1704067200123,SELL,LIMIT,IOC,20,42000.1,42110.5,FILLED,5,18",
        "1704067300123,BUY,LIMIT,IOC,1,42200.1,42190.0,FILLED,1,1",
        "1704067300123,HOLD,LIMIT,IOC,1,42200.1,42190.0,FILLED,1,1",
    ]
    table, rejected, _ = read(archive, *lines)
    assert table.frame.drop("symbol").rows() == [
        (utc(2024, 1, 1, 0, 0, 0, 123_000), 42110.5, 18.0, -1),
        (utc(2024, 1, 1, 0, 1, 40, 123_000), 42190.0, 1.0, 1),
    ]
    assert rejected["fault"].to_list() == ["side is missing or cannot be read"]


# ── metrics and what their labels mean ──────────────────────────────────────────────────────────────────────────────

NAMES = DATASETS["metrics"].headers[0]


def metrics(label: datetime, interest: float = 1893129.089, symbol: str = "ETHUSDT") -> str:
    return f"{label:%Y-%m-%d %H:%M:%S},{symbol},{interest},4706583953.32646,1.91519612,3.27485900,1.46745437,1.08735800"


def of_day(day: datetime, market: str = UM) -> Archive:
    return archive_of(DATASETS["metrics"], day, market, "ETHUSDT")


def test_a_measurement_as_published() -> None:
    table, _, _ = read(of_day(utc(2025, 7, 1)), NAMES, metrics(utc(2025, 7, 1, 0, 5)))
    assert table.frame.rows(named=True) == [
        {
            "symbol": "ETHUSDT",
            "time": utc(2025, 7, 1, 0, 5),
            "known_at": utc(2025, 7, 1, 0, 5),
            "open_interest": 1893129.089,
            "open_interest_value": 4706583953.32646,
            "top_accounts_ratio": 1.91519612,
            "top_positions_ratio": 3.274859,
            "accounts_ratio": 1.46745437,
            "taker_ratio": 1.087358,
        }
    ]


def test_nothing_is_known_before_its_five_minutes_have_passed() -> None:
    """Labels were ends until 24 June 2026 and are starts since; those of coin-margined futures always were."""
    switch, ends, starts = utc(2026, 6, 25), range(1, 289), range(288)
    last_day = read(of_day(switch - DAY), NAMES, *(metrics(switch - DAY + n * FIVE) for n in ends))
    first_day = read(of_day(switch), NAMES, *(metrics(switch + n * FIVE) for n in starts))
    coin = read(of_day(utc(2025, 7, 1), CM), NAMES, *(metrics(utc(2025, 7, 1) + n * FIVE) for n in starts))
    for (table, _, _), after in ((last_day, timedelta(0)), (first_day, FIVE), (coin, FIVE)):
        assert (table.frame["known_at"] - table.frame["time"]).unique().to_list() == [after]
    assert faults(last_day) == ["has the label of the next day's first row, as labels became starts there"]
    both = pl.concat([last_day[0].frame, first_day[0].frame])
    assert (both.height, both["time"].is_unique().all(), both["known_at"].is_unique().all()) == (575, True, True)
    assert both["time"].diff().drop_nulls().unique().to_list() == [FIVE]


def test_only_labels_that_are_ends_may_be_the_next_midnight() -> None:
    before, after = utc(2025, 12, 31), utc(2026, 8, 1)
    assert rows(of_day(before), metrics(before), metrics(before + DAY))[1][0] == utc(2026, 1, 1)
    outside = "outside the period that the file is named for"
    assert faults(read(of_day(before), metrics(before), metrics(before + DAY + FIVE))) == [outside]
    assert faults(read(of_day(after), metrics(after), metrics(after + DAY))) == [outside]
    assert faults(read(of_day(before, CM), metrics(before), metrics(before + DAY))) == [outside]


def test_a_day_that_was_published_twice_over_is_counted_and_kept_once() -> None:
    day = utc(2021, 3, 4)
    lines = [metrics(day + n * FIVE) for n in range(1, 289) for _ in range(2)]
    table, rejected, repeats = read(of_day(day), NAMES, *lines)
    assert (table.frame.height, rejected.height, repeats) == (288, 0, 288)


def test_an_open_interest_of_zero_was_not_measured() -> None:
    day = utc(2022, 3, 7)
    table, _, _ = read(of_day(day), NAMES, metrics(day, 0), metrics(day + FIVE, 7.5))
    assert table.frame["open_interest"].to_list() == [None, 7.5]


def test_a_measurement_of_another_symbol_is_refused() -> None:
    day = utc(2025, 7, 1)
    sifted = read(of_day(day), metrics(day), metrics(day + FIVE, symbol="BTCUSDT"))
    assert faults(sifted) == ["of another symbol"]


# ── defects ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def trade(id: int, time: int, price: str = "42313.9", size: str = "0.046", first: int | None = None) -> str:
    number = id if first is None else first
    return f"{id},{price},{size},{number},{number},{time},true"


NEW_YEAR = 1704067200000


def test_trades_that_the_exchange_took_back_are_told_from_impossible_ones() -> None:
    sifted = read(
        archive_of(DATASETS["trades"], utc(2024, 1, 1)),
        trade(1, NEW_YEAR),
        trade(2, NEW_YEAR + 1, "0.0", "0.0", -1),
        trade(3, NEW_YEAR + 2, "0.0"),
        trade(4, NEW_YEAR + 3, size="much"),
    )
    assert sifted[0].frame["id"].to_list() == [1]
    assert sorted(faults(sifted)) == [
        "declared invalid by the exchange, whose audit of April 2022 found no such trade",
        "price is zero or below",
        "size is missing or cannot be read",
    ]


def test_holes_in_the_numbers_of_trades_are_no_fault() -> None:
    archive = archive_of(DATASETS["trades"], utc(2024, 1, 1))
    assert [row[4] for row in rows(archive, trade(1, NEW_YEAR), trade(31_646, NEW_YEAR + 1))] == [1, 31_646]


def test_an_optional_number_that_cannot_be_read_is_not_called_absent() -> None:
    lines = [line.strip() for line in kline_lines(utc(2024, 1, 1), 3)]
    cells = lines[1].split(",")
    cells[8] = "many"
    archive = archive_of(DATASETS["bars"], utc(2024, 1, 1), interval="1m")
    sifted = read(archive, lines[0], ",".join(cells), lines[2])
    assert (sifted[0].frame.height, faults(sifted)) == (2, ["count cannot be read"])


LINES = {
    "bars": "1704067200000,1,2,1,2,3,1704067259999,4,5,1,2,0",
    "mark": "1704067200000,1,2,1,2,0,1704067259999,0,5,0,0,0",
    "index": "1704067200000,1,2,1,2,0,1704067259999,0,5,0,0,0",
    "premium": "1704067200000,1,2,1,2,0,1704067259999,0,5,0,0,0",
    "trades": trade(1, NEW_YEAR),
    "quotes": "12,10.1,3,10.2,4,1704067200010,1704067200015",
    "depth": "2024-01-01 00:00:31,-5,7885.2,647368074.3",
    "metrics": metrics(utc(2024, 1, 1, 0, 5), symbol="BTCUSDT"),
    "funding": "1704067200007,8,0.0001",
    "liquidations": "1704067200123,SELL,LIMIT,IOC,20,42000.1,42110.5,FILLED,5,18",
}


def of_kind(kind: str, start: datetime) -> Archive:
    dataset = DATASETS[kind]
    return archive_of(dataset, start, interval="1m" if dataset.gridded else EVENTS)


def test_every_dataset_has_a_line_here() -> None:
    assert LINES.keys() == DATASETS.keys()


@pytest.mark.parametrize("kind", LINES)
def test_a_header_is_known_from_data_in_every_dataset(kind: str) -> None:
    archive = of_kind(kind, utc(2024, 1, 1))
    plain = rows(archive, LINES[kind])
    assert len(plain) == 1
    header = next(h for h in archive.dataset.headers if h.count(",") == LINES[kind].count(","))
    assert rows(archive, header, LINES[kind]) == plain
    assert rows(archive, header) == []
    assert read_table([b""], archive)[0].frame.is_empty()
    with pytest.raises(SourceError, match=f"which is neither {archive.dataset.folder} nor their header"):
        read(archive, header.upper(), LINES[kind])
    with pytest.raises(SourceError, match="nor their header"):
        read(archive, LINES[kind] + ",1,2,3,4,5,6,7")


@pytest.mark.parametrize("kind", LINES)
def test_a_file_of_another_period_is_refused_in_every_dataset(kind: str) -> None:
    with pytest.raises(SourceError, match=r"none of its 1 rows is a .*; the first: outside the period"):
        read(of_kind(kind, utc(2024, 3, 1)), LINES[kind])


# ── blocks ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def blocks_of(text: str, archive: Archive, size: int, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    monkeypatch.setattr("lab.sources.binance.objects.BLOCK", size)
    return list(csv_blocks(BytesIO(zipped(f"{archive.stem}.csv", text)), archive))


def test_blocks_are_whole_lines_and_together_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    archive = archive_of(DATASETS["bars"], utc(2024, 1, 1), interval="1m")
    for text in ("", "a", "a\n", "a\nb", "abc\nd\n\nefghij\nk"):
        for size in (12, 13, 100):
            blocks = blocks_of(text, archive, size, monkeypatch)
            assert b"".join(blocks) == text.encode()
            assert blocks
            assert all(block.endswith(b"\n") for block in blocks[:-1])
    with pytest.raises(SourceError, match="it has a line of more than 12 bytes"):
        blocks_of("a\n" + 30 * "b", archive, 12, monkeypatch)


def test_a_file_says_the_same_in_blocks_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    archive = archive_of(DATASETS["trades"], utc(2024, 1, 1))
    lines = [trade(n, NEW_YEAR + n // 3) for n in range(1, 300)]
    lines[70:70] = [lines[12], "7777,-1,1,1,1,1704067200001,true", trade(50, NEW_YEAR + 50 // 3, price="1")]
    text = "\n".join(lines)
    whole, rejected, repeats = read_table([text.encode()], archive)
    assert (whole.frame.height, rejected.height, repeats) == (299, 2, 1)
    for size in (100, 777, 5000):
        parts, unusable, again = read_table(blocks_of(text, archive, size, monkeypatch), archive)
        assert parts.frame.equals(whole.frame)
        assert (sorted(unusable["fault"]), again) == (sorted(rejected["fault"]), repeats)


def test_a_row_of_one_block_is_found_again_in_the_next() -> None:
    archive = archive_of(DATASETS["trades"], utc(2024, 1, 1))
    blocks = ["\n".join(trade(n, NEW_YEAR + n) for n in part).encode() for part in ((1, 2, 3), (3, 4))]
    table, rejected, repeats = read_table(blocks, archive)
    assert (table.frame["id"].to_list(), rejected.height, repeats) == ([1, 2, 3, 4], 0, 1)


def test_one_day_of_a_month_is_read_without_the_days_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    start = utc(2024, 1, 1)
    archive = Archive(UM, DATASETS["trades"], "BTCUSDT", EVENTS, Span(start, utc(2024, 2, 1)))
    lines = [trade(n, NEW_YEAR + n * 3_600_000) for n in range(31 * 24)]
    blocks, taken = blocks_of("\n".join(lines), archive, 200, monkeypatch), []

    def counted() -> Iterable[bytes]:
        for block in blocks:
            taken.append(block)
            yield block

    table, rejected, _ = read_table(counted(), archive, only=Span(start + DAY, start + 2 * DAY))
    assert table.frame["id"].to_list() == list(range(24, 48))
    assert rejected.is_empty()
    assert len(taken) < len(blocks) / 8


def test_recorded_trades_come_in_as_they_were(tmp_path: Path) -> None:
    recorded = MARKET / "crypto/binance_spot/aggtrades/XRPETH-aggTrades-2019-10.parquet"
    if not recorded.is_file():
        pytest.skip(f"the real market data is not at {MARKET}")
    csv = tmp_path / "trades.csv"
    day = "time >= TIMESTAMPTZ '2019-10-12 00:00+00' AND time < TIMESTAMPTZ '2019-10-13 00:00+00'"
    duckdb.sql(
        f"COPY (SELECT agg_trade_id, price, qty, first_trade_id, last_trade_id, epoch_ms(time), is_buyer_maker,"
        f" is_best_match FROM '{recorded}' WHERE {day}) TO '{csv}' (HEADER false)"
    )
    archive = archive_of(DATASETS["trades"], utc(2019, 10, 12), "spot", "XRPETH")
    table, rejected, repeats = read_table([csv.read_bytes()], archive)
    assert (rejected.height, repeats) == (0, 0)
    said = duckdb.sql(
        f"SELECT count(*), sum(qty), sum(qty) FILTER (NOT is_buyer_maker), sum(last_trade_id - first_trade_id + 1)"
        f" FROM '{recorded}' WHERE {day}"
    ).fetchall()[0]
    bought = table.frame.filter(pl.col("side") == 1)["size"].sum()
    ours = (table.frame.height, table.frame["size"].sum(), bought, table.frame["count"].sum())
    assert ours == (said[0], pytest.approx(said[1]), pytest.approx(said[2]), said[3])
    assert said[0] > 3000
