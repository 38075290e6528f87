"""The gap ledger: every gap with the reason where it is known, and nothing that is not one."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import polars as pl
import pytest

from lab import gaps, inventory, known, store
from lab.gaps import Market, ledger, look, quality
from lab.nouns import Bars, Piece
from tests.archive import utc
from tests.conftest import START, rows_of

MINUTE = timedelta(minutes=1)
STILL = 0.0


def bars_of(symbol: str, moves: Sequence[float], **more: object) -> Bars:
    return Bars.of(rows_of(symbol, moves, **more), "1m")  # type: ignore[arg-type]


def moving(rows: int, seed: int = 3) -> list[float]:
    return np.random.default_rng(seed).normal(0, 1e-3, rows).tolist()


def with_hole(symbol: str, rows: int, before: int, missing: int) -> Bars:
    """`rows` bars, with `missing` left out before the one numbered `before`."""
    steps = [1 + (missing if n == before else 0) for n in range(rows)]
    return bars_of(symbol, moving(rows), steps=steps)


def hourly(market: Path, symbols: Sequence[str]) -> list[Bars]:
    rows = pl.read_parquet(market / "crypto/binance_spot/panel_1h_22_symbols_2021-04_2023-12.parquet")
    hours = rows.with_columns(time=pl.col("open_time") + pl.duration(hours=1))
    return [Bars.of(hours.filter(pl.col("symbol") == symbol), "1h") for symbol in symbols]


def reasons(market: Market) -> list[tuple[str, datetime, datetime, int, str]]:
    return ledger(market).select("symbol", "after", "before", "missing", "reason").rows()


def test_a_gap_that_nothing_explains_is_unknown_and_bars_without_gaps_have_none() -> None:
    holed = with_hole("A", 20, 10, 4)
    last = START + 10 * MINUTE
    assert reasons(Market("x", [look(holed), look(bars_of("B", moving(24)))])) == [
        ("A", last, last + 5 * MINUTE, 4, "unknown")
    ]


def test_what_most_symbols_lack_was_the_exchange_and_what_one_lacks_was_not() -> None:
    markets = [with_hole(name, 40, 20, 3) for name in "ABCD"]
    alone = with_hole("E", 40, 5, 2)
    found = reasons(Market("x", [look(each) for each in (*markets, alone)]))
    assert [(symbol, reason) for symbol, *_, reason in found] == [
        ("E", "unknown"),
        *((name, "outage") for name in "ABCD"),
    ]
    assert reasons(Market("x", [look(each) for each in markets[:2]]))[0][-1] == "unknown"  # two are no majority


def test_rejected_rows_and_files_that_were_not_there_explain_a_gap() -> None:
    holed = with_hole("A", 20, 10, 4)
    inside = START + 12 * MINUTE
    refused = pl.DataFrame({"symbol": ["A"], "time": [inside]}, schema_overrides={"time": pl.Datetime("us", "UTC")})
    assert reasons(Market("x", [look(holed)], refused))[0][-1] == "rejected"
    assert reasons(Market("x", [look(holed)], absent=[("A", inside, inside + MINUTE)]))[0][-1] == "not published"
    assert reasons(Market("x", [look(holed)], absent=[("B", inside, inside + MINUTE)]))[0][-1] == "unknown"
    assert reasons(Market("kraken", [look(holed)]))[0][-1] == "no trades"


def test_a_price_of_another_order_after_days_without_bars_is_another_coin() -> None:
    steps = [1] * 20
    steps[10] = 3 * 1440
    moves = moving(20)
    moves[10] = -4.0
    assert reasons(Market("x", [look(bars_of("A", moves, steps=steps))]))[0][-1] == "re-used"
    steps[10] = 60  # an hour in which a price falls so far is a crash
    assert reasons(Market("x", [look(bars_of("A", moves, steps=steps))]))[0][-1] == "unknown"


def test_a_long_run_of_empty_flat_bars_is_a_halt_where_the_symbol_otherwise_trades() -> None:
    moves = moving(1000)
    moves[500:520] = [STILL] * 20
    volume = np.ones(1000)
    volume[500:520] = 0
    found = reasons(Market("x", [look(bars_of("A", moves, volume=volume))]))
    assert found == [("A", START + 500 * MINUTE, START + 521 * MINUTE, 0, "halt")]
    volume[:200] = 0  # a thin market is often silent
    assert reasons(Market("x", [look(bars_of("A", moves, volume=volume))])) == []


def test_jumps_and_frozen_prices_are_counted_and_an_honest_market_has_none() -> None:
    honest = quality(bars_of("A", moving(200_000)))
    assert (honest["jumps"], honest["frozen"], honest["gaps"], honest["no_volume"]) == (0, 0, 0, 0)
    moves = moving(1000)
    moves[300], moves[600:605] = 0.5, [STILL] * 5
    odd = quality(bars_of("A", moves))
    assert (odd["rows"], odd["jumps"], odd["frozen"]) == (1000, 1, 5)
    assert odd["largest_jump_at"] == START + 301 * MINUTE
    assert odd["largest_jump"] == pytest.approx(np.exp(0.5) - 1)
    across = quality(bars_of("A", [*moving(10), 2.0, *moving(10)], steps=[1] * 10 + [100] + [1] * 10))
    assert (across["jumps"], across["gaps"], across["missing"]) == (0, 1, 99)


def test_missing_numbers_of_trades_are_found_across_batches() -> None:
    ids = [1, 2, 3, 7, 8, 20, 21]
    times = [utc(2026, 1, 1, 0, 0, n) for n in range(7)]
    rows = pl.DataFrame({"time": times, "id": ids}, schema_overrides={"time": pl.Datetime("us", "UTC")})
    expected = [(times[2], times[3], 3), (times[4], times[5], 11)]
    for cut in range(8):
        assert gaps.id_holes([rows[:cut], rows[cut:]]).rows() == expected, cut


def test_lunas_two_lives_and_the_outages_have_their_names(real_markets: Path) -> None:
    market = hourly(real_markets, ["LUNAUSDT", "FTTUSDT", "BTCUSDT"])
    found = ledger(Market("files", [look(each) for each in market]))
    luna = found.filter(pl.col("symbol") == "LUNAUSDT", pl.col("missing") > 100)
    assert luna.select("after", "before", "missing", "reason").rows() == [
        (utc(2022, 5, 13, 1), utc(2022, 5, 31, 7), 437, "re-used")
    ]
    assert "LUNC" in luna["note"][0]
    assert found.filter(pl.col("symbol") == "BTCUSDT")["reason"].to_list() == ["outage"] * 5
    assert found.filter(pl.col("symbol") == "FTTUSDT")["reason"].to_list() == ["outage"] * 4 + ["delisted"]
    assert "unknown" not in found["reason"]


def test_luna_is_seen_to_be_another_coin_also_where_nobody_knows_her(
    real_markets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known, "EVENTS", ())
    market = hourly(real_markets, ["LUNAUSDT", "BTCUSDT", "ETHUSDT", "XRPUSDT"])
    found = ledger(Market("files", [look(each) for each in market]))
    by_length = found.filter(pl.col("symbol") == "LUNAUSDT").sort("missing")["reason"].to_list()
    assert by_length == ["outage"] * 5 + ["re-used"]


def test_every_gap_of_six_years_of_bitcoin_is_a_known_outage(real_markets: Path) -> None:
    rows = pl.read_parquet(real_markets / "crypto/binance_spot/klines_1h/BTCUSDT-1h-2018-02_2023-12.parquet")
    bars = Bars.of(rows.with_columns(symbol=pl.lit("BTCUSDT"), time=pl.col("open_time") + pl.duration(hours=1)), "1h")
    assert [reason for *_, reason in reasons(Market("binance", [look(bars)]))] == ["outage"] * 25
    assert {reason for *_, reason in reasons(Market("elsewhere", [look(bars)]))} == {"unknown"}


def test_the_halt_that_futures_fill_with_flat_bars_is_found(real_markets: Path) -> None:
    """2024-10-28, 20:00 to 21:14: 74 minutes, as the exchange's own bars have them."""
    path = real_markets / "crypto/binance_um_futures/klines_1m/FILUSDT-1m-2024-10.zip"
    with ZipFile(path) as file, file.open(path.stem + ".csv") as member:
        rows = pl.read_csv(member.read())
    time = pl.from_epoch("open_time", "ms").dt.cast_time_unit("us").dt.replace_time_zone("UTC") + pl.duration(minutes=1)
    bars = Bars.of(rows.with_columns(symbol=pl.lit("FILUSDT"), time=time), "1m")
    ((_, after, before, missing, reason),) = reasons(Market("binance-um", [look(bars)]))
    assert (missing, reason) == (0, "halt")
    assert after == utc(2024, 10, 28, 20, 0)
    assert before - after == 75 * MINUTE


def test_the_ledger_of_a_store_knows_what_was_rejected_and_what_was_absent(tmp_path: Path) -> None:
    holed = with_hole("A", 20, 10, 4)
    refused = pl.DataFrame({"time": [START + 12 * MINUTE], "close": [-1.0], "fault": ["a price is zero or below"]})
    store.commit(tmp_path, "x", [Piece("A", "one", "d", holed, refused)])
    days = bars_of("B", moving(20), steps=[1] * 10 + [2880] + [1] * 9)
    store.commit(tmp_path, "x", [Piece("B", "two", "d", days)])
    store.note_absent(store.TableName(tmp_path, "x", "B", "1m"), [f"B-1m-{START + timedelta(days=1):%Y-%m-%d}.zip"])
    found, qualities = inventory.survey(tmp_path)
    assert [(row["symbol"], row["reason"]) for row in found.to_dicts()] == [("A", "rejected"), ("B", "not published")]
    assert [(each["symbol"], each["missing"]) for each in qualities] == [("A", 4), ("B", 2879)]
    found, qualities = inventory.survey(tmp_path, ["B"])
    assert (found["symbol"].to_list(), [each["symbol"] for each in qualities]) == (["B"], ["B"])
