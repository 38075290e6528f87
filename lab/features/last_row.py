"""The last row of columns, close after close, as live needs it: the same bits as a batch over all bars."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from lab.features.computing import expressions, read_by, taken_by
from lab.features.recent import Recent
from lab.nouns import AGE, Feature, Matrix, Vector

FEWEST_BARS = 64


@dataclass(frozen=True)
class Look:
    """Features that are computed of the same number of bars; each with its place in a row."""

    bars: int
    reads: list[str]
    called: list[tuple[int, int, Callable[..., Vector], list[str]]]  # place, look-back, formula, what it takes
    expressed: list[tuple[int, Feature]]


class Latest:
    """The last row of some features, for all symbols that closed.

    A call costs more than what it computes of a few bars. So the bars of all symbols lie end to end for the formulas
    that may be given them so; any other is called for each symbol.
    """

    def __init__(self, features: Sequence[Feature]) -> None:
        self._features = features
        self._longest = max((each.lookback for each in features), default=1)
        self._together = self._looks(end_to_end=True)
        self._apart = self._looks(end_to_end=False)

    @property
    def needs(self) -> set[str]:
        """The bar columns that they read."""
        return {name for each in self._features for name in each.needs}

    def of(self, recents: Sequence[Recent]) -> Matrix:
        """A row a symbol, in their order, and a column a feature, from these bars; NaN for null."""
        values = np.full((len(self._features), len(recents)), np.nan)
        grown = np.array([recent.height >= self._longest for recent in recents])
        with np.errstate(all="ignore"):
            if grown.all():
                _write(self._together, recents, values)
            for place, recent in enumerate(recents):
                alone = values[:, place : place + 1]
                if not grown.all():  # of one close, few are young, and none for long
                    _write(self._together, [recent], alone)
                _write(self._apart, [recent], alone)
        values[~np.isfinite(values)] = np.nan
        return values.T

    def _looks(self, end_to_end: bool) -> list[Look]:
        """Similar look-backs in one: of each, the next power of two, but no more bars than are kept."""
        by_bars: dict[int, list[tuple[int, Feature]]] = {}
        for place, each in enumerate(self._features):
            if each.end_to_end == end_to_end:
                bars = max(FEWEST_BARS, 1 << (each.lookback - 1).bit_length())
                by_bars.setdefault(min(bars, self._longest), []).append((place, each))
        return [_look(bars, some) for bars, some in by_bars.items()]


class LatestCompared:
    """What features across symbols take of one close, close after close: the same bits as `compared` over all bars."""

    def __init__(self, features: Sequence[Feature]) -> None:
        self._across = [(each, each.across, Latest([each.across.inner])) for each in features if each.across]

    def write(self, recents: Sequence[Recent]) -> None:
        """Amend the latest bar of each symbol, which all end at one close."""
        ordered = sorted(recents, key=lambda recent: recent.symbol)
        for feature, across, inner in self._across:
            own = inner.of(ordered)[:, 0]
            market = across.compared(own, np.array([0, own.size]))
            for recent, mine, others in zip(ordered, own, market, strict=True):
                recent.amend(feature.column_of("own"), mine)
                recent.amend(feature.column_of("market"), others)


def latest(recent: Recent, features: Sequence[Feature]) -> list[float]:
    """The last row of `compute` from the latest bars of one symbol, NaN for null."""
    return cast("list[float]", Latest(features).of([recent])[0].tolist())


def _look(bars: int, features: Sequence[tuple[int, Feature]]) -> Look:
    called = [
        (place, each.lookback, cast("Callable[..., Vector]", each.formula), taken_by(each))
        for place, each in features
        if each.arguments
    ]
    expressed = [(place, each) for place, each in features if not each.arguments]
    return Look(bars, read_by(each for _, each in features), called, expressed)


def _write(looks: Sequence[Look], recents: Sequence[Recent], values: Matrix) -> None:
    """The values of these symbols, who have as many bars as each other or more than any look, a row a feature."""
    for look in looks:
        seen = min(look.bars, recents[0].height)
        ages = [recent.age - seen + 1 for recent in recents]
        arrays: dict[str, Any] = {AGE: np.array(ages)}
        arrays |= {name: _end_to_end([recent.column(name, seen) for recent in recents]) for name in look.reads}
        for place, lookback, formula, names in look.called:
            if lookback <= seen:
                values[place] = formula(*[arrays[name] for name in names])[seen - 1 :: seen]
        if look.expressed:
            features = [each for _, each in look.expressed]
            frame = recents[0].frame(sorted({name for each in features for name in each.needs}), seen)
            found = expressions(frame, features, ages[0])
            for place, each in look.expressed:
                if each.lookback <= seen:
                    values[place] = found[each.name][-1]


def _end_to_end(columns: Sequence[Vector]) -> Vector:
    return np.concatenate(columns) if len(columns) > 1 else columns[0]
