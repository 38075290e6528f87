"""The stages, fold by fold: bars → columns + answers → folds → model → scores → decisions → equity → evidence."""

import json
import multiprocessing
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from lab import asof, backtest, columns, features, findings, folds, labels, policy, runs, store
from lab.asof import Side
from lab.backtest import Costs
from lab.errors import DamagedData, NotEnoughHistory
from lab.experiment import Data, Experiment
from lab.features import Certificate
from lab.files import parquet, write_atomically
from lab.kinds import KINDS
from lab.nouns import AGE, EVENTS, MICROSECOND, Bars, Feature, FittedModel, Fold, Matrix, Run, Span, Vector
from lab.policy import Thresholds
from lab.sources import synthetic
from lab.store import TableName

COST_CURVE_BPS = (0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0)
Kind = Literal["walk-forward", "final"]


@dataclass(frozen=True)
class Plan:
    """An experiment with its bars and folds, and what its run will be called."""

    experiment: Experiment
    bars: Bars
    versions: Mapping[str, int]
    folds: list[Fold]
    kind: Kind
    run_id: str
    root: Path
    certificates: list[Certificate]

    @property
    def folder(self) -> Path:
        return runs.runs_folder(self.root) / self.run_id


@dataclass(frozen=True)
class Job:
    """What one fold learns from: bars up to the end of its test, and its rows (columns, answers, ages)."""

    experiment: Experiment
    fold: Fold
    bars: Bars
    rows: pl.DataFrame
    folder: Path
    threads: int


def plan(root: Path, experiment: Experiment, kind: Kind) -> Plan:
    """Read the bars of an experiment and cut their time into folds; a final model learns from all of it at once.

    Every column must have its certificate, or earn it now: one that reads the future is a LookAhead.
    """
    certificates = features.certified(certificates_folder(root), experiment.named_features, experiment.data.interval)
    cut = experiment.folds
    versions = stored_versions(root, experiment)
    bars = read_bars(root, experiment, versions)
    if kind == "final":
        first, last = bars.closes
        after = last + MICROSECOND
        found = [Fold(0, Span(first, after), Span(after, after + MICROSECOND))]
    else:
        found = folds.walk_forward(
            bars.frame["time"].unique().sort(),
            train=folds.duration(cut.train),
            test=folds.duration(cut.test),
            horizon=experiment.resolved_label.horizon,
            embargo=folds.duration(cut.embargo),
            expanding=cut.expanding,
        )
    identifier = runs.run_id(experiment.id, bars.digest, kind)
    return Plan(experiment, bars, versions, found, kind, identifier, root, certificates)


def certificates_folder(root: Path) -> Path:
    """Where the certificates of features are kept."""
    return root / "data" / "certificates"


def compute_columns(plan: Plan) -> list[Path]:
    """The files that hold the plain features of every row: kept, and used again while bars, formulas and code last."""
    plain = plan.experiment.plain_features
    return columns.remember(columns_folder(plan), lambda: features.compute_in_parts(plan.bars, plain))


def columns_folder(plan: Plan) -> Path:
    """Where the columns of an experiment are kept, named by everything that they are made from."""
    settings = plan.experiment.settings
    chosen = (settings["features"], settings["feature_file"], settings["data"]["bridge"])
    made_from = [plan.bars.digest, runs.code_digest(), *map(str, chosen)]
    return columns.folder_of(plan.root / "data", made_from)


def learn(plan: Plan, workers: int = 1) -> Iterator[int]:
    """Fit and predict fold by fold, yielding the number of each once its files are on the disk.

    Folds that an interrupted run had finished are not done again. The numbers do not depend on `workers`.
    """
    if plan.kind == "walk-forward":  # the trial counts from here on, whatever becomes of it
        runs.record(plan.root, runs.Trial(plan.run_id, plan.experiment.markets, None))
    runs.reopen(plan.folder)
    answers = labels.settle(plan.bars, plan.experiment.resolved_label).select("answer", "settled_at")
    rows = columns.read(compute_columns(plan)).hstack(answers).with_columns(plan.bars.age)
    unfinished = []
    for fold in plan.folds:
        if _finished(plan.folder, fold):
            yield fold.number
        else:
            unfinished.append(fold)
    if workers == 1:
        yield from (learn_fold(_job(plan, fold, rows, threads=0)) for fold in unfinished)
        return
    # Spawned, not forked: a fork of a process with Polars threads can hang.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        for done in as_completed([pool.submit(learn_fold, _job(plan, fold, rows, threads=1)) for fold in unfinished]):
            yield done.result()


