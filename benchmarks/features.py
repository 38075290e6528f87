"""Features: speed, memory and agreement of `lab` beside what people use: `python -m benchmarks.features [PART…]`.

Without a part, all of them, and the page is written; parts alone are only shown. Needs the extra `bench`.
"""

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.__main__ import Answer, environment
from benchmarks.clock import ask
from benchmarks.feature_market import KLINES
from benchmarks.tables import Table, markdown, ratio, show, spread

PAGE = Path("docs") / "benchmarks-features.md"
PEERS = ("TA-Lib", "pandas-ta-classic", "smartmoneyconcepts", "arch", "hmmlearn")
NANO, MILLI = 1e9, 1e3
INDICATOR_PEERS = {"talib": "TA-Lib", "pandas": "pandas", "classic": "pandas-ta-classic"}
QUIET = {"SMC_CREDIT": "0"}  # smartmoneyconcepts greets on stdout
AGREES = 1e-6
Rows = list[tuple[str, ...]]


@dataclass(frozen=True)
class Sizes:
    """How much each part is given."""

    rounds: int = 3
    bars: tuple[int, ...] = (1_000_000, 5_000_000)
    compared_bars: int = 200_000
    smart_bars: int = 100_000
    panel: int = 800
    pandas_panel: int = 20
    compared_panel: int = 3
    returns: int = 5_000
    garch_window: int = 1_000
    garch_every: int = 20
    hmm_bars: int = 1_000_000
    growing_bars: tuple[int, ...] = (1_000_000, 2_000_000, 5_000_000)
    many: tuple[int, int] = (1_000_000, 50)  # bars of each, symbols
    closes: tuple[tuple[int, int], ...] = ((2_000, 1), (400, 20))  # closes, symbols
    live_bars: int = 100_000


