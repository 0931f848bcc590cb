"""The policy folder: round trip, every kind of damage, the fit check, and ONNX."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from brownout.errors import ArtefactError, PolicyError
from brownout.trainers.artefact import load_policy, save_policy
from brownout.trainers.onnx_export import export_onnx
from brownout.trainers.policy import Policy, initial_weights
from test_trainers_policy import policy, rows
from toy_lanes import ToyColumn, ToyLanes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_policy(tmp_path / "run", policy(3, 3), ToyLanes(1), training={"steps": 7})


def test_round_trip_keeps_bits_and_card(folder: Path) -> None:
    loaded, original = load_policy(folder), policy(3, 3)
    observations = rows(50, 3)
    np.testing.assert_array_equal(loaded.logits(observations), original.logits(observations))
    np.testing.assert_array_equal(loaded.values(observations), original.values(observations))
    assert loaded.card is not None
    assert loaded.card.scenario == "toy"
    assert loaded.card.actions == ("cheap", "strong", "stop")
    assert loaded.card.training == {"steps": 7}
    data = json.loads((folder / "policy.json").read_text())
    assert data["columns"][2] == {"name": "constant", "unit": "usd", "low": 0.0, "high": 1000.0}
    assert sorted(p.name for p in folder.iterdir()) == ["policy.json", "weights.npz"]
    again = save_policy(folder.parent / "again", loaded)
    assert load_policy(again).card == loaded.card


def test_a_policy_without_normaliser_stays_without(tmp_path: Path) -> None:
    save_policy(tmp_path, Policy(initial_weights(3, 3)), ToyLanes(1))
    assert load_policy(tmp_path).normaliser is None


def edit(key: str, value: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "policy.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))

    return change


def cut(name: str, keep: float) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(len(data) * keep)])

    return change


def replace_array(name: str, array: np.ndarray) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        with np.load(folder / "weights.npz") as archive:
            arrays = dict(archive)
        np.savez(folder / "weights.npz", **(arrays | {name: array}))  # type: ignore[arg-type]

    return change


def flip_a_bit(folder: Path) -> None:
    data = bytearray((folder / "weights.npz").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "weights.npz").write_bytes(data)


def objects(folder: Path) -> None:
    np.savez(folder / "weights.npz", x=np.array([{"a": 1}], dtype=object))


def foreign_zip(folder: Path) -> None:
    with zipfile.ZipFile(folder / "weights.npz", "w") as archive:
        archive.writestr("notes.txt", "no array")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: (f / "policy.json").unlink(), r"policy\.json: no such file"),
        (lambda f: (f / "weights.npz").unlink(), r"weights\.npz: no such file"),
        (shutil.rmtree, "no such file"),
        (cut("policy.json", 0.5), "cut off or altered"),
        (cut("policy.json", 0.0), "cut off or altered"),
        (cut("weights.npz", 0.5), "cut off or altered"),
        (cut("weights.npz", 0.999), "cut off or altered"),
        (cut("weights.npz", 0.0), "cut off or altered"),
        (flip_a_bit, "weights.npz"),
        (objects, "weights.npz"),
        (foreign_zip, "weights.npz"),
        (replace_array("policy.0.weight", np.zeros((3, 64), dtype=np.float32)), "digest"),
        (replace_array("policy.0.weight", np.zeros((4, 64), dtype=np.float32)), "digest"),
        (replace_array("extra", np.zeros(1)), "float32"),
        (edit("format", 2), "reads up to format 1: upgrade"),
        (edit("format", "new"), "format is 'new'"),
        (edit("columns", None), "columns must be a list"),
        (edit("columns", [{"name": "chance"}]), "unit"),
        (edit("actions", ["cheap", "strong"]), "made for 3 columns and 3 actions"),
        (edit("normaliser", {"clop": 1}), "clip"),
        (lambda f: (f / "policy.json").write_text("[1]"), "expected a JSON object"),
    ],
)
def test_damage_is_a_typed_error_that_names_the_file(folder: Path, damage: Callable[[Path], None], words: str) -> None:
    load_policy(folder)
    damage(folder)
    with pytest.raises(ArtefactError, match=words):
        load_policy(folder)


def test_a_wrong_shape_under_a_right_digest_is_refused(folder: Path) -> None:
    from brownout.trainers.artefact import digest

    replace_array("policy.0.weight", np.zeros((3, 63), dtype=np.float32))(folder)
    with np.load(folder / "weights.npz") as archive:
        edit("digest", digest(dict(archive)))(folder)
    with pytest.raises(ArtefactError, match=r"policy.0.weight: shape \(3, 63\), expected \(3, 64\)"):
        load_policy(folder)


class Renamed(ToyLanes):
    observation_columns = (ToyColumn("chance"), ToyColumn("attempts"), ToyColumn("constant", "usd", 0, 1000))


class Reordered(ToyLanes):
    observation_columns = (ToyColumn("tries"), ToyColumn("chance"), ToyColumn("constant", "usd", 0, 1000))


class Rescaled(ToyLanes):
    observation_columns = (ToyColumn("chance"), ToyColumn("tries"), ToyColumn("constant", "eur", 0, 1000))


class MoreActions(ToyLanes):
    action_names = ("cheap", "strong", "stop", "wait")


@pytest.mark.parametrize(
    ("env", "words"),
    [
        (Renamed, "observation column 'tries' is missing; observation column 'attempts' is new"),
        (Reordered, "'chance' is at place 1, the policy expects place 0"),
        (Rescaled, "'constant' is in 'eur', the policy expects 'usd'"),
        (MoreActions, "action 'wait' is new"),
    ],
)
def test_an_environment_that_differs_is_refused_by_name(folder: Path, env: type[ToyLanes], words: str) -> None:
    loaded = load_policy(folder)
    loaded.check(ToyLanes(5))
    with pytest.raises(ArtefactError, match=words):
        loaded.check(env(1))


def test_checking_and_saving_need_a_card(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="no card"):
        policy(3, 3).check(ToyLanes(1))
    with pytest.raises(ArtefactError, match="needs the environment"):
        save_policy(tmp_path, policy(3, 3))
    with pytest.raises(ArtefactError, match="3 observation columns, the policy 4"):
        save_policy(tmp_path, policy(4, 3), ToyLanes(1))


@pytest.mark.parametrize("normalised", [True, False])
def test_onnx_gives_the_same_logits_and_actions(folder: Path, tmp_path: Path, normalised: bool) -> None:
    runtime = pytest.importorskip("onnxruntime")
    original = load_policy(folder)
    if not normalised:
        original = Policy(original.weights, None, original.card)
    path = export_onnx(original, tmp_path / "policy.onnx")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    observations = rows(200, 3) * np.array([1, 5, 300], dtype=np.float32)
    mask = rows(200, 3, "mask") > 0
    mask[:, 1] = True
    logits, actions = session.run(None, {"observation": observations, "action_mask": mask})
    np.testing.assert_allclose(logits, original.logits(observations, mask), atol=1e-5, rtol=1e-5)
    np.testing.assert_array_equal(actions, original.act_batch(observations, mask))
    assert len(set(actions.tolist())) > 1
    properties = session.get_modelmeta().custom_metadata_map
    assert json.loads(properties["actions"]) == ["cheap", "strong", "stop"]