def learn_fold(job: Job) -> int:
    """Fit features and model on the training rows of one fold, score its test rows, and write what came out.

    A row is scored once every column has its whole look-back, if its symbol was there to learn from.
    """
    experiment, fold, names = job.experiment, job.fold, job.experiment.columns
    seen = job.bars.within(fold.train)
    fits = features.fit(seen, experiment.fitted_features)
    fitted_columns = features.compute_fitted(job.bars, experiment.fitted_features, fits, since=fold.train.start)
    own_columns = fitted_columns.filter(pl.col("time") >= fold.train.start).drop("symbol", "time")
    lookback = longest_lookback(experiment, fits)
    warm = (pl.col(AGE) >= lookback) & pl.col("symbol").is_in(seen.symbols)
    rows = job.rows.hstack(own_columns).with_columns(warm=warm)
    training = rows.filter(folds.training_rows(fold) & pl.col("warm"))
    if training.is_empty():
        raise NotEnoughHistory(
            f"fold {fold.number} has no row to train on from {fold.train.start:%Y-%m-%d} to {fold.train.end:%Y-%m-%d}: "
            f"the columns need {lookback} unbroken bars before the first value",
            fix="lengthen `train`, or take features with a shorter memory",
        )
    model = experiment.learner.fit(
        _matrix(training, names),
        training["answer"].to_numpy(),
        kind=experiment.resolved_label.kind,
        seed=experiment.seed,
        threads=job.threads,
    )
    test = rows.filter(folds.test_rows(fold))
    scores = model.predict(_matrix(test, names)) if test.height else np.empty(0)
    scored = test.select(
        "symbol", "time", "answer", fold=pl.lit(fold.number), score=pl.when("warm").then(pl.Series(scores))
    )
    facts = {
        "number": fold.number,
        "train": [fold.train.start.isoformat(), fold.train.end.isoformat()],
        "test": [fold.test.start.isoformat(), fold.test.end.isoformat()],
        "symbols": seen.symbols,
        "train_rows": training.height,
        "test_rows": test.height,
        "numbers": fits,
        "importance": dict(zip(names, model.importance().tolist(), strict=True)),
        "null_share": {name: test[name].null_count() / max(test.height, 1) for name in names},
    }
    _write_fold(fold_folder(job.folder, fold), model, facts, scored)
    return fold.number


def conclude(plan: Plan, command: str) -> Run:
    """Turn the scores of all folds into decisions and money, and close the run."""
    experiment = plan.experiment
    facts = [json.loads((fold_folder(plan.folder, fold) / "facts.json").read_text()) for fold in plan.folds]
    manifest: dict[str, Any] = {
        "id": plan.run_id,
        "kind": plan.kind,
        "name": experiment.name,
        "command": command,
        "experiment": experiment.model_dump(mode="json"),
        "settings": experiment.settings,
        "data": findings.data_facts(plan.bars, plan.versions, experiment, facts),
        "folds": facts,
        "certificates": [asdict(each) for each in plan.certificates],
        "lineage": runs.lineage(),
    }
    if plan.kind == "final":
        return runs.save(plan.folder, manifest)
    parts = [pl.read_parquet(fold_folder(plan.folder, fold) / "scores.parquet") for fold in plan.folds]
    scored = pl.concat(parts).sort("symbol", "time")
    tested = tested_bars(plan.bars, scored)
    decisions = decide(plan.bars, scored, experiment.policy)
    money = backtest.replay(tested, targets_of(decisions), experiment.costs)
    equity = money.equity.with_columns(holding=backtest.hold(tested, experiment.costs)["equity"])
    tables = {
        "decisions": decisions,
        "fills": money.fills,
        "equity": equity,
        "importance": findings.importance(facts),
        "costs": cost_curve(tested, decisions, experiment.costs),
    }
    for name, table in tables.items():
        write_atomically(plan.folder / f"{name}.parquet", parquet(table))
    manifest["folds"] = findings.fold_results(facts, plan.folds, decisions, equity, tested.calendar)
    manifest["planted"] = planted(plan.bars, scored, experiment, decisions, equity)
    manifest["sharpe_per_day"] = findings.sharpe_per_day(equity)
    # Before the run is one: whoever finds it later does not come by here again.
    runs.record(plan.root, runs.Trial(plan.run_id, experiment.markets, manifest["sharpe_per_day"]))
    return runs.save(plan.folder, manifest)


