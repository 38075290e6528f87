"""The stages, one bar at a time: the same columns, the same model, the same policy step as the pipeline's."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from lab import features, folds, pipeline, policy, runs
from lab.errors import BadBars, LabError, UsageError
from lab.models import MODELS
from lab.nouns import Bars, Decision, Feature, FittedModel, Fold, Run, Span


@dataclass(frozen=True)
class Learned:
    """What one fold had learned, to be used from the start of its test on."""

    since: datetime
    model: FittedModel
    columns: Mapping[str, list[Feature]]  # by symbol, in the order the model saw them
    lookback: int


@dataclass
class Memory:
    """What is remembered of one symbol: its latest bars, their number in the unbroken stretch, what is held."""

    bars: pl.DataFrame
    age: int = 0
    compared: dict[str, list[float]] = field(default_factory=dict)  # what looks across symbols, for each of the bars
    side: float = 0.0
    target: float = 0.0


@dataclass
class Live:
    """Decides at the close of each bar as the run's own pipeline would.

    To the bit, if it is fed an unbroken stretch from its first bar on; from a later one on, to rounding.
    A run that walked forward uses the model of the fold that a bar falls in, and after the last one that of the
    last; a final run its only model. Before the first, nothing is decided. A run whose files, or whose feature
    file, were changed since is refused.
    """

    run: Run
    _learned: list[Learned] = field(init=False)
    _across: list[Feature] = field(init=False)
    _memories: dict[str, Memory] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        runs.verify(self.run)  # a damaged model can crash the process that reads it
        self._experiment = pipeline.experiment_of(self.run)
        if self._experiment.settings != self.run.manifest["settings"]:
            raise LabError(
                f"{self._experiment.feature_file} is not the file that run {self.run.id} was made with",
                fix=f"restore it, or make a run of what it says now: {self.run.manifest['command']}",
            )
        self._sizing = pipeline.sizing_of(self._experiment.policy)
        self._learned = [self._load(fold) for fold in self.run.manifest["folds"]]
        self._across = [each for each in self._experiment.plain_features if each.across]
        self._kept = max(self._sizing.lookback, *(each.lookback for each in self._learned))
        data = self.run.manifest["data"]
        bridge = folds.duration(self._experiment.data.bridge)
        self._empty = Bars(pl.DataFrame(), data["interval"], data["calendar"], bridge)

    def on_bar(self, bar: Mapping[str, Any]) -> Decision:
        """Take a closed bar (symbol, time and the columns of the run's bars) and decide what to hold after it.

        A bar that is not later than the last one of its symbol, or that cannot be a bar, is a BadBars.
        """
        return self.on_bars([bar])[0]

    def on_bars(self, bars: Sequence[Mapping[str, Any]]) -> list[Decision]:
        """Take all bars that closed at one moment, one a symbol, and decide for each.

        Columns that look across symbols see the bars that come together, as the pipeline's see those of one close.
        """
        if len({bar.get("time") for bar in bars}) > 1 or len({bar.get("symbol") for bar in bars}) < len(bars):
            raise BadBars("bars of different moments came together", fix="feed one close at a time, a bar a symbol")
        remembered = [self._remember(bar) for bar in bars]
        if self._across:
            self._compare({memory.bars["symbol"][-1]: memory for memory in remembered})
        return [self._decide(memory) for memory in remembered]

    def _compare(self, memories: Mapping[str, Memory]) -> None:
        frames = {symbol: (memory.bars, memory.age - memory.bars.height + 1) for symbol, memory in memories.items()}
        for symbol, values in features.compared_now(frames, self._across).items():
            memory = memories[symbol]
            for name, value in values.items():
                memory.compared[name] = [*memory.compared.get(name, []), value][-memory.bars.height :]

    def _decide(self, memory: Memory) -> Decision:
        symbol, time = memory.bars["symbol"][-1], memory.bars["time"][-1]
        learned = next((each for each in reversed(self._learned) if each.since <= time), None)
        if learned is None:
            return Decision(symbol, time, None, 0.0)
        first_age = memory.age - memory.bars.height + 1
        known = learned.columns.get(symbol)  # none for a symbol that was not there to learn from
        bars = memory.bars.with_columns(pl.Series(name, values) for name, values in memory.compared.items())
        *values, volatility = features.latest(bars, [*(known or []), self._sizing], first_age)
        ready = known is not None and memory.age >= learned.lookback
        score = float(learned.model.predict(np.array([values]))[0]) if ready else math.nan
        chosen = self._experiment.policy
        memory.side, memory.target = policy.step(
            memory.side,
            memory.target,
            score,
            volatility,
            chosen.enter,
            chosen.exit,
            chosen.vol_per_bar(self.run.manifest["data"]["bars_per_year"]),
            chosen.resize_band,
            chosen.shorts,
        )
        return Decision(symbol, time, None if math.isnan(score) else score, memory.target)

    def _remember(self, bar: Mapping[str, Any]) -> Memory:
        row = Bars.of(pl.DataFrame([dict(bar)]), self._empty.interval, self._empty.calendar).frame
        symbol, time = row["symbol"][0], row["time"][0]
        if symbol not in self.run.manifest["data"]["symbols"]:
            raise UsageError(
                f"run {self.run.id} knows nothing of {symbol}", fix="feed it a symbol that it learned from"
            )
        memory = self._memories.get(symbol)
        if memory is None:
            memory = self._memories[symbol] = Memory(row, age=1)
            return memory
        last = memory.bars["time"][-1]
        if time <= last:
            raise BadBars(f"{symbol}: a bar of {time} came after that of {last}", fix="feed bars in order, each once")
        if time - last > self._empty.unbroken_step:
            memory.bars, memory.age, memory.compared = row, 1, {}
        else:
            # One chunk: computing on a frame of a thousand one-row chunks is far slower.
            memory.bars = pl.concat([memory.bars.tail(self._kept - 1), row.select(memory.bars.columns)], rechunk=True)
            memory.age += 1
        return memory

    def _load(self, facts: Mapping[str, Any]) -> Learned:
        train, test = (Span(*map(datetime.fromisoformat, facts[part])) for part in ("train", "test"))
        folder = pipeline.fold_folder(self.run.folder, Fold(facts["number"], train, test))
        experiment, fits = self._experiment, facts["numbers"]
        columns = {
            symbol: [
                *experiment.plain_features,
                *(each.freeze(fits[each.name][symbol]) for each in experiment.fitted_features),
            ]
            for symbol in facts["symbols"]
        }
        model: FittedModel = MODELS[experiment.model["name"]].load(folder / "model")
        return Learned(test.start, model, columns, pipeline.longest_lookback(experiment, fits))
