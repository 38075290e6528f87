"""Smart-money features against a worked example, and against a slow bookkeeper who writes down every event."""

import io
import math
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lab.features import FEATURES, compute, plain, smart_money
from lab.nouns import Bars, Vector
from tests.conftest import bars_of, rows_of, two_state_moves

SIDE, MEMORY = 2, 25
SWINGS = (
    "swing_high_distance",
    "swing_low_distance",
    "swing_high_age",
    "swing_low_age",
    "premium_discount",
)
STRUCTURE = (
    "structure_trend",
    "break_of_structure",
    "change_of_character",
    "structure_break_age",
    "liquidity_sweep",
    "order_block_distance",
    "order_block_inside",
    "order_block_age",
)
SMART_MONEY_16 = {
    *SWINGS,
    *STRUCTURE[:-1],
    "equal_level_distance",
    "fair_value_gap",
    "fair_value_gap_distance",
    "open_gap_balance",
}
THREE_MORE = ("order_block_age", "fair_value_gap_size", "failed_break")
EXAMPLE = """
9.5 10 9 9.8 | 9.8 11 9.7 10.9 | 10.9 13 10.5 12.5 | 12.5 12.6 11.2 11.5 | 11.5 11.8 10.8 11.0 | 11.0 12.2 10.9 12.0
| 12.0 14 11.9 13.5 | 13.4 14.2 12.4 12.7 | 12.7 13.2 12.0 12.5 | 12.5 13.0 12.2 12.6 | 12.6 14.5 12.5 13.8
"""


@dataclass
class Bar:
    open: float
    high: float
    low: float
    close: float


@dataclass
class Swing:
    bar: int
    level: float
    broken: bool = False


@dataclass
class Gap:
    born: int
    middle: float
    open: bool = True


@dataclass
class Block:
    made: int
    low: float
    high: float
    live: bool = True


@dataclass
class Pool:
    first: int
    level: float
    taken: bool = False


@dataclass
class Half:
    """What one who looks upwards keeps: swing highs, gaps up, blocks of breaks up, equal highs."""

    swings: list[Swing] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    pools: list[Pool] = field(default_factory=list)
    passed: list[tuple[int, float]] = field(default_factory=list)


