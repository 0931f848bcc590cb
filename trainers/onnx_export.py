"""Write a policy as an ONNX model, for runtimes without Python or NumPy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ..extras import missing_extra
from .policy import MASKED, Policy


def export_onnx(policy: Policy, path: str | Path) -> Path:
    """Write the policy net, its normaliser and the mask as one ONNX graph.

    Inputs are ``observation`` (``(n, D)`` float32, raw) and ``action_mask`` (``(n, A)`` bool); outputs are
    ``logits`` (``(n, A)`` float32, -1e8 where masked) and ``action`` (``(n,)`` int64, the most likely one).
    Column and action names are kept in the model's metadata.

    Raises:
        MissingExtraError: the package ``onnx`` is not installed.
    """
    try:
        from onnx import TensorProto, checker, helper, numpy_helper, save
    except ImportError as error:
        raise missing_extra("train", error) from error

    arrays = {"masked": np.array(MASKED, dtype=np.float32)}
    nodes = []
    name = "observation"
    if policy.normaliser is not None:
        arrays |= {"mean": policy.normaliser.mean, "deviation": policy.normaliser.deviation}
        clip = np.array(policy.normaliser.clip, dtype=np.float32)
        arrays |= {"low": -clip, "high": clip}
        nodes += [
            helper.make_node("Sub", [name, "mean"], ["centred"]),
            helper.make_node("Div", ["centred", "deviation"], ["scaled"]),
            helper.make_node("Clip", ["scaled", "low", "high"], ["normalised"]),
        ]
        name = "normalised"
    for i in range(len(policy.hidden) + 1):
        weight, bias = f"policy.{i}.weight", f"policy.{i}.bias"
        arrays |= {weight: policy.weights[weight], bias: policy.weights[bias]}
        nodes.append(helper.make_node("Gemm", [name, weight, bias], [f"layer.{i}"]))
        name = f"layer.{i}"
        if i < len(policy.hidden):
            nodes.append(helper.make_node("Tanh", [name], [f"hidden.{i}"]))
            name = f"hidden.{i}"
    nodes += [
        helper.make_node("Where", ["action_mask", name, "masked"], ["logits"]),
        helper.make_node("ArgMax", ["logits"], ["action"], axis=1, keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "brownout-policy",
        [
            helper.make_tensor_value_info("observation", TensorProto.FLOAT, ["n", policy.columns]),
            helper.make_tensor_value_info("action_mask", TensorProto.BOOL, ["n", policy.actions]),
        ],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", policy.actions]),
            helper.make_tensor_value_info("action", TensorProto.INT64, ["n"]),
        ],
        [numpy_helper.from_array(array, key) for key, array in arrays.items()],
    )
    model = helper.make_model(graph, producer_name="brownout", opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8  # what runtimes of 2022 and later read
    if policy.card is not None:
        helper.set_model_props(
            model,
            {
                "scenario": policy.card.scenario,
                "observation_columns": json.dumps([column.name for column in policy.card.columns]),
                "actions": json.dumps(list(policy.card.actions)),
            },
        )
    checker.check_model(model)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    save(model, str(path))
    return path
