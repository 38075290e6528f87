"""SVG from numbers.

Lines and areas live in an inner drawing that stretches to the width of the page; text and markers sit on percentages
of that width, so that they keep their size on a phone. Colours are classes, which the page's style sheet fills in for
light and dark. Everything that comes out is Markup: names from outside pass through `escaped`.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

import numpy as np
import polars as pl
from markupsafe import Markup, escape

from lab.nouns import Vector
from lab.report.axes import Axis, axis_around, microseconds, of_day, ticks, time_ticks
from lab.report.thin import columns_of, thinned
from lab.report.words import bps, number, percent, signed, visible

# Pixel columns that a line is drawn for: the width of the page on a desktop.
WIDTH = 1000
RIBBON_COLUMNS = 500
RIBBON_HEIGHT = 34
FOOT = 22

Pieces = Iterable[Markup]


def escaped(text: str) -> Markup:
    """Text from outside, fit for an SVG title or label."""
    return escape(visible(text))


def short(value: float) -> str:
    """A coordinate to a tenth of a pixel, in as few characters as it takes."""
    text = f"{value:.1f}"
    return "0" if text == "-0.0" else text.removesuffix(".0")


def percentage(share: float) -> str:
    text = f"{share * 100:.2f}".rstrip("0").rstrip(".")
    return "0%" if text == "-0" else f"{text}%"


def drawing(title: str, height: int, stretched: Pieces, laid_over: Pieces, *, foot: int = FOOT) -> Markup:
    """One picture: `stretched` in a box WIDTH × `height` as wide as the page, `laid_over` on percentages of it."""
    return Markup(
        '<svg class="chart" role="img" width="100%" height="{tall}"><title>{title}</title>'
        '<svg width="100%" height="{height}" viewBox="0 0 {width} {height}" preserveAspectRatio="none">{inner}</svg>'
        "{outer}</svg>"
    ).format(
        tall=height + foot,
        title=escaped(title),
        height=height,
        width=WIDTH,
        inner=Markup("").join(stretched),
        outer=Markup("").join(laid_over),
    )


def path(kind: str, d: str) -> Markup:
    return Markup('<path class="{}" d="{}"/>').format(kind, d)


def text(
    kind: str, share: float, y: float, words: str, *, anchor: str = "start", dx: float = 0, spare: str = ""
) -> Markup:
    """Words at a `share` of the width; what is `spare` follows them where the screen is wide enough."""
    more = Markup('<tspan class="spare">{}</tspan>').format(spare) if spare else ""
    return Markup('<text class="{}" x="{}" y="{}" dx="{}" text-anchor="{}">{}{}</text>').format(
        kind, percentage(share), short(y), short(dx), anchor, escaped(words), more
    )


def line(xs: Vector, ys: Vector, breaks: Iterable[int] = ()) -> str:
    """A path through the points; it is lifted before each row of `breaks`."""
    lifted = {0, *breaks}
    return "".join(
        f"{'M' if row in lifted else 'L'}{short(x)} {short(y)}"
        for row, (x, y) in enumerate(zip(xs.tolist(), ys.tolist(), strict=True))
    )


def heights(axis: Axis, values: Vector, top: float, bottom: float) -> Vector:
    return np.asarray(bottom - axis.share(values) * (bottom - top))


def value_axis(axis: Axis, labels: Sequence[tuple[float, str]], top: float, bottom: float) -> tuple[Markup, Markup]:
    """Grid lines, and their labels outside the right edge."""
    places = [(float(heights(axis, np.array([value]), top, bottom)[0]), words) for value, words in labels]
    grid = path("grid", "".join(f"M0 {short(y)}H{WIDTH}" for y, _ in places))
    return grid, Markup("").join(text("tick", 1, y + 4, words, dx=8) for y, words in places)


def plain_labels(axis: Axis, most: int = 5) -> list[tuple[float, str]]:
    values, digits = ticks(axis, most)
    return [(value, number(value, digits)) for value in values]


def percent_labels(axis: Axis, most: int = 4, *, plus: bool = False) -> list[tuple[float, str]]:
    values, digits = ticks(Axis(axis.low * 100, axis.high * 100), most)
    return [(value / 100, f"{signed(f'{value:,.{digits}f}', plus=plus)} %") for value in values]


def time_axis(start: datetime, end: datetime, bottom: float) -> Markup:
    """Labels of round moments under the chart; every second one gives way on a narrow screen."""
    axis = time_span(start, end)
    found = []
    for place, (time, words) in enumerate(time_ticks(start, end)):
        share = float(axis.share(microseconds(time)))
        anchor = "start" if share < (0.06 if place == 0 else 0.03) else "end" if share > 0.97 else "middle"
        dated = place > 0 or words.endswith(str(time.year))
        year = "" if dated else f", {of_day(time)}" if ":" in words else f" {time.year}"
        found.append(
            text("tick" if place % 2 == 0 else "tick spare", share, bottom + 16, words, anchor=anchor, spare=year)
        )
    return Markup("").join(found)


def time_span(start: datetime, end: datetime) -> Axis:
    """A stretch of time in µs; a single moment is widened to a minute, so that it has a place."""
    low, high = microseconds(start), microseconds(end)
    return Axis(low, high if high > low else low + 60e6)


def shaded(spans: Sequence[tuple[datetime, datetime]], axis: Axis, height: float) -> tuple[Markup, Markup]:
    """Every second span as a quiet band, and its number at the top where there is room for it."""
    bands, labels = [], []
    for place, (start, end) in enumerate(spans):
        left, right = (float(np.clip(axis.share(microseconds(time)), 0, 1)) for time in (start, end))
        if right <= left:
            continue
        if place % 2 == 0:
            bands.append(f"M{short(left * WIDTH)} 0H{short(right * WIDTH)}V{short(height)}H{short(left * WIDTH)}z")
        if len(spans) > 1 and (right - left) > 0.035:
            labels.append(text("fold spare", left, 12, str(place), dx=4))
    return path("band", "".join(bands)), Markup("").join(labels)


def seconds_of(time: pl.Series) -> Vector:
    return time.dt.epoch("us").to_numpy().astype(np.float64)


def equity_chart(
    title: str,
    time: pl.Series,
    equity: Vector,
    holding: Vector,
    folds: Sequence[tuple[datetime, datetime]],
    keep: Sequence[int] = (),
    height: int = 300,
) -> Markup:
    """Equity over holding as multiples of the starting capital; by ratio where both stay above zero."""
    at = seconds_of(time)
    across = time_span(time[0], time[-1])
    by_ratio = min(equity.min(), holding.min()) > 0
    axis = axis_around(
        min(equity.min(), holding.min()), max(equity.max(), holding.max()), by_ratio=bool(by_ratio), margin=0.05
    )
    grid, labels = value_axis(axis, plain_labels(axis), 0, height)
    bands, numbers = shaded(folds, across, height)
    lines = []
    for kind, values, kept in (("hold", holding, ()), ("run", equity, keep)):
        rows = thinned(at, values, columns=WIDTH, keep=kept)
        lines.append(path(kind, line(across.share(at[rows]) * WIDTH, heights(axis, values[rows], 0, height))))
    inside = axis.low < 1 < axis.high
    base = float(heights(axis, np.array([1.0]), 0, height)[0]) if inside else 0.0
    zero = path("zero", f"M0 {short(base)}H{WIDTH}") if inside else Markup("")
    return drawing(title, height, [bands, grid, zero, *lines], [numbers, labels, time_axis(time[0], time[-1], height)])


def underwater_chart(title: str, time: pl.Series, below: Vector, trough: int | None, height: int = 140) -> Markup:
    """Distance below the highest equity so far, filled from the water line down, the deepest point marked."""
    at = seconds_of(time)
    across = time_span(time[0], time[-1])
    axis = Axis(min(float(below.min()) * 1.12, -0.001), 0.0)
    grid, labels = value_axis(axis, percent_labels(axis, 4), 0, height)
    rows = thinned(at, below, columns=WIDTH, keep=() if trough is None else (trough,))
    xs, ys = across.share(at[rows]) * WIDTH, heights(axis, below[rows], 0, height)
    drawn = line(xs, ys)
    pieces = [grid, path("water", f"M{short(xs[0])} 0L{drawn[1:]}L{short(xs[-1])} 0z"), path("fall", drawn)]
    mark = Markup("")
    if trough is not None:
        share = float(across.share(at[trough]))
        y = float(heights(axis, below[trough : trough + 1], 0, height)[0])
        mark = Markup('<circle class="deepest" cx="{}" cy="{}" r="3.5"/>').format(percentage(share), short(y))
        mark += text(
            "label", share, y + 4, percent(below[trough]), anchor="end" if share > 0.85 else "start",
            dx=-8 if share > 0.85 else 8,
        )  # fmt: skip
    return drawing(title, height, pieces, [labels, mark, time_axis(time[0], time[-1], height)])


def fold_chart(
    title: str,
    folds: Sequence[tuple[datetime, datetime, float]],
    start: datetime,
    end: datetime,
    height: int = 120,
) -> Markup:
    """The return of every fold as a bar as wide as its test span, on the time axis of the equity chart."""
    across = time_span(start, end)
    values = np.array([change for _, _, change in folds])
    axis = axis_around(min(values.min(), 0.0), max(values.max(), 0.0), margin=0.08)
    grid, labels = value_axis(axis, percent_labels(axis, 4, plus=True), 0, height)
    zero = float(heights(axis, np.array([0.0]), 0, height)[0])
    bars = []
    for first, last, change in folds:
        left, right = (float(np.clip(across.share(microseconds(time)), 0, 1)) * WIDTH for time in (first, last))
        gap = min(1.5, (right - left) * 0.1)
        y = float(heights(axis, np.array([change]), 0, height)[0])
        bars.append(
            path(
                "gain" if change >= 0 else "loss",
                f"M{short(left + gap)} {short(zero)}H{short(right - gap)}V{short(y)}H{short(left + gap)}z",
            )
        )
    return drawing(
        title,
        height,
        [grid, *bars, path("zero", f"M0 {short(zero)}H{WIDTH}")],
        [labels, time_axis(start, end, height)],
    )


def stairs(values: Vector, top: float, middle: float) -> str:
    """The area between `middle` and one value per column, as a path that moves only where the value changes."""
    step = WIDTH / values.size
    ys = middle - values * (middle - top)
    drawn, last = f"M0 {short(middle)}", short(middle)
    for column, y in enumerate(ys.tolist()):
        level = short(y)
        if level != last:
            drawn += f"H{short(column * step)}V{level}"
            last = level
    return f"{drawn}H{WIDTH}V{short(middle)}z"


def ribbon(at: Vector, target: Vector, across: Axis, top: float, height: float) -> list[Markup]:
    """The position held: its average in every column solid, its extremes pale; long above the line, short below."""
    middle, reach = top + height / 2, float(max(1.0, np.abs(target).max(initial=0.0)))
    pieces = [path("zero", f"M0 {short(middle)}H{WIDTH}")]
    if at.size == 0:
        return pieces
    columns = min(RIBBON_COLUMNS, max(1, at.size))
    column = columns_of(at, columns, across.low, across.high)
    starts = np.concatenate(([0], np.flatnonzero(np.diff(column)) + 1))
    sizes = np.diff(np.concatenate((starts, [at.size])))
    low, mean, high = (np.zeros(columns) for _ in range(3))
    filled = column[starts]
    low[filled] = np.minimum.reduceat(target, starts)
    high[filled] = np.maximum.reduceat(target, starts)
    mean[filled] = np.add.reduceat(target, starts) / sizes
    for kind, values in (
        ("gain pale", np.maximum(high, 0)),
        ("loss pale", np.minimum(low, 0)),
        ("gain", np.maximum(mean, 0)),
        ("loss", np.minimum(mean, 0)),
    ):
        if values.any():
            pieces.append(path(kind, stairs(values / reach, top, middle)))
    return pieces


def price_chart(
    title: str,
    decisions: pl.DataFrame,
    fills: pl.DataFrame,
    gaps: Sequence[datetime],
    height: int = 220,
) -> Markup:
    """Closes of one symbol with its `fills` marked, and under it the ribbon of the position held.

    The line is lifted where bars are missing: `gaps` are the closes that come after each hole. `fills` carry the
    position `before` and `after`.
    """
    time = decisions["time"]
    at, close = seconds_of(time), decisions["close"].to_numpy()
    across = time_span(time[0], time[-1])
    prices = np.concatenate((close, fills["price"].to_numpy()))
    low, high = float(prices.min()), float(prices.max())
    axis = axis_around(low, high, by_ratio=low > 0 and high > 3 * low)
    grid, labels = value_axis(axis, plain_labels(axis), 0, height)
    holes = np.array([microseconds(gap) for gap in gaps])
    stretch = np.searchsorted(holes, at, side="right")
    edges = np.flatnonzero(np.diff(stretch))
    rows = thinned(at, close, columns=WIDTH, keep=np.concatenate((edges, edges + 1)).tolist())
    breaks = (np.flatnonzero(np.diff(stretch[rows])) + 1).tolist()
    drawn = line(across.share(at[rows]) * WIDTH, heights(axis, close[rows], 0, height), breaks)
    marks = []
    for fill in fills.iter_rows(named=True):
        share = float(across.share(microseconds(fill["time"])))
        y = float(heights(axis, np.array([fill["price"]]), 0, height)[0])
        bought, entered = fill["units"] > 0, abs(fill["after"]) > abs(fill["before"])
        kind = f"mark {'buy' if bought else 'sell'}{'' if entered else ' out'}"
        shape = "M0 2l4.5 8h-9z" if bought else "M0 -2l4.5 -8h-9z"
        marks.append(
            Markup('<svg class="{}" x="{}" y="{}"><path d="{}"/></svg>').format(
                kind, percentage(share), short(y), shape
            )
        )
    top = height + 10
    bottom = top + RIBBON_HEIGHT
    sides = text("tick", 1, top + 11, "long", dx=8) + text("tick", 1, bottom - 2, "short", dx=8)
    return drawing(
        title,
        bottom,
        [grid, path("price", drawn), *ribbon(at, decisions["target"].to_numpy(), across, top, RIBBON_HEIGHT)],
        [labels, *marks, sides, time_axis(time[0], time[-1], bottom)],
    )


def cost_chart(
    title: str, costs: Vector, returns: Vector, charged: float | None, even: float | None, height: int = 190
) -> Markup:
    """Total return under other one-way costs, the charged cost and the one that leaves nothing as upright lines."""
    across = Axis(0.0, max(float(costs.max()), charged or 0.0, 1e-9))
    axis = axis_around(min(float(returns.min()), 0.0), max(float(returns.max()), 0.0))
    grid, labels = value_axis(axis, percent_labels(axis, 5, plus=True), 0, height)
    zero = float(heights(axis, np.array([0.0]), 0, height)[0])
    xs, ys = across.share(costs), heights(axis, returns, 0, height)
    pieces = [grid, path("zero", f"M0 {short(zero)}H{WIDTH}"), path("run", line(xs * WIDTH, ys))]
    over = [labels]
    over += [
        Markup('<circle class="dot" cx="{}" cy="{}" r="2.5"/>').format(percentage(x), short(y))
        for x, y in zip(xs.tolist(), ys.tolist(), strict=True)
    ]
    for row, (kind, words, value) in enumerate((("charged", "charged", charged), ("even", "break-even", even))):
        if value is None or not across.low <= value <= across.high:
            continue
        share = float(across.share(value))
        pieces.append(path(kind, f"M{short(share * WIDTH)} 0V{height}"))
        right = share > 0.7
        over.append(
            text(
                f"label {kind}", share, 13 + 16 * row, f"{words} {bps(value)}",
                anchor="end" if right else "start", dx=-6 if right else 6,
            )
        )  # fmt: skip
    values, digits = ticks(across, 8)
    over += [
        text(
            "tick" if place % 2 == 0 else "tick spare", float(across.share(value)), height + 16, number(value, digits),
            anchor="start" if place == 0 else "end" if across.share(value) > 0.97 else "middle",
        )
        for place, value in enumerate(values)
    ]  # fmt: skip
    over.append(text("tick", 1, height + 16, "bps", dx=8))
    return drawing(title, height, pieces, over)


def sharpe_strip(title: str, sharpe: float, interval: tuple[float, float], luck: float | None) -> Markup:
    """The Sharpe ratio with its interval against zero and against what the best of as many lucky tries would show."""
    known = [sharpe, *interval, 0.0] + ([luck] if luck is not None else [])
    axis = axis_around(min(known), max(known), margin=0.1)
    place = {name: float(axis.share(value)) for name, value in (("zero", 0.0), ("run", sharpe))}
    low, high = (float(axis.share(value)) for value in interval)
    pieces = [
        path("grid", f"M0 34H{WIDTH}"),
        path("zero", f"M{short(place['zero'] * WIDTH)} 22V46"),
        path("interval", f"M{short(low * WIDTH)} 34H{short(high * WIDTH)}"),
    ]
    over = [
        Markup('<circle class="deepest run" cx="{}" cy="34" r="5"/>').format(percentage(place["run"])),
        text("label run", place["run"], 16, number(sharpe), anchor="middle"),
        text("tick", low, 60, number(interval[0]), anchor="middle"),
        text("tick", high, 60, number(interval[1]), anchor="middle"),
    ]
    if min(abs(place["zero"] - low), abs(place["zero"] - high)) > 0.08:
        over.append(text("tick", place["zero"], 60, "0", anchor="middle"))
    if luck is not None:
        share = float(axis.share(luck))
        pieces.append(path("luck", f"M{short(share * WIDTH)} 20V48"))
        near = abs(share - place["run"]) < 0.2
        over.append(text("label luck", share, 76 if near else 16, f"luck alone {number(luck)}", anchor="middle"))
    return drawing(title, 50, pieces, over, foot=30)


def spread_bar(title: str, mean: float, low: float, high: float, most: float) -> Markup:
    """A bar to the mean with a whisker from lowest to highest, on a scale that ends at `most`."""
    scale = WIDTH / most if most > 0 else 0.0
    return Markup(
        '<svg class="bar" role="img" width="100%" height="14" viewBox="0 0 {} 14" preserveAspectRatio="none">'
        "<title>{}</title>{}{}</svg>"
    ).format(
        WIDTH,
        escaped(title),
        path("run fill", f"M0 2H{short(mean * scale)}V12H0z"),
        path(
            "whisker",
            f"M{short(low * scale)} 7H{short(high * scale)}M{short(low * scale)} 4V10M{short(high * scale)} 4V10",
        ),
    )
