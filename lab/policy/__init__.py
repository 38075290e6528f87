"""Scores → decisions: one compiled step, looped over in batch and called once a bar live."""

import math
from typing import Annotated

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from lab.compiled import compiled
from lab.errors import UsageError
from lab.nouns import SETTINGS, Count, Vector


@dataclass(frozen=True, config=SETTINGS)
class Thresholds:
    """Enter at a strong score, leave at a weak one, hold less of what moves more.

    enter, exit: in the unit of the score (an expected return, or P(up) - P(down)). A long is opened at `enter` or
    above and closed below `exit`; shorts mirror it. target_vol: the volatility a position should have, per year
    (0.5 is 50 %); a position is never larger than the capital. None holds all or nothing. resize_band: an open
    position is resized only when its target moves by more than this share of the capital.
    """

    enter: Annotated[float, Field(gt=0)]
    exit: float = 0.0
    target_vol: Annotated[float, Field(gt=0)] | None = None
    vol_window: Count = 60
    resize_band: Annotated[float, Field(ge=0, le=1)] = 0.1
    shorts: bool = True

    def __post_init__(self) -> None:
        if not -self.enter <= self.exit <= self.enter:
            raise UsageError(
                f"policy: enter is {self.enter} and exit is {self.exit}",
                fix="give exit a value between -enter and enter",
            )

    def vol_per_bar(self, bars_per_year: float) -> float:
        """The volatility of one bar that `target_vol` stands for; infinite where none is wanted."""
        return math.inf if self.target_vol is None else self.target_vol / math.sqrt(bars_per_year)


def decide(scores: Vector, volatility: Vector, policy: Thresholds, bars_per_year: float) -> Vector:
    """Target shares in [-1, 1] for the consecutive bars of one symbol, beginning flat.

    volatility: of one bar, as known at its close. NaN in either means not known, and nothing is held then.
    """
    wanted = policy.vol_per_bar(bars_per_year)
    return _loop(scores, volatility, policy.enter, policy.exit, wanted, policy.resize_band, policy.shorts)


@compiled
def step(
    side: float,
    target: float,
    score: float,
    volatility: float,
    enter: float,
    leave: float,
    vol_per_bar: float,
    resize_band: float,
    shorts: bool,
) -> tuple[float, float]:
    """Side (-1, 0, 1) and target after one more bar, from those before it."""
    sized = vol_per_bar < math.inf
    if math.isnan(score) or (sized and not volatility > 0.0):
        return 0.0, 0.0
    held = side
    if (side > 0.0 and score < leave) or (side < 0.0 and score > -leave):
        side = 0.0
    if side == 0.0 and score >= enter:
        side = 1.0
    elif side == 0.0 and shorts and score <= -enter:
        side = -1.0
    wanted = side * min(1.0, vol_per_bar / volatility) if sized else side
    if side == held and abs(wanted - target) <= resize_band:
        wanted = target
    return side, wanted


@compiled
def _loop(
    scores: Vector,
    volatility: Vector,
    enter: float,
    leave: float,
    vol_per_bar: float,
    resize_band: float,
    shorts: bool,
) -> Vector:
    targets = np.zeros(scores.size)
    side = 0.0
    target = 0.0
    for t in range(scores.size):
        side, target = step(side, target, scores[t], volatility[t], enter, leave, vol_per_bar, resize_band, shorts)
        targets[t] = target
    return targets