def written_down(bars: list[Bar], side: int, memory: int, tolerance: float = 0.1) -> dict[str, list[float]]:
    """Every feature of every bar, from lists of events that are looked through from the start each time.

    The lower half of the market is the upper half of the same bars upside down.
    """
    upside_down = [Bar(-bar.open, -bar.low, -bar.high, -bar.close) for bar in bars]
    halves = (Half(), Half())
    breaks: list[tuple[int, int]] = []
    rows: dict[str, list[float]] = {name: [] for name in (*SMART_MONEY_16, *THREE_MORE)}
    for t, bar in enumerate(bars):
        sweep = gap = failure = 0
        size = 0.0
        broke = 0
        for sign, half, view in zip((1, -1), halves, (bars, upside_down), strict=True):
            now = view[t]
            known = half.swings[-1] if half.swings else None
            live = known if known and not known.broken and t - 1 - known.bar < memory else None
            if live and now.high > live.level and now.close < live.level:
                sweep -= sign
            for block in half.blocks:
                block.live = block.live and not now.close < block.low
            if half.passed and now.close < half.passed[-1][1] and t - half.passed[-1][0] <= 3:
                failure -= sign
                half.passed.clear()
            if live and now.close > live.level:
                broke = sign
                half.passed.append((t, live.level))
                leg = range(live.bar + 1, t)
                lowest = min(leg, key=lambda k: (view[k].low, -k))
                black = [k for k in leg if k >= lowest and view[k].close < view[k].open]
                if black:
                    half.blocks.append(Block(t, view[black[-1]].low, view[black[-1]].high))
            for swing in half.swings:
                swing.broken = swing.broken or now.close > swing.level
            for each in half.gaps:
                each.open = each.open and now.low > each.middle
            if t >= 2 and now.low > view[t - 2].high:
                gap = sign
                size = math.log(bar.low / bars[t - 2].high) if sign > 0 else math.log(bar.high / bars[t - 2].low)
                half.gaps.append(Gap(t, view[t - 2].high + (now.low - view[t - 2].high) / 2))
            for pool in half.pools:
                pool.taken = pool.taken or now.high > pool.level
            at = t - side
            before, after = view[max(at - side, 0) : max(at, 0)], view[at + 1 : t + 1]
            if (
                at >= side
                and all(b.high < view[at].high for b in before)
                and all(b.high <= view[at].high for b in after)
            ):
                last = half.swings[-1] if half.swings else None
                half.swings.append(Swing(at, view[at].high))
                if last and t >= 14:
                    closes = [b.close for b in view[t - 14 : t]]
                    ranges = [max(b.high, c) - min(b.low, c) for b, c in zip(view[t - 13 : t + 1], closes, strict=True)]
                    if abs(last.level - view[at].high) <= tolerance * sum(ranges) / 14:
                        half.pools.append(Pool(last.bar, max(last.level, view[at].high)))
        remembered = [direction for when, direction in breaks if t - when < memory]
        trend = remembered[-1] if remembered else 0
        if broke:
            breaks.append((t, broke))
        up, down = halves
        high = next((s for s in up.swings[::-1][:1] if t - s.bar < memory), None)
        low = next((s for s in down.swings[::-1][:1] if t - s.bar < memory), None)
        live_gaps = [[g.middle for g in half.gaps if g.open and t - g.born < memory] for half in halves]
        blocks = [next((b for b in half.blocks[::-1][:1] if b.live and t - b.made < memory), None) for half in halves]
        pools = [next((p for p in h.pools[::-1][:1] if not p.taken and t - p.first < memory), None) for h in halves]
        row = {
            "swing_high_distance": math.log(bar.close / high.level) if high else math.nan,
            "swing_low_distance": math.log(bar.close / -low.level) if low else math.nan,
            "swing_high_age": t - high.bar if high else math.nan,
            "swing_low_age": t - low.bar if low else math.nan,
            "premium_discount": (bar.close + low.level) / (high.level + low.level)
            if high and low and high.level > -low.level
            else math.nan,
            "structure_trend": broke or trend,
            "break_of_structure": broke if broke * trend >= 0 else 0,
            "change_of_character": broke if broke * trend < 0 else 0,
            "structure_break_age": t - breaks[-1][0] if breaks and t - breaks[-1][0] < memory else math.nan,
            "fair_value_gap": gap,
            "fair_value_gap_size": size,
            "fair_value_gap_distance": _distance(bar.close, [*live_gaps[0], *(-m for m in live_gaps[1])]),
            "open_gap_balance": len(live_gaps[0]) - len(live_gaps[1]),
            "order_block_distance": _distance(
                bar.close,
                [sign * (b.low + b.high) / 2 for sign, b in zip((1, -1), blocks, strict=True) if b],
            ),
            "order_block_inside": _inside(bar.close, *blocks),
            "order_block_age": min((t - b.made for b in blocks if b), default=math.nan),
            "liquidity_sweep": sweep,
            "failed_break": failure,
            "equal_level_distance": _distance(
                bar.close, [sign * p.level for sign, p in zip((1, -1), pools, strict=True) if p]
            ),
        }
        for name, value in row.items():
            rows[name].append(value)
    return rows


def _distance(close: float, levels: list[float]) -> float:
    return math.log(close / min(levels, key=lambda level: abs(close - level))) if levels else math.nan


def _inside(close: float, bullish: Block | None, bearish: Block | None) -> int:
    within = [
        (block.made, sign)
        for sign, block in ((1, bullish), (-1, bearish))
        if block and block.low <= sign * close <= block.high
    ]
    return max(within)[1] if within else 0


