"""Headlines and mood against VADER's published scores and against slow loops."""

import math
import time
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.features import compute, mood, plain
from lab.features.certificate import certify
from lab.nouns import Bars
from lab.sentiment import MOST_CHARACTERS, STEP, scores_of
from tests.conftest import Numbers, bars_of, rows_of

# What the README of github.com/cjhutto/vaderSentiment prints (commit 0180de6). Its 15th sentence is left out: the
# output there is of another text than the code beside it.
PUBLISHED = {
    "VADER is smart, handsome, and funny.": 0.8316,
    "VADER is smart, handsome, and funny!": 0.8439,
    "VADER is very smart, handsome, and funny.": 0.8545,
    "VADER is VERY SMART, handsome, and FUNNY.": 0.9227,
    "VADER is VERY SMART, handsome, and FUNNY!!!": 0.9342,
    "VADER is VERY SMART, uber handsome, and FRIGGIN FUNNY!!!": 0.9469,
    "VADER is not smart, handsome, nor funny.": -0.7424,
    "The book was good.": 0.4404,
    "At least it isn't a horrible book.": 0.431,
    "The book was only kind of good.": 0.3832,
    "The plot was good, but the characters are uncompelling and the dialog is not great.": -0.7042,
    "Today SUX!": -0.5461,
    "Today only kinda sux! But I'll get by, lol": 0.5249,
    "Make sure you :) or :D today!": 0.8633,
    "Not bad at all": 0.431,
}
ROWS = 400
FEATURES = (
    *("mood_level", "mood_change(5)", "fear_greed_extreme", "fear_greed_extreme(0, 50)", "news_count(7)"),
    *(
        "news_surprise(5, 20)",
        "news_sentiment(7)",
        "news_decay(3)",
        "sentiment_change(5, 20)",
        "sentiment_zscore(3, 9)",
    ),
)


