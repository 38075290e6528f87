"""What stands on the page, in the order in which a reader should meet it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from typing import Any

import jinja2
import numpy as np
import polars as pl
from markupsafe import Markup

from lab.nouns import TIME, Vector
from lab.report import charts, words
from lab.report.money import Drawdown, deepest, period_returns, underwater, worst_drawdowns
from lab.report.trips import positions, round_trips, tallies

MOST_MARKERS = 60
MOST_PRICE_CHARTS = 4
MOST_FEATURES = 25
MOST_GAPS = 50
MOST_COLUMNS = 25
MOST_FITTED = 60
HEAT_STEPS = 6

Times = tuple[datetime, datetime]


@dataclass(frozen=True)
class Line:
    """The rows of the equity table that hold numbers, scaled so that capital at the start is 1."""

    time: pl.Series
    equity: Vector
    holding: Vector


@dataclass(frozen=True)
class Spread:
    """How much a feature weighed: mean, lowest and highest share over the folds, and its bar."""

    feature: str
    mean: float
    low: float
    high: float
    bar: Markup


@dataclass(frozen=True)
class Cell:
    """A return of a calendar period and how strongly it is tinted: g1 … g6, l1 … l6, or not at all."""

    change: float | None
    tint: str


@dataclass(frozen=True)
class Year:
    """A row of the monthly table; months outside the run are None."""

    year: int
    months: list[Cell | None]
    whole: float | None
    holding: float | None


@dataclass(frozen=True)
class Prices:
    """The pictures of one symbol: the whole span, and the last stretch of fills where there are too many to mark."""

    symbol: str
    fills: int
    whole: Markup
    marked: bool
    last: Markup | None
    last_fills: int
    last_span: Times | None


@dataclass(frozen=True)
class Fitted:
    """A number that every fold fitted anew: how far it moved over the folds."""

    name: str
    median: str
    low: str
    high: str


def render(manifest: Mapping[str, Any], evidence: Mapping[str, Any], tables: Mapping[str, pl.DataFrame]) -> str:
    """The run as one self-contained HTML page: no script, no request, the same bytes for the same input.

    `tables` holds decisions, fills, equity, importance and costs, as the run keeps them; any may be empty. Text from
    outside is escaped; a number that is missing, NaN or infinite is a dash.
    """
    line = equity_line(tables["equity"])
    spans = [span for fold in manifest["folds"] if (span := times_of(fold["test"])) is not None]
    fills = tables["fills"].with_columns(pl.col("time").cast(TIME))
    trips = round_trips(fills)
    years = monthly(line)
    environment = jinja2.Environment(
        autoescape=True,
        finalize=shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.from_string(files("lab.report").joinpath("page.html.jinja").read_text(encoding="utf-8"))
    return template.render(
        m=manifest,
        e=evidence,
        words=words,
        months=words.MONTHS,
        strip=strip(evidence),
        equity=equity_picture(line, spans),
        below_zero=bool(line.equity.size) and float(min(line.equity.min(), line.holding.min())) <= 0,
        water=water_picture(line),
        drawdowns=drawdowns(line),
        folds=fold_picture(manifest["folds"], line),
        fitted=fitted_numbers(manifest["folds"]),
        years=years,
        month_digits=2 if largest_month(years) < 0.1 else 1,
        prices=price_pictures(tables["decisions"], fills, manifest["data"]["gaps"]),
        fills=fills,
        fee_bps=fee_bps(fills),
        tallies=tallies(trips),
        still_open=trips["closed"].null_count(),
        costs=cost_rows(tables["costs"]),
        cost_picture=cost_picture(tables["costs"], evidence),
        importance=importance(tables["importance"]),
        features=tables["importance"]["feature"].n_unique(),
        gaps=manifest["data"]["gaps"][:MOST_GAPS],
        bars_missing=sum(int(gap["missing"]) for gap in manifest["data"]["gaps"]),
        null_share=null_shares(manifest["data"]["null_share"]),
        settings=[(name, words.setting(value)) for name, value in words.flattened(manifest["settings"])],
        most_fitted=MOST_FITTED,
        part=part,
    )


def shown(value: object) -> object:
    """What Jinja writes for a value: markup as it is, nothing as a dash, text with its invisible characters spelled."""
    if isinstance(value, Markup):
        return value
    if value is None or isinstance(value, float):
        return words.number(value)
    return words.visible(str(value))


def times_of(span: Sequence[object]) -> Times | None:
    start, end = (words.moment(moment) for moment in span)
    return (start, end) if start is not None and end is not None else None


def equity_line(equity: pl.DataFrame) -> Line:
    """The finite rows of `equity` in order of time, both lines divided by where they start."""
    rows = (
        equity.select(pl.col("time").cast(TIME), pl.col("equity", "holding").cast(pl.Float64))
        .filter(pl.col("equity").is_finite() & pl.col("holding").is_finite())
        .sort("time", maintain_order=True)
    )
    scaled = (rows[name].to_numpy() for name in ("equity", "holding"))
    return Line(rows["time"], *(values / values[0] if values.size and values[0] > 0 else values for values in scaled))


def strip(evidence: Mapping[str, Any]) -> Markup | None:
    sharpe = words.defined(evidence["sharpe"])
    low, high = (words.defined(value) for value in evidence["sharpe_interval"] or (None, None))
    if sharpe is None or low is None or high is None:
        return None
    luck = words.defined(evidence["expected_best_sharpe"])
    title = f"Sharpe ratio {words.number(sharpe)}, 95 % interval {words.number(low)} to {words.number(high)}"
    return charts.sharpe_strip(title, sharpe, (low, high), luck)


def equity_picture(line: Line, folds: Sequence[Times]) -> Markup | None:
    if line.equity.size < 2:
        return None
    run, holding = words.number(line.equity[-1]), words.number(line.holding[-1])
    title = f"Equity, {run} times the capital at the end; holding, {holding}"
    return charts.equity_chart(title, line.time, line.equity, line.holding, folds, deepest(line.equity) or ())


def water_picture(line: Line) -> Markup | None:
    if line.equity.size < 2 or line.equity[0] <= 0:
        return None
    worst = deepest(line.equity)
    below = underwater(line.equity)
    title = f"Drawdown, {words.percent(below.min())} at its deepest"
    return charts.underwater_chart(title, line.time, below, worst[1] if worst else None)


def drawdowns(line: Line) -> list[Drawdown]:
    return worst_drawdowns(line.time, line.equity)


def fold_picture(folds: Sequence[Mapping[str, Any]], line: Line) -> Markup | None:
    bars = [
        (*span, change)
        for fold in folds
        if (span := times_of(fold["test"])) and (change := words.defined(fold["return"])) is not None
    ]
    if not bars:
        return None
    start, end = (line.time[0], line.time[-1]) if line.equity.size > 1 else (bars[0][0], bars[-1][1])
    won = sum(change > 0 for _, _, change in bars)
    return charts.fold_chart(f"Return of each fold; {won} of {len(bars)} above zero", bars, start, end)


def fitted_numbers(folds: Sequence[Mapping[str, Any]]) -> list[Fitted]:
    """Numbers fitted on training bars, with their median and range over the folds; text as it is, once each."""
    values: dict[str, list[object]] = {}
    for fold in folds:
        for name, value in words.flattened(fold.get("numbers") or {}):
            values.setdefault(name, []).append(value)
    found = []
    for name, seen in values.items():
        numbers = [number for value in seen if (number := words.defined(value)) is not None]
        if numbers:
            middle, low, high = float(np.median(numbers)), min(numbers), max(numbers)
            found.append(Fitted(name, *(words.scientific(value) for value in (middle, low, high))))
        else:
            texts = sorted({words.setting(value) for value in seen})
            found.append(Fitted(name, ", ".join(texts[:3]) + (" …" if len(texts) > 3 else ""), words.DASH, words.DASH))
    return found


def monthly(line: Line) -> list[Year]:
    """Returns by year and month, tinted by their size against the largest."""
    months = {
        (start.year, start.month): words.defined(change)
        for start, change in period_returns(line.time, line.equity, "1mo").iter_rows()
    }
    largest = max((abs(change) for change in months.values() if change is not None), default=0.0)
    whole, holding = (
        {start.year: words.defined(change) for start, change in period_returns(line.time, values, "1y").iter_rows()}
        for values in (line.equity, line.holding)
    )
    return [
        Year(
            year,
            [
                Cell(months[year, month], tint(months[year, month], largest)) if (year, month) in months else None
                for month in range(1, 13)
            ],
            whole[year],
            holding[year],
        )
        for year in whole
    ]


def largest_month(years: Sequence[Year]) -> float:
    changes = (cell.change for year in years for cell in year.months if cell and cell.change is not None)
    return max((abs(change) for change in changes), default=0.0)


def part(found: object, best: object) -> str:
    """How much of the best was found; a dash where the best is nothing."""
    got, most = words.defined(found), words.defined(best)
    return words.DASH if got is None or most is None or most <= 0 else words.percent(got / most, 0)


def tint(change: float | None, largest: float) -> str:
    if not change or largest <= 0:
        return ""
    step = min(HEAT_STEPS, 1 + int(abs(change) / largest * HEAT_STEPS * 0.9999))
    return f"{'g' if change > 0 else 'l'}{step}"


def price_pictures(decisions: pl.DataFrame, fills: pl.DataFrame, gaps: Sequence[Mapping[str, Any]]) -> list[Prices]:
    """Price and position of the symbols with most fills; without fills, of the first ones."""
    decisions = decisions.filter(pl.col("close").is_finite())
    busiest = fills.group_by("symbol").len().sort(["len", "symbol"], descending=[True, False])["symbol"].to_list()
    known = decisions["symbol"].unique(maintain_order=True).to_list()
    chosen = [symbol for symbol in busiest if symbol in known] or known
    held = positions(fills)
    return [
        prices_of(
            symbol,
            decisions.filter(pl.col("symbol") == symbol),
            held.filter(pl.col("symbol") == symbol),
            [time for gap in gaps if gap["symbol"] == symbol and (time := words.moment(gap["before"])) is not None],
        )
        for symbol in chosen[:MOST_PRICE_CHARTS]
    ]


def prices_of(symbol: str, decisions: pl.DataFrame, fills: pl.DataFrame, gaps: list[datetime]) -> Prices:
    rows = decisions.select(pl.col("time").cast(TIME), pl.col("close"), pl.col("target").fill_nan(None).fill_null(0.0))
    gaps = sorted(gaps)
    inside = fills.filter(pl.col("price").is_finite())
    marked = inside.height <= MOST_MARKERS
    whole = charts.price_chart(
        f"Price of {symbol} and the position held", rows, inside if marked else inside.clear(), gaps
    )
    if marked:
        return Prices(symbol, fills.height, whole, True, None, 0, None)
    last = inside.tail(MOST_MARKERS)
    start, end = last["time"][0], last["time"][-1]
    air = (end - start) * 0.03
    stretch = rows.filter(pl.col("time").is_between(start - air, end + air))
    if stretch.height < 2:
        return Prices(symbol, fills.height, whole, False, None, 0, None)
    span: Times = (stretch["time"][0], stretch["time"][-1])
    shown = last.filter(pl.col("time").is_between(*span))
    picture = charts.price_chart(f"Price of {symbol} over its last {shown.height} fills", stretch, shown, gaps)
    return Prices(symbol, fills.height, whole, False, picture, shown.height, span)


def fee_bps(fills: pl.DataFrame) -> float | None:
    """Fees as hundredths of a percent of all that was traded."""
    traded = float((fills["units"] * fills["price"]).abs().sum())
    return float(fills["fee"].sum()) / traded * 1e4 if traded > 0 else None


def cost_rows(costs: pl.DataFrame) -> list[dict[str, Any]]:
    return costs.select("cost_bps", "total_return", "sharpe").sort("cost_bps").to_dicts()


def cost_picture(costs: pl.DataFrame, evidence: Mapping[str, Any]) -> Markup | None:
    known = costs.filter(pl.col("cost_bps").is_finite() & pl.col("total_return").is_finite()).sort("cost_bps")
    if known.height < 2:
        return None
    charged, even = (words.defined(evidence[name]) for name in ("cost_bps", "break_even_bps"))
    title = f"Total return by one-way cost; break-even at {words.bps(even)}, charged {words.bps(charged)}"
    return charts.cost_chart(title, known["cost_bps"].to_numpy(), known["total_return"].to_numpy(), charged, even)


def importance(table: pl.DataFrame) -> list[Spread]:
    """The features that weighed most, on average over the folds; a fold that has no row for one gave it no weight."""
    folds = max(1, table["fold"].n_unique())
    ranked = (
        table.group_by("feature", maintain_order=True)
        .agg(
            mean=pl.col("share").fill_nan(0.0).sum() / folds,
            low=pl.when(pl.len() < folds).then(0.0).otherwise(pl.col("share").fill_nan(0.0).min()),
            high=pl.col("share").fill_nan(0.0).max(),
        )
        .sort(["mean", "feature"], descending=[True, False])
        .head(MOST_FEATURES)
    )
    most = max((words.defined(high) or 0.0 for high in ranked["high"]), default=0.0)
    return [
        Spread(
            feature, mean, low, high, charts.spread_bar(spread_words(feature, mean, low, high), mean, low, high, most)
        )
        for feature, mean, low, high in ranked.iter_rows()
    ]


def spread_words(feature: str, mean: float, low: float, high: float) -> str:
    return f"{feature}: {words.percent(mean, 1)} on average, {words.percent(low, 1)} to {words.percent(high, 1)}"


def null_shares(shares: Mapping[str, object]) -> list[tuple[str, float]]:
    known = [
        (name, share) for name, value in shares.items() if (share := words.defined(value)) is not None and share > 0
    ]
    return sorted(known, key=lambda pair: (-pair[1], pair[0]))[:MOST_COLUMNS]
