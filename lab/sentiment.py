"""How good or bad a headline sounds: one score for each, in [-1, 1]."""

from functools import lru_cache
from typing import Any

import numpy as np
import polars as pl

from lab.nouns import Vector

# A headline has some 100. VADER's work grows faster than the text: 10,000 emoji would keep it busy for a minute.
MOST_CHARACTERS = 300
# Scores are multiples of this, 20 times finer than VADER's last digit: sums of them are exact, in whatever order.
STEP = 2.0**-20
# Of GDELT, in percent of a document's words: most lie between -10 and 10 (Event Codebook 2.0, AvgTone).
USUAL_TONE = 10.0


def scores_of(news: pl.DataFrame) -> pl.Series:
    """A score in [-1, 1] for each row of news: VADER's of its title, else a tenth of its `tone`, cut off at 1.

    0 where a row has neither, as for words that are neither good nor bad. A null title, or one of blanks only, is
    none. What a tone is worth: 10 percent more good words than bad ones count as much as the best headline.
    """
    title = _column(news, "title", pl.String()).str.slice(0, MOST_CHARACTERS).str.strip_chars()
    tone = _column(news, "tone", pl.Float64()) / USUAL_TONE
    texts = title.unique().drop_nulls().sort()  # a story is often told by many, and stands for every symbol
    known = pl.DataFrame({"title": texts, "score": pl.Series(_compounds(texts.to_list()), dtype=pl.Float64)})
    told = pl.DataFrame({"title": title, "tone": tone}).join(
        known.filter(pl.col("title") != ""), on="title", how="left", maintain_order="left"
    )
    score = told.select(pl.coalesce("score", pl.col("tone").clip(-1, 1), 0.0)).to_series()
    return (score / STEP).round() * STEP


def _column(news: pl.DataFrame, name: str, dtype: pl.DataType) -> pl.Series:
    return news[name] if name in news.columns else pl.Series(name, [None], dtype).new_from_index(0, news.height)


def _compounds(texts: list[str]) -> Vector:
    judge = _judge()
    return np.array([judge.polarity_scores(text)["compound"] for text in texts], dtype=np.float64)


@lru_cache(maxsize=1)
def _judge() -> Any:
    """VADER, with its lexicon. Hutto & Gilbert (2014)."""
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()