def replay(
    root: Path, run: Run, thresholds: Thresholds, costs: Costs, engine: Literal["numba", "vectorbt"]
) -> dict[str, Any]:
    """A run's scores again, under another policy or other costs, as one more trial; nothing is learned anew."""
    experiment = experiment_of(run)
    bars = bars_of(root, run)
    scored = run.table("decisions").select("symbol", "time", "answer", "fold", "score")
    tested = tested_bars(bars, scored)
    decisions = decide(bars, scored, thresholds)
    money = backtest.replay(tested, targets_of(decisions), costs)
    equity = money.equity
    if engine == "vectorbt":
        from lab.backtest import vectorbt

        equity = vectorbt.equity(tested, money.fills, costs)
    equity = equity.with_columns(holding=backtest.hold(tested, costs)["equity"])
    if (thresholds, costs) != (experiment.policy, experiment.costs):
        identifier = runs.variant(run, thresholds, costs)
        runs.record(root, runs.Trial(identifier, experiment.markets, findings.sharpe_per_day(equity)))
    tried = runs.trials(root, experiment.markets)
    return findings.judge(equity, money.fills, decisions, costs, tried, run.manifest["data"]["calendar"])


def portfolio(root: Path, run: Run) -> Any:
    """A run's orders as a vectorbt `Portfolio`, one column a symbol, for notebooks; needs the `vectorbt` extra."""
    from lab.backtest import vectorbt

    tested = tested_bars(bars_of(root, run), run.table("decisions"))
    return vectorbt.portfolio(tested, run.table("fills"), experiment_of(run).costs)


def decide(bars: Bars, scored: pl.DataFrame, thresholds: Thresholds) -> pl.DataFrame:
    """`scored` with the `target` decided at the close of each row's bar, and that close; symbol by symbol."""
    sizing = sizing_of(thresholds)
    known = features.compute(bars, [sizing])
    rows = scored.join(known, on=["symbol", "time"], how="left", maintain_order="left")
    scores, volatility = (rows[name].cast(pl.Float64).to_numpy() for name in ("score", sizing.name))
    targets = np.empty(rows.height)
    for symbol in bars.symbols:
        own = (rows["symbol"] == symbol).to_numpy()
        targets[own] = policy.decide(scores[own], volatility[own], thresholds, bars.bars_per_year)
    return scored.with_columns(target=pl.Series(targets), close=tested_bars(bars, scored).frame["close"])


def sizing_of(thresholds: Thresholds) -> Feature:
    """The column that positions are sized by: the deviation of the last `vol_window` log returns."""
    return replace(features.plain(f"realised_vol({thresholds.vol_window})"), name="volatility")


def targets_of(decisions: pl.DataFrame) -> Vector:
    """The targets of decisions, in row order."""
    return decisions["target"].to_numpy()


def cost_curve(tested: Bars, decisions: pl.DataFrame, costs: Costs) -> pl.DataFrame:
    """cost_bps, total_return, sharpe (per year) of the same decisions at other one-way costs."""
    curve = []
    for bps in sorted({*COST_CURVE_BPS, costs.total_bps}):
        money = backtest.replay(tested, targets_of(decisions), Costs(fee_bps=bps, slippage_bps=0.0))
        curve.append({"cost_bps": bps, **findings.earned(money.equity, tested.calendar)})
    return pl.DataFrame(curve, schema={"cost_bps": pl.Float64, "total_return": pl.Float64, "sharpe": pl.Float64})


def planted(
    bars: Bars, scored: pl.DataFrame, experiment: Experiment, decisions: pl.DataFrame, equity: pl.DataFrame
) -> dict[str, Any] | None:
    """For a market with a planted edge: the best that could be found, and what was. Null for any other.

    The best return is what the best forecast there is earns under the same policy and costs.
    """
    label = experiment.resolved_label
    if experiment.data.source != "synthetic" or label.kind != "return":
        return None
    best = synthetic.best_forecast(bars, label.horizon).rename({"forecast": "best"})
    oracle = scored.join(best, on=["symbol", "time"], how="left", maintain_order="left").with_columns(score="best")
    perfect = decide(bars, oracle.select(scored.columns), experiment.policy)
    money = backtest.replay(tested_bars(bars, scored), targets_of(perfect), experiment.costs)
    return {
        "market": ", ".join(bars.symbols),
        "what": synthetic.planted(bars.symbols),
        "best_correlation": synthetic.best_correlation(label.horizon, bars.symbols),
        "found_correlation": findings.correlation(decisions),
        "best_return": findings.earned(money.equity, bars.calendar)["total_return"],
        "found_return": findings.earned(equity, bars.calendar)["total_return"],
    }


