"""The run folder of a training, read back whole: what was trained, how it went, and how it was evaluated.

Beside what :mod:`.training` keeps, a folder holds ``run.json`` (settings and machine), ``scenario.yaml`` (the scenario
as it was, overrides included) and ``evaluation.json`` (the comparison with the baselines), so that a report needs
nothing else.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from ..errors import ArtefactError, ScenarioError
from ..scenarios.loading import builtin_scenarios, load_scenario, scenario_data
from ..scenarios.schema import Scenario
from .artefact import CARD_FILE, brownout_version, load_policy, read_json, write_text
from .card import PolicyCard
from .evaluation import Evaluation
from .goodness import Goodness
from .policy import Policy
from .training import CHECKPOINT, read_checkpoint

ABOUT: Final = "run.json"
SCENARIO: Final = "scenario.yaml"
EVALUATION: Final = "evaluation.json"
CALIBRATION: Final = "calibration.json"


def describe_run(folder: str | Path, scenario: Scenario, settings: Mapping[str, Any]) -> None:
    """Write what is about to be trained, and on what machine.

    Args:
        folder: run folder, made if missing.
        scenario: what is trained on.
        settings: profile, intensity, workers and the like; plain JSON data.

    Raises:
        ArtefactError: the folder cannot be written.
    """
    folder = Path(folder)
    about = {
        "brownout": brownout_version(),
        "settings": dict(settings),
        "scenario_file": None if scenario.path is None else str(scenario.path.absolute()),
        "machine": machine(),
    }
    text = yaml.safe_dump(scenario_data(scenario), sort_keys=False, allow_unicode=True, width=110)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / ABOUT, json.dumps(about, indent=2) + "\n")
        write_text(folder / SCENARIO, text)
    except OSError as error:
        raise ArtefactError(f"{folder}: cannot write the run's description: {error}") from error


def machine() -> dict[str, Any]:
    """What a training ran on: cores, system, versions."""
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, Any] = {
        "cores": os.cpu_count(), "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }  # fmt: skip
    for name in ("numpy", "torch", "ray"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def keep_evaluation(folder: str | Path, evaluation: Evaluation) -> Path:
    """Write an evaluation of the folder's policy as its first row; it counts only as long as the policy stays."""
    path = Path(folder) / EVALUATION
    data = evaluation.to_dict() | {"policy": _digest(Path(folder))}
    write_text(path, json.dumps(data, indent=2) + "\n")
    return path


@dataclass(frozen=True, eq=False)
class RunFolder:
    """A training as it stands on the disk.

    Args:
        folder: where.
        policy: the policy kept, which a report is about.
        card: what it was trained on.
        scenario: the scenario of the training.
        profile: fault profile of the training.
        intensity: fault intensity of the training.
        config: PPO options.
        records: one per iteration.
        warnings: what the training warned of.
        about: ``run.json``, empty for a folder without.
        evaluation: the stored one, if it is of this policy and scenario.
        goodness: of the calibration behind the scenario, if known.
    """

    folder: Path
    policy: Policy
    card: PolicyCard
    scenario: Scenario
    profile: str
    intensity: float
    config: Mapping[str, Any]
    records: tuple[Mapping[str, Any], ...]
    warnings: tuple[str, ...]
    about: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Evaluation | None = None
    goodness: Goodness | None = None

    @classmethod
    def read(
        cls, folder: str | Path, *, scenario: str | Path | Scenario | None = None, calibration: Path | None = None
    ) -> RunFolder:
        """Read a run folder.

        Args:
            folder: what ``brownout train --out`` wrote.
            scenario: the scenario, for a folder that does not hold it and whose scenario is not built in.
            calibration: what ``brownout calibrate --json`` printed; default: ``calibration.json`` in the folder,
                or ``NAME.calibration.json`` beside the scenario's file.

        Raises:
            ArtefactError: there is no policy in the folder, or a file is damaged.
            ScenarioError: the scenario cannot be found, or is another one than that of the training.
        """
        folder = Path(folder)
        policy = load_policy(folder)
        card = policy.card
        assert card is not None
        about = read_json(folder / ABOUT) if (folder / ABOUT).is_file() else {}
        found = _scenario(folder, card, about, scenario)
        settings = about.get("settings", {})
        name, _, times = card.profile.rpartition(" x ")  # how the card writes an intensity other than 1
        profile = str(settings.get("profile", name or card.profile))
        records = _records(folder / "metrics.jsonl")
        config = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
        return cls(
            folder, policy, card, found, profile, float(settings.get("intensity", times if name else 1.0)), config,
            records, _warnings(folder, records), about, _evaluation(folder, found, profile),
            _goodness(folder, found, about, calibration),
        )  # fmt: skip