def bars_in(frame: pl.DataFrame) -> list[Bar]:
    return [Bar(*row) for row in frame.select("open", "high", "low", "close").iter_rows()]


def text_of(name: str) -> str:
    if name in ("fair_value_gap", "fair_value_gap_size"):
        return name
    if name in ("fair_value_gap_distance", "open_gap_balance"):
        return f"{name}({MEMORY})"
    return f"{name}({SIDE}, {MEMORY})"


def column_of(bars: Bars, text: str) -> Vector:
    feature = plain(text)
    return compute(bars, [feature])[feature.name].to_numpy()


def compare(bars: Bars) -> None:
    """Every row of every feature equals the bookkeeper's, once its look-back is complete."""
    expected = written_down(bars_in(bars.frame), SIDE, MEMORY)
    for name, values in expected.items():
        feature = plain(text_of(name))
        found = column_of(bars, text_of(name))
        assert np.isnan(found[: feature.lookback - 1]).all(), name
        begin = feature.lookback - 1
        np.testing.assert_allclose(found[begin:], np.array(values)[begin:], rtol=1e-12, atol=1e-12, err_msg=name)
        assert np.isfinite(found[begin:]).any() and np.unique(found[np.isfinite(found)]).size > 1, name


def ticks(rows: int, seed: int) -> Bars:
    """A market in so few ticks that highs, lows and closes are often equal, with gaps between bars now and then."""
    rng = np.random.default_rng(seed)
    opened = 200.0 + np.cumsum(rng.integers(-2, 3, rows) + 6 * rng.integers(-1, 2, rows) * (rng.random(rows) < 0.15))
    close = opened + rng.integers(-3, 4, rows)
    prices = {
        "open": opened,
        "high": np.maximum(opened, close) + rng.integers(0, 3, rows),
        "low": np.minimum(opened, close) - rng.integers(0, 3, rows),
        "close": close,
    }
    frame = rows_of("TICKS", np.zeros(rows)).with_columns(pl.Series(name, x) for name, x in prices.items())
    return bars_of(frame.with_columns(pl.col("open", "high", "low", "close") + 2_000))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_ticks_on_which_everything_ties_are_read_as_a_bookkeeper_reads_them(seed: int) -> None:
    compare(ticks(1500, seed))


def test_a_market_of_two_regimes_is_read_as_a_bookkeeper_reads_it() -> None:
    compare(bars_of(rows_of("PLAIN", two_state_moves(2000, 0.3, (0.0005, 0.005), seed=7))))


def test_bitcoin_is_read_as_a_bookkeeper_reads_it(real_markets: Path) -> None:
    compare(bitcoin(real_markets, 4000))


def bitcoin(folder: Path, rows: int) -> Bars:
    """Minutes of BTCUSDT in March 2026."""
    with zipfile.ZipFile(folder / "crypto/binance_spot/klines_1m/BTCUSDT-1m-2026-03.zip") as packed:
        text = packed.read(packed.namelist()[0])
    table = pl.read_csv(io.BytesIO(text), has_header=not text[:1].isdigit(), n_rows=rows)
    columns = dict(zip(("open", "high", "low", "close", "volume"), table.columns[1:6], strict=True))
    frame = rows_of("BTCUSDT", np.zeros(rows)).drop("buy_volume", "quote_volume", "trades")
    return bars_of(frame.with_columns(table[old].cast(pl.Float64).alias(new) for new, old in columns.items()))


