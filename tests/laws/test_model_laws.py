"""Models: what every registered one promises, whatever it learned from."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from lab.models import MODELS, resolve
from lab.nouns import FittedModel, Matrix, Vector

# Small settings for each model; a registered model that is not here fails the first test.
SETTINGS: dict[str, dict[str, float]] = {
    "boosted_trees": {"trees": 40, "min_rows": 50},
    "linear": {},
    "nothing": {},
}
EVERY = pytest.mark.parametrize("name", list(MODELS))
KINDS = pytest.mark.parametrize("kind", ["return", "class"])


@dataclass(frozen=True)
class Task:
    """Rows to learn from and rows to be judged on, with a signal in the first column or none at all."""

    x: Matrix
    y: Vector
    new_x: Matrix
    new_y: Vector


@cache
def task(kind: str, signal: float, rows: int = 3_000, seed: int = 0) -> Task:
    rng = np.random.default_rng([seed, rows])
    x = rng.normal(size=(2 * rows, 5)) * [1, 1e-4, 1e6, 1, 1] + [0, 5, 0, 0, 0]
    earned = 1e-4 * (signal * x[:, 0] + rng.normal(size=2 * rows))
    y = earned if kind == "return" else np.where(earned > 5e-5, 1.0, np.where(earned < -5e-5, -1.0, 0.0))
    x[rng.random(x.shape) < 0.05] = np.nan
    x[:, 4] = 3.0  # a column that never changes
    x.flags.writeable = y.flags.writeable = False
    return Task(x[:rows], y[:rows], x[rows:], y[rows:])


def fitted(name: str, kind: str, x: Matrix, y: Vector, seed: int = 7, threads: int = 1) -> FittedModel:
    return resolve(name, SETTINGS[name]).fit(x, y, kind=kind, seed=seed, threads=threads)


@cache
def learned(name: str, kind: str) -> FittedModel:
    """The model fitted to a plain signal."""
    given = task(kind, 0.5)
    return fitted(name, kind, given.x, given.y)


def bits(model: FittedModel, x: Matrix) -> bytes:
    return model.predict(x).tobytes()


def test_every_registered_model_is_put_to_the_law() -> None:
    assert sorted(SETTINGS) == sorted(MODELS)


@EVERY
@KINDS
def test_a_saved_model_gives_the_same_scores_to_the_bit(name: str, kind: str, tmp_path: Path) -> None:
    model, new = learned(name, kind), task(kind, 0.5).new_x
    model.save(tmp_path / "model")
    again = MODELS[name].load(tmp_path / "model")
    assert bits(again, new) == bits(model, new)
    assert again.importance().tolist() == model.importance().tolist()
    again.save(tmp_path / "again")
    assert bits(MODELS[name].load(tmp_path / "again"), new) == bits(model, new)


@EVERY
@KINDS
def test_a_saved_model_is_plain_text_that_runs_no_code(name: str, kind: str, tmp_path: Path) -> None:
    learned(name, kind).save(tmp_path / "model")
    (path,) = tmp_path.iterdir()
    text = path.read_bytes().decode("ascii")
    assert text.isprintable() or set(filter(lambda sign: not sign.isprintable(), text)) <= {"\n", "\t"}
    if name == "linear":
        assert set(json.loads(text)) == {"mean", "deviation", "coefficients", "intercepts"}


@EVERY
@KINDS
def test_the_same_seed_gives_the_same_model_at_any_number_of_threads(name: str, kind: str, tmp_path: Path) -> None:
    given = task(kind, 0.5)
    files = set()
    for run, threads in enumerate((1, 1, 2, 0)):
        model = fitted(name, kind, given.x, given.y, threads=threads)
        assert bits(model, given.new_x) == bits(learned(name, kind), given.new_x)
        model.save(tmp_path / str(run))
        files.add((tmp_path / str(run)).read_bytes())
    assert len(files) == 1


@KINDS
def test_another_seed_draws_other_trees(kind: str) -> None:
    given = task(kind, 0.5)
    other = fitted("boosted_trees", kind, given.x, given.y, seed=8)
    assert bits(other, given.new_x) != bits(learned("boosted_trees", kind), given.new_x)


@EVERY
@KINDS
def test_a_row_alone_scores_as_it_does_among_many_to_the_bit(name: str, kind: str) -> None:
    model, new = learned(name, kind), task(kind, 0.5).new_x
    together = model.predict(new)
    assert together.shape == (3_000,)
    alone = np.concatenate([model.predict(new[row : row + 1]) for row in range(300)])
    assert alone.tobytes() == together[:300].tobytes()
    assert bits(model, new[::-1]) == together[::-1].tobytes()
    for size in (2, 3, 5, 17, 999, 1_001):  # odd ends of vector lanes and thread blocks
        assert bits(model, new[:size]) == together[:size].tobytes()


@EVERY
@KINDS
def test_a_planted_signal_is_found_by_all_but_the_model_that_expects_nothing(name: str, kind: str) -> None:
    given, model = task(kind, 0.5), learned(name, kind)
    scores = model.predict(given.new_x)
    assert np.isfinite(scores).all()
    if name == "nothing":
        assert set(scores) == {0.0}
        assert model.importance().tolist() == [0.0] * 5
        return
    # The best forecast correlates by 0.5 / sqrt(1.25) = 0.447 with a return; trees and nulls cost some of it.
    assert np.corrcoef(scores, given.new_y)[0, 1] > 0.35
    weights = model.importance()
    assert weights.shape == (5,)
    assert weights.sum() == pytest.approx(1)
    assert weights.min() >= 0
    assert weights.argmax() == 0
    assert weights[4] == 0  # what never changes tells nothing


@pytest.mark.parametrize("name", [name for name in MODELS if name != "nothing"])
def test_a_return_is_scored_in_its_own_unit_and_a_class_as_a_difference_of_chances(name: str) -> None:
    scores = learned(name, "return").predict(task("return", 0.5).new_x)
    assert 0.3e-4 < scores.std() < 0.7e-4  # the planted part moves by 0.5 basis points
    chances = learned(name, "class").predict(task("class", 0.5).new_x)
    assert -1 <= chances.min() < -0.3
    assert 0.3 < chances.max() <= 1


@EVERY
@KINDS
def test_nothing_is_found_in_noise(name: str, kind: str) -> None:
    for seed in range(3):
        given = task(kind, 0.0, seed=seed)
        scores = fitted(name, kind, given.x, given.y).predict(given.new_x)
        found = 0.0 if np.ptp(scores) == 0 else float(np.corrcoef(scores, given.new_y)[0, 1])
        assert abs(found) < 4 / np.sqrt(len(given.new_y))


@EVERY
@KINDS
def test_a_row_of_nulls_and_a_column_of_nulls_have_a_score(name: str, kind: str) -> None:
    given = task(kind, 0.5)
    blind = given.x.copy()
    blind[:, 3] = np.nan
    model = fitted(name, kind, blind, given.y)
    scores = model.predict(np.vstack([given.new_x[:50], np.full((1, 5), np.nan)]))
    assert scores.shape == (51,)
    assert np.isfinite(scores).all()
    assert model.importance()[3] == 0
    assert np.isfinite(learned(name, kind).predict(np.full((2, 5), np.nan))).all()


@EVERY
def test_a_class_that_training_never_saw_gets_no_chance(name: str) -> None:
    given = task("class", 0.5)
    for absent, sign in ((-1.0, 1), (1.0, -1)):
        kept = given.y != absent
        scores = fitted(name, "class", given.x[kept], given.y[kept]).predict(given.new_x)
        assert (sign * scores >= -1e-6).all()
        assert np.isfinite(scores).all()
    kept = given.y != 0.0
    scores = fitted(name, "class", given.x[kept], given.y[kept]).predict(given.new_x)
    assert name == "nothing" or np.corrcoef(scores, given.new_y)[0, 1] > 0.35


@EVERY
@pytest.mark.parametrize("only", [-1.0, 0.0, 1.0])
def test_where_training_saw_one_class_alone_no_other_is_expected(name: str, only: float, tmp_path: Path) -> None:
    given = task("class", 0.5)
    model = fitted(name, "class", given.x, np.full(len(given.y), only))
    expected = 0.0 if name == "nothing" else only
    assert model.predict(given.new_x) == pytest.approx(np.full(3_000, expected), abs=1e-6)
    model.save(tmp_path / "model")
    assert bits(MODELS[name].load(tmp_path / "model"), given.new_x) == bits(model, given.new_x)


@EVERY
def test_an_answer_that_never_varies_is_what_is_expected(name: str) -> None:
    given = task("return", 0.5)
    scores = fitted(name, "return", given.x, np.full(len(given.y), 3e-4)).predict(given.new_x)
    assert scores == pytest.approx(np.full(3_000, 0.0 if name == "nothing" else 3e-4))


@EVERY
@KINDS
def test_a_handful_of_rows_is_enough_to_fit(name: str, kind: str) -> None:
    given = task(kind, 0.5)
    scores = fitted(name, kind, given.x[:3], given.y[:3]).predict(given.new_x[:4])
    assert scores.shape == (4,)
    assert np.isfinite(scores).all()


def test_columns_that_say_the_same_do_not_stop_a_linear_model_without_penalty() -> None:
    given = task("return", 0.5)
    twins = np.hstack([given.x, given.x[:, :1]])
    model = resolve("linear", {"penalty": 0.0}).fit(twins, given.y, kind="return", seed=0, threads=1)
    scores = model.predict(np.hstack([given.new_x, given.new_x[:, :1]]))
    assert np.corrcoef(scores, given.new_y)[0, 1] > 0.35


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("linear", {"penalty": -1.0}),
        ("linear", {"penalty": float("nan")}),
        ("linear", {"alpha": 1.0}),
        ("boosted_trees", {"trees": 0}),
        ("boosted_trees", {"leaves": 1}),
        ("boosted_trees", {"shrinkage": 1.5}),
        ("boosted_trees", {"row_share": 0.0}),
        ("nothing", {"trees": 5}),
    ],
)
def test_settings_that_a_model_does_not_have_are_refused(name: str, settings: dict[str, float]) -> None:
    from pydantic import ValidationError

    with pytest.raises(ValidationError):
        resolve(name, settings)
