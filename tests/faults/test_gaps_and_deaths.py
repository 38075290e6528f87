"""Time without bars, and symbols that begin, end or become another: nobody trades where there was no market."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lab import features, labels, store
from lab.backtest import Costs, replay, vectorbt
from lab.nouns import Bars, Calendar, Piece, Vector
from lab.sources.synthetic import simulate
from tests.archive import utc
from tests.faults.conftest import Tally
from tests.small import START, carried_out, experiment

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
FREE = Costs(fee_bps=0.0, slippage_bps=0.0)
# Of all symbols of the panel, of those that trade at its end, and of those that also were never away for a week.
MEAN_HOURLY_RETURNS = (3.18227e-5, 3.27423e-5, 4.26504e-5)
PANEL = "crypto/binance_spot/panel_1h_22_symbols_2021-04_2023-12.parquet"


def bars_closing(
    times: Sequence[datetime], interval: str, calendar: Calendar = "continuous", symbol: str = "A"
) -> Bars:
    """Bars with these closes, of a price that rises a little from each to the next."""
    price = 100.0 + np.arange(len(times)) / 100
    frame = pl.DataFrame(
        {"symbol": [symbol] * len(times), "time": times, "open": price, "high": price, "low": price, "close": price}
    )
    return Bars.of(frame.with_columns(volume=pl.lit(1.0)), interval, calendar)


def in_and_out(bars: Bars) -> Vector:
    """Targets that ask for a trade in every bar."""
    return np.where(np.arange(bars.frame.height) % 2 == 0, 1.0, 0.0)


def filled(bars: Bars, targets: Vector | None = None) -> list[datetime]:
    """Closes of the bars in which something was traded."""
    times: list[datetime] = replay(bars, in_and_out(bars) if targets is None else targets, FREE).fills["time"].to_list()
    return times


def hours(first: datetime, count: int) -> list[datetime]:
    return [first + n * HOUR for n in range(count)]


# ── calendars ───────────────────────────────────────────────────────────────────────────────────────────────────────

# Closes of the bars there are, and of those among them in which an order must lapse, as the market had been away.
EXCHANGE_WAS_DOWN = hours(utc(2021, 4, 25, 0), 5) + hours(utc(2021, 4, 25, 8), 6)  # Binance, 2021-04-25: 04:00 to 07:00
A_WEEK_OF_CURRENCIES = hours(utc(2024, 3, 15, 12), 10) + hours(utc(2024, 3, 17, 23), 30)  # Friday 21:00, Sunday 22:00
EASTER = [utc(2024, 3, day) for day in (26, 27, 28, 29)] + [utc(2024, 4, day) for day in (2, 3, 4)]  # by the day
SEPTEMBER_2001 = [utc(2001, 9, day) for day in (6, 7, 8, 11, 18, 19, 20)]  # closed from the 11th to the 16th
TWO_WEEKS_AWAY = [utc(2024, 8, day) for day in (1, 2, 3, 6, 21, 22, 23)]


@pytest.mark.parametrize(
    ("closes", "interval", "calendar", "lapsing"),
    [
        (EXCHANGE_WAS_DOWN, "1h", "continuous", [utc(2021, 4, 25, 8)]),
        (A_WEEK_OF_CURRENCIES, "1h", "weekdays", []),
        (A_WEEK_OF_CURRENCIES, "1h", "continuous", [utc(2024, 3, 17, 23)]),
        (hours(utc(2024, 3, 15, 12), 10) + hours(utc(2024, 3, 19), 5), "1h", "weekdays", [utc(2024, 3, 19)]),
        (EASTER, "1d", "weekdays", []),
        (EASTER, "1d", "continuous", [utc(2024, 4, 2)]),
        (SEPTEMBER_2001, "1d", "weekdays", []),
        (TWO_WEEKS_AWAY, "1d", "weekdays", [utc(2024, 8, 21)]),
    ],
    ids=[
        "outage", "weekend of currencies", "weekend of a market without any", "weekend and Monday", "Easter",
        "Easter of a market without any", "September 2001", "two weeks",
    ],
)  # fmt: skip
def test_an_order_waits_for_the_next_session_and_lapses_in_a_gap(
    closes: list[datetime], interval: str, calendar: Calendar, lapsing: list[datetime]
) -> None:
    bars = bars_closing(closes, interval, calendar)
    expected, standing = [], 0.0
    for target, before, close in zip(in_and_out(bars), closes, closes[1:], strict=False):
        if close - before > timedelta(days=7):
            standing = 0.0  # what was held is settled
        if close not in lapsing and target != standing:
            expected.append(close)
            standing = target
    assert filled(bars) == expected
    assert bars.gaps()["before"].to_list() == lapsing


@pytest.mark.tries("Q2", 200, 5_000)
def test_nothing_is_traded_in_a_gap_and_a_bridge_carries_orders_only_as_far_as_it_reaches(tally: Tally) -> None:
    """Random gaps, targets and bridges; the bars in which orders may be filled are worked out by counting minutes."""

    @settings(deadline=None, max_examples=tally.times, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.sampled_from([1, 1, 1, 2, 5, 6, 7, 60, 1440]), min_size=2, max_size=40), st.integers(0, 70))
    def law(steps: list[int], bridge: int) -> None:
        tally.tried += 1
        closes = [START + n * MINUTE for n in np.cumsum(steps).tolist()]
        bars = replace(bars_closing(closes, "1m"), bridge=bridge * MINUTE)
        # No two targets are the same, so that every order that does not lapse is a fill.
        targets = np.random.default_rng(bridge).permutation(np.linspace(-0.4, 0.4, len(closes)) + 0.001)
        follow = [close for step, close in zip(steps[1:], closes[1:], strict=True) if step - 1 <= bridge]
        assert filled(bars, targets) == follow
        assert bars.gaps()["missing"].to_list() == [step - 1 for step in steps[1:] if step > 1]

    law()
    tally.check()


# ── windows ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("bridge", "reached"), [(0, []), (4, []), (5, [5]), (9, [5]), (10, [5, 10]), (600, [5, 10, 300])]
)
def test_a_bridged_gap_is_in_the_window_and_any_other_begins_it_anew(bridge: int, reached: list[int]) -> None:
    missing = [5, 10, 300]
    steps = [step for lack in missing for step in (*[1] * 9, lack + 1)] + [1] * 10
    bars = replace(bars_closing([START + n * MINUTE for n in np.cumsum(steps).tolist()], "1m"), bridge=bridge * MINUTE)
    after = [10 * (n + 1) - 1 for n, lack in enumerate(missing) if lack not in reached]  # first row of a new stretch
    price = bars.frame["close"].to_numpy()
    for lookback in (1, 3):
        feature = features.plain(f"log_return({lookback})")
        values = features.compute(bars, [feature])[feature.name].to_list()
        blind = {row + n for row in (0, *after) for n in range(lookback)}
        assert [row for row, value in enumerate(values) if value is None] == sorted(blind)
        seen = [row for row in range(len(values)) if row not in blind]
        expected = [float(np.log(price[row] / price[row - lookback])) for row in seen]
        assert [values[row] for row in seen] == pytest.approx(expected, rel=1e-9)
    label = labels.resolve("forward_return(2)")
    answers = labels.settle(bars, label)["answer"].to_list()
    unsettled = sorted(end - n for end in (*after, len(steps)) for n in range(1, label.horizon + 1))
    assert [row for row, value in enumerate(answers) if value is None] == unsettled


def test_a_bridge_is_another_run_and_fewer_columns_are_null(tmp_path: Path) -> None:
    """Three days of a made-up market, of which half an hour is missing every four hours."""
    market = simulate("FLOW", 1, 3 * 1440)
    minute = pl.col("time").dt.epoch("s") // 60 % 240
    holed = replace(market, frame=market.frame.filter(~minute.is_between(100, 129)))
    store.commit(tmp_path / "data", "synthetic", [Piece("FLOW-1", "holed", holed.digest, holed)])
    identifiers, shares = set(), {}
    for bridge in ("0d", "29m", "30m", "2h"):
        run = carried_out(tmp_path, experiment(tmp_path, data__bridge=f'"{bridge}"'))
        identifiers.add(run.id)
        decisions = run.table("decisions").with_columns(blind=minute.is_between(130, 148))  # 19 bars before the 20th
        told = [fold["null_share"]["flow_imbalance_20"] for fold in run.manifest["folds"]]
        blind = decisions.group_by("fold", maintain_order=True).agg(pl.col("blind").mean())["blind"].to_list()
        assert told == (pytest.approx(blind) if bridge in ("0d", "29m") else [0.0, 0.0])
        shares[bridge] = sum(told) / 2
    assert len(identifiers) == 4
    assert shares["0d"] == shares["29m"] == pytest.approx(6 * 19 / (1440 - 6 * 30), rel=0.05)


# ── symbols that begin, end, and become another ─────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def panel(real_markets: Path) -> Bars:
    rows = pl.read_parquet(real_markets / PANEL)
    times = pl.col("open_time").dt.convert_time_zone("UTC") + pl.duration(hours=1)
    return Bars.of(rows.with_columns(time=times), "1h")


def always(bars: Bars) -> Vector:
    return np.ones(bars.frame.height)


def test_nothing_is_ever_held_before_its_symbol_had_bars_or_traded_where_it_has_none(
    panel: Bars, real_markets: Path
) -> None:
    """22 symbols, of which one ends, three begin, and two are away for weeks and for months."""
    targets = np.random.default_rng(5).choice([-0.5, 0.0, 1.0], panel.frame.height)
    money = replay(panel, targets, FREE)
    file = str(real_markets / PANEL)
    asked = "open_time + interval 1 hour as time from read_parquet($file)"
    connection = duckdb.connect()
    connection.register("fills", money.fills).register("sleeves", money.sleeves)
    without, too_early = connection.execute(
        f"""with bars as (select symbol, {asked}), begun as (select symbol, min(time) as first from bars group by all)
        select (select count(*) from fills anti join bars using (symbol, time)),
               (select count(*) from sleeves join begun using (symbol) where units != 0 and time <= first)""",
        {"file": file},
    ).fetchall()[0]
    assert (money.fills.height > 100_000, without, too_early) == (True, 0, 0)
    # An order decided at a close is filled in the hour after it, or not at all.
    (late,) = connection.execute(
        f"""with bars as (select symbol, {asked}), steps as (
            select *, time - lag(time) over (partition by symbol order by time) as step from bars)
        select count(*) from fills join steps using (symbol, time) where step != interval 1 hour""",
        {"file": file},
    ).fetchall()[0]
    assert late == 0


def test_a_position_in_a_symbol_that_ends_stays_at_its_last_close(panel: Bars) -> None:
    """The rule of lab/backtest: what nobody can sell any more is worth what it was worth in its last bar."""
    two = Bars.of(panel.frame.filter(pl.col("symbol").is_in(["USTUSDT", "BTCUSDT"])), "1h")
    money = replay(two, always(two), FREE)
    dead = money.sleeves.filter(pl.col("symbol") == "USTUSDT")
    end = dead["time"][-1]
    assert end == utc(2022, 5, 13)
    last_close = two.of_symbol("USTUSDT").frame["close"][-1]
    assert dead["units"][-1] > 0
    assert dead["equity"][-1] == dead["cash"][-1] + dead["units"][-1] * last_close
    alive = money.sleeves.filter(pl.col("symbol") == "BTCUSDT", pl.col("time") > end)
    later = money.equity.filter(pl.col("time") > end)
    assert later["time"].to_list() == alive["time"].to_list()
    assert later["equity"].to_list() == pytest.approx((alive["equity"] + dead["equity"][-1]).to_list(), rel=1e-12)
    assert money.fills.filter(pl.col("symbol") == "USTUSDT", pl.col("time") > end).is_empty()


def test_a_run_scores_only_symbols_that_it_could_learn_from(panel: Bars, tmp_path: Path) -> None:
    """Arbitrum begins in March 2023, LUNC in September 2022, TerraUSD ends in May 2022."""
    names = ["BTCUSDT", "USTUSDT", "LUNCUSDT", "ARBUSDT"]
    for name in names:
        own = panel.of_symbol(name)
        store.commit(tmp_path / "data", "files", [Piece(name, f"panel {name}", own.digest, own)])
    chosen = experiment(
        tmp_path,
        features='["log_return(1)", "log_return(24)"]',
        label='"forward_return(4)"',
        data__source='"files"',
        data__symbols=str(names).replace("'", '"'),
        data__interval='"1h"',
        folds__train='"200d"',
        folds__test='"200d"',
    )
    run = carried_out(tmp_path, chosen)
    decisions = run.table("decisions")
    held_without_bar = decisions.join(panel.frame, on=["symbol", "time"], how="anti")
    assert held_without_bar.is_empty()
    first = {name: panel.of_symbol(name).frame["time"][0] for name in names}
    last = {name: panel.of_symbol(name).frame["time"][-1] for name in names}
    told: dict[int, tuple[set[str], set[str]]] = {}
    for fold in run.manifest["folds"]:
        begin, end = map(datetime.fromisoformat, fold["train"])
        known = {name for name in names if first[name] < end and last[name] >= begin}
        scored = decisions.filter(pl.col("fold") == fold["number"], pl.col("score").is_not_null())
        assert {*fold["symbols"]} == known
        assert {*scored["symbol"]} <= known
        told[fold["number"]] = ({*scored["symbol"]}, {*decisions.filter(pl.col("fold") == fold["number"])["symbol"]})
    assert len(told) == 4
    assert any(seen > scored for scored, seen in told.values())  # a symbol that began meanwhile waits
    assert decisions.filter(pl.col("score").is_null(), pl.col("target") != 0).is_empty()


def test_whoever_looks_only_at_coins_that_survived_sees_other_returns(panel: Bars, real_markets: Path) -> None:
    """Mean return an hour: of all; of the names that trade at the end; of those never away for a week, too.

    DuckDB finds the same three. Two of the three dead coins have a living name.
    """
    steps = panel.frame.with_columns(panel.segment, away=pl.col("time").diff().over("symbol"))
    by_symbol = steps.group_by("symbol").agg(pl.col("time").max(), pl.col("away").max())
    at_the_end = by_symbol.filter(pl.col("time") > panel.closes[1] - DAY)
    throughout = at_the_end.filter(pl.col("away") < 7 * DAY)
    move = pl.col("close").pct_change().over("segment")
    moves = steps.select("symbol", move=move).drop_nulls()
    groups = (by_symbol, at_the_end, throughout)
    ours = [moves.join(group, on="symbol")["move"].mean() for group in groups]
    theirs = duckdb.execute(
        """with steps as (
            select symbol, open_time, close / lag(close) over own - 1 as move,
                open_time - lag(open_time) over own as step
            from read_parquet($file) window own as (partition by symbol order by open_time)),
        symbols as (
            select symbol, max(open_time) >= (select max(open_time) from steps) - interval 1 day as living,
                max(step) < interval 7 day as never_away
            from steps group by all)
        select avg(move), avg(move) filter (living), avg(move) filter (living and never_away)
        from steps join symbols using (symbol) where step = interval 1 hour""",
        {"file": str(real_markets / PANEL)},
    ).fetchall()[0]
    assert [group.height for group in groups] == [22, 21, 19]
    assert ours == pytest.approx(theirs, rel=1e-9)
    assert ours == pytest.approx(MEAN_HOURLY_RETURNS, rel=1e-5)
    everyone, _, survivors = ours
    assert (survivors - everyone) * 24 * 365 == pytest.approx(0.0949, abs=1e-4)  # 9.5 % a year that nobody earned


def test_a_position_in_a_coin_does_not_become_one_in_the_coin_that_takes_its_name(panel: Bars) -> None:
    """LUNA fell to 0.00005 in May 2022; 18 days later the name was given to a coin at 9."""
    luna = panel.of_symbol("LUNAUSDT")
    equity = replay(luna, always(luna), FREE).equity
    before = equity.filter(pl.col("time") <= utc(2022, 5, 13, 1))["equity"][-1]
    after = equity.filter(pl.col("time") >= utc(2022, 5, 31))["equity"][0]
    assert before < 1e-5
    assert after < 2 * before


def test_what_was_held_of_a_coin_that_went_is_settled_at_its_last_close_by_both_engines(panel: Bars) -> None:
    luna, costs = panel.of_symbol("LUNAUSDT"), Costs(fee_bps=10.0, slippage_bps=5.0)
    ledger = replay(luna, always(luna), costs)
    last, back = (
        ledger.sleeves.filter(pl.col("time") == time).row(0, named=True)
        for time in (utc(2022, 5, 13, 1), utc(2022, 5, 31, 7))
    )
    assert last["units"] > 0
    assert (back["units"], back["cash"], back["equity"]) == (0.0, last["equity"], last["equity"])
    theirs = vectorbt.equity(luna, ledger.fills, costs)["equity"]
    assert float((theirs - ledger.equity["equity"]).abs().max()) < 1e-9  # type: ignore[arg-type]