def read_goodness(path: Path) -> Goodness:
    """Read the goodness of fit from what ``brownout calibrate --json`` prints.

    Raises:
        ArtefactError: the file is missing or not of that form.
    """
    data = read_json(path)
    try:
        return Goodness.from_dict(data.get("goodness", data))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtefactError(
            f"{path}: {type(error).__name__} {error}; allowed: what `brownout calibrate TABLE --out FILE --json` prints"
        ) from error


def _digest(folder: Path) -> str:
    return str(read_json(folder / CARD_FILE).get("digest", ""))


def _scenario(
    folder: Path, card: PolicyCard, about: Mapping[str, Any], given: str | Path | Scenario | None
) -> Scenario:
    if given is not None:
        scenario = load_scenario(given)
    elif (folder / SCENARIO).is_file():
        scenario = load_scenario(folder / SCENARIO)
        if about.get("scenario_file"):
            scenario._path = Path(str(about["scenario_file"]))  # a relative table starts at the original file
    elif card.scenario in builtin_scenarios():
        scenario = load_scenario(card.scenario)
    else:
        raise ScenarioError(
            f"{folder}: scenario {card.scenario!r} is neither in the folder nor built in; give its file"
        )
    if scenario.hash != card.scenario_hash:
        raise ScenarioError(
            f"{folder}: trained on {card.scenario!r} ({card.scenario_hash}), but {str(scenario.path or given)!r} is "
            f"{scenario.name!r} ({scenario.hash}); give the file it was trained on"
        )
    return scenario


def _records(path: Path) -> tuple[dict[str, Any], ...]:
    """The metrics; a line that a crash cut off is left out."""
    if not path.is_file():
        return ()
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and isinstance(record.get("steps"), (int, float)):
            records.append(record)
    return tuple(records)


def _warnings(folder: Path, records: tuple[dict[str, Any], ...]) -> tuple[str, ...]:
    found = [str(record["warning"]) for record in records if record.get("warning")]
    if (folder / CHECKPOINT).is_file():
        try:
            found += [str(text) for text in read_checkpoint(folder / CHECKPOINT)[1]["warnings"]]
        except ArtefactError as error:
            found.append(f"the checkpoint cannot be read: {error}")
    return tuple(dict.fromkeys(found))


def _evaluation(folder: Path, scenario: Scenario, profile: str) -> Evaluation | None:
    path = folder / EVALUATION
    if not path.is_file():
        return None
    data = read_json(path)
    try:
        evaluation = Evaluation.from_dict(data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtefactError(f"{path}: field missing or wrong: {type(error).__name__} {error}") from error
    fits = (data.get("policy"), evaluation.scenario_hash, evaluation.profile) == (
        _digest(folder), scenario.hash, profile,
    )  # fmt: skip
    return evaluation if fits and evaluation.rows else None


def _goodness(folder: Path, scenario: Scenario, about: Mapping[str, Any], given: Path | None) -> Goodness | None:
    if given is not None:
        return read_goodness(given)
    beside = [folder / CALIBRATION]
    if scenario.path is not None:
        beside.append(scenario.path.with_suffix(".calibration.json"))
    return next((read_goodness(path) for path in beside if path.is_file()), None)
