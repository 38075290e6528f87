"""What people say and fear: the headlines that became known with each bar, and indices of mood.

`headlines` and `sentiment` are what a bar brought since the close before: a count, and the sum of scores in [-1, 1].
Both are null while nobody listened, so windows that reach back to then are null too.
"""

import numpy as np

from lab.features.catalogue import feature
from lab.features.windows import change, exponential_sum, memory, rolling_sum, rolling_zscore
from lab.nouns import Ages, Formula, Vector

MOST_MOOD = 100  # the scale of the fear and greed index


def mean_score(headlines: Vector, sentiment: Vector, window: int, age: Ages) -> Vector:
    """Mean score of the headlines of the last `window` bars; NaN where there were none."""
    return rolling_sum(sentiment, window, age) / rolling_sum(headlines, window, age)


def kept(half_life: int) -> float:
    """The share of its weight that a value keeps from one bar to the next."""
    return float(0.5 ** (1 / half_life))


@feature(lookback=1)
def mood_level() -> Formula:
    """(mood - 50) / 50 of an index from 0, fear, to 100, greed: in [-1, 1]."""
    return lambda mood: 2 * mood / MOST_MOOD - 1


@feature(lookback=lambda window: window + 1)
def mood_change(window: int = 60) -> Formula:
    """Mood less that of `window` bars ago, in [-1, 1] of its scale from 0 to 100."""
    return lambda mood: change(mood, window) / MOST_MOOD


@feature(lookback=1, least=0)
def fear_greed_extreme(low: int = 25, high: int = 75) -> Formula:
    """1 where mood, from 0 to 100, is `high` or more (greed), -1 where it is `low` or less (fear), else 0."""
    return lambda mood: np.where(np.isnan(mood), np.nan, 1.0 * (mood >= high) - 1.0 * (mood <= low))


@feature(lookback=lambda window: window)
def news_count(window: int = 60) -> Formula:
    """ln(1 + headlines that became known in the last `window` bars)."""
    return lambda headlines, age: np.log1p(rolling_sum(headlines, window, age))


@feature(lookback=lambda window, usual: window + usual)
def news_surprise(window: int = 60, usual: int = 720) -> Formula:
    """(n - e) / √e: headlines of the last `window` bars against those expected, in deviations of Poisson.

    e is what `window` bars bring at the rate of the `usual` bars before them; null where those brought none.
    """

    def surprise(headlines: Vector, age: Ages) -> Vector:
        now = rolling_sum(headlines, window, age)
        before = np.full(now.size, np.nan)
        before[window:] = rolling_sum(headlines, usual, age)[: max(now.size - window, 0)]
        expected = before * (window / usual)
        return (now - expected) / np.sqrt(expected)

    return surprise


@feature(lookback=lambda window: window)
def news_sentiment(window: int = 60) -> Formula:
    """Mean score, in [-1, 1], of the headlines of the last `window` bars; null without headlines.

    Scores of titles are VADER's, Hutto & Gilbert (2014).
    """
    return lambda headlines, sentiment, age: mean_score(headlines, sentiment, window, age)


@feature(lookback=lambda half_life: memory(kept(half_life)))
def news_decay(half_life: int = 60) -> Formula:
    """Mean score, in [-1, 1], of headlines that weigh half as much every `half_life` bars; null without headlines.

    Those whose weight has fallen under 1e-12, after some 40 half-lives, are forgotten.
    """
    decay, length = kept(half_life), memory(kept(half_life))

    def decayed(headlines: Vector, sentiment: Vector, age: Ages) -> Vector:
        return exponential_sum(sentiment, decay, length, age) / exponential_sum(headlines, decay, length, age)

    return decayed


@feature(lookback=lambda fast, slow: max(fast, slow))
def sentiment_change(fast: int = 60, slow: int = 720) -> Formula:
    """Mean score of the headlines of the last `fast` bars less that of the last `slow`; null where either has none."""

    def difference(headlines: Vector, sentiment: Vector, age: Ages) -> Vector:
        return mean_score(headlines, sentiment, fast, age) - mean_score(headlines, sentiment, slow, age)

    return difference


@feature(lookback=lambda short, window: short + window - 1)
def sentiment_zscore(short: int = 60, window: int = 720) -> Formula:
    """Sum of the scores of the last `short` bars against its mean and deviation over `window` bars.

    Bars without headlines count as 0. Null where it did not change, so always for a `window` of 1.
    """
    return lambda sentiment, age: rolling_zscore(rolling_sum(sentiment, short, age), window, age)
