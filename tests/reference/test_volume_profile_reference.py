"""Volume profiles against worked figures, and against a slow one that is filled trade by trade."""

import io
import math
import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lab.features import compute, plain, volume_profile
from lab.nouns import Bars, Vector
from tests.conftest import bars_of, rows_of, two_state_moves

WINDOW, BINS = 30, 12


def column_of(bars: Bars, text: str) -> Vector:
    feature = plain(text)
    return compute(bars, [feature])[feature.name].to_numpy()


def overlap(low: float, high: float, bottom: float, top: float) -> float:
    """Share of the range from low to high that lies between bottom and top."""
    return max(min(high, top) - max(low, bottom), 0.0) / (high - low)


def slow_profile(frame: pl.DataFrame, bins: int) -> tuple[list[float], list[float]]:
    """Edges and volumes of the bins; every bar in the frame is compared with every bin."""
    bottom, top = min(frame["low"]), max(frame["high"])
    edges = [bottom + (top - bottom) * k / bins for k in range(bins + 1)]
    volumes = [
        math.fsum(v * overlap(lo, hi, a, b) for hi, lo, v in frame.select("high", "low", "volume").iter_rows())
        for a, b in pairwise(edges)
    ]
    return edges, volumes


def slow_area(volumes: list[float]) -> tuple[int, int, int]:
    """Point of control, first and last bin of the value area; adds pairs bin by bin."""
    centre = (len(volumes) - 1) / 2
    control = max(range(len(volumes)), key=lambda k: (volumes[k], -abs(k - centre), -k))
    held = [control]
    while math.fsum(volumes[k] for k in held) < 0.7 * math.fsum(volumes) and len(held) < len(volumes):
        above = [k for k in (max(held) + 1, max(held) + 2) if k < len(volumes)]
        below = [k for k in (min(held) - 1, min(held) - 2) if k >= 0]
        heavier = math.fsum(volumes[k] for k in above) >= math.fsum(volumes[k] for k in below)
        held += above if above and (heavier or not below) else below
    return control, min(held), max(held)


def bitcoin(folder: Path, rows: int) -> Bars:
    """Minutes of BTCUSDT in March 2026."""
    with zipfile.ZipFile(folder / "crypto/binance_spot/klines_1m/BTCUSDT-1m-2026-03.zip") as packed:
        text = packed.read(packed.namelist()[0])
    table = pl.read_csv(io.BytesIO(text), has_header=not text[:1].isdigit(), n_rows=rows)
    columns = dict(zip(("open", "high", "low", "close", "volume"), table.columns[1:6], strict=True))
    frame = rows_of("BTCUSDT", np.zeros(rows)).drop("buy_volume", "quote_volume", "trades")
    return bars_of(frame.with_columns(table[old].cast(pl.Float64).alias(new) for new, old in columns.items()))


def compare(bars: Bars) -> None:
    frame = bars.frame.select("high", "low", "close", "volume")
    names = ("poc_distance", "value_area_position", "value_area_width")
    found = {name: column_of(bars, f"{name}({WINDOW}, {BINS})") for name in names}
    above = column_of(bars, f"volume_above_share({WINDOW})")
    assert all(np.isnan(x[: WINDOW - 1]).all() for x in (*found.values(), above))
    for t in range(WINDOW - 1, frame.height):
        window = frame.slice(t - WINDOW + 1, WINDOW)
        close = window["close"][-1]
        edges, volumes = slow_profile(window, BINS)
        control, first, last = slow_area(volumes)
        low, high = edges[first], edges[last + 1]
        assert found["poc_distance"][t] == pytest.approx(
            math.log(close * 2 / (edges[control] + edges[control + 1])), rel=1e-9, abs=1e-12
        )
        assert found["value_area_position"][t] == pytest.approx((close - low) / (high - low), rel=1e-9, abs=1e-9)
        assert found["value_area_width"][t] == pytest.approx(math.log(high / low), rel=1e-9)
        over = math.fsum(
            v * overlap(lo, hi, close, math.inf) for hi, lo, v in window.select("high", "low", "volume").iter_rows()
        )
        assert above[t] == pytest.approx(over / math.fsum(window["volume"]), rel=1e-9, abs=1e-12)


