"""experiments/: runs saved, found and listed, and the ledger of every trial."""

import hashlib
import json
import math
import platform
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lab.errors import DamagedData, LabError, UsageError
from lab.files import append_line, write_atomically
from lab.nouns import Run
from lab.registry import unknown

MANIFEST = "run.json"
PACKAGES = ("arch", "hmmlearn", "lightgbm", "numba", "numpy", "polars", "scikit-learn", "scipy")


def runs_folder(root: Path) -> Path:
    return root / "experiments" / "runs"


def run_id(experiment_id: str, data_digest: str, kind: str) -> str:
    """What a run is called: a hash of its settings, its data and whether it walked forward."""
    return hashlib.sha256(f"{experiment_id} {data_digest} {kind}".encode()).hexdigest()[:16]


@cache
def code_digest() -> str:
    """SHA-256 of the source of `lab`: a result of other code is not a result of this one."""
    package = Path(__file__).parent
    sha = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        sha.update(path.relative_to(package).as_posix().encode())
        sha.update(path.read_bytes())
    return sha.hexdigest()


def lineage() -> dict[str, Any]:
    """The code and the libraries that numbers come from."""
    return {
        "lab": version("lab"),
        "code": code_digest(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
    }


def save(folder: Path, manifest: Mapping[str, Any]) -> Run:
    """Finish the run in `folder`: hash every file that lies in it and write the manifest, which makes it a run."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    hashed = {path.relative_to(folder).as_posix(): _sha256(path) for path in files if path.suffix != ".tmp"}
    complete = {**manifest, "files": hashed}
    text = json.dumps({**complete, "seal": _seal(complete)}, indent=2, allow_nan=False)
    write_atomically(folder / MANIFEST, text.encode())
    return _read(folder)


def reopen(folder: Path) -> None:
    """Make room for a run: what other code had left in its folder goes; what this code had finished stays."""
    stamp = folder / "code"
    if stamp.is_file() and stamp.read_text() == code_digest():
        (folder / MANIFEST).unlink(missing_ok=True)
        return
    shutil.rmtree(folder, ignore_errors=True)
    write_atomically(stamp, code_digest().encode())


def variant(run: Run, *choices: object) -> str:
    """What a run replayed under other choices is called in the ledger."""
    return f"{run.id}+{hashlib.sha256(repr(choices).encode()).hexdigest()[:8]}"


def find(root: Path, identifier: str) -> Run | None:
    """The finished run of that id, made by this very code, its files' hashes checked; null where there is none."""
    folder = runs_folder(root) / identifier
    if not (folder / MANIFEST).is_file():
        return None
    run = _read(folder)
    if run.manifest["lineage"]["code"] != code_digest():
        return None
    verify(run)
    return run


def load(root: Path, name: str) -> Run:
    """The run whose id is `name` or begins with it (4 letters at least), or `last`; its files' hashes are checked."""
    known = [path.parent.name for path in sorted(runs_folder(root).glob(f"*/{MANIFEST}"), key=_age)]
    if not known:
        raise UsageError("there are no runs yet", fix="lab train EXPERIMENT --walk-forward")
    found = known[-1:] if name == "last" else [each for each in known if len(name) >= 4 and each.startswith(name)]
    if not found:
        raise unknown("run", name, known)
    if len(found) > 1:
        raise UsageError(f"{name!r} fits {len(found)} runs: {', '.join(found)}", fix="give more letters of the id")
    run = _read(runs_folder(root) / found[0])
    verify(run)
    return run


def listed(root: Path) -> Iterator[Run]:
    """Every finished run, the newest last."""
    for path in sorted(runs_folder(root).glob(f"*/{MANIFEST}"), key=_age):
        yield _read(path.parent)


def verify(run: Run) -> None:
    """Raise DamagedData for the first file of a run whose bytes are not those that were written."""
    for name, expected in run.manifest["files"].items():
        path = run.folder / name
        if not path.is_file() or _sha256(path) != expected:
            raise DamagedData(
                f"{path} is missing or was changed after the run wrote it",
                fix=f"remove {run.folder} and make the run again: {run.manifest['command']}",
            )


@dataclass(frozen=True)
class Trial:
    """One configuration tried on one market. `sharpe` is per day; null where the trial came to nothing."""

    id: str
    market: tuple[str, ...]
    sharpe: float | None


def record(root: Path, trial: Trial) -> None:
    """Write a trial to the ledger, on the disk before this returns; lines are only ever added."""
    line = {"trial": trial.id, "market": list(trial.market), "sharpe": trial.sharpe}
    append_line(_ledger(root), json.dumps(line, allow_nan=False))


def trials(root: Path, market: tuple[str, ...]) -> list[Trial]:
    """Every configuration tried on any of these markets, once each, with the last word about it."""
    path = _ledger(root)
    found: dict[str, Trial] = {}
    for number, line in enumerate(path.read_bytes().splitlines() if path.is_file() else [], start=1):
        try:
            entry = json.loads(line)
            trial = Trial(str(entry["trial"]), tuple(map(str, entry["market"])), entry["sharpe"])
            if trial.sharpe is not None and not math.isfinite(trial.sharpe):
                raise ValueError("a Sharpe ratio is a number")
        except (ValueError, KeyError, TypeError):
            raise LabError(f"line {number} of {path} is not a trial", fix="restore the ledger from a backup") from None
        earlier = found.get(trial.id)
        if set(trial.market) & set(market):
            found[trial.id] = earlier if earlier and trial.sharpe is None else trial
    return list(found.values())


def _ledger(root: Path) -> Path:
    return root / "experiments" / "ledger.jsonl"


def _read(folder: Path) -> Run:
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        if manifest.pop("seal") != _seal(manifest) or manifest["id"] != folder.name:
            raise ValueError("the manifest was changed, or the folder renamed")
        return Run(manifest["id"], manifest["kind"], folder, manifest)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DamagedData(
            f"{folder / MANIFEST} is not what a run wrote", fix=f"remove {folder} and make it again"
        ) from None


def _seal(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of everything that a manifest says."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _age(path: Path) -> tuple[float, str]:
    return path.stat().st_mtime, path.parent.name