def tested_bars(bars: Bars, scored: pl.DataFrame) -> Bars:
    """The bars that were scored, in the same order."""
    frame = bars.frame.join(scored, on=["symbol", "time"], how="semi", maintain_order="left")
    return replace(bars, frame=frame)


def bars_of(root: Path, run: Run) -> Bars:
    """The very bars that a run saw, be they stored newest or as an older version; if neither, DamagedData."""
    experiment, seen = experiment_of(run), run.manifest["data"]
    bars = read_bars(root, experiment, stored_versions(root, experiment))
    if bars.digest == seen["digest"]:
        return bars
    with suppress(DamagedData):  # swept since
        bars = read_bars(root, experiment, seen.get("versions", {}))
        if bars.digest == seen["digest"]:
            return bars
    raise DamagedData(
        f"the stored bars are not those that run {run.id} saw",
        fix=f"make a run of what is stored now: {run.manifest['command']}",
    )


def read_bars(root: Path, experiment: Experiment, versions: Mapping[str, int]) -> Bars:
    """An experiment's bars with their side data, from these versions of their tables."""
    data = experiment.data
    bars = store.read_bars(root / "data", data.source, data.symbols, data.interval, data.closes, versions)
    for side in data.sides:
        names = [_table_of(root, data, side, symbol) for symbol in bars.symbols]
        rows = [
            store.read(name, version=versions.get(str(name))).with_columns(symbol=pl.lit(symbol))
            for name, symbol in zip(names, bars.symbols, strict=True)
        ]
        bars = asof.join(bars, side.kind, pl.concat(rows, how="diagonal"))
    return replace(bars, bridge=folds.duration(data.bridge))


def stored_versions(root: Path, experiment: Experiment) -> dict[str, int]:
    """The newest version of each table that an experiment reads: bars by symbol, side data by the table's name."""
    data = experiment.data
    names = {symbol: TableName(root / "data", data.source, symbol, data.interval) for symbol in data.symbols}
    for side in data.sides:
        names |= {str(name): name for symbol in data.symbols if (name := _table_of(root, data, side, symbol))}
    return {key: store.version_of(name) for key, name in sorted(names.items())}


def _table_of(root: Path, data: Data, side: Side, symbol: str) -> TableName:
    interval = data.interval if KINDS[side.kind].gridded else EVENTS
    return TableName(root / "data", side.source, side.symbol or symbol, interval, side.kind)


def experiment_of(run: Run) -> Experiment:
    """The experiment that a run carried out."""
    return Experiment.model_validate(run.manifest["experiment"])


def longest_lookback(experiment: Experiment, fits: features.Fits) -> int:
    """Unbroken bars until every column, the fitted ones included, has its whole look-back."""
    frozen = [each.freeze(numbers) for each in experiment.fitted_features for numbers in fits[each.name].values()]
    every: list[Feature] = [*experiment.plain_features, *frozen]
    return max(each.lookback for each in every)


def _job(plan: Plan, fold: Fold, rows: pl.DataFrame, threads: int) -> Job:
    time = pl.col("time")
    bars = replace(plan.bars, frame=plan.bars.frame.filter(time < fold.test.end))
    own = rows.filter((time >= fold.train.start) & (time < fold.test.end))
    return Job(plan.experiment, fold, bars, own, plan.folder, threads)


def _matrix(rows: pl.DataFrame, names: list[str]) -> Matrix:
    return np.ascontiguousarray(rows.select(names).to_numpy())


def fold_folder(folder: Path, fold: Fold) -> Path:
    """Where a run keeps what one fold learned."""
    return folder / "folds" / f"{fold.number:02d}"


def _write_fold(folder: Path, model: FittedModel, facts: Mapping[str, Any], scored: pl.DataFrame) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder / "model")
    write_atomically(folder / "facts.json", json.dumps(facts, indent=1, allow_nan=False).encode())
    write_atomically(folder / "scores.parquet", parquet(scored))  # last: it says that the fold is finished


def _finished(folder: Path, fold: Fold) -> bool:
    return (fold_folder(folder, fold) / "scores.parquet").is_file()