def test_a_random_market_is_profiled_as_one_who_fills_every_bin_would() -> None:
    compare(bars_of(rows_of("PLAIN", two_state_moves(400, 0.3, (0.0005, 0.005), seed=7))))


def test_bitcoin_is_profiled_as_one_who_fills_every_bin_would(real_markets: Path) -> None:
    compare(bitcoin(real_markets, 400))


def test_the_value_area_of_the_worked_profile_is_103_to_107() -> None:
    """shared/facts/microstructure.md, section 6: bins 100 to 109, two-row rule."""
    volumes = np.array([5.0, 10, 20, 35, 60, 80, 55, 25, 8, 2])
    control = volume_profile.point_of_control(volumes)
    first, last = volume_profile.value_area(volumes, control, 0.7)
    assert (100 + control, 100 + first, 100 + last) == (105, 103, 107)
    assert volumes[first : last + 1].sum() == 255


@pytest.mark.parametrize(
    ("volumes", "control", "area"),
    [
        ([1.0, 1.0, 1.0, 1.0], 1, (1, 3)),  # nearest to the middle, then the lower; the area grows upward on a tie
        ([9.0, 1.0, 1.0, 9.0, 1.0], 3, (0, 3)),  # the nearest to the middle; two below outweigh the one above
        ([1.0, 2.0, 5.0, 2.0, 1.0], 2, (2, 4)),  # two above and two below weigh the same: upward
        ([1.0, 1.0, 7.0, 1.0, 0.0], 2, (2, 2)),  # 70 % exactly is enough
        ([7.0, 0.0, 1.0, 1.0, 0.0], 0, (0, 0)),
        ([0.0, 0.0, 1.0, 1.0, 7.0], 4, (4, 4)),
        ([5.0, 0.0, 0.0, 0.0, 4.0], 0, (0, 4)),  # nothing is left below
        ([4.0, 0.0, 0.0, 0.0, 5.0], 4, (0, 4)),  # nothing is left above
    ],
)
def test_ties_and_edges_are_settled_by_rule(volumes: list[float], control: int, area: tuple[int, int]) -> None:
    profile = np.array(volumes)
    assert volume_profile.point_of_control(profile) == control
    assert volume_profile.value_area(profile, control, 0.7) == area
    assert slow_area(volumes) == (control, *area)


def test_bars_without_range_fall_into_one_bin_each() -> None:
    prices = np.array([100.0, 101.0, 104.0, 101.0])
    volume = np.array([1.0, 2.0, 1.0, 4.0])
    profile = volume_profile.spread(prices, prices, volume, 100.0, 1.0, 4)
    assert profile.tolist() == [1, 6, 0, 1]  # the highest price belongs to the last bin
    assert volume_profile.share_above(prices, prices, prices, volume, 4)[-1] == (1 + (2 + 4) / 2) / 8


def test_a_market_without_range_or_volume_has_no_profile() -> None:
    asleep = bars_of(rows_of("ASLEEP", np.zeros(60)))
    untraded = bars_of(rows_of("UNTRADED", two_state_moves(60, 0.3, (0.001, 0.01), seed=1), volume=np.zeros(60)))
    for name in ("poc_distance", "value_area_position", "value_area_width"):
        for bars in (asleep, untraded):
            assert np.isnan(column_of(bars, f"{name}({WINDOW}, {BINS})")).all()
    assert np.isnan(column_of(untraded, f"volume_above_share({WINDOW})")).all()
    assert (column_of(asleep, f"volume_above_share({WINDOW})")[WINDOW - 1 :] == 0.5).all()


def test_prices_and_volumes_in_other_units_are_the_same_market() -> None:
    frame = rows_of("PLAIN", two_state_moves(300, 0.3, (0.0005, 0.005), seed=9))
    other = frame.with_columns(
        pl.col("open", "high", "low", "close") * 1024, pl.col("volume", "buy_volume", "quote_volume") / 64
    )
    for name in ("poc_distance", "value_area_position", "value_area_width"):
        text = f"{name}({WINDOW}, {BINS})"
        np.testing.assert_array_equal(column_of(bars_of(frame), text), column_of(bars_of(other), text))
    share = f"volume_above_share({WINDOW})"
    np.testing.assert_array_equal(column_of(bars_of(frame), share), column_of(bars_of(other), share))