SMALL = Sizes(
    rounds=1,
    bars=(20_000,),
    compared_bars=12_000,
    smart_bars=4_000,
    panel=6,
    pandas_panel=2,
    compared_panel=1,
    returns=1_100,
    hmm_bars=30_000,
    growing_bars=(20_000, 40_000),
    many=(10_000, 3),
    closes=((60, 1), (20, 3)),
    live_bars=1_500,
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.features", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to see that all runs; says nothing")
    parser.add_argument("--page", type=Path, help=f"the page to write (default: {PAGE}, if all parts are run)")
    options = parser.parse_args()
    if unknown := [part for part in options.parts if part not in PARTS]:
        parser.error(f"no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    sizes = SMALL if options.small else Sizes()
    target = options.page or (PAGE if not options.parts and not options.small else None)
    tables = []
    for part in options.parts or PARTS:
        _tell(part)
        tables += PARTS[part](sizes)
    show(Console(), tables)
    if target:
        target.write_text(page(tables, options, sizes), encoding="utf-8")


def indicators(sizes: Sizes) -> list[Table]:
    """lab beside TA-Lib, pandas and pandas-ta-classic."""
    told = {rows: ask("feature_indicators", "contest", rows, sizes.rounds) for rows in sizes.bars}
    apart = ask("feature_indicators", "differences", sizes.compared_bars)
    cells = [_totals(each, way, peer) for way, peer in INDICATOR_PEERS.items() for each in told.values()]
    notes = [
        "Drawn one-minute bars. lab goes from bars to a frame of columns with nulls, in one call: on every core as it "
        "does by default, and on one. The peers go column by column from arrays or series in memory, on one core, and "
        "hold their columns to the end, as a frame does; where one call gives several columns, it is counted once. "
        "lab's columns are mostly the indicator over the price; what converts a peer's output to that is not timed. "
        "lab computes each row from a bounded look-back, so that live gives the same bits; the peers carry recursions "
        "from the first row on. Before each way, memory for all columns is taken and given back.",
        "Each ratio is over the indicators that the peer has, lab's time for these being their share of its times one "
        "by one. pandas has whole-column formulas "
        "([benchmarks/feature_peers.py](../benchmarks/feature_peers.py)), no loop and no `apply`; pandas-ta-classic "
        "runs its own code (`talib=False`).",
    ]
    times = ("peer s", "lab s, all cores", "its time / lab's", "lab s, one core", "its time / lab's, one core")
    columns = ("peer, bars", "columns", *times)
    return [Table("Indicators", columns, cells, notes), agreement_table(apart), _singles(told[sizes.bars[-1]])]


def _totals(told: Answer, way: str, peer: str) -> tuple[str, ...]:
    """The peer's seconds for what it has, beside lab's; where it has not all, lab's share of the same indicators."""
    has = [seconds is not None for seconds in told["rounds"][0]["single"][way]]
    columns = sum(len(names) for names, one in zip(told["features"], has, strict=True) if one)
    theirs = [sum(filter(None, each["single"][way])) for each in told["rounds"]]
    single = [each["single"]["lab"] for each in told["rounds"]]
    shares = [sum(s for s, one in zip(each, has, strict=True) if one) / sum(each) for each in single]
    mine = {
        core: [each["whole"][core] * share for each, share in zip(told["rounds"], shares, strict=True)]
        for core in LAB_WAYS
    }
    every, one = mine["lab"], mine["lab, one core"]
    return (
        f"{peer}, {told['rows']:,}",
        f"{columns}",
        spread(theirs),
        spread(every),
        ratio(theirs, every),
        spread(one),
        ratio(theirs, one),
    )


def agreement_table(apart: Mapping[str, list[Answer]]) -> Table:
    """By peer: how many columns are the same, and which is not."""
    rows: Rows = []
    for way, peer in INDICATOR_PEERS.items():
        told = apart[way]
        same = [each for each in told if each["largest"] <= AGREES and not each["one_sided"]]
        worst = max((each["largest"] for each in same), default=math.nan)
        others = ", ".join(f"{each['feature']} {each['largest']:.0e}" for each in told if each not in same)
        rows.append((peer, f"{len(told)}", f"{len(same)}", f"{worst:.0e}", others or "–"))
    notes = [
        f"The largest difference of a column in its own deviations, from row 5,000 on, when recursions that begin "
        f"differently have forgotten where; the same is up to {AGREES:.0e} with values on the same rows. "
        "pandas-ta-classic makes a triangular average of 20 from two of 11, which are 21 bars; the others take 10 and "
        "11. kama_distance and sar_distance are compared with the longer memory that they are timed with, 900 and "
        "500 bars.",
    ]
    return Table(
        "Indicators: the same numbers?", ("peer", "columns", "the same", "worst of these", "others"), rows, notes
    )


def _singles(told: Answer) -> Table:
    """TA-Lib's calls one by one."""

    def nanoseconds(way: str, place: int) -> list[float]:
        return [NANO * each["single"][way][place] / told["rows"] for each in told["rounds"]]

    rows: Rows = []
    for place, name in enumerate(told["indicators"]):
        mine, theirs = nanoseconds("lab", place), nanoseconds("talib", place)
        rows.append((name, ", ".join(told["features"][place]), spread(mine), spread(theirs), ratio(theirs, mine)))
    notes = [
        f"Nanoseconds a bar at {told['rows']:,} bars, each call alone and on one core; lab's with a frame made and "
        "keys carried for that one call.",
    ]
    columns = ("TA-Lib", "lab", "lab ns", "TA-Lib ns", "its time / lab's")
    return Table("Indicators, one by one", columns, rows, notes)


def smart_money(sizes: Sizes) -> list[Table]:
    told = ask("feature_smart", sizes.smart_bars, sizes.rounds, **QUIET)
    mine, theirs = told["seconds"]["lab"], told["seconds"]["smartmoneyconcepts"]
    rows: Rows = [("lab", spread(mine), ""), ("smartmoneyconcepts", spread(theirs), ratio(theirs, mine))]
    subject = "recorded one-minute bars of FILUSDT" if told["recorded"] else "drawn bars"
    found = "; ".join(
        f"{what}: lab {each['lab']:,}, package {each['theirs']:,}, on the same bar {each['both']:,}"
        for what, each in told["agreement"].items()
    )
    notes = [
        f"{told['rows']:,} {subject}. lab computes the {told['features']} columns of `smart_money16`; the package its "
        "`swing_highs_lows`, `fvg`, `bos_choch`, `ob` and `liquidity`, 5 bars to each side.",
        f"The rules are not the same. {found}. The package's marks were moved to the bar at whose close they are "
        "known, as it writes them on the bar itself. Its gaps ask that the middle bar has their direction, lab's do "
        "not.",
    ]
    return [Table("Smart money", ("way", "s", "its time / lab's"), rows, notes)]


def alpha158(sizes: Sizes) -> list[Table]:
    rows: Rows = []
    for which in ("14", "158"):
        mine = [ask("feature_panel", "lab", sizes.panel, which) for _ in range(sizes.rounds)]
        theirs = [ask("feature_panel", "pandas", sizes.pandas_panel, which) for _ in range(sizes.rounds)]
        speeds = [[each["rows"] / each["seconds"] for each in told] for told in (mine, theirs)]
        for way, told, speed in zip(("lab", "pandas"), (mine, theirs), speeds, strict=True):
            rows.append(
                (
                    f"{which} factors, {way}",
                    f"{told[0]['symbols']}",
                    f"{told[0]['rows']:,}",
                    spread([each["seconds"] for each in told]),
                    spread([each / MILLI for each in speed]),
                    ratio(speeds[0], speed) if way == "pandas" else "",
                    spread([each["peak_mib"] for each in told]),
                )
            )
    seen = ask("feature_panel", "values", sizes.compared_panel)
    largest, worst = max((each["largest"], name) for name, each in seen["factors"].items())
    one_sided = sum(each["one_sided"] for each in seen["factors"].values())
    notes = [
        "Drawn daily bars, every business day from 2007 to 2020. lab computes the whole panel in parts, on every core, "
        "with no cache; pandas goes symbol by symbol on one core, on a few symbols, and is compared by rows a second. "
        "Each run is a process of its own; bars are made before the clock starts.",
        f"{len(seen['factors'])} factors over {seen['rows']:,} rows against pandas: the largest difference is "
        f"{largest:.0e} of a factor's deviation ({worst}); {one_sided} rows have a value on one side only.",
        "Qlib's README publishes, for 14 factors of 800 stocks from 2007 to 2020, on one core of its authors' machine: "
        "147.0 ± 8.8 s without its caches, 47.6 ± 1.0 s with expressions cached, 7.4 ± 0.3 s with the finished data "
        "set cached; on 64 cores 8.8 ± 0.6 s without. It reads the data from disk too, and does not say which 14; "
        "here they are KMID, KLEN, ROC 5 and MA, STD, BETA, RSQR, MAX, MIN, RSV, CORR, CORD, VMA, WVMA of 20 bars.",
    ]
    columns = ("way", "symbols", "rows", "s", "thousand rows/s", "lab's speed / its", "peak MiB")
    return [Table("Alpha158", columns, rows, notes)]


def garch(sizes: Sizes) -> list[Table]:
    told = [
        ask("feature_models", "garch", sizes.returns, sizes.garch_window, sizes.garch_every)
        for _ in range(sizes.rounds)
    ]
    ways = ("lab", "arch")
    each_fit = {way: [MILLI * each["seconds"][way] / each["fits"][way] for each in told] for way in ways}
    last = told[-1]
    rows: Rows = [
        (
            way,
            f"{last['fits'][way]:,}",
            spread([each["seconds"][way] for each in told]),
            spread(each_fit[way]),
            ratio(each_fit[way], each_fit["lab"]) if way == "arch" else "",
        )
        for way in ways
    ]
    notes = [
        f"GARCH(1,1) with a constant mean and normal errors, fitted anew on the last {last['window']:,} returns at "
        f"every one of {last['returns']:,} returns of {last['source']}, in percent; arch at every "
        f"{sizes.garch_every}th of them, compared by the time of a fit. Each fit begins cold.",
        f"Of {last['fits']['arch']:,} windows that both fitted, {last['same_top']:,} have the same log likelihood to "
        f"1e-6; there, coefficients differ by {last['coefficients_apart']:.0e} at most. lab found a likelier one in "
        f"{last['lab_higher']:,} (by {max(last['most_gained'], 0):.1e} at most), arch in {last['arch_higher']:,} (by "
        f"{max(last['most_lost'], 0):.1e}); over all windows coefficients differ by "
        f"{last['coefficients_apart_anywhere']:.0e} at most.",
    ]
    return [Table("GARCH, refitted at every bar", ("way", "fits", "s", "ms a fit", "its time / lab's"), rows, notes)]


def hmm(sizes: Sizes) -> list[Table]:
    told = ask("feature_models", "hmm", sizes.hmm_bars, sizes.rounds)
    theirs = told["seconds"]["hmmlearn, predict_proba"]
    rows: Rows = [
        (way, spread([MILLI * each for each in seconds]), ratio(theirs, seconds))
        for way, seconds in told["seconds"].items()
    ]
    notes = [
        f"Two Gaussian regimes over {told['rows']:,} drawn bars, the same numbers for all. lab gives the probability "
        "from the returns so far; hmmlearn gives the smoothed one, from all returns, which no feature may know. "
        "The feature also takes logarithms, makes a frame, and begins its "
        "filter anew at every 250th bar, one block earlier, so that its look-back is bounded.",
        f"Against Bayes' rule written out in Python, over 20,000 returns: the filter differs by "
        f"{told['filter_apart']:.0e} at most, the feature by {told['feature_apart']:.0e}; hmmlearn's last row, where "
        f"smoothed and filtered are the same, by {told['last_apart']:.0e}, its other rows by up to "
        f"{told['smoothed_apart']:.2f}.",
    ]
    return [Table("Regimes", ("way", "ms", "hmmlearn's time / its"), rows, notes)]


def memory(sizes: Sizes) -> list[Table]:
    asked = [*((rows, 1) for rows in sizes.growing_bars), sizes.many]
    told = [ask("feature_memory", *each) for each in asked]
    cells = []
    for each in told:
        million_columns = each["rows"] * each["symbols"] / 1e6 * each["columns"]
        bars, symbols = f"{each['rows']:,}", each["symbols"]
        seconds = f"{each['seconds']:.1f}"
        per = f"{MILLI * each['seconds'] / million_columns:.1f}"
        cells.append((bars, f"{symbols}", seconds, per, *(f"{each[key]:,.0f}" for key in ("held_mib", "peak_mib"))))
    notes = [
        f"The {told[0]['columns']} columns of the ready set `core`, on every core, in parts that are dropped once "
        "counted, each line in a process of its own; symbols one after the other, their bars drawn as they are "
        "needed, which is not timed. Held is the peak before computing: the process, compiled formulas, and the bars.",
    ]
    columns = ("bars a symbol", "symbols", "s", "ms a million rows and column", "held MiB", "peak MiB")
    return [Table("Memory and time as bars grow", columns, cells, notes)]


def new_bar(sizes: Sizes) -> list[Table]:
    told = [ask("feature_live", "bar", *each) for each in sizes.closes]
    rows: Rows = [
        (
            f"{each['symbols']}",
            f"{each['closes']:,}",
            f"{each['p50']:.2f}",
            f"{each['p99']:.2f}",
            f"{each['same']} of {each['columns']}",
        )
        for each in told
    ]
    notes = [
        f"{told[0]['columns']} columns, every second one of `core`. Milliseconds from a bar's arrival to its columns, "
        f"for all symbols: each bar is checked and appended to the last {told[0]['kept']} that are remembered, then "
        "the last rows are computed together, as lab/live.py does. The last bar's values are set beside the batch.",
    ]
    return [Table("One new bar", ("symbols", "closes", "p50 ms", "p99 ms", "same bits as batch"), rows, notes)]


def live_equals_batch(sizes: Sizes) -> list[Table]:
    title = "Live equals batch"
    if not KLINES.is_dir():
        return [Table(title, ("feature",), [], [f"Left out: no recorded bars at {KLINES}."])]
    processes = 2
    with ThreadPoolExecutor(processes) as pool:
        told = list(
            pool.map(lambda part: ask("feature_live", "equal", sizes.live_bars, part, processes), range(processes))
        )
    found = sorted((each for answer in told for each in answer["features"]), key=lambda each: each["feature"])
    equal = [each for each in found if not each["different"]]
    whole = [each for each in found if each["rows"] == each["possible"]]
    tried = sum(each["rows"] for each in found)
    rows: Rows = [
        (
            each["feature"],
            f"{each['lookback']}",
            f"{each['rows']:,}",
            f"{each['null']:,}",
            f"{each['different']:,}",
            "0" if each["largest"] == 0 else f"{each['largest']:.0e}",
        )
        for each in found
    ]
    notes = [
        f"Every plain feature with its default parameters, on {told[0]['rows']:,} recorded one-minute bars of FILUSDT "
        f"(2023-04 to 2023-06): each value computed from its last look-back bars alone, with the age that live "
        f"knows, beside the batch over all bars. {len(equal)} of {len(found)} features give the same bits on all of "
        f"{tried:,} values.",
        f"{len(whole)} were tried on every row that has its look-back; slower ones on rows evenly spread, and refits "
        "on the first bars alone, as many as six seconds of each way allow. Quotes, books and side data are not in "
        "these bars and were drawn. Features across symbols are those of the first of AVAXUSDT, FILUSDT and NEARUSDT "
        "in 2023-02, compared close by close.",
        "Null: values that both ways leave out, as where a bar has no range.",
    ]
    columns = ("feature", "look-back", "values", "null", "not the same bits", "largest relative difference")
    return [Table(title, columns, rows, notes)]


LAB_WAYS = ("lab", "lab, one core")
PARTS: Mapping[str, Callable[[Sizes], list[Table]]] = {
    "indicators": indicators,
    "smart-money": smart_money,
    "alpha158": alpha158,
    "garch": garch,
    "hmm": hmm,
    "memory": memory,
    "new-bar": new_bar,
    "live-equals-batch": live_equals_batch,
}


def page(tables: Sequence[Table], options: Any, sizes: Sizes) -> str:
    command = " ".join(["python -m benchmarks.features", *options.parts, *(["--small"] if options.small else [])])
    peers = ", ".join(f"{name} {version(name)}" for name in PEERS)
    head = [
        "# Benchmarks: features",
        "",
        f"Written by `{command}`; do not edit. Ways run in turn on the same bars, after a warm-up, "
        f"{sizes.rounds} {'round' if sizes.rounds == 1 else 'rounds'}; numbers are medians, with the range in "
        "brackets. A ratio above 1 says that the other takes longer. `pip install -e '.[test,bench]'` brings all that "
        "is compared.",
        "",
        f"{environment()} {peers}.",
        "",
    ]
    return "\n".join(head) + "\n" + "\n".join(map(markdown, tables))


def _tell(text: str) -> None:
    Console(stderr=True, highlight=False).print(text)


if __name__ == "__main__":
    main()
