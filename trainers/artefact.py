"""The policy artefact: a folder with ``policy.json`` and ``weights.npz``; arrays and JSON, no pickles.

Every kind of damage is an :class:`~brownout.errors.ArtefactError` that names the file and what is wrong.
Files are written under a temporary name and renamed, so a crash never leaves half a file.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import ArtefactError, PolicyError
from .card import PolicyCard
from .policy import Normaliser, Policy

FORMAT: Final = 1
CARD_FILE: Final = "policy.json"
WEIGHTS_FILE: Final = "weights.npz"


def save_policy(
    folder: str | Path, policy: Policy, env: Any = None, *, training: Mapping[str, Any] | None = None
) -> Path:
    """Write a policy folder.

    Args:
        folder: made if missing; an older artefact in it is replaced.
        policy: what to save.
        env: the environment it was trained on, described in the card; None keeps ``policy.card``.
        training: summary to keep (steps, seconds, utility, seed ...), plain JSON data.

    Raises:
        ArtefactError: there is neither ``env`` nor a card, or the folder cannot be written.
    """
    card = PolicyCard.of(env, training) if env is not None else policy.card
    if card is None:
        raise ArtefactError(f"{folder}: a policy without a card needs the environment (env=) it was trained on")
    for what, have, want in (
        ("observation columns", len(card.columns), policy.columns),
        ("actions", len(card.actions), policy.actions),
    ):
        if have != want:
            raise ArtefactError(f"{folder}: the environment has {have} {what}, the policy {want}")
    arrays: dict[str, NDArray[Any]] = dict(policy.weights)
    if policy.normaliser is not None:
        arrays["normaliser.mean"] = policy.normaliser.mean
        arrays["normaliser.deviation"] = policy.normaliser.deviation
    data = {
        "format": FORMAT,
        "brownout": brownout_version(),
        **card.as_json(),
        "hidden": list(policy.hidden),
        "normaliser": None if policy.normaliser is None else {"clip": policy.normaliser.clip},
        "digest": digest(arrays),
    }
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_arrays(folder / WEIGHTS_FILE, arrays)
        write_text(folder / CARD_FILE, json.dumps(data, indent=2) + "\n")
    except OSError as error:
        raise ArtefactError(f"{folder}: cannot write the policy: {error}") from error
    return folder


def load_policy(folder: str | Path) -> Policy:
    """Read a policy folder; the result needs NumPy only.

    Raises:
        ArtefactError: a file is missing, cut off or altered, a shape is wrong, or the format is newer.
    """
    folder = Path(folder)
    path = folder / CARD_FILE
    data = read_json(path, f"; a policy is a folder with {CARD_FILE}")
    number = data.get("format")
    if not isinstance(number, int) or number < 1:
        raise ArtefactError(f"{path}: format is {number!r}, expected a whole number from 1 to {FORMAT}")
    if number > FORMAT:
        raise ArtefactError(
            f"{path}: format {number} was written by brownout {data.get('brownout', '?')}; this is brownout "
            f"{brownout_version()}, which reads up to format {FORMAT}: upgrade it"
        )
    try:
        card = PolicyCard.from_json(data)
        options, expected = data["normaliser"], str(data["digest"])
        clip = None if options is None else float(options["clip"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtefactError(f"{path}: field missing or wrong: {type(error).__name__} {error}") from error
    weights_path = folder / WEIGHTS_FILE
    arrays = read_arrays(weights_path)
    if any(array.dtype != np.float32 for array in arrays.values()):
        raise ArtefactError(f"{weights_path}: every array must be float32")
    if digest(arrays) != expected:
        raise ArtefactError(f"{weights_path}: digest {digest(arrays)}, but {CARD_FILE} says {expected}")
    try:
        normaliser = None
        if clip is not None:
            normaliser = Normaliser(arrays.pop("normaliser.mean"), arrays.pop("normaliser.deviation"), clip)
        policy = Policy(arrays, normaliser, card)
    except KeyError as error:
        raise ArtefactError(f"{weights_path}: array {error} is missing") from error
    except PolicyError as error:
        raise ArtefactError(f"{weights_path}: {error}") from error
    if (policy.columns, policy.actions) != (len(card.columns), len(card.actions)):
        raise ArtefactError(
            f"{weights_path}: made for {policy.columns} columns and {policy.actions} actions, "
            f"{CARD_FILE} lists {len(card.columns)} and {len(card.actions)}"
        )
    return policy


def digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return a SHA-256 over names, types, shapes and contents of arrays."""
    result = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        result.update(f"{name} {array.dtype.str} {arrays[name].shape}\n".encode())
        result.update(array.tobytes())
    return f"sha256:{result.hexdigest()}"


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write an ``.npz`` file under a temporary name, flush it to the disk and rename it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **dict(arrays))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read an ``.npz`` file of plain arrays.

    Raises:
        ArtefactError: missing, not an archive, cut off, or holding objects.
    """
    try:
        # Opened here, because NumPy leaves a file open that turns out to be no archive.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: np.asarray(archive[name]) for name in archive.files}
    except FileNotFoundError:
        raise ArtefactError(f"{path}: no such file") from None
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, AttributeError) as error:
        raise ArtefactError(f"{path}: not a readable array file (cut off or altered): {error}") from error


def write_text(path: Path, text: str) -> None:
    """Write a text file under a temporary name and rename it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def brownout_version() -> str:
    """Return the version of the installed package."""
    try:
        return version("brownout")
    except PackageNotFoundError:
        return "unknown"


def read_json(path: Path, hint: str = "") -> dict[str, Any]:
    """Read a JSON object; ``hint`` says what a missing file should have been.

    Raises:
        ArtefactError: if the file is missing, unreadable or holds anything else.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtefactError(f"{path}: no such file{hint}") from None
    except (OSError, ValueError) as error:
        raise ArtefactError(f"{path}: not readable as JSON (cut off or altered): {error}") from error
    if not isinstance(data, dict):
        raise ArtefactError(f"{path}: expected a JSON object, got {type(data).__name__}")
    return data
