"""The stages, one bar at a time: the same columns, the same model, the same policy step as the pipeline's."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from lab import folds, pipeline, policy, runs
from lab.errors import BadBars, LabError, UsageError
from lab.features import Latest, LatestCompared, Recent
from lab.models import MODELS
from lab.nouns import COMPARED, NUMBERS, Bars, Decision, Feature, FittedModel, Fold, Run, Span, Vector, bar_of


@dataclass(frozen=True)
class Learned:
    """What one fold had learned, to be used from the start of its test on."""

    since: datetime
    model: FittedModel
    plain: Latest  # the model's first columns, and behind them what sizes a position
    fitted: Mapping[str, Latest]  # its other columns, by symbol
    lookback: int


@dataclass
class Memory:
    """What is remembered of one symbol: its latest bars, when the last of them closed, what is held."""

    bars: Recent
    last: datetime
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
    _compared: LatestCompared = field(init=False)
    _memories: dict[str, Memory] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        runs.verify(self.run)  # a damaged model can crash the process that reads it
        self._experiment = pipeline.experiment_of(self.run)
        if self._experiment.settings != self.run.manifest["settings"]:
            raise LabError(
                f"{self._experiment.feature_file} is not the file that run {self.run.id} was made with",
                fix=f"restore it, or make a run of what it says now: {self.run.manifest['command']}",
            )
        sizing = pipeline.sizing_of(self._experiment.policy)
        self._learned = [self._load(fold, sizing) for fold in self.run.manifest["folds"]]
        across = [each for each in self._experiment.plain_features if each.across]
        self._compared = LatestCompared(across)
        self._kept = max(sizing.lookback, *(each.lookback for each in self._learned))
        data = self.run.manifest["data"]
        bridge = folds.duration(self._experiment.data.bridge)
        self._unbroken_step = Bars(pl.DataFrame(), data["interval"], data["calendar"], bridge).unbroken_step
        every = [latest for each in self._learned for latest in (each.plain, *each.fitted.values())]
        compared = [each.column_of(what) for each in across for what in COMPARED]
        self._columns = sorted({name for each in every for name in each.needs} & set(NUMBERS)) + compared

    def on_bar(self, bar: Mapping[str, Any]) -> Decision:
        """Take a closed bar (symbol, time and the columns of the run's bars) and decide what to hold after it.

        A bar that is not later than the last one of its symbol, or that cannot be a bar, is a BadBars.
        """
        return self.on_bars([bar])[0]

    def on_bars(self, bars: Sequence[Mapping[str, Any]]) -> list[Decision]:
        """Take all bars that closed at one moment, one a symbol, and decide for each.

        Columns that look across symbols see the bars that come together, as the pipeline's see those of one close.
        """
        arrived = [self._checked(bar) for bar in bars]  # all of them, before any is remembered
        if len({time for _, time, _ in arrived}) > 1 or len({symbol for symbol, _, _ in arrived}) < len(arrived):
            raise BadBars("bars of different moments came together", fix="feed one close at a time, a bar a symbol")
        remembered = [self._remember(*each) for each in arrived]
        if not remembered:
            return []
        self._compared.write([memory.bars for memory in remembered])
        return self._decided(remembered)

    def _decided(self, memories: Sequence[Memory]) -> list[Decision]:
        time = memories[0].last
        learned = next((each for each in reversed(self._learned) if each.since <= time), None)
        if learned is None:
            return [Decision(memory.bars.symbol, time, None, 0.0) for memory in memories]
        plain = learned.plain.of([memory.bars for memory in memories])
        return [self._decide(memory, learned, values) for memory, values in zip(memories, plain, strict=True)]

    def _decide(self, memory: Memory, learned: Learned, plain: Vector) -> Decision:
        symbol = memory.bars.symbol
        fitted = learned.fitted.get(symbol)  # none for a symbol that was not there to learn from
        score = math.nan
        if fitted and memory.bars.age >= learned.lookback:
            values = np.concatenate([plain[:-1], fitted.of([memory.bars])[0]])
            score = float(learned.model.predict(values.reshape(1, -1))[0])
        chosen = self._experiment.policy
        memory.side, memory.target = policy.step(
            memory.side,
            memory.target,
            score,
            float(plain[-1]),
            chosen.enter,
            chosen.exit,
            chosen.vol_per_bar(self.run.manifest["data"]["bars_per_year"]),
            chosen.resize_band,
            chosen.shorts,
        )
        return Decision(symbol, memory.last, None if math.isnan(score) else score, memory.target)

    def _checked(self, bar: Mapping[str, Any]) -> tuple[str, datetime, dict[str, float]]:
        symbol, time, numbers = bar_of(bar)
        if symbol not in self.run.manifest["data"]["symbols"]:
            raise UsageError(
                f"run {self.run.id} knows nothing of {symbol}", fix="feed it a symbol that it learned from"
            )
        memory = self._memories.get(symbol)
        if memory and time <= memory.last:
            raise BadBars(
                f"{symbol}: a bar of {time} came after that of {memory.last}", fix="feed bars in order, each once"
            )
        return symbol, time, numbers

    def _remember(self, symbol: str, time: datetime, numbers: Mapping[str, float]) -> Memory:
        memory = self._memories.get(symbol)
        if memory is None:
            memory = self._memories[symbol] = Memory(Recent(symbol, self._columns, self._kept), time)
        elif time - memory.last > self._unbroken_step:
            memory.bars.clear()
        memory.bars.append(time, numbers)
        memory.last = time
        return memory

    def _load(self, facts: Mapping[str, Any], sizing: Feature) -> Learned:
        train, test = (Span(*map(datetime.fromisoformat, facts[part])) for part in ("train", "test"))
        folder = pipeline.fold_folder(self.run.folder, Fold(facts["number"], train, test))
        experiment, fits = self._experiment, facts["numbers"]
        fitted = {
            symbol: Latest([each.freeze(fits[each.name][symbol]) for each in experiment.fitted_features])
            for symbol in facts["symbols"]
        }
        model: FittedModel = MODELS[experiment.model["name"]].load(folder / "model")
        plain = Latest([*experiment.plain_features, sizing])
        return Learned(test.start, model, plain, fitted, pipeline.longest_lookback(experiment, fits))
