"""The report: what it says is true, nothing from outside acts on it, and it asks nobody for anything."""

import re
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pytest

from lab.report import render
from lab.report.axes import Axis, ticks, time_ticks
from lab.report.money import deepest, underwater, worst_drawdowns
from lab.report.thin import thinned
from lab.report.trips import round_trips
from lab.report.words import length, number, percent, probability, visible, when

START = datetime(2026, 1, 20, tzinfo=UTC)
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
FAMILIES = ("order_imbalance", "realised_vol", "rsi", "garch_variance", "cvd")
FEATURES = [f"{family}_{window}" for family in FAMILIES for window in (5, 20, 60, 240, 960, 1440)]

Inputs = tuple[dict[str, Any], dict[str, Any], dict[str, pl.DataFrame]]


def market(symbols: tuple[str, ...], bars: int, step: timedelta, switches: int, seed: int) -> dict[str, pl.DataFrame]:
    """Random walks, and positions that switch about `switches` times between flat, long and short, kept in books.

    Each symbol trades its own equal part of a capital of 1 at the close, 2 bps a side.
    """
    rng = np.random.default_rng(seed)
    time = pl.datetime_range(START, START + step * (bars - 1), step, time_unit="us", eager=True).alias("time")
    decisions, fills = [], []
    equity, holding = np.ones(bars), np.zeros(bars)
    for symbol in symbols:
        size = 0.02 * np.sqrt(step / timedelta(days=1))
        drift = 0.35 * size * size
        noise = rng.standard_normal(bars)
        close = 100.0 * rng.integers(1, 50) * np.exp(np.cumsum(drift + size * noise))
        switch = rng.random(bars) < switches / bars
        state = rng.choice([-1.0, 0.0, 0.0, 1.0], bars)[np.maximum.accumulate(np.where(switch, np.arange(bars), 0))]
        target = np.where(np.maximum.accumulate(switch), state, 0.0) * 0.8
        held = np.concatenate(([0.0], target[:-1]))
        change = np.flatnonzero(np.diff(held, prepend=0.0))
        units = np.zeros(bars)
        units[change] = held[change] / len(symbols) / close[change]
        units = units[np.maximum.accumulate(np.where(np.isin(np.arange(bars), change), np.arange(bars), 0))]
        traded = np.diff(units, prepend=0.0)
        fee = np.abs(traded) * close * 2e-4
        equity += np.cumsum(-traded * close - fee) + units * close
        holding += close / close[0] / len(symbols)
        score = np.where(np.arange(bars) < 20, np.nan, 0.05 * noise + rng.standard_normal(bars)) * size
        frame = {"symbol": [symbol] * bars, "time": time, "fold": np.minimum(np.arange(bars) * 6 // bars, 5)}
        frame |= {"score": score, "answer": size * noise, "target": target, "close": close}
        decisions.append(pl.DataFrame(frame).with_columns(pl.col("score").fill_nan(None)))
        rows = np.flatnonzero(traded)
        traces = {"units": traded[rows], "price": close[rows], "fee": fee[rows]}
        fills.append(pl.DataFrame({"symbol": [symbol] * rows.size, "time": time.gather(rows), **traces}))
    shares = rng.dirichlet(np.linspace(0.3, 4, len(FEATURES)), 6)
    costs = np.linspace(0.0, 12.0, 13)
    return {
        "decisions": pl.concat(decisions).sort("symbol", "time"),
        "fills": pl.concat(fills),
        "equity": pl.DataFrame({"time": time, "equity": equity, "holding": holding}),
        "importance": pl.DataFrame(
            {
                "fold": np.repeat(np.arange(6), len(FEATURES)),
                "feature": FEATURES * 6,
                "share": shares.ravel(),
            }
        ),
        "costs": pl.DataFrame({"cost_bps": costs, "total_return": 0.18 - costs * 0.031, "sharpe": 2.4 - costs * 0.4}),
    }


def inputs(
    symbols: tuple[str, ...] = SYMBOLS,
    bars: int = 6_000,
    step: timedelta = timedelta(minutes=15),
    switches: int = 150,
    seed: int = 7,
) -> Inputs:
    """A run as the pipeline hands it over, with every optional part present."""
    tables = market(symbols, bars, step, switches, seed)
    equity = tables["equity"]["equity"]
    edges = [START + step * (bars * fold // 6) for fold in range(7)]
    end = START + step * (bars - 1)
    folds = [
        {
            "number": fold,
            "train": [(edges[fold] - timedelta(days=20)).isoformat(), edges[fold].isoformat()],
            "test": [edges[fold].isoformat(), edges[fold + 1].isoformat()],
            "train_rows": 86_400,
            "test_rows": bars * len(symbols) // 6,
            "correlation": 0.031 + 0.004 * fold,
            "return": float(equity[min(bars * (fold + 1) // 6, bars - 1)] / equity[bars * fold // 6] - 1),
            "sharpe": 1.1 - 0.4 * fold,
            "numbers": {name: {"garch": {"omega": 1.2e-6 * (fold + 1), "beta": 0.93 - fold / 100}} for name in symbols},
        }
        for fold in range(6)
    ]  # fmt: skip
    gap = START + step * (bars // 3)
    manifest = {
        "id": "9f3c51d2a04be77c" * 4,
        "kind": "walk-forward",
        "name": "Order flow on three majors",
        "command": "lab train experiments/order_flow.toml --walk-forward",
        "settings": {
            "name": "Order flow on three majors",
            "data": {"source": "binance", "symbols": list(symbols), "interval": "15m"},
            "label": {"name": "forward_return", "bars": 12},
            "features": [{"name": "rsi", "window": 14}, {"name": "realised_vol", "window": 20}],
            "model": {"name": "boosted_trees", "leaves": 31, "learning_rate": 0.05, "monotone": None},
            "policy": {"enter": 0.4, "leave": 0.1, "volatility_target": 0.2},
            "backtest": {"fee_bps": 1.5, "slippage_bps": 0.5, "fill": "next open"},
            "seed": 7,
            "purge": True,
        },
        "data": {
            "digest": "6c1fd0b2" * 8,
            "source": "binance",
            "symbols": list(symbols),
            "interval": "15m",
            "calendar": "continuous",
            "rows": bars * len(symbols),
            "start": START.isoformat(),
            "end": end.isoformat(),
            "gaps": [
                {"symbol": symbols[0], "after": (gap - step).isoformat(), "before": gap.isoformat(), "missing": 3 + n}
                for n in range(4)
            ],
            "null_share": {"garch_variance_20": 0.0123, "rsi_14": 0.0, "cvd_1440": 0.0847},
        },
        "folds": folds,
        "planted": {
            "market": "order-flow",
            "what": "the share of volume that was bought leads the next twelve returns.",
            "best_correlation": 0.1213,
            "found_correlation": 0.0977,
            "best_return": 0.4120,
            "found_return": 0.2871,
        },
        "lineage": {
            "lab": "0.1.0",
            "code": "e90d7da3b7f1c0de",
            "python": "3.11.7",
            "packages": {"polars": "2.1.0", "numpy": "2.4.1", "lightgbm": "4.7.0"},
        },
    }
    evidence = {
        "claim": False,
        "verdict": "No edge: a Sharpe ratio of 1.31 is what the best of 37 worthless tries would show.",
        "reasons": [
            "The deflated Sharpe ratio is 0.412, under the 0.95 that a claim needs.",
            "The 95 % interval of the Sharpe ratio, −0.62 to 3.18, reaches zero.",
            "Break-even lies at 5.8 bps, above the 2.0 bps charged.",
        ],
        "days": 62,
        "sharpe": 1.31,
        "sharpe_interval": [-0.62, 3.18],
        "psr": 0.9049,
        "dsr": 0.4121,
        "trials": 37,
        "expected_best_sharpe": 1.42,
        "total_return": float(equity[-1] - 1),
        "annual_return": 0.421,
        "annual_volatility": 0.317,
        "max_drawdown": float((equity / equity.cum_max() - 1).min()),  # type: ignore[arg-type]
        "turnover_per_day": 3.7,
        "break_even_bps": 5.8,
        "cost_bps": 2.0,
        "exposure": 0.512,
        "trades": 311,
        "correlation": 0.0412,
        "holding": {"total_return": 0.0834, "sharpe": 0.61, "max_drawdown": -0.2213, "annual_volatility": 0.402},
    }
    return manifest, evidence, tables


class Page(HTMLParser):
    """What a browser would make of a page: its elements with their attributes, its text, its tables."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.inside: list[str] = []
        self.table: list[list[str]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.elements.append((tag, found))
        self.inside.append(tag)
        if tag == "div" and found.get("role") == "region":
            self.table = self.tables.setdefault(str(found["aria-label"]), [])
        if tag == "tr":
            self.table.append([])
        if tag in ("td", "th"):
            self.table[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "style" in self.inside:
            return
        self.texts.append(data)
        if "td" in self.inside or ("th" in self.inside and "tr" in self.inside):
            self.table[-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join(self.texts)

    @property
    def skeleton(self) -> list[tuple[str, list[str]]]:
        return [(tag, sorted(attributes)) for tag, attributes in self.elements]

    def path(self, kind: str, place: int = 0) -> list[tuple[float, float]]:
        """Points of the `place`th path of class `kind`."""
        paths = [
            attributes["d"] for tag, attributes in self.elements if tag == "path" and attributes.get("class") == kind
        ]
        return [(float(x), float(y)) for x, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", paths[place] or "")]


@pytest.fixture(scope="module")
def run() -> Inputs:
    return inputs()


@pytest.fixture(scope="module")
def page(run: Inputs) -> Page:
    return Page(render(*run))


HOSTILE = {
    "script": "<script>alert(1)</script>",
    "image": '"><img src=x onerror=alert(1)>',
    "quotes": "' onmouseover='alert(1)' style=\"position:fixed\" x='",
    "template": "{{7*7}}{% for x in y %}${7*7}#{7*7}",
    "svg": "</title></svg></style></textarea><svg onload=alert(1)><foreignObject>",
    "comment": "--><!--]]><![CDATA[<b>",
    "link": "javascript:alert(1)//https://evil.example/x.png",
    "entity": "&lt;b&gt;&#60;i&#62;&amp",
    "right-to-left": "\u202eTDSUCTB\u202c\u2066x\u200f",
    "nul": "a\x00<b>\x1b[31m\r\n\u2028",
    "formula": '=HYPERLINK("http://evil.example")',
    "long": "<i>" + "W" * 200_000,
}


def renamed(value: Any, name: Callable[[str], str]) -> Any:
    """`value` with every string in it, keys of open mappings too, passed through `name`."""
    if isinstance(value, str):
        return name(value)
    if isinstance(value, list):
        return [renamed(inner, name) for inner in value]
    return {key: renamed(inner, name) for key, inner in value.items()} if isinstance(value, dict) else value


def disguised(run: Inputs, text: str) -> Inputs:
    """The same run with `text` in every place that a string from outside can reach, distinct where names must be."""
    manifest, evidence, tables = run

    def name(original: str) -> str:
        return f"{text}{sum(original.encode()) % 9973}"

    manifest, evidence = renamed(manifest, name), renamed(evidence, name)
    manifest["settings"] = {name(key): value for key, value in manifest["settings"].items()}
    manifest["data"]["null_share"] = {name(key): value for key, value in manifest["data"]["null_share"].items()}
    manifest["lineage"]["packages"] = {name(key): value for key, value in manifest["lineage"]["packages"].items()}
    for fold in manifest["folds"]:
        fold["numbers"] = {name(key): value for key, value in fold["numbers"].items()}
    columns = {"decisions": "symbol", "fills": "symbol", "importance": "feature"}
    replaced = {
        table: tables[table].with_columns(pl.col(column).map_elements(name, return_dtype=pl.String))
        for table, column in columns.items()
    }
    return manifest, evidence, {**tables, **replaced}


def acts(page: Page) -> list[str]:
    """Everything on the page that could run, load or lead elsewhere."""
    found = [tag for tag, _ in page.elements if tag in {"script", "iframe", "object", "embed", "img", "base", "form"}]
    for tag, attributes in page.elements:
        for attribute, value in attributes.items():
            if attribute.startswith("on") or attribute in {"src", "srcset", "action", "xlink:href", "style"}:
                found.append(f"{tag} {attribute}")
            if attribute == "href" and not (value or "").startswith("#") and value != "data:,":
                found.append(f"{tag} href {value}")
    return found


SMALL: dict[str, Any] = {"symbols": ("A", "B"), "bars": 400, "switches": 60}


@pytest.fixture(scope="module")
def harmless() -> Page:
    return Page(render(*disguised(inputs(**SMALL), "harmless")))


@pytest.mark.parametrize("kind", HOSTILE)
def test_names_from_outside_are_shown_and_never_act(kind: str, harmless: Page) -> None:
    html = render(*disguised(inputs(**SMALL), HOSTILE[kind]))
    hostile = Page(html)
    assert hostile.skeleton == harmless.skeleton
    assert acts(hostile) == []
    assert visible(HOSTILE[kind])[:3_000] in "".join(hostile.texts)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]", html)
    assert len(html) < 5_000_000


def test_half_a_character_in_a_setting_does_not_stop_the_page_from_being_written(run: Inputs) -> None:
    manifest, evidence, tables = run
    html = render({**manifest, "name": "half \ud83d of a face"}, evidence, tables)
    assert "half \\ud83d of a face" in html.encode().decode()


def test_the_page_holds_no_script_and_no_address(page: Page, run: Inputs) -> None:
    assert acts(page) == []
    html = render(*run)
    assert re.findall(r"https?:|//[a-z]|@import|url\(", html) == []
    policy = [a["content"] for tag, a in page.elements if tag == "meta" and "http-equiv" in a]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]


def test_every_picture_has_a_role_and_a_title(page: Page) -> None:
    pictures = [a for tag, a in page.elements if tag == "svg" and a.get("class") in {"chart", "bar"}]
    assert len(pictures) == 5 + 2 * len(SYMBOLS) + 25
    assert {picture.get("role") for picture in pictures} == {"img"}
    assert [tag for tag, _ in page.elements].count("title") == 1 + len(pictures)


def test_headings_follow_the_order_of_reading(page: Page) -> None:
    ids = [attributes["id"] for tag, attributes in page.elements if tag == "section"]
    assert ids == [
        "verdict", "planted", "equity", "drawdown", "folds", "months", "trades", "costs", "features", "data",
        "settings", "reproduce",
    ]  # fmt: skip


def test_the_verdict_comes_with_its_numbers(page: Page) -> None:
    text = re.sub(r"\s+", " ", page.text)
    for words in (
        "Verdict: no edge is claimed No edge: a Sharpe ratio of 1.31",
        "Deflated Sharpe 0.412 confidence that the true Sharpe is above the luckiest of 37 trials in the ledger",
        "Probabilistic Sharpe 0.905",
        "Sharpe, annual 1.31 95 % interval −0.62 to 3.18",
        "Luck alone 1.42",
        "Break-even cost 5.8 bps one way; 2.0 bps charged",
        "Turnover 3.70 × of the capital, per day",
        "Synthetic market — what was planted, how much was found",
    ):
        assert words.replace(" %", "\u00a0%") in text or words in text, words


def test_a_claim_is_called_a_claim(run: Inputs) -> None:
    manifest, evidence, tables = run
    page = Page(render(manifest, {**evidence, "claim": True}, tables))
    assert "Verdict: an edge is claimed" in page.texts
    assert [a["class"] for tag, a in page.elements if a.get("id") == "verdict"] == ["verdict claim"]


def test_the_same_run_gives_the_same_bytes() -> None:
    assert render(*inputs()) == render(*inputs())


def test_monthly_returns_equal_those_of_sql(run: Inputs, page: Page) -> None:
    equity = run[2]["equity"].select(
        moment=pl.col("time").dt.epoch("us"), day=pl.col("time").dt.replace_time_zone(None), equity="equity"
    )
    with duckdb.connect() as database:
        database.register("line", equity.to_arrow())
        found = database.execute("""
            with ends as (
                select date_trunc('month', day - interval 1 microsecond) as month, max(moment) as moment
                from line where moment > (select min(moment) from line) group by 1
            ), closes as (select ends.month, line.equity from ends join line using (moment))
            select month(month), equity / coalesce(lag(equity) over (order by month),
                (select equity from line order by moment limit 1)) - 1 from closes order by month
        """).fetchall()
    assert len(found) == 3
    rows = page.tables["Monthly returns"]
    assert [row[0] for row in rows] == ["Year", "2026"]
    cells = {month: cell for month, cell in enumerate(rows[1][1:13], start=1) if cell}
    assert cells == {month: number(100 * change, 2) for month, change in found}
    assert rows[1][13] == number(100 * (equity["equity"][-1] / equity["equity"][0] - 1), 2)


def test_a_bar_that_closes_at_midnight_belongs_to_the_month_it_ends(run: Inputs) -> None:
    manifest, evidence, tables = run
    time = [datetime(2026, 1, 30, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 2, 2, tzinfo=UTC)]
    equity = pl.DataFrame({"time": time, "equity": [1.0, 1.5, 1.2], "holding": [1.0, 1.0, 1.0]})
    rows = Page(render(manifest, evidence, {**tables, "equity": equity})).tables["Monthly returns"]
    assert rows[1][1:4] == ["50.0", "−20.0", ""]


def slow_drawdowns(equity: list[float]) -> list[tuple[float, int, int, int | None]]:
    """(depth, peak, bottom, recovery) of every fall, walked bar by bar."""
    found: list[tuple[float, int, int, int | None]] = []
    peak, bottom = 0, None
    for row, value in enumerate(equity):
        if value >= equity[peak]:
            if bottom is not None:
                found.append((equity[bottom] / equity[peak] - 1, peak, bottom, row))
            peak, bottom = row, None
        elif bottom is None or value < equity[bottom]:
            bottom = row
    if bottom is not None:
        found.append((equity[bottom] / equity[peak] - 1, peak, bottom, None))
    return sorted(found)


@pytest.mark.parametrize("seed", range(20))
def test_worst_drawdowns_equal_those_of_a_slow_walk(seed: int) -> None:
    rng = np.random.default_rng(seed)
    equity = np.round(np.exp(np.cumsum(rng.normal(0, 0.02, 300))), 2 if seed % 2 else 6).astype(np.float64)
    times = pl.datetime_range(START, START + timedelta(hours=299), "1h", eager=True)
    expected = slow_drawdowns(equity.tolist())
    found = worst_drawdowns(times, equity)
    assert [fall.depth for fall in found] == pytest.approx([fall[0] for fall in expected[:5]], rel=1e-12)
    if seed % 2 == 0:
        assert [(fall.peak, fall.trough, fall.recovery) for fall in found] == [
            (times[peak], times[bottom], None if recovery is None else times[recovery])
            for _, peak, bottom, recovery in expected[:5]
        ]
    assert underwater(equity).min() == pytest.approx(expected[0][0], rel=1e-12)
    assert deepest(equity) == (expected[0][1], expected[0][2]) or seed % 2


def test_the_table_of_drawdowns_is_that_of_the_slow_walk(run: Inputs, page: Page) -> None:
    equity = run[2]["equity"]
    expected = slow_drawdowns(equity["equity"].to_list())[:5]
    rows = page.tables["Worst drawdowns"][1:]
    assert len(rows) == 5
    assert [row[:4] for row in rows] == [
        [
            percent(depth),
            when(equity["time"][peak]),
            when(equity["time"][bottom]),
            "not by the end" if recovery is None else when(equity["time"][recovery]),
        ]
        for depth, peak, bottom, recovery in expected
    ]


def slow_trips(fills: pl.DataFrame) -> list[tuple[str, str, datetime, datetime | None, float | None, float | None]]:
    """(symbol, side, opened, closed, profit, gain), fill by fill with a cash book per symbol."""
    found = []
    for symbol in sorted(set(fills["symbol"])):
        held, cash, most, opened = 0.0, 0.0, 0.0, None
        rows = [row for row in fills.sort("time", maintain_order=True).iter_rows(named=True) if row["symbol"] == symbol]
        for row in rows:
            left = row["units"]
            while abs(left) > 1e-12:
                if opened is None:
                    opened, side = row["time"], "long" if left > 0 else "short"
                closing = held * left < 0
                part = -held if closing and abs(left) > abs(held) else left
                cash -= part * row["price"] + row["fee"] * abs(part / row["units"])
                held += part
                left -= part
                most = max(most, abs(held) * row["price"])
                if abs(held) < 1e-12:
                    found.append((symbol, side, opened, row["time"], cash, cash / most))
                    held, cash, most, opened = 0.0, 0.0, 0.0, None
        if opened is not None:
            found.append((symbol, side, opened, None, None, None))
    return found


@pytest.mark.parametrize("seed", range(20))
def test_round_trips_equal_those_of_a_slow_cash_book(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 120
    fills = pl.DataFrame(
        {
            "symbol": rng.choice(["A", "B"], n),
            "time": pl.datetime_range(START, START + timedelta(minutes=n - 1), "1m", time_unit="us", eager=True),
            "units": rng.choice([-0.3, -0.2, -0.1, 0.1, 0.2, 0.3], n),
            "price": np.round(rng.uniform(50, 150, n), 2),
            "fee": np.round(rng.uniform(0, 0.1, n), 4),
        }
    )
    expected = slow_trips(fills)
    found = round_trips(fills).sort("symbol", "opened", maintain_order=True).rows()
    assert [row[:4] for row in found] == [row[:4] for row in expected]
    assert any(row[3] is not None for row in expected)
    for row, slow in zip(found, expected, strict=True):
        assert row[4:] == (pytest.approx(slow[4], abs=1e-9), pytest.approx(slow[5], abs=1e-9))


def test_the_table_of_round_trips_is_that_of_the_slow_cash_book(run: Inputs, page: Page) -> None:
    trips = [trip for trip in slow_trips(run[2]["fills"]) if trip[3] is not None]
    rows = page.tables["Round trips"][1:]
    assert sorted(row[0] for row in rows) == sorted(["All", "Long", "Short", *SYMBOLS])
    for name, *cells in rows:
        chosen = [trip for trip in trips if name in ("All", trip[0], trip[1].capitalize())]
        gains = [float(trip[5] or 0) for trip in chosen]
        holding = sum(((trip[3] or START) - trip[2] for trip in chosen), timedelta()) / len(chosen)
        assert cells == [
            f"{len(chosen):,}",
            percent(sum(gain > 0 for gain in gains) / len(gains), 1),
            percent(sum(gains) / len(gains), 3, plus=True),
            percent(float(np.median(gains)), 3, plus=True),
            percent(max(gains), plus=True),
            percent(min(gains), plus=True),
            length(holding),
        ]


def test_importance_is_the_mean_and_range_over_folds(run: Inputs, page: Page) -> None:
    rows = page.tables["Feature importance"][1:]
    shares = {name: run[2]["importance"].filter(pl.col("feature") == name)["share"].to_list() for name in FEATURES}
    ranked = sorted(shares, key=lambda name: -sum(shares[name]))[:25]
    assert [row[0] for row in rows] == ranked
    for name, bar, mean, spread in rows:
        low, high = min(shares[name]), max(shares[name])
        assert mean == percent(sum(shares[name]) / 6, 1)
        assert spread == f"{percent(low, 1).removesuffix(' %').removesuffix(chr(160) + '%')} – {percent(high, 1)}"
        assert bar.startswith(name)


def test_settings_and_gaps_are_listed_whole(page: Page) -> None:
    settings = {row[0]: row[1] for row in page.tables["Settings"]}
    assert settings["model.leaves"] == "31"
    assert settings["features.1.name"] == "realised_vol"
    assert settings["data.symbols"] == "BTCUSDT, ETHUSDT, SOLUSDT"
    assert (settings["purge"], settings["model.monotone"]) == ("true", "–")
    assert len(settings) == 22
    assert [row[3] for row in page.tables["Gaps"]] == ["Missing", "3", "4", "5", "6"]
    assert "4 gaps, 18 bars missing in all" in page.text
    assert [row[0] for row in page.tables["Columns without a value"]] == ["Column", "cvd_1440", "garch_variance_20"]


def test_a_thinned_line_keeps_every_extreme() -> None:
    rng = np.random.default_rng(3)
    x = np.sort(rng.uniform(0, 1e15, 50_000))
    y = np.cumsum(rng.standard_normal(50_000))
    rows = thinned(x, y, columns=200, keep=(123, 45_678))
    assert len(rows) <= 2 * 200 + 4
    assert {0, 123, 45_678, 49_999, int(y.argmin()), int(y.argmax())} <= set(rows.tolist())
    assert (np.diff(rows) > 0).all()
    column = np.minimum((x - x[0]) / (x[-1] - x[0]) * 200, 199).astype(int)
    for each in range(200):
        inside, kept = y[column == each], y[rows][column[rows] == each]
        assert (kept.min(), kept.max()) == (inside.min(), inside.max())


def test_the_drawn_equity_passes_through_its_extremes_and_its_worst_drawdown() -> None:
    run = inputs(symbols=("A",), bars=60_000, step=timedelta(minutes=1), switches=300)
    page = Page(render(*run))
    equity = run[2]["equity"]["equity"].to_numpy()
    points = page.path("run")
    assert 1_000 < len(points) < 2_100
    top, bottom = min(y for _, y in points), max(y for _, y in points)
    scale = (bottom - top) / np.log(equity.max() / equity.min())
    _, peak, trough, _ = slow_drawdowns(equity.tolist())[0]
    for row in (int(equity.argmax()), int(equity.argmin()), peak, trough, 0, len(equity) - 1):
        x, y = row / (len(equity) - 1) * 1000, top + scale * np.log(equity.max() / equity[row])
        assert min(max(abs(x - px), abs(y - py)) for px, py in points) < 0.16
    fall = page.path("fall")
    assert max(fall, key=lambda point: point[1])[0] == pytest.approx(trough / (len(equity) - 1) * 1000, abs=0.06)


def test_a_drawdown_inside_one_pixel_is_drawn_even_where_the_pixel_goes_lower_and_higher(run: Inputs) -> None:
    equity = np.power(1.0001, np.arange(5_000), dtype=np.float64)
    equity[2_501:2_505] = equity[2_500] * np.array([1.00045, 1.0002, 1.0004, 1.0006])
    time = pl.datetime_range(START, START + timedelta(minutes=4_999), "1m", eager=True)
    table = pl.DataFrame({"time": time, "equity": equity, "holding": 1.0})
    points = Page(render(run[0], run[1], {**run[2], "equity": table})).path("run")
    assert deepest(equity) == (2_501, 2_502)
    assert {2_501, 2_502} <= {round(x / 1000 * 4_999) for x, _ in points}


def test_a_line_is_lifted_where_bars_are_missing() -> None:
    manifest, evidence, tables = inputs(symbols=("A",), bars=2_000, switches=10)
    decisions = tables["decisions"]
    hole = pl.int_range(pl.len()).is_between(800, 1_000)
    gap = {"symbol": "A", "after": decisions["time"][799], "before": decisions["time"][1_001], "missing": 201}
    data = {**manifest["data"], "gaps": [gap]}
    html = render({**manifest, "data": data}, evidence, {**tables, "decisions": decisions.filter(~hole)})
    (line,) = [a["d"] for tag, a in Page(html).elements if tag == "path" and a.get("class") == "price"]
    assert str(line).count("M") == 2


def test_a_million_bars_and_ten_thousand_fills_fit_into_a_megabyte() -> None:
    run = inputs(symbols=("A", "B"), bars=500_000, step=timedelta(minutes=1), switches=8_500)
    assert run[2]["fills"].height >= 10_000
    assert run[2]["decisions"].height == 1_000_000
    assert len(render(*run).encode()) <= 1_000_000


def test_many_symbols_stay_within_a_megabyte() -> None:
    run = inputs(symbols=tuple(f"S{n:03d}" for n in range(60)), bars=2_000, switches=200)
    html = render(*run)
    assert len(html.encode()) <= 1_000_000
    assert "Pictures of the 4 symbols with most fills, of 60." in html


def no_fills(run: Inputs) -> Inputs:
    tables = run[2]
    decisions = tables["decisions"].with_columns(target=pl.lit(0.0))
    return run[0], run[1], {**tables, "fills": tables["fills"].clear(), "decisions": decisions}


def flat(run: Inputs) -> Inputs:
    equity = run[2]["equity"].with_columns(equity=pl.lit(1.0), holding=pl.lit(1.0))
    return run[0], run[1], {**run[2], "equity": equity}


def broke(run: Inputs) -> Inputs:
    rows = pl.int_range(pl.len()) / pl.len()
    return run[0], run[1], {**run[2], "equity": run[2]["equity"].with_columns(equity=1.0 - 1.3 * rows)}


def unknown(run: Inputs) -> Inputs:
    def blank(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: blank(inner) for key, inner in value.items()}
        return None if isinstance(value, float | list) else value

    folds = [{**fold, "correlation": None, "sharpe": float("nan"), "return": None} for fold in run[0]["folds"]]
    planted = {name: None if name.startswith(("best", "found")) else text for name, text in run[0]["planted"].items()}
    costs = run[2]["costs"].with_columns(sharpe=pl.lit(None, pl.Float64), total_return=pl.lit(float("nan")))
    evidence = {**blank(run[1]), "reasons": []}
    return {**run[0], "folds": folds, "planted": planted}, evidence, {**run[2], "costs": costs}


def holes(run: Inputs) -> Inputs:
    place = pl.int_range(pl.len()) % 7
    bad = pl.when(place == 3).then(float("nan")).when(place == 5).then(float("inf"))
    equity = run[2]["equity"].with_columns(equity=bad.otherwise(pl.col("equity")))
    decisions = run[2]["decisions"].with_columns(
        close=pl.when(place == 2).then(float("nan")).otherwise(pl.col("close")),
        target=pl.when(place == 4).then(None).otherwise(pl.col("target")),
    )
    return run[0], run[1], {**run[2], "equity": equity, "decisions": decisions}


def nothing(run: Inputs) -> Inputs:
    data = {**run[0]["data"], "gaps": [], "null_share": {}}
    manifest = {**run[0], "folds": [], "data": data, "settings": {}, "planted": None, "kind": "final"}
    return manifest, run[1], {name: table.clear() for name, table in run[2].items()}


def one_fold(run: Inputs) -> Inputs:
    return {**run[0], "folds": run[0]["folds"][:1]}, run[1], run[2]


EDGES: dict[str, Callable[[], Inputs]] = {
    "no fills": lambda: no_fills(inputs()),
    "flat equity": lambda: flat(inputs()),
    "flat equity without fills": lambda: flat(no_fills(inputs())),
    "equity below zero": lambda: broke(inputs()),
    "nothing known": lambda: unknown(inputs()),
    "NaN and infinity in the tables": lambda: holes(inputs()),
    "nothing at all": lambda: nothing(inputs()),
    "one fold": lambda: one_fold(inputs()),
    "one symbol": lambda: inputs(symbols=("SPX",)),
    "one day": lambda: inputs(bars=96),
    "two bars": lambda: inputs(bars=2),
    "one bar": lambda: inputs(bars=1),
    "one second": lambda: inputs(bars=60, step=timedelta(seconds=1) / 60),
    "forty years": lambda: inputs(bars=10_000, step=timedelta(days=1.5), symbols=("SPX",)),
}


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.filterwarnings("error")
def test_what_is_not_defined_is_a_dash(edge: str) -> None:
    html = render(*EDGES[edge]())
    page = Page(html)
    assert re.findall(r"\b(?:nan|None|inf|null|NaN|Infinity|undefined)\b", page.text) == []
    geometry = [f"{value}" for _, a in page.elements for key, value in a.items() if key in {"d", "x", "y", "cx", "cy"}]
    assert [value for value in geometry if re.search("nan|inf|None", value)] == []
    assert "Verdict" in page.text


def test_below_zero_the_axis_is_linear_and_says_so() -> None:
    assert "the axis is linear" in render(*broke(inputs()))
    assert "The axis is logarithmic" in render(*inputs())


def test_few_fills_are_marked_on_the_whole_span_and_many_on_the_last_stretch() -> None:
    def marks(page: Page) -> int:
        return sum(str(a.get("class")).startswith("mark ") for _, a in page.elements)

    few = inputs(symbols=("A",), bars=3_000, switches=20)
    assert 10 < few[2]["fills"].height <= 60
    assert marks(Page(render(*few))) == few[2]["fills"].height
    many = Page(render(*inputs(symbols=("A",), bars=3_000, switches=300)))
    assert marks(many) == 60
    assert "The last 60 fills, shown because they are the last" in many.text


@pytest.mark.parametrize(
    ("low", "high", "by_ratio", "expected"),
    [
        (0.93, 1.07, False, ["0.95", "1.00", "1.05"]),
        (-0.031, 0.0, False, ["−0.03", "−0.02", "−0.01", "0.00"]),
        (0.1, 1000, True, ["0.1", "1.0", "10.0", "100.0", "1,000.0"]),
        (98, 121, False, ["100", "105", "110", "115", "120"]),
    ],
)
def test_ticks_are_round(low: float, high: float, by_ratio: bool, expected: list[str]) -> None:
    values, digits = ticks(Axis(low, high, by_ratio))
    assert [number(value, digits) for value in values] == expected


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ("2026-01-20T09:10", "2026-01-20T10:20", "09:10 09:20 09:30 09:40 09:50 10:00 10:10 10:20"),
        ("2026-01-20", "2026-01-24", "20_Jan 12:00 21_Jan 12:00 22_Jan 12:00 23_Jan 12:00 24_Jan"),
        ("2026-01-20", "2026-03-20", "26_Jan 2_Feb 9_Feb 16_Feb 23_Feb 2_Mar 9_Mar 16_Mar"),
        ("2025-11-15", "2026-03-10", "24_Nov 8_Dec 22_Dec 5_Jan 19_Jan 2_Feb 16_Feb 2_Mar"),
        ("2025-02-15", "2026-03-10", "Mar May Jul Sep Nov Jan_2026 Mar"),
        ("1999-01-04", "2018-12-31", "2000 2005 2010 2015"),
    ],
)
def test_moments_on_an_axis_are_round(start: str, end: str, expected: str) -> None:
    span = [datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (start, end)]
    assert " ".join(label.replace(" ", "_") for _, label in time_ticks(span[0], span[1])) == expected


def test_numbers_are_written_for_reading() -> None:
    assert [percent(v) for v in (0.1234, -0.01234, 12.5, -1e-9, None, float("nan"))] == [
        "12.3 %", "−1.23 %", "1,250 %", "0.00 %", "–", "–",
    ]  # fmt: skip
    assert [probability(v) for v in (0.5, 0.99999, 1.0, 0.00001)] == ["0.500", "> 0.999", "1.000", "< 0.001"]
    assert [length(timedelta(seconds=s)) for s in (0, 59, 3_600, 12_300, 9e6)] == [
        "0 s", "59 s", "1 h", "3 h 25 min", "104 d",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium on this machine (apt-get install chromium)")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield opened
        opened.close()


def opened_page(browser: Any, file: Path, **settings: Any) -> tuple[Any, list[str], list[str]]:
    """The page as a reader sees it, with every request it made and every complaint of the browser."""
    view = browser.new_context(**settings).new_page()
    requests: list[str] = []
    complaints: list[str] = []
    view.on("request", lambda request: requests.append(request.url))
    view.on("console", lambda message: complaints.append(message.text))
    view.on("pageerror", lambda error: complaints.append(str(error)))
    view.on("dialog", lambda dialog: complaints.append(dialog.message))
    view.goto(file.as_uri(), wait_until="load")
    return view, requests, complaints


CONTRAST = """() => {
  const lightness = colour => {
    const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map(Number)
      .map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const against = (a, b) => { const [x, y] = [lightness(a), lightness(b)].sort(); return (y + 0.05) / (x + 0.05); };
  const paper = getComputedStyle(document.body).backgroundColor;
  const panel = getComputedStyle(document.querySelector('.verdict')).backgroundColor;
  const ink = name => getComputedStyle(document.querySelector(name)).color;
  const fill = name => getComputedStyle(document.querySelector(name)).fill;
  return {
    paper,
    text: [against(ink('h1'), paper), against(ink('figcaption'), paper), against(ink('.verdict dt'), panel),
           against(fill('svg text.tick'), paper), against(fill('.strip text.luck'), panel)],
    lines: ['path.run', 'path.hold', 'path.price', 'path.fall']
      .map(name => against(getComputedStyle(document.querySelector(name)).stroke, paper)),
  };
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 360])
def test_a_browser_asks_for_nothing_and_complains_of_nothing(
    browser: Any, tmp_path: Path, run: Inputs, scheme: str, width: int
) -> None:
    file = tmp_path / "report.html"
    file.write_text(render(*run), encoding="utf-8")
    size = {"width": width, "height": 800}
    view, requests, complaints = opened_page(browser, file, color_scheme=scheme, viewport=size)
    assert requests == [file.as_uri()]
    assert complaints == []
    assert view.evaluate("document.documentElement.scrollWidth") <= width
    seen = view.evaluate(CONTRAST)
    assert seen["paper"] == {"light": "rgb(253, 253, 252)", "dark": "rgb(19, 21, 24)"}[scheme]
    assert min(seen["text"]) >= 4.5
    assert min(seen["lines"]) >= 3.0


def test_the_verdict_can_be_read_without_script(browser: Any, tmp_path: Path, run: Inputs) -> None:
    file = tmp_path / "report.html"
    file.write_text(render(*run), encoding="utf-8")
    view, _, complaints = opened_page(browser, file, java_script_enabled=False)
    assert run[1]["verdict"] in view.locator("#verdict").inner_text()
    assert view.locator("svg.chart").first.is_visible()
    assert complaints == []


def test_hostile_names_do_nothing_in_a_browser(browser: Any, tmp_path: Path) -> None:
    small = inputs(**SMALL)
    file = tmp_path / "report.html"
    text = "".join(payload[:200] for payload in HOSTILE.values())
    counts = []
    for name in (text, "harmless"):
        file.write_text(render(*disguised(small, name)), encoding="utf-8")
        view, requests, complaints = opened_page(browser, file)
        assert requests == [file.as_uri()]
        assert complaints == []
        counts.append(view.evaluate("[...document.querySelectorAll('*')].map(e => e.tagName)"))
    assert counts[0] == counts[1]
    assert "SCRIPT" not in counts[0]