def test_the_worked_example_comes_out_to_the_letter() -> None:
    o, h, low, c = np.array([[float(x) for x in bar.split()] for bar in EXAMPLE.split("|")]).T
    none = np.full(11, np.nan)
    level, age = smart_money.last_swing(h, 2, 100)
    np.testing.assert_array_equal(level, [*none[:4], *[13.0] * 5, 14.2, 14.2])  # known at 4 and at 9
    np.testing.assert_array_equal(age, [*none[:4], 2, 3, 4, 5, 6, 2, 3])
    assert np.isnan(smart_money.last_swing(-low, 2, 100)[0][:7]).all()

    broken, before, since = smart_money.structure(h, low, c, 2, 100)
    assert broken.tolist() == [0] * 6 + [1] + [0] * 4
    assert before.tolist() == [0] * 7 + [1] * 4  # no trend before it: a break of structure
    np.testing.assert_array_equal(since, [*none[:6], 0, 1, 2, 3, 4])

    live, live_age = smart_money.live_swing(h, c, 2, 100)
    np.testing.assert_array_equal(live, [*none[:4], 13.0, 13.0, *none[:3], 14.2, 14.2])
    bottom, top, made = smart_money.order_blocks(o, h, low, c, live, live_age, 2, 100)
    np.testing.assert_array_equal(bottom, [*none[:6], *[10.8] * 5])
    np.testing.assert_array_equal(top, [*none[:6], *[11.8] * 5])
    np.testing.assert_array_equal(made, [*none[:6], 0, 1, 2, 3, 4])

    formula = plain("fair_value_gap").formula
    assert callable(formula)
    assert formula(h, low).tolist() == [0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 0]
    middles, count = smart_money.open_gaps(h, low, 100)
    np.testing.assert_allclose(middles, [np.nan, np.nan, 10.25, 11.1, 10.25, 10.25, 11.85, 12.3, 11.85, 11.85, 11.85])
    assert count.tolist() == [0, 0, 1, 2, 1, 1, 2, 3, 2, 2, 2]

    sweep = plain("liquidity_sweep(2, 100)").formula
    assert callable(sweep)
    assert sweep(h, low, c).tolist() == [0] * 10 + [-1]


@pytest.mark.parametrize("name", sorted({*SMART_MONEY_16, *THREE_MORE}))
def test_bars_that_come_later_change_nothing(name: str) -> None:
    bars = ticks(400, 5)
    whole = column_of(bars, text_of(name))
    for end in range(80, 400, 7):
        head = Bars.of(bars.frame.head(end), "1m")
        np.testing.assert_array_equal(column_of(head, text_of(name)), whole[:end])


@pytest.mark.parametrize("name", sorted({*SMART_MONEY_16, *THREE_MORE}))
def test_prices_in_other_money_are_the_same_market(name: str) -> None:
    bars = ticks(400, 6)
    dear = Bars.of(bars.frame.with_columns(pl.col("open", "high", "low", "close") * 1024), "1m")
    np.testing.assert_array_equal(column_of(bars, text_of(name)), column_of(dear, text_of(name)))


def test_an_upside_down_market_is_read_upside_down() -> None:
    """Highs become lows: whatever has a direction turns round, event by event."""
    bars = ticks(800, 8).frame
    mirrored = bars.with_columns(
        open=4_400 - pl.col("open"),
        high=4_400 - pl.col("low"),
        low=4_400 - pl.col("high"),
        close=4_400 - pl.col("close"),
    )
    up, down = Bars.of(bars, "1m"), Bars.of(mirrored, "1m")
    for name in ("structure_trend", "break_of_structure", "change_of_character", "fair_value_gap", "liquidity_sweep"):
        np.testing.assert_array_equal(column_of(up, text_of(name)), -column_of(down, text_of(name)))
    for high, low in (("swing_high_age", "swing_low_age"), ("structure_break_age", "structure_break_age")):
        np.testing.assert_array_equal(column_of(up, text_of(high)), column_of(down, text_of(low)))


def test_there_are_sixteen_and_three_more() -> None:
    assert len(SMART_MONEY_16) == 16
    family = {name for name in FEATURES if FEATURES[name].family == "smart money"}
    assert family == SMART_MONEY_16 | set(THREE_MORE)
