"""Policy: scores become positions as the thresholds say, the same in batch and bar by bar."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from lab import policy
from lab.errors import UsageError
from lab.policy import Thresholds

NAN = math.nan
BARS_PER_YEAR = 365.25


@dataclass
class Trader:
    """A slow, spelled-out reader of the thresholds, with a word for what is held."""

    rules: Thresholds
    position: str = "flat"
    target: float = 0.0

    def hear(self, score: float, volatility: float) -> float:
        unknown = math.isnan(score) or (self.rules.target_vol is not None and not volatility > 0)
        if unknown:
            self.position, self.target = "flat", 0.0
            return 0.0
        before = self.position
        if self._over(score):
            self.position = "flat"
        if self.position == "flat":
            if score >= self.rules.enter:
                self.position = "long"
            elif self.rules.shorts and -score >= self.rules.enter:
                self.position = "short"
        size = self._size(volatility)
        wanted = {"long": size, "short": -size, "flat": 0.0}[self.position]
        if self.position != before or abs(wanted - self.target) > self.rules.resize_band:
            self.target = wanted
        return self.target

    def _over(self, score: float) -> bool:
        """Whether what is held is to be closed."""
        if self.position == "long":
            return score < self.rules.exit
        return self.position == "short" and -score < self.rules.exit

    def _size(self, volatility: float) -> float:
        if self.rules.target_vol is None:
            return 1.0
        wanted = self.rules.target_vol / math.sqrt(BARS_PER_YEAR)
        return wanted / volatility if volatility > wanted else 1.0


# Few values, so that scores fall on the thresholds and not only around them.
levels = st.sampled_from([-2.0, -1.0, -0.5, -0.2, 0.0, 0.2, 0.5, 1.0, 2.0])
scores = st.one_of(levels, levels, levels, st.floats(-3, 3), st.just(NAN))
volatilities = st.one_of(st.floats(1e-4, 0.2), st.floats(1e-4, 0.2), st.sampled_from([0.0, NAN, 1e-12, 10.0]))


@st.composite
def rules(draw: st.DrawFn) -> Thresholds:
    enter = draw(st.sampled_from([0.2, 0.5, 1.0]))
    leave = draw(st.sampled_from([-1.0, -0.5, -0.2, 0.0, 0.2, 0.5, 1.0]).filter(lambda leave: abs(leave) <= enter))
    return Thresholds(
        enter=enter,
        exit=leave,
        target_vol=draw(st.sampled_from([None, 0.1, 0.5, 2.0])),
        resize_band=draw(st.sampled_from([0.0, 0.1, 0.5, 1.0])),
        shorts=draw(st.booleans()),
    )


many = settings(deadline=None, max_examples=300, derandomize=True)


def decided(rules: Thresholds, scores: list[float], volatility: list[float] | None = None) -> list[float]:
    vol = volatility or [0.01] * len(scores)
    return policy.decide(np.array(scores, float), np.array(vol, float), rules, BARS_PER_YEAR).tolist()


def stepped(rules: Thresholds, heard: list[tuple[float, float]]) -> list[float]:
    side = target = 0.0
    targets = []
    for score, volatility in heard:
        side, target = policy.step(
            side,
            target,
            score,
            volatility,
            rules.enter,
            rules.exit,
            rules.vol_per_bar(BARS_PER_YEAR),
            rules.resize_band,
            rules.shorts,
        )
        targets.append(target)
    return targets


@many
@given(rules(), st.lists(st.tuples(scores, volatilities), max_size=60))
def test_it_decides_as_the_spelled_out_trader_does(rules: Thresholds, heard: list[tuple[float, float]]) -> None:
    trader = Trader(rules)
    expected = [trader.hear(score, volatility) for score, volatility in heard]
    found = decided(rules, [score for score, _ in heard], [volatility for _, volatility in heard])
    assert len(found) == len(heard)
    assert found == pytest.approx(expected, rel=1e-12, abs=0)


@many
@given(rules(), st.lists(st.tuples(scores, volatilities), max_size=60))
def test_batch_is_the_loop_over_the_step_to_the_bit(rules: Thresholds, heard: list[tuple[float, float]]) -> None:
    batch = decided(rules, [score for score, _ in heard], [volatility for _, volatility in heard])
    assert stepped(rules, heard) == batch


@many
@given(rules(), st.lists(st.tuples(scores, volatilities), max_size=60))
def test_a_target_stays_within_the_capital_and_within_the_volatility_wanted(
    rules: Thresholds, heard: list[tuple[float, float]]
) -> None:
    targets = decided(rules, [score for score, _ in heard], [volatility for _, volatility in heard])
    assert len(targets) == len(heard)
    assert all(-1 <= target <= 1 for target in targets)
    assert rules.shorts or min(targets, default=0.0) >= 0
    if rules.target_vol is not None:
        wanted = rules.target_vol / math.sqrt(BARS_PER_YEAR)
        for target, (_, volatility) in zip(targets, heard, strict=True):
            # A position may drift from its size by the band before it is resized, and no further.
            assert target == 0 or abs(target) <= min(1, wanted / volatility) + rules.resize_band + 1e-12


@many
@given(rules(), st.lists(st.tuples(scores, volatilities), max_size=60))
def test_turning_every_score_around_turns_every_target_around(
    rules: Thresholds, heard: list[tuple[float, float]]
) -> None:
    both = Thresholds(**{**vars_of(rules), "shorts": True})
    vols = [volatility for _, volatility in heard]
    turned = decided(both, [-score for score, _ in heard], vols)
    assert turned == [-target for target in decided(both, [score for score, _ in heard], vols)]


def vars_of(rules: Thresholds) -> dict[str, object]:
    return {name: getattr(rules, name) for name in Thresholds.__dataclass_fields__}


def test_a_position_opens_at_enter_and_is_kept_until_the_score_falls_below_exit() -> None:
    scores = [0.9, 1.0, 0.5, 0.2, 0.19, 0.9, 1.0]
    assert decided(Thresholds(enter=1.0, exit=0.2), scores) == [0, 1, 1, 1, 0, 0, 1]
    assert decided(Thresholds(enter=1.0, exit=0.2), [-score for score in scores]) == [0, -1, -1, -1, 0, 0, -1]


def test_an_exit_below_zero_keeps_a_long_through_a_weak_score_against_it() -> None:
    assert decided(Thresholds(enter=1.0, exit=-0.5), [1.0, -0.5, -0.51, -1.0, 0.5, 0.51]) == [1, 1, 0, -1, -1, 0]


def test_a_strong_score_the_other_way_turns_the_position_over_at_once() -> None:
    assert decided(Thresholds(enter=1.0), [1.0, -1.0, 1.0]) == [1, -1, 1]


def test_without_shorts_a_strong_score_downwards_only_closes() -> None:
    assert decided(Thresholds(enter=1.0, shorts=False), [-2.0, 1.0, -2.0, -2.0, 1.0]) == [0, 1, 0, 0, 1]


def test_where_no_score_is_known_nothing_is_held_and_what_was_is_not_taken_up_again() -> None:
    assert decided(Thresholds(enter=1.0), [1.0, NAN, 0.5, 1.0]) == [1, 0, 0, 1]
    assert decided(Thresholds(enter=1.0), [NAN] * 3) == [0, 0, 0]


def test_a_position_is_as_large_as_its_volatility_allows() -> None:
    per_bar = 0.5 / math.sqrt(BARS_PER_YEAR)
    rules = Thresholds(enter=1.0, target_vol=0.5, resize_band=0.0)
    targets = decided(rules, [1.0] * 4, [per_bar / 2, per_bar, per_bar * 2, per_bar * 8])
    assert targets == pytest.approx([1.0, 1.0, 0.5, 0.125], rel=1e-12)


def test_without_a_known_volatility_nothing_is_held_if_it_is_wanted() -> None:
    assert decided(Thresholds(enter=1.0, target_vol=0.5), [1.0] * 3, [NAN, 0.0, 0.001]) == [0, 0, 1]
    assert decided(Thresholds(enter=1.0), [1.0] * 3, [NAN, 0.0, 0.001]) == [1, 1, 1]


def test_a_position_is_resized_only_when_it_is_off_by_more_than_the_band() -> None:
    per_bar = 0.5 / math.sqrt(BARS_PER_YEAR)
    rules = Thresholds(enter=1.0, target_vol=0.5, resize_band=0.25)
    vols = [per_bar / size for size in (0.5, 0.7, 0.26, 0.76, 0.52, 0.5)]
    assert decided(rules, [1.0] * 6, vols) == pytest.approx([0.5, 0.5, 0.5, 0.76, 0.76, 0.5], rel=1e-12)


def test_a_position_that_is_off_by_just_the_band_is_left_as_it_is() -> None:
    rules = Thresholds(enter=1.0, target_vol=math.sqrt(BARS_PER_YEAR), resize_band=0.25)
    assert rules.vol_per_bar(BARS_PER_YEAR) == 1.0
    assert decided(rules, [1.0] * 3, [2.0, 4.0, 8.0]) == [0.5, 0.5, 0.125]


@pytest.mark.parametrize(
    "settings",
    [
        {"enter": 0.0},
        {"enter": -1.0},
        {"enter": NAN},
        {"enter": math.inf},
        {"enter": 1.0, "exit": NAN},
        {"enter": 1.0, "target_vol": 0.0},
        {"enter": 1.0, "target_vol": math.inf},
        {"enter": 1.0, "vol_window": 0},
        {"enter": 1.0, "resize_band": 1.5},
        {"enter": 1.0, "shorts": 2},
        {"enter": 1.0, "stop": 0.1},
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Thresholds(**settings)


@pytest.mark.parametrize("leave", [1.01, -1.01])
def test_an_exit_outside_the_entries_is_refused_with_both(leave: float) -> None:
    with pytest.raises(UsageError, match=f"enter is 1.0 and exit is {leave}"):
        Thresholds(enter=1.0, exit=leave)
