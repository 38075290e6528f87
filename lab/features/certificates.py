"""Certificates, kept under the hash of everything they rest on; nothing is ever believed by its name alone."""

import hashlib
import json
import multiprocessing
import platform
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lab import compiled, merging, nouns
from lab.errors import LabError
from lab.features import own
from lab.features.catalogue import expanded, resolve
from lab.features.certificate import certify
from lab.features.markets import rough_market
from lab.files import write_atomically
from lab.nouns import Feature, FittedFeature

FITTING_ROWS = 3_000

_known: dict[str, "Certificate"] = {}


@dataclass(frozen=True)
class Certificate:
    """That a feature sees its last `lookback` bars and nothing ahead, of which its values rest on `memory`.

    `rows` were recomputed on rough markets; `code` is the hash of the code that computed them.
    """

    column: str
    family: str
    lookback: int
    memory: int
    rows: int
    code: str
    environment: Mapping[str, str]


def certified(folder: Path, texts: Sequence[str], interval: str = "") -> list[Certificate]:
    """The certificate of each feature that `texts` name, from the folder of an earlier day or earned now.

    A feature that breaks a law is a LookAhead. One whose code, look-back or libraries changed earns it again.
    """
    return [certificate_of(folder, text, interval) for text in expanded(texts)]


def proved(
    folder: Path, texts: Sequence[str], workers: int, file: Path | None = None
) -> Iterator[tuple[str, Certificate | LabError]]:
    """The certificate of each feature, or the law that it breaks, by several processes; `file` registers some."""
    jobs = [(folder, text, file) for text in texts]
    if workers == 1:
        yield from map(_proved, jobs)
        return
    # Spawned, not forked: a fork of a process with Polars threads can hang.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_proved, jobs)


def _proved(job: tuple[Path, str, Path | None]) -> tuple[str, Certificate | LabError]:
    folder, text, file = job
    if file:
        own.use(file)
    try:
        return text, certificate_of(folder, text)
    except LabError as error:
        return text, error


def certificate_of(folder: Path, text: str, interval: str = "") -> Certificate:
    """The certificate of one feature, kept or earned."""
    feature = still(text, interval)
    code = code_of(text)
    facts = [feature.name, feature.lookback, feature.interval, code, environment()]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]
    if key not in _known:
        path = folder / f"{key}.json"
        _known[key] = _read(path) or _earn(feature, code)
        if not path.is_file():
            write_atomically(path, json.dumps(asdict(_known[key]), indent=1).encode())
    return _known[key]


def still(text: str, interval: str = "") -> Feature:
    """The feature as it would be used: a fitted one with numbers from a market at hand."""
    found = resolve(text, interval)
    if isinstance(found, FittedFeature):
        return found.freeze(found.fit(rough_market("plain", FITTING_ROWS)))
    return found


def code_of(text: str) -> str:
    """SHA-256 of the code behind a feature: the catalogue's, and the file it comes from where that is a person's."""
    return hashlib.sha256(f"{_house_code()} {own.digest_of(text)}".encode()).hexdigest()


@cache
def environment() -> dict[str, str]:
    """What computes: the versions and the processor that a certificate was earned with."""
    libraries = {name: version(name) for name in ("numba", "numpy", "polars")}
    return {"python": platform.python_version(), "machine": platform.machine(), **libraries}


def _earn(feature: Feature, code: str) -> Certificate:
    proof = certify(feature)
    return Certificate(feature.name, feature.family, feature.lookback, proof.memory, proof.rows, code, environment())


def _read(path: Path) -> Certificate | None:
    """A kept certificate; None where there is none, or where it cannot be read."""
    try:
        kept: dict[str, Any] = json.loads(path.read_bytes())
        return Certificate(**kept)
    except (OSError, ValueError, TypeError):
        return None


@cache
def _house_code() -> str:
    files = [Path(str(module.__file__)) for module in (compiled, merging, nouns)]
    files += sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
