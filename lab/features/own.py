"""A person's own features: a Python file that is run once, and certified for what is used of it."""

import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from lab.errors import UsageError
from lab.features.catalogue import FEATURES, resolve
from lab.features.certificate import certify, rough_market
from lab.nouns import Feature
from lab.registry import Call

FITTING_ROWS = 3_000

_files: dict[Path, tuple[str, list[str]]] = {}  # file → SHA-256 of its text, and the names it registered
_certified: set[tuple[str, str]] = set()  # that SHA-256, and what was used of the file


def use(path: Path, texts: Sequence[str]) -> None:
    """Register the features of a Python file, and certify those of `texts` (`mine(20)`, …) that are its own.

    A file that was changed since is read again. One that cannot be run is a UsageError; a feature that sees more
    than it declares, with the parameters it is used with, is a LookAhead.
    """
    digest, names = _read(path.resolve(), path)
    for text in texts:
        if Call.parse(text).name in names and (digest, text) not in _certified:
            certify([_still(text)])
            _certified.add((digest, text))


def _still(text: str) -> Feature:
    """The feature as it would be used: a fitted one with numbers from a market at hand."""
    found = resolve(text)
    return found if isinstance(found, Feature) else found.freeze(found.fit(rough_market("plain", FITTING_ROWS)))


def _read(key: Path, path: Path) -> tuple[str, list[str]]:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise UsageError(f"feature_file {path} is not a Python file", fix="name a .py file beside the experiment")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    before, names = _files.get(key, ("", []))
    if digest == before:
        return digest, names
    for name in names:
        FEATURES.discard(name)
    known = set(FEATURES)
    try:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    except Exception as error:  # whatever a person's own file raises is theirs to mend
        for name in set(FEATURES) - known:
            FEATURES.discard(name)
        raise UsageError(
            f"feature_file {path} does not run: {type(error).__name__}: {error}", fix="mend the file"
        ) from error
    _files[key] = digest, [name for name in FEATURES if name not in known]
    return _files[key]