@pytest.fixture(scope="module")
def told() -> Bars:
    """A market of which much is said, then nothing for 100 bars; nobody had listened to the first 10."""
    rng = np.random.default_rng(5)
    frame = rows_of("TOLD", rng.normal(0, 1e-3, ROWS))
    headlines = rng.poisson(np.where(np.arange(ROWS) // 100 == 2, 0.0, 0.4)).astype(np.float64)
    sentiment = headlines * rng.integers(-1000, 1000, ROWS) * 2.0**-10
    unheard = pl.int_range(pl.len()) < 10
    added = pl.DataFrame({"headlines": headlines, "sentiment": sentiment, "mood": rng.integers(0, 101, ROWS) * 1.0})
    return bars_of(frame.hstack(added).with_columns(pl.when(~unheard).then(pl.col("headlines", "sentiment", "mood"))))


def values(bars: Bars, text: str) -> Numbers:
    return compute(bars, [plain(text)]).to_series(2).fill_null(math.nan).to_numpy()


def column(bars: Bars, name: str) -> list[float]:
    return bars.frame[name].fill_null(math.nan).to_list()


def test_titles_are_scored_as_vader_publishes() -> None:
    news = pl.DataFrame({"title": list(PUBLISHED)})
    assert scores_of(news).to_list() == pytest.approx(list(PUBLISHED.values()), abs=1e-6)


def test_a_title_goes_before_a_tone_and_a_tone_before_nothing() -> None:
    news = pl.DataFrame(
        {
            "title": ["The book was good.", None, "", "  ", None, None, "The table"],
            "tone": [-9.0, -2.5, 4.0, None, None, -40.0, 7.0],
        }
    )
    assert scores_of(news).to_list() == pytest.approx([0.4404, -0.25, 0.4, 0.0, 0.0, -1.0, 0.0], abs=1e-6)
    assert scores_of(news.drop("title")).to_list() == pytest.approx([-0.9, -0.25, 0.4, 0, 0, -1, 0.7], abs=1e-6)
    assert scores_of(news.head(0)).to_list() == []


def test_scores_add_up_to_the_same_bits_in_any_order() -> None:
    scores = scores_of(pl.DataFrame({"title": [*PUBLISHED] * 7})).to_numpy()
    assert (scores / STEP == np.round(scores / STEP)).all()
    shuffled = np.random.default_rng(1).permutation(scores)
    assert sum(scores.tolist()) == sum(shuffled.tolist()) == math.fsum(scores.tolist())


@settings(max_examples=300)
@given(
    st.text()
    | st.lists(
        st.sampled_from(
            [
                *("never", "so", "this", "without", "doubt", "no", "nor", "not", "least", "at", "very", "but", "kind"),
                *("of", "the", "bomb", "good", "BAD", ":)", "😀", "'", "!", "?"),
            ]
        )
    ).map(" ".join)
)
def test_no_headline_breaks_the_judge(text: str) -> None:
    (score,) = scores_of(pl.DataFrame({"title": [text]}))
    assert -1 <= score <= 1


@pytest.mark.parametrize("unit", ["😀", "good but ", "x", "!", "a ", "\0"])
def test_no_headline_holds_up_the_judge(unit: str) -> None:
    """Whatever follows the first 300 characters is not read: VADER takes a minute for 10,000 emoji."""
    begun = time.perf_counter()
    huge, cut = scores_of(pl.DataFrame({"title": [unit * 1_000_000, (unit * MOST_CHARACTERS)[:MOST_CHARACTERS]]}))
    assert huge == cut
    assert time.perf_counter() - begun < 5


@pytest.mark.parametrize("text", FEATURES)
def test_features_of_the_mood_see_no_further_than_they_say(text: str) -> None:
    certify(plain(text))


def mean_of(window: int, t: int, headlines: list[float], sentiment: list[float]) -> float:
    if t + 1 < window:
        return math.nan
    count = sum(headlines[t + 1 - window : t + 1])
    return sum(sentiment[t + 1 - window : t + 1]) / count if count else math.nan


def slow_count(t: int, headlines: list[float], sentiment: list[float]) -> float:
    return math.log(1 + sum(headlines[t - 6 : t + 1])) if t >= 6 else math.nan


def slow_surprise(t: int, headlines: list[float], sentiment: list[float]) -> float:
    if t < 24:
        return math.nan
    expected = sum(headlines[t - 24 : t - 4]) * 5 / 20
    return (sum(headlines[t - 4 : t + 1]) - expected) / math.sqrt(expected) if expected else math.nan


def slow_decay(t: int, headlines: list[float], sentiment: list[float]) -> float:
    reach = math.ceil(3 * math.log2(1e12))
    if t + 1 < reach:
        return math.nan
    weights = [0.5 ** (back / 3) for back in range(reach)]
    count = sum(weight * headlines[t - back] for back, weight in enumerate(weights))
    return sum(weight * sentiment[t - back] for back, weight in enumerate(weights)) / count if count else math.nan


def slow_change(t: int, headlines: list[float], sentiment: list[float]) -> float:
    return mean_of(5, t, headlines, sentiment) - mean_of(20, t, headlines, sentiment)


def slow_zscore(t: int, headlines: list[float], sentiment: list[float]) -> float:
    if t < 10:
        return math.nan
    sums = [sum(sentiment[end - 2 : end + 1]) for end in range(t - 8, t + 1)]
    mean = sum(sums) / 9
    deviation = math.sqrt(sum((each - mean) ** 2 for each in sums) / 8)
    return (sums[-1] - mean) / deviation if deviation else math.nan


SLOW: dict[str, Callable[[int, list[float], list[float]], float]] = {
    "news_count(7)": slow_count,
    "news_surprise(5, 20)": slow_surprise,
    "news_sentiment(7)": lambda t, headlines, sentiment: mean_of(7, t, headlines, sentiment),
    "news_decay(3)": slow_decay,
    "sentiment_change(5, 20)": slow_change,
    "sentiment_zscore(3, 9)": slow_zscore,
}


@pytest.mark.parametrize("text", SLOW)
def test_news_are_weighed_as_a_slow_loop_weighs_them(told: Bars, text: str) -> None:
    headlines, sentiment = column(told, "headlines"), column(told, "sentiment")
    expected = np.array([SLOW[text](t, headlines, sentiment) for t in range(ROWS)])
    np.testing.assert_allclose(values(told, text), expected, rtol=1e-9, atol=1e-12)
    assert np.isfinite(expected).sum() > ROWS / 2


def test_where_nothing_is_said_there_is_a_count_but_no_tone(told: Bars) -> None:
    silent = slice(220, 300)
    assert values(told, "news_count(7)")[silent].tolist() == [0.0] * 80
    for text in ("news_sentiment(7)", "sentiment_change(5, 20)", "sentiment_zscore(3, 9)"):
        assert np.isnan(values(told, text)[silent]).all()
    assert np.isnan(values(told, "news_surprise(5, 20)")[225:300]).all()
    assert np.isnan(values(told, "news_count(7)")[:16]).all()
    assert not np.isnan(values(told, "news_count(7)")[16])


def test_twice_as_many_headlines_of_the_same_tone_have_the_same_tone(told: Bars) -> None:
    twice = bars_of(told.frame.with_columns(pl.col("headlines", "sentiment") * 2))
    for text in ("news_sentiment(7)", "news_decay(3)", "sentiment_change(5, 20)", "sentiment_zscore(3, 9)"):
        np.testing.assert_array_equal(values(twice, text), values(told, text))


def test_greed_and_fear_are_the_ends_of_the_scale() -> None:
    frame = rows_of("M", [0.0] * 6).with_columns(mood=pl.Series([0.0, 25.0, 26.0, 74.0, 75.0, None]))
    bars = bars_of(frame)
    assert compute(bars, [plain("fear_greed_extreme")]).to_series(2).to_list() == [-1.0, -1.0, 0.0, 0.0, 1.0, None]
    assert compute(bars, [plain("mood_level")]).to_series(2).to_list() == pytest.approx(
        [-1.0, -0.5, -0.48, 0.48, 0.5, None]
    )


def test_every_feature_of_the_family_is_certified_here() -> None:
    names = {name.partition("(")[0] for name in FEATURES}
    here = {name for name, thing in vars(mood).items() if getattr(thing, "__module__", "") == mood.__name__}
    assert names == here - {"mean_score", "kept"}
